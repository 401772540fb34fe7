"""From a trace to tiles, and from tiles to pictures whose every element is checked."""

import matplotlib

matplotlib.use("Agg")

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from kernels.lab import Report, check, interpret, roofline, tiles
from kernels.lab import drawing as draw
from kernels.lab.tiles import steps, times_touched
from minift.course import figures


@triton.jit
def _add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(x + i, mask=i < n) + tl.load(y + i, mask=i < n)
    tl.store(out + i, total, mask=i < n)


@triton.jit
def _matmul(a, b, c, M, N, K, sa, sb, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    for k in range(0, K, BLOCK):
        kk = k + tl.arange(0, BLOCK)
        a_tile = a + i[:, None] * sa[0] + kk[None, :] * sa[1]
        x = tl.load(a_tile, mask=(i < M)[:, None] & (kk < K)[None, :], other=0.0)
        b_tile = b + kk[:, None] * sb[0] + j[None, :] * sb[1]
        y = tl.load(b_tile, mask=(kk < K)[:, None] & (j < N)[None, :], other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    tl.store(c + i[:, None] * N + j[None, :], acc, mask=(i < M)[:, None] & (j < N)[None, :])


@pytest.fixture(autouse=True)
def close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def added() -> tuple[Report, torch.Tensor]:
    x = torch.ones(100)
    with check(trace=True) as report:
        interpret(_add)[(4,)](x, x.clone(), torch.empty(100), 100, BLOCK=32)
    return report, x


@pytest.fixture(scope="module")
def multiplied() -> tuple[Report, dict[str, torch.Tensor]]:
    """a is transposed in memory: 40 x 20 with strides (1, 40)."""
    a, b, c = torch.randn(20, 40).T, torch.randn(20, 24), torch.empty(40, 24)
    with check(trace=True) as report:
        interpret(_matmul)[(3, 2)](a, b, c, 40, 24, 20, a.stride(), b.stride(), BLOCK=16)
    torch.testing.assert_close(c, a @ b)
    return report, {"a": a, "b": b, "c": c}


# ---- tiles


def test_a_vector_is_one_row(added: tuple[Report, torch.Tensor]) -> None:
    report, x = added
    found = tiles(report, "x", x.shape)
    assert [t.columns for t in found] == [(0, 32), (32, 64), (64, 96), (96, 100)]
    assert all(
        (t.rows, t.kind, t.order, t.step, t.writes) == ((0, 1), "load", 0, 0, False) for t in found
    )
    assert [t.program for t in found] == [(p, 0, 0) for p in range(4)]
    assert all(t.writes for t in tiles(report, "out", x.shape))
    assert sum(t.touched for t in found).tolist() == [[1] * 100]
    strided = tiles(report, "x", (50,), (2,))  # every second element
    assert [t.columns for t in strided] == [(0, 16), (16, 32), (32, 48), (48, 50)]


def test_tiles_of_a_matrix_product(
    multiplied: tuple[Report, dict[str, torch.Tensor]],
) -> None:
    report, tensors = multiplied
    a = tiles(report, "a", (40, 20), tensors["a"].stride())
    mine = [t for t in a if t.program == (2, 1, 0)]
    assert [(t.order, t.step, t.rows, t.columns) for t in mine] == [
        (0, 0, (32, 40), (0, 16)),
        (1, 1, (32, 40), (16, 20)),
    ]
    assert mine[1].touched[32:, 16:].all() and mine[1].touched.sum() == 8 * 4
    (stored,) = (t for t in tiles(report, "c", (40, 24)) if t.program == (2, 1, 0))
    assert (stored.kind, stored.step, stored.rows, stored.columns) == (
        "store",
        1,
        (32, 40),
        (16, 24),
    )
    assert (times_touched(a, (40, 20)) == 2).all()  # once for each column of programs
    assert (times_touched(a, (40, 20), kind="store") == 0).all()
    order = [
        (access.program, step) for access, step in zip(report.trace, steps(report), strict=True)
    ]
    assert order[:6] == [((0, 0, 0), s) for s in (0, 0, 1, 1, 1)] + [((1, 0, 0), 0)]


@triton.jit
def _second_head(x, T, D: tl.constexpr):
    i = tl.arange(0, 4)
    j = tl.arange(0, D)
    for head in range(2):
        tile = x + head * T * D + i[:, None] * D + j[None, :]
        tl.store(tile, tl.load(tile) + 1.0)


def test_one_head_of_a_larger_tensor() -> None:
    x = torch.zeros(2, 6, 8)
    with check(trace=True) as report:
        interpret(_second_head)[(1,)](x, 6, D=8)
    for offset in (0, 48):
        found = tiles(report, "x", (6, 8), (8, 1), offset)
        assert [(t.kind, t.rows, t.columns, t.order) for t in found] == [
            ("load", (0, 4), (0, 8), 0),
            ("store", (0, 4), (0, 8), 1),
        ]
    assert tiles(report, "x", (2, 8), (8, 1), 32) == []  # rows 4 and 5 of the first head


@triton.jit
def _odd(x, N: tl.constexpr):
    tl.store(x + 2 * tl.arange(0, N) + 1, 1.0)


def test_elements_between_those_of_a_strided_matrix_are_not_in_it() -> None:
    with check(trace=True) as report:
        interpret(_odd)[(1,)](torch.zeros(32), N=16)
    assert tiles(report, "x", (16,), (2,)) == tiles(report, "x", (4, 4), (8, 2)) == []
    (tile,) = tiles(report, "x", (4, 4), (8, 2), offset=1)
    assert tile.touched.all()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("z", (4,)), r"argument: no access to 'z'; known: x, y, out"),
        (("x", (2, 3, 4)), r"shape, strides: expected .* got \(2, 3, 4\) and None"),
        (("x", (4, 4), (4,)), r"shape, strides: expected .* got \(4, 4\) and \(4,\)"),
        (("x", (4, 4), (2, 1)), r"strides: elements of a matrix overlap with strides \(2, 1\)"),
    ],
)
def test_wrong_input(added: tuple[Report, torch.Tensor], arguments: tuple, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        tiles(added[0], *arguments)


def test_without_a_trace() -> None:
    with check() as report:
        pass
    with pytest.raises(ValueError, match=r"report: has no trace; use check\(trace=True\)"):
        tiles(report, "x", (4,))


# ---- pictures


def picture(ax: plt.Axes) -> np.ndarray:
    return np.asarray(ax.images[0].get_array())


def shade(colour: str) -> np.ndarray:
    return np.array(to_rgb(colour))


def texts(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def labels(fig: plt.Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def test_the_colours_are_those_of_the_course() -> None:
    assert draw.COLOURS == figures.COLOURS
    assert len({*draw._PROGRAMS, draw.SHARED, draw.UNTOUCHED}) == len(draw._PROGRAMS) + 2


def test_programs_of_a_vector(added: tuple[Report, torch.Tensor]) -> None:
    report, x = added
    fig = draw.draw_programs(report, {"x": x, "out": x})
    for ax, title in zip(fig.axes, ("x: read", "out: written"), strict=True):
        pixels = picture(ax)
        assert pixels.shape == (1, 100, 3) and ax.get_title() == title
        for p in range(4):
            assert (pixels[0, 32 * p : 32 * (p + 1)] == shade(draw._PROGRAMS[p])).all()
        assert texts(ax) == ["1"] * 4
    assert labels(fig) == [f"program {p}" for p in range(4)]
    assert {(ax.get_xlabel(), ax.get_ylabel()) for ax in fig.axes} == {("column", "row")}


def test_programs_of_a_matrix_product(
    multiplied: tuple[Report, dict[str, torch.Tensor]],
) -> None:
    report, tensors = multiplied
    fig = draw.draw_programs(report, tensors)
    a, b, c = fig.axes
    assert (picture(a) == shade(draw.SHARED)).all() and texts(a) == ["×2"] * 6
    assert (picture(b) == shade(draw.SHARED)).all() and texts(b) == ["×3"] * 4
    for p, (i, j) in enumerate((i, j) for j in range(2) for i in range(3)):
        block = picture(c)[16 * i : 16 * (i + 1), 16 * j : 16 * (j + 1)]
        assert (block == shade(draw._PROGRAMS[p])).all()
    assert labels(fig)[1] == "program (1, 0)" and labels(fig)[-1] == "several programs"
    some = draw.draw_programs(report, tensors, programs=[(0, 0), (2, 1)], kind="load")
    a, b, c = some.axes
    assert (picture(a)[16:32] == shade(draw.UNTOUCHED)).all() and c.get_title() == "c: not touched"
    assert texts(a) == ["1", "2", "1", "2"] and len(labels(some)) == 2


def test_many_programs_are_named_in_their_tiles() -> None:
    x = torch.ones(100)
    with check(trace=True) as report:
        interpret(_add)[(13,)](x, x.clone(), torch.empty(100), 100, BLOCK=8)
    fig = draw.draw_programs(report, {"out": x})
    assert texts(fig.axes[0]) == [str(p) for p in range(13)]
    assert labels(fig) == ["in a tile: its program"]


def test_steps_of_one_program(multiplied: tuple[Report, dict[str, torch.Tensor]]) -> None:
    report, tensors = multiplied
    fig = draw.draw_steps(report, tensors, program=(1, 0, 0))
    first, second = picture(fig.axes[0]), picture(fig.axes[1])
    assert (first[16:32, :16] == shade(draw.READ)).all()
    assert (first[16:32, 16:] == shade(draw.UNTOUCHED)).all()
    assert (second[16:32, 16:] == shade(draw.READ)).all()
    assert (second[16:32, :16] == shade(draw._pale(draw.READ))).all()
    assert (picture(fig.axes[5])[16:32, :16] == shade(draw.WRITTEN)).all()
    assert (picture(fig.axes[4]) == shade(draw.UNTOUCHED)).all()
    assert [ax.get_title() for ax in fig.axes[:2]] == ["step 1", "step 2 of 2"]
    assert labels(fig) == ["read", "written", "in an earlier step"]
    assert fig.axes[0].get_ylabel() == "a\n40 × 20"
    with pytest.raises(ValueError, match=r"program: no access to a, b, c by program \(9, 0, 0\)"):
        draw.draw_steps(report, tensors, program=(9, 0, 0))


@triton.jit
def _causal(q, k_ptr, out, T, BLOCK: tl.constexpr, D: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, D)
    x = tl.load(q + i[:, None] * D + d[None, :], mask=(i < T)[:, None], other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, tl.program_id(0) * BLOCK + BLOCK, BLOCK):
        j = start + tl.arange(0, BLOCK)
        y = tl.load(k_ptr + j[:, None] * D + d[None, :], mask=(j < T)[:, None], other=0.0)
        total += tl.sum(tl.dot(x, tl.trans(y)), 1)
    tl.store(out + i, total, mask=i < T)


def test_pairs_and_traffic_of_causal_attention() -> None:
    q, k = torch.ones(1, 1, 40, 16), torch.ones(1, 1, 40, 16)
    with check(trace=True) as report:
        interpret(_causal)[(3,)](q, k, torch.empty(40), 40, BLOCK=16, D=16)
    fig = draw.draw_pairs(report, {"q": q}, {"k_ptr": k})
    pixels = picture(fig.axes[0])
    assert pixels.shape == (40, 40, 3)
    for i in range(3):
        rows = pixels[16 * i : 16 * (i + 1)]
        assert (rows[:, : 16 * (i + 1)] == shade(draw._PROGRAMS[i])).all()
        assert (rows[:, 16 * (i + 1) :] == shade(draw.UNTOUCHED)).all()
    assert sorted(texts(fig.axes[0])) == ["1", "1", "1", "2", "2", "3"]
    assert fig.axes[0].get_xlabel() == "rows of k"
    traffic = draw.draw_traffic(report, {"q": q, "k_ptr": k})
    counts = picture(traffic.axes[1])
    assert counts[:, 0].tolist() == [3] * 16 + [2] * 16 + [1] * 8
    assert [ax.get_title() for ax in traffic.axes[:2]] == ["q: 1 load", "k: 1 to 3 loads"]


def test_a_long_run_shows_its_first_steps_and_the_last(
    added: tuple[Report, torch.Tensor],
) -> None:
    with check(trace=True) as report:
        interpret(_second_head)[(1,)](torch.zeros(2, 6, 8), 6, D=8)
        interpret(_second_head)[(1,)](torch.zeros(2, 6, 8), 6, D=8)
    fig = draw.draw_steps(report, {"x": draw.Matrix((12, 8), (8, 1))}, most=3)
    assert [ax.get_title() for ax in fig.axes] == ["step 1", "step 2", "step 4 of 4"]


def test_points_of_a_roofline_lie_on_their_roof() -> None:
    step = roofline(28 * 10**8, 15 * 10**8, arch="sm_90", dtype="fp32", name="AdamW")
    long = roofline(4 * 10**6, 4 * 10**9, arch="sm_90", name="attention")
    ax = draw.draw_roofline([step, long])
    roofs = {line.get_label(): line for line in ax.lines if line.get_linestyle() == "-"}
    points = [line.get_xydata()[0] for line in ax.lines if line.get_linestyle() == "None"]
    assert set(roofs) == {"H100, fp32", "H100, fp16"} and len(points) == 2
    for (x, y), roof, label in zip(points, (step, long), roofs, strict=True):
        assert (x, y) == (roof.intensity, roof.attainable / 1e12)
        xs, ys = roofs[label].get_data()
        assert np.isclose(np.exp(np.interp(np.log(x), np.log(xs), np.log(ys))), y, rtol=0.01)
    assert [text.get_text() for text in ax.texts] == ["AdamW", "attention"]
    assert "bound" in ax.get_ylabel() and ax.get_xscale() == ax.get_yscale() == "log"

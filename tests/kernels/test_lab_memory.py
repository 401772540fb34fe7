"""check(): every lane inside its tensor, every race found, every byte counted."""

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import OutOfBoundsError, RaceError, check, interpret


@triton.jit
def _add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    a = tl.load(x + i, mask=inside)
    b = tl.load(y + i, mask=inside)
    tl.store(out + i, a + b, mask=inside)


def vectors(n: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(n, generator=generator).to(dtype) for _ in range(3)]


# ---- traffic


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("n", [1, 31, 32, 100])
def test_vector_add_moves_three_elements_each(n: int, dtype: torch.dtype) -> None:
    x, y, out = vectors(n, dtype)
    with check() as report:
        interpret(_add)[(triton.cdiv(n, 32),)](x, y, out, n, BLOCK=32)
    assert torch.equal(out, x + y)
    assert (report.loaded, report.stored) == (2 * n * dtype.itemsize, n * dtype.itemsize)
    assert {name: (t.loaded, t.stored) for name, t in report.traffic.items()} == {
        "x": (n * dtype.itemsize, 0),
        "y": (n * dtype.itemsize, 0),
        "out": (0, n * dtype.itemsize),
    }
    assert report.ok and report.programs == triton.cdiv(n, 32) and report.kernels == ["_add"]


@triton.jit
def _product(a, b, out, K, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for k in range(0, K, BLOCK):
        x = tl.load(a + i[:, None] * K + k + i[None, :])
        y = tl.load(b + (k + i[:, None]) * BLOCK + i[None, :])
        acc = tl.dot(x, y, acc)
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)


def test_dot_flops_are_2mnk() -> None:
    a, b = torch.ones(16, 64, dtype=torch.float16), torch.ones(64, 16, dtype=torch.float16)
    with check() as report:
        interpret(_product)[(1,)](a, b, torch.empty(16, 16), 64, BLOCK=16)
    assert report.dot_flops == 2 * 16 * 16 * 64


def test_a_report_reads_well_and_gathers_launches() -> None:
    x, y, out = vectors(64)
    with check() as report:
        for _ in range(2):
            interpret(_add)[(2,)](x, y, out, 64, BLOCK=32)
    text = report.report()
    assert text.startswith("_add: 2 launches, 4 programs")
    assert "0 out of bounds; 0 races" in text and len(text.splitlines()) == 5
    assert len(repr(report)) < 100


def test_nothing_is_recorded_outside_and_reports_nest() -> None:
    x, y, out = vectors(32)
    with check() as outer:
        with check() as inner:
            interpret(_add)[(1,)](x, y, out, 32, BLOCK=32)
        interpret(_add)[(1,)](x, y, out, 32, BLOCK=32)
    interpret(_add)[(1,)](x, y, out, 32, BLOCK=32)
    assert inner.programs == outer.programs == 1


def test_the_trace_names_programs_and_elements() -> None:
    x, y, out = vectors(40)
    with check(trace=True) as report:
        interpret(_add)[(2,)](x, y, out, 40, BLOCK=32)
    assert [(a.program, a.kind, a.argument) for a in report.trace] == [
        ((p, 0, 0), kind, name)
        for p in range(2)
        for kind, name in (("load", "x"), ("load", "y"), ("store", "out"))
    ]
    assert report.trace[3].elements.tolist() == list(range(32, 40))


@triton.jit
def _order(out):
    at = tl.program_id(0) + 2 * tl.program_id(1) + 4 * tl.program_id(2)
    tl.store(out + at, at)


def test_programs_run_x_fastest() -> None:
    out = torch.zeros(8, dtype=torch.int32)
    with check(trace=True) as report:
        interpret(_order)[(2, 2, 2)](out)
    assert [a.program for a in report.trace][:3] == [(0, 0, 0), (1, 0, 0), (0, 1, 0)]
    assert out.tolist() == list(range(8))


# ---- bounds


@triton.jit
def _shift(x, out, offset, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i + offset, mask=i < n), mask=i < n)


@pytest.mark.parametrize(
    ("offset", "program", "place"),
    [
        (1, 3, "1 of 4 lanes, the farthest 1 past the end"),
        (7, 2, "3 of 32 lanes, the farthest 3 past the end"),
        (-3, 0, "3 of 32 lanes, the farthest 3 before the start"),
        (2**30, 0, f"32 of 32 lanes, the farthest {2**30 - 100 + 32} past the end"),
    ],
)
def test_a_load_outside_is_refused_and_described(offset: int, program: int, place: str) -> None:
    x, out, _ = vectors(100)
    with pytest.raises(OutOfBoundsError) as caught:
        interpret(_shift)[(4,)](x, out, offset, 100, BLOCK=32)
    assert str(caught.value) == (
        f"kernel _shift: load by program ({program}, 0, 0) out of bounds: {place} of argument 'x' "
        "(100 elements); mask the lanes that have no element"
    )


def test_a_store_outside_is_refused_before_anything_is_written() -> None:
    storage = torch.zeros(64)
    x, y, out = torch.ones(32), torch.ones(32), storage[:31]
    with pytest.raises(
        OutOfBoundsError, match=r"store by program \(0, 0, 0\).*'out' \(31 elements\)"
    ):
        interpret(_add)[(1,)](x, y, out, 32, BLOCK=32)
    assert (storage == 0).all()


def test_memory_of_another_argument_is_outside() -> None:
    """x and y share one allocation: reading past x lands in y, where values exist."""
    both = torch.arange(64.0)
    with pytest.raises(OutOfBoundsError, match="'x'"):
        interpret(_shift)[(1,)](both[:32], both[32:], 1, 32, BLOCK=32)


@triton.jit
def _transposed(x, out, stride, M: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, M)
    j = tl.arange(0, N)
    tile = tl.trans(tl.load(x + (i[:, None] * stride + j[None, :])))
    tl.store(out + j[:, None] * M + i[None, :], tile)


def test_the_origin_of_a_pointer_survives_broadcasting() -> None:
    storage = torch.arange(200.0)
    x = storage[:120].view(8, 15)[:, :8]
    out = torch.empty(8, 8)
    interpret(_transposed)[(1,)](x, out, 15, M=8, N=8)
    assert torch.equal(out, x.T)
    with pytest.raises(OutOfBoundsError, match="'x'"):
        interpret(_transposed)[(1,)](x, out, 16, M=8, N=8)


@triton.jit
def _column_then_row(x, out, stride, N: tl.constexpr):
    i = tl.arange(0, N)
    column = x + i[:, None] * stride  # (N, 1), then broadcast to (N, N)
    tl.store(out + i[:, None] * N + i[None, :], tl.load(column + i[None, :]))


def test_the_origin_survives_a_column_of_pointers() -> None:
    """With the wrong stride the load leaves x, and lands in out."""
    both = torch.arange(128.0)
    x, out = both[:64], both[64:]
    interpret(_column_then_row)[(1,)](x, out, 8, N=8)
    assert torch.equal(x, out)
    with pytest.raises(OutOfBoundsError, match="'x'"):
        interpret(_column_then_row)[(1,)](x, out, 9, N=8)


def test_bounds_are_checked_without_check() -> None:
    x, y, out = vectors(10)
    with pytest.raises(OutOfBoundsError):
        interpret(_add)[(1,)](x, y, out, 11, BLOCK=16)
    with pytest.raises(OutOfBoundsError, match=r"\(0 elements\)"):
        interpret(_add)[(1,)](torch.empty(0), y, out, 1, BLOCK=16)


def test_findings_are_listed_when_not_strict() -> None:
    storage = torch.zeros(64)
    x, y, out = torch.ones(40), torch.ones(40), storage[:32]
    with check(strict=False) as report:
        interpret(_add)[(2,)](x, y, out, 40, BLOCK=32)
    assert (storage[:32] == 2).all() and (storage[32:] == 0).all()
    assert len(report.out_of_bounds) == 1 and not report.ok
    assert "8 of 8 lanes, the farthest 8 past the end of argument 'out'" in report.out_of_bounds[0]
    assert report.out_of_bounds[0] in report.report()
    assert report.stored == 32 * 4


# ---- addresses in a table


@triton.jit
def _through_a_table(table, n, BLOCK: tl.constexpr):
    x = tl.load(table + tl.program_id(0)).to(tl.pointer_type(tl.float32))
    i = tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i, mask=i < n) + 1, mask=i < n)


def test_tensors_behind_a_table() -> None:
    storage = torch.zeros(64)
    parts = [storage[:16], storage[16:40]]
    table = torch.tensor([part.data_ptr() for part in parts])
    launch = interpret(_through_a_table, memory={"part": parts})
    with check() as report:
        launch[(2,)](table, 16, BLOCK=32)
    assert (storage[:32] == 1).all() and (storage[32:] == 0).all()
    assert report.traffic["part"].loaded == 128 and report.traffic["table"].loaded == 16
    with pytest.raises(
        OutOfBoundsError, match=r"4 past the end of argument 'part' \(16 elements\)"
    ):
        launch[(2,)](table, 20, BLOCK=32)
    with pytest.raises(OutOfBoundsError):
        interpret(_through_a_table)[(2,)](table, 16, BLOCK=32)


# ---- races


@triton.jit
def _write(out, offset, STEP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0) * STEP + tl.arange(0, BLOCK)
    tl.store(out + i + offset, i * 1.0)


@triton.jit
def _neighbour(x, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x + i - 1, mask=i > 0, other=0.0)
    tl.store(x + i, left)


@triton.jit
def _right_neighbour(x, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x + i, tl.load(x + i + 1, mask=i + 1 < n, other=0.0))


def test_writing_what_another_program_has_read_races() -> None:
    """In this order the values come out right; on a GPU the order is open."""
    match = r"element 16 of 'x', written by.*was read by program \(0, 0, 0\)"
    with pytest.raises(RaceError, match=match), check():
        interpret(_right_neighbour)[(2,)](torch.zeros(32), 32, BLOCK=16)


@triton.jit
def _histogram(x, out, BLOCK: tl.constexpr, ATOMIC: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    bucket = tl.load(x + i)
    if ATOMIC:
        tl.atomic_add(out + bucket, 1.0)
    else:
        tl.store(out + bucket, i * 1.0)


def test_programs_that_overlap_race() -> None:
    out = torch.zeros(64)
    with check() as report:
        interpret(_write)[(4,)](out, 0, STEP=16, BLOCK=16)
    assert report.ok
    with (
        pytest.raises(RaceError, match="element 15 of 'out', written by this program, was written"),
        check(),
    ):
        interpret(_write)[(4,)](out, 0, STEP=15, BLOCK=16)
    with check(strict=False) as report:
        interpret(_write)[(4,)](out, 0, STEP=15, BLOCK=16)
    assert len(report.races) == 3 and "program (1, 0, 0)" in report.races[0]


def test_reading_what_another_program_writes_races() -> None:
    with (
        pytest.raises(
            RaceError, match=r"element 15 of 'x', read by.*written by program \(0, 0, 0\)"
        ),
        check(),
    ):
        interpret(_neighbour)[(2,)](torch.zeros(32), BLOCK=16)


def test_a_race_is_found_through_two_views_of_one_storage() -> None:
    storage = torch.zeros(80)

    @triton.jit
    def two_views(a, b, BLOCK: tl.constexpr):
        i = tl.arange(0, BLOCK)
        if tl.program_id(0) == 0:
            tl.store(a + i, 1.0)
        else:
            tl.store(b + i, 2.0)

    with check() as report:
        interpret(two_views)[(2,)](storage[:32], storage[32:], BLOCK=32)
    assert report.ok
    with pytest.raises(RaceError, match="element 0 of 'b'"), check():
        interpret(two_views)[(2,)](storage[:32], storage[31:], BLOCK=32)


def test_atomics_do_not_race_and_are_counted_both_ways() -> None:
    x = torch.randint(0, 4, (64,), generator=torch.Generator().manual_seed(0))
    out = torch.zeros(4)
    with check() as report:
        interpret(_histogram)[(4,)](x, out, BLOCK=16, ATOMIC=True)
    assert torch.equal(out, x.bincount(minlength=4).float())
    assert report.ok and report.traffic["out"].loaded == report.traffic["out"].stored == 256
    with pytest.raises(OutOfBoundsError, match="atomic"):
        interpret(_histogram)[(4,)](x, out[:3], BLOCK=16, ATOMIC=True)


def test_one_store_that_writes_an_element_twice() -> None:
    x = torch.zeros(16, dtype=torch.int64)
    with (
        pytest.raises(
            RaceError, match="element 0 of 'out' is written twice, with different values"
        ),
        check(),
    ):
        interpret(_histogram)[(1,)](x, torch.zeros(4), BLOCK=16, ATOMIC=False)


def test_a_notebook_shows_one_line() -> None:
    """IPython calls ``_render_traceback_`` where an exception has it."""
    for kind in (OutOfBoundsError, RaceError):
        (line,) = kind("kernel k: load by program (0, 0, 0) ...")._render_traceback_()
        assert line == f"{kind.__name__}: kernel k: load by program (0, 0, 0) ..."
    x, out, _ = vectors(100)
    with pytest.raises(OutOfBoundsError) as caught:
        interpret(_shift)[(4,)](x, out, 1, 100, BLOCK=32)
    assert caught.value._render_traceback_() == [f"OutOfBoundsError: {caught.value}"]

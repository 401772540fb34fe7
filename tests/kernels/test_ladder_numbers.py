"""Every version of the ladder: numbers, bounds, races and the bytes that its reason speaks of."""

import math
import re
from pathlib import Path

import pytest
import torch

import minift
from kernels.lab import check
from kernels.ladder import OPERATIONS, adamw, attention, matmul, rungs, softmax, vector_add
from kernels.verification.ladder import LadderCase, cases, check_ladder

VERSIONS = [(op, rung.version) for op in OPERATIONS for rung in rungs(op)]


@pytest.mark.parametrize(("operation", "version"), VERSIONS)
def test_numbers_and_traffic(operation: str, version: str) -> None:
    """Within the bounds, nothing out of bounds or raced for, and exactly the bytes expected."""
    mine = [case for case in cases(operation) if case.version == version]
    assert len(mine) >= 2
    for case in mine:
        outcome = check_ladder(case)
        assert outcome.ratio <= 1, f"{case}: {outcome.ratio:.2f} of the bound"
        assert outcome.bytes_moved == outcome.bytes_needed, str(case)


def test_the_ladder_is_a_list_of_reasons() -> None:
    for operation in OPERATIONS:
        found = rungs(operation)
        assert [rung.version for rung in found] == [f"v{i}" for i in range(1, len(found) + 1)]
        for rung in found:
            assert 0 < len(rung.reason) <= 88 and "\n" not in rung.reason
            assert rung.function.__name__ == rung.version and rung.function.__doc__
    with pytest.raises(ValueError, match="operation: unknown 'relu'; known: vector_add, softmax"):
        rungs("relu")


def test_minift_does_not_use_the_ladder() -> None:
    """The ladder is for reading: models take the kernels that are meant for use."""
    imports = re.compile(r"^\s*(from|import)\s+kernels\.ladder", re.MULTILINE)
    files = list(Path(minift.__file__).parent.rglob("*.py"))
    assert len(files) > 50 and imports.search("from kernels.ladder import softmax")
    assert not [f.name for f in files if imports.search(f.read_text(encoding="utf-8"))]


# ---- what the reasons say


def moved(function, *args, **kwargs) -> int:
    with check() as report:
        function(*args, **kwargs)
    return report.loaded + report.stored


def test_softmax_passes() -> None:
    """v1 moves the row four times, v2 three times, v3 twice: once in, once out."""
    x = torch.randn(3, 500)
    counts = [moved(f, x) / x.nbytes for f in (softmax.v1, softmax.v2, softmax.v3)]
    assert counts == [4, 3, 2]


def test_tiles_use_what_they_load() -> None:
    """A tile of 16 × 16 outputs loads a sixteenth of what the outputs load one by one."""
    a, b = torch.randn(32, 64), torch.randn(64, 48)
    outputs = 32 * 48 * 4
    one = moved(matmul.v1, a, b) - outputs
    assert one == 16 * (moved(matmul.v3, a, b, tile=(16, 16, 32, 1)) - outputs)


def test_16_bit_sums_get_worse_with_the_length_and_fp32_sums_do_not() -> None:
    """All products are positive, so that no error is hidden by a small sum."""
    errors = {}
    for k in (64, 1024):
        a, b = torch.rand(16, k).bfloat16(), torch.rand(k, 16).bfloat16()
        exact = a.double() @ b.double()
        for f in (matmul.v2, matmul.v3):
            out = f(a, b, tile=(16, 16, 16, 1)).double()
            errors[f.__name__, k] = float(((out - exact) / exact).abs().max())
    half_a_place = torch.finfo(torch.bfloat16).eps / 2
    assert errors["v3", 64] <= half_a_place and errors["v3", 1024] <= half_a_place
    assert errors["v2", 1024] > 2 * errors["v2", 64] and errors["v2", 1024] > 5 * half_a_place


def first_programs(function, count: int, **options) -> int:
    """How many elements of a and b the first so many programs load, each counted once."""
    a, b = torch.zeros(128, 32), torch.zeros(32, 128)
    with check(trace=True) as report:
        function(a, b, tile=(16, 16, 32, 1), **options)
    touched = set()
    for access in report.trace:
        if access.program[0] < count and access.kind == "load":
            touched |= {(access.argument, int(i)) for i in access.elements}
    return len(touched)


def test_programs_of_a_group_share_what_they_load() -> None:
    """16 programs in a row: 2 rows of tiles and all 8 columns, or 4 and 4."""
    tile = 16 * 32
    assert first_programs(matmul.v4, 16) == (2 + 8) * tile
    assert first_programs(matmul.v5, 16, group=4) == (4 + 4) * tile


def test_an_epilogue_saves_two_passes_over_the_outputs() -> None:
    a, b, bias = torch.randn(32, 32), torch.randn(32, 32), torch.randn(32)
    tile = (16, 16, 32, 1)
    fused = moved(matmul.v6, a, b, bias, activation="silu", tile=tile)
    assert fused - moved(matmul.v5, a, b, tile=tile) == 2 * 32 * 4  # the bias, for two tiles down
    exact = torch.nn.functional.silu(a.double() @ b.double() + bias.double())
    out = matmul.v6(a, b, bias, activation="silu", tile=tile)
    assert (out - exact).abs().max() < 1e-5


def test_only_v1_of_attention_moves_the_scores() -> None:
    """16 bytes a score: written, read and written by the softmax, read; q twice for two tiles."""
    q, k, v = (torch.randn(1, 1, n, 16) for n in (32, 32, 32))
    naive = moved(attention.v1, q, k, v, tile=(32, 16))
    assert naive - moved(attention.v3, q, k, v, tile=(32, 16)) == 16 * 32 * 32 + q.nbytes


def test_causal_attention_leaves_out_the_tiles_that_nobody_sees() -> None:
    """Of 4 × 4 tiles ten lie on or below the diagonal; two products of 2·16·16·32 FLOPs each."""
    q = torch.randn(1, 1, 64, 32)
    with check() as report:
        attention.v5(q, q, q, causal=True, tile=(16, 16))
    assert report.dot_flops == 10 * 2 * (2 * 16 * 16 * 32)
    with check() as report:
        attention.v4(q, q, q, tile=(16, 16))
    assert report.dot_flops == 16 * 2 * (2 * 16 * 16 * 32)


def test_launches_of_adamw() -> None:
    """Three tensors: five launches each, one each, one for all."""
    for version, launches in {"v1": 15, "v2": 3, "v3": 3, "v4": 1, "v5": 1}.items():
        case = LadderCase("adamw", version, (5, 33, 100))
        report = check_ladder(case).report
        assert len(report.kernels) == 3 * launches, version  # a case has three steps


def test_one_minus_beta_in_fp32() -> None:
    """v2 forms 1 − 0.999 in fp32, and the fifth digit of exp_avg_sq is wrong; v3 has all seven."""
    g = torch.randn(1000)
    exact = (1 - 0.999) * g.double() ** 2
    worst = {}
    for f in (adamw.v2, adamw.v3):
        p, m, v = torch.zeros(3, 1000)
        hyper = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        f([p], [g], [m], [v], step=1, **hyper)
        worst[f.__name__] = float(((v.double() - exact).abs() / exact).max())
    assert worst["v2"] > 1e-5 and worst["v3"] < 3e-7, worst


# ---- edges


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4", "v5"])
def test_softmax_of_infinities_is_pytorchs(version: str) -> None:
    """-inf at the start of a row, in a whole block, in a whole row; NaN; numbers that overflow."""
    inf = math.inf
    x = torch.randn(6, 70)
    x[0, :40] = -inf  # more than the first block of 32
    x[1] = -inf
    x[2, 33] = inf
    x[3, 5] = torch.nan
    x[4] *= 1e30
    x[5, 32:] = -inf
    options = {"block": 32} if version in ("v1", "v2") else {}
    out = getattr(softmax, version)(x, **options)
    right = x.softmax(1)
    assert torch.equal(out.isnan(), right.isnan())
    assert torch.allclose(out, right, rtol=1e-5, atol=0, equal_nan=True)


BAD = {
    "x: expected float32, float16 or bfloat16, got torch.int64": lambda: vector_add.v2(
        torch.arange(3), torch.arange(3)
    ),
    "y: expected torch.float32 like the others, got torch.float16": lambda: vector_add.v1(
        torch.ones(3), torch.ones(3).half()
    ),
    "y: expected shape (3,), got (4,)": lambda: vector_add.v3(torch.ones(3), torch.ones(4)),
    "x: expected a contiguous tensor, got strides (2,)": lambda: vector_add.v4(
        torch.ones(6)[::2], torch.ones(3)
    ),
    "x: expected a tensor, got list": lambda: softmax.v1([[1.0]]),
    "x: expected 2 dimensions, got shape (3,)": lambda: softmax.v3(torch.ones(3)),
    "x: expected columns next to each other, got strides (1, 3)": lambda: softmax.v5(
        torch.ones(4, 3).T
    ),
    "x: expected at most 65536 columns, got 65537; use v2": lambda: softmax.v4(
        torch.ones(1, 65537)
    ),
    "b: expected shape (3, 5), got (4, 5)": lambda: matmul.v2(torch.ones(2, 3), torch.ones(4, 5)),
    "a: expected at least one element, got shape (0, 3)": lambda: matmul.v4(
        torch.ones(0, 3), torch.ones(3, 5)
    ),
    "activation: expected one of ('none', 'relu', 'silu'), got 'gelu'": lambda: matmul.v6(
        torch.ones(2, 3), torch.ones(3, 5), activation="gelu"
    ),
    "bias: expected shape (5,), got (3,)": lambda: matmul.v6(
        torch.ones(2, 3), torch.ones(3, 5), torch.ones(3)
    ),
    "q: expected a head dim of 16, 32, 64 or 128, got 24": lambda: attention.v3(
        *(torch.ones(1, 1, 4, 24) for _ in range(3))
    ),
    "k: expected at most 64 keys of torch.float32, got 65; use v3": lambda: attention.v2(
        *(torch.ones(1, 1, 65, 16) for _ in range(3))
    ),
    "k: expected shape (1, 2, 4, 16), got (1, 1, 4, 16)": lambda: attention.v4(
        torch.ones(1, 2, 4, 16), *(torch.ones(1, 1, 4, 16) for _ in range(2))
    ),
    "k: expected at least 5 keys, got 4": lambda: attention.v5(
        torch.ones(1, 1, 5, 16), *(torch.ones(1, 1, 4, 16) for _ in range(2)), causal=True
    ),
    "grads: expected 1 tensors, got 0": lambda: adamw.v1(
        [torch.ones(3)], [], [], [], step=1, lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0
    ),
    "params[0]: expected float32 on cpu, got torch.float16 on cpu": lambda: adamw.v4(
        *([torch.ones(3).half()] for _ in range(4)),
        step=1, lr=0.1, betas=(0.9, 0.99), eps=0.0, weight_decay=0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message: str) -> None:
    with check() as report, pytest.raises((TypeError, ValueError), match=re.escape(message)):
        BAD[message]()
    assert not report.kernels  # before any launch

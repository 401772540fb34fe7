"""The kernel of AdamW, step by step: every way of storing, traffic, big offsets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kernels import reference
from kernels.adamw import BLOCK, Row, _adamw, step_constants, update
from kernels.adamw.table import pieces, table
from kernels.lab import check, interpret
from kernels.verification.adamw import (
    AdamWCase,
    cases,
    check_adamw,
)

OPTIONS = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.4, 0.95), (0.0, 0.9)])
@pytest.mark.parametrize(("lr", "weight_decay", "eps"), [(1e-3, 0.0, 1e-8), (1e-1, 0.1, 1e-6)])
def test_each_step_against_pytorch(
    seed: int, betas: tuple[float, float], lr: float, weight_decay: float, eps: float
) -> None:
    outcome = check_adamw(
        AdamWCase(lr=lr, weight_decay=weight_decay, eps=eps, betas=betas, seed=seed)
    )
    assert outcome.passed, outcome


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_verify_runs(dtype: torch.dtype) -> None:
    for case in cases(dtype, quick=False):
        outcome = check_adamw(case)
        assert outcome.passed, case


@pytest.mark.parametrize("seed", range(10, 12))
@pytest.mark.parametrize("aligned", [True, False])
def test_a_mixture_in_one_launch(seed: int, aligned: bool) -> None:
    """Every kind of tensor beside every other, next to each other in one table."""
    case = AdamWCase(
        lengths=(1, 63, 64, 65, 130, 200, 31, 33),
        weights=("fp32", "bf16", "fp16", "bf16-stochastic"),
        eight_bit=(False, False, False, False, True, True, True, True),
        block=64,
        steps=2,
        seed=seed,
        aligned=aligned,
    )
    outcome = check_adamw(case)
    assert outcome.passed and outcome.report.kernels == ["_adamw"] * 2


def test_against_fp64() -> None:
    """A check that does not rest on PyTorch's roundings: within 4 half-ulp (measured: 1.9)."""
    generator = torch.Generator().manual_seed(0)
    p, g = torch.randn(2000, generator=generator), torch.randn(2000, generator=generator)
    m, v = 0.1 * torch.randn(2000, generator=generator), torch.rand(2000, generator=generator)
    exact = reference.adamw_step(*(t.double() for t in (p, g, m, v)), step=3, **OPTIONS)
    update([Row(p, g, m, v, step_constants(3, **OPTIONS))])
    for got, want in zip((p, m, v), exact, strict=True):
        size = want.abs() + 0.1 * g.abs()
        assert ((got - want).abs() <= 4 * torch.finfo(torch.float32).eps / 2 * size).all()


@pytest.mark.parametrize("n", [1, 3, 1023, 1024, 1025, 4096])
def test_exactly_28_bytes_a_parameter(n: int) -> None:
    p, g, m, v = (torch.zeros(n) for _ in range(4))
    with check() as report:
        update([Row(p, g, m, v, step_constants(1, **OPTIONS))])
    moved = {name: (t.loaded, t.stored) for name, t in report.traffic.items()}
    assert moved.pop("param") == moved.pop("exp_avg") == moved.pop("exp_avg_sq") == (4 * n, 4 * n)
    assert moved.pop("grad") == (4 * n, 0)
    programs, masked = -(-n // BLOCK), int(n % BLOCK > 0)  # a mask needs the length too
    assert moved == {
        "pieces": (8 * programs, 0),
        "table": (48 * programs + 8 * masked, 0),
        "constants": (32 * programs, 0),
    }


@pytest.mark.parametrize(
    ("weight", "eight_bit", "bytes_a_parameter"),
    [
        ("fp32", False, 28), ("bf16", False, 28), ("fp16", False, 28),
        ("bf16-stochastic", False, 22), ("fp32", True, 16.0625), ("bf16", True, 16.0625),
        ("bf16-stochastic", True, 10.0625),
    ],
)  # fmt: skip
def test_bytes_a_parameter(weight: str, eight_bit: bool, bytes_a_parameter: float) -> None:
    n = 4 * BLOCK
    case = AdamWCase((n,), (weight,), (eight_bit,), steps=1, block=None, quant=256)
    outcome = check_adamw(case)
    assert outcome.passed and outcome.bytes_moved == bytes_a_parameter * n


def test_a_tensor_of_more_than_two_to_the_31_elements(tmp_path: Path) -> None:
    """Its last piece, in sparse files of 8 GiB each: an int32 offset would wrap."""
    n = 2**31 + BLOCK + 5
    files = [tmp_path / name for name in "pgmv"]
    big = []
    for file in files:
        with file.open("wb") as f:
            f.truncate(4 * n)
        big.append(torch.from_file(str(file), shared=True, size=n))
    small = [torch.randn(BLOCK + 5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    small[3].abs_()
    for b, s in zip(big, small, strict=True):
        b[-len(s) :] = s
    constants = step_constants(1, **OPTIONS)
    row = Row(*big, constants)
    interpret(_adamw, memory={name: [getattr(row, name)] for name in Row._fields[:4]})[(2,)](
        torch.from_numpy(table([row])),
        torch.tensor([[*constants, 1.0, 1.0]]),
        torch.tensor([[0, 2**21], [0, 2**21 + 1]], dtype=torch.int32),
        None,
        None,
        KINDS=1,
        BLOCK=BLOCK,
        QUANT=256,
    )
    assert all(torch.equal(b[: BLOCK // 2], torch.zeros(BLOCK // 2)) for b in big)
    update([Row(*small, constants)])
    assert all(torch.equal(b[-len(s) :], s) for b, s in zip(big, small, strict=True))
    del big, row
    for file in files:
        file.unlink()


def test_pieces_cover_every_tensor_once() -> None:
    found = pieces([1, 0, 1024, 1025, 3000], 1024)
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 0], [2, 0], [3, 0], [3, 1], [4, 0], [4, 1], [4, 2]]


def test_nothing_to_update() -> None:
    with check() as report:
        update([])
        update([Row(*(torch.zeros(0) for _ in range(4)), step_constants(1, **OPTIONS))])
    assert report.kernels == []


def test_the_case_itself_is_checked() -> None:
    """A kernel that does nothing does not pass."""
    from types import SimpleNamespace

    import kernels.adamw as real

    class Idle(real.table.Batch):
        def step(self) -> None:
            pass

    idle = SimpleNamespace(
        constants=real.constants,
        table=SimpleNamespace(Batch=Idle, Row=Row, FIELDS=real.table.FIELDS),
    )
    for weights in (("fp32",), ("bf16",), ("bf16-stochastic",)):
        assert check_adamw(replace(AdamWCase(), weights=weights), idle).ratio > 1

"""The same model under kernels.AdamW and under torch.optim.AdamW, for the tests of the former."""

import math
from itertools import product
from types import ModuleType
from typing import Any

import torch

import kernels
import kernels.adamw
from kernels.verification.adamw_bounds import FUSES

SHAPES = [(1,), (1023,), (1024,), (1025,), (), (0,), (37, 5), (2, 3, 4)]


def parameters(
    shapes: list[tuple[int, ...]] = SHAPES, seed: int = 0, dtype: torch.dtype = torch.float32
) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes
    ]


def twins(shapes: list[tuple[int, ...]] = SHAPES, **options: Any):
    """The same parameters in this package's optimiser and in PyTorch's, in two groups."""
    mine, theirs = parameters(shapes), parameters(shapes)

    def groups(params: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": params[::2], "weight_decay": 0.1},
            {"params": params[1::2], "lr": 3e-3, "weight_decay": 0.0, "betas": (0.8, 0.95)},
        ]

    ours = kernels.AdamW(groups(mine), lr=1e-3, **options)
    return mine, theirs, ours, torch.optim.AdamW(groups(theirs), lr=1e-3, foreach=False, **options)


def set_gradients(mine: list, theirs: list, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p, q in zip(mine, theirs, strict=True):
        size = 10.0 ** torch.randint(-6, 2, p.shape, generator=generator)
        p.grad = (torch.randn(p.shape, generator=generator) * size).to(p.dtype)
        q.grad = p.grad.to(q.dtype).clone()


def assert_equal(mine: list, theirs: list, ours: Any, other: Any, steps: int) -> None:
    """m and v bit for bit (on CPUs that fuse); p within 2·eps of what it is and what it went.

    Measured over 20 steps: m and v equal in every bit, p in 98.5 % of the elements and within
    0.8·eps·(|p| + 20 lr) in the rest (PyTorch's square root is not rounded to nearest).
    """
    for p, q in zip(mine, theirs, strict=True):
        if p not in ours.state:
            assert q not in other.state
            continue
        a, b = ours.state[p], other.state[q]
        assert a["step"] == b["step"]
        eps = torch.finfo(torch.float32).eps
        for name in ("exp_avg", "exp_avg_sq"):
            if FUSES:
                assert torch.equal(a[name], b[name]), name
            torch.testing.assert_close(a[name], b[name], rtol=10 * steps * eps, atol=0)
        bound = 2 * eps * (q.detach().abs() + steps * 3e-3)
        assert ((a.get("master", p) - q).abs() <= bound).all()


def copy_values(source: list, target: list) -> None:
    with torch.no_grad():
        for a, b in zip(source, target, strict=True):
            b.copy_(a)


def snapshot(optimizer: Any) -> list[torch.Tensor]:
    """Copies of everything that a step may change."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    states = [t for p in params for t in optimizer.state.get(p, {}).values()]
    return [t.detach().clone() for t in [*params, *states]]


def same_bits(before: list[torch.Tensor], after: list[torch.Tensor]) -> bool:
    return len(before) == len(after) and all(map(torch.equal, before, after))


def rates_in_tensors_are_those_of_their_groups(package: ModuleType = kernels.adamw) -> bool:
    """Whether two groups of several parameters give the same bits with rates in tensors as with
    the same numbers (powers of 2, which fp32 holds exactly)."""
    results = []
    for kind in (float, torch.tensor):
        params = parameters([(3,), (5,), (4,), (6,), (2,)])
        groups = [
            {"params": params[:3], "lr": kind(2.0**-7)},
            {"params": params[3:], "lr": kind(2.0**-9)},
        ]
        optimizer = package.optimizer.AdamW(groups, capturable=True)
        set_gradients(params, params, 0)
        optimizer.step()
        results.append(snapshot(optimizer))
    return same_bits(*results)


def skips_what_it_finds_and_what_it_is_told(package: ModuleType = kernels.adamw) -> bool:
    """Whether a step is skipped when its gradients hold an inf, when ``found_inf`` says that
    somebody else has found one, and never without either."""
    for gradient, told in product((1.0, math.inf), (0.0, 1.0)):
        (p,) = parameters([(3,)])
        p.grad = torch.full_like(p, gradient)
        optimizer = package.optimizer.AdamW([p], skip_nonfinite=True)
        optimizer.found_inf = torch.tensor([told])
        before = p.detach().clone()
        optimizer.step()
        bad = gradient == math.inf or told != 0
        if torch.equal(p, before) != bad or int(optimizer.skipped) != bad:
            return False
    return True

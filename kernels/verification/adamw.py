"""AdamW: cases, the bounds of their errors, and the configuration that is shipped."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

import kernels.adamw
from kernels.adamw import BLOCK, _adamw
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.lab.memory import check
from kernels.verification.outcome import Outcome, Shipped, worst


@dataclass(frozen=True)
class AdamWCase:
    """Tensors and hyperparameters of one run of AdamW."""

    lengths: tuple[int, ...] = (1, 31, 32, 33, 100)
    steps: int = 3
    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    block: int | None = 32  # None for the shipped one
    aligned: bool = True  # whether addresses are divisible by 16
    seed: int = 0

    def options(self, tensor: int) -> dict[str, Any]:
        """Hyperparameters of one tensor: every other one has twice the rate and half the decay."""
        lr, decay = (1, 1) if tensor % 2 == 0 else (2, 0.5)
        return {
            "lr": self.lr * lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay * decay,
        }


Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # param, exp_avg, exp_avg_sq


def check_adamw(
    case: AdamWCase, module: ModuleType = kernels.adamw, *, strict: bool = True
) -> Outcome:
    """Every step against ``torch.optim.AdamW`` from the same state, by :func:`adamw_error`."""
    generator = torch.Generator().manual_seed(case.seed)
    twins = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in case.lengths]
    options = [case.options(i) for i in range(len(twins))]
    groups = [{"params": [p], **o} for p, o in zip(twins, options, strict=True)]
    theirs = torch.optim.AdamW(groups, foreach=False)
    new = [(p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in twins]
    ratio = 0.0
    with check(strict=strict) as report:
        for step in range(1, case.steps + 1):
            old, grads = new, [_gradient(n, generator) for n in case.lengths]
            mine = [tuple(_copy(t, case.aligned) for t in triple) for triple in old]
            rows = [
                module.Row(p, g, m, v, module.step_constants(step, **o))
                for (p, m, v), g, o in zip(mine, grads, options, strict=True)
            ]
            module.update(rows, block=case.block or module.BLOCK)
            new = _torch_step(theirs, twins, grads)
            for one in zip(mine, new, old, grads, options, strict=True):
                ratio = max(ratio, adamw_error(*one))
    moved = [t for name, t in report.traffic.items() if name in module.FIELDS]
    return Outcome(
        ratio,
        report,
        sum(t.loaded + t.stored for t in moved),
        28 * sum(case.lengths) * case.steps,
    )


def _copy(values: torch.Tensor, aligned: bool) -> torch.Tensor:
    room = torch.empty(values.numel() + 1)
    return (room[:-1] if aligned else room[1:]).copy_(values)


def _gradient(n: int, generator: torch.Generator) -> torch.Tensor:
    """Sizes from 1e-6 to 1e2: small gradients are where eps and its place show."""
    size = 10.0 ** torch.randint(-6, 3, (n,), generator=generator)
    return torch.randn(n, generator=generator) * size


def _torch_step(
    optimizer: torch.optim.AdamW, params: list[torch.nn.Parameter], grads: list[torch.Tensor]
) -> list[Triple]:
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    optimizer.step()
    states = [optimizer.state[p] for p in params]
    return [
        (p.detach().clone(), s["exp_avg"].clone(), s["exp_avg_sq"].clone())
        for p, s in zip(params, states, strict=True)
    ]


def adamw_error(
    mine: Any, theirs: Triple, old: Triple, grad: torch.Tensor, options: dict[str, Any]
) -> float:
    """The largest difference after one step from the same state, as a share of its bound.

    For the moments the bound is one ulp of the larger of the two terms that are added up: m and
    (1−β₁)(g−m), β₂v and (1−β₂)g². For p it is one ulp of p and six of its change: PyTorch takes
    square roots from a vector library that rounds one in five the other way, and two divisions
    pass that on (measured: up to five ulp of a change that is as large as p).
    """
    (p, m, v), (beta1, beta2) = old, options["betas"]
    kept = p * (1 - options["lr"] * options["weight_decay"])
    bounds = (
        _ulp(torch.maximum(p.abs(), theirs[0].abs())) + 6 * _ulp((theirs[0] - kept).abs()),
        _ulp(torch.maximum(m.abs(), (1 - beta1) * (grad - m).abs())),
        _ulp(torch.maximum(beta2 * v, (1 - beta2) * grad * grad)),
    )
    pairs = zip(mine, theirs, bounds, strict=True)
    return max(worst((a.double() - b.double()).abs(), bound) for a, b, bound in pairs)


def _ulp(x: torch.Tensor) -> torch.Tensor:
    """The distance from each fp32 number to the next larger one."""
    return (torch.nextafter(x, torch.tensor(torch.inf)) - x).double()


# ---- what is verified and shipped


def cases(quick: bool) -> list[AdamWCase]:
    """Tails of every kind, with and without decay, large and small steps."""
    lengths = (1, 1023, 1024, 1025)
    made = [AdamWCase(), AdamWCase(lengths=lengths, steps=2, block=None, seed=1)]
    if not quick:
        made += [
            AdamWCase(weight_decay=0.0, seed=2),
            AdamWCase(lr=1e-3, betas=(0.4, 0.95), seed=3),
            AdamWCase(lr=1e-4, eps=1e-6, seed=4, steps=10),
        ]
    return made


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    return [check_adamw(case, strict=False) for case in cases(quick)]


def shipped(quick: bool) -> list[Shipped]:
    """What ``verify`` compiles."""
    return [Shipped("adamw", "fp32", "aligned", compile_adamw, tensor_cores=False)]


def compile_adamw(arch: str) -> Compiled:
    """The shipped layout, with every tensor aligned to 16 bytes."""
    return compile_for(
        _adamw,
        example((8, 5), torch.int64),
        example((8, 7), torch.float32),
        example((64, 2), torch.int32),
        ALIGNED=True,
        BLOCK=BLOCK,
        num_warps=4,
        enable_fp_fusion=False,
        arch=arch,
    )

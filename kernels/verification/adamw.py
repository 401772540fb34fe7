"""AdamW step by step: cases, what they give and move, and what is verified."""

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

import kernels.adamw
from kernels.adamw.eight_bit import dequantise, quantise
from kernels.adamw.table import BLOCK
from kernels.lab.memory import check
from kernels.verification import adamw_training
from kernels.verification.adamw_bounds import FUSES, Triple, bounds_of, ulp
from kernels.verification.adamw_machine import compile_adamw, shipped
from kernels.verification.outcome import Outcome, worst

__all__ = ["AdamWCase", "check_adamw", "compile_adamw", "outcomes", "shipped"]

# How the weights of a tensor are stored; "bf16" and "fp16" have fp32 master weights.
WEIGHTS = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "bf16-stochastic": torch.bfloat16,
}
# Bytes that a step has to move for a parameter besides its moments: read (p or master) and g,
# write p (and master).
WEIGHT_BYTES = {"fp32": 12, "bf16": 12, "fp16": 12, "bf16-stochastic": 6}


@dataclass(frozen=True)
class AdamWCase:
    """Tensors and hyperparameters of one run of AdamW."""

    lengths: tuple[int, ...] = (1, 31, 32, 33, 100)
    weights: tuple[str, ...] = ("fp32",)  # of the tensors in turn
    eight_bit: tuple[bool, ...] = (False,)  # likewise: moments in 8 bits
    steps: int = 3
    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    block: int | None = 32  # None for the shipped one
    quant: int = 32
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

    def form(self, tensor: int) -> tuple[str, bool]:
        """How weights and moments of one tensor are stored."""
        return self.weights[tensor % len(self.weights)], self.eight_bit[
            tensor % len(self.eight_bit)
        ]

    def bytes_needed(self) -> int:
        """The least that one step can move."""
        total = 0
        for i, n in enumerate(self.lengths):
            weight, eight_bit = self.form(i)
            moments = 4 * n + 16 * -(-n // self.quant) if eight_bit else 16 * n
            total += WEIGHT_BYTES[weight] * n + moments
        return total


def check_adamw(
    case: AdamWCase, package: ModuleType = kernels.adamw, *, strict: bool = True
) -> Outcome:
    """Every step against ``torch.optim.AdamW`` in fp32 from the same state.

    16-bit weights are compared by their fp32 master, of which the parameter has to be the rounded
    copy in every bit. A master's parameter is NaN before the step: the kernel need not read it.
    """
    generator = torch.Generator().manual_seed(case.seed)
    twins = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in case.lengths]
    options = [case.options(i) for i in range(len(twins))]
    groups = [{"params": [p], **o} for p, o in zip(twins, options, strict=True)]
    theirs = torch.optim.AdamW(groups, foreach=False)
    old = [(p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in twins]
    errors, noise = [0.0], []
    with check(strict=strict) as report:
        for step in range(1, case.steps + 1):
            rows = []
            for i, triple in enumerate(old):
                constants = package.constants.step_constants(step, **options[i])
                grad = _gradient(case.lengths[i], generator)
                rows.append(_row(case, i, triple, grad, constants, package, step))
            old = [_values(row, case.quant) for row in rows]  # what the kernel can know
            _set(theirs, twins, old)
            grads = [row.grad.float() for row in rows]
            package.table.Batch(rows, block=case.block or BLOCK, quant=case.quant).step()
            new = _torch_step(theirs, twins, grads)
            for row, before, after, one in zip(rows, old, new, options, strict=True):
                error, offsets = _error(row, before, after, one, case.quant)
                errors.append(error)
                noise += offsets
            old = new
    moved = [t for name, t in report.traffic.items() if name in package.table.FIELDS]
    return Outcome(
        max(max(errors), _bias(noise)),
        report,
        sum(t.loaded + t.stored for t in moved),
        case.bytes_needed() * case.steps,
    )


def _row(
    case: AdamWCase,
    tensor: int,
    values: Triple,
    grad: torch.Tensor,
    constants: tuple[float, ...],
    package: ModuleType,
    step: int,
) -> Any:
    """One tensor as the kernel gets it, from fp32 weights and moments."""

    def placed(x: torch.Tensor) -> torch.Tensor:
        room = torch.empty(x.numel() + 1, dtype=x.dtype)
        return (room[:-1] if case.aligned else room[1:]).copy_(x)

    weight, eight_bit = case.form(tensor)
    w, m, v = values
    extra: dict[str, Any] = {"seed": 5, "number": tensor, "steps": step}
    param = w.to(WEIGHTS[weight])
    if weight in ("bf16", "fp16"):
        extra["master"], param = placed(w), torch.full_like(param, torch.nan)
    if eight_bit:
        m, m_scale = quantise(m, signed=True, block_size=case.quant)
        v, v_scale = quantise(v, signed=False, block_size=case.quant)
        extra |= {"exp_avg_scale": placed(m_scale), "exp_avg_sq_scale": placed(v_scale)}
    tensors = (placed(t) for t in (param, grad.to(WEIGHTS[weight]), m, v))
    return package.table.Row(*tensors, constants, **extra)


def _values(row: Any, quant: int) -> Triple:
    """Weights and moments in fp32."""
    w = row.param.float() if row.master is None else row.master.clone()
    if row.exp_avg_scale is None:
        return w.clone(), row.exp_avg.clone(), row.exp_avg_sq.clone()
    m = dequantise(row.exp_avg, row.exp_avg_scale, signed=True, block_size=quant)
    v = dequantise(row.exp_avg_sq, row.exp_avg_sq_scale, signed=False, block_size=quant)
    return w.clone(), m, v


def _gradient(n: int, generator: torch.Generator) -> torch.Tensor:
    """Sizes from 1e-6 to 1e2: small gradients are where eps and its place show."""
    size = 10.0 ** torch.randint(-6, 3, (n,), generator=generator)
    return torch.randn(n, generator=generator) * size


def _set(
    optimizer: torch.optim.AdamW, params: list[torch.nn.Parameter], values: list[Triple]
) -> None:
    with torch.no_grad():
        for param, (w, m, v) in zip(params, values, strict=True):
            param.copy_(w)
            if state := optimizer.state[param]:
                state["exp_avg"].copy_(m)
                state["exp_avg_sq"].copy_(v)


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


def _error(
    row: Any, old: Triple, new: Triple, options: dict[str, Any], quant: int
) -> tuple[float, list[float]]:
    """The worst error as a share of its bound; offsets of stochastic rounding, in bf16 ulp."""
    bounds = bounds_of(old, new, row.grad.float(), options)
    if FUSES:  # both moments in every bit
        bounds[1:] = [torch.zeros_like(bound) for bound in bounds[1:]]
    mine = _values(row, quant)
    errors = [(a.double() - b.double()).abs() for a, b in zip(mine, new, strict=True)]
    offsets: list[float] = []
    if row.exp_avg_scale is not None:  # what the nearest code is off by is no error
        for i, signed in ((1, True), (2, False)):
            codes, scale = quantise(new[i], signed=signed, block_size=quant)
            nearest = dequantise(codes, scale, signed=signed, block_size=quant)
            errors[i] = (errors[i] - (nearest.double() - new[i].double()).abs()).clamp(min=0)
            bounds[i] += 8 * ulp(nearest)
    if row.param.dtype == torch.bfloat16 and row.master is None:
        step = ulp(new[0].bfloat16().float(), bits=16)
        offsets = ((mine[0].abs().double() - new[0].abs().double()) / step).tolist()
        bounds[0] += step
    elif row.master is not None and not torch.equal(row.param, row.master.to(row.param.dtype)):
        return float("inf"), []
    return max(map(worst, errors, bounds)), offsets


def _bias(offsets: list[float]) -> float:
    """The mean of offsets as a share of five standard errors (one offset's deviation is ≤ 1/2)."""
    if not offsets:
        return 0.0
    return abs(sum(offsets)) / (5 * 0.5 * len(offsets) ** 0.5)


# ---- what is verified


def cases(dtype: torch.dtype, quick: bool) -> list[AdamWCase]:
    """Tails of every kind, with and without decay, large and small steps, every way of storing."""
    if dtype == torch.float16:
        return [AdamWCase(weights=("fp16",)), AdamWCase(weights=("fp16",), aligned=False, seed=1)]
    if dtype == torch.bfloat16:
        mixed = AdamWCase(weights=("bf16", "bf16-stochastic", "fp32", "fp16"))
        eight_bit = replace(mixed, lengths=(33, 64, 130), eight_bit=(True,), block=64, seed=1)
        return [mixed, eight_bit, AdamWCase((5000,), ("bf16-stochastic",), block=None, steps=2)]
    lengths = (1, 1023, 1024, 1025)
    made = [AdamWCase(), AdamWCase(lengths=lengths, steps=2, block=None, seed=1)]
    made += [AdamWCase(lengths=(1500, 40), eight_bit=(True, False), block=None, quant=256)]
    if not quick:
        made += [
            AdamWCase(weight_decay=0.0, seed=2),
            AdamWCase(lr=1e-3, betas=(0.4, 0.95), seed=3),
            AdamWCase(lr=1e-4, eps=1e-6, seed=4, steps=10),
            AdamWCase((33, 64, 130), eight_bit=(True,), block=64, betas=(0.4, 0.95), steps=10),
        ]
    return made


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    steps = [check_adamw(case, strict=False) for case in cases(dtype, quick)]
    training = adamw_training.cases(dtype, quick)
    return steps + [adamw_training.check_training(case, strict=False) for case in training]

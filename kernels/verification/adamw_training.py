"""AdamW as an optimiser: clipping, gradient scaling, skipped steps, constants from the device."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

import kernels.adamw
from kernels.lab.memory import check
from kernels.verification.adamw_bounds import Triple, bounds_of, ulp
from kernels.verification.outcome import Outcome, worst

BAD_STEP = 1  # whose gradients hold an inf or NaN, where a case skips
BETAS, EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class TrainingCase:
    """A few steps of a small model; each is compared with ``torch.optim.AdamW`` in fp32."""

    dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    shapes: tuple[tuple[int, ...], ...] = ((33,), (7, 5), (0,), (1025,))
    max_grad_norm: float | None = None
    skip_nonfinite: bool = False
    bad_value: float = torch.nan
    grad_scale: float | None = None
    capturable: bool = False
    maximize: bool = False
    size: float = 1.0  # of the gradients
    steps: int = 3
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """What the optimiser is made with."""
        names = ("max_grad_norm", "skip_nonfinite", "capturable", "maximize")
        return {name: getattr(self, name) for name in names}


def check_training(
    case: TrainingCase, package: ModuleType = kernels.adamw, *, strict: bool = True
) -> Outcome:
    """Every step from the state before it: weights, moments, norm, counts; bits where it skips."""
    generator = torch.Generator().manual_seed(case.seed)
    params = [
        torch.nn.Parameter(torch.randn(shape, generator=generator).to(_dtype(case, i)))
        for i, shape in enumerate(case.shapes)
    ]
    groups = [{"params": params[::2], "lr": 3e-3}, {"params": params[1::2], "weight_decay": 0.3}]
    ours = package.optimizer.AdamW(groups, lr=1e-2, betas=BETAS, eps=EPS, **case.options())
    ratio, done = 0.0, 0
    with check(strict=strict) as report:
        for step in range(case.steps):
            bad = case.skip_nonfinite and step == BAD_STEP
            _set_gradients(params, case, generator, bad)
            before = [_weights_and_moments(ours, p) for p in params]
            raw = [p.detach().clone() for p in params]
            ours.step(grad_scale=case.grad_scale)
            done += not bad
            after = [_weights_and_moments(ours, p) for p in params]
            if bad:
                same = all(map(torch.equal, sum(before, ()), sum(after, ())))
                same &= all(map(torch.equal, raw, params))
                ratio = max(ratio, 0.0 if same else float("inf"))
                continue
            factor, error = _factor(ours, case, params)
            ratio = max(ratio, error)
            for i, p in enumerate(params):
                options = ours.param_groups[i % 2]
                ratio = max(ratio, _error(p, before[i], after[i], factor, done, options))
    counts = {float(ours.state[p]["step"]) for p in params}
    wrong = counts != {done} or int(ours.skipped) != case.steps - done
    moved = [t for name, t in report.traffic.items() if name in package.table.FIELDS]
    return Outcome(
        float("inf") if wrong else ratio,
        report,
        sum(t.loaded + t.stored for t in moved),
        _bytes_needed(case, params, done),
    )


def _dtype(case: TrainingCase, i: int) -> torch.dtype:
    return case.dtypes[i % len(case.dtypes)]


def _set_gradients(
    params: list[torch.nn.Parameter], case: TrainingCase, generator: torch.Generator, bad: bool
) -> None:
    scale = case.size * (case.grad_scale or 1.0)
    for p in params:
        grad = torch.randn(p.shape, generator=generator) * scale
        p.grad = grad.to(p.dtype)
    if bad:
        params[-1].grad.view(-1)[-1] = case.bad_value  # type: ignore[union-attr]


def _weights_and_moments(optimizer: Any, param: torch.Tensor) -> Triple:
    state = optimizer.state.get(param) or {}
    w = state.get("master", param).detach().float().clone()
    if not state:
        return w, torch.zeros_like(w), torch.zeros_like(w)
    return w, state["exp_avg"].clone(), state["exp_avg_sq"].clone()


def _factor(
    optimizer: Any, case: TrainingCase, params: list[torch.nn.Parameter]
) -> tuple[float, float]:
    """What the gradients are multiplied with; the norm's error as a share of 4 ulp."""
    scale = case.grad_scale or 1.0
    total = sum(float((p.grad.double() ** 2).sum()) for p in params if p.grad is not None)
    norm = total**0.5 / scale
    clip = 1.0 if case.max_grad_norm is None else min(1.0, case.max_grad_norm / (norm + 1e-6))
    factor = (-1 if case.maximize else 1) * clip / scale
    if case.max_grad_norm is None and not case.skip_nonfinite:
        return factor, 0.0
    return factor, abs(float(optimizer.grad_norm) - norm) / (4 * 2.0**-24 * norm)


def _error(
    param: torch.nn.Parameter, old: Triple, new: Triple, factor: float, step: int, group: Any
) -> float:
    """As ``bounds_of``, and what a factor that is off by one ulp may do."""
    assert param.grad is not None
    if param.dtype != torch.float32 and not torch.equal(param, new[0].to(param.dtype)):
        return float("inf")
    grad = param.grad.float() * torch.tensor(factor, dtype=torch.float32)
    options = {name: group[name] for name in ("lr", "weight_decay", "betas")}
    twin = torch.nn.Parameter(old[0].clone())
    theirs = torch.optim.AdamW([twin], **options, eps=EPS, foreach=False)
    state = {"step": torch.tensor(step - 1.0), "exp_avg": old[1], "exp_avg_sq": old[2]}
    theirs.state[twin] = {name: value.clone() for name, value in state.items()}
    twin.grad = grad.clone()
    theirs.step()
    m, v = theirs.state[twin]["exp_avg"], theirs.state[twin]["exp_avg_sq"]
    want = (twin.detach(), m, v)
    bounds = bounds_of(old, want, grad, options)
    slack = 4 * ulp((1 - BETAS[0]) * grad)
    kept = old[0] * (1 - options["lr"] * options["weight_decay"])
    bounds[0] += (want[0] - kept).abs() * (slack / m.abs().clamp(min=1e-30) + 2.0**-22)
    bounds[1] += slack + ulp(m)
    bounds[2] += 8 * ulp((1 - BETAS[1]) * grad * grad) + ulp(v)
    pairs = zip(new, want, bounds, strict=True)
    return max(worst((a.double() - b.double()).abs(), bound) for a, b, bound in pairs)


def _bytes_needed(case: TrainingCase, params: list[torch.nn.Parameter], done: int) -> int:
    """28 bytes a parameter for each step that is done, and the gradient once more for the norm."""
    size = sum(p.numel() for p in params)
    measured = case.max_grad_norm is not None or case.skip_nonfinite
    again = sum(p.numel() * p.element_size() for p in params) if measured else 0
    return 28 * size * done + again * case.steps


def check_constants(package: ModuleType = kernels.adamw) -> bool:
    """Whether constants made on the device are those of the host, and a long sum is complete."""
    group: dict[str, Any] = {"lr": 3e-4, "betas": (0.9, 0.9999), "eps": EPS, "weight_decay": 0.1}
    for step in (1, 3, 1000):
        tensors = (torch.zeros(4) for _ in range(4))
        row = package.table.Row(*tensors, step=torch.tensor(step - 1.0))
        partials = torch.tensor([[3.0, 0.0]] * 300, dtype=torch.float64)
        found = package.table.Batch([row]).device_constants(
            [{**group, "maximize": False}], partials=partials, max_norm=15.0, norm=torch.zeros(1)
        )[0]
        wanted = package.constants.step_constants(step, **group)
        if not torch.equal(found, torch.tensor([*wanted, 15.0 / (30.0 + 1e-6), float(step)])):
            return False
    return True


def cases(dtype: torch.dtype, quick: bool) -> list[TrainingCase]:
    """Each feature alone, then together."""
    made = [
        TrainingCase((dtype,), max_grad_norm=1.0, skip_nonfinite=True, grad_scale=1024.0),
        TrainingCase((dtype, torch.float32), capturable=True, maximize=True, seed=1),
    ]
    if quick:
        return made
    return [
        *made,
        TrainingCase((dtype,), max_grad_norm=1e9, seed=2),  # nothing to clip
        TrainingCase((dtype,), skip_nonfinite=True, bad_value=torch.inf, seed=3),
        TrainingCase((dtype,), max_grad_norm=0.5, size=100.0, seed=4),
        TrainingCase((dtype,), grad_scale=3.0, seed=5),
    ]

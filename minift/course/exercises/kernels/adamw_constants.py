"""kernels.adamw_constants: the numbers of a step, made on the host in double precision."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.launch import Part

EPS = 2.0**-6


def of(step: int, lr: float, beta1: float, beta2: float, decay: float) -> Inputs:
    return {"step": step, "lr": lr, "betas": (beta1, beta2), "weight_decay": decay}


def first() -> Iterator[Inputs]:
    yield of(1, 0.5, 0.5, 0.75, 0.0)
    yield of(1, 0.1, 0.9, 0.999, 0.0)


def later() -> Iterator[Inputs]:
    yield of(2, 0.5, 0.5, 0.75, 0.0)
    yield of(7, 0.01, 0.9, 0.999, 0.0)
    yield of(1000, 0.3, 0.8, 0.95, 0.0)


def decayed() -> Iterator[Inputs]:
    yield of(1, 0.5, 0.5, 0.75, 0.25)
    yield of(3, 0.01, 0.9, 0.999, 0.1)


def extreme() -> Iterator[Inputs]:
    yield of(5, 0.1, 0.0, 0.5, 0.1)
    yield of(2, 0.001, 0.99, 0.99999, 0.01)
    rng = draw(0)
    yield of(rng.randint(3, 99), rng.uniform(0.01, 1), rng.random(), rng.uniform(0.9, 1), 0.3)


def everything() -> Iterator[Inputs]:
    for cases in (first, later, decayed, extreme):
        yield from cases()


def before() -> tuple[Tensor, ...]:
    """p, g, m and v before the step, in fp64."""
    p, g, m, v = (normal(20, seed=seed).double() for seed in range(4))
    return p, g, m, v.abs()


def run(
    fn: Any, step: int, lr: float, betas: tuple[float, float], weight_decay: float
) -> dict[str, Tensor]:
    """One step with the learner's numbers."""
    keep, mix1, mix2, rate, root = fn(step, lr, betas, weight_decay)
    p, g, m, v = before()
    m = m + mix1 * (g - m)
    v = v + mix2 * (g * g - v)
    return {"p": p * keep + rate * m / (v.sqrt() / root + EPS), "m": m, "v": v}


exercise = Exercise(
    "kernels.adamw_constants",
    "What a step needs besides the tensors",
    apply=run,
    properties=(
        Part("gives m of torch.optim.AdamW in fp64", everything, "See mix1.", part="m"),
        Part("gives its v", everything, "See mix2.", part="v"),
        Part("gives its p in the first step", first, "See rate and root.", part="p"),
        Part("gives its p in a later step", later, "The corrections are 1 - βᵗ.", part="p"),
        Part("decays the weights", decayed, "See keep: p shrinks by lr·λ.", part="p"),
        Part("is exact for betas near 1 and for 0", extreme, "Stay in double.", part="p"),
    ),
    hints=(
        "mix1 and mix2 are what the new value counts: 1 - β. keep is what is left of p: 1 - lr·λ.",
        "lr · m̂ = lr / (1 - β₁ᵗ) · m, and it is taken off: that is rate. √v̂ = √v / root.",
        "√(v / (1 - β₂ᵗ)) = √v / √(1 - β₂ᵗ), so root = (1 - β₂ᵗ) ** 0.5. Python's own numbers "
        "are double precision.",
    ),
)


@exercise.stub
def adamw_constants(
    step: int, lr: float, betas: tuple[float, float], weight_decay: float
) -> tuple[float, float, float, float, float]:
    """(keep, mix1, mix2, rate, root) of step number `step`, counted from 1, with which

    m ← m + mix1·(g - m)        v ← v + mix2·(g² - v)
    p ← p·keep + rate·m / (√v / root + ε)

    is a step of AdamW. In double precision.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    step: int, lr: float, betas: tuple[float, float], weight_decay: float
) -> tuple[float, float, float, float, float]:
    beta1, beta2 = betas
    rate, root = -lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    return 1 - lr * weight_decay, 1 - beta1, 1 - beta2, rate, root


@exercise.reference
def by_torch(
    step: int, lr: float, betas: tuple[float, float], weight_decay: float
) -> dict[str, Tensor]:
    p, g, m, v = before()
    weight = torch.nn.Parameter(p)
    optimiser = torch.optim.AdamW([weight], lr, betas, EPS, weight_decay, foreach=False)
    count = torch.tensor(step - 1.0)
    optimiser.state[weight].update(step=count, exp_avg=m.clone(), exp_avg_sq=v.clone())
    weight.grad = g
    optimiser.step()
    state = optimiser.state[weight]
    return {"p": weight.detach(), "m": state["exp_avg"], "v": state["exp_avg_sq"]}


exercise.slip(
    "one_minus_beta_in_fp32",
    "1 - beta1, 1 - beta2",
    "(1 - torch.tensor(beta1)).item(), (1 - torch.tensor(beta2)).item()",
    "1 - β was formed in fp32, where 0.999 has spent three digits on nines: use Python's floats.",
)
exercise.slip(
    "beta_for_one_minus_beta",
    "1 - beta1, 1 - beta2",
    "beta1, beta2",
    "β is what the old average keeps; the new value counts 1 - β.",
)
exercise.slip(
    "counted_from_zero",
    "beta1**step), (1 - beta2**step)",
    "beta1 ** (step + 1)), (1 - beta2 ** (step + 1))",
    "The first step is number 1, so its corrections are 1 - β, not 1 - β².",
)
exercise.slip(
    "no_root",
    "(1 - beta2**step) ** 0.5",
    "1 - beta2**step",
    "v̂ = v / (1 - β₂ᵗ) stands under the root: divide √v by √(1 - β₂ᵗ).",
)
exercise.slip(
    "no_correction",
    "-lr / (1 - beta1**step), (1 - beta2**step) ** 0.5",
    "-lr, 1.0",
    "m and v start at 0 and are too small at first: correct them by 1 - βᵗ.",
)
exercise.slip(
    "correction_of_the_first_step",
    "beta1**step), (1 - beta2**step)",
    "beta1), (1 - beta2)",
    "The corrections change from step to step: 1 - β to the power of `step`.",
)
exercise.slip(
    "uphill",
    "rate, root = -lr",
    "rate, root = lr",
    "The step goes uphill: it is taken off, so rate is negative.",
)
exercise.slip(
    "decay_without_lr",
    "1 - lr * weight_decay",
    "1 - weight_decay",
    "The decay is not multiplied by the learning rate: p keeps 1 - lr·λ.",
)

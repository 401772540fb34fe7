"""kernels.adamw_step: one optimiser step for one tensor, every byte moved once."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Compiles, Part, launch
from minift.course.trial import LEAVES_INPUTS, Counterexample

# Exact in binary, so that 1 - β is exact in fp32 too; large, so that no term hides in rounding.
LR, BETA1, BETA2, EPS = 2.0**-4, 0.875, 1 - 2.0**-7, 2.0**-6


def case(n: int, steps: int, block: int, decay: float, seed: int) -> Inputs:
    p, grads = normal(n, seed=seed), normal(steps, n, seed=100 + seed)
    return {"p": p, "grads": grads, "weight_decay": decay, "block": block}


def first_step() -> Iterator[Inputs]:
    yield {**case(2, 1, 2, 0.0, 0), "p": torch.tensor([1.0, 2.0])}
    yield case(37, 1, 16, 0.0, 1)


def decayed() -> Iterator[Inputs]:
    yield {**case(2, 1, 2, 0.25, 0), "p": torch.tensor([1.0, 2.0])}
    yield case(37, 1, 16, 0.25, 2)


def several_steps() -> Iterator[Inputs]:
    for seed, (n, block) in enumerate([(3, 4), (1, 2), (64, 32), (133, 32)]):
        yield case(n, 4, block, 0.25, seed)


def train(kernel: Any, p: Tensor, grads: Tensor, weight_decay: float, block: int) -> dict[str, Any]:
    """Some steps from m = v = 0; the parameters and both moments after them."""
    p, m, v = p.clone(), torch.zeros_like(p), torch.zeros_like(p)
    programs, moved = triton.cdiv(p.numel(), block), 0
    for step, grad in enumerate(grads.clone(), 1):
        corrections = 1 - BETA1**step, 1 - BETA2**step
        scalars = (p.numel(), LR, BETA1, BETA2, EPS, weight_decay, *corrections)
        report = launch(kernel, programs, p, grad, m, v, *scalars, BLOCK=block)
        moved += report.loaded + report.stored
        if not torch.equal(grad, grads[step - 1]):
            sentence = "Only p, m and v are stored; the gradient is not the kernel's to change."
            raise Counterexample({}, "g changed", "g", claim=LEAVES_INPUTS, mistake=sentence)
    return {"p, m and v": {"m": m, "v": v, "p": p}, "bytes": moved / grads.numel()}


def real() -> Iterator[Inputs]:
    tensors, scalars = [torch.empty(8)] * 4, (LR, BETA1, BETA2, EPS, 0.25, 0.5, 0.5)
    yield {"args": (*tensors, 8, *scalars), "constants": {"BLOCK": 1024}}


STATE = "p, m and v"
exercise = Exercise(
    "kernels.adamw_step",
    "AdamW in one pass over memory",
    apply=train,
    properties=(
        Part("takes the first step as torch.optim.AdamW", first_step, "See m, v, p.", part=STATE),
        Part("decays the weights, decoupled", decayed, "p shrinks by lr·λ·p.", part=STATE),
        Part("follows torch.optim.AdamW in fp64", several_steps, "See m, v, p.", part=STATE),
        Part(
            "moves 28 bytes an element and step: reads p, g, m, v once, writes p, m, v once",
            several_steps,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Offsets and mask are those of vector_add. Load p, g, m and v once each.",
        "Compute the new m and the new v first; the update of p uses the new ones.",
        "update = (m / correction1) / (tl.sqrt(v / correction2) + eps); the weight decay is "
        "subtracted from p beside it, never added to g. Then store p, m and v with the mask.",
    ),
)


@exercise.stub
@triton.jit
def adamw_step(
    p_ptr, g_ptr, m_ptr, v_ptr, n, lr, beta1, beta2, eps, decay, correction1, correction2,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of AdamW in place, for i < n, with λ = decay and corrections 1 - β₁ᵗ, 1 - β₂ᵗ:

    m ← β₁·m + (1 - β₁)·g        v ← β₂·v + (1 - β₂)·g²
    p ← p - lr·λ·p - lr · (m / correction1) / (√(v / correction2) + eps)
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(
    p_ptr, g_ptr, m_ptr, v_ptr, n, lr, beta1, beta2, eps, decay, correction1, correction2,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    p = tl.load(p_ptr + i, mask=mask)
    g = tl.load(g_ptr + i, mask=mask)
    m = beta1 * tl.load(m_ptr + i, mask=mask) + (1 - beta1) * g
    v = beta2 * tl.load(v_ptr + i, mask=mask) + (1 - beta2) * g * g
    update = (m / correction1) / (tl.sqrt(v / correction2) + eps)
    tl.store(p_ptr + i, p - lr * decay * p - lr * update, mask=mask)
    tl.store(m_ptr + i, m, mask=mask)
    tl.store(v_ptr + i, v, mask=mask)


@exercise.reference
def by_torch(p: Tensor, grads: Tensor, weight_decay: float, block: int) -> dict[str, Any]:
    weight = torch.nn.Parameter(p.double())
    optimiser = torch.optim.AdamW([weight], LR, (BETA1, BETA2), EPS, weight_decay)
    for grad in grads:
        weight.grad = grad.double()
        optimiser.step()
    state = optimiser.state[weight]
    moments = {"m": state["exp_avg"], "v": state["exp_avg_sq"], "p": weight.detach()}
    return {STATE: moments, "bytes": 28.0}


exercise.slip(
    "decay_in_the_gradient",
    "g = tl.load(g_ptr + i, mask=mask)",
    "g = tl.load(g_ptr + i, mask=mask) + decay * p",
    "The decay was added to the gradient (Adam with L2): it then passes through m and v. In AdamW "
    "it is subtracted from p directly.",
)
exercise.slip(
    "decay_without_lr",
    "p - lr * decay * p",
    "p - decay * p",
    "The decay is not multiplied by the learning rate: p shrinks by lr·λ·p.",
)
exercise.slip(
    "decay_after_the_step",
    "p - lr * decay * p - lr * update",
    "(p - lr * update) * (1 - lr * decay)",
    "The decay was taken of the updated p; it is lr·λ times the p from before the step.",
)
exercise.slip(
    "no_bias_correction",
    "(m / correction1) / (tl.sqrt(v / correction2) + eps)",
    "m / (tl.sqrt(v) + eps)",
    "m and v start at 0 and are too small at first: divide them by correction1 and correction2.",
)
exercise.slip(
    "correction_outside_the_root",
    "tl.sqrt(v / correction2)",
    "tl.sqrt(v) / correction2",
    "correction2 belongs under the root: √(v / correction2).",
)
exercise.slip(
    "eps_under_the_root",
    "tl.sqrt(v / correction2) + eps",
    "tl.sqrt(v / correction2 + eps)",
    "ε was added under the root; it belongs outside: √(…) + ε.",
)
exercise.slip(
    "second_moment_not_squared",
    "(1 - beta2) * g * g",
    "(1 - beta2) * g",
    "v averages the square of the gradient, g·g.",
)
exercise.slip(
    "moments_not_stored",
    "tl.store(v_ptr + i, v, mask=mask)",
    "pass",
    "v was not stored: the next step starts from 0 again.",
)
exercise.slip(
    "no_mask",
    "mask = i < n",
    "mask = i >= 0",
    "A load or a store has no mask: in the last program it goes past the end.",
)

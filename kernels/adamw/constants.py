# mypy: allow-untyped-defs
"""The numbers that a step needs besides the tensors, in double precision, wherever they are made.

1 − β formed from an fp32 β is wrong by 111 ulp at β = 0.999, and 1 − βᵗ likewise. So they are
computed in fp64 and rounded to fp32 once: on the host when the host knows everything, or by
:func:`_prepare` on the device when the step count, the scale of the gradients or their norm is
only known there. Either way nobody waits for the other.
"""

import triton
import triton.language as tl

from kernels.adamw.kernel import COLUMNS, CONSTANTS, STEP

# Columns of the hyperparameters that _prepare reads (fp64).
HYPERPARAMETERS = ("lr", "beta1", "beta2", "eps", "weight_decay", "sign")
_HYPER = tl.constexpr(len(HYPERPARAMETERS))


def step_constants(
    step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> tuple[float, ...]:
    """The seven numbers that the kernel needs of step ``step`` (counted from 1), in double."""
    beta1, beta2 = betas
    return (
        1 - lr * weight_decay,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        -lr / (1 - beta1**step),
        (1 - beta2**step) ** 0.5,
    )


@triton.jit
def _prepare(
    table,  # int64 (tensors, COLUMNS), for the addresses of the step counts
    hyper,  # fp64 (tensors, 6)
    constants,  # fp32 (tensors, CONSTANTS), written
    partials,  # fp64 (parts, 2): sums of squares, numbers of inf and NaN; None: no norm wanted
    parts,
    max_norm,  # None: no clipping
    grad_scale,  # fp32 (1,), what the gradients were multiplied with; None: 1
    found_inf,  # fp32 (1,), not 0 when somebody else has found inf or NaN; None
    norm,  # fp32 (1,), written: the norm of all gradients before clipping
    skip,  # int32 (1,), written; None: never skip
    skipped,  # int32 (1,): counts the skipped steps
    BLOCK: tl.constexpr,
):
    """Count the step of one tensor and make its constants, on the device."""
    tensor = tl.program_id(0)
    first = tensor == 0
    factor = tl.full((), 1.0, tl.float64)
    bad = tl.full((), 0.0, tl.float64)
    if grad_scale is not None:
        factor = 1.0 / tl.load(grad_scale).to(tl.float64)
    if partials is not None:
        total = tl.full((), 0.0, tl.float64)
        for start in range(0, parts, BLOCK):  # always in the same order
            i = start + tl.arange(0, BLOCK)
            total += tl.sum(tl.load(partials + 2 * i, mask=i < parts, other=0.0))
            bad += tl.sum(tl.load(partials + 2 * i + 1, mask=i < parts, other=0.0))
        size = tl.sqrt(total) * factor
        tl.store(norm, size.to(tl.float32), mask=first)
        if max_norm is not None:
            clip = max_norm / (size + 1e-6)  # as torch.nn.utils.clip_grad_norm_ has it
            factor = factor * tl.where(clip > 1.0, 1.0, clip)
    if found_inf is not None:
        bad += tl.load(found_inf).to(tl.float64)
    done = 1.0
    if skip is not None:
        skipping = (bad != 0.0).to(tl.int32)
        tl.store(skip, skipping, mask=first)
        tl.store(skipped, tl.load(skipped, mask=first) + skipping, mask=first)
        done = 1.0 - skipping.to(tl.float32)
    counter = tl.load(table + COLUMNS * tensor + STEP).to(tl.pointer_type(tl.float32))
    step = tl.load(counter) + done
    tl.store(counter, step)

    hyper += _HYPER * tensor
    lr = tl.load(hyper)
    beta1 = tl.load(hyper + 1)
    beta2 = tl.load(hyper + 2)
    eps = tl.load(hyper + 3)
    weight_decay = tl.load(hyper + 4)
    sign = tl.load(hyper + 5)
    t = tl.maximum(step, 1.0).to(tl.float64)  # 0 only in a step that is skipped
    correction1 = 1.0 - tl.exp2(t * tl.log2(beta1))
    correction2 = 1.0 - tl.exp2(t * tl.log2(beta2))

    constants += CONSTANTS * tensor
    tl.store(constants, (1.0 - lr * weight_decay).to(tl.float32))
    tl.store(constants + 1, (1.0 - beta1).to(tl.float32))
    tl.store(constants + 2, beta2.to(tl.float32))
    tl.store(constants + 3, (1.0 - beta2).to(tl.float32))
    tl.store(constants + 4, eps.to(tl.float32))
    tl.store(constants + 5, (-lr / correction1).to(tl.float32))
    tl.store(constants + 6, tl.sqrt(correction2).to(tl.float32))
    tl.store(constants + 7, (sign * factor).to(tl.float32))
    tl.store(constants + 8, t.to(tl.float32))

# mypy: allow-untyped-defs
"""AdamW, from one launch an operation to one launch for the whole model.

p ← p·(1 − lr·wd);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)

An optimiser step is memory traffic and launches. Each fp32 parameter has to move 28 bytes: read
p, g, m and v, write p, m and v. The last rung is :class:`kernels.AdamW`.

Source: Loshchilov and Hutter (arXiv 1711.05101), algorithm 2.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

import kernels
from kernels.ladder.rung import Rung, check_contiguous, check_like
from kernels.launch import launch

BLOCK = 1024

Tensors = Sequence[torch.Tensor]


@triton.jit
def weighted_sum(x_ptr, y_ptr, a, b, n, BLOCK: tl.constexpr):
    """x ← a·x + b·y"""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    y = tl.load(y_ptr + i, mask=i < n)
    tl.store(x_ptr + i, a * x + b * y, mask=i < n)


@triton.jit
def weighted_square(x_ptr, y_ptr, a, b, n, BLOCK: tl.constexpr):
    """x ← a·x + b·y²"""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    y = tl.load(y_ptr + i, mask=i < n)
    tl.store(x_ptr + i, a * x + b * y * y, mask=i < n)


@triton.jit
def scale(x_ptr, a, n, BLOCK: tl.constexpr):
    """x ← a·x"""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + i, a * tl.load(x_ptr + i, mask=i < n), mask=i < n)


@triton.jit
def root(v_ptr, out_ptr, correction, eps, n, BLOCK: tl.constexpr):
    """out ← √v / correction + eps"""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(v_ptr + i, mask=i < n)
    tl.store(out_ptr + i, tl.sqrt_rn(v) / correction + eps, mask=i < n)


@triton.jit
def move(p_ptr, m_ptr, denominator_ptr, rate, n, BLOCK: tl.constexpr):
    """p ← p + rate·m / denominator"""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    p = tl.load(p_ptr + i, mask=i < n)
    m = tl.load(m_ptr + i, mask=i < n)
    denominator = tl.load(denominator_ptr + i, mask=i < n)
    tl.store(p_ptr + i, p + rate * m / denominator, mask=i < n)


@triton.jit
def fused(
    p_ptr, g_ptr, m_ptr, v_ptr, lr, beta1, beta2, eps, weight_decay, correction1, correction2, n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The whole step of a tensor, from the numbers as the user gives them."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    p = tl.load(p_ptr + i, mask=i < n)
    g = tl.load(g_ptr + i, mask=i < n)
    m = tl.load(m_ptr + i, mask=i < n)
    v = tl.load(v_ptr + i, mask=i < n)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    p = p - lr * weight_decay * p
    p = p - lr * (m / correction1) / (tl.sqrt_rn(v / correction2) + eps)
    tl.store(p_ptr + i, p, mask=i < n)
    tl.store(m_ptr + i, m, mask=i < n)
    tl.store(v_ptr + i, v, mask=i < n)


@triton.jit
def exact(
    p_ptr, g_ptr, m_ptr, v_ptr, decay, mix1, beta2, mix2, eps, rate, correction, n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The same from numbers that the host made in double, with exact roots and quotients."""
    _piece(
        p_ptr, g_ptr, m_ptr, v_ptr, decay, mix1, beta2, mix2, eps, rate, correction,
        tl.program_id(0).to(tl.int64) * BLOCK, n, BLOCK,
    )  # fmt: skip


@triton.jit
def whole_model(
    table,  # int64 (tensors, 5): addresses of p, g, m and v; length
    pieces,  # int32 (programs, 2): tensor, and which BLOCK of it
    decay, mix1, beta2, mix2, eps, rate, correction,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A program finds its tensor in a table of addresses."""
    piece = pieces + 2 * tl.program_id(0)
    row = table + 5 * tl.load(piece).to(tl.int64)
    start = tl.load(piece + 1).to(tl.int64) * BLOCK
    p_ptr = tl.load(row).to(tl.pointer_type(tl.float32))
    g_ptr = tl.load(row + 1).to(tl.pointer_type(tl.float32))
    m_ptr = tl.load(row + 2).to(tl.pointer_type(tl.float32))
    v_ptr = tl.load(row + 3).to(tl.pointer_type(tl.float32))
    n = tl.load(row + 4)
    _piece(
        p_ptr, g_ptr, m_ptr, v_ptr, decay, mix1, beta2, mix2, eps, rate, correction,
        start, n, BLOCK,
    )  # fmt: skip


@triton.jit
def _piece(
    p_ptr, g_ptr, m_ptr, v_ptr, decay, mix1, beta2, mix2, eps, rate, correction, start, n,
    BLOCK: tl.constexpr,
):  # fmt: skip
    i = start + tl.arange(0, BLOCK)
    p = tl.load(p_ptr + i, mask=i < n)
    g = tl.load(g_ptr + i, mask=i < n)
    m = tl.load(m_ptr + i, mask=i < n)
    v = tl.load(v_ptr + i, mask=i < n)
    near_m = tl.fma(g - m, mix1, m)  # m + (1 - beta1)(g - m), from whichever end is nearer
    near_g = tl.fma(m - g, 1.0 - mix1, g)
    m = tl.where(mix1 < 0.5, near_m, near_g)
    v = tl.fma(g * mix2, g, v * beta2)
    denominator = tl.div_rn(tl.sqrt_rn(v), correction) + eps
    p = p * decay + tl.div_rn(rate * m, denominator)
    tl.store(p_ptr + i, p, mask=i < n)
    tl.store(m_ptr + i, m, mask=i < n)
    tl.store(v_ptr + i, v, mask=i < n)


def v1(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, *, step: int,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, block: int = BLOCK,
) -> None:  # fmt: skip
    """Step number ``step`` (from 1) of AdamW, in place, on lists of contiguous fp32 tensors.

    The functional form of ``torch.optim.AdamW``. Every version takes the same and raises
    ``TypeError`` or ``ValueError``, before anything is changed, for tensors that do not fit.
    """
    _check(params, grads, exp_avgs, exp_avg_sqs)
    beta1, beta2 = betas
    correction1, correction2 = 1 - beta1**step, 1 - beta2**step
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        n, denominator = p.numel(), torch.empty_like(p)
        grid = (triton.cdiv(n, block),)
        launch(scale, grid, p, 1 - lr * weight_decay, n, BLOCK=block)
        launch(weighted_sum, grid, m, g, beta1, 1 - beta1, n, BLOCK=block)
        launch(weighted_square, grid, v, g, beta2, 1 - beta2, n, BLOCK=block)
        launch(root, grid, v, denominator, correction2**0.5, eps, n, BLOCK=block)
        launch(move, grid, p, m, denominator, -lr / correction1, n, BLOCK=block)


def v2(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, *, step: int,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, block: int = BLOCK,
) -> None:  # fmt: skip
    """One launch a tensor. 1 − β is formed in fp32: at 0.999 its fifth digit is wrong."""
    _check(params, grads, exp_avgs, exp_avg_sqs)
    numbers = (lr, *betas, eps, weight_decay, 1 - betas[0] ** step, 1 - betas[1] ** step)
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        n = p.numel()
        launch(fused, (triton.cdiv(n, block),), p, g, m, v, *numbers, n, BLOCK=block)


def v3(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, *, step: int,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, block: int = BLOCK,
) -> None:  # fmt: skip
    """The constants of the step come from the host, which makes them in double."""
    _check(params, grads, exp_avgs, exp_avg_sqs)
    constants = _constants(step, lr, betas, eps, weight_decay)
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        grid = (triton.cdiv(p.numel(), block),)
        launch(exact, grid, p, g, m, v, *constants, p.numel(), BLOCK=block, enable_fp_fusion=False)


def v4(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, *, step: int,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, block: int = BLOCK,
) -> None:  # fmt: skip
    """One launch for all tensors."""
    _check(params, grads, exp_avgs, exp_avg_sqs)
    lists = (params, grads, exp_avgs, exp_avg_sqs)
    table = [[*(t.data_ptr() for t in row), row[0].numel()] for row in zip(*lists, strict=True)]
    pieces = [(i, j) for i, row in enumerate(table) for j in range(triton.cdiv(row[4], block))]
    device = params[0].device
    launch(
        whole_model,
        (len(pieces),),
        torch.tensor(table, dtype=torch.int64, device=device),
        torch.tensor(pieces, dtype=torch.int32, device=device),
        *_constants(step, lr, betas, eps, weight_decay),
        memory=dict(zip(("param", "grad", "exp_avg", "exp_avg_sq"), map(list, lists), strict=True)),
        BLOCK=block,
        enable_fp_fusion=False,
    )


def v5(
    params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors, *, step: int,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float,
) -> None:  # fmt: skip
    """:class:`kernels.AdamW` in the same form: one step from the state that is given."""
    _check(params, grads, exp_avgs, exp_avg_sqs)
    optimizer = kernels.AdamW(list(params), lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        p.grad = g
        optimizer.state[p].update(step=torch.tensor(step - 1.0), exp_avg=m, exp_avg_sq=v)
    optimizer.step()
    for p in params:
        p.grad = None


RUNGS = [
    Rung("v1", v1, "as the formula says: five launches a tensor, 56 bytes a parameter"),
    Rung("v2", v2, "one launch a tensor: each number is read once and written once, 28 bytes"),
    Rung(
        "v3", v3, "constants in double on the host: 1 - 0.999 in fp32 is wrong in the fifth digit"
    ),
    Rung("v4", v4, "a table of addresses: one launch for all tensors instead of one for each"),
    Rung("v5", v5, "kernels.AdamW: a torch.optim.Optimizer, with wide loads"),
]


def _constants(
    step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> tuple[float, ...]:
    """What the kernel needs of a step, in double."""
    beta1, beta2 = betas
    rate, correction = -lr / (1 - beta1**step), (1 - beta2**step) ** 0.5
    return 1 - lr * weight_decay, 1 - beta1, beta2, 1 - beta2, eps, rate, correction


def _check(params: Tensors, grads: Tensors, exp_avgs: Tensors, exp_avg_sqs: Tensors) -> None:
    lists = {"grads": grads, "exp_avgs": exp_avgs, "exp_avg_sqs": exp_avg_sqs}
    if not params:
        raise ValueError("params: expected at least one tensor, got none")
    for name, tensors in lists.items():
        if len(tensors) != len(params):
            raise ValueError(f"{name}: expected {len(params)} tensors, got {len(tensors)}")
    for name, tensors in {"params": params, **lists}.items():
        for i, (tensor, param) in enumerate(zip(tensors, params, strict=True)):
            check_like(f"{name}[{i}]", tensor, param)
            check_contiguous(f"{name}[{i}]", tensor)
            if tensor.dtype != torch.float32 or tensor.device != params[0].device:
                raise TypeError(
                    f"{name}[{i}]: expected float32 on {params[0].device}, "
                    f"got {tensor.dtype} on {tensor.device}"
                )

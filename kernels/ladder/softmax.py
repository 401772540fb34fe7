# mypy: allow-untyped-defs
"""Softmax over rows, out[i, j] = exp(x[i, j] − max x[i]) / Σ exp(x[i] − max x[i]).

The maximum is taken off first, or exp(89) would already overflow in fp32. It is not known before
the whole row has been read, and the sum not before that: three passes over the row, which the
versions below make into two and then into one. Everything is computed in fp32.

Source of v2: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv
1805.02867), algorithm 3.
"""

import torch
import triton
import triton.language as tl

from kernels.ladder.rung import Rung, check_float
from kernels.launch import launch

BLOCK = 1024  # columns a step, where a row is walked over
MAX_COLUMNS = 65536  # the widest row that is held at once
LOG2_E = tl.constexpr(1.4426950408889634)
TILE = 2048  # elements a program, where it holds several rows


@triton.jit
def three_passes(x_ptr, out_ptr, stride_x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * stride_x
    high = float("-inf")
    for start in range(0, n, BLOCK):
        high = tl.maximum(high, tl.max(_columns(x_row, start, n, BLOCK), 0))
    total = 0.0
    for start in range(0, n, BLOCK):
        total += tl.sum(tl.exp(_columns(x_row, start, n, BLOCK) - high), 0)
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        p = tl.exp(_columns(x_row, start, n, BLOCK) - high) / total
        tl.store(out_ptr + row * n + j, p, mask=j < n)


@triton.jit
def online(x_ptr, out_ptr, stride_x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x_row = x_ptr + row * stride_x
    high = float("-inf")
    total = 0.0
    for start in range(0, n, BLOCK):
        x = _columns(x_row, start, n, BLOCK)
        higher = tl.maximum(high, tl.max(x, 0))
        origin = tl.where(higher == float("-inf"), 0.0, higher)  # nothing yet: no inf - inf
        total = total * tl.exp(high - origin) + tl.sum(tl.exp(x - origin), 0)
        high = higher
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        p = tl.exp(_columns(x_row, start, n, BLOCK) - high) / total
        tl.store(out_ptr + row * n + j, p, mask=j < n)


@triton.jit
def whole_row(x_ptr, out_ptr, stride_x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    x = _columns(x_ptr + row * stride_x, 0, n, BLOCK)
    p = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + row * n + j, p / tl.sum(p, 0), mask=j < n)


@triton.jit
def whole_row_base2(x_ptr, out_ptr, stride_x, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    x = _columns(x_ptr + row * stride_x, 0, n, BLOCK)
    p = tl.exp2((x - tl.max(x, 0)) * LOG2_E)  # exp(s) = exp2(s · log2(e))
    tl.store(out_ptr + row * n + j, p * (1.0 / tl.sum(p, 0)), mask=j < n)


@triton.jit
def several_rows(x_ptr, out_ptr, stride_x, rows, n, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    j = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (j < n)
    x = tl.load(x_ptr + row * stride_x + j, mask=inside, other=float("-inf")).to(tl.float32)
    x = tl.where(row < rows, x, 0.0)  # a row that is not there: no inf - inf
    p = tl.exp2((x - tl.max(x, 1)[:, None]) * LOG2_E)
    tl.store(out_ptr + row * n + j, p * (1.0 / tl.sum(p, 1))[:, None], mask=inside)


@triton.jit
def _columns(x_row, start, n, BLOCK: tl.constexpr):
    """A block of a row in fp32; -inf beyond its end, where exp gives 0."""
    j = start + tl.arange(0, BLOCK)
    return tl.load(x_row + j, mask=j < n, other=float("-inf")).to(tl.float32)


def v1(x: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """softmax(x) over the columns. ``x: (R, C)``, fp32, fp16 or bf16; as ``torch.softmax(x, 1)``.

    The columns of a row lie next to each other; rows may have any stride. A row of nothing but
    -inf gives NaN, as in PyTorch. Every version takes and returns the same and raises
    ``TypeError`` or ``ValueError`` for a tensor that does not fit.
    """
    return _by_row(three_passes, x, block)


def v2(x: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """Maximum and sum in one pass: the sum is rescaled when the maximum rises."""
    return _by_row(online, x, block)


def v3(x: torch.Tensor) -> torch.Tensor:
    """The whole row in registers. At most 65,536 columns."""
    return _by_row(whole_row, x, _width(x))


def v4(x: torch.Tensor) -> torch.Tensor:
    """exp2 for exp, and one reciprocal a row instead of a division an element."""
    return _by_row(whole_row_base2, x, _width(x))


def v5(x: torch.Tensor) -> torch.Tensor:
    """Several short rows a program, reduced along the second axis of a tile."""
    out, width = _output(x), _width(x)
    rows = max(1, TILE // width)
    launch(
        several_rows,
        (triton.cdiv(x.shape[0], rows),),
        *(x, out, x.stride(0), *x.shape),
        ROWS=rows,
        BLOCK=width,
        num_warps=_warps(rows * width),
    )
    return out


RUNGS = [
    Rung("v1", v1, "as the formula says: maximum, sum, result, and the row is read three times"),
    Rung("v2", v2, "the sum is mended when the maximum rises: the row is read twice"),
    Rung("v3", v3, "the row stays in registers: read once, and no kernel can move less"),
    Rung("v4", v4, "exp2 is one instruction and exp more; one division a row, not one an element"),
    Rung("v5", v5, "several short rows a program: each thread has work, each program enough of it"),
]


def _by_row(kernel, x: torch.Tensor, block: int) -> torch.Tensor:
    """One program a row."""
    out = _output(x)
    rows, n = x.shape
    launch(kernel, (rows,), x, out, x.stride(0), n, BLOCK=block, num_warps=_warps(block))
    return out


def _warps(elements: int) -> int:
    """Warps for 8 to 16 elements a thread; at least one, at most 16."""
    return min(16, max(1, triton.next_power_of_2(elements) // 512))


def _width(x: torch.Tensor) -> int:
    _check(x)
    if x.shape[1] > MAX_COLUMNS:
        raise ValueError(f"x: expected at most {MAX_COLUMNS} columns, got {x.shape[1]}; use v2")
    return max(16, triton.next_power_of_2(x.shape[1]))


def _output(x: torch.Tensor) -> torch.Tensor:
    _check(x)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _check(x: torch.Tensor) -> None:
    check_float("x", x, 2)
    if x.shape[1] > 1 and x.stride(1) != 1:
        raise ValueError(f"x: expected columns next to each other, got strides {x.stride()}")

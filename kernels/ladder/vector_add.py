# mypy: allow-untyped-defs
"""Vector addition, out = x + y, from one element a program to a grid that fits the machine.

Every version moves the same bytes (two loads and a store for each element: 12 in fp32, the
least there is). What changes is how many of them one instruction carries.
"""

import torch
import triton
import triton.language as tl

from kernels.ladder.rung import Rung, check_contiguous, check_float, check_like
from kernels.launch import launch

BLOCK = 1024  # elements a program: 8 for each of 128 threads
PROGRAMS = 528  # four for each of the 132 multiprocessors of an H100


@triton.jit
def one_element(x_ptr, y_ptr, out_ptr):
    i = tl.program_id(0)
    tl.store(out_ptr + i, tl.load(x_ptr + i) + tl.load(y_ptr + i))


@triton.jit
def masked_block(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    _add(x_ptr, y_ptr, out_ptr, i, n, True)


@triton.jit
def full_or_tail(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    start = tl.program_id(0).to(tl.int64) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        _add(x_ptr, y_ptr, out_ptr, i, n, False)
    else:
        _add(x_ptr, y_ptr, out_ptr, i, n, True)


@triton.jit
def grid_stride(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64)
    full = n // BLOCK
    lanes = tl.arange(0, BLOCK)
    for block in range(first, full, tl.num_programs(0)):
        _add(x_ptr, y_ptr, out_ptr, block * BLOCK + lanes, n, False)
    if first == full % tl.num_programs(0):  # whose turn the tail would be
        _add(x_ptr, y_ptr, out_ptr, full * BLOCK + lanes, n, True)


@triton.jit
def _add(x_ptr, y_ptr, out_ptr, i, n, MASK: tl.constexpr):
    if MASK:
        x = tl.load(x_ptr + i, mask=i < n)
        y = tl.load(y_ptr + i, mask=i < n)
        tl.store(out_ptr + i, x + y, mask=i < n)
    else:
        tl.store(out_ptr + i, tl.load(x_ptr + i) + tl.load(y_ptr + i))


def v1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y for contiguous tensors of one shape, fp32, fp16 or bf16; as ``torch.add``.

    Every version below takes and returns the same and raises ``TypeError`` or ``ValueError`` for
    tensors that do not fit.
    """
    out = _output(x, y)
    launch(one_element, (x.numel(),), x, y, out, num_warps=1)
    return out


def v2(x: torch.Tensor, y: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """A masked block of elements a program."""
    out = _output(x, y)
    n = x.numel()
    launch(masked_block, (triton.cdiv(n, block),), x, y, out, n, BLOCK=block, num_warps=4)
    return out


def v3(x: torch.Tensor, y: torch.Tensor, *, block: int = BLOCK) -> torch.Tensor:
    """The mask only where a block sticks out."""
    out = _output(x, y)
    n = x.numel()
    launch(full_or_tail, (triton.cdiv(n, block),), x, y, out, n, BLOCK=block, num_warps=4)
    return out


def v4(
    x: torch.Tensor, y: torch.Tensor, *, block: int = BLOCK, programs: int = PROGRAMS
) -> torch.Tensor:
    """At most ``programs`` programs, each of which takes every so-manieth block."""
    out = _output(x, y)
    n = x.numel()
    grid = (min(programs, triton.cdiv(n, block)),)
    launch(grid_stride, grid, x, y, out, n, BLOCK=block, num_warps=4)
    return out


RUNGS = [
    Rung("v1", v1, "the loop is gone: one element a program, but 31 of 32 threads only repeat it"),
    Rung("v2", v2, "a block a program: every thread has elements, and a mask ends the last block"),
    Rung("v3", v3, "no mask on full blocks: 128 bits a load even when n is not divisible by 16"),
    Rung("v4", v4, "as many programs as the GPU holds at once: each loops, and none has to start"),
]


def _output(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    check_float("x", x)
    check_like("y", y, x)
    check_contiguous("x", x)
    check_contiguous("y", y)
    return torch.empty_like(x)

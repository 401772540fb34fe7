# mypy: allow-untyped-defs
"""Where a program works: which tile of which head and sequence, and which tiles it walks over."""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

MAX_BLOCK = 256  # rows or columns of the largest tile


class View(NamedTuple):
    """A tensor of shape (batch, heads, rows, columns) as a kernel gets it."""

    ptr: torch.Tensor
    batch: int  # strides, in elements
    head: int
    row: int
    column: int
    wide: bool | None  # not None: offsets within one tile need 64 bits


class Packed(NamedTuple):
    """Sequences laid end to end along the length: sequence s is rows cu[s] to cu[s + 1] − 1."""

    cu_q: torch.Tensor  # int32 (S + 1,)
    cu_k: torch.Tensor
    first_tile: torch.Tensor  # int32 (S + 1,): the first tile of each sequence, and their number
    sequences: int  # S


class Place(NamedTuple):
    """What the indices of a score mean: query i and key j of one sequence of one head."""

    b: int
    h: int
    q0: int  # where the sequence's queries and keys begin
    k0: int
    M: int  # and their numbers
    N: int
    left: int  # query i sees key j when -left <= j - (i + N - M) <= right
    right: int


def view(tensor: torch.Tensor) -> View:
    """The tensor with its strides."""
    batch, head, row, column = tensor.stride()
    within = (MAX_BLOCK - 1) * (row + column)
    return View(tensor, batch, head, row, column, wide=True if within >= 2**31 else None)


@triton.jit
def tiles_of(length, packed, BLOCK: tl.constexpr):
    """The most tiles that the rows of all sequences can need: each may end in a broken one."""
    tiles = tl.cdiv(length, BLOCK)
    if packed is not None:
        tiles += packed.sequences - 1
    return tiles


@triton.jit
def locate(tile, packed, M, N):
    """The tile within its sequence, where the sequence's queries and keys begin, and how many
    there are. A grid for packed sequences may have a few tiles too many: those get none."""
    q0 = 0
    k0 = 0
    if packed is not None:
        low = tile * 0  # the sequence is found by bisection
        high = low + packed.sequences
        while high - low > 1:
            middle = (low + high) // 2
            reached = tl.load(packed.first_tile + middle) <= tile
            low = tl.where(reached, middle, low)
            high = tl.where(reached, high, middle)
        exists = tile < tl.load(packed.first_tile + packed.sequences)
        q0 = tl.load(packed.cu_q + low)
        k0 = tl.load(packed.cu_k + low)
        M = tl.where(exists, tl.load(packed.cu_q + low + 1) - q0, 0)
        N = tl.where(exists, tl.load(packed.cu_k + low + 1) - k0, 0)
        tile -= tl.load(packed.first_tile + low)
    return tile, q0, k0, M, N


@triton.jit
def reach(first, end, shift, left, right, length, FULL: tl.constexpr, BLOCK: tl.constexpr):
    """Which tiles of the other side the positions first ... end − 1 see.

    Position p sees p + shift − left ... p + shift + right, as far as there are such. Returns the
    tiles [low, high) that at least one of the positions sees and, among them, [full_low,
    full_high), of which every position sees all (none unless FULL).
    """
    low = tl.maximum(first + shift - left, 0) // BLOCK
    high = tl.cdiv(_within(end + shift + right, length), BLOCK)
    high = tl.maximum(high, low)
    full_low = low
    full_high = low
    if FULL:
        full_low = tl.cdiv(tl.maximum(end - 1 + shift - left, 0), BLOCK)
        full_low = tl.minimum(tl.maximum(full_low, low), high)
        full_high = _within(first + 1 + shift + right, length) // BLOCK
        full_high = tl.maximum(full_high, full_low)
    return low, full_low, full_high, high


@triton.jit
def _within(position, length):
    return tl.minimum(tl.maximum(position, 0), length)


@triton.jit
def edge_tile(n, low, full_low, full_high):
    """The n-th of the tiles that need a mask: those before the full ones, then those behind."""
    before = full_low - low
    return tl.where(n < before, low + n, full_high + n - before)


@triton.jit
def row_of(x, b, h, row):
    """Address of a row: 64-bit, because an offset may pass 2**31 elements."""
    return x.ptr + b * x.batch + h * x.head + row.to(tl.int64) * x.row


@triton.jit
def tile_at(here, x, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr):
    """Addresses of the BLOCK rows from ``here`` on. What is added to ``here`` is the same for
    every tile, and 32 bits of it save a register and an addition for each pointer."""
    rows = tl.arange(0, BLOCK)[:, None]
    columns = tl.arange(0, BLOCK_D)[None, :]
    if x.wide is not None:
        rows, columns = rows.to(tl.int64), columns.to(tl.int64)
    return here + (rows * x.row + columns * x.column)


@triton.jit
def load_tile(here, x, inside, D: tl.constexpr, BLOCK_D: tl.constexpr, MASK: tl.constexpr):
    """The tile from row address ``here`` on; zeros in the rows that are not ``inside`` (which are
    looked at only if MASK) and in the columns beyond ``D``."""
    at = tile_at(here, x, inside.shape[0], BLOCK_D)
    return load_masked(at, inside, D, BLOCK_D, MASK)


@triton.jit
def load_masked(at, inside, D: tl.constexpr, BLOCK_D: tl.constexpr, MASK: tl.constexpr):
    """What stands at the addresses ``at``, with the zeros of :func:`load_tile`. A mask that is not
    needed would cost vector loads: there is one only where something can lie outside."""
    d = tl.arange(0, BLOCK_D)
    if MASK and D != BLOCK_D:
        return tl.load(at, mask=inside[:, None] & (d < D)[None, :], other=0.0)
    if MASK:
        return tl.load(at, mask=inside[:, None], other=0.0)
    if D != BLOCK_D:
        return tl.load(at, mask=(d < D)[None, :], other=0.0)
    return tl.load(at)


@triton.jit
def store_tile(here, x, inside, values, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store the rows that are ``inside`` and the columns before ``D``, in the tensor's dtype."""
    mask = inside[:, None] & (tl.arange(0, BLOCK_D) < D)[None, :]
    at = tile_at(here, x, inside.shape[0], BLOCK_D)
    tl.store(at, values.to(x.ptr.dtype.element_ty), mask=mask)

# mypy: allow-untyped-defs
"""The global norm of the gradients: one reading of them, in one launch, always the same bits.

At most ``PARTS`` programs each go through every PARTS-th piece and leave a sum of squares and a
number of inf and NaN; ``_prepare`` adds those up in the order of the programs. No atomics, and the
number of parts does not depend on the GPU: the same gradients give the same norm everywhere.
"""

import triton
import triton.language as tl

from kernels.adamw.kernel import (
    COLUMNS,
    GRAD,
    KIND,
    LENGTH,
    WIDE,
    _stored,
)

PARTS = 1024


@triton.jit
def _partial_norms(
    table,  # int64 (tensors, COLUMNS)
    pieces,  # int32 (count, 2)
    partials,  # fp64 (programs, 2), written: sum of squares; number of inf and NaN
    count,
    KINDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    total = tl.full((), 0.0, tl.float64)
    bad = tl.full((), 0.0, tl.float64)
    for index in range(tl.program_id(0), count, tl.num_programs(0)):
        piece = pieces + 2 * index
        row = table + COLUMNS * tl.load(piece).to(tl.int64)
        start = tl.load(piece + 1).to(tl.int64) * BLOCK
        weight = tl.load(row + KIND) % 4
        wide = start + BLOCK <= tl.load(row + WIDE)
        for W in tl.static_range(4):
            if ((KINDS >> W) | (KINDS >> (W + 4))) % 2 == 1:  # noqa: SIM102
                if weight == W:
                    if wide:
                        squares, unsound = _sum(row, start, W, False, BLOCK)
                    else:
                        squares, unsound = _sum(row, start, W, True, BLOCK)
                    total += squares
                    bad += unsound
    tl.store(partials + 2 * tl.program_id(0), total)
    tl.store(partials + 2 * tl.program_id(0) + 1, bad)


@triton.jit
def _sum(row, start, WEIGHT: tl.constexpr, MASK: tl.constexpr, BLOCK: tl.constexpr):
    """Of one piece of a gradient: its sum of squares and its number of inf and NaN."""
    i = start + tl.arange(0, BLOCK)
    pointer = _stored(row + GRAD, WEIGHT, MASK) + i
    if MASK:
        g = tl.load(pointer, mask=i < tl.load(row + LENGTH), other=0.0).to(tl.float32)
    else:
        g = tl.load(pointer).to(tl.float32)
    unsound = (g - g != 0.0).to(tl.int32)  # inf - inf and NaN - NaN are NaN
    return tl.sum(g * g).to(tl.float64), tl.sum(unsound).to(tl.float64)

# mypy: allow-untyped-defs
"""The gradient of the additive bias: dS itself, summed over what the bias was broadcast over.

A bias of one head and one sequence that serves a whole batch, as T5's, gets a small gradient from
B·H large matrices. Each program owns BLOCK_M rows of the bias and, tile by tile, adds up dS over
the batches and heads that share it, so that the large matrices never exist and the order of the
sum is always the same.
"""

import triton
import triton.language as tl

from kernels.flash_attention.backward import row_state
from kernels.flash_attention.scores import logit_gradient, weights
from kernels.flash_attention.tiles import (
    Place,
    edge_tile,
    load_tile,
    locate,
    reach,
    row_of,
    tile_at,
    tiles_of,
)


@triton.jit(
    do_not_specialize=[
        "scale",
        "M",
        "N",
        "H",
        "GROUP",
        "left",
        "right",
        "heads",
        "batches",
    ]
)
def _dbias(
    q,  # View (B, H, M, D), like dout
    k,  # View (B, H_kv, N, D), like v
    v,
    dout,
    dbias,  # View (B or 1, H or 1, M, N), fp32, zero where no query sees a key
    lse_ptr,  # (B, H, M) in base 2
    delta_ptr,  # (B, H, M)
    x,
    packed,
    scale,  # softmax scale times log2(e)
    heads,  # query heads that share one matrix of the bias: 1 or H
    batches,  # batches that do: 1 or B
    M,
    N,
    H,
    GROUP,
    left,
    right,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    matrices = H // heads  # of the bias, in one batch
    tiles = tiles_of(M, packed, BLOCK_M)
    h0 = tl.program_id(0) // tiles % matrices
    b0 = tl.program_id(0) // tiles // matrices
    rows_of_head = M
    tile, q0, k0, M, N = locate(tl.program_id(0) % tiles, packed, M, N)
    first = tile * BLOCK_M
    FULL: tl.constexpr = x.key_mask is None
    low, full_low, full_high, end = reach(
        first, tl.minimum(first + BLOCK_M, M), N - M, left, right, N, FULL, BLOCK_N
    )
    at = Place(b0.to(tl.int64), h0.to(tl.int64), q0, k0, M, N, left, right)
    for n in range(full_low, full_high):
        _tile(
            q, k, v, dout, dbias, lse_ptr, delta_ptr, x, at, first, n * BLOCK_N, scale,
            heads, batches, rows_of_head, H, GROUP, D, BLOCK_M, BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
    for n in range(full_low - low + end - full_high):
        start = edge_tile(n, low, full_low, full_high) * BLOCK_N
        _tile(
            q, k, v, dout, dbias, lse_ptr, delta_ptr, x, at, first, start, scale,
            heads, batches, rows_of_head, H, GROUP, D, BLOCK_M, BLOCK_N, BLOCK_D, True,
        )  # fmt: skip


@triton.jit
def _tile(
    q,
    k,
    v,
    dout,
    dbias,
    lse_ptr,
    delta_ptr,
    x,
    at,  # of the first batch and head that share the bias
    first,
    start,
    scale,
    heads,
    batches,
    rows_of_head,
    H,
    GROUP,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    """One tile of the bias: dS of every batch and head, one after the other."""
    rows = first + tl.arange(0, BLOCK_M)
    keys = start + tl.arange(0, BLOCK_N)
    inside = rows < at.M
    i, j = rows[:, None], keys[None, :]
    total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for copy in range(heads * batches):
        b, h = at.b + copy // heads, at.h + copy % heads
        mine = Place(b, h, at.q0, at.k0, at.M, at.N, at.left, at.right)
        here, there = at.q0 + first, at.k0 + start
        q_tile = load_tile(row_of(q, b, h, here), q, inside, D, BLOCK_D, True)
        k_tile = load_tile(row_of(k, b, h // GROUP, there), k, keys < at.N, D, BLOCK_D, MASK)
        lse_row = (b * H + h) * rows_of_head + at.q0 + rows
        lse, delta = row_state(lse_ptr, delta_ptr, lse_row, inside, True)
        s = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
        p = weights(s, i, j, lse[:, None], scale, mine, x, MASK, False)
        v_tile = load_tile(row_of(v, b, h // GROUP, there), v, keys < at.N, D, BLOCK_D, MASK)
        do = load_tile(row_of(dout, b, h, here), dout, inside, D, BLOCK_D, True)
        dp = tl.dot(do, tl.trans(v_tile), input_precision="ieee")
        ds, _met = logit_gradient(p, dp, rows, keys, start, delta[:, None], mine, x, False)
        total += ds
    place = row_of(dbias, at.b, at.h, at.q0 + first)
    place += (at.k0 + start).to(tl.int64) * dbias.column
    mask = inside[:, None] & (keys < at.N)[None, :]
    tl.store(tile_at(place, dbias, BLOCK_M, BLOCK_N), total, mask=mask)

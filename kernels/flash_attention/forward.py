# mypy: allow-untyped-defs
"""Attention, forward: softmax(q·kᵀ · scale) · v without ever storing the scores.

Each program owns BLOCK_M queries of one head and walks over the keys in tiles of BLOCK_N. It
keeps, per query, the highest score so far (``high``), the sum of exponentials (``total``) and the
weighted sum of values (``acc``); when a tile brings a higher score, sum and values are rescaled
to it (the online softmax). The order of the tiles does not matter, so those that every query sees
whole come first, without a mask, and the edges of the band after them.

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867);
Dao et al., "FlashAttention" (arXiv 2205.14135), algorithm 1; Dao, "FlashAttention-2" (arXiv
2307.08691), section 3.1. Sinks: "gpt-oss model card" (arXiv 2508.10925), section 2.
"""

import triton
import triton.language as tl

from kernels.flash_attention.scores import LOG2_E, kept
from kernels.flash_attention.softmax import online_softmax
from kernels.flash_attention.tiles import (
    Place,
    edge_tile,
    load_tile,
    locate,
    reach,
    row_of,
    store_tile,
    tiles_of,
)


@triton.jit(do_not_specialize=["scale", "M", "N", "H", "GROUP", "left", "right"])
def _forward(
    q,  # View (B, H, M, D)
    k,  # View (B, H_kv, N, D)
    v,
    out,
    lse_ptr,  # (B, H, M) in base 2
    sinks,  # (H,) or None
    x,  # Options
    packed,  # Packed or None
    scale,  # softmax scale times log2(e), not negative
    M,
    N,
    H,
    GROUP,  # query heads that share one key head
    left,
    right,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NEGATE: tl.constexpr,
):
    tiles = tiles_of(M, packed, BLOCK_M)
    head = tl.program_id(0) // tiles  # counts over batch and heads
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    lse_row = head.to(tl.int64) * M
    # The last tiles have the most keys to walk over when the mask is causal: they start first.
    tile, q0, k0, M, N = locate(tiles - 1 - tl.program_id(0) % tiles, packed, M, N)
    at = Place(b, h, q0, k0, M, N, left, right)
    kv_h = h // GROUP
    first = tile * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    q_tile = load_tile(row_of(q, b, h, q0 + first), q, rows < M, D, BLOCK_D, True)
    if NEGATE:
        q_tile = -q_tile  # (BLOCK_M, BLOCK_D)

    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    if sinks is not None:  # one more score in every sum, whose value is zero
        sink = tl.load(sinks + h).to(tl.float32) * LOG2_E
        high = tl.full([BLOCK_M], 0.0, tl.float32) + sink
        total += 1.0

    FULL: tl.constexpr = x.key_mask is None
    low, full_low, full_high, end = reach(
        first, tl.minimum(first + BLOCK_M, M), N - M, left, right, N, FULL, BLOCK_N
    )
    k_here = row_of(k, b, kv_h, k0 + full_low * BLOCK_N)
    v_here = row_of(v, b, kv_h, k0 + full_low * BLOCK_N)
    k_step = tl.cast(k.row, tl.int64) * BLOCK_N
    v_step = tl.cast(v.row, tl.int64) * BLOCK_N
    for n in range(full_low, full_high):
        high, total, acc = _step(
            high, total, acc, q_tile, k_here, v_here, rows, n * BLOCK_N, scale, k, v, at, x,
            D, BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
        k_here += k_step
        v_here += v_step
    for n in range(full_low - low + end - full_high):
        start = edge_tile(n, low, full_low, full_high) * BLOCK_N
        k_here = row_of(k, b, kv_h, k0 + start)
        v_here = row_of(v, b, kv_h, k0 + start)
        high, total, acc = _step(
            high, total, acc, q_tile, k_here, v_here, rows, start, scale, k, v, at, x,
            D, BLOCK_N, BLOCK_D, True,
        )  # fmt: skip

    # A query that sees no key has total = 0 and acc = 0: its output is zero, its LSE -inf.
    factor = 1.0 / tl.where(total == 0.0, 1.0, total)
    if x.rescale is not None:
        factor *= x.rescale
    out_tile = acc * factor[:, None]
    store_tile(row_of(out, b, h, q0 + first), out, rows < M, out_tile, D, BLOCK_D)
    tl.store(lse_ptr + lse_row + q0 + rows, high + tl.log2(total), mask=rows < M)


@triton.jit
def _step(
    high,
    total,
    acc,
    q,  # (BLOCK_M, BLOCK_D)
    k_here,  # addresses of the first row of the tile
    v_here,
    rows,
    start,
    scale,
    k_view,
    v_view,
    at,
    x,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    """One tile of keys: scores, new maximum, rescale, accumulate."""
    keys = start + tl.arange(0, BLOCK_N)
    inside = keys < at.N
    k = load_tile(k_here, k_view, inside, D, BLOCK_D, MASK)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # (BLOCK_M, BLOCK_N)
    high, total, rescale, p = online_softmax(high, total, s, rows, keys, scale, at, x, MASK)
    if x.seed is not None:
        p = tl.where(kept(rows, keys, start, at, x, False), p, 0.0)
    v = load_tile(v_here, v_view, inside, D, BLOCK_D, MASK)
    acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
    return high, total, acc

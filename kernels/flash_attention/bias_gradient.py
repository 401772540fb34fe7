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
from kernels.flash_attention.tiles import Place, load_tile, locate, reach, row_of, tile_at, tiles_of


@triton.jit(
    do_not_specialize=[
        "scale",
        "M",
        "N",
        "H",
        "GROUP",
        "left",
        "right",
        "tiles",
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
    rows = first + tl.arange(0, BLOCK_M)
    inside = rows < M
    low, _full_low, _full_high, end = reach(
        first, tl.minimum(first + BLOCK_M, M), N - M, left, right, N, False, BLOCK_N
    )
    for n in range(low, end):
        start = n * BLOCK_N
        keys = start + tl.arange(0, BLOCK_N)
        i, j = rows[:, None], keys[None, :]
        total = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for copy in range(heads * batches):
            b = (b0 + copy // heads).to(tl.int64)
            h = (h0 + copy % heads).to(tl.int64)
            at = Place(b, h, q0, k0, M, N, left, right)
            q_tile = load_tile(row_of(q, b, h, q0 + first), q, inside, D, BLOCK_D, True)
            k_tile = load_tile(row_of(k, b, h // GROUP, k0 + start), k, keys < N, D, BLOCK_D, True)
            lse_row = (b * H + h) * rows_of_head + q0 + rows
            lse, delta = row_state(lse_ptr, delta_ptr, lse_row, inside, True)
            s = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee")
            p = weights(s, i, j, lse[:, None], scale, at, x, True)
            v_tile = load_tile(row_of(v, b, h // GROUP, k0 + start), v, keys < N, D, BLOCK_D, True)
            do = load_tile(row_of(dout, b, h, q0 + first), dout, inside, D, BLOCK_D, True)
            dp = tl.dot(do, tl.trans(v_tile), input_precision="ieee")
            ds, _met = logit_gradient(p, dp, rows, keys, start, delta[:, None], at, x, False)
            total += ds
        here = row_of(dbias, b0.to(tl.int64), h0.to(tl.int64), q0 + first)
        here += (k0 + start).to(tl.int64) * dbias.column
        mask = inside[:, None] & (keys < N)[None, :]
        tl.store(tile_at(here, dbias, BLOCK_M, BLOCK_N), total, mask=mask)

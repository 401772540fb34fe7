# mypy: allow-untyped-defs
"""Attention, backward: the gradients of q, k and v, with the weights computed again, not stored.

With P = exp2(S − LSE) and dP = dO·Vᵀ the gradients are

    delta = Σ_d dO · O − dLSE        dS = P ∘ (dP − delta)
    dQ = scale · dS·K                dK = scale · dSᵀ·Q              dV = Pᵀ·dO

Three kernels, so that each program owns what it writes: no atomics, hence the same bits every
time. ``_delta`` takes one row after the other. ``_dq`` owns queries and walks over keys, like the
forward pass. ``_dkv`` owns keys and walks over the queries of every head that shares them, with the
scores transposed, so that P and dS come out as the left operands of the products that they enter.

Sources: FlashAttention (arXiv 2205.14135), algorithm 4; FlashAttention-2 (arXiv 2307.08691),
algorithm 2. A query that sees no key has LSE = −∞, which is read as +∞: its weights are zero.
"""

import triton
import triton.language as tl

from kernels.flash_attention.scores import LOG2_E, logit_gradient, softcap_gradient, weights
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


@triton.jit(do_not_specialize=["M", "H"])
def _delta(
    out,  # View (B, H, M, D), like dout
    dout,
    dlse_ptr,  # (B, H, M), the gradient of the LSE in base 2, or None
    delta_ptr,  # (B, H, M)
    M,
    H,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles = tl.cdiv(M, BLOCK_M)
    head = (tl.program_id(0) // tiles).to(tl.int64)
    first = tl.program_id(0) % tiles * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    inside = rows < M
    o = load_tile(row_of(out, head // H, head % H, first), out, inside, D, BLOCK_D, True)
    do = load_tile(row_of(dout, head // H, head % H, first), dout, inside, D, BLOCK_D, True)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    if dlse_ptr is not None:
        delta -= tl.load(dlse_ptr + head * M + rows, mask=inside, other=0.0) * LOG2_E
    tl.store(delta_ptr + head * M + rows, delta, mask=inside)


@triton.jit
def row_state(lse_ptr, delta_ptr, rows, inside, MASK: tl.constexpr):
    """LSE and delta of the queries. Under a mask a query may have seen nothing: LSE = −∞."""
    if not MASK:
        return tl.load(lse_ptr + rows), tl.load(delta_ptr + rows)
    lse = tl.load(lse_ptr + rows, mask=inside, other=float("inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse)
    return lse, tl.load(delta_ptr + rows, mask=inside, other=0.0)


@triton.jit(do_not_specialize=["scale", "softmax_scale", "M", "N", "H", "GROUP", "left", "right"])
def _dq(
    q,  # View (B, H, M, D), like dout and dq
    k,  # View (B, H_kv, N, D), like v
    v,
    dout,
    dq,
    lse_ptr,  # (B, H, M) in base 2
    delta_ptr,  # (B, H, M)
    x,
    packed,
    scale,  # softmax scale times log2(e)
    softmax_scale,
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
    tiles = tiles_of(M, packed, BLOCK_M)
    head = tl.program_id(0) // tiles
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    first_row = head.to(tl.int64) * M
    tile, q0, k0, M, N = locate(tiles - 1 - tl.program_id(0) % tiles, packed, M, N)
    at = Place(b, h, q0, k0, M, N, left, right)
    kv_h = h // GROUP
    first = tile * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    inside = rows < M
    q_tile = load_tile(row_of(q, b, h, q0 + first), q, inside, D, BLOCK_D, True)
    do_tile = load_tile(row_of(dout, b, h, q0 + first), dout, inside, D, BLOCK_D, True)
    lse, delta = row_state(lse_ptr, delta_ptr, first_row + q0 + rows, inside, True)

    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    FULL: tl.constexpr = x.key_mask is None
    low, full_low, full_high, end = reach(
        first, tl.minimum(first + BLOCK_M, M), N - M, left, right, N, FULL, BLOCK_N
    )
    k_here = row_of(k, b, kv_h, k0 + full_low * BLOCK_N)
    v_here = row_of(v, b, kv_h, k0 + full_low * BLOCK_N)
    k_step = tl.cast(k.row, tl.int64) * BLOCK_N
    v_step = tl.cast(v.row, tl.int64) * BLOCK_N
    for n in range(full_low, full_high):
        acc = _dq_step(
            acc, q_tile, do_tile, lse, delta, k_here, v_here, rows, n * BLOCK_N, scale, k, v, at, x,
            D, BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
        k_here += k_step
        v_here += v_step
    for n in range(full_low - low + end - full_high):
        start = edge_tile(n, low, full_low, full_high) * BLOCK_N
        k_here = row_of(k, b, kv_h, k0 + start)
        v_here = row_of(v, b, kv_h, k0 + start)
        acc = _dq_step(
            acc, q_tile, do_tile, lse, delta, k_here, v_here, rows, start, scale, k, v, at, x,
            D, BLOCK_N, BLOCK_D, True,
        )  # fmt: skip
    store_tile(row_of(dq, b, h, q0 + first), dq, inside, acc * softmax_scale, D, BLOCK_D)


@triton.jit
def _dq_step(
    acc,
    q,  # (BLOCK_M, BLOCK_D), like do
    do,
    lse,
    delta,
    k_here,
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
    """What one tile of keys adds to dQ."""
    keys = start + tl.arange(0, BLOCK_N)
    inside = keys < at.N
    i, j = rows[:, None], keys[None, :]
    k = load_tile(k_here, k_view, inside, D, BLOCK_D, MASK)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # (BLOCK_M, BLOCK_N)
    p = weights(s, i, j, lse[:, None], scale, at, x, MASK, False)
    v = load_tile(v_here, v_view, inside, D, BLOCK_D, MASK)
    dp = tl.dot(do, tl.trans(v), input_precision="ieee")
    ds, _met = logit_gradient(p, dp, rows, keys, start, delta[:, None], at, x, False)
    ds = softcap_gradient(ds, s, scale, x)
    return tl.dot(ds.to(k.dtype), k, acc, input_precision="ieee")


@triton.jit(do_not_specialize=["scale", "softmax_scale", "M", "N", "H", "GROUP", "left", "right"])
def _dkv(
    q,  # View (B, H, M, D), like dout
    k,  # View (B, H_kv, N, D), like v, dk and dv
    v,
    dout,
    dk,
    dv,
    lse_ptr,  # (B, H, M) in base 2
    delta_ptr,  # (B, H, M)
    x,
    packed,
    scale,  # softmax scale times log2(e)
    softmax_scale,
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
    kv_heads = H // GROUP
    tiles = tiles_of(N, packed, BLOCK_N)
    head = tl.program_id(0) // tiles
    b = (head // kv_heads).to(tl.int64)
    kv_h = (head % kv_heads).to(tl.int64)
    rows_of_head = M
    tile, q0, k0, M, N = locate(tl.program_id(0) % tiles, packed, M, N)
    first = tile * BLOCK_N
    keys = first + tl.arange(0, BLOCK_N)
    inside = keys < N
    k_tile = load_tile(row_of(k, b, kv_h, k0 + first), k, inside, D, BLOCK_D, True)
    v_tile = load_tile(row_of(v, b, kv_h, k0 + first), v, inside, D, BLOCK_D, True)

    dk_acc = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv_acc = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    FULL: tl.constexpr = x.key_mask is None
    # Key j is seen by the queries j - (N - M) - right ... j - (N - M) + left.
    low, full_low, full_high, end = reach(
        first, tl.minimum(first + BLOCK_N, N), M - N, right, left, M, FULL, BLOCK_M
    )
    q_step = tl.cast(q.row, tl.int64) * BLOCK_M
    do_step = tl.cast(dout.row, tl.int64) * BLOCK_M
    for g in range(GROUP):
        h = kv_h * GROUP + g
        at = Place(b, h, q0, k0, M, N, left, right)
        first_row = (b * H + h) * rows_of_head + q0
        lse_here = lse_ptr + first_row
        delta_here = delta_ptr + first_row
        q_here = row_of(q, b, h, q0 + full_low * BLOCK_M)
        do_here = row_of(dout, b, h, q0 + full_low * BLOCK_M)
        for n in range(full_low, full_high):
            dk_acc, dv_acc = _dkv_step(
                dk_acc, dv_acc, k_tile, v_tile, q_here, do_here, lse_here, delta_here, first, keys,
                n * BLOCK_M, scale, q, dout, at, x, D, BLOCK_M, BLOCK_D, False,
            )  # fmt: skip
            q_here += q_step
            do_here += do_step
        for n in range(full_low - low + end - full_high):
            start = edge_tile(n, low, full_low, full_high) * BLOCK_M
            q_here = row_of(q, b, h, q0 + start)
            do_here = row_of(dout, b, h, q0 + start)
            dk_acc, dv_acc = _dkv_step(
                dk_acc, dv_acc, k_tile, v_tile, q_here, do_here, lse_here, delta_here, first, keys,
                start, scale, q, dout, at, x, D, BLOCK_M, BLOCK_D, True,
            )  # fmt: skip
    store_tile(row_of(dk, b, kv_h, k0 + first), dk, inside, dk_acc * softmax_scale, D, BLOCK_D)
    store_tile(row_of(dv, b, kv_h, k0 + first), dv, inside, dv_acc, D, BLOCK_D)


@triton.jit
def _dkv_step(
    dk,
    dv,
    k,  # (BLOCK_N, BLOCK_D), like v
    v,
    q_here,
    do_here,
    lse_here,
    delta_here,
    first_key,
    keys,
    start,
    scale,
    q_view,
    do_view,
    at,
    x,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    """What one tile of queries adds to dK and dV; scores are (BLOCK_N, BLOCK_M) here."""
    rows = start + tl.arange(0, BLOCK_M)
    inside = rows < at.M
    i, j = rows[None, :], keys[:, None]
    q = load_tile(q_here, q_view, inside, D, BLOCK_D, MASK)
    lse, delta = row_state(lse_here, delta_here, rows, inside, MASK or x.bias is not None)
    s = tl.dot(k, tl.trans(q), input_precision="ieee")
    p = weights(s, i, j, lse[None, :], scale, at, x, MASK, True)
    do = load_tile(do_here, do_view, inside, D, BLOCK_D, MASK)
    dp = tl.dot(v, tl.trans(do), input_precision="ieee")
    ds, met = logit_gradient(p, dp, rows, keys, first_key, delta[None, :], at, x, True)
    ds = softcap_gradient(ds, s, scale, x)
    dv = tl.dot(met.to(do.dtype), do, dv, input_precision="ieee")
    dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv

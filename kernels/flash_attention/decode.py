# mypy: allow-untyped-defs
"""Attention of a few queries over a long cache: the keys are split among programs (flash-decoding).

While a model generates, one query meets thousands of keys. A program a head would leave most of a
GPU idle, so each program takes one *share* of the keys of one key head, with the queries that read
it as the rows of one tile (so that up to 16 query heads read the cache once). Each share
gives an output of its own and its LSE; a second kernel weighs them:

    out = Σ_s exp2(lse_s − lse) · out_s        lse = log₂ Σ_s exp2(lse_s)

The cache is contiguous, or paged: key j of sequence b is row j mod PAGE of page table[b, j / PAGE].

Sources: Dao et al., "Flash-Decoding for long-context inference" (2023); paged caches, Kwon et al.
(arXiv 2309.06180).
"""

import torch
import triton
import triton.language as tl

from kernels.flash_attention.call import Problem
from kernels.flash_attention.layouts import block_d, layout_for
from kernels.flash_attention.scores import LOG2_E
from kernels.flash_attention.softmax import online_softmax
from kernels.flash_attention.tiles import Place, edge_tile, load_masked, reach, view
from kernels.launch import launch


@triton.jit(
    do_not_specialize=["scale", "M", "capacity", "H", "GROUP", "left", "right", "tiles_a_share"]
)
def _decode_share(
    q,  # View (B, H, M, D)
    k,  # View (B, H_kv, N, D) or, paged, (pages, H_kv, PAGE, D)
    v,
    out_ptr,  # fp32 (shares, B, H, M, D)
    lse_ptr,  # fp32 (shares, B, H, M), base 2
    lengths,  # int32 (B,), or None: every sequence has `capacity` keys
    table,  # int32 (B, pages a sequence), or None
    sinks,
    x,
    scale,  # softmax scale times log2(e), not negative
    M,
    capacity,  # keys that a sequence has room for
    H,
    GROUP,
    left,
    right,
    tiles_a_share,
    PAGE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_R: tl.constexpr,  # of the GROUP x M rows
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    NEGATE: tl.constexpr,
):
    tiles_of_rows = tl.cdiv(GROUP * M, BLOCK_R)
    kv_heads = H // GROUP
    first = tl.program_id(0) % tiles_of_rows * BLOCK_R
    head = tl.program_id(0) // tiles_of_rows  # counts over batch and key heads
    b = (head // kv_heads).to(tl.int64)
    kv_h = (head % kv_heads).to(tl.int64)
    share = tl.program_id(1)
    N = capacity
    if lengths is not None:
        N = tl.minimum(tl.load(lengths + b), capacity)

    # Row r is query r mod M of the head r / M of this group.
    r = first + tl.arange(0, BLOCK_R)
    inside = r < GROUP * M
    i = r % M
    h = kv_h * GROUP + tl.minimum(r // M, GROUP - 1)
    d = tl.arange(0, BLOCK_D)
    columns = d
    if q.wide is not None:
        columns = d.to(tl.int64)
    at = Place(b, h[:, None], 0, 0, M, N, left, right)
    q_rows = q.ptr + b * q.batch + h * q.head + i.to(tl.int64) * q.row
    q_tile = tl.load(
        q_rows[:, None] + columns[None, :] * q.column,
        mask=inside[:, None] & (d < D)[None, :],
        other=0.0,
    )  # (BLOCK_R, BLOCK_D)
    if NEGATE:
        q_tile = -q_tile

    high = tl.full([BLOCK_R], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_R], tl.float32)
    acc = tl.zeros([BLOCK_R, BLOCK_D], tl.float32)
    if sinks is not None:  # in one share only
        sink = tl.load(sinks + h).to(tl.float32) * LOG2_E
        high = tl.where(share == 0, sink, high)
        total += tl.where(share == 0, 1.0, 0.0)

    low, full_low, full_high, end = reach(0, M, N - M, left, right, N, True, BLOCK_N)
    mine = share * tiles_a_share
    low = tl.minimum(tl.maximum(low, mine), mine + tiles_a_share)
    end = tl.minimum(tl.maximum(end, low), mine + tiles_a_share)
    full_low = tl.minimum(tl.maximum(full_low, low), end)
    full_high = tl.minimum(tl.maximum(full_high, full_low), end)
    k_head = k.ptr + kv_h * k.head
    v_head = v.ptr + kv_h * v.head
    for n in range(full_low, full_high):
        high, total, acc = _step(
            high, total, acc, q_tile, k_head, v_head, i, n * BLOCK_N, scale, k, v, table,
            capacity, at, x, PAGE, D, BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
    for n in range(full_low - low + end - full_high):
        start = edge_tile(n, low, full_low, full_high) * BLOCK_N
        high, total, acc = _step(
            high, total, acc, q_tile, k_head, v_head, i, start, scale, k, v, table,
            capacity, at, x, PAGE, D, BLOCK_N, BLOCK_D, True,
        )  # fmt: skip

    batches = tl.num_programs(0) // (tiles_of_rows * kv_heads)
    row = ((share * batches + b) * H + h) * M + i
    acc *= (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]
    out_mask = inside[:, None] & (d < D)[None, :]
    tl.store(out_ptr + row[:, None] * D + d[None, :], acc, mask=out_mask)
    tl.store(lse_ptr + row, high + tl.log2(total), mask=inside)


@triton.jit
def _step(
    high,
    total,
    acc,
    q,  # (BLOCK_R, BLOCK_D)
    k_head,
    v_head,
    i,
    start,
    scale,
    k_view,
    v_view,
    table,
    capacity,
    at,
    x,
    PAGE: tl.constexpr,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    """One tile of keys: the online softmax as in the forward pass."""
    keys = start + tl.arange(0, BLOCK_N)
    inside = keys < at.N
    block, row = _rows_of(keys, inside, table, capacity, at, PAGE)
    k = _load(k_head, k_view, block, row, inside, D, BLOCK_D, MASK)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # (BLOCK_R, BLOCK_N)
    high, total, rescale, p = online_softmax(high, total, s, i, keys, scale, at, x, MASK)
    v = _load(v_head, v_view, block, row, inside, D, BLOCK_D, MASK)
    acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
    return high, total, acc


@triton.jit
def _rows_of(keys, inside, table, capacity, at, PAGE: tl.constexpr):
    """The sequence or page that holds each key, and its row there."""
    if table is not None:
        pages = capacity // PAGE  # of one sequence
        page = tl.load(table + at.b * pages + keys // PAGE, mask=inside, other=0)
        return page.to(tl.int64), (keys % PAGE).to(tl.int64)
    else:  # noqa: RET505 (Triton compiles one of the two branches)
        return at.b, keys.to(tl.int64)


@triton.jit
def _load(head, x, block, row, inside, D: tl.constexpr, BLOCK_D: tl.constexpr, MASK: tl.constexpr):
    d = tl.arange(0, BLOCK_D)
    columns = d
    if x.wide is not None:
        columns = d.to(tl.int64)
    rows = head + block * x.batch + row * x.row
    at = rows[:, None] + columns[None, :] * x.column
    return load_masked(at, inside, D, BLOCK_D, MASK)


@triton.jit(do_not_specialize=["rows", "shares"])
def _decode_sum(
    parts,  # fp32 (shares, rows, D)
    part_lse,  # fp32 (shares, rows), base 2
    out,  # (rows, D)
    lse_ptr,  # fp32 (rows,), base 2
    rows,
    shares,
    D: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One query: its shares weighed, always in the same order."""
    row = tl.program_id(0).to(tl.int64)
    s = tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D)
    lse = tl.load(part_lse + s.to(tl.int64) * rows + row, mask=s < shares, other=float("-inf"))
    high = tl.max(lse, 0)
    origin = tl.where(high == float("-inf"), 0.0, high)
    weight = tl.exp2(lse - origin)
    total = tl.sum(weight, 0)
    at = parts + (s.to(tl.int64) * rows + row)[:, None] * D + d[None, :]
    part = tl.load(at, mask=(s < shares)[:, None] & (d < D)[None, :], other=0.0)
    value = tl.sum(part * weight[:, None], 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(out + row * D + d, value.to(out.dtype.element_ty), mask=d < D)
    tl.store(lse_ptr + row, high + tl.log2(total))


def decode(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor | None,
    block_table: torch.Tensor | None,
    problem: Problem,
    shares: int,
    block_n: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and LSE in base 2: one launch over the shares and one that adds them up.

    ``block_n`` is the number of keys a step, from the table when ``None``.
    """
    batch, heads, m, d = q.shape
    kv_heads, page = k.shape[1:3]
    capacity = page if block_table is None else page * block_table.shape[1]
    layout = layout_for("decode", q)
    block_n = block_n or layout.block_n
    tiles = -(-capacity // block_n)
    tiles_a_share = max(1, -(-tiles // shares))
    shares = max(1, -(-tiles // tiles_a_share))
    parts = torch.empty(shares, batch, heads, m, d, device=q.device, dtype=torch.float32)
    part_lse = torch.empty(shares, batch, heads, m, device=q.device, dtype=torch.float32)
    out = torch.empty(batch, heads, m, d, device=q.device, dtype=q.dtype)
    lse = torch.empty(batch, heads, m, device=q.device, dtype=torch.float32)
    if not out.numel():
        return out, lse
    group = heads // kv_heads
    block_r = layout.block_m
    sinks = None if problem.sinks is None else problem.sinks.contiguous()
    launch(
        _decode_share,
        (-(-group * m // block_r) * kv_heads * batch, shares),
        *(view(q), view(k), view(v), parts, part_lse, lengths, block_table),
        *(sinks, problem.options(q, k), abs(problem.scale) * LOG2_E.value),
        *(m, capacity, heads, group, problem.left, problem.right, tiles_a_share),
        PAGE=page if block_table is not None else 1,
        D=d,
        BLOCK_R=block_r,
        BLOCK_N=block_n,
        BLOCK_D=block_d(d),
        NEGATE=problem.scale < 0,
        num_warps=layout.num_warps,
        num_stages=layout.num_stages,
    )
    launch(
        _decode_sum,
        (batch * heads * m,),
        *(parts, part_lse, out, lse, batch * heads * m, shares),
        D=d,
        BLOCK_S=1 << (shares - 1).bit_length(),
        BLOCK_D=block_d(d),
        num_warps=4 if shares * d <= 4096 else 8,
    )
    return out, lse

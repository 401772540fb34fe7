# mypy: allow-untyped-defs
"""Attention, softmax(q · kᵀ · scale) · v, from three kernels to one that never stores a score.

The scores are M × N numbers for each head, and the inputs only (M + 2N) × D. v1 writes the scores
to memory and reads them back; from v2 on they stay in registers. The last rung is
:func:`kernels.attention`, which takes any head dim, strides and grouped heads, and has a backward
pass; the versions here take what is needed to see why it looks the way it does.

Sources: Dao et al., "FlashAttention" (arXiv 2205.14135), algorithm 1; Dao, "FlashAttention-2"
(arXiv 2307.08691), section 3.1.
"""

from typing import Any

import torch
import triton
import triton.language as tl

import kernels
from kernels.ladder.rung import Rung, check_contiguous, check_float, check_like
from kernels.ladder.softmax import MAX_COLUMNS, whole_row
from kernels.launch import launch

LOG2_E = 1.4426950408889634
HEAD_DIMS = (16, 32, 64, 128)
# By bytes an element: queries a program and keys a step; how many keys v2 can hold.
TILES = {2: (64, 64), 4: (16, 16)}  # in fp32 more would not fit into registers
MAX_KEYS = {2: 256, 4: 64}


@triton.jit
def store_scores(
    q_ptr, k_ptr, s_ptr, scale, M, N, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    across = tl.cdiv(N, BLOCK_N)
    rows = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)
    keys = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)
    q = _rows(q_ptr + head * M * D, rows, M, D)
    k = _rows(k_ptr + head * N * D, keys, N, D)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    s_tile = s_ptr + (head * M + rows[:, None]) * N + keys[None, :]
    tl.store(s_tile, s, mask=(rows < M)[:, None] & (keys < N)[None, :])


@triton.jit
def weigh_values(
    p_ptr, v_ptr, o_ptr, M, N, D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr
):
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(0, N, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        p_tile = p_ptr + (head * M + rows[:, None]) * N + keys[None, :]
        p = tl.load(p_tile, mask=(rows < M)[:, None] & (keys < N)[None, :], other=0.0)
        v = _rows(v_ptr + head * N * D, keys, N, D)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision="ieee")
    _store_rows(o_ptr + head * M * D, rows, M, acc, D)


@triton.jit
def all_keys(
    q_ptr, k_ptr, v_ptr, o_ptr, scale, M, N, D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    keys = tl.arange(0, BLOCK_N)  # every key at once: BLOCK_N >= N
    q = _rows(q_ptr + head * M * D, rows, M, D)
    k = _rows(k_ptr + head * N * D, keys, N, D)
    v = _rows(v_ptr + head * N * D, keys, N, D)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    s = tl.where((keys < N)[None, :], s, float("-inf"))
    p = tl.exp(s - tl.max(s, 1)[:, None])
    out = tl.dot(p.to(v.dtype), v, input_precision="ieee") / tl.sum(p, 1)[:, None]
    _store_rows(o_ptr + head * M * D, rows, M, out, D)


@triton.jit
def key_tiles(
    q_ptr, k_ptr, v_ptr, o_ptr, scale, M, N, D: tl.constexpr,
    BASE_2: tl.constexpr,  # whether the scale has log2(e) in it
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    q = _rows(q_ptr + head * M * D, rows, M, D)
    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(0, N, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        k = _rows(k_ptr + head * N * D, keys, N, D)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        s = tl.where((keys < N)[None, :], s, float("-inf"))
        higher = tl.maximum(high, tl.max(s, 1))
        if BASE_2:
            p = tl.exp2(s - higher[:, None])
            rescale = tl.exp2(high - higher)
        else:
            p = tl.exp(s - higher[:, None])
            rescale = tl.exp(high - higher)
        total = total * rescale + tl.sum(p, 1)
        v = _rows(v_ptr + head * N * D, keys, N, D)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
        high = higher
    _store_rows(o_ptr + head * M * D, rows, M, acc / total[:, None], D)


@triton.jit
def two_loops(
    q_ptr, k_ptr, v_ptr, o_ptr, scale, M, N, D: tl.constexpr, CAUSAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    q = _rows(q_ptr + head * M * D, rows, M, D)
    k_head = k_ptr + head * N * D
    v_head = v_ptr + head * N * D
    last = tl.full([BLOCK_M], N - 1, tl.int32)  # the last key that a query sees
    unmasked = N
    needed = N
    if CAUSAL:  # N >= M: aligned to the end, and every query sees a key
        last = tl.minimum(last, rows + (N - M))
        unmasked = first + 1 + N - M
        needed = tl.minimum(N, first + BLOCK_M + N - M)
    unmasked = unmasked // BLOCK_N * BLOCK_N  # keys in whole tiles that every query here sees

    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(0, unmasked, BLOCK_N):
        high, total, acc = _step(
            high, total, acc, q, k_head, v_head, start, last, scale, N, D, BLOCK_N, False
        )
    for start in range(unmasked, needed, BLOCK_N):
        high, total, acc = _step(
            high, total, acc, q, k_head, v_head, start, last, scale, N, D, BLOCK_N, True
        )
    _store_rows(o_ptr + head * M * D, rows, M, acc / total[:, None], D)


@triton.jit
def _step(
    high, total, acc, q, k_head, v_head, start, last, scale, N,
    D: tl.constexpr, BLOCK_N: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """One tile of keys: scores, new maximum, rescale, accumulate."""
    keys = start + tl.arange(0, BLOCK_N)
    tile = keys[:, None] * D + tl.arange(0, D)[None, :]
    if MASK:
        k = tl.load(k_head + tile, mask=(keys < N)[:, None], other=0.0)
        v = tl.load(v_head + tile, mask=(keys < N)[:, None], other=0.0)
    else:
        k = tl.load(k_head + tile)
        v = tl.load(v_head + tile)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")
    if MASK:
        s = tl.where(keys[None, :] <= last[:, None], s, float("-inf"))
    higher = tl.maximum(high, tl.max(s, 1) * scale)
    p = tl.exp2(s * scale - higher[:, None])  # one fused multiply-add a score
    rescale = tl.exp2(high - higher)
    acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
    return higher, total * rescale + tl.sum(p, 1), acc


@triton.jit
def _rows(head_ptr, rows, n_rows, D: tl.constexpr):
    """Rows of a head, ``(rows, D)``; zeros where there are none."""
    tile = head_ptr + rows[:, None] * D + tl.arange(0, D)[None, :]
    return tl.load(tile, mask=(rows < n_rows)[:, None], other=0.0)


@triton.jit
def _store_rows(head_ptr, rows, n_rows, values, D: tl.constexpr):
    tile = head_ptr + rows[:, None] * D + tl.arange(0, D)[None, :]
    tl.store(tile, values, mask=(rows < n_rows)[:, None])


def v1(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tile: tuple[int, int] | None = None
) -> torch.Tensor:
    """softmax(q · kᵀ / √D) · v. ``q: (B, H, M, D)``, ``k, v: (B, H, N, D)``, contiguous.

    fp32, fp16 or bf16; D is 16, 32, 64 or 128; sums in fp32. Returns ``(B, H, M, D)``, as
    ``scaled_dot_product_attention``. ``tile``: queries a program and keys a step. Every version
    takes and returns the same, within the limits that it names, and raises ``TypeError`` or
    ``ValueError`` for tensors that do not fit. This one stores the scores, (B, H, M, N) in fp32.
    """
    out = _output(q, k, v)
    b, h, m, n, d = *q.shape[:3], *k.shape[2:]
    if n > MAX_COLUMNS:
        raise ValueError(f"k: expected at most {MAX_COLUMNS} keys, got {n}; use v3")
    s = torch.empty(b, h, m, n, device=q.device)
    tile = tile or TILES[q.element_size()]
    blocks: Any = {"D": d, "BLOCK_M": tile[0], "BLOCK_N": tile[1], "num_warps": 4}
    down, across = triton.cdiv(m, tile[0]), triton.cdiv(n, tile[1])
    launch(store_scores, (down * across, b * h), q, k, s, d**-0.5, m, n, **blocks)
    launch(whole_row, (b * h * m,), s, s, n, n, BLOCK=triton.next_power_of_2(n), num_warps=4)
    launch(weigh_values, (down, b * h), s, v, out, m, n, **blocks)
    return out


def v2(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tile: tuple[int, int] = (16, 0)
) -> torch.Tensor:
    """One launch that holds every key at once: at most 256 in 16 bits, 64 in fp32."""
    _check(q, k, v)
    if (n := k.shape[2]) > (most := MAX_KEYS[q.element_size()]):
        raise ValueError(f"k: expected at most {most} keys of {q.dtype}, got {n}; use v3")
    keys = max(16, triton.next_power_of_2(n))
    return _fused(all_keys, q, k, v, (tile[0], keys), q.shape[-1] ** -0.5, warps=8)


def v3(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tile: tuple[int, int] | None = None
) -> torch.Tensor:
    """A tile of keys a step, with a maximum and a sum that are mended (the online softmax)."""
    return _fused(key_tiles, q, k, v, tile, q.shape[-1] ** -0.5, BASE_2=False)


def v4(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, tile: tuple[int, int] | None = None
) -> torch.Tensor:
    """exp2 for exp: log2(e) is in the scale."""
    return _fused(key_tiles, q, k, v, tile, q.shape[-1] ** -0.5 * LOG2_E, BASE_2=True)


def v5(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    tile: tuple[int, int] | None = None,
) -> torch.Tensor:
    """A loop without masks, then one with; ``causal`` lets query i see keys up to i + N − M.

    A causal call needs N >= M.
    """
    _check(q, k, v)
    if causal and k.shape[2] < q.shape[2]:
        raise ValueError(f"k: expected at least {q.shape[2]} keys, got {k.shape[2]}")
    return _fused(two_loops, q, k, v, tile, q.shape[-1] ** -0.5 * LOG2_E, CAUSAL=causal)


def v6(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = False) -> torch.Tensor:
    """:func:`kernels.attention`, of which the versions above are the parts."""
    ours: Any = kernels.attention
    return ours(q, k, v, causal=causal)


RUNGS = [
    Rung("v1", v1, "as the formula says: three launches, and M × N scores go through memory"),
    Rung("v2", v2, "one launch: scores stay in registers, as long as all the keys fit in them"),
    Rung("v3", v3, "the online softmax over tiles of keys: any number of keys"),
    Rung("v4", v4, "exp2 with log2(e) in the scale: fewer instructions a score"),
    Rung("v5", v5, "masks only in the tiles that need one, and none of the tiles nobody sees"),
    Rung("v6", v6, "kernels.attention: any strides and head dim, grouped heads, backward"),
]


def _fused(
    kernel, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, tile: tuple[int, int] | None,
    scale: float, *, warps: int = 4, **flags: Any,
) -> torch.Tensor:  # fmt: skip
    out = _output(q, k, v)
    tile = tile or TILES[q.element_size()]
    b, h, m, n, d = *q.shape[:3], *k.shape[2:]
    launch(
        kernel,
        (triton.cdiv(m, tile[0]), b * h),
        *(q, k, v, out, scale, m, n),
        D=d,
        BLOCK_M=tile[0],
        BLOCK_N=tile[1],
        num_warps=warps,
        num_stages=2,
        **flags,
    )
    return out


def _output(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    _check(q, k, v)
    return torch.empty_like(q)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    check_float("q", q, 4)
    check_float("k", k, 4)
    b, h, _, d = q.shape
    check_like("k", k, q, (b, h, k.shape[2], d))
    check_like("v", v, k)
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        check_contiguous(name, tensor)
    if d not in HEAD_DIMS:
        raise ValueError(f"q: expected a head dim of 16, 32, 64 or 128, got {d}")

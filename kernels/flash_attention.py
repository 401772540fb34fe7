# mypy: allow-untyped-defs
"""Attention, forward: softmax(q·kᵀ · scale) · v without ever storing the scores.

Each program owns BLOCK_M queries of one head and walks over the keys in tiles of BLOCK_N. It
keeps, per query, the highest score so far (``high``), the sum of exponentials (``total``) and the
weighted sum of values (``acc``); when a tile brings a higher score, sum and values are rescaled
to it (the online softmax). Scores live in base 2 because ``exp2`` is one instruction:
exp(s) = exp2(s · log₂e), and log₂e is folded into the scale.

Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867);
Dao et al., "FlashAttention" (arXiv 2205.14135), algorithm 1; Dao, "FlashAttention-2" (arXiv
2307.08691), section 3.1.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels.launch import launch

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class Config(NamedTuple):
    """How one program is laid out."""

    block_m: int  # queries a program
    block_n: int  # keys a step
    num_warps: int
    num_stages: int  # tiles of k and v in flight


# (bytes an element, head dim rounded up to a power of two) -> layout. Chosen from the compiled
# code: no register spills inside a loop (`python -m kernels verify` holds it for D = 64 and, in
# fp16, 128, on sm_80, sm_90, sm_100 and gfx942).
CONFIGS = {
    (2, 16): Config(128, 64, 4, 3),
    (2, 32): Config(128, 64, 4, 3),
    (2, 64): Config(128, 64, 4, 3),
    (2, 128): Config(128, 64, 8, 2),
    (2, 256): Config(64, 32, 4, 2),
    (4, 16): Config(64, 32, 4, 2),
    (4, 32): Config(64, 32, 4, 2),
    (4, 64): Config(64, 32, 8, 2),
    (4, 128): Config(32, 16, 4, 2),
    (4, 256): Config(32, 16, 8, 2),
}


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(q·kᵀ · scale) · v, forward only.

    Shapes: ``q: (B, H, M, D)``, ``k, v: (B, H_kv, N, D)`` with H a multiple of H_kv (query head h
    reads key head h // (H / H_kv)), any M, N >= 1, 8 <= D <= 256, any strides. fp32, fp16 or bf16;
    sums are kept in fp32.

    Args:
        causal: query i sees key j when j <= i + N - M, that is, aligned to the end. A query that
            sees no key gives zeros.
        scale: factor on the scores, 1/sqrt(D) when None.
        return_lse: also return log(sum(exp(scores))) per query, natural logarithm, fp32,
            ``(B, H, M)``; -inf for a query that sees no key.

    Returns: ``(B, H, M, D)`` in the dtype and, where it is dense, the layout of ``q``.

    Raises:
        TypeError: dtypes that differ or are not supported.
        ValueError: shapes, devices or head counts that do not fit; a gradient is asked for.

    Source: FlashAttention (arXiv 2205.14135, 2307.08691). PyTorch's counterpart is
    ``scaled_dot_product_attention(..., enable_gqa=True)``, whose ``is_causal`` is aligned to the
    start instead; Hugging Face's is ``attn_implementation="flash_attention_2"``.
    """
    _check(q, k, v, scale)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v)):
        raise ValueError("q, k, v: attention has no backward pass; call it under torch.no_grad()")
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    out, lse = forward(
        q, k, v, causal=causal, scale=scale, config=config_for(q), with_lse=return_lse
    )
    return (out, lse * LN_2) if lse is not None else out


def config_for(q: torch.Tensor) -> Config:
    """The layout for this dtype and head dim."""
    return CONFIGS[q.element_size(), _block_d(q.shape[-1])]


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool,
    scale: float,
    config: Config,
    with_lse: bool,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One launch with a given layout; arguments as for :func:`attention`, the LSE in base 2."""
    batch, heads, m, d = q.shape
    out = torch.empty_like(q)
    lse = torch.empty(batch, heads, m, device=q.device) if with_lse else None
    launch(
        _forward,
        (triton.cdiv(m, config.block_m) * batch * heads,),
        *(q, k, v, out, lse),
        *(stride for t in (q, k, v, out) for stride in t.stride()),
        *(abs(scale) * LOG2_E, heads, heads // k.shape[1], m, k.shape[2]),
        D=d,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_D=_block_d(d),
        CAUSAL=causal,
        NEGATE=scale < 0,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
    return out, lse


def _block_d(d: int) -> int:
    return max(16, triton.next_power_of_2(d))


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
        if tensor.dtype != q.dtype or tensor.dtype not in DTYPES:
            raise TypeError(
                f"{name}: expected q, k, v all float32, all float16 or all bfloat16, "
                f"got {q.dtype} for q and {tensor.dtype} for {name}"
            )
        if tensor.ndim != 4:
            raise ValueError(
                f"{name}: expected 4 dimensions (batch, heads, length, head_dim), "
                f"got shape {tuple(tensor.shape)}"
            )
        if tensor.device != q.device or tensor.device.type not in ("cpu", "cuda"):
            raise ValueError(
                f"{name}: expected q, k, v on one CPU or CUDA device, "
                f"got {q.device} for q and {tensor.device} for {name}"
            )
        if 0 in tensor.shape:
            raise ValueError(f"{name}: no dimension may be empty, got shape {tuple(tensor.shape)}")
    _check_shapes(q, k, v)
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")


def _check_shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> None:
    if k.shape != v.shape:
        raise ValueError(f"v: expected the shape of k, {tuple(k.shape)}, got {tuple(v.shape)}")
    if (k.shape[0], k.shape[3]) != (q.shape[0], q.shape[3]):
        raise ValueError(
            f"k: expected batch {q.shape[0]} and head_dim {q.shape[3]} as in q, "
            f"got shape {tuple(k.shape)}"
        )
    if q.shape[1] % k.shape[1]:
        raise ValueError(
            f"k: its number of heads must divide that of q, got {k.shape[1]} and {q.shape[1]}"
        )
    if not 8 <= q.shape[3] <= 256:
        raise ValueError(f"q: head_dim must be 8 to 256, got {q.shape[3]}")


@triton.jit(do_not_specialize=["scale", "H", "GROUP", "M", "N"])
def _forward(
    q_ptr,
    k_ptr,
    v_ptr,
    o_ptr,
    lse_ptr,  # (B, H, M) in base 2, or None
    stride_qb,
    stride_qh,
    stride_qm,
    stride_qd,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_kd,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_vd,
    stride_ob,
    stride_oh,
    stride_om,
    stride_od,
    scale,  # softmax scale times log2(e), not negative
    H,
    GROUP,  # query heads that share one key head
    M,
    N,
    D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    CAUSAL: tl.constexpr,
    NEGATE: tl.constexpr,
):
    blocks = tl.cdiv(M, BLOCK_M)
    first = (tl.program_id(0) % blocks) * BLOCK_M
    head = tl.program_id(0) // blocks  # counts over batch and heads
    b = (head // H).to(tl.int64)
    h = (head % H).to(tl.int64)
    kv_h = h // GROUP
    rows = first + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)

    q_tile = _tile(q_ptr + b * stride_qb + h * stride_qh, rows, stride_qm, d, stride_qd)
    q = _load(q_tile, rows, M, d, D, BLOCK_D, True)  # (BLOCK_M, BLOCK_D)
    if NEGATE:
        q = -q
    k_head = k_ptr + b * stride_kb + kv_h * stride_kh
    v_head = v_ptr + b * stride_vb + kv_h * stride_vh

    # Query i is aligned to the end of the keys: it may see key j when j <= i + N - M.
    last = tl.full([BLOCK_M], N - 1, tl.int32)
    unmasked = N
    needed = N
    if CAUSAL:
        last = tl.minimum(last, rows + (N - M))
        unmasked = tl.minimum(N, tl.maximum(0, first + 1 + N - M))
        needed = tl.minimum(N, tl.maximum(0, tl.minimum(first + BLOCK_M, M) + N - M))
    unmasked = unmasked // BLOCK_N * BLOCK_N  # keys in whole tiles that every query here may see

    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for start in range(0, unmasked, BLOCK_N):
        high, total, acc = _step(
            high, total, acc, q, k_head, v_head, start, last, scale,
            stride_kn, stride_kd, stride_vn, stride_vd, N, D, BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
    for start in range(unmasked, needed, BLOCK_N):
        high, total, acc = _step(
            high, total, acc, q, k_head, v_head, start, last, scale,
            stride_kn, stride_kd, stride_vn, stride_vd, N, D, BLOCK_N, BLOCK_D, True,
        )  # fmt: skip

    # A query that sees no key has total = 0 and acc = 0: its output is zero, its LSE -inf.
    out = acc * (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]
    o_tile = _tile(o_ptr + b * stride_ob + h * stride_oh, rows, stride_om, d, stride_od)
    inside = (rows < M)[:, None] & (d < D)[None, :]
    tl.store(o_tile, out.to(o_ptr.dtype.element_ty), mask=inside)
    if lse_ptr is not None:
        tl.store(lse_ptr + head.to(tl.int64) * M + rows, high + tl.log2(total), mask=rows < M)


@triton.jit
def _step(
    high,
    total,
    acc,
    q,
    k_head,
    v_head,
    start,
    last,
    scale,
    stride_kn,
    stride_kd,
    stride_vn,
    stride_vd,
    N,
    D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    """One tile of keys: scores, new maximum, rescale, accumulate."""
    keys = start + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    k = _load(_tile(k_head, keys, stride_kn, d, stride_kd), keys, N, d, D, BLOCK_D, MASK)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")  # (BLOCK_M, BLOCK_N)
    if MASK:
        s = tl.where(keys[None, :] <= last[:, None], s * scale, float("-inf"))
        higher = tl.maximum(high, tl.max(s, 1))
        origin = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet: no inf - inf
        p = tl.exp2(s - origin[:, None])
    else:
        higher = tl.maximum(high, tl.max(s, 1) * scale)
        origin = higher
        p = tl.exp2(s * scale - origin[:, None])  # one fused multiply-add a score
    rescale = tl.exp2(high - origin)
    total = total * rescale + tl.sum(p, 1)
    v = _load(_tile(v_head, keys, stride_vn, d, stride_vd), keys, N, d, D, BLOCK_D, MASK)
    acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
    return higher, total, acc


@triton.jit
def _tile(base, rows, stride_row, d, stride_d):
    """Addresses of a (rows, d) tile; 64-bit, because an offset may pass 2**31 elements."""
    return base + rows[:, None].to(tl.int64) * stride_row + d[None, :].to(tl.int64) * stride_d


@triton.jit
def _load(tile, rows, n_rows, d, D: tl.constexpr, BLOCK_D: tl.constexpr, MASK: tl.constexpr):
    """The tile with zeros where it sticks out: below row ``n_rows`` (if MASK) or beyond ``D``."""
    if MASK and D != BLOCK_D:
        return tl.load(tile, mask=(rows < n_rows)[:, None] & (d < D)[None, :], other=0.0)
    if MASK:
        return tl.load(tile, mask=(rows < n_rows)[:, None], other=0.0)
    if D != BLOCK_D:
        return tl.load(tile, mask=(d < D)[None, :], other=0.0)
    return tl.load(tile)

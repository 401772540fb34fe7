# mypy: allow-untyped-defs
"""The forward pass with tensor descriptors: the Hopper chapter.

From sm_90 on a GPU has a unit that copies whole tiles to shared memory (TMA). A descriptor tells it
a tensor's shape and strides once; after that one thread asks for a tile by its coordinates, no
thread computes addresses, and what sticks out of the tensor comes as zeros. Everything else is the
step of ``forward.py``, with plain scores.

A descriptor needs a last dimension of stride 1, other strides divisible by 16 bytes, and an aligned
address: :func:`fits` says whether a tensor has them.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.flash_attention.call import Layouts, Problem
from kernels.flash_attention.layouts import block_d, layout_for
from kernels.flash_attention.scores import LOG2_E
from kernels.flash_attention.softmax import online_softmax
from kernels.flash_attention.tiles import Place, edge_tile, reach
from kernels.launch import launch


@triton.jit(do_not_specialize=["scale", "M", "N", "H", "GROUP", "left", "right"])
def _forward_descriptor(
    q,  # descriptors of (B, H, M, D) and (B, H_kv, N, D), blocks (1, 1, BLOCK, BLOCK_D)
    k,
    v,
    out,
    lse_ptr,  # (B, H, M) in base 2
    x,  # Options, none used
    scale,  # softmax scale times log2(e), not negative
    M,
    N,
    H,
    GROUP,
    left,
    right,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tiles = tl.cdiv(M, BLOCK_M)
    head = tl.program_id(0) // tiles
    b = head // H
    h = head % H
    first = (tiles - 1 - tl.program_id(0) % tiles) * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    q_tile = q.load([b, h, first, 0]).reshape(BLOCK_M, BLOCK_D)

    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    low, full_low, full_high, end = reach(
        first, tl.minimum(first + BLOCK_M, M), N - M, left, right, N, True, BLOCK_N
    )
    at = Place(b, h, 0, 0, M, N, left, right)
    for n in range(full_low, full_high):
        high, total, acc = _step(
            high, total, acc, q_tile, k, v, b, h // GROUP, n * BLOCK_N, rows, scale, at, x,
            BLOCK_N, BLOCK_D, False,
        )  # fmt: skip
    for n in range(full_low - low + end - full_high):
        start = edge_tile(n, low, full_low, full_high) * BLOCK_N
        high, total, acc = _step(
            high, total, acc, q_tile, k, v, b, h // GROUP, start, rows, scale, at, x,
            BLOCK_N, BLOCK_D, True,
        )  # fmt: skip

    out_tile = acc * (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]
    out_tile = out_tile.to(out.dtype).reshape(1, 1, BLOCK_M, BLOCK_D)
    out.store([b, h, first, 0], out_tile)
    tl.store(lse_ptr + head.to(tl.int64) * M + rows, high + tl.log2(total), mask=rows < M)


@triton.jit
def _step(
    high,
    total,
    acc,
    q,  # (BLOCK_M, BLOCK_D)
    k_descriptor,
    v_descriptor,
    b,
    kv_h,
    start,
    rows,
    scale,
    at,
    x,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK: tl.constexpr,
):
    k = k_descriptor.load([b, kv_h, start, 0]).reshape(BLOCK_N, BLOCK_D)
    s = tl.dot(q, tl.trans(k), input_precision="ieee")
    keys = start + tl.arange(0, BLOCK_N)
    high, total, rescale, p = online_softmax(high, total, s, rows, keys, scale, at, x, MASK)
    v = v_descriptor.load([b, kv_h, start, 0]).reshape(BLOCK_N, BLOCK_D)
    acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
    return high, total, acc


def fits(tensor: torch.Tensor) -> bool:
    """Whether a descriptor can describe the tensor."""
    size = tensor.element_size()
    strides = tensor.stride()
    return (
        strides[-1] == 1
        and all(stride * size % 16 == 0 for stride in strides[:-1])
        and tensor.data_ptr() % 16 == 0
    )


def describe(tensor: torch.Tensor, block: int, block_d: int) -> TensorDescriptor:
    """A descriptor for tiles of ``block`` rows of a (B, H, T, D) tensor."""
    return TensorDescriptor(
        tensor, list(tensor.shape), list(tensor.stride()), [1, 1, block, block_d]
    )


def forward_descriptor(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    problem: Problem,
    layouts: Layouts | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As ``call.forward``, for plain scores and tensors that descriptors fit.

    Raises: ``ValueError`` for an option that this kernel does not have, or strides it cannot use.
    """
    extra = [name for name in _PLAIN if getattr(problem, name) is not None]
    extra += ["dropout_p"] * (problem.dropout_p > 0) + ["a negative scale"] * (problem.scale < 0)
    if extra:
        raise ValueError(f"problem: descriptors serve plain scores, got {', '.join(extra)}")
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    for name, tensor in (("q", q), ("k", k), ("v", v), ("out", out)):
        if not fits(tensor):
            raise ValueError(
                f"{name}: a descriptor needs stride 1 in the last dimension, the others divisible "
                f"by 16 bytes and an aligned address, got strides {tensor.stride()}"
            )
    layout = (layouts or {}).get("forward") or layout_for("forward", q)
    tiles = -(-q.shape[2] // layout.block_m)
    lse = torch.empty(q.shape[:3], device=q.device, dtype=torch.float32)
    width = block_d(q.shape[3])
    launch(
        _forward_descriptor,
        (tiles * q.shape[0] * q.shape[1],),
        describe(q, layout.block_m, width),
        *(describe(t, layout.block_n, width) for t in (k, v)),
        describe(out, layout.block_m, width),
        *(lse, problem.options(q, k), problem.scale * LOG2_E.value, *problem.numbers(q, k)),
        BLOCK_M=layout.block_m,
        BLOCK_N=layout.block_n,
        BLOCK_D=width,
        num_warps=layout.num_warps,
        num_stages=layout.num_stages,
    )
    return out, lse


_PLAIN = ("softcap", "slopes", "bias", "sinks", "key_mask", "cu_seqlens_q")

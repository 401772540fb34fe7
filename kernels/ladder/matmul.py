# mypy: allow-untyped-defs
"""Matrix product, c = a · b, from a dot product a program to tiles on tensor cores.

c[i, j] = Σₖ a[i, k] · b[k, j]. Every output needs K numbers of a and K of b, and each of those is
needed by a whole row or column of outputs. So what counts is how often a loaded number is used:
once in v1, BLOCK times where a program makes a BLOCK × BLOCK tile of outputs.

Source of the program order in v5: the matrix multiplication tutorial of Triton ("L2 cache
optimizations"), after CUTLASS's threadblock swizzle.
"""

import torch
import triton
import triton.language as tl

from kernels.ladder.rung import Rung, check_float, check_like
from kernels.launch import launch

# (BLOCK_M, BLOCK_N, BLOCK_K, num_warps) by bytes an element
TILES = {2: (128, 128, 64, 8), 4: (64, 64, 32, 8)}
GROUP = 8  # rows of tiles that are worked on together
ACTIVATIONS = ("none", "relu", "silu")


@triton.jit
def dot_product(
    a_ptr, b_ptr, c_ptr, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    BLOCK_K: tl.constexpr,
):  # fmt: skip
    row = (tl.program_id(0) // N).to(tl.int64)
    column = (tl.program_id(0) % N).to(tl.int64)
    a_row = a_ptr + row * stride_am
    b_column = b_ptr + column * stride_bn
    acc = tl.zeros([BLOCK_K], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = (start + tl.arange(0, BLOCK_K)).to(tl.int64)
        a = tl.load(a_row + k * stride_ak, mask=k < K, other=0.0)
        b = tl.load(b_column + k * stride_bk, mask=k < K, other=0.0)
        acc += a.to(tl.float32) * b.to(tl.float32)
    tl.store(c_ptr + row * stride_cm + column * stride_cn, tl.sum(acc, 0))


@triton.jit
def masked_tile(
    a_ptr, b_ptr, c_ptr, M, N, K,
    stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    WIDE: tl.constexpr,  # whether the accumulator is fp32
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(N, BLOCK_N)
    rows = (tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)[:, None]
    columns = (tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)[None, :]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32 if WIDE else c_ptr.dtype.element_ty)
    for start in range(0, K, BLOCK_K):
        k = (start + tl.arange(0, BLOCK_K)).to(tl.int64)
        a_tile = a_ptr + rows * stride_am + k[None, :] * stride_ak
        b_tile = b_ptr + k[:, None] * stride_bk + columns * stride_bn
        a = tl.load(a_tile, mask=(rows < M) & (k < K)[None, :], other=0.0)
        b = tl.load(b_tile, mask=(k < K)[:, None] & (columns < N), other=0.0)
        acc += tl.dot(a, b, input_precision="ieee").to(acc.dtype)
    inside = (rows < M) & (columns < N)
    tl.store(c_ptr + rows * stride_cm + columns * stride_cn, acc, mask=inside)


@triton.jit
def pipelined(
    a_ptr, b_ptr, bias_ptr, c_ptr, M, N, K,
    stride_am, stride_ak, stride_bk, stride_bn, stride_cm, stride_cn,
    WHOLE_K: tl.constexpr,  # whether BLOCK_K divides K: no mask in the loop
    GROUP: tl.constexpr, ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    row, column = tile_of(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP)
    rows = (row * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    columns = (column * BLOCK_N + tl.arange(0, BLOCK_N))[None, :]
    k = tl.arange(0, BLOCK_K)
    # Rows that stick out read others, from the start again, and are not stored: no mask needed.
    a_tile = a_ptr + (rows % M).to(tl.int64) * stride_am + k[None, :] * stride_ak
    b_tile = b_ptr + k[:, None] * stride_bk + (columns % N).to(tl.int64) * stride_bn
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, K, BLOCK_K):
        done = tl.cast(start, tl.int64)
        if WHOLE_K:
            a = tl.load(a_tile + done * stride_ak)
            b = tl.load(b_tile + done * stride_bk)
        else:
            a = tl.load(a_tile + done * stride_ak, mask=(k < K - start)[None, :], other=0.0)
            b = tl.load(b_tile + done * stride_bk, mask=(k < K - start)[:, None], other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee")

    if bias_ptr is not None:
        acc += tl.load(bias_ptr + columns, mask=columns < N, other=0.0).to(tl.float32)
    if ACTIVATION == "relu":
        acc = tl.maximum(acc, 0.0)
    if ACTIVATION == "silu":
        acc = acc * tl.sigmoid(acc)
    c_tile = c_ptr + rows.to(tl.int64) * stride_cm + columns.to(tl.int64) * stride_cn
    tl.store(c_tile, acc, mask=(rows < M) & (columns < N))


@triton.jit
def tile_of(program, down, across, GROUP: tl.constexpr):
    """The tile of a program: GROUP rows of tiles at a time, down before across.

    With GROUP = 1 this is row after row.
    """
    group = program // (GROUP * across)
    height = tl.minimum(down - group * GROUP, GROUP)  # the last group may be lower
    place = program % (GROUP * across)
    return group * GROUP + place % height, place // height


def v1(a: torch.Tensor, b: torch.Tensor, *, block_k: int = 128) -> torch.Tensor:
    """a · b. ``a: (M, K)``, ``b: (K, N)`` of one dtype (fp32, fp16, bf16), any strides.

    Returns ``(M, N)`` in that dtype, as ``torch.matmul``; sums are fp32 (but in v2) and fp32
    inputs are not shortened to TF32. Raises ``TypeError`` or ``ValueError`` for tensors that do
    not fit. Every version takes and returns the same.
    """
    c = _output(a, b)
    (m, k), n = a.shape, b.shape[1]
    launch(dot_product, (m * n,), a, b, c, n, k, *_strides(a, b, c), BLOCK_K=block_k, num_warps=1)
    return c


def v2(a: torch.Tensor, b: torch.Tensor, *, tile: tuple[int, ...] | None = None) -> torch.Tensor:
    """A tile of outputs a program, summed in the dtype of the inputs.

    ``tile``: BLOCK_M, BLOCK_N, BLOCK_K and warps, here and above; by default from ``TILES``.
    """
    return _masked(a, b, tile, wide=False)


def v3(a: torch.Tensor, b: torch.Tensor, *, tile: tuple[int, ...] | None = None) -> torch.Tensor:
    """The same, summed in fp32."""
    return _masked(a, b, tile, wide=True)


def v4(a: torch.Tensor, b: torch.Tensor, *, tile: tuple[int, ...] | None = None) -> torch.Tensor:
    """No mask in the loop where BLOCK_K divides K, and three tiles on their way at any time."""
    return _pipelined(a, b, None, "none", tile, group=1)


def v5(
    a: torch.Tensor, b: torch.Tensor, *, tile: tuple[int, ...] | None = None, group: int = GROUP
) -> torch.Tensor:
    """The tiles of a group of rows, one column after the other."""
    return _pipelined(a, b, None, "none", tile, group=group)


def v6(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str = "none",
    tile: tuple[int, ...] | None = None,
    group: int = GROUP,
) -> torch.Tensor:
    """activation(a · b + bias), ``bias: (N,)``, computed before the tile is stored.

    ``activation``: "none", "relu" or "silu".
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {ACTIVATIONS}, got {activation!r}")
    return _pipelined(a, b, bias, activation, tile, group=group)


RUNGS = [
    Rung("v1", v1, "a dot product a program: right, and every loaded number is used once"),
    Rung("v2", v2, "a tile a program, on tensor cores: a loaded number is used BLOCK times"),
    Rung("v3", v3, "fp32 sums: the error no longer grows with K as that of 16-bit sums does"),
    Rung("v4", v4, "no mask in the loop: copies run ahead while the tensor cores multiply"),
    Rung("v5", v5, "tiles in groups of rows: programs that run together share what they load"),
    Rung("v6", v6, "bias and activation before the store: the outputs move once, not three times"),
]


def _masked(
    a: torch.Tensor, b: torch.Tensor, tile: tuple[int, ...] | None, *, wide: bool
) -> torch.Tensor:
    c = _output(a, b)
    (m, k), n = a.shape, b.shape[1]
    block_m, block_n, block_k, warps = tile or TILES[a.element_size()]
    launch(
        masked_tile,
        (triton.cdiv(m, block_m) * triton.cdiv(n, block_n),),
        *(a, b, c, m, n, k, *_strides(a, b, c)),
        WIDE=wide,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        num_warps=warps,
        num_stages=1,
    )
    return c


def _pipelined(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    tile: tuple[int, ...] | None,
    *,
    group: int,
) -> torch.Tensor:
    c = _output(a, b)
    (m, k), n = a.shape, b.shape[1]
    if bias is not None:
        check_like("bias", bias, a, (n,))
        bias = bias.contiguous()
    block_m, block_n, block_k, warps = tile or TILES[a.element_size()]
    launch(
        pipelined,
        (triton.cdiv(m, block_m) * triton.cdiv(n, block_n),),
        *(a, b, bias, c, m, n, k, *_strides(a, b, c)),
        WHOLE_K=k % block_k == 0,
        GROUP=group,
        ACTIVATION=activation,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
        num_warps=warps,
        num_stages=3,
    )
    return c


def _strides(*tensors: torch.Tensor) -> list[int]:
    return [stride for t in tensors for stride in t.stride()]


def _output(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    check_float("a", a, 2)
    check_float("b", b, 2)
    check_like("b", b, a, (a.shape[1], b.shape[1]))
    return torch.empty(a.shape[0], b.shape[1], dtype=a.dtype, device=a.device)

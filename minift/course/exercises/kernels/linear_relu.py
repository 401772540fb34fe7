"""kernels.linear_relu: a matrix product with bias and activation before the store."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Compiles, Part, launch
from minift.course.properties import in_dtypes

TILE = 16  # rows and columns of a tile, and numbers of K a step


def whole(*shapes: tuple[int, int, int]) -> Iterator[Inputs]:
    """Small whole numbers, whose products and sums fp16 holds exactly."""
    for seed, (m, n, k) in enumerate(shapes):
        a, b = normal(m, k, seed=seed).round().half(), normal(k, n, seed=50 + seed).round().half()
        yield {"a": a, "b": b, "bias": normal(n, seed=90 + seed).mul(4).round().half()}


def one_tile() -> Iterator[Inputs]:
    yield from whole((16, 16, 16))


def several() -> Iterator[Inputs]:
    yield from whole((16, 16, 48), (48, 32, 32))


def ragged() -> Iterator[Inputs]:
    yield from whole((16, 7, 16), (5, 16, 20), (1, 1, 1), (20, 33, 50))


def rounded() -> Iterator[Inputs]:
    """A large sum and a bias that takes most of it away: what was rounded before is missing."""
    a, b = normal(16, 64, seed=1).abs().half(), normal(64, 16, seed=2).abs().half()
    bias = 0.25 - (a.double() @ b.double()).mean(0)
    yield {"a": a, "b": b, "bias": bias.half()}


def run(kernel: Any, a: Tensor, b: Tensor, bias: Tensor) -> dict[str, Any]:
    """Launch a program for each tile, into an output full of NaN."""
    (m, k), n = a.shape, b.shape[1]
    out = torch.full((m, n), float("nan"), dtype=a.dtype)
    programs = triton.cdiv(m, TILE) * triton.cdiv(n, TILE)
    blocks: dict[str, Any] = dict.fromkeys(("BLOCK_M", "BLOCK_N", "BLOCK_K"), TILE)
    moved = launch(kernel, programs, a, b, bias, out, m, n, k, **blocks)
    return {"out": out, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    x = torch.empty(100, 100, dtype=torch.float16)
    blocks: dict[str, Any] = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}
    yield {"args": (x, x, x[0], x, 100, 100, 100), "constants": blocks}


exercise = Exercise(
    "kernels.linear_relu",
    "A product with an epilogue",
    apply=run,
    properties=(
        Part("equals relu(a · b + bias) on one tile", one_tile, "First add, then relu.", ulps=0),
        Part("equals it on several steps and tiles", several, "Add the bias once.", ulps=0),
        Part("equals it when nothing divides evenly", ragged, "Mask the bias, too.", ulps=0),
        Part("rounds once, after the activation", rounded, "Stay in fp32 to the end.", ulps=0.6),
        Part(
            "rounds once in bfloat16",
            in_dtypes(rounded, torch.bfloat16),
            "Stay in fp32 to the end.",
            ulps=0.6,
        ),
        Part(
            "moves the outputs once, and a piece of the bias a tile",
            several,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Start from your matmul_tile. Everything new stands between the loop and the store.",
        "The bias has a number for each column: load it at `bias_ptr + columns`, masked by "
        "`columns < N`. Its shape (1, BLOCK_N) is spread over the rows by the addition.",
        "`acc += bias` in fp32, then `acc = tl.maximum(acc, 0.0)`, then the store, which rounds.",
    ),
)


@exercise.stub
@triton.jit
def linear_relu(
    a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out = max(a · b + bias, 0), with a: (M, K), b: (K, N), bias: (N,), out: (M, N).

    fp16 or bf16, row after row in memory; everything in fp32, rounded once. Programs and tiles as
    in matmul_tile.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(
    a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    across = tl.cdiv(N, BLOCK_N)
    rows = tl.program_id(0) // across * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    columns = tl.program_id(0) % across * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        in_a = (rows < M) & (k < K)[None, :]
        in_b = (k < K)[:, None] & (columns < N)
        a = tl.load(a_ptr + rows * K + k[None, :], mask=in_a, other=0.0)
        b = tl.load(b_ptr + k[:, None] * N + columns, mask=in_b, other=0.0)
        acc = tl.dot(a, b, acc)
    bias = tl.load(bias_ptr + columns, mask=columns < N, other=0.0)
    out = tl.maximum(acc + bias, 0.0)
    tl.store(out_ptr + rows * N + columns, out, mask=(rows < M) & (columns < N))


@exercise.reference
def in_fp64(a: Tensor, b: Tensor, bias: Tensor) -> dict[str, Any]:
    (m, k), n = a.shape, b.shape[1]
    down, across = triton.cdiv(m, TILE), triton.cdiv(n, TILE)
    moved = across * m * k + down * k * n + down * n + m * n
    out = (a.double() @ b.double() + bias.double()).relu().to(a.dtype)
    return {"out": out, "bytes": float(moved * a.element_size())}


exercise.slip(
    "bias_after_the_activation",
    "tl.maximum(acc + bias, 0.0)",
    "tl.maximum(acc, 0.0) + bias",
    "The bias was added after the activation: it belongs to the sum.",
)
exercise.slip(
    "no_activation",
    "tl.maximum(acc + bias, 0.0)",
    "acc + bias",
    "Negative numbers come through: relu is tl.maximum(…, 0.0).",
)
exercise.slip(
    "bias_in_every_step",
    "        acc = tl.dot(a, b, acc)\n    bias = tl.load(bias_ptr + columns, mask=columns < N, "
    "other=0.0)\n    out = tl.maximum(acc + bias, 0.0)",
    "        acc = tl.dot(a, b, acc) + tl.load(bias_ptr + columns, mask=columns < N, other=0.0)\n"
    "    out = tl.maximum(acc, 0.0)",
    "The bias is added in every step along K: once, after the loop, is right.",
)
exercise.slip(
    "rounds_before_the_bias",
    "tl.maximum(acc + bias, 0.0)",
    "tl.maximum(acc.to(out_ptr.dtype.element_ty).to(tl.float32) + bias, 0.0)",
    "The sum was rounded to 16 bits before the bias came: stay in fp32 until the store.",
)
exercise.slip(
    "bias_not_masked",
    "bias_ptr + columns, mask=columns < N, other=0.0",
    "bias_ptr + columns",
    "The load of the bias has no mask: in the last column of tiles it goes past the end.",
)
exercise.slip(
    "first_piece_of_the_bias",
    "bias_ptr + columns, mask=columns < N",
    "bias_ptr + tl.arange(0, BLOCK_N)[None, :], mask=tl.arange(0, BLOCK_N)[None, :] < N",
    "Every tile takes the beginning of the bias: it needs the piece of its own columns.",
)

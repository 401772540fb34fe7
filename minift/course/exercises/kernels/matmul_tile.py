"""kernels.matmul_tile: a matrix product, one tile of outputs a program, on tensor cores."""

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

Shape = tuple[int, int, int]  # M, N, K


def whole(*shapes: Shape, tile: Shape = (16, 16, 16)) -> Iterator[Inputs]:
    """Small whole numbers, whose products and sums fp16 holds exactly."""
    for seed, (m, n, k) in enumerate(shapes):
        a, b = normal(m, k, seed=seed).round().half(), normal(k, n, seed=50 + seed).round().half()
        yield {"a": a, "b": b, "tile": tile}


def one_tile() -> Iterator[Inputs]:
    yield {"a": torch.eye(16).half(), "b": torch.eye(16).half(), "tile": (16, 16, 16)}
    yield from whole((16, 16, 16))


def several_steps() -> Iterator[Inputs]:
    yield from whole((16, 16, 48))


def several_tiles() -> Iterator[Inputs]:
    yield from whole((48, 32, 16), (32, 64, 32))
    yield from whole((64, 32, 32), tile=(32, 16, 16))


def ragged() -> Iterator[Inputs]:
    yield from whole((16, 16, 20), (5, 16, 16), (16, 7, 16), (1, 1, 1), (20, 33, 50))


def long() -> Iterator[Inputs]:
    """Positive numbers and many of them: a sum in 16 bits loses its last digits."""
    a, b = normal(16, 400, seed=1).abs().half(), normal(400, 16, seed=2).abs().half()
    yield {"a": a, "b": b, "tile": (16, 16, 16)}


def run(kernel: Any, a: Tensor, b: Tensor, tile: Shape) -> dict[str, Any]:
    """Launch a program for each tile, into an output full of NaN."""
    (m, k), n = a.shape, b.shape[1]
    c = torch.full((m, n), float("nan"), dtype=a.dtype)
    programs = triton.cdiv(m, tile[0]) * triton.cdiv(n, tile[1])
    blocks: dict[str, Any] = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), tile, strict=True))
    moved = launch(kernel, programs, a, b, c, m, n, k, **blocks)
    return {"out": c, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    x = torch.empty(100, 100, dtype=torch.float16)
    blocks: dict[str, Any] = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}
    yield {"args": (x, x, x, 100, 100, 100), "constants": blocks}


exercise = Exercise(
    "kernels.matmul_tile",
    "A tile of a matrix product",
    apply=run,
    properties=(
        Part("multiplies one tile", one_tile, "tl.dot of a tile of a and a tile of b.", ulps=0),
        Part("adds up several steps along K", several_steps, "Loop over K and add.", ulps=0),
        Part("makes every tile of the output", several_tiles, "Which tile is whose?", ulps=0),
        Part("multiplies when nothing divides evenly", ragged, "Mask all three sizes.", ulps=0),
        Part("adds up in fp32", long, "The sum loses digits on the way.", ulps=0.6),
        Part(
            "multiplies in bfloat16",
            in_dtypes(long, torch.bfloat16),
            "The sum loses digits on the way.",
            ulps=0.6,
        ),
        Part(
            "loads a tile of a and a tile of b a step, and no more",
            several_tiles,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Tiles are numbered row by row. With across = tl.cdiv(N, BLOCK_N), the tile of a program "
        "is in row pid // across and column pid % across.",
        "`rows[:, None]` is a column of numbers and `k[None, :]` a row of them, so "
        "`a_ptr + rows[:, None] * K + k[None, :]` is a tile of addresses.",
        "acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32) before the loop over K, and in it "
        "`acc = tl.dot(a, b, acc)`. Both loads need other=0.0 where k is K or more.",
    ),
)


@exercise.stub
@triton.jit
def matmul_tile(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile of c = a · b, with a: (M, K), b: (K, N), c: (M, N), row after row in memory.

    fp16 or bf16, added up in fp32. A program makes BLOCK_M × BLOCK_N outputs, BLOCK_K numbers of
    K at a time; programs are numbered row of tiles by row of tiles.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(
    a_ptr, b_ptr, c_ptr, M, N, K,
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
    tl.store(c_ptr + rows * N + columns, acc, mask=(rows < M) & (columns < N))


@exercise.reference
def in_fp64(a: Tensor, b: Tensor, tile: Shape) -> dict[str, Any]:
    (m, k), n = a.shape, b.shape[1]
    loaded = triton.cdiv(n, tile[1]) * m * k + triton.cdiv(m, tile[0]) * k * n
    out = (a.double() @ b.double()).to(a.dtype)
    return {"out": out, "bytes": float((loaded + m * n) * a.element_size())}


exercise.slip(
    "only_the_last_step",
    "acc = tl.dot(a, b, acc)",
    "acc = tl.dot(a, b)",
    "Each step replaces what was there: add to the accumulator, tl.dot(a, b, acc).",
)
exercise.slip(
    "only_the_first_step",
    "range(0, K, BLOCK_K)",
    "range(0, BLOCK_K, BLOCK_K)",
    "Only the first BLOCK_K numbers of K are used: loop from 0 to K in steps of BLOCK_K.",
)
exercise.slip(
    "tail_of_k_not_masked",
    "(rows < M) & (k < K)[None, :]",
    "(rows < M) & (k >= 0)[None, :]",
    "The tile of a is not masked along K: past the end of a row the next one begins.",
)
exercise.slip(
    "sums_in_16_bits",
    "acc = tl.dot(a, b, acc)",
    "acc = (acc + tl.dot(a, b)).to(a_ptr.dtype.element_ty).to(tl.float32)",
    "The accumulator is rounded to 16 bits at each step: keep it in fp32 until the store.",
)
exercise.slip(
    "tiles_exchanged",
    "across = tl.cdiv(N, BLOCK_N)",
    "across = tl.cdiv(M, BLOCK_M)",
    "Tiles are counted by the number of rows: a row of tiles has ⌈N / BLOCK_N⌉ of them.",
)
exercise.slip(
    "row_length_of_b",
    "b_ptr + k[:, None] * N",
    "b_ptr + k[:, None] * K",
    "The rows of b are N long, not K: row k of b begins at k · N.",
)
exercise.slip(
    "store_not_masked",
    "mask=(rows < M) & (columns < N))",
    "mask=(rows < M) & (columns >= 0))",
    "The store is not masked along N: past the end of a row the next one begins.",
)
exercise.slip(
    "row_length_of_c",
    "c_ptr + rows * N",
    "c_ptr + rows * M",
    "The rows of c are N long, not M: row i of c begins at i · N.",
)

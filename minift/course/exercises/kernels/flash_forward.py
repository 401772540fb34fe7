"""kernels.flash_forward: attention as one kernel that stores no score."""

# mypy: disable-error-code="no-untyped-def"

import math
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

Shape = tuple[int, int, int]  # M, N, D


def of(*shapes: Shape, size: float = 1.0, tile: tuple[int, int] = (16, 16)) -> Iterator[Inputs]:
    for seed, (m, n, d) in enumerate(shapes):
        q, k, v = (normal(r, d, seed=10 * seed + i) for i, r in enumerate((m, n, n)))
        yield {"q": size * q, "k": size * k, "v": v, "tile": tile}


def one_tile() -> Iterator[Inputs]:
    yield from of((16, 16, 16))


def several_keys() -> Iterator[Inputs]:
    yield from of((16, 48, 16), size=2.0)


def several_queries() -> Iterator[Inputs]:
    yield from of((48, 32, 16), (32, 64, 32))
    yield from of((64, 32, 32), tile=(32, 16))


def ragged() -> Iterator[Inputs]:
    yield from of((16, 20, 16), (5, 16, 16), (1, 1, 16), (20, 33, 32))


def large() -> Iterator[Inputs]:
    yield from of((16, 40, 16), size=12.0)


def long() -> Iterator[Inputs]:
    """Weights all alike and values all positive: a sum in 16 bits loses its last digits."""
    for inputs in of((16, 400, 16), size=0.1):
        yield {**inputs, "v": inputs["v"].abs()}


def run(kernel: Any, q: Tensor, k: Tensor, v: Tensor, tile: tuple[int, int]) -> dict[str, Any]:
    """Launch a program for each tile of queries, into an output full of NaN."""
    (m, d), n = q.shape, k.shape[0]
    out = torch.full_like(q, float("nan"))
    scale = d**-0.5 * math.log2(math.e)
    blocks: dict[str, Any] = {"D": d, "BLOCK_M": tile[0], "BLOCK_N": tile[1]}
    moved = launch(kernel, triton.cdiv(m, tile[0]), q, k, v, out, scale, m, n, **blocks)
    return {"out": out, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    x = torch.empty(100, 64, dtype=torch.float16)
    blocks = {"D": 64, "BLOCK_M": 64, "BLOCK_N": 64}
    yield {"args": (x, x, x, x, 0.18, 100, 100), "constants": blocks}


exercise = Exercise(
    "kernels.flash_forward",
    "Flash attention, forward",
    apply=run,
    properties=(
        Part("attends to one tile of keys", one_tile, "softmax(scale · q kᵀ) v, in base 2."),
        Part("walks over several tiles of keys", several_keys, "The step of exercise 1."),
        Part("makes every tile of queries", several_queries, "Which rows are whose?"),
        Part("attends when nothing divides evenly", ragged, "Keys that do not exist weigh 0."),
        Part("stays finite for large scores", large, "No exponent above 0.", ulps=64),
        Part(
            "attends in float16 and bfloat16",
            in_dtypes(long, torch.float16, torch.bfloat16),
            "The accumulator is rounded to 16 bits at each step: keep it in fp32 until the store.",
            ulps=0.8,
        ),
        Part(
            "reads q once, k and v once a program, writes out once, and no score",
            several_queries,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Before the loop: rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), the tile of q "
        "(other=0.0), and high, total, acc in fp32 (tl.full, tl.zeros).",
        "s = tl.dot(q, tl.trans(k)) * scale; for keys that do not exist, "
        's = tl.where((keys < N)[None, :], s, float("-inf")). Then the four lines of exercise 1 '
        "with tl. for torch.",
        "acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None]); after the loop store "
        "acc / total[:, None]. Each tile has a key, so higher is never -inf.",
    ),
)


@exercise.stub
@triton.jit
def flash_forward(
    q_ptr, k_ptr, v_ptr, out_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out = softmax(q kᵀ / √D) v for one head. q, out: (M, D); k, v: (N, D), row after row.

    fp32, fp16 or bf16; sums in fp32. scale is log₂(e) / √D, so that scores come out in base 2.
    Program p owns queries p·BLOCK_M to (p + 1)·BLOCK_M - 1 and walks over all keys, BLOCK_N at a
    time. D is a power of two, 16 or more.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(
    q_ptr, k_ptr, v_ptr, out_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, D)[None, :]
    q = tl.load(q_ptr + rows[:, None] * D + d, mask=(rows < M)[:, None], other=0.0)
    high = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, D], tl.float32)
    for start in range(0, N, BLOCK_N):
        keys = start + tl.arange(0, BLOCK_N)
        tile = keys[:, None] * D + d
        k = tl.load(k_ptr + tile, mask=(keys < N)[:, None], other=0.0)
        v = tl.load(v_ptr + tile, mask=(keys < N)[:, None], other=0.0)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        s = tl.where((keys < N)[None, :], s, float("-inf"))
        higher = tl.maximum(high, tl.max(s, 1))
        p = tl.exp2(s - higher[:, None])
        rescale = tl.exp2(high - higher)
        total = total * rescale + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * rescale[:, None], input_precision="ieee")
        high = higher
    tl.store(out_ptr + rows[:, None] * D + d, acc / total[:, None], mask=(rows < M)[:, None])


@exercise.reference
def in_fp64(q: Tensor, k: Tensor, v: Tensor, tile: tuple[int, int]) -> dict[str, Any]:
    (m, d), n = q.shape, k.shape[0]
    weights = (q.double() @ k.double().T / d**0.5).softmax(1)
    moved = (2 * m + triton.cdiv(m, tile[0]) * 2 * n) * d * q.element_size()
    return {"out": (weights @ v.double()).to(q.dtype), "bytes": float(moved)}


exercise.slip(
    "values_not_rescaled",
    "acc * rescale[:, None], input",
    "acc, input",
    "The values are not mended when the maximum rises: acc shrinks by the same factor as total.",
)
exercise.slip(
    "sum_not_rescaled",
    "total * rescale",
    "total",
    "The sum is not mended when the maximum rises: total shrinks by 2^(high - higher).",
)
exercise.slip(
    "maximum_stays",
    "        high = higher\n",
    "",
    "The running maximum is never updated: at the end of a step, high = higher.",
)
exercise.slip(
    "only_the_first_tile",
    "range(0, N, BLOCK_N)",
    "range(0, BLOCK_N, BLOCK_N)",
    "Only the first tile of keys is used: loop from 0 to N in steps of BLOCK_N.",
)
exercise.slip(
    "base_e",
    "tl.exp2(s - higher[:, None])",
    "tl.exp(s - higher[:, None])",
    "These weights are powers of e, but scale has log₂(e) in it: tl.exp2.",
)
exercise.slip(
    "not_divided",
    "acc / total[:, None]",
    "acc",
    "The output is not divided by the sum of the weights: acc / total[:, None].",
)
exercise.slip(
    "absent_keys_count",
    's = tl.where((keys < N)[None, :], s, float("-inf"))',
    "s = s",
    "Keys that do not exist have score 0 and weigh something: put -inf there.",
)
exercise.slip(
    "keys_not_masked",
    "v = tl.load(v_ptr + tile, mask=(keys < N)[:, None], other=0.0)",
    "v = tl.load(v_ptr + tile)",
    "The load of v has no mask: in the last tile it goes past the end.",
)
exercise.slip(
    "store_not_masked",
    "acc / total[:, None], mask=(rows < M)[:, None])",
    "acc / total[:, None])",
    "The store has no mask: in the last program it goes past the end.",
)
exercise.slip(
    "always_the_first_queries",
    "tl.program_id(0) * BLOCK_M + ",
    "",
    "Every program works on the first queries: the rows lack `tl.program_id(0) * BLOCK_M`.",
)
exercise.slip(
    "accumulator_in_16_bits",
    "        high = higher\n",
    "        acc = acc.to(v.dtype).to(tl.float32)\n        high = higher\n",
    "The accumulator is rounded to 16 bits at each step: keep it in fp32 until the store.",
)

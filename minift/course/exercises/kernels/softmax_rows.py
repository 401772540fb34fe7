"""kernels.softmax_rows: the softmax of rows that fit in one block."""

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


def small() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 2.0, 4.0, 1.0]]).log(), "block": 4}
    yield {"x": torch.tensor([[1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 2.0, 2.0]]).log(), "block": 4}


def ragged() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 1.0, 2.0]]).log() - 2, "block": 4}
    for seed, (rows, n, block) in enumerate([(1, 1, 2), (5, 31, 32), (3, 100, 128), (2, 64, 64)]):
        yield {"x": normal(rows, n, seed=seed) * 4 - 2, "block": block}


def large() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[100.0, 100.0]]), "block": 2}
    yield {"x": torch.tensor([[-1000.0, -1000.0, -1000.0]]), "block": 4}
    yield {"x": normal(3, 50, seed=9) * 300, "block": 64}


def everything() -> Iterator[Inputs]:
    yield from ragged()
    yield from large()


def run(kernel: Any, x: Tensor, block: int) -> dict[str, Any]:
    """Launch one program a row, into an output full of NaN."""
    rows, n = x.shape
    out = torch.full_like(x, float("nan"))
    moved = launch(kernel, rows, x, out, n, BLOCK=block)
    return {"out": out, "bytes": (moved.loaded + moved.stored) / x.numel()}


def real() -> Iterator[Inputs]:
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.empty(8, 100, dtype=dtype)
        yield {"args": (x, x, 100), "constants": {"BLOCK": 128}}


exercise = Exercise(
    "kernels.softmax_rows",
    "Softmax of a row that fits in one block",
    apply=run,
    properties=(
        Part("equals softmax on full blocks", small, "exp(x), divided by the row's sum of it."),
        Part("equals it when the row is shorter than BLOCK", ragged, "Mask the other lanes."),
        Part("equals it for large numbers", large, "Take the row's maximum off before exp."),
        Part(
            "computes in fp32, in float16 and bfloat16",
            in_dtypes(ragged, torch.float16, torch.bfloat16),
            "A step in between was rounded to 16 bits: `.to(tl.float32)` after the load.",
            ulps=0.6,
        ),
        Part(
            "moves two numbers an element: reads x once, writes out once",
            everything,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Load the whole row as one block. The lanes past its end have to count for nothing, in "
        "the maximum and in the sum: other=-inf does both, since exp(-inf) = 0.",
        "`p = tl.exp(x - tl.max(x, 0))`: the maximum is one number, taken off every lane.",
        "Store `p / tl.sum(p, 0)`, under the mask of the load.",
    ),
)


@exercise.stub
@triton.jit
def softmax_rows(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r, j] = exp(x[r, j] - m) / Σⱼ exp(x[r, j] - m), with m the maximum of row r.

    x, out: (rows, n) with n <= BLOCK, row after row in memory; fp32, fp16 or bf16, computed in
    fp32. Program r handles row r.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0) * n
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row + j, mask=j < n, other=float("-inf")).to(tl.float32)
    p = tl.exp(x - tl.max(x, 0))
    tl.store(out_ptr + row + j, p / tl.sum(p, 0), mask=j < n)


@exercise.reference
def in_fp64(x: Tensor, block: int) -> dict[str, Any]:
    return {"out": x.double().softmax(1).to(x.dtype), "bytes": 2.0 * x.element_size()}


exercise.slip(
    "maximum_not_taken_off",
    "tl.exp(x - tl.max(x, 0))",
    "tl.exp(x)",
    "exp(89) is already infinite in fp32: take the row's maximum off before tl.exp.",
)
exercise.slip(
    "masked_lanes_are_zero",
    'other=float("-inf")',
    "other=0.0",
    "Masked lanes hold 0 and count in the maximum and the sum: other=-inf, for exp(-inf) = 0.",
)
exercise.slip(
    "masked_lanes_are_nan",
    ', other=float("-inf")',
    "",
    "Masked lanes hold anything, and are counted in the maximum and the sum: other=-inf.",
)
exercise.slip(
    "not_normalised",
    "p / tl.sum(p, 0)",
    "p",
    "The weights are not divided by their sum: a row has to add up to 1.",
)
exercise.slip(
    "sum_of_the_scores",
    "tl.sum(p, 0)",
    "tl.sum(tl.where(j < n, x, 0.0), 0)",
    "Divided by the sum of x: it is the sum of exp(x - m) that makes a row add up to 1.",
)
exercise.slip(
    "base_2",
    "tl.exp(x - tl.max(x, 0))",
    "tl.exp2(x - tl.max(x, 0))",
    "That is a softmax with 2 instead of e: tl.exp, or tl.exp2 of the score times log2(e).",
)
exercise.slip(
    "store_not_masked",
    "p / tl.sum(p, 0), mask=j < n",
    "p / tl.sum(p, 0)",
    "The store has no mask: past the end of a row the next one begins, and it is overwritten.",
)
exercise.slip(
    "rows_overlap",
    "tl.program_id(0) * n",
    "tl.program_id(0)",
    "Rows overlap: row r begins at r · n, not at r.",
)

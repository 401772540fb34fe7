"""kernels.mend_softmax: a softmax kernel with four bugs, each of which hides on kind inputs."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Part, launch
from minift.course.properties import in_dtypes


def one_row() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 2.0, 4.0, 1.0]]).log(), "block": 4}
    yield {"x": normal(1, 16, seed=1), "block": 16}


def short_row() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 1.0, 2.0]]).log(), "block": 4}
    yield {"x": normal(1, 31, seed=2) - 3, "block": 32}


def rows() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 3.0], [2.0, 2.0], [4.0, 4.0]]).log(), "block": 2}
    for seed, (m, n, block) in enumerate([(2, 3, 4), (5, 31, 32), (3, 100, 128)]):
        yield {"x": normal(m, n, seed=seed) * 4 - 2, "block": block}


def run(kernel: Any, x: Tensor, block: int) -> dict[str, Any]:
    """Launch one program a row, into an output full of NaN."""
    out = torch.full_like(x, float("nan"))
    launch(kernel, x.shape[0], x, out, x.shape[1], BLOCK=block)
    return {"out": out}


exercise = Exercise(
    "kernels.mend_softmax",
    "Debug: four bugs in a softmax",
    apply=run,
    properties=(
        Part("is right for a row that fills its block", one_row, "This held before: undo."),
        Part("is right for a shorter row", short_row, "What is in the lanes without a column?"),
        Part("is right for several rows", rows, "Where does row r begin, and where does it end?"),
        Part(
            "is as exact as its dtype allows: float16, bfloat16",
            in_dtypes(rows, torch.float16, torch.bfloat16),
            "A step in between is rounded to 16 bits.",
            ulps=0.6,
        ),
    ),
    hints=(
        "Try it on one row that fills its block: right. Then change one thing at a time: a row "
        "that is shorter than the block; two rows; float16. Each of them shows a bug.",
        "Short rows: what does exp make of `other=0.0`? Several rows: n numbers lie between the "
        "beginnings of two rows, and a store without a mask goes on into the next one.",
        "float16: the sum of many rounded exponentials is off. Nothing is to be rounded before the "
        "store.",
    ),
)


@exercise.stub
@triton.jit
def mend_softmax(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """The softmax of each row of x: (rows, n), n <= BLOCK, row after row; program r does row r.

    x, out: fp32, fp16 or bf16; computed in fp32. This kernel has four bugs. Find and mend them.
    """
    row = tl.program_id(0) * BLOCK
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row + j, mask=j < n, other=0.0).to(tl.float32)
    p = tl.exp(x - tl.max(x, 0)).to(x_ptr.dtype.element_ty)
    tl.store(out_ptr + row + j, p / tl.sum(p, 0))


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
    return {"out": x.double().softmax(1).to(x.dtype)}


exercise.slip(
    "empty_lanes_count",
    'other=float("-inf")',
    "other=0.0",
    "The first bug is still there: a lane without a column holds 0, and exp(0) is in the sum.",
)
exercise.slip(
    "empty_lanes_weigh_little",
    'other=float("-inf")',
    "other=-10.0",
    "-10 is not small enough, e^-10 still counts: a lane without a column is -inf.",
)
exercise.slip(
    "rows_a_block_apart",
    "tl.program_id(0) * n",
    "tl.program_id(0) * BLOCK",
    "Rows lie n numbers apart, not BLOCK: with n < BLOCK the second row is read too far behind.",
)
exercise.slip(
    "store_without_a_mask",
    "tl.sum(p, 0), mask=j < n",
    "tl.sum(p, 0)",
    "The store has no mask: it writes the empty lanes into the beginning of the next row.",
)
exercise.slip(
    "sum_of_a_rounded_block",
    "p = tl.exp(x - tl.max(x, 0))",
    "p = tl.exp(x - tl.max(x, 0)).to(x_ptr.dtype.element_ty)",
    "The exponentials are rounded to 16 bits before they are summed: round once, at the store.",
)

"""kernels.row_max: a reduction over rows of any length, block by block."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal
from minift.course.launch import Compiles, Part, launch
from minift.course.properties import in_dtypes


def one_block() -> Iterator[Inputs]:
    yield {"x": counting(1, 4), "block": 4}
    yield {"x": torch.tensor([[3.0, 1.0, 2.0, 0.0], [5.0, 9.0, 7.0, 8.0]]), "block": 4}
    yield {"x": -counting(2, 4), "block": 4}


def more_blocks() -> Iterator[Inputs]:
    yield {"x": counting(1, 8), "block": 4}
    yield {"x": -counting(2, 8), "block": 4}
    yield {"x": normal(3, 64, seed=0), "block": 16}


def ragged() -> Iterator[Inputs]:
    yield {"x": -counting(1, 3), "block": 4}
    yield {"x": -counting(2, 6), "block": 4}
    yield {"x": counting(2, 6), "block": 4}
    yield {"x": -counting(2, 8), "block": 4}
    for seed, (rows, n, block) in enumerate([(1, 1, 2), (5, 31, 16), (3, 100, 32), (2, 257, 64)]):
        yield {"x": normal(rows, n, seed=seed) - 5, "block": block}


def run(kernel: Any, x: Tensor, block: int) -> dict[str, Any]:
    """Launch one program a row, into an output full of NaN."""
    rows, n = x.shape
    out = torch.full((rows,), float("nan"), dtype=x.dtype)
    moved = launch(kernel, rows, x, out, n, BLOCK=block)
    return {"out": out, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    yield {"args": (torch.empty(8, 100), torch.empty(8), 100), "constants": {"BLOCK": 64}}


exercise = Exercise(
    "kernels.row_max",
    "A reduction: the maximum of every row",
    apply=run,
    properties=(
        Part("finds the maximum of rows of one block", one_block, "tl.max combines lanes.", 0),
        Part("finds it in rows of several blocks", more_blocks, "Walk over the whole row.", 0),
        Part("finds it when BLOCK does not divide n", ragged, "Mask lanes with no element.", 0),
        Part(
            "finds it in float16 and bfloat16",
            in_dtypes(ragged, torch.float16, torch.bfloat16),
            "A maximum is one of the numbers: nothing has to be rounded.",
            ulps=0,
        ),
        Part(
            "reads each number once and writes one a row",
            ragged,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Row r begins at x_ptr + r · n, and r is the number of the program.",
        'Keep BLOCK running maxima, `tl.full([BLOCK], float("-inf"), tl.float32)`, and loop: '
        "`for start in range(0, n, BLOCK)`.",
        "In the loop: load a block with other=-inf, and `high = tl.maximum(high, x)`. After it, "
        "`tl.max(high, 0)` makes one number of BLOCK.",
    ),
)


@exercise.stub
@triton.jit
def row_max(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r] = max(x[r, 0], …, x[r, n-1]), where r is the number of the program.

    x: (rows, n), row after row in memory; fp32, fp16 or bf16. n may be larger than BLOCK.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    high = tl.full([BLOCK], float("-inf"), tl.float32)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row * n + i, mask=i < n, other=float("-inf"))
        high = tl.maximum(high, x)
    tl.store(out_ptr + row, tl.max(high, 0))


@exercise.reference
def in_torch(x: Tensor, block: int) -> dict[str, Any]:
    out = x.amax(1)
    return {"out": out, "bytes": float(x.nbytes + out.nbytes)}


exercise.slip(
    "masked_lanes_are_zero",
    'other=float("-inf")',
    "other=0.0",
    "Masked lanes count as 0, which is more than any negative number: other=-inf.",
)
exercise.slip(
    "begins_with_zero",
    'tl.full([BLOCK], float("-inf"), tl.float32)',
    "tl.zeros([BLOCK], tl.float32)",
    "The running maximum begins with 0, which is more than any negative number: begin with -inf.",
)
exercise.slip(
    "one_block_only",
    "range(0, n, BLOCK)",
    "range(0, BLOCK, BLOCK)",
    "Only the first block of a row is looked at: loop from 0 to n in steps of BLOCK.",
)
exercise.slip(
    "last_block_only",
    "high = tl.maximum(high, x)",
    "high = x.to(tl.float32)",
    "Each block replaces the maximum of those before: combine them with tl.maximum.",
)
exercise.slip(
    "no_mask",
    "mask=i < n, ",
    "mask=i >= 0, ",
    "The load has no mask: past the end of a row the next one begins.",
)
exercise.slip(
    "rows_overlap",
    "row * n + i",
    "row + i",
    "Rows overlap: row r begins at r · n, not at r.",
)
exercise.slip(
    "sums",
    "tl.max(high, 0)",
    "tl.sum(high, 0)",
    "The lanes were added up at the end: tl.max, not tl.sum.",
)

"""kernels.softmax_online: maximum and sum of a long row in one pass."""

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

INF = float("inf")


def rising() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 1.0, 2.0, 4.0]]).log(), "block": 4}
    yield {"x": torch.tensor([[1.0, 2.0, 1.0, 4.0]]).log(), "block": 2}
    yield {"x": torch.tensor([[4.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]).log(), "block": 2}


def ragged() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[1.0, 1.0, 2.0]]).log() - 2, "block": 2}
    for seed, (rows, n, block) in enumerate([(1, 1, 2), (5, 31, 16), (3, 100, 32), (2, 64, 16)]):
        yield {"x": normal(rows, n, seed=seed) * 4 - 2, "block": block}


def large() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[200.0, 200.0, 0.0, 0.0]]), "block": 2}
    yield {"x": normal(3, 50, seed=9) * 300, "block": 16}


def late() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[-INF, -INF, 0.0, 0.0]]), "block": 2}
    yield {"x": torch.tensor([[1.0, 2.0, 1.0, 4.0]]).log(), "block": 2}
    yield {"x": normal(2, 40, seed=3).masked_fill(torch.arange(40) < 17, -INF), "block": 8}


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
    x = torch.empty(8, 100)
    yield {"args": (x, x, 100), "constants": {"BLOCK": 32}}


exercise = Exercise(
    "kernels.softmax_online",
    "Softmax of a long row in two passes",
    apply=run,
    properties=(
        Part("equals softmax while the maximum rises", rising, "Two numbers run along the row."),
        Part("equals it when BLOCK does not divide n", ragged, "Mask the lanes with no element."),
        Part("equals it for large numbers", large, "The running maximum must never fall."),
        Part("equals it when a row begins with -inf", late, "exp(-inf - -inf) is NaN."),
        Part(
            "computes in fp32, in float16 and bfloat16",
            in_dtypes(ragged, torch.float16, torch.bfloat16),
            "A step in between was rounded to 16 bits: `.to(tl.float32)` after the load.",
            ulps=0.6,
        ),
        Part(
            "moves three numbers an element: reads x twice, writes out once",
            everything,
            "The row is read too often: maximum and sum belong in one pass.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        'Two running numbers: high = float("-inf") and total = 0.0. A loop over blocks mends '
        "both; a second loop loads the row again and stores.",
        "In the first loop: higher = tl.maximum(high, tl.max(x, 0)). What was summed so far was "
        "relative to high; exp(high - higher) makes it relative to higher.",
        "As long as nothing but -inf has come, higher is -inf, and -inf - -inf is NaN: use "
        'origin = tl.where(higher == float("-inf"), 0.0, higher) in both exponents.',
    ),
)


@exercise.stub
@triton.jit
def softmax_online(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r, :] = softmax(x[r, :]) for rows of any length; program r handles row r.

    x, out: (rows, n), row after row in memory; fp32, fp16 or bf16, computed in fp32. Rows may
    begin with -inf, and hold at least one number. x is read twice.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0) * n
    high = float("-inf")
    total = 0.0
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row + j, mask=j < n, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(high, tl.max(x, 0))
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(high - origin) + tl.sum(tl.exp(x - origin), 0)
        high = higher
    for start in range(0, n, BLOCK):
        j = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row + j, mask=j < n, other=0.0).to(tl.float32)
        tl.store(out_ptr + row + j, tl.exp(x - high) / total, mask=j < n)


@exercise.reference
def in_fp64(x: Tensor, block: int) -> dict[str, Any]:
    return {"out": x.double().softmax(1).to(x.dtype), "bytes": 3.0 * x.element_size()}


exercise.slip(
    "sum_not_rescaled",
    "total * tl.exp(high - origin) + ",
    "total + ",
    "The sum is not mended when the maximum rises: multiply it by exp(high - higher).",
)
exercise.slip(
    "rescaled_the_wrong_way",
    "tl.exp(high - origin)",
    "tl.exp(origin - high)",
    "The sum is rescaled the wrong way: the factor is exp(high - higher), at most 1.",
)
exercise.slip(
    "sum_of_the_last_block",
    "total * tl.exp(high - origin) + tl.sum",
    "tl.sum",
    "Only the last block is in the sum: add to what was there before.",
)
exercise.slip(
    "maximum_of_the_block",
    "higher = tl.maximum(high, tl.max(x, 0))",
    "higher = tl.max(x, 0)",
    "The maximum is that of one block: it has to be the largest number of the row so far.",
)
exercise.slip(
    "minus_infinity",
    'tl.where(higher == float("-inf"), 0.0, higher)',
    "higher",
    "A block of nothing but -inf gives -inf - -inf, which is NaN: take 0 off instead.",
)
exercise.slip(
    "maximum_stays",
    "        high = higher\n",
    "",
    "The running maximum is never updated: after the sum, high = higher.",
)
exercise.slip(
    "masked_lanes_are_zero",
    'mask=j < n, other=float("-inf")',
    "mask=j < n, other=0.0",
    "Masked lanes hold 0 and count in the maximum and the sum: other=-inf, for exp(-inf) = 0.",
)
exercise.slip(
    "not_divided",
    "tl.exp(x - high) / total",
    "tl.exp(x - high)",
    "The weights are not divided by their sum: a row has to add up to 1.",
)
exercise.slip(
    "maximum_not_taken_off",
    """        higher = tl.maximum(high, tl.max(x, 0))
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(high - origin) + tl.sum(tl.exp(x - origin), 0)
        high = higher
""",
    """        total += tl.sum(tl.exp(x), 0)
        high = 0.0
""",
    "No maximum is taken off: exp(x) overflows in fp32 as soon as x is above 88.7.",
)

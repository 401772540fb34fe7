"""kernels.vector_add: the first kernel, with a mask for the ragged end."""

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


def whole() -> Iterator[Inputs]:
    yield {"x": counting(4), "y": counting(4, start=10), "block": 4}
    yield {"x": counting(8), "y": counting(8, start=10), "block": 4}


def ragged() -> Iterator[Inputs]:
    yield {"x": counting(5), "y": counting(5, start=10), "block": 4}
    yield {"x": counting(5), "y": -counting(5), "block": 4}
    for seed, (n, block) in enumerate([(1, 2), (3, 8), (31, 16), (64, 16), (257, 64), (1000, 32)]):
        yield {"x": normal(n, seed=seed), "y": normal(n, seed=100 + seed), "block": block}


def add(kernel: Any, x: Tensor, y: Tensor, block: int) -> dict[str, Any]:
    """Launch with ⌈n / block⌉ programs into an output full of NaN."""
    out = torch.full_like(x, float("nan"))
    moved = launch(kernel, triton.cdiv(x.numel(), block), x, y, out, x.numel(), BLOCK=block)
    return {"out": out, "bytes": (moved.loaded + moved.stored) / x.numel()}


def real() -> Iterator[Inputs]:
    yield {"args": (*[torch.empty(8)] * 3, 8), "constants": {"BLOCK": 1024}}


exercise = Exercise(
    "kernels.vector_add",
    "The first kernel: adding two vectors",
    apply=add,
    in_library=(
        "kernels.ladder.vector_add.masked_block",
        "kernels.ladder.vector_add.full_or_tail",
        "kernels.ladder.vector_add.grid_stride",
    ),
    properties=(
        Part("adds full blocks", whole, "Program p handles the p-th block of BLOCK elements.", 0),
        Part("adds when BLOCK does not divide n", ragged, "Mask the lanes with no element.", 0),
        Part(
            "adds in float16 and bfloat16",
            in_dtypes(ragged, torch.float16, torch.bfloat16),
            "The sum is rounded once, to the dtype of the tensors.",
            ulps=0,
        ),
        Part(
            "moves 12 bytes an element: reads x and y once, writes out once",
            ragged,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "`tl.program_id(0)` says which program this is. Its elements are "
        "`pid * BLOCK + tl.arange(0, BLOCK)`.",
        "A pointer plus a block of offsets is a block of pointers: `tl.load(x_ptr + offsets)`.",
        "In the last program some offsets are n or more. Give `mask=offsets < n` to every load "
        "and to the store.",
    ),
)


@exercise.stub
@triton.jit
def vector_add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] + y[i] for 0 <= i < n.

    Launched with ⌈n / BLOCK⌉ programs; program p handles elements p·BLOCK to (p+1)·BLOCK - 1,
    as far as they exist.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)


@exercise.reference
def in_torch(x: Tensor, y: Tensor, block: int) -> dict[str, Any]:
    out = (x.double() + y.double()).to(x.dtype)
    return {"out": out, "bytes": 3.0 * x.element_size()}


exercise.slip(
    "no_mask",
    "mask = offsets < n",
    "mask = offsets >= 0",
    "A load or a store has no mask: in the last program it goes past the end.",
)
exercise.slip(
    "one_lane_too_many",
    "mask = offsets < n",
    "mask = offsets <= n",
    "The mask lets one lane too many through: elements end before n (<, not <=).",
)
exercise.slip(
    "one_lane_too_few",
    "mask = offsets < n",
    "mask = offsets < n - 1",
    "The mask hides the last element: i < n, not i < n - 1.",
)
exercise.slip(
    "masks_the_lane",
    "mask = offsets < n",
    "mask = tl.arange(0, BLOCK) < n",
    "The lane, not the element, was compared with n: mask the offsets.",
)
exercise.slip(
    "unmasked_load",
    "y_ptr + offsets, mask=mask",
    "y_ptr + offsets",
    "A load or a store has no mask: in the last program it goes past the end.",
)
exercise.slip(
    "always_the_first_block",
    "tl.program_id(0) * BLOCK + ",
    "",
    "Every program works on the first block: the offsets lack `pid * BLOCK`.",
)
exercise.slip(
    "overlapping_blocks",
    "tl.program_id(0) * BLOCK",
    "tl.program_id(0)",
    "Blocks overlap: program p begins at p * BLOCK, not at p.",
)
exercise.slip(
    "second_argument_forgotten",
    "x + y",
    "x + x",
    "x was added to itself: the second load belongs to y_ptr.",
)

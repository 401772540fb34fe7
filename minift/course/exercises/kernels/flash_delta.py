"""kernels.flash_delta: one number a query, from the output and its gradient."""

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


def of(out: Tensor, dout: Tensor, block: int) -> Inputs:
    """delta comes first, full of NaN: it is fp32, whatever the others are."""
    delta = torch.full((len(out),), float("nan"))
    return {"delta": delta, "out": out, "dout": dout, "block": block}


def whole() -> Iterator[Inputs]:
    yield of(torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[1.0, 0], [10, 1]]), 2)
    yield of(normal(8, 8, seed=0), normal(8, 8, seed=1), 4)


def ragged() -> Iterator[Inputs]:
    for seed, (m, d, block) in enumerate([(5, 4, 4), (1, 1, 2), (8, 3, 4), (33, 20, 16)]):
        yield of(normal(m, d, seed=seed), normal(m, d, seed=9 + seed), block)


def everything() -> Iterator[Inputs]:
    yield from whole()
    yield from ragged()


def in_16_bits() -> Iterator[Inputs]:
    for dtype in (torch.float16, torch.bfloat16):
        yield of(normal(3, 200, seed=1).abs().to(dtype), normal(3, 200, seed=2).to(dtype), 2)


def run(kernel: Any, delta: Tensor, out: Tensor, dout: Tensor, block: int) -> dict[str, Any]:
    """Launch a program for each `block` rows, into a copy of delta."""
    (m, d), delta = out.shape, delta.clone()
    blocks: dict[str, Any] = {"BLOCK_M": block, "BLOCK_D": triton.next_power_of_2(d)}
    moved = launch(kernel, triton.cdiv(m, block), out, dout, delta, m, d, **blocks)
    return {"delta": delta, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    x = torch.empty(100, 80, dtype=torch.float16)
    yield {"args": (x, x, torch.empty(100), 100, 80), "constants": {"BLOCK_M": 32, "BLOCK_D": 128}}


exercise = Exercise(
    "kernels.flash_delta",
    "delta: output times its gradient, summed",
    apply=run,
    properties=(
        Part("sums output times gradient", whole, "One number a row.", part="delta"),
        Part("sums when nothing divides evenly", ragged, "Mask both axes.", part="delta"),
        Part("sums 16-bit tensors in fp32", in_16_bits, "To fp32 before `*`.", part="delta"),
        Part(
            "reads both once, writes 4 bytes a row",
            everything,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "A program has BLOCK_M rows and all D columns: a block of addresses "
        "`rows[:, None] * D + d[None, :]`, as for a tile of q.",
        "Mask rows past M and columns past D, with other=0.0: a product of zeros adds nothing.",
        "Both tiles to fp32 (`.to(tl.float32)`), multiply, tl.sum(…, 1): one number a row.",
    ),
)


@exercise.stub
@triton.jit
def flash_delta(out_ptr, dout_ptr, delta_ptr, M, D, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """delta[i] = Σ_d out[i, d] · dout[i, d], in fp32.

    out, dout: (M, D), row after row; fp32, fp16 or bf16. delta: (M,) fp32. Program p owns rows
    p·BLOCK_M to (p + 1)·BLOCK_M - 1. BLOCK_D >= D is a power of two.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(out_ptr, dout_ptr, delta_ptr, M, D, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    tile = rows[:, None] * D + d[None, :]
    mask = (rows < M)[:, None] & (d < D)[None, :]
    out = tl.load(out_ptr + tile, mask=mask, other=0.0).to(tl.float32)
    dout = tl.load(dout_ptr + tile, mask=mask, other=0.0).to(tl.float32)
    tl.store(delta_ptr + rows, tl.sum(out * dout, 1), mask=rows < M)


@exercise.reference
def in_fp64(delta: Tensor, out: Tensor, dout: Tensor, block: int) -> dict[str, Any]:
    moved = 2 * out.numel() * out.element_size() + 4 * len(out)
    return {"delta": (out.double() * dout.double()).sum(1).float(), "bytes": float(moved)}


exercise.slip(
    "sums_over_the_rows",
    "tl.sum(out * dout, 1)",
    "tl.sum(out * dout, 0)",
    "The sum goes down the columns: axis 1 runs along a row.",
)
exercise.slip(
    "columns_not_masked",
    "(rows < M)[:, None] & (d < D)[None, :]",
    "(rows < M)[:, None] & (d >= 0)[None, :]",
    "Columns past D are not masked: they belong to the next row.",
)
exercise.slip(
    "rows_not_masked",
    "(rows < M)[:, None] & (d < D)[None, :]",
    "(rows >= 0)[:, None] & (d < D)[None, :]",
    "Rows past M are not masked: the last program reads past the end.",
)
exercise.slip(
    "row_length",
    "rows[:, None] * D",
    "rows[:, None] * BLOCK_D",
    "A row is D numbers long, not BLOCK_D: row i begins at i · D.",
)
exercise.slip(
    "always_the_first_rows",
    "tl.program_id(0) * BLOCK_M + ",
    "",
    "Every program works on the first rows: the rows lack `tl.program_id(0) * BLOCK_M`.",
)
exercise.slip(
    "output_squared",
    "tl.sum(out * dout, 1)",
    "tl.sum(out * out, 1)",
    "The output is multiplied by itself: the other factor is its gradient, dout.",
)
exercise.slip(
    "sum_not_masked",
    "tl.sum(out * dout, 1), mask=rows < M",
    "tl.sum(out * dout, 1)",
    "The store has no mask: the last program writes past the end.",
)
exercise.slip(
    "product_in_16_bits",
    "tl.sum(out * dout, 1)",
    "tl.sum((out * dout).to(out_ptr.dtype.element_ty).to(tl.float32), 1)",
    "The products are rounded to 16 bits: `.to(tl.float32)` after the loads, before `*`.",
)

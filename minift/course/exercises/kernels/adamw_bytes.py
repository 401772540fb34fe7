"""kernels.adamw_bytes: what a step of AdamW moves, predicted, then measured."""

from collections.abc import Iterator

import torch

import kernels
from kernels.lab import check as watch
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

MOVED = ("param", "grad", "exp_avg", "exp_avg_sq", "master", "exp_avg_scale", "exp_avg_sq_scale")


def of(dtype: torch.dtype, master: bool = False, eight_bit: int | None = None) -> Inputs:
    return {"dtype": dtype, "master": master, "eight_bit": eight_bit}


def single() -> Iterator[Inputs]:
    yield of(torch.float32)


def half() -> Iterator[Inputs]:
    yield of(torch.float32)
    yield of(torch.bfloat16)


def masters() -> Iterator[Inputs]:
    yield of(torch.float32)
    yield of(torch.bfloat16, master=True)
    yield of(torch.float16, master=True)


def codes() -> Iterator[Inputs]:
    yield of(torch.float32, eight_bit=256)
    yield of(torch.bfloat16, eight_bit=64)
    yield of(torch.float16, master=True, eight_bit=32)
    yield of(torch.bfloat16, master=True, eight_bit=draw(0).choice((32, 64, 128, 512)))


exercise = Exercise(
    "kernels.adamw_bytes",
    "Bytes of an optimiser step",
    properties=(
        Equals("equals what is measured in fp32", single, "Four reads, three writes."),
        Equals("counts 16-bit parameters and gradients", half, "The moments stay in fp32."),
        Equals("counts master weights", masters, "They are read and written; p is only written."),
        Equals("counts 8-bit moments with their scales", codes, "A scale is read and written."),
    ),
    hints=(
        "Read: p, g, m, v. Written: p, m, v. `dtype.itemsize` is the number of bytes of one "
        "number of p, and of g.",
        "With a master, the fp32 master is read and written. p is its rounded copy, and need only "
        "be written.",
        "A moment in 8 bits moves 2 bytes, and each block of `eight_bit` of them has an fp32 scale "
        "that moves 8 bytes: 8 / eight_bit a parameter.",
    ),
)


@exercise.stub
def adamw_bytes(dtype: torch.dtype, master: bool, eight_bit: int | None) -> float:
    """The bytes a parameter that one step of AdamW has to move, without clipping.

    dtype: of the parameter and its gradient.
    master: whether the real weights are an fp32 copy, of which the parameter is the rounding.
    eight_bit: None for fp32 moments; else both are 8-bit codes, and each `eight_bit` codes of
    each moment share an fp32 scale.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(dtype: torch.dtype, master: bool, eight_bit: int | None) -> float:
    size = dtype.itemsize
    weights = 4 + 4 + size if master else size + size
    moment = 2 * 4 if eight_bit is None else 2 * (1 + 4 / eight_bit)
    return weights + size + 2 * moment


@exercise.reference
def measured(dtype: torch.dtype, master: bool, eight_bit: int | None) -> float:
    n = 2048
    p = torch.nn.Parameter(torch.ones(n, dtype=dtype))
    p.grad = torch.ones_like(p)
    plain = dtype == torch.float32 or master
    optimiser = (
        kernels.AdamW([p], stochastic_rounding=not plain)
        if eight_bit is None
        else kernels.AdamW8bit(
            [p], block_size=eight_bit, min_8bit_size=0, stochastic_rounding=not plain
        )
    )
    with watch() as report:
        optimiser.step()
    found = [report.traffic[name] for name in MOVED if name in report.traffic]
    return sum(t.loaded + t.stored for t in found) / n


exercise.slip(
    "nothing_is_written",
    "return weights + size + 2 * moment",
    "return (weights + size + 2 * moment) / 2 + size / 2",
    "Only reads are counted: p, m and v are written, too.",
)
exercise.slip(
    "gradient_written",
    "return weights + size + 2 * moment",
    "return weights + 2 * size + 2 * moment",
    "The gradient is read, and not written.",
)
exercise.slip(
    "moments_in_sixteen_bits",
    "2 * 4 if eight_bit",
    "2 * size if eight_bit",
    "The moments are fp32, whatever the parameter is.",
)
exercise.slip(
    "one_moment",
    "+ 2 * moment",
    "+ moment",
    "There are two moments, m and v.",
)
exercise.slip(
    "parameter_read",
    "4 + 4 + size if master",
    "4 + 4 + 2 * size if master",
    "With a master, the parameter is not read: it is the rounding of its master.",
)
exercise.slip(
    "master_instead",
    "4 + 4 + size if master",
    "4 + 4 if master",
    "The parameter itself is missing: it is written after its master.",
)
exercise.slip(
    "no_scales",
    "(1 + 4 / eight_bit)",
    "1",
    "The scales are missing: 4 bytes for `eight_bit` codes, read and written.",
)
exercise.slip(
    "fp32_for_all",
    "size = dtype.itemsize",
    "size = 4",
    "Not every number has four bytes: dtype.itemsize.",
)

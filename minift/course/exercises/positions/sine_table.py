"""positions.sine_table: the table of 2017 in another order, as some models store it."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def first() -> Iterator[Inputs]:
    yield {"length": 3, "width": 2}
    yield {"length": 1, "width": 4}


def slower() -> Iterator[Inputs]:
    yield {"length": 4, "width": 4}
    for length, width in ((7, 6), (50, 16), (33, 64)):
        yield {"length": length, "width": width}
    for seed in range(3):
        rng = draw(seed)
        yield {"length": rng.randint(2, 90), "width": 2 * rng.randint(2, 40)}


exercise = Exercise(
    "positions.sine_table",
    "Positions as sines and cosines",
    properties=(
        Equals("has one pair right", first, "sin(t) and cos(t), t from 0.", ulps=64),
        Equals(
            "makes each pair slower than the one before",
            slower,
            "Pair i: angle t / 10000^(2i/C).",
            ulps=64,
        ),
    ),
    hints=(
        "Two axes: t from 0 to length − 1 downwards, i from 0 to C/2 − 1 to the right. `t[:, None] "
        "* speed[None]` gives all angles at once.",
        "The speed of pair i is `10000 ** (-2 * i / width)`: 1 for the first pair.",
        "`torch.cat([angles.sin(), angles.cos()], dim=-1)`.",
    ),
)


@exercise.stub
def sine_table(length: int, width: int) -> Tensor:
    """A vector for each position t = 0 … length - 1: first all sines, then all cosines.

    Column i is sin(t / 10000^(2i/C)) and column C/2 + i is cos of the same, for i = 0 … C/2 - 1,
    with C = width, an even number. Returns (length, width), float32.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(length: int, width: int) -> Tensor:
    speeds = 10000.0 ** (-2 * torch.arange(width // 2) / width)
    angles = torch.arange(length)[:, None] * speeds[None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@exercise.reference
def number_by_number(length: int, width: int) -> Tensor:
    rows = []
    for t in range(length):
        angles = [t / 10000 ** (2 * i / width) for i in range(width // 2)]
        rows.append([*map(math.sin, angles), *map(math.cos, angles)])
    return torch.tensor(rows, dtype=torch.float32)


exercise.slip(
    "side_by_side",
    "torch.cat([angles.sin(), angles.cos()], dim=-1)",
    "torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)",
    "Sines and cosines alternate, as in the paper; here all sines come first.",
)
exercise.slip(
    "half_the_exponent",
    "-2 * torch.arange(width // 2) / width",
    "-torch.arange(width // 2) / width",
    "The exponent is 2i / C: the last pair has to be nearly 10000 times as slow as the first.",
)
exercise.slip(
    "from_one",
    "torch.arange(length)[:, None]",
    "torch.arange(1, length + 1)[:, None]",
    "Positions are counted from 0: the first row is all sin(0) = 0 and cos(0) = 1.",
)
exercise.slip(
    "cosines_first",
    "[angles.sin(), angles.cos()]",
    "[angles.cos(), angles.sin()]",
    "Cosines stand first: sines are asked for in the first half.",
)
exercise.slip(
    "faster_and_faster",
    "10000.0 ** (-2",
    "10000.0 ** (2",
    "Each pair turns faster than the one before; it has to be slower: a minus in the exponent.",
)

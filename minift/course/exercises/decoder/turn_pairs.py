"""decoder.turn_pairs: rotary positions in the layout of the paper, with neighbours as pairs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, draw, normal
from minift.course.properties import Equals, Gradient, keeps_dtype


def one_pair() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[[1.0, 0.0]]]), "positions": torch.tensor([1]), "base": 100.0}
    yield {"x": counting(1, 3, 2), "positions": torch.tensor([0, 1, 2]), "base": 100.0}
    yield {"x": normal(2, 4, 2, seed=1), "positions": torch.tensor([3, 9, 1, 0]), "base": 10.0}


def pairs() -> Iterator[Inputs]:
    yield {"x": counting(1, 2, 4), "positions": torch.tensor([0, 1]), "base": 100.0}
    for seed, (h, t, d) in enumerate([(1, 1, 6), (3, 5, 8), (2, 7, 16), (4, 2, 64)]):
        base = 10.0 ** draw(seed).randint(2, 6)
        yield {"x": normal(h, t, d, seed=seed), "positions": torch.arange(t), "base": base}


def far() -> Iterator[Inputs]:
    yield {"x": counting(1, 2, 4), "positions": torch.tensor([7, 3]), "base": 100.0}
    for seed, first in enumerate((5, 300, 2000)):
        places = first + torch.tensor([0, 2, 3, 9])
        yield {"x": normal(2, 4, 10, seed=seed), "positions": places, "base": 1e4}


equals = Equals(
    "turns one pair by its position",
    one_pair,
    "(a, b) becomes (a cos φ − b sin φ, a sin φ + b cos φ), φ: the position times 1 for pair 0.",
)

exercise = Exercise(
    "decoder.turn_pairs",
    "Rotary positions, neighbours as pairs",
    properties=(
        equals,
        Equals(
            "turns each pair at its own speed",
            pairs,
            "Pair i is x[2i], x[2i + 1]; its angle at position m is m · base^(−2i/D).",
            ulps=64,
        ),
        Equals(
            "takes the positions that it is given",
            far,
            "With a cache the first token of x is not at position 0.",
            ulps=2e4,  # an angle of 2000 in fp32 is itself exact to 1e-4
        ),
        keeps_dtype(Equals("", far, ""), torch.float16, torch.bfloat16, ulps=4),
        Gradient("has the right gradient", pairs, "The way back turns the other way.", ulps=64),
    ),
    hints=(
        "One pair first: what are the angle and the two results for x = (1, 0) at position 1?",
        "`x[..., 0::2]` are the first partners of all pairs, `x[..., 1::2]` the second ones. The "
        "angles are a table of T rows and D / 2 columns: positions down, speeds across.",
        "`torch.stack([a, b], dim=-1).flatten(-2)` puts two halves back side by side: a0, b0, a1, "
        "b1, … Compute the angles in fp32: bf16 has no 2001.",
    ),
)


@exercise.stub
def turn_pairs(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Pair i of each head, (x[2i], x[2i + 1]), turned by the angle positions[t] · base^(−2i/D).

    x: (H, T, D) with D even, any float dtype; positions: (T,), whole numbers from 0 on, angles in
    fp32. (a, b) becomes (a cos φ − b sin φ, a sin φ + b cos φ). Returns the same shape and dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, positions: Tensor, base: float) -> Tensor:
    d = x.shape[-1]
    speeds = base ** (-torch.arange(0, d, 2).float() / d)  # (D/2,)
    angles = positions[:, None].float() * speeds  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]  # (H, T, D/2) each
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)


@exercise.reference
def as_complex_numbers(x: Tensor, positions: Tensor, base: float) -> Tensor:
    d = x.shape[-1]
    speeds = torch.tensor([base ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    turns = torch.polar(torch.ones(len(positions), d // 2).double(), positions[:, None] * speeds)
    numbers = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(numbers * turns).flatten(-2)


exercise.slip(
    "halves_as_pairs",
    "x[..., 0::2], x[..., 1::2]",
    "*x.chunk(2, dim=-1),",
    "The partners are taken from the two halves of the head (Hugging Face's layout); here they "
    "are neighbours: x[2i] and x[2i + 1].",
)
exercise.slip(
    "side_by_side",
    "torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)",
    "torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)",
    "The results lie in two halves: first partners, then second ones. Each pair goes back to its "
    "own two places.",
)
exercise.slip(
    "other_way_round",
    "a * cos - b * sin, a * sin + b * cos",
    "a * cos + b * sin, b * cos - a * sin",
    "The pairs turn the other way: the minus belongs to the first partner.",
)
exercise.slip(
    "half_the_speeds",
    "torch.arange(0, d, 2).float() / d",
    "torch.arange(0, d // 2).float() / d",
    "The exponent is 2i/D; with i/D the slow pairs are too fast.",
)
exercise.slip(
    "growing_speeds",
    "-torch.arange",
    "+torch.arange",
    "The speeds grow with i: the exponent is negative, pair 0 is the fastest.",
)
exercise.slip(
    "always_from_zero",
    "positions[:, None].float() * speeds",
    "torch.arange(len(positions))[:, None].float() * speeds",
    "The positions are counted from 0 whatever is given: with a cache the new tokens stand later.",
)
exercise.slip(
    "angles_in_half_precision",
    "positions[:, None].float() * speeds",
    "positions[:, None].to(x.dtype) * speeds.to(x.dtype)",
    "The angles are computed in the dtype of x: bf16 has no number between 2000 and 2008, and "
    "neighbours get one angle.",
)

"""positions.rotate_pairs: rotary positions in the layout of the paper, neighbours as pairs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, H, T, D): one token, one pair, several texts and heads, odd lengths
SHAPES = [(1, 1, 3, 2), (2, 1, 1, 4), (1, 3, 5, 8), (2, 2, 7, 6), (1, 2, 9, 16)]


def by_hand() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[[[1.0, 0]]]]), "angles": torch.tensor([[torch.pi / 2]])}
    yield {"x": torch.tensor([[[[3.0, 4]]]]), "angles": torch.tensor([[torch.pi / 6]])}


def pairs() -> Iterator[Inputs]:
    yield {"x": counting(1, 1, 1, 4), "angles": torch.tensor([[0.5, 0.0]])}
    for seed, (b, h, t, d) in enumerate(SHAPES):
        x, angles = normal(b, h, t, d, seed=40 + seed), 3 * normal(t, d // 2, seed=60 + seed)
        yield {"x": strided(x) if seed % 2 else x, "angles": angles}


equals = Equals("turns each pair of neighbours", pairs, "Pairs are (0, 1), (2, 3), …")

exercise = Exercise(
    "positions.rotate_pairs",
    "Turning pairs",
    properties=(
        Equals("turns one pair", by_hand, "(a, b) → (a cos − b sin, a sin + b cos)."),
        equals,
        keeps_dtype(equals, torch.float64),
        Gradient("has the right gradient", pairs, "The gradient is turned back.", ulps=64),
    ),
    hints=(
        "`x[..., 0::2]` are the first elements of all pairs and `x[..., 1::2]` the second ones: "
        "(B, H, T, D/2) each, as wide as the angles.",
        "Turned by α, (a, b) becomes (a cos α − b sin α, a sin α + b cos α).",
        "`torch.stack([first, second], dim=-1).flatten(-2)` puts the pairs side by side again.",
    ),
)


@exercise.stub
def rotate_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair of neighbours (x[..., 2i], x[..., 2i + 1]) turned by the angle angles[t, i].

    x: (B, H, T, D), angles: (T, D/2) in radians, counter-clockwise, same dtype. Returns
    (B, H, T, D).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, angles: Tensor) -> Tensor:
    a, b = x[..., 0::2], x[..., 1::2]
    first = a * angles.cos() - b * angles.sin()
    second = a * angles.sin() + b * angles.cos()
    return torch.stack([first, second], dim=-1).flatten(-2)


@exercise.reference
def as_complex_numbers(x: Tensor, angles: Tensor) -> Tensor:
    turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    turned = turned * torch.polar(torch.ones_like(angles.double()), angles.double())
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


exercise.slip(
    "halves",
    "a, b = x[..., 0::2], x[..., 1::2]",
    "a, b = x.chunk(2, dim=-1)",
    "Element i was paired with i + D/2, as Llama's files have it; here neighbours are a pair.",
)
exercise.slip(
    "clockwise",
    "first = a * angles.cos() - b * angles.sin()\n    second = a * angles.sin() + b * angles.cos()",
    "first = a * angles.cos() + b * angles.sin()\n    second = b * angles.cos() - a * angles.sin()",
    "Turned the other way round: (1, 0) turned by 90° is (0, 1).",
)
exercise.slip(
    "pairs_torn_apart",
    "torch.stack([first, second], dim=-1).flatten(-2)",
    "torch.cat([first, second], dim=-1)",
    "The pairs were torn apart at the end: the two elements of a pair stand side by side.",
)
exercise.slip(
    "signs",
    "angles.cos() - b",
    "angles.cos() + b",
    "One sign is wrong: vectors do not keep their length. It is a cos − b sin.",
)
exercise.slip(
    "second_from_the_turned",
    "second = a * angles.sin()",
    "second = first * angles.sin()",
    "The second element was made of the turned first one; both need the old pair.",
)

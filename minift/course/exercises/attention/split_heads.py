"""attention.split_heads: one wide vector a token becomes several narrow ones."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, T, H, D): T = H and H = D hide exchanged dimensions, so most shapes have all four different
SHAPES = [(1, 3, 2, 1), (2, 4, 3, 5), (3, 1, 2, 4), (2, 5, 1, 8), (2, 7, 12, 64), (1, 4, 4, 4)]


def cases() -> Iterator[Inputs]:
    yield {"x": counting(1, 3, 4, start=0), "num_heads": 2}
    for seed, (b, t, h, d) in enumerate(SHAPES * 2):
        x = normal(b, t, h * d, seed=seed)
        yield {"x": strided(x) if seed >= len(SHAPES) else x, "num_heads": h}


equals = Equals(
    "head h holds features h·D to (h+1)·D of every token",
    cases,
    "First split the last dimension into (H, D), then exchange the dimensions T and H.",
)

exercise = Exercise(
    "attention.split_heads",
    "Splitting into heads",
    in_library=("minift.layers.attention.split_heads",),
    properties=(
        equals,
        keeps_dtype(equals, torch.float64, torch.float16, torch.bfloat16),
        Gradient("has the right gradient", cases, "Every feature goes to exactly one place."),
    ),
    hints=(
        "The last dimension holds the heads side by side: features 0 to D-1 are head 0, and so on.",
        "`x.reshape(B, T, H, D)` or `x.unflatten(-1, (H, D))` splits the last dimension and moves "
        "nothing.",
        "Now T and H stand in the wrong order: `.transpose(1, 2)`.",
    ),
)


@exercise.stub
def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Head h of each token: its features h·D to (h+1)·D.

    x: (B, T, H·D) with H = num_heads. Returns (B, H, T, D) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


@exercise.reference
def by_slices(x: Tensor, num_heads: int) -> Tensor:
    return torch.stack(x.double().chunk(num_heads, dim=-1), dim=1)


@exercise.mistake(
    "The shape is right but the content is not: a reshape straight to (B, H, T, D) mixes tokens "
    "and heads. Split into (B, T, H, D) first, then transpose."
)
def reshaped_at_once(x: Tensor, num_heads: int) -> Tensor:
    return x.reshape(x.shape[0], num_heads, x.shape[1], -1)


@exercise.mistake("The dimensions T and H are still to be exchanged: `.transpose(1, 2)`.")
def not_transposed(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (num_heads, -1))


@exercise.mistake("The last dimension was split as (D, H): neighbours went to different heads.")
def interleaved(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


@exercise.mistake("The number of heads and the width of a head are exchanged.")
def exchanged_sizes(x: Tensor, num_heads: int) -> Tensor:
    return x.unflatten(-1, (-1, num_heads)).transpose(1, 2)

"""images.class_map: where does the class token look? A map from a layer's attention; mend it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal
from minift.course.properties import Equals, keeps_dtype

# (H, rows, columns)
SHAPES = [(1, 2, 2), (2, 3, 2), (4, 2, 5), (3, 1, 4), (2, 7, 3), (5, 4, 4)]


def readable() -> Iterator[Inputs]:
    yield {"weights": counting(1, 5, 5, start=0) / 25, "grid": (2, 2)}
    yield {"weights": counting(1, 7, 7, start=0) / 49, "grid": (2, 3)}


def heads() -> Iterator[Inputs]:
    for seed, (h, rows, columns) in enumerate(SHAPES * 2):
        tokens = rows * columns + 1
        weights = normal(h, tokens, tokens, seed=seed).mul(2).softmax(-1)
        yield {"weights": weights, "grid": (rows, columns)}


equals = Equals(
    "each head counts the same, and the shares of the patches add up to 1",
    heads,
    "First the mean over the heads, then the division by what the patches get together.",
    ulps=32,
)

exercise = Exercise(
    "images.class_map",
    "Mend it: where the class token looks",
    properties=(
        Equals("takes the class token's row, without its look at itself", readable, "Row 0.", 32),
        equals,
        keeps_dtype(equals, torch.float64, ulps=32),
    ),
    hints=(
        "weights[h, i, j] is how much token i takes from token j. The class token is token 0: is "
        "it the one that looks, or the one that is looked at?",
        "`weights[:, 0, 1:]` is what the class token takes from each patch, head by head.",
        "Average over the heads, divide by the sum over the patches, and reshape to "
        "(rows, columns): the patches come row by row.",
    ),
)


@exercise.stub
def class_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """How the class token's look is shared out over the image.

    weights: (H, T, T), the attention of one layer for one image; token 0 is the class token, the
    others are the patches row by row. grid: rows and columns of patches, T = rows · columns + 1.
    Returns (rows, columns) of the same dtype: the mean over the heads, scaled to add up to 1.
    """
    rows, columns = grid
    looks = weights[:, 1:, 0].mean(0)  # two faults are in these three lines
    return looks.reshape(columns, rows).T / looks.sum()


@exercise.solution
def solution(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    looks = weights[:, 0, 1:].mean(0)
    return (looks / looks.sum()).reshape(grid)


@exercise.reference
def by_loops(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    rows, columns = grid
    share = torch.zeros(rows, columns, dtype=torch.float64)
    for head in weights.double():
        for patch, weight in enumerate(head[0, 1:]):
            share[patch // columns, patch % columns] += weight
    return share / share.sum()


exercise.slip(
    "looked_at",
    "weights[:, 0, 1:]",
    "weights[:, 1:, 0]",
    "That is how much each patch looks at the class token; asked is how the class token looks at "
    "them: its row, not its column.",
)
exercise.slip(
    "column_by_column",
    "(looks / looks.sum()).reshape(grid)",
    "(looks / looks.sum()).reshape(grid[::-1]).T",
    "The patches were laid out column by column; they come row by row.",
)
exercise.slip(
    "keeps_the_class_token",
    "looks = weights[:, 0, 1:].mean(0)",
    "looks = weights[:, 0].mean(0)[: grid[0] * grid[1]]",
    "The map begins with the class token's look at itself, which belongs to no patch: every patch "
    "has moved by one place, and the last one is gone.",
)
exercise.slip(
    "not_scaled",
    "looks / looks.sum()",
    "looks",
    "The shares do not add up to 1: what the class token gives itself is still missing.",
)
exercise.slip(
    "first_head_only",
    "weights[:, 0, 1:].mean(0)",
    "weights[0, 0, 1:]",
    "Only the first head was asked: average over all of them.",
)
exercise.slip(
    "strongest_head",
    "weights[:, 0, 1:].mean(0)",
    "weights[:, 0, 1:].amax(0)",
    "The largest weight of any head was taken; asked is the mean over the heads.",
)

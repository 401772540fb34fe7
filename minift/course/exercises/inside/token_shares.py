"""inside.token_shares: from gradients on a path to what each token adds."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal
from minift.course.properties import Equals, keeps_dtype

SHAPES = [(1, 1, 2), (4, 3, 2), (2, 5, 7), (16, 1, 3), (9, 6, 4)]


def zero_baseline() -> Iterator[Inputs]:
    x = counting(2, 2)
    yield {"gradients": torch.ones(3, 2, 2), "x": x, "baseline": torch.zeros_like(x)}
    for seed, (steps, tokens, width) in enumerate(SHAPES):
        x = normal(tokens, width, seed=seed)
        gradients = normal(steps, tokens, width, seed=40 + seed)
        yield {"gradients": gradients, "x": x, "baseline": torch.zeros_like(x)}


def any_baseline() -> Iterator[Inputs]:
    yield {"gradients": torch.ones(2, 2, 1), "x": counting(2, 1), "baseline": torch.ones(2, 1)}
    for seed, (steps, tokens, width) in enumerate(SHAPES, 5):
        x, start = normal(tokens, width, seed=seed), normal(tokens, width, seed=20 + seed)
        yield {"gradients": normal(steps, tokens, width, seed=seed), "x": x, "baseline": start}


equals = Equals(
    "measures from the baseline", any_baseline, "The path leads from the baseline to x: x - x′."
)

exercise = Exercise(
    "inside.token_shares",
    "Integrated gradients, one number a token",
    properties=(
        Equals("is Σ over features of mean gradient · x", zero_baseline, "A mean, then a sum."),
        equals,
        keeps_dtype(equals, torch.float64),
    ),
    hints=(
        "The integral from 0 to 1 is a mean: `gradients.mean(dim=0)`, shape (T, C).",
        "Multiply place by place with how far the path goes, `x - baseline`.",
        "One number for each token: the sum over its C features. Signs stay: what one feature adds "
        "another may take away.",
    ),
)


@exercise.stub
def token_shares(gradients: Tensor, x: Tensor, baseline: Tensor) -> Tensor:
    """What each token adds to F(x) - F(baseline), by integrated gradients.

    gradients: (steps, T, C), the gradients of F at the midpoints of equal steps on the straight
    way from the baseline to x. x, baseline: (T, C), the tokens' vectors. Returns (T,).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(gradients: Tensor, x: Tensor, baseline: Tensor) -> Tensor:
    return (gradients.mean(dim=0) * (x - baseline)).sum(dim=-1)


@exercise.reference
def by_definition(gradients: Tensor, x: Tensor, baseline: Tensor) -> Tensor:
    path = (x.double() - baseline.double()) / len(gradients)
    return torch.einsum("stc,tc->t", gradients.double(), path)


exercise.slip(
    "times_x",
    "(x - baseline)",
    "x",
    "The mean gradient is multiplied by x: right only for a baseline of zeros. The path is "
    "x - baseline long.",
)
exercise.slip(
    "sum_of_the_steps",
    "gradients.mean(dim=0)",
    "gradients.sum(dim=0)",
    "The gradients are added up and not divided by their number: an integral from 0 to 1 is a "
    "mean, and more steps must not give more.",
)
exercise.slip(
    "last_gradient",
    "gradients.mean(dim=0)",
    "gradients[-1]",
    "Only the gradient at the end of the path counts: that is gradient times input, which says "
    "nothing where F has flattened out.",
)
exercise.slip(
    "without_signs",
    ".sum(dim=-1)",
    ".abs().sum(dim=-1)",
    "The signs are lost: a token may lower the result, and the shares no longer add up to "
    "F(x) - F(baseline).",
)
exercise.slip(
    "mean_of_the_features",
    ".sum(dim=-1)",
    ".mean(dim=-1)",
    "The features are averaged: the shares of all tokens then add up to 1/C of the difference.",
)

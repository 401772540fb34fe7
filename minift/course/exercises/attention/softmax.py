"""attention.softmax: scores to weights, without overflow and with masked rows."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

INF = float("inf")
EXTREMES = "exp overflows to inf or underflows to 0: subtract each row's maximum first."
NAN = "A NaN that `where` or `masked_fill` hides in the result comes back in the gradient."


def plain() -> Iterator[Inputs]:
    yield {"scores": counting(2, 3, start=0)}
    for seed, shape in enumerate([(1,), (4,), (2, 5), (2, 3, 7), (2, 2, 4, 33)] * 2):
        x = normal(*shape, seed=seed)
        yield {"scores": strided(x) if len(shape) > 1 and seed > 4 else x}


def large() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -2000.0]])}
    yield {"scores": normal(3, 9, seed=1) * 50 + torch.tensor([[1e4], [0.0], [-1e4]])}


def masked() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[0.0, -INF, 1.0], [2.0, -INF, -INF]])}
    yield {"scores": normal(4, 6, seed=2).masked_fill(normal(4, 6, seed=3) > 1.0, -INF)}


def hidden() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[0.0, 0.0], [-INF, -INF]])}
    yield {"scores": torch.full((1, 1, 3), -INF)}


def differentiable() -> Iterator[Inputs]:
    for cases in (plain, masked, hidden):  # at large scores every gradient is about 0
        yield from cases()


equals = Equals(
    "equals exp(s) / Σ exp(s) over the last dimension, in fp64",
    plain,
    "Exponentials divided by their sum over the last dimension; each row then sums to 1.",
)

exercise = Exercise(
    "attention.softmax",
    "A softmax that survives large and masked scores",
    properties=(
        equals,
        # A score of 10⁴ is itself rounded to 10⁴ ulps, which exp(s - log Σ exp(s)) passes on.
        Equals("survives large scores", large, EXTREMES, ulps=2e4),
        Equals("gives masked scores weight 0", masked, "exp(-inf) is 0: nothing else is needed."),
        Equals("gives a fully masked row zeros", hidden, "Its sum is 0, and 0 / 0 is NaN."),
        keeps_dtype(equals, torch.float64, torch.float16, torch.bfloat16),
        Gradient("has the right gradient, masked rows too", differentiable, NAN),
    ),
    hints=(
        "softmax(s) = softmax(s - c) for any number c per row: which c keeps exp from overflowing?",
        "`scores.amax(dim=-1, keepdim=True)` is the largest score of each row.",
        "In a fully masked row the largest score is -inf, and -inf - (-inf) is NaN. Replace that "
        "maximum by 0 (`masked_fill`), and a sum of 0 by 1.",
    ),
)


@exercise.stub
def softmax(scores: Tensor) -> Tensor:
    """Weights exp(s_j) / Σ_k exp(s_k) over the last dimension.

    scores: (..., N), any float dtype; -inf marks a masked score, whose weight is 0. A row in
    which all scores are masked gets zeros. Returns the same shape and dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(scores: Tensor) -> Tensor:
    largest = scores.amax(dim=-1, keepdim=True)
    largest = largest.masked_fill(largest == float("-inf"), 0.0)
    weights = (scores - largest).exp()
    total = weights.sum(dim=-1, keepdim=True)
    return weights / total.masked_fill(total == 0.0, 1.0)


@exercise.reference
def from_torch(scores: Tensor) -> Tensor:
    empty = (scores == -INF).all(dim=-1, keepdim=True)
    safe = scores.double().masked_fill(empty, 0.0)
    return torch.softmax(safe, dim=-1).masked_fill(empty, 0.0)


@exercise.mistake("exp overflows: subtract each row's maximum before the exponential.")
def overflows(scores: Tensor) -> Tensor:
    weights = scores.exp()
    total = weights.sum(dim=-1, keepdim=True)
    return weights / total.masked_fill(total == 0.0, 1.0)


@exercise.mistake(
    "The maximum of the whole tensor was subtracted: rows far below it underflow to 0. Each row "
    "has its own maximum."
)
def one_maximum_for_all(scores: Tensor) -> Tensor:
    weights = (scores - scores.max().clamp(min=-3e38)).exp()
    total = weights.sum(dim=-1, keepdim=True)
    return weights / total.masked_fill(total == 0.0, 1.0)


@exercise.mistake("A fully masked row gives NaN: its maximum is -inf, and -inf - (-inf) is NaN.")
def nan_in_masked_rows(scores: Tensor) -> Tensor:
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return weights / weights.sum(dim=-1, keepdim=True)


@exercise.mistake("The sum runs over the wrong dimension: the rows, not the columns, sum to 1.")
def over_the_first_dimension(scores: Tensor) -> Tensor:
    weights = (scores - scores.amax(dim=0, keepdim=True).clamp(min=-3e38)).exp()
    total = weights.sum(dim=0, keepdim=True)
    return weights / total.masked_fill(total == 0.0, 1.0)


@exercise.mistake("`.float()` made the result fp32; it has to come back in the dtype of scores.")
def always_fp32(scores: Tensor) -> Tensor:
    return solution(scores.float())

"""kernels.dropout_gradient: find the bug in a backward pass through dropout."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals


def of(m: int, n: int, rate: float, seed: int) -> Inputs:
    keep = torch.rand(m, n, generator=torch.Generator().manual_seed(seed)) >= rate
    p = normal(m, n, seed=seed).softmax(1)
    return {"p": p, "dp": normal(m, n, seed=50 + seed), "keep": keep, "rate": rate}


def nothing_dropped() -> Iterator[Inputs]:
    p, dp = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[4.0, 0.0, 8.0]])
    yield {"p": p, "dp": dp, "keep": torch.ones(1, 3, dtype=torch.bool), "rate": 0.0}
    yield of(4, 7, 0.0, 1)


def some_dropped() -> Iterator[Inputs]:
    p, dp = torch.tensor([[0.5, 0.25, 0.25]]), torch.tensor([[4.0, 0.0, 8.0]])
    yield {"p": p, "dp": dp, "keep": torch.tensor([[True, True, False]]), "rate": 0.5}
    yield of(1, 5, 0.5, 2)
    yield of(6, 9, 0.3, 3)
    yield of(17, 33, 0.1, 4)


def all_dropped() -> Iterator[Inputs]:
    yield {**of(2, 3, 0.5, 5), "keep": torch.zeros(2, 3, dtype=torch.bool)}


def in_fp64() -> Iterator[Inputs]:
    for inputs in (of(6, 9, 0.3, 3), of(3, 20, 0.5, 7)):
        p = inputs["p"].double()  # rounded, a row of p adds up to 1 no more
        yield {**inputs, "p": p / p.sum(1, keepdim=True), "dp": inputs["dp"].double()}


exercise = Exercise(
    "kernels.dropout_gradient",
    "A bug in the gradient of dropout",
    properties=(
        Equals("equals autograd when nothing is dropped", nothing_dropped, "ds = p (dp - delta)."),
        Equals("equals autograd with dropout", some_dropped, "One factor too many, or too few?"),
        Equals("gives zeros when all is dropped", all_dropped, "A dropped weight has no gradient."),
        Equals("keeps the dtype: float64", in_fp64, "A step went through another dtype.", ulps=64),
    ),
    hints=(
        "Two things are easy to mix up: the gradient of the dropped weights (`dp` as it comes in) "
        "and the gradient of the weights before dropout (`dp` after the second line).",
        "delta is Σ_j p · (gradient of p), as in every softmax. Which p, and which gradient?",
    ),
)


@exercise.stub
def dropout_gradient(p: Tensor, dp: Tensor, keep: Tensor, rate: float) -> Tensor:
    """The gradient of the scores, where scores → softmax → p → dropout → met; dp is that of met.

    met = p · keep / (1 - rate). p, dp: (M, N); keep: (M, N) bool. There is one bug in it.
    """
    met = p * keep / (1 - rate)
    dp = dp * keep / (1 - rate)
    delta = (met * dp).sum(1, keepdim=True)
    return p * (dp - delta)


@exercise.solution
def solution(p: Tensor, dp: Tensor, keep: Tensor, rate: float) -> Tensor:
    dp = dp * keep / (1 - rate)
    delta = (p * dp).sum(1, keepdim=True)
    return p * (dp - delta)


@exercise.reference
def by_autograd(p: Tensor, dp: Tensor, keep: Tensor, rate: float) -> Tensor:
    scores = p.double().log().requires_grad_()
    met = scores.softmax(1) * keep / (1 - rate)
    return torch.autograd.grad(met, scores, dp.double())[0].to(p.dtype)


exercise.slip(
    "dropped_weight_outside",
    "return p * (dp - delta)",
    "return p * keep / (1 - rate) * (dp - delta)",
    "The factor in front is the softmax's own p: a dropped weight still moves with its row.",
)
exercise.slip(
    "delta_before_dropout",
    "    dp = dp * keep / (1 - rate)\n    delta = (p * dp).sum(1, keepdim=True)\n",
    "    delta = (p * dp).sum(1, keepdim=True)\n    dp = dp * keep / (1 - rate)\n",
    "This delta is made of the gradient of met: it takes that of p, dp · keep / (1 - rate).",
)
exercise.slip(
    "not_rescaled",
    "dp * keep / (1 - rate)",
    "dp * keep",
    "The kept weights were divided by 1 - rate on the way, so their gradients are, too.",
)
exercise.slip(
    "mask_forgotten",
    "dp * keep / (1 - rate)",
    "dp / (1 - rate)",
    "Dropped weights still pass a gradient on: `keep` is missing.",
)
exercise.slip(
    "delta_dropped",
    "p * (dp - delta)",
    "p * dp",
    "delta is missing: a weight that rises makes the others of its row fall.",
)
exercise.slip(
    "other_mask",
    "dp * keep / (1 - rate)",
    "dp * ~keep / (1 - rate)",
    "The mask is turned round: keep is True where a weight is kept.",
)
exercise.slip(
    "dropped_weights_throughout",
    "    delta = (p * dp).sum(1, keepdim=True)\n    return p * (dp - delta)\n",
    "    met = p * keep / (1 - rate)\n"
    "    delta = (met * dp).sum(1, keepdim=True)\n"
    "    return met * (dp - delta)\n",
    "Both factors are the dropped weights now: softmax comes before dropout, so its gradient is "
    "made of p, here and in delta.",
)

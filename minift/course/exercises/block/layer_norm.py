"""block.layer_norm: every token's vector brought to mean 0 and variance 1."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, T, C): one token, one text, odd sizes, a width of 64
SHAPES = [(1, 1, 4), (1, 5, 8), (3, 2, 7), (2, 6, 5), (4, 3, 64)]


def plain() -> Iterator[Inputs]:
    ones, zeros = torch.ones(4), torch.zeros(4)
    yield {"x": torch.tensor([[[1.0, 2, 3, 6]]]), "weight": ones, "bias": zeros, "eps": 1e-5}
    for seed, (b, t, c) in enumerate(SHAPES):
        x = 2 + 3 * normal(b, t, c, seed=50 + seed)
        ones, zeros = torch.ones(c), torch.zeros(c)
        yield {"x": strided(x) if seed % 2 else x, "weight": ones, "bias": zeros, "eps": 1e-5}


def learnt() -> Iterator[Inputs]:
    for seed, (b, t, c) in enumerate(SHAPES):
        weight, bias = normal(c, seed=100 + seed), normal(c, seed=200 + seed)
        yield {"x": normal(b, t, c, seed=50 + seed), "weight": weight, "bias": bias, "eps": 1e-5}


def flat() -> Iterator[Inputs]:
    ones, zeros = torch.ones(3), torch.zeros(3)
    yield {"x": torch.full((1, 1, 3), 2.0), "weight": ones, "bias": zeros, "eps": 1e-3}
    small = 0.05 * normal(2, 3, 6, seed=7)
    yield {"x": small, "weight": torch.ones(6), "bias": torch.zeros(6), "eps": 1e-2}


def differentiable() -> Iterator[Inputs]:
    for cases in (plain, learnt):
        yield from cases()


equals = Equals(
    "each token has mean 0 and variance 1",
    plain,
    "Mean and variance are those of one token's C numbers: over the last dimension.",
)

exercise = Exercise(
    "block.layer_norm",
    "Layer normalisation",
    properties=(
        equals,
        Equals(
            "scales and shifts each feature", learnt, "Then · weight + bias, feature by feature."
        ),
        Equals("keeps equal numbers apart from 0 / 0", flat, "eps is added to the variance."),
        keeps_dtype(equals, torch.float64, ulps=64),
        Gradient(
            "has the right gradient",
            differentiable,
            "Mean and variance depend on x, too.",
            ulps=256,
        ),
    ),
    hints=(
        "`x.mean(dim=-1, keepdim=True)` is each token's mean, in a shape that can be subtracted.",
        "The variance is the mean of the squared distances from the mean: divide by C. PyTorch's "
        "`var` divides by C − 1 unless it is told otherwise.",
        "`(x - mean) / (variance + eps).sqrt() * weight + bias`.",
    ),
)


@exercise.stub
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, mean and variance of each token's C numbers.

    x: (B, T, C); weight, bias: (C,). Returns (B, T, C) of the same dtype. Written out, without
    PyTorch's own layer_norm.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.pow(2).mean(dim=-1, keepdim=True)
    return centred / (variance + eps).sqrt() * weight + bias


@exercise.reference
def from_torch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    weight, bias = weight.double(), bias.double()
    return torch.nn.functional.layer_norm(x.double(), weight.shape, weight, bias, eps)


exercise.slip(
    "unbiased",
    "centred.pow(2).mean(dim=-1, keepdim=True)",
    "x.var(dim=-1, keepdim=True)",
    "`var` divides by C − 1; here the variance divides by C (`correction=0`).",
)
exercise.slip(
    "whole_text",
    "x.mean(dim=-1, keepdim=True)",
    "x.mean(dim=(1, 2), keepdim=True)",
    "The mean is that of a whole text: each token is normed by itself, over the last dimension.",
)
exercise.slip(
    "over_the_tokens",
    "centred.pow(2).mean(dim=-1",
    "centred.pow(2).mean(dim=1",
    "The variance runs over the tokens (dimension 1); it belongs over the features, the last one.",
)
exercise.slip(
    "eps_outside",
    "(variance + eps).sqrt()",
    "(variance.sqrt() + eps)",
    "eps was added to the root; it belongs under it: √(variance + eps).",
)
exercise.slip(
    "no_shift",
    " * weight + bias",
    " * weight",
    "The bias is missing: after the scaling, each feature is shifted.",
)
exercise.slip(
    "not_divided_by_the_root",
    "(variance + eps).sqrt()",
    "(variance + eps)",
    "Divided by the variance: divide by its root, the standard deviation.",
)

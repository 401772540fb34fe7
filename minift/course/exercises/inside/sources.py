"""inside.sources: attention rollout, for the last token of one text."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals


def maps(layers: int, heads: int, tokens: int, seed: int) -> Tensor:
    """Random attention weights: rows that add up to 1."""
    return (2 * normal(layers, heads, tokens, tokens, seed=seed)).softmax(-1)


def one_layer() -> Iterator[Inputs]:
    yield {"maps": torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]]), "residual": 0.5}
    yield {"maps": maps(1, 1, 3, seed=0), "residual": 0.25}


def heads() -> Iterator[Inputs]:
    for seed, (count, tokens) in enumerate([(2, 2), (3, 5), (12, 4)]):
        yield {"maps": maps(1, count, tokens, seed), "residual": 0.5}


def layers() -> Iterator[Inputs]:
    yield {"maps": torch.tensor([[[[1.0, 0], [1, 0]]], [[[0.0, 1], [0, 1]]]]), "residual": 0.0}
    for seed, (count, tokens) in enumerate([(2, 3), (3, 1), (6, 9)], 7):
        yield {"maps": maps(count, 2, tokens, seed), "residual": 0.5}
        yield {"maps": maps(count, 3, tokens, seed + 9).tril(), "residual": 0.3}


exercise = Exercise(
    "inside.sources",
    "Attention rollout for one token",
    properties=(
        Equals("mixes attention with the residual", one_layer, "r of the token itself stays."),
        Equals("takes the mean over heads", heads, "All heads of a layer count alike."),
        Equals("goes on through all layers, the last one leftmost", layers, "Ã_L … Ã_2 Ã_1."),
    ),
    hints=(
        "One layer: the mean over its heads is (T, T). Keep a share r of each token itself, "
        "`residual * torch.eye(T)`, and 1 - r of what attention brings.",
        "Row i of that matrix says of what position i is made. After the second layer position i "
        "is made of positions j, and those of tokens k: a matrix product, `layer @ total`.",
        "Start with `total = torch.eye(T)`, go through the layers in order, and return the last "
        "row.",
    ),
)


@exercise.stub
def sources(maps: Tensor, residual: float) -> Tensor:
    """How much of each token is in the last position after all layers.

    maps: (layers, H, T, T), attention weights of one text, rows add up to 1. In each layer a
    position keeps the share `residual` of itself and takes the rest by the mean over the heads.
    Returns (T,).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(maps: Tensor, residual: float) -> Tensor:
    token = torch.eye(maps.shape[-1])
    total = token
    for layer in maps.mean(dim=1):
        total = (residual * token + (1 - residual) * layer) @ total
    return total[-1]


@exercise.reference
def followed_backwards(maps: Tensor, residual: float) -> Tensor:
    """From the last position down: a row vector times one layer after the other."""
    row = np.zeros(maps.shape[-1])
    row[-1] = 1.0
    for layer in maps.double().numpy()[::-1]:
        row = residual * row + (1 - residual) * sum(row @ head for head in layer) / len(layer)
    return torch.from_numpy(row)


exercise.slip(
    "first_layer_leftmost",
    "total = (residual * token + (1 - residual) * layer) @ total",
    "total = total @ (residual * token + (1 - residual) * layer)",
    "The layers are multiplied in the wrong order: what a later layer takes was made by the "
    "earlier ones, so the later matrix stands on the left.",
)
exercise.slip(
    "without_the_residual",
    "(residual * token + (1 - residual) * layer)",
    "layer",
    "The residual connection is left out: part of a token simply stays where it is.",
)
exercise.slip(
    "shares_above_one",
    "(1 - residual) * layer",
    "layer",
    "Attention keeps its full weight beside the residual: rows add up to more than 1.",
)
exercise.slip(
    "largest_head",
    "maps.mean(dim=1)",
    "maps.amax(dim=1)",
    "The largest head was taken; all heads count, so it is their mean.",
)
exercise.slip(
    "a_column",
    "total[-1]",
    "total[:, -1]",
    "That is a column: where the last token has gone. Where the last position comes from is a row.",
)

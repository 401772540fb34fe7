"""kernels.flash_step: one step of attention over tiles of keys, the online softmax with values."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Part
from minift.course.properties import in_dtypes

INF = float("inf")


def one_tile() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[0.0, 1.0]]), "v": torch.tensor([[3.0], [6.0]]), "block": 2}
    yield {"scores": normal(3, 5, seed=0), "v": normal(5, 4, seed=1), "block": 5}


def rising() -> Iterator[Inputs]:
    scores, v = torch.tensor([[0.0, 1.0, 3.0, 2.0]]), torch.tensor([[15.0], [0], [15], [30]])
    yield {"scores": scores, "v": v, "block": 2}
    yield {"scores": scores.flip(1), "v": v.flip(0), "block": 2}
    for seed, (m, n, d, block) in enumerate([(1, 2, 1, 1), (3, 7, 4, 3), (5, 33, 8, 16)]):
        yield {"scores": 3 * normal(m, n, seed=seed), "v": normal(n, d, seed=9), "block": block}


def large() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[300.0, 301.0]]), "v": torch.tensor([[3.0], [6]]), "block": 1}
    yield {"scores": torch.tensor([[302.0, 301.0]]), "v": torch.tensor([[3.0], [6]]), "block": 1}
    yield {"scores": 500 * normal(4, 20, seed=2), "v": normal(20, 3, seed=3), "block": 4}


def hidden() -> Iterator[Inputs]:
    v = torch.tensor([[3.0], [3], [3], [6]])
    yield {"scores": torch.tensor([[-INF, -INF, 0.0, 1.0]]), "v": v, "block": 2}
    scores = normal(5, 16, seed=4).masked_fill(
        torch.arange(16) < 3 * torch.arange(5)[:, None], -INF
    )
    yield {"scores": scores, "v": normal(16, 4, seed=5), "block": 4}


def run(fn: Any, scores: Tensor, v: Tensor, block: int) -> dict[str, Any]:
    """All tiles in turn, from nothing seen to output and log-sum."""
    rows = scores.shape[0]
    high, total = scores.new_full((rows,), -INF), scores.new_zeros(rows)
    acc = scores.new_zeros(rows, v.shape[1])
    for tile, values in zip(scores.split(block, 1), v.split(block), strict=True):
        high, total, acc = fn(high, total, acc, tile, values)
    return {"out": acc / total[:, None], "lse": high + total.log2()}


exercise = Exercise(
    "kernels.flash_step",
    "One tile of keys: the online softmax with values",
    apply=run,
    properties=(
        Part("weighs the values of one tile", one_tile, "p = 2^(s - higher); acc is p @ v."),
        Part("mends what was there when the maximum rises", rising, "Sum and values both shrink."),
        Part("keeps the log of the sum", rising, "high and total belong together.", part="lse"),
        Part("stays finite for large scores", large, "No exponent above 0."),
        Part("stays a number when a tile is hidden", hidden, "-inf - -inf is NaN."),
        Part(
            "keeps the dtype: float64",
            in_dtypes(rising, torch.float64),
            "A step went through another dtype.",
        ),
    ),
    hints=(
        "higher = torch.maximum(high, scores.amax(1)), one number a row. Exponents are relative "
        "to it, so p = torch.exp2(scores - higher[:, None]).",
        "total and acc were relative to high. torch.exp2(high - higher) makes them relative to "
        "higher; then add p.sum(1) and p @ v.",
        "While a row has seen nothing, higher is -inf. Use "
        "origin = torch.where(higher == -torch.inf, 0.0, higher) in both exponents.",
    ),
)


@exercise.stub
def flash_step(
    high: Tensor, total: Tensor, acc: Tensor, scores: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The state (high, total, acc) after one more tile of keys, in base 2.

    high: (M,), the highest score so far, -inf before the first; total: (M,), Σ 2^(s - high);
    acc: (M, D), Σ 2^(s - high) · v. The tile: scores (M, N), v (N, D). Scores may be -inf.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    high: Tensor, total: Tensor, acc: Tensor, scores: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    higher = torch.maximum(high, scores.amax(1))
    origin = torch.where(higher == -torch.inf, 0.0, higher)
    p = torch.exp2(scores - origin[:, None])
    rescale = torch.exp2(high - origin)
    return higher, total * rescale + p.sum(1), acc * rescale[:, None] + p @ v


@exercise.reference
def at_once(scores: Tensor, v: Tensor, block: int) -> dict[str, Any]:
    natural = scores.double() * torch.tensor(2.0, dtype=torch.float64).log()
    lse = natural.logsumexp(1) / torch.tensor(2.0, dtype=torch.float64).log()
    return {"out": (natural.softmax(1) @ v.double()).to(v.dtype), "lse": lse.to(v.dtype)}


exercise.slip(
    "values_not_rescaled",
    "acc * rescale[:, None]",
    "acc",
    "The values are not mended when the maximum rises: acc shrinks by the same factor as total.",
)
exercise.slip(
    "sum_not_rescaled",
    "total * rescale",
    "total",
    "The sum is not mended when the maximum rises: total shrinks by 2^(high - higher).",
)
exercise.slip(
    "rescaled_the_wrong_way",
    "torch.exp2(high - origin)",
    "torch.exp2(torch.where(high == -torch.inf, -torch.inf, origin - high))",
    "Rescaled the wrong way: the factor is 2^(high - higher), at most 1.",
)
exercise.slip(
    "base_e",
    "p = torch.exp2(scores - origin[:, None])",
    "p = torch.exp(scores - origin[:, None])",
    "These weights are powers of e, but the scores are in base 2: torch.exp2.",
)
exercise.slip(
    "maximum_of_the_tile",
    "torch.maximum(high, scores.amax(1))",
    "scores.amax(1)",
    "The maximum is that of one tile: it is the highest score of the row so far.",
)
exercise.slip(
    "minus_infinity",
    "torch.where(higher == -torch.inf, 0.0, higher)",
    "higher",
    "A tile of nothing but -inf gives -inf - -inf, which is NaN: take 0 off instead.",
)
exercise.slip(
    "one_maximum_for_all_rows",
    "scores.amax(1)",
    "scores.amax()",
    "One maximum for all rows: right in exact arithmetic, but a row far below it vanishes.",
)
exercise.slip(
    "last_tile_only",
    "total * rescale + p.sum(1), acc * rescale[:, None] + p @ v",
    "p.sum(1), p @ v",
    "Each tile replaces what was there: add to total and acc.",
)
exercise.slip(
    "divided_too_early",
    "acc * rescale[:, None] + p @ v",
    "acc * rescale[:, None] + p @ v / p.sum(1, keepdim=True)",
    "The values of a tile are divided by its sum: acc is divided once, after the last tile.",
)

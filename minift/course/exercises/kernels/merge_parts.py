"""kernels.merge_parts: attention over two sets of keys, made into attention over both."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Part
from minift.course.properties import in_dtypes

INF = float("inf")


def alike() -> Iterator[Inputs]:
    v = torch.tensor([[2.0], [4.0], [6.0], [8.0]])
    yield {"scores": torch.zeros(1, 4), "v": v, "cut": 2}


def uneven() -> Iterator[Inputs]:
    v = torch.tensor([[2.0], [4.0], [6.0], [8.0]])
    yield {"scores": torch.zeros(1, 4), "v": v, "cut": 1}
    yield {"scores": torch.tensor([[1.0, 2.0, 4.0, 1.0]]).log(), "v": v, "cut": 2}
    for seed, (m, n, d, cut) in enumerate([(1, 2, 1, 1), (3, 7, 4, 3), (5, 40, 8, 33)]):
        yield {"scores": 3 * normal(m, n, seed=seed), "v": normal(n, d, seed=9), "cut": cut}


def large() -> Iterator[Inputs]:
    yield {"scores": torch.tensor([[200.0, 201.0]]), "v": torch.tensor([[3.0], [6]]), "cut": 1}
    yield {"scores": torch.tensor([[-200.0, -201.0]]), "v": torch.tensor([[3.0], [6]]), "cut": 1}
    yield {"scores": 100 * normal(4, 20, seed=2), "v": normal(20, 3, seed=3), "cut": 7}


def one_is_empty() -> Iterator[Inputs]:
    scores = torch.tensor([[-INF, 0.0], [0.0, -INF]])
    yield {"scores": scores, "v": torch.tensor([[3.0], [6.0]]), "cut": 1}


def nothing_seen() -> Iterator[Inputs]:
    scores = torch.tensor([[-INF, -INF], [0.0, 0.0]])
    yield {"scores": scores, "v": torch.tensor([[3.0], [6.0]]), "cut": 1}


def attend(scores: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Output and LSE in fp64; zeros and -inf for a query that sees nothing."""
    scores = scores.double()
    lse = scores.logsumexp(1)
    weights = torch.exp(scores - lse.masked_fill(lse == -INF, 0.0)[:, None])
    return weights @ v.double(), lse


def run(fn: Any, scores: Tensor, v: Tensor, cut: int) -> dict[str, Any]:
    """The parts before and behind the cut, merged by the learner's function."""
    halves = (attend(scores[:, :cut], v[:cut]), attend(scores[:, cut:], v[cut:]))
    out, lse = fn(*(part.to(v.dtype) for half in halves for part in half))
    return {"out": out, "lse": lse}


exercise = Exercise(
    "kernels.merge_parts",
    "Merging two partial results of attention",
    apply=run,
    properties=(
        Part("merges parts of equal weight", alike, "Each part counts by its share of the sum."),
        Part("merges parts of any weight", uneven, "A part's sum of exponentials is e^lse."),
        Part("gives the LSE of both", uneven, "lse = log(e^lse_1 + e^lse_2).", part="lse"),
        Part("stays finite for large scores", large, "e^lse itself overflows."),
        Part("takes a part that saw nothing", one_is_empty, "Its lse is -inf, its weight 0."),
        Part("takes two parts that saw nothing", nothing_seen, "-inf - -inf is NaN."),
        Part("and gives LSE -inf for them", nothing_seen, "log(0) is -inf.", part="lse"),
        Part(
            "keeps the dtype: float64",
            in_dtypes(uneven, torch.float64),
            "A step went through another dtype.",
        ),
    ),
    hints=(
        "e^lse is the sum that a part was divided by. So the weight of part 1 is "
        "e^lse_1 / (e^lse_1 + e^lse_2).",
        "That is exp(lse_1 - lse) with lse = torch.logaddexp(lse_1, lse_2), which does not "
        "overflow. A weight belongs to a row: [:, None].",
        "If both parts saw nothing, lse is -inf: take 0 off instead. Both weights are then "
        "exp(-inf) = 0.",
    ),
)


@exercise.stub
def merge_parts(
    out_1: Tensor, lse_1: Tensor, out_2: Tensor, lse_2: Tensor
) -> tuple[Tensor, Tensor]:
    """(out, lse) over all keys, from two attentions of the same queries over different keys.

    out: (M, D); lse: (M,) = log Σ exp(score), natural logarithm. A query that sees none of the
    keys of a part has out = 0 and lse = -inf there, and so has the result if it sees none at all.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(out_1: Tensor, lse_1: Tensor, out_2: Tensor, lse_2: Tensor) -> tuple[Tensor, Tensor]:
    lse = torch.logaddexp(lse_1, lse_2)
    origin = torch.where(lse == -torch.inf, 0.0, lse)
    share_1 = torch.exp(lse_1 - origin)[:, None]
    share_2 = torch.exp(lse_2 - origin)[:, None]
    return share_1 * out_1 + share_2 * out_2, lse


@exercise.reference
def at_once(scores: Tensor, v: Tensor, cut: int) -> dict[str, Any]:
    out, lse = attend(scores, v)
    return {"out": out.to(v.dtype), "lse": lse.to(v.dtype)}


exercise.slip(
    "average",
    "share_1 * out_1 + share_2 * out_2",
    "(out_1 + out_2) / 2",
    "That is the average of the parts: each counts by its share of the sum, e^lse.",
)
exercise.slip(
    "added",
    "share_1 * out_1 + share_2 * out_2",
    "out_1 + out_2",
    "The parts are just added: both are divided already, each by its own sum.",
)
exercise.slip(
    "exchanged",
    "share_1 * out_1 + share_2 * out_2",
    "share_2 * out_1 + share_1 * out_2",
    "The shares are exchanged: out_1 counts by e^lse_1.",
)
exercise.slip(
    "lse_for_the_sum",
    "share_1 * out_1 + share_2 * out_2",
    "(lse_1[:, None] * out_1 + lse_2[:, None] * out_2) / (lse_1 + lse_2)[:, None]",
    "The LSE is the logarithm of the sum: parts count by e^lse, not by lse.",
)
exercise.slip(
    "lses_added",
    "torch.logaddexp(lse_1, lse_2)",
    "lse_1 + lse_2",
    "Logarithms are added: that multiplies the sums. torch.logaddexp adds them.",
)
exercise.slip(
    "overflows",
    "torch.logaddexp(lse_1, lse_2)",
    "torch.log(torch.exp(lse_1) + torch.exp(lse_2))",
    "e^lse overflows at 89 and vanishes at -104: torch.logaddexp takes the larger one off first.",
)
exercise.slip(
    "minus_infinity",
    "torch.where(lse == -torch.inf, 0.0, lse)",
    "lse",
    "A query that sees nothing gives -inf - -inf, which is NaN: take 0 off instead.",
)
exercise.slip(
    "base_two",
    """    lse = torch.logaddexp(lse_1, lse_2)
    origin = torch.where(lse == -torch.inf, 0.0, lse)
    share_1 = torch.exp(lse_1 - origin)[:, None]
    share_2 = torch.exp(lse_2 - origin)[:, None]
""",
    """    lse = torch.logaddexp2(lse_1, lse_2)
    origin = torch.where(lse == -torch.inf, 0.0, lse)
    share_1 = torch.exp2(lse_1 - origin)[:, None]
    share_2 = torch.exp2(lse_2 - origin)[:, None]
""",
    "That is base 2, as inside the kernels: these LSEs are natural logarithms, so exp and log.",
)
exercise.slip(
    "shares_in_base_two",
    """torch.exp(lse_1 - origin)[:, None]
    share_2 = torch.exp(lse_2 - origin)[:, None]
""",
    """torch.exp2(lse_1 - origin)[:, None]
    share_2 = torch.exp2(lse_2 - origin)[:, None]
""",
    "The shares are powers of 2 of a natural logarithm: torch.exp, not torch.exp2.",
)

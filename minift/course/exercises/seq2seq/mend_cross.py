"""seq2seq.mend_cross: cross-attention with three bugs in its masking."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals, Gradient


def of(m: int, lengths: list[int], d: int, seed: int) -> Inputs:
    b, n = len(lengths), max(lengths)
    real = torch.arange(n) < torch.tensor(lengths)[:, None]  # (B, N)
    return {
        "q": normal(b, m, d, seed=seed),
        "k": normal(b, n, d, seed=100 + seed),
        "v": normal(b, n, d, seed=200 + seed),
        "real": real,
    }


def last_word() -> Iterator[Inputs]:
    yield of(1, [1], 2, 0)
    yield of(3, [1], 4, 1)


def whole() -> Iterator[Inputs]:
    yield of(1, [3], 2, 2)
    for seed, (m, n, d) in enumerate([(2, 4, 4), (5, 2, 3), (3, 7, 8)]):
        yield of(m, [n], d, 3 + seed)


def equal_padding() -> Iterator[Inputs]:
    for seed, (m, n, d) in enumerate([(1, 2, 2), (4, 5, 4), (2, 3, 6)]):
        inputs = of(m, [n + 2, n + 2], d, 10 + seed)
        inputs["real"][:, n:] = False
        yield inputs


def ragged() -> Iterator[Inputs]:
    yield of(1, [1, 2], 2, 20)
    for seed, (m, lengths) in enumerate([(2, [4, 2]), (3, [1, 5, 3]), (3, [2, 3, 3]), (4, [4, 1])]):
        yield of(m, lengths, 4 + seed, 21 + seed)


def all_of_them() -> Iterator[Inputs]:
    for cases in (whole, equal_padding, ragged):
        yield from cases()


exercise = Exercise(
    "seq2seq.mend_cross",
    "Debug: three bugs in cross-attention",
    properties=(
        Equals("is right for a source of one word", last_word, "This held before: undo."),
        Equals("sees the whole source", whole, "Is anything of the source in the future?"),
        Equals("hides padding before the softmax", equal_padding, "A row of weights adds up to 1."),
        Equals("hides each source's own padding", ragged, "Row b of `real` is for source b."),
        Gradient("has the right gradient", all_of_them, "A weight has become a constant.", ulps=64),
    ),
    hints=(
        "The causal mask keeps a word from seeing its successors. Source and target are two texts: "
        "is word 3 of one after word 2 of the other?",
        "Add up the weights of one row before and after the padding is taken out. A score of −∞ "
        "has weight 0, and the softmax shares the rest.",
        "`real` is (B, N), the scores are (B, M, N). A dimension of 1 in the right place makes "
        "row b meet all M queries of target b.",
    ),
)


@exercise.stub
def mend_cross(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    """Cross-attention of one head: M target words take what they need from N source words.

    q: (B, M, D), from the target; k, v: (B, N, D), from the source; real: (B, N), True where the
    source is no padding. Returns (B, M, D). This function has three bugs. Find and mend them.
    """
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
    return weights * real[0] @ v


@exercise.solution
def solution(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    seen = real[:, None, :]
    weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
    return weights @ v


@exercise.reference
def by_torch(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    rows = [
        F.scaled_dot_product_attention(q[b], k[b, real[b]], v[b, real[b]]) for b in range(len(q))
    ]
    return torch.stack(rows)


exercise.slip(
    "still_causal",
    "real[:, None, :]",
    "real[:, None, :] & torch.ones(scores.shape[-2:], dtype=torch.bool).tril()",
    "A causal mask is left: target word i sees the first i + 1 source words only.",
)
exercise.slip(
    "hidden_after_the_softmax",
    'weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)',
    "weights = scores.softmax(dim=-1) * seen",
    "Padding is taken out after the softmax: the weights that are left no longer add up to 1.",
)
exercise.slip(
    "padding_of_the_first",
    "real[:, None, :]",
    "real[0]",
    "All sources are masked by the padding of the first one.",
)
exercise.slip(
    "padding_not_hidden",
    "real[:, None, :]",
    "torch.ones_like(real)[:, None, :]",
    "The causal mask is gone, and the padding's mask with it: padding gets weight.",
)
exercise.slip(
    "hides_what_is_real",
    "~seen",
    "seen",
    "The mask is upside down: the real words are hidden.",
)
exercise.slip(
    "over_the_targets",
    "softmax(dim=-1)",
    "softmax(dim=-2)",
    "The softmax runs over the target words: each query's weights over the source add up to 1.",
)

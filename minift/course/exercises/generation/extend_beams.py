"""generation.extend_beams: one step of beam search for one prompt."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals


def hopeless_rivals() -> Iterator[Inputs]:
    table = torch.tensor([[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]).log()
    yield {"scores": torch.tensor([0.0, -50.0]), "log_probs": table}
    scores = torch.tensor([-2.0, -90.0, -99.0])
    yield {"scores": scores, "log_probs": normal(3, 9, seed=1).log_softmax(-1)}


def several() -> Iterator[Inputs]:
    table = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7]]).log()
    yield {"scores": torch.tensor([0.5, 0.5]).log(), "log_probs": table}
    yield {"scores": torch.tensor([0.9, 0.1]).log(), "log_probs": table}
    for seed in range(8):
        rng = draw(seed)
        beams, vocabulary = rng.randint(2, 6), rng.randint(2, 40)
        scores = -normal(beams, seed=seed).abs() * 3
        yield {
            "scores": scores.sort(descending=True).values,
            "log_probs": normal(beams, vocabulary, seed=50 + seed).log_softmax(-1),
        }


def first_step() -> Iterator[Inputs]:
    """All beams are still the same text: only the first counts."""
    for seed, beams in enumerate((2, 3, 5)):
        scores = torch.full((beams,), -1e9)
        scores[0] = 0.0
        same = normal(1, 11, seed=90 + seed).log_softmax(-1).repeat(beams, 1)
        yield {"scores": scores, "log_probs": same}


exercise = Exercise(
    "generation.extend_beams",
    "One step of beam search",
    properties=(
        Equals("extends a beam that leaves the others no chance", hopeless_rivals, "K of V sums."),
        Equals("takes the K best of all K · V", several, "All beams compete in one list."),
        Equals("begins with the first beam alone", first_step, "-1e9 + anything stays below."),
    ),
    hints=(
        "A text's log-probability is the sum of those of its tokens: `scores[:, None] + log_probs` "
        "has all K · V of them, (K, V).",
        "`total.flatten().topk(K)` gives the K best values and their places in one row of K · V.",
        "A place is `beam * V + token`: divide by V with `//`, and take the rest with `%`.",
    ),
)


@exercise.stub
def extend_beams(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    """The K best texts among all beams, each with one more token.

    scores: (K,), log-probability of each beam so far. log_probs: (K, V), of the next token after
    each. Returns, the best first: which beam each new text continues, K numbers in a list; its new
    token, as many; its log-probability, a tensor (K,).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    total = scores[:, None] + log_probs  # (K, V)
    best, place = total.flatten().topk(len(scores))
    vocabulary = log_probs.shape[1]
    return (place // vocabulary).tolist(), (place % vocabulary).tolist(), best


@exercise.reference
def in_a_list(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    beams, vocabulary = log_probs.shape
    found = [
        (float(scores[b]) + float(log_probs[b, v]), b, v)
        for b in range(beams)
        for v in range(vocabulary)
    ]
    found.sort(reverse=True)
    best, rows, tokens = zip(*found[:beams], strict=True)
    return list(rows), list(tokens), torch.tensor(best)


exercise.slip(
    "forgets_the_beginning",
    "scores[:, None] + log_probs",
    "log_probs + 0 * scores[:, None]",
    "The scores of the beams so far are missing: a text is as probable as all of its tokens.",
)
exercise.slip(
    "wrong_side",
    "scores[:, None]",
    "scores.repeat(log_probs.shape[1])[: log_probs.shape[1]][None]",
    "The scores were added to the columns: they belong to the rows, `scores[:, None]`.",
)
exercise.slip(
    "divides_by_k",
    "vocabulary = log_probs.shape[1]",
    "vocabulary = len(scores)",
    "A place is beam · V + token: divide by V, not by K.",
)
exercise.slip(
    "exchanged",
    "(place // vocabulary).tolist(), (place % vocabulary).tolist()",
    "(place % vocabulary).tolist(), (place // vocabulary).tolist()",
    "Beam and token are exchanged: `//` gives the beam, `%` the token.",
)
exercise.slip(
    "products",
    "scores[:, None] + log_probs",
    "scores[:, None] * log_probs",
    "Logarithms are added, not multiplied: log(a · b) = log a + log b.",
)


@exercise.mistake("Each beam was extended by its own best token: the beams have to compete.")
def each_for_itself(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    best, token = (scores[:, None] + log_probs).max(dim=1)
    return list(range(len(scores))), token.tolist(), best


@exercise.mistake("The worst texts came out: `topk(…, largest=False)` is the other end.")
def the_worst(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    total = scores[:, None] + log_probs
    best, place = total.flatten().topk(len(scores), largest=False)
    vocabulary = log_probs.shape[1]
    return (place // vocabulary).tolist(), (place % vocabulary).tolist(), best

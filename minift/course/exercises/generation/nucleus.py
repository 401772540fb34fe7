"""generation.nucleus: temperature, then the smallest set of tokens that has probability p."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals, keeps_dtype

# whole percents, of which no partial sum of the largest is a p that is asked for
EASY = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
STEEP = torch.tensor([[0.02, 0.9, 0.05, 0.03], [0.25, 0.24, 0.26, 0.25001]]).log()


def all_of_them() -> Iterator[Inputs]:
    yield {"logits": EASY, "t": 1.0, "p": 1.0}
    yield {"logits": normal(2, 7, seed=1), "t": 1.0, "p": 1.0}


def cut() -> Iterator[Inputs]:
    yield {"logits": EASY, "t": 1.0, "p": 0.6}
    yield {"logits": EASY, "t": 1.0, "p": 0.8}
    yield from _noise(1.0)


def steep() -> Iterator[Inputs]:
    yield {"logits": STEEP, "t": 1.0, "p": 0.6}
    yield {"logits": normal(3, 9, seed=2) * 20, "t": 1.0, "p": 0.01}


def tempered() -> Iterator[Inputs]:
    yield {"logits": EASY, "t": 0.5, "p": 1.0}
    yield {"logits": EASY, "t": 2.0, "p": 0.75}
    yield from _noise(0.6)
    yield from _noise(1.7)


def large() -> Iterator[Inputs]:
    yield {"logits": torch.tensor([[1000.0, 999.0, -1000.0], [-500.0, -501.0, -502.0]]), "t": 1.0,
           "p": 0.9}  # fmt: skip


def _noise(t: float) -> Iterator[Inputs]:
    """Rows in which p stands well between two sums: rounding must not decide."""
    for seed in range(8):
        rng = draw(seed)
        logits = normal(rng.randint(1, 4), rng.randint(3, 40), seed=10 + seed) * 2
        p = rng.choice((0.3, 0.5, 0.9))
        sums = (logits.double() / t).softmax(-1).sort(descending=True).values.cumsum(-1)
        if float((sums - p).abs().min()) > 2e-3:
            yield {"logits": logits, "t": t, "p": p}


plain = Equals(
    "gives the softmax where p is 1", all_of_them, "Nothing is cut away: softmax(logits / t)."
)

exercise = Exercise(
    "generation.nucleus",
    "Temperature and top-p",
    properties=(
        plain,
        Equals("keeps the smallest set that has p", cut, "The token that reaches p belongs to it."),
        Equals(
            "keeps the most probable token in any case", steep, "It alone may have more than p."
        ),
        Equals(
            "applies the temperature first", tempered, "Divide the logits by t before all else."
        ),
        Equals("survives large logits", large, "exp overflows: use softmax."),
        keeps_dtype(plain, torch.float64, torch.float16, torch.bfloat16),
    ),
    hints=(
        "Sort the probabilities of each row, the largest first. Which tokens have less than p "
        "before them?",
        "`falling, order = probabilities.sort(descending=True)`; what stands before each is "
        "`falling.cumsum(-1) - falling`.",
        "Back to their places: `torch.zeros_like(falling).scatter(-1, order, kept)`. Then divide "
        "each row by its sum.",
    ),
)


@exercise.stub
def nucleus(logits: Tensor, t: float, p: float) -> Tensor:
    """Probabilities to draw from: temperature t, then top-p.

    logits: (B, V), any float dtype; t > 0; 0 < p <= 1. In each row of softmax(logits / t) the most
    probable tokens are kept, as few as have p together; the others get 0, and what is left is
    divided by its sum. Returns (B, V) of the same dtype; rows add up to 1.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(logits: Tensor, t: float, p: float) -> Tensor:
    probabilities = (logits / t).softmax(dim=-1)
    falling, order = probabilities.sort(dim=-1, descending=True)
    kept = falling * (falling.cumsum(dim=-1) - falling < p)
    back = torch.zeros_like(kept).scatter(-1, order, kept)
    return back / back.sum(dim=-1, keepdim=True)


@exercise.reference
def one_by_one(logits: Tensor, t: float, p: float) -> Tensor:
    rows = (logits.double() / t).softmax(dim=-1)
    result = torch.zeros_like(rows)
    for row, kept in zip(rows, result, strict=True):
        for token in row.argsort(descending=True).tolist():
            if p < 1 and float(kept.sum()) >= p:
                break
            kept[token] = row[token]
    return result / result.sum(dim=-1, keepdim=True)


exercise.slip(
    "drops_the_one_that_reaches_p",
    "falling.cumsum(dim=-1) - falling < p",
    "falling.cumsum(dim=-1) <= p",
    "The token with which the sum reaches p is missing: without it the set has less than p.",
)
exercise.slip(
    "one_too_many",
    "falling.cumsum(dim=-1) - falling < p",
    "(falling.cumsum(dim=-1) - falling).roll(1, -1) < p",
    "One token too many is kept: when the sum has reached p, the next one goes.",
)
exercise.slip(
    "does_not_add_up",
    "back / back.sum(dim=-1, keepdim=True)",
    "back",
    "What is left adds up to less than 1: divide each row by its sum.",
)
exercise.slip(
    "stays_sorted",
    "torch.zeros_like(kept).scatter(-1, order, kept)",
    "kept",
    "The probabilities are still in sorted order: each has to go back to its token's column.",
)
exercise.slip(
    "temperature_times",
    "logits / t",
    "logits * t",
    "The logits were multiplied by t: a high temperature then makes the likely ones likelier.",
)


@exercise.mistake("The cut was made before the temperature: it is made in softmax(logits / t).")
def cut_before_temperature(logits: Tensor, t: float, p: float) -> Tensor:
    kept = solution(logits, 1.0, p) ** (1 / t)
    return kept / kept.sum(dim=-1, keepdim=True)


@exercise.mistake("The temperature is missing: softmax(logits / t).")
def without_temperature(logits: Tensor, t: float, p: float) -> Tensor:
    return solution(logits, 1.0, p)


@exercise.mistake("Each token is compared with p on its own; p is about the sum of the largest.")
def each_alone(logits: Tensor, t: float, p: float) -> Tensor:
    probabilities = (logits / t).softmax(dim=-1)
    kept = probabilities * (probabilities >= min(p, float(probabilities.max())) * 0.5)
    return kept / kept.sum(dim=-1, keepdim=True)

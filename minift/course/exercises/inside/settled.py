"""inside.settled: the depth at which a model has made up its mind."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals


def lens(*best: list[int], vocabulary: int = 3) -> Inputs:
    """Logits whose largest entries are these: one list of tokens for each depth."""
    return {"logits": torch.eye(vocabulary)[torch.tensor(best)] * 4.0}


def one_token() -> Iterator[Inputs]:
    yield lens([0], [2], [1], [1])
    yield lens([2], [2], [2])
    yield lens([0], [0], [0], [1])


def several() -> Iterator[Inputs]:
    yield lens([0, 1], [1, 1], [1, 2])
    for seed in range(3):
        rng = draw(seed)
        depth, tokens = rng.randint(2, 7), rng.randint(1, 6)
        yield {"logits": normal(depth, tokens, rng.randint(4, 9), seed=seed)}


def wavering() -> Iterator[Inputs]:
    yield lens([1], [0], [1])
    yield lens([1, 0], [1, 2], [0, 0], [1, 0], [1, 0])
    for seed in range(3):
        rows = [draw(seed + 10 * t).choices([0, 1], k=9) for t in range(4)]
        yield lens(*map(list, zip(*rows, strict=True)))


exercise = Exercise(
    "inside.settled",
    "When is the answer settled?",
    properties=(
        Equals("finds where the last answer begins", one_token, "0 is the embedding."),
        Equals("finds it for each token", several, "Each token has a depth of its own."),
        Equals("counts from the last change of mind", wavering, "From there on, never another."),
    ),
    hints=(
        "`best = logits.argmax(-1)` is the answer at each depth, (layers + 1, T). The final one is "
        "`best[-1]`.",
        "`best == best[-1]` says where the answer was the final one already. A later change of "
        "mind must not be passed over, so look from the end.",
        "Flip the depths; a running product (`cumprod`) stays 1 as long as nothing was wrong. Its "
        "sum is how many depths at the end agree.",
    ),
)


@exercise.stub
def settled(logits: Tensor) -> Tensor:
    """The first depth from which on the likeliest token is the final one, and stays it.

    logits: (layers + 1, T, V), from the logit lens; depth 0 is the embedding, the last depth the
    model's own logits. Returns (T,), int64.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(logits: Tensor) -> Tensor:
    best = logits.argmax(dim=-1)
    agrees = (best == best[-1]).long()
    agreeing = agrees.flip(0).cumprod(dim=0).sum(dim=0)
    return len(logits) - agreeing


@exercise.reference
def one_at_a_time(logits: Tensor) -> Tensor:
    found = []
    for column in logits.double().argmax(-1).T.tolist():
        depth = len(column) - 1
        while depth > 0 and column[depth - 1] == column[-1]:
            depth -= 1
        found.append(depth)
    return torch.tensor(found)


exercise.slip(
    "first_time_right",
    "agrees.flip(0).cumprod(dim=0).sum(dim=0)",
    "len(logits) - agrees.argmax(dim=0)",
    "That is the first depth at which the answer turns up; it may be given up again later.",
)
exercise.slip(
    "counts_agreements",
    "agrees.flip(0).cumprod(dim=0).sum(dim=0)",
    "agrees.sum(dim=0)",
    "All depths that agree are counted, those before a change of mind too.",
)
exercise.slip(
    "one_too_deep",
    "len(logits) - agreeing",
    "len(logits) - agreeing + 1",
    "One too deep: depth 0 is the embedding, before any layer.",
)
exercise.slip(
    "one_for_all",
    "(best == best[-1]).long()",
    "(best == best[-1]).all(dim=1).long()",
    "All tokens have to agree at once here; each token has its own depth.",
)

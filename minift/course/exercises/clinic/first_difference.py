"""clinic.first_difference: the first of many comparisons that is out of its limits."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals

NAN, INF = float("nan"), float("inf")


def compared(sites: int, numbers: int, wrong: dict[int, float], seed: int) -> Inputs:
    """Random records with noise below the limits, and larger differences at some sites."""
    theirs = normal(sites, numbers, seed=seed)
    limits = torch.full((sites,), 1e-3)
    ours = theirs + 2e-4 * normal(sites, numbers, seed=seed + 50).clamp(-4, 4)
    for site, size in wrong.items():
        ours[site, draw(seed).randrange(numbers)] += size
    return {"ours": ours, "theirs": theirs, "limits": limits}


def one_wrong() -> Iterator[Inputs]:
    yield {
        "ours": torch.tensor([[1.0, 2.0], [3.0, 4.5]]),
        "theirs": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "limits": torch.tensor([0.1, 0.1]),
    }
    for seed, (sites, place) in enumerate([(3, 0), (5, 4), (9, 3)]):
        yield compared(sites, 50, {place: 0.5}, seed)


def below() -> Iterator[Inputs]:
    for seed, (sites, place) in enumerate([(3, 1), (7, 5)], 20):
        yield compared(sites, 50, {place: -0.5}, seed)


def growing() -> Iterator[Inputs]:
    yield compared(4, 30, {1: 0.1, 2: 5.0, 3: 1.0}, 30)
    yield compared(6, 200, {2: 0.02, 3: 3.0, 5: 40.0}, 31)


def limits() -> Iterator[Inputs]:
    given = compared(4, 1, {0: 0.5, 2: 0.5}, 40)
    yield {**given, "limits": torch.tensor([1.0, 1e-3, 0.1, 1e-3])}
    given = compared(3, 1, {0: 1.0, 1: 1.0}, 41)
    yield {**given, "limits": torch.tensor([1.2, 0.9, 1.2])}


def healthy() -> Iterator[Inputs]:
    yield compared(3, 20, {}, 60)
    yield compared(1, 1, {}, 61)


def not_finite() -> Iterator[Inputs]:
    yield compared(4, 10, {1: NAN, 2: 1.0}, 70)
    yield compared(3, 10, {2: NAN}, 71)
    yield compared(3, 10, {0: INF}, 72)


exercise = Exercise(
    "clinic.first_difference",
    "The first module that differs",
    properties=(
        Equals("finds the site that differs", one_wrong, "The largest |ours - theirs| of a site."),
        Equals("finds one that is too small, too", below, "A difference has two directions."),
        Equals("takes the first, not the worst", growing, "Errors grow on their way."),
        Equals("holds each site against its own limit", limits, "Site i has limits[i]."),
        Equals("gives -1 when all is well", healthy, "No site: -1."),
        Equals("sees what is not finite", not_finite, "NaN > limit is False, NaN <= limit too."),
    ),
    hints=(
        "`(ours - theirs).abs().amax(dim=1)` is the largest difference of each site, (S,).",
        "Ask what is well, not what is wrong: every comparison with NaN is False, so "
        "`~(largest <= limits)` is True for it and `largest > limits` is not.",
        "`.nonzero()` gives the places where it is True, in order; there may be none.",
    ),
)


@exercise.stub
def first_difference(ours: Tensor, theirs: Tensor, limits: Tensor) -> int:
    """The first site where |ours - theirs| is anywhere above the site's limit; -1: nowhere.

    ours, theirs: (S, N), the numbers at S sites in the order of computation. limits: (S,). What is
    NaN in ours is a difference.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(ours: Tensor, theirs: Tensor, limits: Tensor) -> int:
    largest = (ours - theirs).abs().amax(dim=1)
    wrong = ~(largest <= limits)
    return int(wrong.nonzero()[0]) if bool(wrong.any()) else -1


@exercise.reference
def one_number_at_a_time(ours: Tensor, theirs: Tensor, limits: Tensor) -> int:
    for site, limit in enumerate(limits.tolist()):
        pairs = zip(ours[site].tolist(), theirs[site].tolist(), strict=True)
        if not all(abs(a - b) <= limit for a, b in pairs):
            return site
    return -1


exercise.slip(
    "nan_slips_through",
    "~(largest <= limits)",
    "largest > limits",
    "NaN slips through: `NaN > limit` is False. Ask for what is within its limit, and take the "
    "rest.",
)
exercise.slip(
    "the_worst",
    "int(wrong.nonzero()[0])",
    "int(largest.argmax())",
    "That is the site with the largest difference; the mistake was made where the first one is, "
    "and grew on its way.",
)
exercise.slip(
    "with_its_sign",
    "(ours - theirs).abs().amax(dim=1)",
    "(ours - theirs).amax(dim=1)",
    "Numbers that are too small go unseen: the difference needs its absolute value.",
)
exercise.slip(
    "the_mean",
    ".abs().amax(dim=1)",
    ".abs().mean(dim=1)",
    "The mean hides one wrong number among many right ones; take the largest.",
)
exercise.slip(
    "one_limit_for_all",
    "largest <= limits",
    "largest <= limits.max()",
    "One limit is used for all sites; each site has its own noise.",
)
exercise.slip(
    "zero_for_healthy",
    "else -1",
    "else 0",
    "0 is the first site: where nothing differs, -1 is asked for.",
)

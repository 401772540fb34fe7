"""Mistakes that people make, each tried on their recorded numbers: which gives ours?"""

from collections.abc import Callable, Iterable

from minift.compare.hypotheses import activations, attention, embeddings, norms, products, sums
from minift.compare.hypotheses.backward import causes as backward_causes
from minift.compare.hypotheses.evidence import Cause, Evidence, Guess
from minift.compare.hypotheses.results import guesses as result_guesses
from minift.compare.hypotheses.structure import is_random, order, suspects

Source = Callable[[Evidence], Iterable[Guess]]
SPECIFIC: tuple[Source, ...] = (
    attention.guesses,
    activations.guesses,
    norms.guesses,
    products.guesses,
    embeddings.guesses,
    result_guesses,
)
TIERS: tuple[tuple[Source, ...], ...] = (SPECIFIC, (sums.guesses,), (sums.alone,))
"""Later ones fit many mistakes, and are tried where no earlier one reproduces the numbers."""
UNSPECIFIC = "weights differ"
SHARE = 0.02
"""A guess explains the difference when it leaves less than this share of it."""


def causes_of(evidence: Evidence) -> list[Cause]:
    """The causes that reproduce our numbers, the most specific first; else the usual suspects."""
    if evidence.place.direction == "backward":
        return backward_causes(evidence)
    if is_random(evidence):
        text = "two runs of ours, from two seeds, give two results, in evaluation mode"
        return [Cause("dropout left on", text, True)]
    for tier in TIERS:
        if found := _reproducing(evidence, tier):
            return found
    return [*order(evidence), *suspects(evidence)]


def _reproducing(evidence: Evidence, sources: Iterable[Source]) -> list[Cause]:
    """Of each kind of mistake the guess that comes nearest, if it comes near enough."""
    tried: dict[str, tuple[float, Guess]] = {}
    for source in sources:
        for guess in source(evidence):
            distance = evidence.distance(guess.value)
            if distance is not None and _explains(evidence, distance):
                best = tried.get(guess.name)
                if best is None or distance < best[0]:
                    tried[guess.name] = (distance, guess)
    causes = [Cause(g.name, g.text, True) for _, g in tried.values()]
    return [cause for cause in causes if cause.name != UNSPECIFIC] or causes


def _explains(evidence: Evidence, distance: float) -> bool:
    before = evidence.distance(evidence.step.value)
    if before is None:
        return distance <= evidence.tolerance
    return distance <= max(2 * evidence.tolerance, SHARE * before) and distance < before / 4

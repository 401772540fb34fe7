"""The likely mistake: which known wrong answer behaves exactly like the learner's?

A function that gives, on every case of a property, what a seeded wrong answer gives makes the
same mistake, however it is written; the learner is told that mistake by name. When none matches,
or several with different sentences do, the property's own sentence stands.
"""

from typing import Any

from minift.course.compare import difference
from minift.course.edition.recorded import Recorded
from minift.course.exercise import Exercise
from minift.course.properties import Equals
from minift.course.trial import Counterexample


def likely_mistake(exercise: Exercise, prop: Equals, fn: Any, found: Counterexample) -> str:
    """The sentence for a function that fails ``prop`` with the counterexample ``found``."""
    matching = _matching(exercise, prop, prop.behaviour(exercise, fn))
    if len(matching) == 1:
        return matching.pop()
    return prop.mistake if found.mistake is None else found.mistake


def _matching(exercise: Exercise, prop: Equals, mine: Any) -> set[str]:
    """The sentences of the wrong answers that fail ``prop`` and behave as ``mine`` does."""
    if isinstance(prop, Recorded):
        return {sentence for sentence, theirs in prop.wrong if alike(theirs, mine)}
    return {
        mistake.sentence
        for mistake in exercise.mistakes
        if alike(prop.behaviour(exercise, mistake.fn), mine) and fails(exercise, prop, mistake.fn)
    }


def fails(exercise: Exercise, prop: Equals, fn: Any) -> bool:
    """A mistake that shows elsewhere only must not be blamed here for rounding alike."""
    try:
        prop.verify(exercise, fn)
    except Counterexample:
        return True
    return False


def alike(theirs: Any, mine: Any) -> bool:
    """Equal up to rounding; two NaN are equal."""
    if isinstance(mine, (list, tuple)) and isinstance(theirs, (list, tuple)):
        same = type(mine) is type(theirs) and len(mine) == len(theirs)
        return same and all(map(alike, theirs, mine))
    dtype = getattr(theirs, "dtype", None)
    try:
        return difference(mine, theirs, ulps=256, dtype=dtype) is None
    except (RuntimeError, TypeError):
        return False

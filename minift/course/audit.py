"""Do the checks check? Each exercise against its stub, its solution and its wrong answers."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minift.course.checking import Outcome, examine
from minift.course.exercise import Exercise
from minift.course.inputs import salted
from minift.course.registry import find, names

MIN_MISTAKES = 3
SALT = 1  # other random inputs than those that learners see


@dataclass(frozen=True)
class Row:
    """One answer to one exercise, and whether the check said of it what is true.

    Attributes:
        answer: "stub", "solution", "solution, other inputs" or the name of a wrong answer.
        state: what the check found.
        ok: the stub is not attempted, the solution is right, a wrong answer is wrong **and** its
            own sentence was given as the likely mistake.
        said: the sentence that was given.
        seconds: how long the check took.
    """

    exercise: str
    answer: str
    state: str
    ok: bool
    said: str
    seconds: float


def audit(chosen: list[str] | None = None) -> Iterator[Row]:
    """The rows of all exercises, or of the chosen ones.

    Raises:
        InputError: there is no such exercise, or it cannot be checked here.
    """
    for name in chosen or names():
        exercise = find(name)
        exercise.require_answers()
        yield _row(name, "stub", exercise.start, "not attempted")
        yield _row(name, "solution", exercise.answer, "right")
        for mistake in exercise.mistakes:
            yield _row(name, mistake.name, mistake.fn, "wrong", mistake.sentence)
        with salted(SALT):
            yield _row(name, "solution, other inputs", exercise.answer, "right")
        yield from _shortcomings(exercise)


def totals(rows: list[Row]) -> str:
    """One line with how many answers of each kind were judged as they should be."""
    kinds = {"stub": "stubs", "solution": "solutions", "solution, other inputs": "on other inputs"}
    count: dict[str, list[bool]] = {kind: [] for kind in (*kinds.values(), "wrong answers named")}
    for row in rows:
        count[kinds.get(row.answer, "wrong answers named")].append(row.ok)
    parts = [f"{kind} {sum(found)}/{len(found)}" for kind, found in count.items()]
    return f"{', '.join(parts)}; {sum(row.seconds for row in rows):.1f} s"


def _row(exercise: str, answer: str, fn: Any, state: str, sentence: str = "") -> Row:
    start = time.perf_counter()
    outcome = examine(exercise, fn)
    said = _said(outcome)
    ok = outcome.state == state and said == sentence
    return Row(exercise, answer, outcome.state, ok, said, time.perf_counter() - start)


def _said(outcome: Outcome) -> str:
    return outcome.failure.mistake if outcome.failure else ""


def _shortcomings(exercise: Exercise) -> Iterator[Row]:
    """An exercise with too little in it cannot pass, however well the rest does."""
    few = {
        f"fewer than {MIN_MISTAKES} wrong answers": len(exercise.mistakes) < MIN_MISTAKES,
        "fewer than 2 hints": len(exercise.hints) < 2,
        "two wrong answers of one name": len({m.name for m in exercise.mistakes})
        < len(exercise.mistakes),
    }
    for what, found in few.items():
        if found:
            yield Row(exercise.name, what, "incomplete", False, "", 0.0)

"""``check``: is this function right? The same answer in a notebook, in pytest and in a shell."""

import inspect
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import Any, Literal

from minift.course import progress_file
from minift.course.attempt import is_stub, order_problem, signature_problem
from minift.course.borrowed import borrowed
from minift.course.diagnosis import likely_mistake
from minift.course.exercise import Exercise, plain
from minift.course.printed import Printed
from minift.course.properties import ASPECTS, Equals
from minift.course.registry import find
from minift.course.show import show
from minift.course.trial import RETURNS, Counterexample, NotAttempted

State = Literal["not attempted", "right", "wrong"]
ORDER = "Arguments are given by position, so their order is the stub's, whatever their names."
OWN = "The library has this function already; the exercise is to write it yourself."
WIDTH = 88  # characters of a line of a message; a notebook has room for about 100


class CheckFailed(AssertionError):
    """The function is wrong.

    Attributes:
        exercise: the exercise's name.
        claim: the property that does not hold.
        given: the failing input, in words.
        right, yours: what should have come back, and what did.
        mistake: the likely mistake, one or two sentences (may be empty).
    """

    def __init__(
        self, exercise: str, claim: str, given: str, right: str, yours: str, mistake: str
    ) -> None:
        self.exercise, self.claim, self.given = exercise, claim, given
        self.right, self.yours, self.mistake = right, yours, mistake
        super().__init__(str(self))

    def __str__(self) -> str:
        rows = {
            "property": self.claim,
            "input": self.given,
            "right": self.right,
            "yours": self.yours,
            "mistake": self.mistake,
            "next": f'hint("{self.exercise}")',
        }
        lines = [_hanging(f"  {name:<9}", text) for name, text in rows.items() if text]
        return "\n".join([f"{self.exercise}: wrong", *lines])

    def _render_traceback_(self) -> list[str]:
        """In a notebook: the message alone, without the frames of the machinery."""
        return str(self).splitlines()


def _hanging(head: str, text: str) -> str:
    """A row of a message, broken between words so that a notebook does not break it within one."""
    lines = [
        part
        for line in text.splitlines()
        for part in wrap(line, WIDTH - len(head), break_long_words=False, break_on_hyphens=False)
    ]
    return ("\n" + " " * len(head)).join([head + lines[0], *lines[1:]] if lines else [head])


def _in_green(text: str) -> str:
    """In a notebook: the first line in green."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if type(shell).__name__ != "ZMQInteractiveShell":
        return text
    first, line, rest = text.partition("\n")
    return f"\x1b[32m{first}\x1b[0m{line}{rest}"


@dataclass(frozen=True)
class Outcome:
    """What examining a function found.

    Attributes:
        exercise: the exercise's name.
        state: "not attempted", "right" or "wrong".
        verified: the properties that hold, up to the first that does not.
        failure: the error to raise when the function is wrong, else None.
        printed: the beginning of what the function printed meanwhile.
    """

    exercise: str
    state: State
    verified: tuple[str, ...] = ()
    failure: CheckFailed | None = None
    printed: str = ""

    def __str__(self) -> str:
        if self.failure is not None:
            return str(self.failure)
        if self.state == "right":
            return "\n".join([f"{self.exercise}: right", *(f"  - {v}" for v in self.verified)])
        return (
            f"{self.exercise}: not attempted yet\n  Write the function, run its cell, then this "
            f'one again. Stuck? hint("{self.exercise}")'
        )


def check(name: str, fn: Any, *, required: bool = False) -> None:
    """Check a function against an exercise and print what was found.

    A right answer, and a wrong one under the exercise's own name, are recorded for ``progress``.

    Args:
        name: the exercise, such as "attention.causal_mask".
        fn: the function to check.
        required: treat a function that is still the stub as wrong; for tests.

    Raises:
        CheckFailed: the function is wrong: names the property, a small failing input, and the
            likely mistake.
        InputError: there is no such exercise.
    """
    outcome = examine(name, fn)
    if outcome.printed:
        print(outcome.printed)
    if not required:
        _remember(outcome, fn)
    if outcome.failure is not None:
        raise outcome.failure from None
    if required and outcome.state != "right":
        raise CheckFailed(name, "the function is written", "", "", str(outcome.state), "")
    print(_in_green(str(outcome)) if outcome.state == "right" else outcome)


def examine(name: str, fn: Any) -> Outcome:
    """What ``check`` prints or raises, as an object.

    Raises:
        InputError: there is no such exercise.
    """
    exercise, printed = find(name), Printed()
    with redirect_stdout(printed):
        outcome = _examine(exercise, fn, printed)
    return replace(outcome, printed=str(printed))


def _examine(exercise: Exercise, fn: Any, printed: Printed) -> Outcome:
    name = exercise.name
    if is_stub(exercise, fn):
        return Outcome(name, "not attempted")
    if inspect.iscoroutinefunction(plain(fn)):
        return _wrong(
            name, (), ("gives its result at once", "", "def", "async def", ASPECTS["lazy"])
        )
    if library := borrowed(exercise, fn):
        return _wrong(name, (), ("is written by you", "", "a function of your own", library, OWN))
    if problem := signature_problem(exercise, fn):
        yours, right = problem
        return _wrong(name, (), ("takes the agreed arguments", "", right, yours, ""))
    verified: list[str] = []
    for prop in exercise.properties:
        try:
            count = prop.verify(exercise, fn)
        except NotAttempted:
            return Outcome(name, "not attempted")
        except Counterexample as found:
            return _wrong(name, tuple(verified), _report(exercise, prop, fn, found, bool(printed)))
        verified.append(f"{prop.claim} ({count} input{'s' * (count != 1)})")
    return Outcome(name, "right", (*verified, "leaves its inputs as they were"))


def _report(
    exercise: Exercise, prop: Equals, fn: Any, found: Counterexample, printed: bool
) -> tuple[str, str, str, str, str]:
    if problem := order_problem(exercise, fn):
        yours, right = problem
        return "takes its arguments in the agreed order", "", right, yours, ORDER
    if found.claim == RETURNS and printed:
        mistake = "The result is printed and then lost: `return` it."
    else:
        mistake = likely_mistake(exercise, prop, fn, found)
    return found.claim or prop.claim, show(dict(found.inputs)), found.right, found.yours, mistake


def _wrong(name: str, verified: tuple[str, ...], report: tuple[str, str, str, str, str]) -> Outcome:
    return Outcome(name, "wrong", verified, CheckFailed(name, *report))


def _remember(outcome: Outcome, fn: Any) -> None:
    """A wrong function under another name is a demonstration, not an attempt."""
    own = getattr(plain(fn), "__name__", "") == outcome.exercise.rpartition(".")[2]
    if outcome.state == "right" or (outcome.state == "wrong" and own):
        progress_file.checked(outcome.exercise, outcome.state == "right")

"""One run of a learner's function on one input, with what has to hold of every run."""

import copy
import linecache
import traceback
from typing import Any

from torch import Tensor

from minift.course.exercise import Exercise, Inputs, plain
from minift.course.show import show

RUNS = "runs on every valid input"
RETURNS = "returns a value"
LEAVES_INPUTS = "leaves its inputs as they were"


class NotAttempted(Exception):
    """The function is still the stub."""


class Counterexample(Exception):
    """An input on which a property does not hold.

    Args:
        inputs: the failing input by parameter name.
        yours: what the learner's function gave, in words.
        right: what it should have given, in words.
        claim: the property, where it is not the one that was being verified.
        mistake: the likely mistake, where it is not the property's own.
        got: the raw result: two functions that make the same mistake give the same.
    """

    def __init__(
        self,
        inputs: Inputs,
        yours: str,
        right: str,
        *,
        claim: str | None = None,
        mistake: str | None = None,
        got: Any = None,
    ) -> None:
        super().__init__(yours)
        self.inputs, self.yours, self.right = inputs, yours, right
        self.claim, self.mistake, self.got = claim, mistake, got


def run(
    exercise: Exercise, fn: Any, inputs: Inputs, *, gradient: bool = False
) -> tuple[Any, Inputs]:
    """The output of ``fn`` on copies of ``inputs``, and those copies.

    Raises:
        NotAttempted: ``fn`` raised ``NotImplementedError``.
        Counterexample: it raised another error, returned nothing, or changed its inputs.
    """
    given = copies(inputs, gradient)
    output = _call(exercise, fn, given, inputs)
    if output is None or output is Ellipsis:
        raise Counterexample(
            inputs,
            repr(output),
            "a value",
            claim=RETURNS,
            mistake="There is no `return` on the way that this input takes.",
            got=output,
        )
    for name, value in given.items():
        if not _equal(value, inputs[name]):
            raise Counterexample(
                inputs,
                f"{name} was changed to {show(value)}",
                f"{name} as it was: {show(inputs[name])}",
                claim=LEAVES_INPUTS,
                mistake="An operation in place (`x += …`, `x[…] = …`, `x.mul_()`, `list.pop()`) "
                "changed an argument; the caller may still need it.",
                got=value,
            )
    return output, given


def copies(inputs: Inputs, gradient: bool = False) -> dict[str, Any]:
    """The same inputs in other memory (strides kept), optionally tracking gradients."""
    return {name: _copy(value, gradient) for name, value in inputs.items()}


def _copy(value: Any, gradient: bool) -> Any:
    if isinstance(value, Tensor):
        fresh = value.detach().clone()
        return fresh.requires_grad_(gradient and fresh.is_floating_point())
    return copy.deepcopy(value)


def _call(exercise: Exercise, fn: Any, given: Inputs, inputs: Inputs) -> Any:
    try:
        return exercise.apply(fn, *given.values())
    except NotImplementedError:
        raise NotAttempted from None
    except Counterexample as error:
        error.inputs = inputs
        raise
    except (Exception, SystemExit) as error:
        raise Counterexample(
            inputs,
            f"raised {type(error).__name__}: {_line(fn, error)}",
            "no error",
            claim=RUNS,
            mistake="",
            got=type(error).__name__,
        ) from error


def _line(fn: Any, error: BaseException) -> str:
    """The error's first line and the learner's line of code that led to it."""
    message = (str(error).strip() or "(no message)").splitlines()[0]
    if there := getattr(error, "learners_line", ""):  # raised in another process
        return f"{message}, at `{there}`"
    code = getattr(plain(fn), "__code__", None)
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if code and frame.filename == code.co_filename and frame.lineno:
            text = linecache.getline(frame.filename, frame.lineno).strip()
            return f"{message}, at `{text}`" if text else message
    return message


def _equal(now: Any, before: Any) -> bool:
    if isinstance(before, Tensor):
        if now.shape != before.shape or now.dtype != before.dtype:
            return False
        return bool(((now == before) | (now.isnan() & before.isnan())).all())
    return bool(now == before)

"""Properties that a right answer has, each verified on inputs from small to large.

The inputs are ordered so that the first failure is small enough to read.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from minift.course.compare import difference
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import leniency
from minift.course.trial import Counterexample, copies, run

Cases = Callable[[], Iterable[Inputs]]

ASPECTS = {
    "type": "What comes back is not of the type that the docstring names.",
    "shape": "What comes back is not of the shape that the docstring names.",
    "dtype": "A step changed the dtype: `.float()`, a comparison left as it is, or a tensor made "
    "without the input's dtype.",
    "device": "A tensor was made without the input's device: `torch.zeros_like(x)`, or "
    "`device=x.device`.",
    "lazy": "The values are still to be made: a generator, `map`, `zip`, or a function under "
    "`async`. Return the values themselves: `list(…)`, a plain `def`.",
}


@dataclass(frozen=True)
class Equals:
    """The output equals the oracle's on every case: type, shape, dtype and values.

    Args:
        claim: what is verified, as a clause: "equals q kᵀ / √D in fp64".
        cases: gives the inputs, smallest first.
        mistake: the likely mistake when a function fails here in a way not seen before.
        ulps: the tolerance, in units of ``eps(dtype) · max|right|``.
    """

    claim: str
    cases: Cases
    mistake: str
    ulps: float = 16

    def verify(self, exercise: Exercise, fn: Any) -> int:
        """The number of cases on which the property holds.

        Raises:
            Counterexample: the first case on which it does not.
        """
        count = 0
        for count, inputs in enumerate(self.cases(), 1):  # noqa: B007
            got, right = self.outcome(exercise, fn, inputs), self.right(exercise, inputs)
            ulps, dtype = self.ulps * leniency(), _dtype(inputs, right)
            if found := difference(got, right, ulps=ulps, dtype=dtype):
                note = ASPECTS.get(found.aspect)
                raise Counterexample(inputs, found.yours, found.right, mistake=note, got=got)
        return count

    def behaviour(self, exercise: Exercise, fn: Any) -> list[Any]:
        """What ``fn`` does on every case: its outputs, or how it fails."""
        return [self._attempt(exercise, fn, inputs) for inputs in self.cases()]

    def outcome(self, exercise: Exercise, fn: Any, inputs: Inputs) -> Any:
        """What is judged: the output."""
        return run(exercise, fn, inputs)[0]

    def right(self, exercise: Exercise, inputs: Inputs) -> Any:
        """What it should be, from the oracle."""
        return exercise.oracle(*copies(inputs).values())

    def _attempt(self, exercise: Exercise, fn: Any, inputs: Inputs) -> Any:
        try:
            return self.outcome(exercise, fn, inputs)
        except Counterexample as error:
            return [error.claim, error.got]


@dataclass(frozen=True)
class Gradient(Equals):
    """The gradient of a weighted sum of the outputs equals the oracle's, for every float input."""

    def outcome(self, exercise: Exercise, fn: Any, inputs: Inputs) -> Any:
        """The gradients by input name."""
        output, given = run(exercise, fn, inputs, gradient=True)
        if not isinstance(output, Tensor) or not output.requires_grad:
            raise Counterexample(
                inputs,
                "the output is cut off from its inputs: no gradient",
                "a gradient for every input",
                mistake="The values left autograd on the way: `.detach()`, `.item()`, `.numpy()`, "
                "`torch.tensor(…)` or `no_grad`.",
                got="no gradient",
            )
        return _gradients(output, given)

    def right(self, exercise: Exercise, inputs: Inputs) -> Any:
        """The oracle's gradients."""
        given = copies(inputs, gradient=True)
        return _gradients(exercise.oracle(*given.values()), given)


def in_dtypes(cases: Cases, *dtypes: torch.dtype) -> Cases:
    """The same cases with every float tensor cast to each dtype in turn."""

    def cast() -> Iterable[Inputs]:
        for dtype in dtypes:
            for inputs in cases():
                yield {name: _to(value, dtype) for name, value in inputs.items()}

    return cast


def keeps_dtype(base: Equals, *dtypes: torch.dtype, ulps: float = 8) -> Equals:
    """The property that ``base`` also holds, at their own precision, in other dtypes."""
    listed = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    return replace(
        base,
        claim=f"keeps the dtype: {listed}",
        cases=in_dtypes(base.cases, *dtypes),
        mistake="The result is less exact than its dtype allows: a step lost digits.",
        ulps=ulps,
    )


def _gradients(output: Tensor, given: Inputs) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(output.shape, generator=generator, dtype=torch.float64)
    finite = output.double().masked_fill(~output.isfinite(), 0.0)
    (finite * weights).sum().backward()
    tracked = {n: v for n, v in given.items() if isinstance(v, Tensor) and v.requires_grad}
    return {n: torch.zeros_like(v) if v.grad is None else v.grad for n, v in tracked.items()}


def _dtype(inputs: Inputs, right: Any) -> torch.dtype | None:
    """A float result has the dtype of the first float input, however exact the oracle was."""
    if isinstance(right, Tensor) and not right.is_floating_point():
        return None
    floats: Sequence[Tensor] = [
        v for v in inputs.values() if isinstance(v, Tensor) and v.is_floating_point()
    ]
    return floats[0].dtype if floats else None


def _to(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

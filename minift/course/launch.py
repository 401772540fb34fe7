"""Running a learner's Triton kernel on CPU tensors, watched: bounds, races, bytes moved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from triton.errors import TritonError
from triton.runtime.jit import JITFunction

from kernels.lab import OutOfBoundsError, RaceError, Report, compile_for, interpret
from kernels.lab import check as watch
from minift.course.exercise import Exercise, Inputs
from minift.course.properties import Equals
from minift.course.trial import Counterexample

IS_KERNEL = "is a Triton kernel"
IN_BOUNDS = "touches only elements of its tensors"
NO_RACE = "leaves each element to one program"


@dataclass(frozen=True)
class Table:
    """An argument of addresses: int64 rows in which a tensor stands for where its data begins."""

    rows: Sequence[Sequence[Tensor | int]]

    def tensor(self) -> Tensor:
        """The table in memory."""
        return torch.tensor([[_address(entry) for entry in row] for row in self.rows])


def _address(entry: Tensor | int) -> int:
    return entry.data_ptr() if isinstance(entry, Tensor) else entry


def launch(
    kernel: Any,
    programs: int,
    *args: Any,
    memory: Mapping[str, Sequence[Tensor]] | None = None,
    strict: bool = True,
    **constants: Any,
) -> Report:
    """Launch ``programs`` programs in the interpreter; what they moved comes back.

    ``memory`` names the tensors that are reached through a :class:`Table`. Without ``strict``,
    lanes outside and collisions are counted in the report only.

    Raises:
        Counterexample: it is no kernel, a lane leaves its tensor, or two programs collide.
    """
    remote = getattr(kernel, "is_kernel", False)
    if not (remote or isinstance(kernel, JITFunction)):
        raise Counterexample(
            {},
            f"a plain {'function' if hasattr(kernel, 'is_kernel') else type(kernel).__name__}",
            "a function under @triton.jit",
            claim=IS_KERNEL,
            mistake="`@triton.jit` is missing on the line above `def`.",
        )
    run = kernel.launched if remote else partial(launched, kernel)
    try:
        report: Report = run(programs, args, constants, memory, strict)
    except OutOfBoundsError as error:
        raise _finding(kernel, IN_BOUNDS, "no lane outside", error) from None
    except RaceError as error:
        raise _finding(kernel, NO_RACE, "one program for each element", error) from None
    return report


def launched(
    kernel: Any,
    programs: int,
    args: Sequence[Any],
    constants: Mapping[str, Any],
    memory: Mapping[str, Sequence[Tensor]] | None,
    strict: bool,
) -> Report:
    """What a launch in this process moved, and what was wrong about it."""
    named = {name: list(tensors) for name, tensors in (memory or {}).items()}
    given = [a.tensor() if isinstance(a, Table) else a for a in args]
    with watch(strict=strict) as report:
        interpret(kernel, memory=named)[(programs,)](*given, **constants)
    return report


def _finding(kernel: Any, claim: str, right: str, error: Exception) -> Counterexample:
    """What two kernels with the same fault have in common, whatever they call their arguments."""
    text = str(error)
    where = text.partition(":")[2]
    for position, name in enumerate(kernel.arg_names):
        where = where.replace(f"'{name}'", f"argument {position}")
    return Counterexample({}, text, right, claim=claim, got=where)


@dataclass(frozen=True)
class Part(Equals):
    """One entry of a mapping output equals the oracle's."""

    part: str = "out"

    def outcome(self, exercise: Exercise, fn: Any, inputs: Inputs) -> Any:
        """The entry of the learner's output."""
        return super().outcome(exercise, fn, inputs)[self.part]

    def right(self, exercise: Exercise, inputs: Inputs) -> Any:
        """The entry of the oracle's."""
        return super().right(exercise, inputs)[self.part]


@dataclass(frozen=True)
class Compiles(Equals):
    """The compiler of a GPU takes the kernel, and its numbers fit into registers.

    The interpreter alone is more lenient. Each case holds the ``args`` of a launch by position and
    its ``constants`` by name; ``spilled`` is how many bytes a thread may put into local memory.
    """

    arch: str = "sm_90"
    spilled: int = 0

    def verify(self, exercise: Exercise, fn: Any) -> int:
        """The number of cases that compile.

        Raises:
            Counterexample: the compiler's last line, for the first case that does not, or how
                many bytes do not fit.
        """
        count = 0
        for count, inputs in enumerate(self.cases(), 1):  # noqa: B007
            there = getattr(fn, "is_kernel", False)
            compiler = fn.compiled_for if there else partial(compile_for, fn)
            try:
                compiled = compiler(*inputs["args"], arch=self.arch, **inputs["constants"])
            except TritonError as error:
                reason = str(error).strip().splitlines()[-1].strip()
                raise Counterexample(inputs["constants"], reason, "machine code") from None
            if compiled.stack_bytes > self.spilled:
                raise Counterexample(
                    inputs["constants"],
                    f"{compiled.stack_bytes} bytes of a thread's numbers go through local memory",
                    f"{self.spilled}: they fit into registers",
                    mistake="More numbers are alive at once than a thread has registers for.",
                )
        return count

    def behaviour(self, exercise: Exercise, fn: Any) -> list[Any]:
        """No two kernels fail to compile alike: the compiler's own words say more."""
        return [fn]

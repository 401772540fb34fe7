"""What an exercise is made of. An exercise file holds one ``Exercise`` called ``exercise``.

    exercise = Exercise("attention.scores", "Scaled dot-product scores", properties=…, hints=…)

    @exercise.stub                    what the learner starts from: signature and contract
    @exercise.solution                one right answer
    @exercise.reference               the oracle, live: fp64 PyTorch, or the definition spelled out
    @exercise.mistake("sentence")     a wrong answer that people really give; several of them
    exercise.slip(name, old, new, "…")  the same, as one change in the solution's source

The decorators return the function unchanged, so the file is ordinary code that linters read.
"""

from __future__ import annotations

import inspect
import linecache
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from minift.errors import InputError

if TYPE_CHECKING:
    from minift.course.properties import Equals

F = TypeVar("F")
Inputs = Mapping[str, Any]


@dataclass(frozen=True)
class Mistake:
    """A seeded wrong answer: the function, and the sentence a learner is told who makes it too."""

    name: str
    fn: Any
    sentence: str


def call(fn: Callable[..., Any], *inputs: Any) -> Any:
    """How most exercises are run; those about kernels launch them instead."""
    return fn(*inputs)


@dataclass
class Exercise:
    """One exercise: the same object in the notebook, in pytest and on the command line.

    Args:
        name: ``part.topic``, equal to the file's place under ``exercises/``.
        title: a few words for lists.
        properties: what has to hold, in the order in which it is verified: the simplest first.
        hints: from a nudge to nearly the answer.
        apply: runs the learner's function on inputs and returns what is to be judged.
        points: what a right answer is worth in a class.
        in_library: the library's functions that would pass; no answer may be one of them.
    """

    name: str
    title: str
    properties: tuple[Equals, ...]
    hints: tuple[str, ...]
    apply: Callable[..., Any] = call
    points: float = 1
    in_library: tuple[str, ...] = ()
    start: Any = None
    answer: Any = None
    oracle: Any = None
    mistakes: list[Mistake] = field(default_factory=list)

    def stub(self, fn: F) -> F:
        """Decorator: what the learner starts from."""
        self.start = fn
        return fn

    def solution(self, fn: F) -> F:
        """Decorator: one right answer."""
        self.answer = fn
        return fn

    def reference(self, fn: F) -> F:
        """Decorator: the oracle that answers are compared with."""
        self.oracle = fn
        return fn

    def mistake(self, sentence: str) -> Callable[[F], F]:
        """Decorator: a wrong answer, with what to tell a learner who gives the same one."""

        def register(fn: F) -> F:
            self.mistakes.append(Mistake(plain(fn).__name__, fn, sentence))
            return fn

        return register

    def slip(self, name: str, old: str, new: str, sentence: str) -> None:
        """A wrong answer that differs from the solution in one place: ``old`` became ``new``."""
        text = source(self.answer)
        if text.count(old) != 1:
            raise ValueError(f"{self.name}, slip {name}: {old!r} is not in the solution just once")
        text = re.sub(r"^def \w+\(", f"def {name}(", text.replace(old, new), flags=re.M)
        place = f"<{self.name}: {name}>"  # where Triton finds the source of the kernel again
        linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
        namespace = dict(plain(self.answer).__globals__)
        exec(compile(text, place, "exec"), namespace)
        self.mistakes.append(Mistake(name, namespace[name], sentence))

    def require_answers(self) -> None:
        """Refuse what needs a solution where there is none: in the students' edition.

        Raises:
            InputError: the solution or the oracle is missing.
        """
        if self.answer is None or self.oracle is None:
            raise InputError(f"exercise {self.name}: this edition of the course has no solutions")

    @property
    def function(self) -> str:
        """The name of the function that the learner writes."""
        return str(plain(self.start).__name__)

    def stub_source(self) -> str:
        """The stub as the learner sees it."""
        return source(self.start)

    def solution_source(self) -> str:
        """The solution under the stub's name.

        Raises:
            InputError: this is the students' edition of the course.
        """
        self.require_answers()
        return re.sub(r"^def \w+\(", f"def {self.function}(", source(self.answer), flags=re.M)


def plain(fn: Any) -> Any:
    """The Python function inside a Triton kernel; any other function as it is."""
    inner = getattr(fn, "fn", None)
    return inner if inspect.isfunction(inner) else fn


def source(fn: Any) -> str:
    """The source of a function without the ``@exercise`` decorator above it."""
    text = textwrap.dedent(inspect.getsource(plain(fn)))
    return re.sub(r"^@exercise\.\w+\n", "", text, flags=re.M).strip() + "\n"

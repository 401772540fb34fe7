"""Help on demand: hints one step at a time, then the solution."""

from minift.course import progress_file
from minift.course.registry import find

_given: dict[str, int] = {}


class Source(str):
    """Source text that a notebook shows as code rather than as a quoted string."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.rstrip()}\n```"

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(self.rstrip())  # type: ignore[attr-defined]


def hint(name: str) -> None:
    """Print the next hint of an exercise; after the last one, begin again.

    Raises:
        InputError: there is no such exercise.
    """
    hints = find(name).hints
    if not hints:
        print(f"{name}: this edition of the course has no hints")
        return
    step = _given.get(name, 0) % len(hints)
    _given[name] = step + 1
    progress_file.hinted(name, step + 1)
    print(f"Hint {step + 1} of {len(hints)}: {hints[step]}")
    if step + 1 == len(hints):
        more = f' One right answer: solution("{name}")' * (find(name).answer is not None)
        print(f"That was the last hint.{more}")


def solution(name: str) -> Source:
    """The source of one right answer.

    Raises:
        InputError: there is no such exercise.
    """
    return Source(find(name).solution_source())

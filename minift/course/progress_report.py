"""``progress``: what is done of the course, what comes next."""

from dataclasses import dataclass
from typing import Any

from minift.course.plan import Stage, course
from minift.course.progress_file import Deed, place, read

WIDTH = 12  # squares of a bar in the text


@dataclass(frozen=True)
class Progress:
    """The stages of the course and what is recorded of their exercises."""

    stages: tuple[Stage, ...]
    deeds: dict[str, Deed]

    def right(self, stage: Stage) -> int:
        """How many of a stage's exercises are done."""
        return sum(self.deed(name).right for name in stage.exercises)

    def deed(self, exercise: str) -> Deed:
        """What is recorded of an exercise."""
        return self.deeds.get(exercise, Deed())

    @property
    def exercises(self) -> list[tuple[str, str]]:
        """Every exercise with its stage's name, in the order of the course."""
        return [(name, stage.name) for stage in self.stages for name in stage.exercises]

    @property
    def done(self) -> int:
        """How many exercises are right."""
        return sum(self.right(stage) for stage in self.stages)

    @property
    def upcoming(self) -> tuple[str, str] | None:
        """The first exercise that is not right, and its stage's name; None when all are."""
        left = ((name, stage) for name, stage in self.exercises if not self.deed(name).right)
        return next(left, None)

    def __str__(self) -> str:
        wide = max(len(stage.name) for stage in self.stages)
        lines = []
        for part in dict.fromkeys(stage.part for stage in self.stages):
            stages = [stage for stage in self.stages if stage.part == part]
            total = sum(len(stage.exercises) for stage in stages)
            lines.append(f"{part}: {sum(map(self.right, stages))} of {total}")
            for s in (s for s in stages if s.name != part):
                lines.append(f"  {s.name:<{wide}}  {_bar(self.right(s), len(s.exercises))}")
        return "\n".join([*lines, f"all: {self.done} of {len(self.exercises)}", self._next()])

    def _next(self) -> str:
        if self.upcoming is None:
            return "Next: nothing is left. All exercises are right."
        name, stage = self.upcoming
        deed = self.deed(name)
        seen = {"attempt": deed.attempts, "hint": deed.hints}
        words = [f"{count} {what}{'s' * (count != 1)}" for what, count in seen.items() if count]
        return f"Next: {name}, in {stage}" + (f" (so far {', '.join(words)})" if words else "")

    def as_json(self) -> dict[str, Any]:
        """The same for machines."""
        file = place()
        rows = [
            {"exercise": name, "notebook": stage, **vars(self.deed(name))}
            for name, stage in self.exercises
        ]
        return {
            "exercises": rows,
            "right": self.done,
            "total": len(rows),
            "next": self.upcoming and self.upcoming[0],
            "file": str(file) if file else None,
        }


def state() -> Progress:
    """What is recorded now.

    Raises:
        InputError: the record is not one.
    """
    return Progress(tuple(course()), read())


def progress() -> None:
    """Draw what is done and print it: a bar for each notebook, and the exercise that comes next.

    Raises:
        InputError: the record of progress cannot be read.
    """
    from minift.course.figures import describe

    now = state()
    print(now)
    print(describe(draw(now)))


def draw(now: Progress) -> Any:
    """A figure: for each notebook its exercises as a bar, those that are right filled in."""
    from matplotlib import pyplot as plt

    from minift.course.figures import COLOURS

    parts = list(dict.fromkeys(stage.part for stage in now.stages))
    totals = [len(stage.exercises) for stage in now.stages]
    colours = [COLOURS[parts.index(stage.part) % len(COLOURS)] for stage in now.stages]
    fig, ax = plt.subplots(figsize=(6.4, 0.8 + 0.26 * len(totals)))
    rows = range(len(totals))
    ax.barh(rows, totals, color="#e4e4e4", label="exercises")
    ax.barh(rows, [now.right(s) for s in now.stages], color=colours, label="right")
    ax.set_yticks(rows, [stage.name for stage in now.stages])
    ax.set_xticks(range(max(totals) + 1))
    ax.invert_yaxis()
    coming = f"next: {now.upcoming[0]}" if now.upcoming else "all done"
    ax.set(xlabel="exercises that are right", ylabel="notebook", title=f"Your progress, {coming}")
    return fig


def _bar(right: int, total: int) -> str:
    filled = WIDTH * right // total
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}] {right} of {total}"

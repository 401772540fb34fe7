"""What every notebook of the course has, as rules that name what is missing and where.

``problems(source)`` holds a notebook against its source and against the plan of a lesson: opening,
figures with axis labels and captions, exercises with stub, check and folded help, summary. The
rules about stored outputs are in :mod:`minift.course.lessons.outputs`.
"""

import ast
import builtins
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from minift.course.exercise import source
from minift.course.lessons import budget, copies, outputs
from minift.course.lessons.copies import parsed
from minift.course.lessons.notebooks import (
    FOLDER,
    all_sources,
    folded_help,
    notebook_of,
    read_source,
)
from minift.course.plan import CHECK
from minift.course.registry import find, names

OPEN_ENDED = {"00_start_here"}
MAX_BYTES = 600_000

_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
_CODE = re.compile(r"```.*?```|`[^`]*`", flags=re.S)
_CAPTION = re.compile(r"^\*Figure (\d+)\. [^*]+\.\*$", flags=re.M)


@dataclass(frozen=True)
class Lesson:
    """A stored notebook and what its source describes."""

    path: Path
    cells: list[NotebookNode]
    described: list[NotebookNode]
    size: int

    @property
    def open_ended(self) -> bool:
        """Whether it is no lesson of its own, with no bounds on figures, exercises and length."""
        return self.path.stem in OPEN_ENDED

    @property
    def code(self) -> list[tuple[int, NotebookNode]]:
        """The code cells with their numbers among all cells, from 1."""
        return [(i, c) for i, c in enumerate(self.cells, 1) if c.cell_type == "code"]

    def after(self, number: int) -> NotebookNode | None:
        """The cell behind cell ``number``."""
        return self.cells[number] if number < len(self.cells) else None


def problems(source_path: Path) -> list[str]:
    """Everything about a notebook that is not as it should be; empty when all is well."""
    path = notebook_of(source_path)
    if not path.exists():
        return [f"{path.name}: not built yet; right: python -m minift course build"]
    described = read_source(source_path).cells
    lesson = Lesson(path, nbformat.read(path, 4).cells, described, path.stat().st_size)
    found = [text for rule in RULES for text in rule(lesson)]
    for _, cell in lesson.code:
        found += [f"{_short(cell)}: {text}" for text in outputs.problems(cell)]
    return [f"{path.name}: {text}" for text in found]


def in_sync(lesson: Lesson) -> Iterator[str]:
    stored = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in lesson.cells]
    wanted = [(c.cell_type, c.source, c.metadata.get("tags", [])) for c in lesson.described]
    for number, (mine, theirs) in enumerate(zip(stored, wanted, strict=False), 1):
        if mine != theirs:
            yield f"cell {number} differs from the source; build it again"
            return
    if len(stored) != len(wanted):
        yield f"{len(stored)} cells, but the source has {len(wanted)}; build it again"


def executed_in_order(lesson: Lesson) -> Iterator[str]:
    counts = [cell.execution_count for _, cell in lesson.code]
    if counts != list(range(1, len(counts) + 1)):
        yield "the code cells are not numbered 1, 2, 3, …: not run from top to bottom"


def opening(lesson: Lesson) -> Iterator[str]:
    first, *rest = [c.source for c in lesson.cells[:4] if c.cell_type == "markdown"] or [""]
    if not re.match(r"# \S", first):
        yield "the first cell has no `# Title`"
    text = "\n".join([first, *rest])
    if "you will be able to" not in text.lower():
        yield "the opening does not say what you will be able to do"
    if budget.stated(text) is None:
        yield f"the opening does not state time and memory in this form: {budget.FORM}"


def closing(lesson: Lesson) -> Iterator[str]:
    last = lesson.cells[-1]
    if last.cell_type != "markdown" or "## Summary" not in last.source:
        yield "the last cell is no `## Summary`"
    elif "next" not in last.source.lower():
        yield "the summary does not say what is next"


def proportions(lesson: Lesson) -> Iterator[str]:
    if lesson.size > MAX_BYTES:
        yield f"{lesson.size // 1000} kB; at most {MAX_BYTES // 1000} are right: smaller figures"
    lengths = [len(cell.source.splitlines()) for _, cell in lesson.code]
    if lengths and statistics.median(lengths) > 6:
        yield f"the median code cell has {statistics.median(lengths):g} lines; at most 6 are right"
    count = sum(not c.source.startswith("<details>") for c in lesson.cells)  # help stays folded
    if not lesson.open_ended and not 40 <= count <= 70:
        yield f"{count} cells; 40 to 70 are right"


def figures(lesson: Lesson) -> Iterator[str]:
    drawn = [(number, cell) for number, cell in lesson.code if outputs.pictures(cell)]
    if not lesson.open_ended and not 3 <= len(drawn) <= 6:
        yield f"{len(drawn)} figures; 3 to 6 are right"
    for count, (number, cell) in enumerate(drawn, 1):
        yield from (f"{_short(cell)}: {text}" for text in _digest(outputs.text(cell)))
        behind = lesson.after(number)
        caption = _CAPTION.search(behind.source if behind else "")
        if not caption or int(caption[1]) != count:
            yield f"{_short(cell)}: the next cell holds no caption *Figure {count}. A sentence.*"


def _digest(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line.startswith("Plot")]
    if not lines:
        yield "a figure without `print(describe(fig))`"
    if any("x is ''" in line or "y is ''" in line for line in lines):
        yield "a figure with an axis that has no label"


def exercises(lesson: Lesson) -> Iterator[str]:
    checks = [(n, name) for n, cell in lesson.code for name in CHECK.findall(cell.source)]
    asked = list(dict.fromkeys(name for _, name in checks))
    if not lesson.open_ended and not 2 <= len(asked) <= 4:
        yield f"{len(asked)} exercises; 2 to 4 are right"
    for name in asked:
        if name in names():
            yield from _exercise(lesson, name, next(n for n, other in checks if other == name))
        else:
            yield f"there is no exercise {name}"


def _exercise(lesson: Lesson, name: str, number: int) -> Iterator[str]:
    """One exercise around its first check, in cell ``number``."""
    exercise = find(name)
    above = [cell.source for n, cell in lesson.code if n <= number]
    if _functions(source(exercise.start))[0] not in [t for s in above for t in _functions(s)]:
        yield f"the stub of {name} does not stand, as in its exercise, above its check"
    for used in sorted(_free_names(exercise.solution_source())):
        if not any(re.search(rf"\b{used}\b", text) for text in above):
            yield f"the solution of {name} uses {used}, which no cell above its check has"
    below = [cell.source for cell in lesson.cells[number : number + 3]]
    if not any(folded_help(name) in text for text in below):
        yield f"no {{{{ help {name} }}}} within three cells below its check"


def one_copy(lesson: Lesson) -> Iterator[str]:
    """Functions of the library are imported, and those shown for teaching equal it."""
    sources = [cell.source for _, cell in lesson.code]
    if not any(re.search(r"^(from|import) (minift|kernels)", s, flags=re.M) for s in sources):
        yield "nothing is imported from the library"
    yield from copies.copied([(_short(cell), cell) for _, cell in lesson.code])


def links(lesson: Lesson) -> Iterator[str]:
    """Links to other notebooks and files of the project lead somewhere."""
    for cell in (c for c in lesson.cells if c.cell_type == "markdown"):
        for target in _LINK.findall(_CODE.sub("", cell.source)):
            if not (lesson.path.parent / target).exists():
                yield f"a link leads nowhere: {target}"


def neighbours(lesson: Lesson) -> Iterator[str]:
    """A notebook links to the one before it and to the one behind it in the course."""
    order = [notebook_of(path) for path in all_sources()]
    place = order.index(lesson.path) if lesson.path in order else -1
    text = "\n".join(cell.source for cell in lesson.cells if cell.cell_type == "markdown")
    linked = {(lesson.path.parent / target).resolve() for target in _LINK.findall(text)}
    if place > 0 and order[place - 1] not in linked:
        yield f"no link back to {order[place - 1].relative_to(FOLDER)}"
    if 0 <= place < len(order) - 1 and order[place + 1] not in linked:
        yield f"no link forward to {order[place + 1].relative_to(FOLDER)}"


RULES: tuple[Callable[[Lesson], Iterator[str]], ...] = (
    in_sync, executed_in_order, opening, closing, proportions, figures, exercises, one_copy,
    links, neighbours,
)  # fmt: skip


def _functions(text: str) -> list[str]:
    return [ast.dump(node) for node in parsed(text).body if isinstance(node, ast.FunctionDef)]


def _free_names(text: str) -> set[str]:
    """The names that a function takes from around it."""
    nodes = list(ast.walk(parsed(text)))
    read = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    own = {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    own |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    return read - own - set(dir(builtins))


def _short(cell: NotebookNode) -> str:
    """A cell, recognisable in a message."""
    return f"cell [{cell.execution_count}] {(cell.source.splitlines() or [''])[0][:50]!r}"

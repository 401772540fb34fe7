"""README's table of notebooks, from their sources: title, what stands behind its colon, minutes."""

import re
from pathlib import Path

from minift.course.lessons.budget import stated
from minift.course.lessons.notebooks import FOLDER, all_sources, notebook_of, read_source
from minift.errors import InputError
from minift.files import read_text, write_text

README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- notebooks: made by `python -m minift course build` -->", "<!-- notebooks end -->"

_POINT = re.compile(r"## Summary\n+- (.*?)(?=\n- |\n\n|\Z)", flags=re.S)


def table() -> str:
    """One line for each notebook, in the order of the course."""
    head = "| notebook | what it is about | time |\n|---|---|---|"
    return "\n".join([head, *map(_row, all_sources())])


def refreshed(readme: str) -> str:
    """The text of the README with the table of today.

    Raises:
        InputError: the two comments between which the table stands are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise InputError(f"README.md: no place for the table of notebooks: {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def refresh(path: Path | None = None) -> bool:
    """Write the table into the README; whether anything changed. Without a README, nothing is done.

    Raises:
        InputError: the README has no place for it.
    """
    path = path or README
    if not path.exists():
        return False
    now = read_text(path)
    wanted = refreshed(now)
    if wanted != now:
        write_text(path, wanted)
    return wanted != now


def _row(source: Path) -> str:
    cells = [cell.source for cell in read_source(source).cells if cell.cell_type == "markdown"]
    notebook = notebook_of(source).relative_to(FOLDER.parent).as_posix()
    title, _, about = cells[0].splitlines()[0].removeprefix("# ").partition(": ")
    part = source.relative_to(FOLDER / "_source").with_suffix("").as_posix().partition("_")[0]
    budget = stated("\n".join(cells[:4]))
    minutes = f"{budget.minutes} min" if budget else "?"
    about = about.replace("|", r"\|") or _first_sentence(cells[-1])
    return f"| [{part} {title}]({notebook}) | {about} | {minutes} |"


def _first_sentence(summary: str) -> str:
    """The first point of a summary, up to its first full stop; a bar would end the table's cell."""
    found = _POINT.search(summary)
    text = " ".join(found[1].split()) if found else ""
    return re.split(r"(?<=[.?!])\s", text)[0].replace("|", r"\|")

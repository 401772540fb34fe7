"""What students handed in, and what came of it.

A student's work is a file (``.py`` or ``.ipynb``) or a folder of such files.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from minift.course.grading.sources import SUFFIXES
from minift.errors import InputError

MAX_FILES = 100  # of one student
MAX_ENTRIES = 10_000  # of a folder that are looked at
MAX_DEPTH = 10  # folders in folders
MESSAGE = 4_000  # characters of a message that are kept


@dataclass(frozen=True)
class Result:
    """One exercise of one student.

    Attributes:
        state: "right", "wrong" or "not attempted".
        points: what it earns: all of ``out_of`` or nothing.
        message: what the student is told, several lines.
        mistake: the likely mistake alone, for statistics; may be empty.
        file: where the answer was found; empty when there is none.
    """

    exercise: str
    state: str
    points: float
    out_of: float
    message: str
    mistake: str = ""
    verified: tuple[str, ...] = ()
    file: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Work:
    """What one student handed in.

    Attributes:
        student: the name of the file or folder.
        files: the notebooks and Python files, in alphabetical order.
        remarks: what could not be read, a line each.
    """

    student: str
    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def points(self) -> float:
        """The sum over all exercises."""
        return sum(r.points for r in self.results)

    @property
    def out_of(self) -> float:
        """What could be reached."""
        return sum(r.out_of for r in self.results)


def as_json(work: Work) -> dict[str, Any]:
    """The work as plain values, without the places of files."""
    return {
        "student": work.student,
        "points": work.points,
        "out_of": work.out_of,
        "remarks": list(work.remarks),
        "exercises": [asdict(r) | {"verified": list(r.verified)} for r in work.results],
    }


def collect(paths: Iterable[Path]) -> list[Work]:
    """The work of every student, in alphabetical order.

    A path that is a file is one student; of a folder every entry is one, a file or a folder.

    Raises:
        InputError: a path is not there, holds no work, or two students have one name.
    """
    found = [work for path in paths for work in _students(Path(path))]
    seen: dict[str, Work] = {}
    for work in found:
        if work.student in seen:
            raise InputError(
                f"WORK: two submissions are called {work.student}; right would be one name each"
            )
        seen[work.student] = work
    return sorted(found, key=lambda work: work.student)


def printable(text: str, most: int = 300) -> str:
    """Text for terminals and files: no control characters, no halves of surrogate pairs."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text[:most])


def _name(text: str) -> str:
    return printable(text).replace("\n", "?")


def _students(path: Path) -> list[Work]:
    if not path.exists() and not path.is_symlink():
        raise InputError(f"WORK: {path}: no such file or folder")
    if not path.is_dir():
        return [Work(_name(path.stem), (path,))]
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise InputError(f"WORK: {path}: cannot be read ({error.strerror})") from None
    entries = [e for e in inside if not e.name.startswith((".", "__"))]
    work = [_student(e) for e in entries if e.is_dir() or e.suffix in SUFFIXES]
    if not work:
        raise InputError(
            f"WORK: {path}: no submission in it; right would be .py or .ipynb files, or a folder "
            "for each student"
        )
    return work


def _student(entry: Path) -> Work:
    if entry.is_symlink():
        remark = f"{_name(entry.name)}: a symbolic link; right would be the work itself"
        return Work(_name(entry.name if entry.is_dir() else entry.stem), (), (remark,))
    if not entry.is_dir():
        return Work(_name(entry.stem), (entry,))
    name, files = _name(entry.name), sorted(islice(_files(entry, MAX_DEPTH), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        return Work(name, (), (f"more than {MAX_FILES} files; no more are read",))
    return Work(name, tuple(files), () if files else ("no .py or .ipynb file",))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """What is work in a folder and the folders in it; links are not followed."""
    try:
        entries = list(islice(os.scandir(folder), MAX_ENTRIES))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if depth and not entry.name.startswith((".", "__")):
                yield from _files(Path(entry.path), depth - 1)
        elif Path(entry.name).suffix in SUFFIXES:
            yield Path(entry.path)

"""The students' edition of the course: a folder to hand out, with no answer in it.

It holds what a student needs: the packages, the executed notebooks and a README; no tests, no
notebook sources, no history. Of an exercise it holds the stub, the hints and what was recorded of
its cases (:mod:`minift.course.edition.recorded`), so that ``check`` says there what it says here.
No solution, seeded mistake or oracle is in it. The library itself stays (``minift.layers``,
``kernels.flash_attention``, …): it is what the course teaches, and its notebooks run it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minift.course.edition.recording import record
from minift.course.edition.stripped import starter, stripped
from minift.course.exercise import Exercise
from minift.course.plan import checks
from minift.course.registry import FOLDER, find, names
from minift.errors import InputError, one_of
from minift.files import check_new_folder, new_folder

ROOT = Path(__file__).parents[3]
PACKAGES = ("minift", "kernels")
STARTER = "answers.py"
AS_THEY_ARE = ("requirements.txt", "LICENSE")
SUFFIXES = {".py", ".typed", ".json", ".txt", ".md", ".css", ".js", ".html", ".svg", ".png"}

_FOLD = r"<details><summary>{}</summary>\n.*?\n</details>\n?"
ANSWER = re.compile(_FOLD.format("One right answer"), flags=re.S)
HINT = re.compile(_FOLD.format(r"Hint \d+"), flags=re.S)


def release(
    folder: str | os.PathLike[str],
    chosen: list[str] | None = None,
    hints: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write the students' edition; the same course gives the same bytes.

    Args:
        folder: a new or empty folder; it appears whole or not at all.
        chosen: exercises and parts; by default all. The others are absent, and so is a notebook
            that checks one of them.
        hints: whether the hints go along.
        say: told what is being done, line by line.

    Returns:
        ``{"folder", "exercises", "notebooks", "left_out", "files", "bytes"}``: names, the
        notebooks that stayed behind, and two sums.

    Raises:
        InputError: the folder is not empty, an exercise is unknown or has no answers (this is a
            students' edition already), or the notebooks are not here.
    """
    wanted = _wanted(chosen)
    _check_sources()
    check_new_folder("DIR", folder, hint=False)
    exercises = [find(name) for name in wanted]
    for exercise in exercises:
        exercise.require_answers()
    with new_folder(folder) as fresh:
        _copy_packages(fresh)
        for exercise in exercises:
            _write_exercise(exercise, fresh, hints)
            say(f"{exercise.name}: recorded")
        notebooks, left_out = _write_notebooks(fresh, set(wanted), hints)
        apart = _write_starter(fresh, exercises, notebooks)
        _write_surroundings(fresh, exercises, [*notebooks, *apart], hints)
        written = sorted(path for path in fresh.rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in written)
    counts = {"files": len(written), "bytes": size}
    listed = {"exercises": wanted, "notebooks": notebooks, "left_out": left_out}
    return {"folder": str(folder), **listed, **counts}


def _wanted(chosen: list[str] | None) -> list[str]:
    """The exercises that are named, or whose part is."""
    known = names()
    parts = sorted({name.partition(".")[0] for name in known})
    for name in chosen or []:
        if name not in known and name not in parts:
            raise one_of("exercise or part", name, [*parts, *known])
    return [n for n in known if not chosen or n in chosen or n.partition(".")[0] in chosen]


def _check_sources() -> None:
    for name in ("notebooks", "pyproject.toml", *AS_THEY_ARE):
        if not (ROOT / name).exists():
            raise InputError(
                f"release: {name} is not beside the package minift; right would be a checkout of "
                "the project, which an installed package is not"
            )


def _files(folder: Path) -> Iterator[Path]:
    """The files of a package, without caches, hidden files and what an editor left."""
    for path in sorted(folder.rglob("*")):
        hidden = any(p.startswith((".", "__pycache__")) for p in path.relative_to(folder).parts)
        if path.is_file() and not path.is_symlink() and not hidden and path.suffix in SUFFIXES:
            yield path


def _copy_packages(fresh: Path) -> None:
    for package in PACKAGES:
        for path in _files(ROOT / package):
            if not path.is_relative_to(FOLDER) or path.name == "__init__.py":
                _write(fresh / path.relative_to(ROOT), path.read_bytes())


def _write_exercise(exercise: Exercise, fresh: Path, hints: bool) -> None:
    source = _source_of(exercise)
    target = fresh / source.relative_to(ROOT)
    _write(target, stripped(exercise, source, hints).encode())
    for suffix, content in record(exercise).items():
        _write(target.with_suffix(suffix), content)


def _source_of(exercise: Exercise) -> Path:
    return FOLDER.joinpath(*exercise.name.split(".")).with_suffix(".py")


def _write_notebooks(fresh: Path, wanted: set[str], hints: bool) -> tuple[list[str], list[str]]:
    """The notebooks that were written and those that were not, by their places."""
    written, left_out = [], []
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        place = path.relative_to(ROOT)
        if any(part.startswith((".", "_")) for part in place.parts):
            continue
        notebook = json.loads(path.read_text(encoding="utf-8"))
        checked = set(checks(path))
        if checked - wanted or not (checked or wanted == set(names())):
            left_out.append(place.as_posix())
            continue
        text = json.dumps(without_answers(notebook, hints), indent=1, ensure_ascii=False)
        _write(fresh / place, f"{text}\n".encode())
        written.append(place.as_posix())
    return written, left_out


def _write_starter(fresh: Path, exercises: list[Exercise], notebooks: list[str]) -> list[str]:
    """A Python file with the stubs of the exercises that no notebook here asks for."""
    asked = {name for place in notebooks for name in checks(fresh / place)}
    rest = [exercise for exercise in exercises if exercise.name not in asked]
    if not rest:
        return []
    imports: dict[str, None] = {}
    stubs = []
    for exercise in rest:
        needed, text = starter(exercise, _source_of(exercise))
        imports.update(dict.fromkeys(needed))
        stubs.append(f"# {exercise.name}: {exercise.title}\n\n\n{text}")
    head = '"""Your answers. Check them with: python -m minift course check answers.py"""'
    parts = ["\n".join([head, "", *imports]), *stubs]
    _write(fresh / STARTER, ("\n\n\n".join(parts) + "\n").encode())
    return [STARTER]


def without_answers(notebook: dict[str, Any], hints: bool = True) -> dict[str, Any]:
    """A notebook without its folded solutions, and without its folded hints if so wished."""
    cells = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = ANSWER.sub("", "".join(cell["source"]))
            text = (text if hints else HINT.sub("", text)).strip("\n")
            cell = {**cell, "source": text.splitlines(keepends=True)}
        if cell["source"] or cell["cell_type"] == "code":
            cells.append(cell)
    return {**notebook, "cells": cells}


def _write_surroundings(
    fresh: Path, exercises: list[Exercise], notebooks: list[str], hints: bool
) -> None:
    for name in AS_THEY_ARE:
        shutil.copyfile(ROOT / name, fresh / name)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    _write(fresh / "pyproject.toml", _project(project).encode())
    _write(fresh / "README.md", _readme(exercises, notebooks, hints).encode())


def _project(text: str) -> str:
    """pyproject.toml with what installing needs alone; the recorded files belong to the package."""
    sections = re.split(r"^(?=\[)", text, flags=re.M)
    kept = [s for s in sections if s.startswith(("[build-system]", "[project", "[tool.setuptools"))]
    data = '"*" = ["py.typed"'
    found = "".join(kept)
    if found.count(data) != 1:
        raise InputError(f"pyproject.toml: {data} is not in it once; release adds to that list")
    return found.replace(data, f'{data}, "*.json", "*.safetensors"').rstrip() + "\n"


def _readme(exercises: list[Exercise], places: list[str], hints: bool) -> str:
    listed = "\n".join(f"- [{n.removeprefix('notebooks/')}]({n})" for n in places)
    table = "\n".join(f"| `{e.name}` | {e.title} |" for e in exercises)
    hint = ' `hint("…")` prints hints, one at a time.' if hints else ""
    start = f"jupyter lab {places[0]}"
    return README.format(start=start, first=places[0], listed=listed, table=table, hint=hint)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


README = """\
# minift: the course

Transformers and their GPU kernels from nothing, with a check for every exercise. This is the
edition for students: it has no solutions in it. A laptop without a GPU is enough.

## Install

In a new virtual environment, Python 3.11 or newer, in this folder:

```
pip install -r requirements.txt
```

## Open

```
{start}
```

{listed}

## Check

Each exercise has a stub, a function to fill in, and in a notebook a cell below that checks it. The
check says "not attempted", "right", or "wrong", with the property that does not hold, an input on
which it does not, and the likely mistake.{hint}

In a terminal, for all exercises of a notebook or a Python file:

```
python -m minift course check {first}
```

## Hand in

Save the file that you worked in and hand it in: a notebook, or a Python file with the functions.
Keep their names and arguments: an exercise is found by its function's name.

## Exercises

| exercise | what it is about |
|---|---|
{table}
"""

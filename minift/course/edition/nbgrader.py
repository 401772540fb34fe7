"""The course for nbgrader: ``python -m minift course export-nbgrader DIR``.

Every notebook with exercises becomes an assignment that ``nbgrader generate_assignment``,
``autograde`` and ``generate_feedback`` take as it is. A stub's cell holds the solution between
nbgrader's markers; behind each check stands a locked cell that asks for it once more and carries
the points. nbgrader runs what students hand in with your rights: for work of strangers there is
``python -m minift course grade``, whose points are the same.

Source: the nbgrader documentation, "Creating and grading assignments" (cell metadata, schema 3).
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minift.course.edition.release import without_answers
from minift.course.lessons.notebooks import FOLDER, all_sources, notebook_of, source_of
from minift.course.registry import find
from minift.errors import InputError
from minift.files import check_new_folder, new_folder, write_text

CONFIG = '''\
"""nbgrader reads this file in the course's folder."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "minift"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError  # your code goes here"}
c.ClearSolutions.enforce_metadata = False
c.Execute.timeout = 300  # seconds a cell
'''
_CHECK = re.compile(r"^check\(\s*[\"']([\w.]+)[\"']\s*,\s*(\w+)\s*\)", flags=re.M)


def export(
    folder: Path, notebooks: Sequence[str] = (), points: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """Write an nbgrader course into a new folder.

    Args:
        notebooks: by name, as for ``course build``; default: all that have exercises.
        points: by exercise, in place of each exercise's own.

    Raises:
        InputError: there is no such notebook, it has no exercise, or the folder is in use.
    """
    check_new_folder("DIR", folder, hint=False)
    named = [notebook_of(source_of(name)) for name in notebooks]
    found = {path: assignment(path, points or {}) for path in named or _stored()}
    empty = [path.name for path, (_, worth) in found.items() if not worth]
    if named and empty:
        raise InputError(f"{empty[0]}: this notebook has no exercise")
    report: dict[str, Any] = {"assignments": []}
    with new_folder(folder) as fresh:
        write_text(fresh / "nbgrader_config.py", CONFIG)
        for path, (notebook, worth) in found.items():
            if worth:
                name = assignment_name(path)
                place = fresh / "source" / name / f"{name}.ipynb"
                place.parent.mkdir(parents=True)
                write_text(place, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")
                report["assignments"].append({"assignment": name, "exercises": worth})
    return report


def assignment_name(path: Path) -> str:
    """``notebooks/1-transformer/04_attention.ipynb`` is the assignment 1-transformer-04_attention:
    nbgrader has no folders of assignments."""
    return "-".join(path.relative_to(FOLDER).with_suffix("").parts)


def _stored() -> list[Path]:
    """All notebooks of the course."""
    return [notebook_of(source) for source in all_sources()]


def assignment(path: Path, points: Mapping[str, float]) -> tuple[dict[str, Any], dict[str, float]]:
    """A stored notebook with nbgrader's marks, and its exercises with their points."""
    notebook = without_answers(json.loads(path.read_text(encoding="utf-8")))
    worth: dict[str, float] = {}
    cells = [marked for cell in notebook["cells"] for marked in _marked(cell, points, worth)]
    for name in worth:
        _put_solution(name, cells)
    return {**notebook, "cells": cells}, worth


def _marked(
    cell: dict[str, Any], points: Mapping[str, float], worth: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """The cell without outputs and, behind a check, the cell that carries its points."""
    if cell["cell_type"] != "code":
        yield cell
        return
    yield {**cell, "outputs": [], "execution_count": None}
    for name, function in _CHECK.findall("".join(cell["source"])):
        if function != name.rpartition(".")[2] or name in worth:  # a lesson shows a check at work
            continue
        worth[name] = points.get(name, find(name).points)
        lines = ["from minift.course import check\n", f'check("{name}", {function}, required=True)']
        marks = {"grade": True, "solution": False, "locked": True, "points": worth[name]}
        yield {
            "cell_type": "code",
            "execution_count": None,
            "id": f"points-{_grade_id(name)}"[:64],
            "metadata": _marks(f"points-{_grade_id(name)}", **marks),
            "outputs": [],
            "source": lines,
        }


def _marks(grade_id: str, **marks: Any) -> dict[str, Any]:
    fixed = {"grade_id": grade_id, "schema_version": 3, "cell_type": "code", "task": False}
    return {"nbgrader": {**fixed, **marks}}


def _grade_id(name: str) -> str:
    return name.replace(".", "-")


def _put_solution(name: str, cells: list[dict[str, Any]]) -> None:
    """Into the cell of the stub, between nbgrader's markers.

    A stub that is code to be mended stays as it is: between markers, the bugs would be cleared.
    """
    exercise = find(name)
    cell = next((c for c in cells if exercise.stub_source().strip() in "".join(c["source"])), None)
    if cell is None:
        raise InputError(f"exercise {name}: no cell of its notebook holds the stub")
    if "NotImplementedError" in exercise.stub_source():
        text = solved("".join(cell["source"]), exercise.function, exercise.solution_source())
        cell["source"] = text.splitlines(keepends=True)
        marks = {"grade": False, "solution": True, "locked": False}
        cell["metadata"] = {**cell["metadata"], **_marks(_grade_id(name), **marks)}


def solved(text: str, function: str, solution: str) -> str:
    """The stub's source with its last statement replaced by the solution's body."""
    stub, answer = _definition(text, function), _definition(solution, function)
    body = answer.body[1:] if ast.get_docstring(answer) is not None else answer.body
    lines = solution.splitlines()[body[0].lineno - 1 : answer.end_lineno]
    marked = ["### BEGIN SOLUTION", *textwrap.dedent("\n".join(lines)).splitlines()]
    inside = textwrap.indent("\n".join([*marked, "### END SOLUTION"]), "    ")
    kept = text.splitlines()
    return "\n".join([*kept[: stub.body[-1].lineno - 1], inside, *kept[stub.end_lineno :]])


def _definition(text: str, function: str) -> ast.FunctionDef:
    tree = ast.parse(text)
    return next(s for s in tree.body if isinstance(s, ast.FunctionDef) and s.name == function)

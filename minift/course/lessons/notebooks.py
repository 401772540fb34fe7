"""From source text to executed notebook: the same bytes from the same source.

A notebook ``notebooks/PART/NAME.ipynb`` is built from ``notebooks/_source/PART/NAME.py``, which
is Python with ``# %%`` between cells (the percent format). The source is what is reviewed and
edited; ``python -m minift course build`` runs it. One directive is filled in on the way: a
markdown cell ``{{ help attention.scores }}`` becomes the exercise's hints and solution, folded.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from ipykernel.kernelspec import RESOURCES, get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from minift.course.environment import steady
from minift.course.registry import find
from minift.errors import InputError
from minift.files import write_text

FOLDER = Path(__file__).parents[3] / "notebooks"
SOURCES = FOLDER / "_source"
CELL_TIMEOUT = 120  # seconds, as in the tests

_HELP = re.compile(r"^\{\{ help ([\w.]+) \}\}$", flags=re.M)
_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},  # the rest would name the interpreter's patch version
}


def all_sources() -> list[Path]:
    """The sources of all notebooks, in the order of the course.

    Raises:
        InputError: there are none, as in the students' edition or an installed package.
    """
    if not SOURCES.is_dir():
        raise InputError(
            f"notebooks: no {SOURCES.parent.name}/{SOURCES.name} here; right would be a checkout "
            "of the project, which a students' edition is not"
        )
    return sorted(SOURCES.rglob("*.py"), key=lambda path: path.relative_to(SOURCES).parts)


def source_of(name: str | os.PathLike[str]) -> Path:
    """The source of a notebook that is named by its path, its source's path, or ``PART/NAME``.

    Raises:
        InputError: there is no such notebook.
    """
    path = Path(name)
    for folder in (SOURCES, FOLDER):
        if path.resolve().is_relative_to(folder):
            path = path.resolve().relative_to(folder)
            break
    known = {str(p.relative_to(SOURCES).with_suffix("")): p for p in all_sources()}
    wanted = path.with_suffix("").as_posix()
    if wanted not in known:
        raise InputError(f"notebook {name}: no source of that name; known: {', '.join(known)}")
    return known[wanted]


def notebook_of(source: Path) -> Path:
    """Where the notebook of a source stands."""
    return FOLDER / source.relative_to(SOURCES).with_suffix(".ipynb")


def read_source(source: Path) -> NotebookNode:
    """The notebook that a source describes, not executed: stable cell ids, help filled in."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.cells = [part for cell in notebook.cells for part in _help_apart(cell)]
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _HELP.sub(lambda match: folded_help(match[1]), cell.source)
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
    notebook["metadata"] = nbformat.from_dict(_METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def _help_apart(cell: NotebookNode) -> Iterator[NotebookNode]:
    """What stands behind folded help is a cell of its own: else there is no gap between them."""
    match = _HELP.search(cell.source) if cell.cell_type == "markdown" else None
    behind = cell.source[match.end() :].strip("\n") if match else ""
    if match and behind:
        cell.source = cell.source[: match.end()]
        yield cell
        yield from _help_apart(nbformat.v4.new_markdown_cell(behind))
    else:
        yield cell


def folded_help(name: str) -> str:
    """The hints of an exercise and its solution, each folded, as markdown."""
    exercise = find(name)
    hints = [(f"Hint {i}", text) for i, text in enumerate(exercise.hints, 1)]
    parts = [*hints, ("One right answer", f"```python\n{exercise.solution_source()}```")]
    fold = "<details><summary>{}</summary>\n\n{}\n\n</details>"
    return "\n".join(fold.format(title, text) for title, text in parts)


def build(source: Path, target: Path) -> NotebookNode:
    """Execute a source in a fresh kernel and write the notebook, whole or not at all.

    Raises:
        InputError: a cell failed (and is not tagged ``raises-exception``), took too long, or
            killed the kernel; nothing is written.
    """
    notebook = read_source(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        _execute(notebook, target.parent)
    except CellExecutionError as error:
        reason = f"{error.ename}: {error.evalue}".strip(": ")
        raise InputError(f"{source.name}: {_failed(notebook)} raised {reason}") from None
    except CellTimeoutError:
        raise InputError(f"{source.name}: a cell ran longer than {CELL_TIMEOUT} s") from None
    except DeadKernelError:
        raise InputError(f"{source.name}: {_failed(notebook)} killed the kernel") from None
    for cell in notebook.cells:
        _normalise(cell)
    notebook["metadata"] = nbformat.from_dict(_METADATA)
    nbformat.validate(notebook)
    write_text(target, nbformat.writes(notebook).rstrip("\n") + "\n")
    return notebook


class _ThisPython(KernelSpecManager):
    """Kernels of the running interpreter, whatever kernels else are installed for the user."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(resource_dir=str(RESOURCES), **get_kernel_dict())


def _execute(notebook: NotebookNode, folder: Path) -> None:
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=_ThisPython()),
        timeout=CELL_TIMEOUT,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=steady(), cleanup_kc=True, stderr=subprocess.DEVNULL)


def _failed(notebook: NotebookNode) -> str:
    """The cell that was run last, by its number among all cells and its first line."""
    for number, cell in reversed(list(enumerate(notebook.cells, 1))):
        if cell.cell_type == "code" and (cell.execution_count or cell.outputs):
            return f"cell {number} ({cell.source.splitlines()[0]!r})"
    return "the first cell"


def _normalise(cell: NotebookNode) -> None:
    """Drop what differs between two runs or machines: widget ids, the frames of a traceback."""
    for output in cell.get("outputs", []):
        if output.output_type == "error" and output.ename != "CheckFailed":
            output["traceback"] = [f"{output.ename}: {output.evalue}"]
        data: dict[str, Any] = output.get("data", {})
        data.pop("application/vnd.jupyter.widget-view+json", None)

"""Rules for what a notebook may have stored: nothing that the next run would print differently."""

import re
from collections.abc import Iterator

from nbformat import NotebookNode

MAX_TEXT = 4_000  # characters that one cell may print

UNSTEADY = {
    "an absolute path": re.compile(r"(?<![\w./])(?:/[\w.-]+){2,}|\b[A-Z]:\\"),
    "a memory address": re.compile(r"\b0x[0-9a-fA-F]{6,16}\b"),
    "a time": re.compile(r"\b\d+(?:\.\d+)? ?(?:ns|us|µs|ms|s|sec|seconds|it/s)\b"),
    "an unrounded number": re.compile(r"\d\.\d{10,}"),
}  # fmt: skip


def problems(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with the stored outputs of a code cell."""
    expected = "raises-exception" in cell.metadata.get("tags", [])
    errors = [output for output in cell.outputs if output.output_type == "error"]
    if errors and not expected:
        yield f"it failed: {errors[0].ename}: {errors[0].evalue.splitlines()[0]}"
    if expected and not errors:
        yield "it is tagged raises-exception but raised nothing"
    if any(output.get("name") == "stderr" for output in cell.outputs):
        yield "it wrote to stderr"
    shown = text(cell)
    if len(shown) > MAX_TEXT:
        yield f"it printed {len(shown)} characters; at most {MAX_TEXT} are right"
    for what, pattern in UNSTEADY.items():
        if found := pattern.search(shown):
            yield f"it printed {what}: {found[0]!r}"


def text(cell: NotebookNode) -> str:
    """Everything readable that a cell printed, showed or raised."""
    parts: list[str] = []
    for output in cell.outputs:
        parts.append(output.get("text", ""))
        parts += [v for kind, v in output.get("data", {}).items() if kind.startswith("text/")]
        parts += [output.get("evalue", ""), "\n".join(output.get("traceback", []))]
    return "\n".join(part for part in parts if part)


def pictures(cell: NotebookNode) -> list[NotebookNode]:
    """The outputs of a cell that hold an image."""
    return [o for o in cell.outputs if any(k.startswith("image/") for k in o.get("data", {}))]

"""One copy of everything: what a notebook defines is the library's, or is nowhere else.

Code is compared as a syntax tree without docstrings, annotations and decorators, so that a
teaching copy may be laid out and commented in its own way and still has to compute the same.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from nbformat import NotebookNode

from minift.course.plan import CHECK

LIBRARY = (Path(__file__).parents[2], Path(__file__).parents[3] / "kernels")
APART = (("minift", "course"), ("minift", "commands"))  # machinery, which no notebook teaches
MIN_SIZE = 30  # syntax nodes; two one-line helpers may well be alike

Definition = ast.FunctionDef | ast.ClassDef


def copied(code: list[tuple[str, NotebookNode]]) -> Iterator[str]:
    """What is wrong with the definitions in a notebook's code cells.

    Functions of the library are imported. One that is defined for teaching has its cell tagged:
    ``teaches:PLACE`` if it equals the library's, ``simplifies:PLACE`` if it does less; a test of
    the lesson's own then says how they agree.

    Args:
        code: each code cell behind words that name it.
    """
    stubs = {name.rpartition(".")[2] for _, c in code for name in CHECK.findall(c.source)}
    for where, cell in code:
        taught, simplified = _tagged(cell, "teaches:"), _tagged(cell, "simplifies:")
        for place in sorted((taught | simplified) - library().keys()):
            yield f"{where}: the tag names {place}, which is no function of the library"
        mine = {node.name: node for node in definitions(cell.source)}
        for place in sorted(taught & library().keys()):
            shown = mine.get(place.rpartition(".")[2])
            if shown is None or shape(shown) != library()[place]:
                yield f"{where}: tagged teaches:{place}, but not equal to it (docstrings aside)"
        allowed = stubs | {place.rpartition(".")[2] for place in taught | simplified}
        for name, node in sorted(mine.items()):
            if name not in allowed and (original := _original(node)):
                yield f"{where}: {name} is a second copy of {original}"


def defined_twice(notebooks: Iterable[tuple[str, list[NotebookNode]]]) -> Iterator[str]:
    """Definitions, stubs left out, that stand in two places of the course's notebooks."""
    seen: dict[str, str] = {}
    for notebook, cells in notebooks:
        code = [c for c in cells if c.cell_type == "code"]
        stubs = {name.rpartition(".")[2] for c in code for name in CHECK.findall(c.source)}
        for cell in code:
            for node in definitions(cell.source):
                key, place = shape(node), f"{notebook}: {node.name}"
                if node.name not in stubs and _large(node) and seen.setdefault(key, place) != place:
                    yield f"{place} is a second copy of {seen[key]}"


@cache
def library() -> dict[str, str]:
    """The public functions and classes of ``minift`` and ``kernels``: dotted place → shape."""
    return {place: shape(node) for place, node in _library()}


@cache
def _originals() -> tuple[dict[str, list[tuple[str, Definition]]], dict[str, str]]:
    """The library by a definition's name, and large ones by shape."""
    nodes = list(_library())
    by_name: dict[str, list[tuple[str, Definition]]] = {}
    for place, node in nodes:
        by_name.setdefault(node.name, []).append((place, node))
    # of several, the first is named
    return by_name, {shape(node): place for place, node in reversed(nodes) if _large(node)}


def _library() -> Iterator[tuple[str, Definition]]:
    for package in LIBRARY:
        for path in sorted(package.rglob("*.py")):
            parts = path.relative_to(package.parent).with_suffix("").parts
            if parts[:2] not in APART:
                for node in definitions(path.read_text(encoding="utf-8")):
                    if not node.name.startswith("_"):
                        yield ".".join([*parts, node.name]), node


def _original(node: Definition) -> str | None:
    by_name, by_shape = _originals()
    alike = (place for place, other in by_name.get(node.name, ()) if _alike(node, other))
    return next(alike, None) or by_shape.get(shape(node))


def _alike(mine: Definition, other: Definition) -> bool:
    """Of one name: most of their parameters, or a method, are called the same, too."""
    a, b = _parts(mine), _parts(other)
    return type(mine) is type(other) and 2 * len(a & b) >= min(len(a), len(b))


def _parts(node: Definition) -> set[str]:
    """A function's parameters, a class's methods."""
    if isinstance(node, ast.FunctionDef):
        return {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
    methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
    return {part.name for part in methods} - {"__init__"} or {"(no method)"}


def shape(node: Definition) -> str:
    """A definition as text in which only what it computes counts; its own name does not."""
    fresh = ast.parse(ast.unparse(node)).body[0]
    for part in ast.walk(fresh):
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)):
            if ast.get_docstring(part) is not None:
                part.body = part.body[1:] or [ast.Pass()]
            part.decorator_list = []
        if isinstance(part, ast.FunctionDef):
            part.returns = None
        if isinstance(part, ast.arg):
            part.annotation = None
    assert isinstance(fresh, (ast.FunctionDef, ast.ClassDef))
    fresh.name = ""
    return ast.dump(fresh)


def definitions(text: str) -> list[Definition]:
    """The functions and classes at the top of a cell or file."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node for node in parsed(text).body if isinstance(node, kinds)]


def parsed(text: str) -> ast.Module:
    """A cell without magics; one that shows a syntax error defines nothing."""
    lines = [line for line in text.splitlines() if not re.match(r"\s*[%!]", line)]
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError:
        return ast.Module([], [])


def _tagged(cell: NotebookNode, prefix: str) -> set[str]:
    tags = cell.metadata.get("tags", [])
    return {tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)}


def _large(node: Definition) -> bool:
    return sum(1 for _ in ast.walk(node)) >= MIN_SIZE

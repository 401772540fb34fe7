"""An exercise's file without its answers: the code that stays, found by what it depends on.

What stays is the stub, the hints, the function that runs a learner's answer (``apply``), and the
imports, constants and helpers at the top level that these name, directly or through one another.
Everything else goes: the solution, the seeded mistakes, the oracle, the cases (they are recorded)
and what only these used.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from minift.course.exercise import Exercise
from minift.errors import InputError

KEPT_ARGUMENTS = ("hints", "apply", "in_library")
EXERCISES = "minift.course.exercises"


def stripped(exercise: Exercise, file: Path, hints: bool = True) -> str:
    """The source of an exercise's file in the students' edition.

    Args:
        exercise: the exercise that ``file`` defines.
        file: its file, written as :mod:`minift.course.exercise` says.
        hints: whether the hints stay.

    Raises:
        InputError: what has to stay needs an answer, or another exercise's file.
    """
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    stub, made = _stub(exercise, tree), _construction(exercise, tree)
    kept = {k.arg: k.value for k in made.keywords if k.arg in KEPT_ARGUMENTS}
    if not hints:
        del kept["hints"]
    needed = _closure(exercise, tree, [stub, *kept.values()])
    lines = text.splitlines()
    arguments = [f"    {name}={ast.get_source_segment(text, v)}," for name, v in kept.items()]
    if not hints:
        arguments.insert(0, "    hints=(),")
    parts = [
        f'"""{ast.get_docstring(tree, clean=False)}"""\n',
        *_imports(tree, needed),
        "from minift.course.edition.recorded import recorded\n",
        *(f"\n{_segment(lines, node)}\n" for node in _definitions(tree, needed)),
        "\nexercise = recorded(",
        f"    __file__,\n    {_quoted(exercise.name)},\n    {_quoted(exercise.title)},",
        *arguments,
        ")\n",
        f"\n{_segment(lines, stub)}",
    ]
    return "\n".join(parts) + "\n"


def starter(exercise: Exercise, file: Path) -> tuple[list[str], str]:
    """What a learner's own file needs for an exercise: the imports, and the stub's source.

    Raises:
        InputError: as ``stripped``.
    """
    text = file.read_text(encoding="utf-8")
    tree = ast.parse(text)
    stub = _stub(exercise, tree)
    stub_only = exercise.stub_source().strip()
    needed = _closure(exercise, tree, [stub])
    imports = list(_imports(tree, needed))  # before the definitions: it cuts the tree's imports
    lines = text.splitlines()
    helpers = [_segment(lines, node) for node in _definitions(tree, needed)]
    return imports, "\n\n\n".join([*helpers, stub_only])


def _stub(exercise: Exercise, tree: ast.Module) -> ast.stmt:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and "stub" in _roles(node):
            return node
    raise InputError(f"exercise {exercise.name}: its file has no function under @exercise.stub")


def _construction(exercise: Exercise, tree: ast.Module) -> ast.Call:
    for node in tree.body:
        if isinstance(node, ast.Assign) and "exercise" in _bound(node):
            made = node.value
            if isinstance(made, ast.Call) and {"properties", "hints"} <= {
                k.arg for k in made.keywords
            }:
                return made
    raise InputError(
        f"exercise {exercise.name}: its file has no `exercise = Exercise(…, properties=…, hints=…)`"
    )


def _roles(node: ast.stmt) -> set[str]:
    """What a function is to the exercise: "stub", "solution", "reference", "mistake"."""
    found = set()
    for decorator in getattr(node, "decorator_list", []):
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "exercise":
            found.add(target.attr)
    return found


def _closure(exercise: Exercise, tree: ast.Module, roots: list[ast.AST]) -> set[str]:
    """The names at the top level that ``roots`` need, directly or through one another."""
    homes = {name: node for node in tree.body for name in _bound(node)}
    needed: set[str] = set()
    open_nodes = list(roots)
    while open_nodes:
        for name in _used(open_nodes.pop()) & homes.keys() - needed - {"exercise"}:
            _refuse(exercise, name, homes[name])
            needed.add(name)
            open_nodes.append(homes[name])
    return needed


def _refuse(exercise: Exercise, name: str, node: ast.stmt) -> None:
    if secret := _roles(node) - {"stub"}:
        raise InputError(
            f"exercise {exercise.name}: its stub or `apply` uses {name}, its {secret.pop()}; "
            "right would be a helper of its own"
        )
    if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(EXERCISES):
        raise InputError(
            f"exercise {exercise.name}: its stub or `apply` uses {name} from another exercise; "
            "right would be a helper in the library"
        )


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top level defines."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {_name(alias) for alias in node.names}
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    return {n.id for n in names if isinstance(n.ctx, ast.Store)}


def _used(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _imports(tree: ast.Module, needed: set[str]) -> Iterator[str]:
    """The imports, each with the names alone that are needed."""
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            future = isinstance(node, ast.ImportFrom) and node.module == "__future__"
            node.names = [alias for alias in node.names if future or _name(alias) in needed]
            if node.names:
                yield ast.unparse(node)


def _definitions(tree: ast.Module, needed: set[str]) -> Iterator[ast.stmt]:
    for node in tree.body:
        if not isinstance(node, (ast.Import, ast.ImportFrom)) and _bound(node) & needed:
            yield node


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _segment(lines: list[str], node: ast.stmt) -> str:
    """The lines of a statement, with its decorators."""
    decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
    return "\n".join(lines[min([node.lineno, *decorators]) - 1 : node.end_lineno])

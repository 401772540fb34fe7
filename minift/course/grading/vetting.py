"""Which kernels are nothing but Triton.

What a kernel read, wrote and collided on is counted while it is interpreted, in the process in
which it runs: code that could reach Python's objects there could also reach the counters. So a
submitted kernel must consist of functions under ``@triton.jit`` and constants, and name nothing
but its own variables, ``triton`` and ``triton.language``, and a few built-in functions.
"""

import ast
import builtins
from collections.abc import Iterator

import triton.language as tl

from minift.course.grading.sources import is_kernel

BUILTINS = {
    "range", "min", "max", "abs", "float", "int", "bool", "len", "isinstance", "print", "sum",
    "str", "tuple", "NotImplementedError",
}  # fmt: skip
IMPORTS = {  # each with the name it gives
    "import triton": "triton",
    "import triton.language as tl": "tl",
    "from triton import language as tl": "tl",
    "from triton import jit": "jit",
}
TRITON = {"jit", "cdiv", "next_power_of_2", "language"}
LANGUAGE = {
    name
    for name, value in vars(tl).items()
    if not name.startswith("_") and type(value).__name__ != "module"
}
# what may be looked up on a value: a tensor's own methods and facts, and a dtype's
METHODS = {name for kind in (tl.tensor, tl.dtype) for name in dir(kind) if name[0] != "_"}
METHODS |= {"dtype", "shape", "element_ty", "value", "primitive_bitwidth"}


def vetted(source: str) -> tuple[str, str | None]:
    """The kernel's source without imports it cannot use, and what of it is more than Triton.

    The second is a clause, or None when there is nothing to object to.
    """
    kept: list[str] = []
    known = set(BUILTINS)
    for statement in ast.parse(source).body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            lines = [line for line in _one_by_one(statement) if line in IMPORTS]
            known |= {IMPORTS[line] for line in lines}
            kept += lines
        elif problem := _objection(statement, known):
            return source, problem
        else:
            kept.append(ast.unparse(statement))
    return "\n\n".join(kept) + "\n", None


def _one_by_one(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield ast.unparse(ast.ImportFrom(statement.module, [alias], statement.level))
        else:
            yield ast.unparse(ast.Import([alias]))


def _objection(statement: ast.stmt, known: set[str]) -> str | None:
    """Of one top-level statement; what it defines is added to ``known``."""
    if isinstance(statement, ast.FunctionDef):
        known.add(statement.name)
        if not is_kernel(statement):
            return f"`{statement.name}`, a function without @triton.jit"
        return next(_objections(statement, known), None)
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        if len(names) == len(targets) and not known & set(names):
            found = next(_objections(statement.value, known), None)
            known.update(names)
            return found
    return f"`{ast.unparse(statement).splitlines()[0]}`, neither a kernel nor a constant"


def _objections(tree: ast.AST, known: set[str]) -> Iterator[str]:
    local = known | {n.id for n in ast.walk(tree) if _is_store(n)}
    local |= {a.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for a in _all(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in local:
            kind = "a built-in function" if hasattr(builtins, node.id) else "a name from outside"
            yield f"`{node.id}`, {kind}"
        elif isinstance(node, ast.Attribute) and (problem := _attribute(node)):
            yield problem
        elif isinstance(node, _REFUSED):
            yield f"a {type(node).__name__.lower()} statement or expression"


_REFUSED = (
    ast.Import, ast.ImportFrom, ast.ClassDef, ast.AsyncFunctionDef, ast.Lambda, ast.Global,
    ast.Nonlocal, ast.Try, ast.With, ast.Await, ast.Yield, ast.YieldFrom, ast.Delete, ast.Match,
    ast.TryStar,
)  # fmt: skip


def _attribute(node: ast.Attribute) -> str | None:
    """``tl.load`` and ``x.to`` may be; modules inside of tl, private names and new names not."""
    owner, written = ast.unparse(node.value), ast.unparse(node)
    if isinstance(node.ctx, ast.Store) or node.attr.startswith("_"):
        return f"`{written}`"
    if owner == "triton":
        return None if node.attr in TRITON else f"`{written}`"
    if owner in ("tl", "triton.language"):
        return None if node.attr in LANGUAGE | {"math"} else f"`{written}`"
    if owner in ("tl.math", "triton.language.math"):
        return None if callable(getattr(tl.math, node.attr, None)) else f"`{written}`"
    return None if node.attr in METHODS else f"`{written}`"


def _is_store(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def _all(arguments: ast.arguments) -> list[ast.arg]:
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]

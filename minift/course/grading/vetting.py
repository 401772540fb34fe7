"""Which kernels are nothing but Triton.

What a kernel read, wrote and collided on is counted while it is interpreted, in the process in
which it runs: code that could reach Python's objects there could also reach the counters. So a
submitted kernel must consist of functions under ``@triton.jit`` and constants, and name nothing
but its own variables, ``triton`` and ``triton.language``, and a few built-in functions.
"""

import ast
import builtins
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

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
    "import triton.language": "triton",
    "import math": "math",  # for constants, such as tl.constexpr(math.log2(math.e))
}
TRITON = {"jit", "cdiv", "next_power_of_2", "language"}


def _functions(module: ModuleType) -> set[str]:
    """The public names of a module that are no modules themselves."""
    found = {name for name, value in vars(module).items() if not isinstance(value, ModuleType)}
    return {name for name in found if not name.startswith("_")}


# without what takes an object of the interpreter, or text for the assembler
LANGUAGE = _functions(tl) - {"tensor", "tensor_descriptor", "inline_asm_elementwise"}
MATH = _functions(math)
# what may be looked up on a value: a tensor's own methods and facts, and a dtype's
METHODS = {name for kind in (tl.tensor, tl.dtype) for name in dir(kind) if name[0] != "_"}
METHODS |= {"dtype", "shape", "type", "element_ty", "value", "primitive_bitwidth"}
METHODS -= {"to_ir"}


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


def builtins_of_kernels() -> dict[str, Any]:
    """What a kernel's module has for built-ins: a name that slipped through finds nothing."""

    def import_(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] not in ("triton", "math"):
            raise ImportError(f"a kernel cannot import {name}")
        return __import__(name, *rest)

    return {name: getattr(builtins, name) for name in BUILTINS} | {"__import__": import_}


def _one_by_one(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            yield ast.unparse(ast.ImportFrom(statement.module, [alias], statement.level))
        else:
            yield ast.unparse(ast.Import([alias]))


def _objection(statement: ast.stmt, known: set[str]) -> str | None:
    """Of one top-level statement; what it defines is added to ``known``."""
    if isinstance(statement, ast.FunctionDef):
        if not is_kernel(statement):
            return f"`{statement.name}`, a function without @triton.jit"
        known.add(statement.name)
        return next(_in_kernel(statement, known), None)
    if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [t.id for t in targets if isinstance(t, ast.Name)]
        free = not any(name in known or name.startswith("__") for name in names)
        if len(names) == len(targets) and free:
            written = [statement.value, *filter(None, [getattr(statement, "annotation", None)])]
            found = next((o for tree in written for o in _objections(tree, known)), None)
            known.update(names)
            return found
    return f"`{ast.unparse(statement).splitlines()[0]}`, neither a kernel nor a constant"


def _in_kernel(kernel: ast.FunctionDef, known: set[str]) -> Iterator[str]:
    """What stands around the body is evaluated outside, where the kernel's variables are not."""
    for tree in [kernel.args, *kernel.decorator_list, *filter(None, [kernel.returns])]:
        yield from _objections(tree, known)
    names = {n.id for n in ast.walk(kernel) if isinstance(n, ast.Name) and _is_store(n)}
    names |= {n.arg for n in ast.walk(kernel) if isinstance(n, ast.arg)}
    for name in sorted((names | {kernel.name}) & set(IMPORTS.values())):
        yield f"`{name}`, given another meaning"
    for statement in kernel.body:
        yield from _objections(statement, known | names)


def _objections(tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.arg)):
            yield from _name(node, known)
        elif isinstance(node, ast.Attribute) and (problem := _attribute(node)):
            yield problem
        elif isinstance(node, _REFUSED):
            yield f"a {type(node).__name__.lower()} statement or expression"


def _name(node: ast.Name | ast.arg, known: set[str]) -> Iterator[str]:
    name = node.id if isinstance(node, ast.Name) else node.arg
    if name.startswith("__"):
        yield f"`{name}`, a name of Python's own"
    elif isinstance(node, ast.Name) and name not in known:
        kind = "a built-in function" if hasattr(builtins, name) else "a name from outside"
        yield f"`{name}`, {kind}"


# Whatever opens a scope of its own would make names local that are not so in the kernel.
_REFUSED = (
    ast.Import, ast.ImportFrom, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Global, ast.Nonlocal, ast.Try,
    ast.TryStar, ast.With, ast.Await, ast.Yield, ast.YieldFrom, ast.Delete, ast.Match,
)  # fmt: skip


def _attribute(node: ast.Attribute) -> str | None:
    """``tl.load`` and ``x.to`` may be; modules inside of tl, private names and new names not."""
    owner, written = ast.unparse(node.value), ast.unparse(node)
    allowed = {
        "triton": TRITON,
        "math": MATH,
        "tl": LANGUAGE | {"math"},
        "triton.language": LANGUAGE | {"math"},
        "tl.math": _functions(tl.math),
        "triton.language.math": _functions(tl.math),
    }.get(owner, METHODS)
    stored = isinstance(node.ctx, ast.Store)
    return f"`{written}`" if stored or node.attr not in allowed else None


def _is_store(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)

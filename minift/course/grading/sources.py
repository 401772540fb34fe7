"""What a submission is: its functions by exercise, each with the code that it needs and no more.

Nothing is run here. Of a notebook or a file, the statements are taken that an answer depends on by
name: its definition, the imports, constants and helpers that it mentions, and so on from those.
Plots, training runs and calls of ``check`` are left out, so a whole lesson is graded in the time
that its answers take, and a cell that fails on another machine does no harm.
"""

import ast
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path

from minift.errors import InputError
from minift.files import decode_text

MAX_BYTES = 20 << 20  # of a submitted file: notebooks hold figures
SUFFIXES = (".py", ".ipynb")


@dataclass(frozen=True)
class Answer:
    """One function of a submission.

    Attributes:
        function: its name.
        source: the statements that it needs, its own definition last of its name.
        definition: its own definition.
        jit: whether ``@triton.jit`` stands above it.
    """

    function: str
    source: str
    definition: ast.FunctionDef
    jit: bool

    @property
    def signature(self) -> Signature:
        """The parameters, without default values and annotations: those would have to be run."""
        a = self.definition.args
        with_default = len(a.posonlyargs) + len(a.args) - len(a.defaults)
        found = [
            Parameter(arg.arg, kind, default=None if i >= with_default else Parameter.empty)
            for i, (arg, kind) in enumerate(
                [(x, Parameter.POSITIONAL_ONLY) for x in a.posonlyargs]
                + [(x, Parameter.POSITIONAL_OR_KEYWORD) for x in a.args]
            )
        ]
        if a.vararg:
            found.append(Parameter(a.vararg.arg, Parameter.VAR_POSITIONAL))
        for arg, default in zip(a.kwonlyargs, a.kw_defaults, strict=True):
            value = Parameter.empty if default is None else None
            found.append(Parameter(arg.arg, Parameter.KEYWORD_ONLY, default=value))
        if a.kwarg:
            found.append(Parameter(a.kwarg.arg, Parameter.VAR_KEYWORD))
        return Signature(found)


def answers(path: Path, functions: set[str]) -> dict[str, Answer]:
    """The functions of a file that have one of the wanted names; of several, the last.

    Raises:
        InputError: the file is no regular file, too large, no text, no notebook or no Python.
    """
    statements = [s for text in pieces(path) for s in _parsed(path, text)]
    found = {s.name: s for s in statements if isinstance(s, ast.FunctionDef)}
    return {
        name: Answer(name, _needed(name, statements), found[name], is_kernel(found[name]))
        for name in sorted(functions & found.keys())
    }


def is_kernel(definition: ast.FunctionDef) -> bool:
    """Whether a decorator says ``triton.jit`` or ``jit``, called or not."""
    calls = (d.func if isinstance(d, ast.Call) else d for d in definition.decorator_list)
    return any(ast.unparse(d) in ("triton.jit", "jit") for d in calls)


# ---- files


def pieces(path: Path) -> list[str]:
    """The code of a file: one piece for a ``.py`` file, one for each code cell of a notebook.

    Raises:
        InputError: as ``answers``, except for Python that cannot be read.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: right would be a Python file (.py) or a notebook (.ipynb)")
    text = _read(path)
    if not text.strip():
        raise InputError(f"{path}: the file is empty")
    if path.suffix == ".py":
        return [text]
    try:
        cells = json.loads(text)["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return ["".join(source) for source in code]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{path}: not a notebook; right would be Jupyter's JSON") from None


def _read(path: Path) -> str:
    """The text of a regular file; a link could lead to somebody else's work."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"{path}: a symbolic link; right would be the file itself") from None
        raise InputError(f"{path}: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise InputError(f"{path}: right would be a regular file")
        if found.st_size > MAX_BYTES:
            raise InputError(f"{path}: {found.st_size / 2**20:.0f} MB; at most 20 are read")
        data = file.read(MAX_BYTES)
    return decode_text(data, str(path))


def _parsed(path: Path, text: str) -> list[ast.stmt]:
    """The statements of a piece; a notebook's magics become calls, a broken cell is left out."""
    if path.suffix == ".ipynb":
        from IPython.core.inputtransformer2 import TransformerManager

        try:
            return ast.parse(TransformerManager().transform_cell(text)).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return []
    try:
        return ast.parse(text).body
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}"
        raise InputError(f"{path}: not Python that can be read ({where})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: not Python that can be read ({error})") from None


# ---- what a function needs


def _needed(function: str, statements: list[ast.stmt]) -> str:
    """The statements, in their order, that bind a name on which the function depends.

    Of the answer itself only the last definition counts.
    """
    binds = [set(_bound(s)) for s in statements]
    last = max(i for i, s in enumerate(statements) if _defines(s, function))
    chosen, wanted = {last}, set(_used(statements[last]))
    while True:
        more = {
            i
            for i, names in enumerate(binds)
            if names & wanted and i not in chosen and not _defines(statements[i], function)
        }
        if not more:
            break
        chosen |= more
        wanted = wanted.union(*(_used(statements[i]) for i in more))
    return "\n\n".join(ast.unparse(statements[i]) for i in sorted(chosen)) + "\n"


def _defines(statement: ast.stmt, function: str) -> bool:
    return isinstance(statement, ast.FunctionDef) and statement.name == function


def _used(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives a value, or an attribute of which it does."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            yield from _used(ast.Expr(node.value))

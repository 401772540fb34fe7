"""What a submission is: its functions by exercise, each with the code that it needs and no more.

Nothing is run here. Of a notebook or a file, the statements are taken that an answer depends on by
name: its definition, the imports, constants and helpers that it mentions, and so on from those.
Plots, training runs and calls of ``check`` are left out, so a whole lesson is graded in the time
that its answers take, and a cell that fails on another machine does no harm.
"""

import ast
import json
import os
import re
import stat
import symtable
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from tokenize import TokenError

from minift.errors import InputError
from minift.files import decode_text

MAX_BYTES = 20 << 20  # of a submitted file: notebooks hold figures
MAX_CODE = 500_000  # characters of code in it: as a syntax tree it takes 1,000 times as much
SUFFIXES = (".py", ".ipynb")


@dataclass(frozen=True)
class Answer:
    """One function of a submission.

    Attributes:
        function: its name.
        source: the statements that it needs, its own definition last of its name.
        definition: its own definition; another statement where it is bound by no ``def``.
        jit: whether ``@triton.jit`` stands above it.
    """

    function: str
    source: str
    definition: ast.stmt
    jit: bool

    @property
    def source_text(self) -> str:
        """Its definition alone, for what reads before anything runs."""
        return ast.unparse(self.definition) + "\n"

    @property
    def signature(self) -> Signature | None:
        """The parameters, without default values and annotations: those would have to be run."""
        if not isinstance(self.definition, ast.FunctionDef):
            return None
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statements = [s for text in pieces(path) for s in _parsed(path, text)]
    places = {name: _place(name, statements) for name in sorted(functions)}
    try:
        return {n: _answer(n, statements, i) for n, i in places.items() if i is not None}
    except RecursionError:
        raise InputError(f"{path}: an expression in it is nested too deeply") from None


def broken_cells(path: Path) -> list[str]:
    """The code cells of a notebook that are no Python, each in a line; the others are graded."""
    if path.suffix != ".ipynb":
        return []
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, text in enumerate(pieces(path), 1):
            try:
                _transformed(text)
            except SyntaxError as error:
                line = f", line {error.lineno}" if error.lineno else ""
                found.append(f"code cell {number}{line}: not Python ({error.msg})")
            except _UNREADABLE:
                found.append(f"code cell {number}: not Python that can be read")
    return found


def _place(function: str, statements: list[ast.stmt]) -> int | None:
    """Which statement is the answer: the last ``def``, else the last that gives it a value."""
    defined = [i for i, s in enumerate(statements) if _defines(s, function)]
    bound = [
        i
        for i, s in enumerate(statements)
        if not defined and not isinstance(s, _IMPORTS) and function in _stored(s)
    ]
    return max(defined or bound, default=None)


def _answer(function: str, statements: list[ast.stmt], place: int) -> Answer:
    definition = statements[place]
    inside = [s for s in ast.walk(definition) if isinstance(s, ast.FunctionDef)]
    own = next((s for s in reversed(inside) if s.name == function), definition)
    jit = isinstance(own, ast.FunctionDef) and is_kernel(own)
    return Answer(function, _needed(function, statements, place), own, jit)


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
    found = [text] if path.suffix == ".py" else _cells(path, text)
    if (size := sum(map(len, found))) > MAX_CODE:
        raise InputError(f"{path}: {size:,} characters of code; at most {MAX_CODE:,} are read")
    return found


def _cells(path: Path, text: str) -> list[str]:
    try:
        cells = json.loads(text)["cells"]
        code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return [_WRAPPER.sub("", "".join(source)) for source in code]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise InputError(f"{path}: not a notebook; right would be Jupyter's JSON") from None


_WRAPPER = re.compile(r"\A\s*%%(time|capture|prun)\b.*\n?")  # what follows runs as it stands


def _read(path: Path) -> str:
    """The text of a regular file; a link could lead to somebody else's work."""
    flags = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        descriptor = os.open(path, os.O_RDONLY | flags)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
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
        try:
            return _transformed(text)
        except (SyntaxError, *_UNREADABLE):
            return []
    try:
        return ast.parse(text).body
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
        raise InputError(f"{path}: not Python that can be read ({where})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        why = str(error) or "nested too deeply"
        raise InputError(f"{path}: not Python that can be read ({why})") from None


_UNREADABLE = (ValueError, LookupError, RuntimeError, TokenError, MemoryError)


def _transformed(text: str) -> list[ast.stmt]:
    """The statements of a cell, its magics made into calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(text)).body


# ---- what a function needs


def _needed(function: str, statements: list[ast.stmt], place: int) -> str:
    """The statements, in their order, that bind a name on which the function depends.

    Of the answer itself only the statement at ``place`` counts.
    """
    binders: dict[str, list[int]] = {}
    for i, statement in enumerate(statements):
        for name in set(_bound(statement)) if not _defines(statement, function) else ():
            binders.setdefault(name, []).append(i)
    chosen = {place, *binders.pop("*", [])}
    new = list(chosen)
    while new:
        wanted = set(_used(statements[new.pop()])) & binders.keys()
        more = {i for name in wanted for i in binders.pop(name)} - chosen
        chosen |= more
        new += more
    return "\n\n".join(ast.unparse(statements[i]) for i in sorted(chosen)) + "\n"


def _defines(statement: ast.stmt, function: str) -> bool:
    return isinstance(statement, ast.FunctionDef) and statement.name == function


def _used(statement: ast.stmt) -> Iterator[str]:
    """Names of the module that a statement mentions; a function's own variables are none."""
    if any(isinstance(node, (*_DEFINITIONS, ast.Lambda)) for node in ast.walk(statement)):
        try:
            table = symtable.symtable(ast.unparse(statement), "answer", "exec")
        except (SyntaxError, ValueError):  # it will not run either
            return
        yield from _from_outside(table)
    else:
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _from_outside(table: symtable.SymbolTable) -> Iterator[str]:
    """Of a scope and those inside it: the names that it does not have itself."""
    inside = table.get_type() == "function"
    for symbol in table.get_symbols():
        if symbol.is_global() or (not inside and symbol.is_referenced()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from _from_outside(child)


_IMPORTS = (ast.Import, ast.ImportFrom)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FILLING = {"add", "append", "extend", "insert", "setdefault", "update"}  # methods of containers


def _stored(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement gives a value."""
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
        return
    for node in ast.walk(statement):
        if isinstance(node, _DEFINITIONS):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _bound(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement imports, gives a value, or changes something of.

    ``*`` stands for every name: ``from torch import *``, and what is said to the compiler.
    """
    yield from _stored(statement)
    if isinstance(statement, _DEFINITIONS):
        return
    for node in ast.walk(statement):
        if isinstance(node, _IMPORTS):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                yield "*"
        elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            yield from _used(ast.Expr(node.value))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            method = node.value.func
            if isinstance(method, ast.Attribute) and method.attr in _FILLING:
                yield from _used(ast.Expr(method.value))

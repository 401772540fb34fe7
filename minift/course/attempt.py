"""Looking at a learner's function before running it: is it still the stub, and can it be called?"""

import ast
import contextlib
import inspect
import textwrap
from typing import Any

from minift.course.exercise import Exercise, plain


def is_stub(exercise: Exercise, fn: Any) -> bool:
    """Whether ``fn`` has nothing of the learner's in it yet.

    True for a body of ``...``, ``pass``, ``return None`` or ``raise NotImplementedError``, and for
    the stub's own body. A function whose source cannot be read counts as attempted.
    """
    body = _body(fn)
    if body is None:
        return False
    same = [ast.dump(s) for s in body] == [ast.dump(s) for s in _body(exercise.start) or []]
    return same or all(_empty(statement) for statement in body)


def signature_problem(exercise: Exercise, fn: Any) -> tuple[str, str] | None:
    """The learner's parameters and the right ones, when ``fn`` cannot be called as agreed."""
    right = inspect.signature(plain(exercise.start))
    if not callable(fn) and plain(fn) is fn:
        return f"{type(fn).__name__}, which is not a function", f"a function {right}"
    try:
        mine = inspect.signature(plain(fn))
    except (TypeError, ValueError):
        return None
    try:
        mine.bind(*right.parameters)
    except TypeError:
        return _parameters(mine), _parameters(right)
    return None


def order_problem(exercise: Exercise, fn: Any) -> tuple[str, str] | None:
    """The learner's parameters and the right ones, when they are the same in another order.

    Only the reason for a wrong result: of a kernel's parameters some are given by name, and what
    a symmetric function is called with makes no difference.
    """
    right = inspect.signature(plain(exercise.start))
    try:
        mine = inspect.signature(plain(fn))
    except (TypeError, ValueError):
        return None
    same = sorted(mine.parameters) == sorted(right.parameters)
    if same and list(mine.parameters) != list(right.parameters):
        return _parameters(mine), _parameters(right)
    return None


def _body(fn: Any) -> list[ast.stmt] | None:
    """The statements of a function below its docstring, or None when there is no source."""
    with contextlib.suppress(OSError, TypeError, SyntaxError):
        text = getattr(fn, "source_text", None) or inspect.getsource(plain(fn))
        tree = ast.parse(textwrap.dedent(text))
        if tree.body and isinstance(tree.body[0], ast.FunctionDef):
            body = tree.body[0].body
            return body[1:] if ast.get_docstring(tree.body[0]) is not None else body
    return None


def _empty(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.Return):
        value = statement.value
        return value is None or (isinstance(value, ast.Constant) and value.value in (None, ...))
    return isinstance(statement, ast.Raise) and "NotImplementedError" in ast.dump(statement)


def _parameters(signature: inspect.Signature) -> str:
    """The parameters with their marks (``*``, ``**``, ``/``), without annotations and defaults."""
    empty = inspect.Parameter.empty
    bare = [p.replace(annotation=empty, default=empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=empty))

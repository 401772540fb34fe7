"""Whose function is it? The library has some of the functions that exercises ask for.

The course teaches the library, so it is there to read and to call. An exercise names in
``in_library`` those functions that would pass its check as they are; ``check`` takes none of them
for the learner's work, neither itself nor inside a wrapper. ``course grade`` needs no such list:
the answers that it runs cannot import the library at all.
"""

import functools
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from minift.course.exercise import Exercise, plain


def borrowed(exercise: Exercise, fn: Any) -> str | None:
    """The library function that ``fn`` is or calls in place of an answer of its own, by name."""
    targets = {name: _target(name) for name in exercise.in_library}
    function = _function(fn)
    if not targets or function is None:
        return None
    for code, globals_ in _reachable(function):
        for name, target in targets.items():
            if target is not None and code is target.__code__:
                return name
            if _mentions(code, globals_, name, target):
                return name
    return None


def _function(fn: Any) -> FunctionType | None:
    """The Python function behind a kernel, a ``partial``, or an object that can be called."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    fn = plain(fn)
    if not isinstance(fn, FunctionType):
        fn = plain(vars(type(fn)).get("__call__"))
    return fn if isinstance(fn, FunctionType) else None


def _target(name: str) -> Any:
    """The function itself, if its module was imported: what was not, was not called either."""
    module, _, function = name.rpartition(".")
    return plain(getattr(sys.modules.get(module), function, None))


def _reachable(fn: FunctionType) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    """The code of ``fn``, of functions inside it and of those that it calls by a global name."""
    open_ones: list[tuple[CodeType, dict[str, Any]]] = [(fn.__code__, fn.__globals__)]
    seen: set[CodeType] = set()
    for cell in fn.__closure__ or ():
        inner = plain(cell.cell_contents) if _filled(cell) else None
        if isinstance(inner, FunctionType):
            open_ones.append((inner.__code__, inner.__globals__))
    while open_ones:
        code, globals_ = open_ones.pop()
        if code in seen:
            continue
        seen.add(code)
        yield code, globals_
        open_ones += [(c, globals_) for c in code.co_consts if isinstance(c, CodeType)]
        for value in map(globals_.get, code.co_names):
            called = plain(value)
            if isinstance(called, FunctionType) and called.__globals__ is globals_:
                open_ones.append((called.__code__, globals_))


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _mentions(code: CodeType, globals_: dict[str, Any], name: str, target: Any) -> bool:
    """Whether the code names ``target``: as a global, by its module, or in an import of its own."""
    module, _, function = name.rpartition(".")
    if target is not None:
        values = [globals_[n] for n in code.co_names if n in globals_]
        if any(plain(value) is target for value in values):
            return True
        modules = [value for value in values if isinstance(value, ModuleType)]
        if function in code.co_names and any(
            plain(getattr(value, function, None)) is target for value in modules
        ):
            return True
    return function in code.co_names and module in code.co_names

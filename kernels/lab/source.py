"""From the source of a ``@triton.jit`` function to a Python function that can be interpreted.

Works for whatever Python can find the source of: files, notebook cells, and strings that were
entered in :mod:`linecache`.
"""

import ast
import dis
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from triton.runtime import interpreter as stock

_CODE: WeakKeyDictionary[Any, CodeType] = WeakKeyDictionary()
_READS: WeakKeyDictionary[Any, frozenset[str]] = WeakKeyDictionary()


def rewrite(function: Any) -> Callable[..., Any]:
    """The kernel as a Python function whose assignments make tensors, in a namespace of its own.

    The namespace is a copy: Triton's interpreter writes ``np``, ``ast`` and more into the
    module of the kernel, where they hide a missing import until the kernel is compiled.
    """
    raw = function.fn
    outside = inspect.getclosurevars(raw).nonlocals
    namespace = {**raw.__globals__, **outside}
    _refuse_plain_values(raw, namespace)
    for name in ("interpreter_semantic", "_InterpreterComparison"):
        if hasattr(stock, name):
            namespace[name] = getattr(stock, name)
    exec(_code(function), namespace)
    return namespace[raw.__name__]


def _code(function: Any) -> CodeType:
    raw = function.fn
    if raw not in _CODE:
        tree = stock.FunctionRewriter.ast_transformer.visit(function.parse())
        ast.fix_missing_locations(tree)
        line = next(
            i for i, text in enumerate(function.raw_src) if text.lstrip().startswith("def ")
        )
        ast.increment_lineno(tree, function.starting_line_number + line - 1)
        _CODE[raw] = compile(tree, raw.__code__.co_filename, "exec")
    return _CODE[raw]


def _refuse_plain_values(raw: Any, namespace: dict[str, Any]) -> None:
    """A compiled kernel cannot see Python variables around it, only ``tl.constexpr`` ones."""
    for name in _names_read(raw):
        value = namespace.get(name)
        if isinstance(value, bool | int | float | str | list | dict | torch.Tensor | np.ndarray):
            raise NameError(
                f"kernel {raw.__name__} reads {name}, a {type(value).__name__} defined outside "
                f"it, which a compiler refuses: pass it as an argument or make it {name} = "
                "tl.constexpr(...)"
            )


def _names_read(raw: Any) -> frozenset[str]:
    """What the function takes from around it; looked up once, because each launch asks."""
    if raw not in _READS:
        reads = ("LOAD_GLOBAL", "LOAD_DEREF")
        found = (str(i.argval) for i in dis.get_instructions(raw) if i.opname in reads)
        _READS[raw] = frozenset(found)
    return _READS[raw]

"""Run a ``@triton.jit`` kernel on CPU tensors, in this process, with results to be trusted.

    interpret(add)[(4,)](x, y, out, n, BLOCK=32)

takes the same arguments as ``add[(4,)](...)`` on a GPU. No environment variable is involved: the
same kernel object can be interpreted, compiled for a GPU that is not there
(:func:`kernels.lab.compile_for`) and launched on one that is. Kernels from files, notebook cells
and closures work alike, with the ``@triton.jit`` helpers they call, ``tl.sum`` and the rest of
the standard library included.

Programs run one after another, x fastest. Arithmetic is that of :mod:`kernels.lab.builder`, and
:mod:`kernels.lab.memory` watches every address.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter as stock
from triton.runtime.autotuner import Autotuner, Heuristics
from triton.runtime.jit import JITFunction

from kernels.lab import reductions
from kernels.lab.builder import Builder, Semantic
from kernels.lab.memory import Memory, OutOfBoundsError, RaceError, Region, region_of
from kernels.lab.source import rewrite

LAUNCH_OPTIONS = frozenset(
    [
        "num_warps",
        "num_stages",
        "num_ctas",
        "maxnreg",
        "enable_fp_fusion",
        "launch_cooperative_grid",
        "debug",
        "waves_per_eu",
        "matrix_instr_nonkdim",
        "kpack",
        "schedule_hint",
    ]
)
_MAX_GRID = (2**31 - 1, 65535, 65535)
LANGUAGE = threading.RLock()  # interpreting replaces functions of triton.language for a moment


class interpret:
    """``interpret(kernel)[grid](*args, **constexprs)``: launch on CPU tensors.

    Args:
        kernel: a ``@triton.jit`` function, with ``@triton.autotune`` (the first configuration is
            used) and ``@triton.heuristics`` if you like.
        memory: tensors that the kernel reaches only through addresses kept in other tensors, by
            name: ``{"param": [p0, p1]}``. Everything else it may touch is found in its arguments.

    Launch options such as ``num_warps`` are accepted and have no effect.

    Raises:
        TypeError: not a kernel; a tensor that is not on the CPU; arguments that do not fit.
        OutOfBoundsError, RaceError: see :func:`kernels.lab.check`.
        NameError: the kernel reads a plain number from outside, which a compiler refuses.
    """

    def __init__(self, kernel: Any, *, memory: dict[str, list[torch.Tensor]] | None = None) -> None:
        self.function, _ = resolve(kernel, (), {}, call=False)
        self.kernel = kernel
        self.memory = memory or {}

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return partial(self._launch, grid)

    def __repr__(self) -> str:
        return f"interpret({self.function.__name__})"

    def _launch(self, grid: Any, *args: Any, **kwargs: Any) -> None:
        function, kwargs = resolve(self.kernel, args, kwargs)
        bound = bind(function, args, kwargs)
        sizes = _grid_sizes(grid(bound) if callable(grid) else grid)
        regions = [r for name, value in bound.items() for r in _regions(name, value)]
        regions += [region_of(name, t) for name, ts in self.memory.items() for t in ts]
        builder = Builder(Memory(function.__name__, regions, int(np.prod(sizes))), sizes)
        homes = {r.name: r for r in regions}
        with LANGUAGE, _language(builder) as interpreted, np.errstate(all="ignore"):
            constexprs = {function.arg_names[i] for i in function.constexprs}
            values = {
                name: value if name in constexprs else _kernel_value(name, value, homes)
                for name, value in bound.items()
            }
            run = interpreted(function)
            for z, y, x in product(*(range(n) for n in reversed(sizes))):
                builder.set_program((x, y, z))
                try:
                    run(**values)
                except (OutOfBoundsError, RaceError):
                    raise
                except Exception as error:
                    error.add_note(f"in program {(x, y, z)} of interpreted kernel {run.__name__}")
                    raise


def resolve(
    kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, call: bool = True
) -> tuple[JITFunction[Any], dict[str, Any]]:
    """The plain kernel under its decorators, and the keyword arguments that they add.

    ``@triton.autotune`` contributes its first configuration, ``@triton.heuristics`` what it
    computes from the arguments. With ``call=False`` the decorators are only peeled off.
    """
    while isinstance(kernel, Autotuner | Heuristics):
        if call:
            named = {**dict(zip(kernel.arg_names, args, strict=False)), **kwargs}
            kwargs = {**kwargs, **_decoration(kernel, named)}
        kernel = kernel.fn
    if isinstance(kernel, stock.InterpretedFunction):
        raise TypeError(
            "TRITON_INTERPRET was set when this kernel was defined; unset it and restart Python: "
            "interpret() needs no environment variable"
        )
    if not isinstance(kernel, JITFunction):
        raise TypeError(f"expected a @triton.jit function, got {type(kernel).__name__}")
    return kernel, kwargs


def _decoration(wrapper: Any, named: dict[str, Any]) -> dict[str, Any]:
    if isinstance(wrapper, Heuristics):
        added: dict[str, Any] = {}
        for name, rule in wrapper.values.items():
            added[name] = rule({**named, **added})
        return added
    config = wrapper.configs[0]
    if config.pre_hook:
        config.pre_hook({**named, **config.all_kwargs()})
    return config.all_kwargs()


def bind(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The value of each parameter of the kernel; launch options are dropped."""
    signature = inspect.signature(function.fn)
    extra = LAUNCH_OPTIONS - signature.parameters.keys()
    try:
        bound = signature.bind(*args, **{k: v for k, v in kwargs.items() if k not in extra})
    except TypeError as error:
        raise TypeError(f"kernel {function.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    return {
        name: getattr(v, "value", v) if _is_constexpr(v) else v
        for name, v in bound.arguments.items()
    }


def _is_constexpr(value: Any) -> bool:
    return isinstance(value, tl.constexpr)


def _grid_sizes(grid: Any) -> tuple[int, int, int]:
    if hasattr(grid, "__index__"):  # an integer, NumPy's too
        grid = (grid,)
    if not isinstance(grid, (tuple, list)) or not all(hasattr(n, "__index__") for n in grid):
        raise TypeError(
            f"grid: expected one to three integers, or a function that returns them, got {grid!r}"
        )
    sizes = tuple(int(n) for n in grid)
    if not 1 <= len(sizes) <= 3 or any(n < 0 for n in sizes):
        raise ValueError(f"grid: expected one to three sizes, none negative, got {grid}")
    sizes += (1,) * (3 - len(sizes))
    for axis, (n, most) in enumerate(zip(sizes, _MAX_GRID, strict=True)):
        if n > most:
            raise ValueError(f"grid: {n} programs along axis {axis}; a GPU takes at most {most}")
    return sizes[0], sizes[1], sizes[2]


def _regions(name: str, value: Any) -> Iterator[Region]:
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from _regions(_item(name, value, i), item)
    elif isinstance(value, stock.TensorDescriptor):
        yield from _regions(name, value.base)
    elif isinstance(value, torch.Tensor):
        if value.device.type != "cpu":
            raise TypeError(f"{name}: interpret() takes CPU tensors, got one on {value.device}")
        yield region_of(name, value)


def _kernel_value(name: str, value: Any, homes: dict[str, Region]) -> Any:
    """An argument as the kernel sees it: a pointer, an integer, an fp32 number, a tuple of them."""
    if isinstance(value, bool):
        return tl.tensor(stock.TensorHandle(np.array([value]), tl.int1), tl.int1)
    if isinstance(value, float):
        data = np.array([value], np.float32)
        return tl.tensor(stock.TensorHandle(data, tl.float32), tl.float32)
    if isinstance(value, tuple):
        items = [_kernel_value(_item(name, value, i), v, homes) for i, v in enumerate(value)]
        return stock._tuple_create(value, items)
    converted = stock._implicit_cvt(value)
    if isinstance(value, torch.Tensor):
        converted.handle.attr["origin"] = homes[name]
    elif isinstance(value, stock.TensorDescriptor):
        converted.handle.base.attr["origin"] = homes[name]
    return converted


def _item(name: str, value: tuple[Any, ...], i: int) -> str:
    """How an error names an item of a tuple: ``q.strides[1]``."""
    fields = getattr(value, "_fields", None)
    return f"{name}.{fields[i]}" if fields else f"{name}[{i}]"


# ---- the language, for the duration of one launch

Interpreted = Callable[[Any], Callable[..., Any]]


@contextmanager
def _language(builder: Builder) -> Iterator[Interpreted]:
    """Make ``triton.language`` compute with ``builder``; everything is put back afterwards."""
    known: dict[Any, Callable[..., Any]] = {}

    def interpreted(function: Any) -> Callable[..., Any]:
        if function.fn not in known:
            known[function.fn] = rewrite(function)
        return known[function.fn]

    def call_helper(self: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs = {k: v for k, v in kwargs.items() if k not in ("_semantic", "_generator")}
        return interpreted(self)(*args, **kwargs)

    def as_method(self: Any, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else partial(self, instance)  # x.sum() is tl.sum(x)

    changes = [
        *_language_changes(),
        (stock, "interpreter_builder", builder),
        (stock, "interpreter_semantic", Semantic(builder)),
        (JITFunction, "__call__", call_helper),
        (JITFunction, "__get__", as_method),
    ]
    before = [(owner, name, vars(owner).get(name, _ABSENT)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield interpreted
    finally:
        for owner, name, value in before:
            delattr(owner, name) if value is _ABSENT else setattr(owner, name, value)


_ABSENT = object()


@cache
def _language_changes() -> list[tuple[Any, str, Any]]:
    """What ``triton.language`` looks like while interpreting: (module or class, name, value).

    Triton's own patch takes 12 ms, so it is applied once, read off and taken back.
    """
    everywhere = SimpleNamespace(__globals__={"tl": tl, "core": tl.core})
    scope = stock._patch_lang(everywhere)
    names = {(id(owner), name): (owner, name) for owner, name, _ in scope._changes}
    changes = [(owner, name, vars(owner)[name]) for owner, name in names.values()]
    scope.restore()
    for owner, name in names.values():  # what was inherited comes back as the class's own
        inherited = owner.__mro__[1:] if isinstance(owner, type) else ()
        if any(vars(base).get(name) is vars(owner).get(name, _ABSENT) for base in inherited):
            delattr(owner, name)
    ours = [
        *((owner, "reduce", reductions.reduce) for owner in (tl, tl.core)),
        *((owner, "associative_scan", reductions.associative_scan) for owner in (tl, tl.core)),
        (tl, "multiple_of", _multiple_of),
        (tl.tensor, "__bool__", _truth),
    ]
    replaced = {(id(owner), name) for owner, name, _ in ours}
    return [c for c in changes if (id(c[0]), c[1]) not in replaced] + ours


def _truth(self: Any) -> bool:
    """``if x``, ``while x`` and ``x and y`` in a kernel need one value, not a block of them."""
    caller = sys._getframe(1).f_globals.get("__name__", "")
    if caller in ("triton.language.semantic", "triton.language.core"):
        return True  # there `if other` asks whether a tensor was given, as when compiling
    if self.handle.data.size != 1:
        raise TypeError(
            f"a block of shape {tuple(self.handle.data.shape)} has no single truth value; "
            "combine masks with & | ~ and choose values with tl.where"
        )
    return bool(self.handle.data.item())


def _multiple_of(input: Any, values: Any) -> Any:
    """A promise to the compiler; a GPU faults, or reads the wrong bytes, when it is not kept."""
    value = getattr(values, "value", values)
    data = input.handle.data
    if isinstance(value, int) and data.size == 1 and int(data.item()) % value:
        raise ValueError(f"tl.multiple_of: {int(data.item())} is not a multiple of {value}")
    return input

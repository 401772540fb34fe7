"""Arithmetic of the interpreter, mended where Triton's own builder differs from a GPU.

Triton's interpreter runs a kernel as ordinary Python; each ``tl`` operation calls a method of an
``InterpreterBuilder`` that does the work on NumPy arrays. :class:`Builder` replaces the methods
whose results no test could trust:

=====================  =====================================  ==================================
operation              Triton's interpreter                   here
=====================  =====================================  ==================================
bf16 arithmetic, dot   on the raw 16 bits, as integers        in fp32, rounded to bf16 once
fp32 to bf16           cut off                                to nearest, ties to even
fp32 ``dot`` in tf32   as fp32                                operands rounded to tf32
``tl.fma``             two roundings (before Triton 3.8)      one rounding
``tl.maximum``         NaN wins always (before Triton 3.8)    NaN loses unless asked for
``tl.dot`` sizes       any                                    the smallest that tensor cores take
masked-off lanes       zero                                   NaN, when no ``other`` was given
signed overflow        wraps                                  OverflowError
casts to fp8           off by up to a quarter                 refused
bf16 atomics           refused                                rounded once a lane
=====================  =====================================  ==================================

Every load and store goes through :class:`kernels.lab.memory.Memory`, which refuses an address
outside the launch's tensors before it is touched. The base class is not a public interface of
Triton: ``tests/kernels/test_private_api.py`` names each thing that is relied on.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton._C.libtriton import ir
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import min_dot_size
from triton.language.semantic import TritonSemantic
from triton.runtime import interpreter as stock
from triton.runtime.interpreter import TensorHandle as Handle

from kernels.lab.floats import BF16_NAN, Array, bf16_to_f32, f32_to_bf16, fma, to_tf32
from kernels.lab.memory import Memory

# Operations on pointers whose result still points into the same tensor.
_KEEP_ORIGIN = (
    "create_addptr",
    "create_bitcast",
    "create_broadcast",
    "create_expand_dims",
    "create_reshape",
    "create_splat",
    "create_trans",
    "create_unsplat",
)


class Builder(stock.InterpreterBuilder):
    """The operations of one launch, over one :class:`~kernels.lab.memory.Memory`."""

    def __init__(self, memory: Memory, grid: tuple[int, int, int]) -> None:
        super().__init__()
        self.codegen_fns["min_dot_size"] = min_dot_size(GPUTarget("cuda", 80, 32))
        self.memory = memory
        self.set_grid_dim(*grid)

    def set_program(self, program: tuple[int, int, int]) -> None:
        """Say which program of the grid runs from now on."""
        self.set_grid_idx(*program)
        self.memory.program = program

    # ---- memory

    def create_masked_load(
        self, ptrs: Handle, mask: Any, other: Handle | None, *_: Any, **__: Any
    ) -> Handle:
        wanted = _mask_of(mask, ptrs)
        element = ptrs.get_element_ty()
        dtype = stock._get_np_dtype(element)
        fill = _undefined(ptrs.data.shape, dtype, element) if other is None else other.data
        mask = self.memory.load(ptrs.data, wanted, dtype.itemsize, ptrs.attr.get("origin"))
        return Handle(stock._interpreter.load(ptrs.data, mask, fill, dtype), element)

    def create_masked_store(
        self, ptrs: Handle, value: Handle, mask: Any, *_: Any, **__: Any
    ) -> None:
        size = value.data.dtype.itemsize
        origin = ptrs.attr.get("origin")
        mask = self.memory.store(ptrs.data, _mask_of(mask, ptrs), size, origin)
        stock._interpreter.store(ptrs.data, value.data, mask)
        if self.memory.watched:
            kept = stock._interpreter.load(ptrs.data, mask, value.data, value.data.dtype)
            self.memory.same_program_conflict(ptrs.data, kept, value.data)

    def create_atomic_rmw(
        self, op: Any, ptr: Handle, val: Handle, mask: Handle, *rest: Any
    ) -> Handle:
        allowed = self._atomic(ptr, _mask_of(mask, ptr))
        if _is_bf16(val):
            return _bf16_add(ptr, val, allowed)  # the only one that Triton lets through
        return super().create_atomic_rmw(op, ptr, val, Handle(allowed, tl.int1), *rest)

    def create_atomic_cas(self, ptr: Handle, cmp: Handle, val: Handle, *rest: Any) -> Handle:
        self._atomic(ptr, np.ones(ptr.data.shape, bool))
        return super().create_atomic_cas(ptr, cmp, val, *rest)

    def create_make_tensor_descriptor(self, base: Handle, *rest: Any, **options: Any) -> Any:
        """A descriptor whose loads and stores stay inside the tensor of its base address."""
        descriptor = super().create_make_tensor_descriptor(base, *rest, **options)
        materialize = descriptor.materialize_pointers

        def located(*indices: Any) -> Any:
            ptrs, mask = materialize(*indices)
            ptrs.attr["origin"] = base.attr.get("origin")
            return ptrs, mask

        descriptor.materialize_pointers = located
        return descriptor

    def create_int_to_ptr(self, src: Handle, dst_type: Any) -> Handle:
        """An address out of a table points into the tensor that starts there."""
        pointer = super().create_int_to_ptr(src, dst_type)
        if src.data.size == 1 and (home := self.memory.starting_at(int(src.data.item()))):
            pointer.attr["origin"] = home
        return pointer

    def _atomic(self, ptr: Handle, mask: Array) -> Array:
        size = stock._get_np_dtype(ptr.get_element_ty()).itemsize
        return self.memory.atomic(ptr.data, mask, size, ptr.attr.get("origin"))

    # ---- casts

    def cast_impl(self, src: Handle, dst_type: Any) -> Handle:
        return self._cast(src, dst_type, toward_zero=False)

    def create_fp_to_fp(self, src: Handle, dst_type: Any, rounding_mode: Any) -> Handle:
        if src.dtype.scalar.is_fp8():
            return self._cast(_fp8_to_f32(src), dst_type, toward_zero=False)
        return self._cast(src, dst_type, toward_zero=rounding_mode == ir.ROUNDING_MODE.RTZ)

    def _cast(self, src: Handle, dst_type: Any, *, toward_zero: bool) -> Handle:
        target = dst_type.scalar
        if target.is_fp8():
            raise TypeError("a cast to fp8 is not modelled by the interpreter; use bf16 or fp16")
        values = _widen(src).data
        if target == tl.bfloat16:
            if _is_bf16(src):
                return src
            return Handle(f32_to_bf16(values.astype(np.float32), toward_zero=toward_zero), target)
        data = values.astype(stock._get_np_dtype(target))
        if toward_zero and np.issubdtype(data.dtype, np.floating):
            data = np.where(np.abs(data) > np.abs(values), np.nextafter(data, 0 * data), data)
        return Handle(data, target)

    def get_bf16(self, value: float) -> Handle:
        return Handle(f32_to_bf16(np.array([value], np.float32)), tl.bfloat16)

    # ---- elementwise

    def unary_op(self, arg: Handle, op: Callable[..., Array]) -> Handle:
        return _narrow(Handle(op(_widen(arg).data), _wide_type(arg)), like=arg)

    def binary_op(self, lhs: Handle, rhs: Handle, op: Callable[..., Array]) -> Handle:
        result = super().binary_op(_widen(lhs), _widen(rhs), op)
        if result.data.dtype == np.bool_:
            return Handle(result.data, tl.int1)
        return _narrow(result, like=lhs)

    def create_fma(self, x: Handle, y: Handle, z: Handle) -> Handle:
        a, b, c = (_widen(h).data for h in (x, y, z))
        if c.dtype == np.float64:
            return super().create_fma(x, y, z)
        exact = fma(a, b, c)
        return _narrow(Handle(exact.astype(c.dtype), _wide_type(z)), like=z)

    def create_maxnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_minnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_clampf(self, arg: Handle, lo: Handle, hi: Handle, propagate_nans: Any) -> Handle:
        keep_nan = propagate_nans == ir.PROPAGATE_NAN.ALL
        lower, upper = (np.maximum, np.minimum) if keep_nan else (np.fmax, np.fmin)
        return self.binary_op(self.binary_op(arg, lo, lower), hi, upper)

    # ---- matrix product

    def create_dot(self, a: Handle, b: Handle, d: Handle, precision: Any, imprecise: int) -> Handle:
        *batch, m, k = a.data.shape
        self.memory.count_dot(2 * m * k * b.data.shape[-1] * int(np.prod(batch)))
        if a.dtype.scalar not in (tl.float32, tl.float16, tl.bfloat16):
            return super().create_dot(a, b, d, precision, imprecise)
        tf32 = a.dtype.scalar == tl.float32 and precision == ir.INPUT_PRECISION.TF32
        x, y = (_widen(h).data.astype(np.float32) for h in (a, b))
        product = np.matmul(to_tf32(x), to_tf32(y)) if tf32 else np.matmul(x, y)
        return Handle((product + d.data).astype(d.data.dtype), d.dtype.scalar)


class Semantic(TritonSemantic):
    """Triton's rules of the language over a :class:`Builder`.

    Signed integers that overflow are found: a GPU would wrap around, and address something else.
    (Unsigned ones are meant to wrap, in hashes and bit patterns.)
    """

    def binary_op_sanitize_overflow_impl(self, lhs: Any, rhs: Any, binary_op: Any) -> None:
        dtype = lhs.type.scalar
        if dtype.int_bitwidth >= 64 or dtype.is_int_unsigned():
            return
        operation = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[binary_op.__name__]
        exact = operation(lhs.handle.data.astype(np.int64), rhs.handle.data.astype(np.int64))
        low, high = dtype.get_int_min_value(), dtype.get_int_max_value()
        if exact.size and (exact.min() < low or exact.max() > high):
            raise OverflowError(
                f"{dtype} overflows in {binary_op.__name__}: a GPU would wrap around; "
                "compute it in int64"
            )


def _carry_origin(name: str) -> Callable[..., Handle]:
    method = getattr(stock.InterpreterBuilder, name)

    def carried(self: Builder, *args: Any) -> Handle:
        result = method(self, *args)
        source = next(a for a in args if isinstance(a, Handle))
        if "origin" in source.attr:
            result.attr["origin"] = source.attr["origin"]
        return result

    return carried


for _name in _KEEP_ORIGIN:
    setattr(Builder, _name, _carry_origin(_name))


def _is_bf16(handle: Handle) -> bool:
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


def _wide_type(handle: Handle) -> Any:
    return tl.float32 if _is_bf16(handle) else handle.dtype.scalar


def _widen(handle: Handle) -> Handle:
    """A bf16 value as fp32; anything else as it is."""
    return Handle(bf16_to_f32(handle.data), tl.float32) if _is_bf16(handle) else handle


def _narrow(result: Handle, like: Handle) -> Handle:
    """An fp32 result back in bf16, if ``like`` was bf16."""
    return Handle(f32_to_bf16(result.data), tl.bfloat16) if _is_bf16(like) else result


def _fp8_to_f32(src: Handle) -> Handle:
    half = stock._convert_float(src.data, src.dtype.scalar, tl.float16, ir.ROUNDING_MODE.RTNE)
    return Handle(half.view(np.float16).astype(np.float32), tl.float32)


def _bf16_add(ptrs: Handle, values: Handle, mask: Array) -> Handle:
    """One lane after another, each rounded to bf16, as lanes that meet at one address do."""
    before = np.zeros(ptrs.data.shape, np.uint16)
    added = np.broadcast_to(values.data, ptrs.data.shape)
    one, bits = np.ones(1, bool), np.dtype(np.uint16)
    for lane in map(tuple, np.argwhere(mask)):
        address = ptrs.data[lane].reshape(1)
        old = stock._interpreter.load(address, one, before[lane].reshape(1), bits)
        total = bf16_to_f32(old) + bf16_to_f32(added[lane].reshape(1))
        stock._interpreter.store(address, f32_to_bf16(total), one)
        before[lane] = old[0]
    return Handle(before, tl.bfloat16)


def _mask_of(mask: Any, ptrs: Handle) -> Array:
    """The mask as a boolean array in the shape of the pointers (Triton passes either form)."""
    data = mask.data if isinstance(mask, Handle) else np.asarray(mask)
    return np.ascontiguousarray(np.broadcast_to(data, ptrs.data.shape).astype(bool))


def _undefined(shape: tuple[int, ...], dtype: Any, element: Any) -> Array:
    """What a masked-off lane holds when no ``other`` was given: a value that shows when used."""
    if np.issubdtype(dtype, np.floating):
        return np.full(shape, np.nan, dtype)
    if element == tl.bfloat16:
        return np.full(shape, BF16_NAN, dtype)
    return np.zeros(shape, dtype)

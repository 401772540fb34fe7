"""``tl.reduce`` and ``tl.associative_scan`` as a GPU does them.

Triton's interpreter lets NaN win a maximum or drops it with a warning, adds 16-bit numbers in a
wider sum than the hardware has, reads bf16 as integers, and combines element by element in
Python. Here NaN is quiet, 16-bit sums are rounded at every level, and a combine function gets
whole slices.
"""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as stock

from kernels.lab.floats import bf16_to_f32, f32_to_bf16


def reduce(input: Any, axis: Any, combine_fn: Any, keep_dims: Any = False, **_: Any) -> Any:
    axis, keep_dims = (getattr(value, "value", value) for value in (axis, keep_dims))
    return _Reduction(axis, combine_fn, keep_dims).apply(input)


def associative_scan(input: Any, axis: Any, combine_fn: Any, reverse: Any = False, **_: Any) -> Any:
    axis, reverse = (getattr(value, "value", value) for value in (axis, reverse))
    return _Scan(axis, combine_fn, reverse).apply(input)


class _Reduction(stock.ReduceOps):
    def min_max(self, input: Any, val_reduce_op: Any, idx_reduce_op: Any = None) -> Any:
        quiet = {np.nanmax: np.fmax.reduce, np.nanmin: np.fmin.reduce}
        value_op = quiet.get(val_reduce_op, val_reduce_op)
        if input.dtype != tl.bfloat16:
            return super().min_max(input, value_op, idx_reduce_op)
        wide = self.to_tensor(bf16_to_f32(input.handle.data), tl.float32)
        found = super().min_max(wide, value_op, idx_reduce_op)
        value, *index = found if isinstance(found, tuple) else (found,)
        data = value.handle.data if value.type.is_block() else value.handle.data[0]
        narrow = self.to_tensor(f32_to_bf16(data), tl.bfloat16)
        return (narrow, *index) if index else narrow

    def sum(self, input: Any) -> Any:
        data = input.handle.data
        if input.dtype not in (tl.float16, tl.bfloat16):
            return super().sum(input)
        half = input.dtype == tl.float16
        rows = data.reshape(-1) if self.axis is None else np.moveaxis(data, self.axis, 0)
        while len(rows) > 1:  # a tree, as the threads of a warp combine their values
            a, b = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            rows = a + b if half else f32_to_bf16(bf16_to_f32(a) + bf16_to_f32(b))
        if self.keep_dims:
            shape = [1] * data.ndim if self.axis is None else None
            rows = rows.reshape(shape) if shape else np.moveaxis(rows, 0, self.axis)
            return self.to_tensor(rows, input.dtype)
        return self.to_tensor(rows[0], input.dtype)

    def generic_reduce(self, input: Any) -> Any:
        axis = 0 if self.axis is None else self.axis
        shape = input[0].handle.data.shape
        arrays = [t.handle.data.reshape(-1) if self.axis is None else t.handle.data for t in input]
        rows = [np.moveaxis(a, axis, 0) for a in arrays]
        while len(rows[0]) > 1:
            half = len(rows[0]) // 2
            first, second = ([r[:half] for r in rows], [r[half:] for r in rows])
            rows = _combine(self, input, first, second)
        if self.keep_dims:
            kept = [1] * len(shape) if self.axis is None else None
            ends = [r.reshape(kept) if kept else np.moveaxis(r, 0, axis) for r in rows]
        else:
            ends = [r[0] for r in rows]
        return [self.to_tensor(end, t.dtype) for end, t in zip(ends, input, strict=True)]


class _Scan(stock.ScanOps):
    def cumsum(self, input: Any) -> Any:
        return self.generic_scan((input,)) if input.dtype == tl.bfloat16 else super().cumsum(input)

    def cumprod(self, input: Any) -> Any:
        return self.generic_scan((input,)) if input.dtype == tl.bfloat16 else super().cumprod(input)

    def generic_scan(self, input: Any) -> Any:
        rows = [np.moveaxis(t.handle.data, self.axis, 0) for t in input]
        done = [[r[0]] for r in rows]
        for i in range(1, len(rows[0])):
            latest = _combine(self, input, [d[-1] for d in done], [r[i] for r in rows])
            for column, value in zip(done, latest, strict=True):
                column.append(value.reshape(column[0].shape))
        whole = [np.moveaxis(np.stack(d), 0, self.axis) for d in done]
        return [self.to_tensor(data, t.dtype) for data, t in zip(whole, input, strict=True)]


def _combine(operation: Any, like: Any, first: list[Any], second: list[Any]) -> list[Any]:
    """The combine function on whole slices; what it returns has to have the type it was given."""
    arguments = [
        operation.to_tensor(data, t.dtype)
        for group in (first, second)
        for data, t in zip(group, like, strict=True)
    ]
    found = operation.combine_fn(*arguments)
    results = tuple(found) if isinstance(found, tuple | tl.tuple) else (found,)
    given, returned = [t.dtype for t in like], [getattr(r, "dtype", type(r)) for r in results]
    if given != returned:
        raise TypeError(
            f"combine function {operation.combine_fn.__name__}: was given {_named(given)} and "
            f"returned {_named(returned)}; it has to return the types that it was given"
        )
    return [r.handle.data for r in results]


def _named(types: list[Any]) -> str:
    return ", ".join(str(t) for t in types)

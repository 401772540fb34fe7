"""Bit-exact rounding in NumPy: what the hardware does to bf16, tf32 and fused multiply-add.

NumPy has no bfloat16; a bf16 array is held as its 16 raw bits (``uint16``). Each function here
rounds once, to nearest with ties to even unless it says otherwise, as IEEE 754 asks for.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BF16_NAN = np.uint16(0x7FC0)


def bf16_to_f32(bits: Array) -> Array:
    """The value of each bf16 bit pattern; exact, because bf16 is the upper half of an fp32."""
    return (np.asarray(bits, np.uint16).astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(values: Array, *, toward_zero: bool = False) -> Array:
    """The bf16 bit patterns nearest to fp32 values, ties to even (or cut off toward zero)."""
    values = np.asarray(values, np.float32)
    bits = np.ascontiguousarray(values).view(np.uint32).reshape(values.shape)
    # Adding half of the last kept place, less one when that place is even, carries exactly when
    # round-to-nearest-even would go up.
    step = np.uint32(0) if toward_zero else ((bits >> 16) & 1) + np.uint32(0x7FFF)
    return np.where(np.isnan(values), BF16_NAN, ((bits + step) >> 16).astype(np.uint16))


def to_tf32(values: Array) -> Array:
    """fp32 values with 10 bits of significand, as tf32 has; ties away from zero (``cvt.rna``)."""
    values = np.ascontiguousarray(values, np.float32)
    bits = values.view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), rounded, values)


def fma(x: Array, y: Array, z: Array) -> Array:
    """``x * y + z`` in fp32 with one rounding.

    The product of two fp32 numbers is exact in fp64. The sum is rounded to *odd* there: whenever
    it is inexact, its last bit is forced to 1, so that the second rounding, to fp32, sees that
    something was cut off and cannot be misled by a tie (Boldo and Melquiond, "Emulation of a FMA
    and correctly rounded sums", IEEE Transactions on Computers 57, 2008).
    """
    product = np.asarray(x, np.float64) * np.asarray(y, np.float64)
    addend = np.asarray(z, np.float64)
    total = np.asarray(product + addend)
    back = total - product
    lost = (product - (total - back)) + (addend - back)  # exact error of the sum (Knuth's TwoSum)
    bits = np.ascontiguousarray(total).view(np.int64).reshape(total.shape)
    inexact_even = (lost != 0) & np.isfinite(lost) & (bits & 1 == 0)
    toward_lost = np.where((lost > 0) == (total > 0), 1, -1)
    odd = (bits + np.where(inexact_even, toward_lost, 0)).view(np.float64)
    return odd.astype(np.float32)

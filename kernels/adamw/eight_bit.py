# mypy: allow-untyped-defs
"""Moments in 8 bits: a code for each value and an fp32 scale for each block of them.

The code is dynamic: it spends its bits where a value lies on a logarithmic scale. A magnitude
code has its leading one in one of seven places, which names the decade (1e-7 … 1), and the
bits below divide the decade evenly::

    0000 001.  one value in [1e-7, 1e-6]          1... ....  128 values in [0.1, 1]

so a large value is held to half a percent and one a million times smaller is not lost. Block-wise
scales keep one outlier from costing the precision of a whole tensor.

Source: Dettmers et al., "8-bit Optimizers via Block-wise Quantization" (arXiv 2110.02861),
sections 2 and 3. One deviation: a second moment that is not zero is never rounded to zero, since
the next step would then divide by eps alone.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl


@triton.jit
def _dequantise(code, scale, values, QUANT: tl.constexpr):
    """The values of (N,) codes with (N / QUANT,) scales, from the 256 ``values`` of the code."""
    fraction = tl.reshape(tl.load(values + code.to(tl.int32)), (scale.shape[0], QUANT))
    return tl.reshape(fraction * scale[:, None], (scale.shape[0] * QUANT,))


@triton.jit
def _quantise(x, SIGNED: tl.constexpr, BLOCK: tl.constexpr, QUANT: tl.constexpr):
    """The codes nearest to x (BLOCK,), and the largest magnitude of each QUANT of them."""
    rows = tl.reshape(x, (BLOCK // QUANT, QUANT))
    scale = tl.maximum(tl.max(tl.abs(rows), 1), 1e-37)  # whose reciprocal is finite
    y = tl.reshape(tl.abs(rows) * (1.0 / scale)[:, None], (BLOCK,))

    FINEST: tl.constexpr = 1 if SIGNED else 2  # values in the lowest decade
    slope = y * 0.0 + FINEST / 0.9e-6
    first = y * 0.0 + FINEST
    for K in tl.static_range(1, 7):
        # The middle of the last value of a decade and the first of the next.
        above = y >= 10.0 ** (K - 7) * (1 + 0.9 / (FINEST * 2 ** (K - 1)))
        slope = tl.where(above, FINEST * 2.0**K / (0.9 * 10.0 ** (K - 6)), slope)
        first = tl.where(above, FINEST * 2.0**K, first)
    # The interval of a decade's first value begins at a tenth of the decade.
    place = tl.floor(y * slope + first * (8.0 / 9.0))
    code = tl.minimum(tl.maximum(place, first), 2 * first - 1).to(tl.int32)
    if SIGNED:
        code = tl.where(y < 0.275e-6, 0, code)
        code = tl.where((x < 0.0) & (code > 0), code + 128, code)
        code = tl.where((x > 0.0) & (y > 1 - 0.45 / 128), 128, code)
    else:
        code = tl.where(x == 0.0, 0, code)
        code = tl.where(y > 1 - 0.45 / 256, 1, code)
    return code.to(tl.uint8), scale


# ---- the same on the host: for states that come from somewhere else, and for comparisons


@cache
def code_values() -> "np.ndarray[Any, np.dtype[np.float32]]":
    """(2, 256): the value of each code, for signed and for unsigned numbers of magnitude ≤ 1.

    A magnitude code with its leading one in place e, and below it the e bits j, stands for
    10^(e−6) · (0.1 + 0.9 · (j + ½) / 2^e); unsigned codes have one more bit. Code 0 is 0, and the
    one code that is left over (1 unsigned, 128 signed) is exactly 1.
    """
    place = [0, *(int(code).bit_length() - 1 for code in range(1, 256))]
    values = np.zeros((2, 256))
    for code in range(1, 128):
        size = 10.0 ** (place[code] - 6)
        values[0, code] = size * (0.1 + 0.9 * ((code + 0.5) / 2 ** place[code] - 1))
        values[0, 128 + code] = -values[0, code]
    for code in range(2, 256):
        size = 10.0 ** (place[code] - 7)
        values[1, code] = size * (0.1 + 0.9 * ((code + 0.5) / 2 ** place[code] - 1))
    values[0, 128] = values[1, 1] = 1
    return values.astype(np.float32)


def quantise(
    x: torch.Tensor, *, signed: bool, block_size: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest codes of fp32 values and the scale of each block, in the order of memory.

    Args:
        x: fp32, any shape, dense.
        signed: for first moments; otherwise ``x`` is not negative, and only 0 gets code 0.

    Returns codes (uint8, as ``x``) and scales (fp32, one for ``block_size`` values).
    """
    flat = _memory_order(x)
    blocks = -(-flat.numel() // block_size)
    rows = torch.nn.functional.pad(flat, (0, blocks * block_size - flat.numel()))
    rows = rows.view(blocks, block_size)
    scales = rows.abs().amax(1).clamp(min=1e-37) if blocks else rows.new_zeros(0)
    values = torch.from_numpy(code_values()[0 if signed else 1]).to(x.device)
    ordered, order = values.sort()
    middles = (ordered[1:].double() + ordered[:-1].double()) / 2
    codes = order[torch.bucketize((rows / scales[:, None]).double(), middles)]
    if not signed:
        codes = torch.where((codes == 0) & (rows > 0), 2, codes)
    out = torch.empty_like(x, dtype=torch.uint8)
    _memory_order(out).copy_(codes.flatten()[: flat.numel()])
    return out, scales


def dequantise(
    codes: torch.Tensor, scales: torch.Tensor, *, signed: bool, block_size: int = 256
) -> torch.Tensor:
    """The fp32 values of codes and scales, as ``codes`` in shape and strides."""
    values = torch.from_numpy(code_values()[0 if signed else 1]).to(codes.device)
    out = torch.empty_like(codes, dtype=torch.float32)
    flat = values[_memory_order(codes).long()]
    _memory_order(out).copy_(flat * scales.repeat_interleave(block_size)[: flat.numel()])
    return out


def _memory_order(x: torch.Tensor) -> torch.Tensor:
    """A flat view of a dense tensor, in the order of its memory."""
    return x.as_strided((x.numel(),), (1,))

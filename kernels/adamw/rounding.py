# mypy: allow-untyped-defs
"""Stochastic rounding: bf16 weights that train without an fp32 master copy.

A bf16 weight has 8 bits of significand, so an update smaller than 1/512 of the weight is lost when
the sum is rounded to nearest, every time. Rounded up with a probability that is the share of the
step already covered, the sum is right on average: the small updates arrive, as noise with mean 0.
"""

import triton
import triton.language as tl


@triton.jit
def _stochastic_bf16(x, start, seed, number, step, BLOCK: tl.constexpr):
    """fp32 to bf16, up or down at random, with the exact value as the mean.

    The lower 16 bits of an fp32 number are what bf16 has no room for. A uniform random number of
    16 bits is added to them and the sum cut off: the carry comes with probability (lower 16 bits)
    / 2¹⁶. A value that bf16 has is never changed; infinities stay and NaN stays NaN.

    The random bits are a function of (seed, number of the parameter, step, index of the element):
    the same run gives the same bits, whatever the launch looks like. Philox gives 4 x 32 of them,
    enough for 8 elements.

    Sources: Gupta et al. (arXiv 1502.02551), section 3; Salmon et al., "Parallel random numbers:
    as easy as 1, 2, 3" (SC 2011).
    """
    group = start // 8 + tl.arange(0, BLOCK // 8)
    low = group.to(tl.uint32)
    high = (group >> 32).to(tl.uint32)
    zero = low * 0
    a, b, c, d = tl.philox(seed, low, high, zero + number.to(tl.uint32), zero + step.to(tl.uint32))
    words = tl.join(tl.join(a, c), tl.join(b, d))  # (BLOCK / 8, 2, 2), in the order a b c d
    noise = tl.reshape(tl.join(words & 0xFFFF, words >> 16), (BLOCK,))
    bits = x.to(tl.uint32, bitcast=True)
    rounded = ((bits + noise) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return tl.where(x == x, rounded, x.to(tl.bfloat16))

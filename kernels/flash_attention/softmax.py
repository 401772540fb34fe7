# mypy: allow-untyped-defs
"""The online softmax: what a tile of scores does to a row's maximum, sum and weights.

Every kernel that walks over keys keeps, per query, the highest score so far (``high``) and the sum
of exponentials relative to it (``total``). A tile with a higher score makes both, and what was
summed up of the values, smaller by exp2(high − higher).

Source: Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867).
"""

import triton
import triton.language as tl

from kernels.flash_attention.scores import is_plain, logits, visible


@triton.jit
def online_softmax(high, total, s, rows, keys, scale, at, x, MASK: tl.constexpr):
    """From q·kᵀ of one tile: the new maximum, the new sum, the factor for what was summed up so
    far, and the weights of the tile, not yet divided by the sum."""
    if is_plain(x) and not MASK:
        higher = tl.maximum(high, tl.max(s, 1) * scale)
        origin = higher
        p = tl.exp2(s * scale - origin[:, None])  # one fused multiply-add a score
    else:
        s = logits(s * scale, rows[:, None], keys[None, :], at, x, MASK, False)
        if MASK:
            s = tl.where(visible(rows[:, None], keys[None, :], at, x), s, float("-inf"))
        higher = tl.maximum(high, tl.max(s, 1))
        origin = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet: no inf - inf
        p = tl.exp2(s - origin[:, None])
    rescale = tl.exp2(high - origin)
    return higher, total * rescale + tl.sum(p, 1), rescale, p

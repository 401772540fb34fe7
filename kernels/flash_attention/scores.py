# mypy: allow-untyped-defs
"""What one score is: shared by the forward pass, the gradients and the decoding kernels.

Scores live in base 2 because ``exp2`` is one instruction: exp(s) = exp2(s · log₂e), and log₂e is
folded into the scale. Between q·k and the weight stand, in this order,

    s ← scale · q·k;   s ← c · tanh(s / c);   s ← s − slope · |i + N − M − j|;   s ← s + bias[i, j]

and s ← −∞ where query i may not see key j. An option that is not used is ``None`` and leaves no
trace in the compiled kernel. Every function takes queries ``i`` and keys ``j`` as two index blocks
that broadcast, so that it serves the scores (queries, keys) and their transpose alike.

Sources: ALiBi, Press et al. (arXiv 2108.12409); soft-cap, Gemma 2 (arXiv 2408.00118), section 2;
sliding window, Beltagy et al. (arXiv 2004.05150); Philox, Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3" (SC 2011), whose 7-round form is the shortest that passes BigCrush.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from kernels.flash_attention.tiles import View

LOG2_E = tl.constexpr(1.4426950408889634)
ROUNDS = tl.constexpr(7)  # of Philox


class Options(NamedTuple):
    """Everything that changes a score; ``None`` where it is not used."""

    softcap: float | None
    slopes: View | None  # fp32 (B, H, 1, 1): ALiBi
    bias: View | None  # (B, H, M, N)
    key_mask: View | None  # uint8 (B, 1, 1, N): nonzero where a key may be seen
    seed: torch.Tensor | None  # int64 (1,): dropout
    threshold: int | None  # a weight is dropped when its 24 random bits are below this
    rescale: float | None  # 1 / (1 − dropout_p)


@triton.jit
def is_plain(x):
    """Whether a score is just scale · q·k."""
    return x.softcap is None and x.slopes is None and x.bias is None


@triton.jit
def logits(s, i, j, at, x, MASK: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Scores in base 2 from ``s`` = scale · log₂e · q·k.

    Without MASK the tile lies inside along the loop: all keys do or, TRANSPOSED, all queries.
    """
    if x.softcap is not None:
        s = _soft_tanh(s, x.softcap) * (x.softcap * LOG2_E)
    if x.slopes is not None:
        distance = tl.abs(i.to(tl.float32) + (at.N - at.M) - j.to(tl.float32))
        s -= (
            tl.load(x.slopes.ptr + at.b * x.slopes.batch + at.h * x.slopes.head) * LOG2_E * distance
        )
    if x.bias is not None:
        here = x.bias.ptr + at.b * x.bias.batch + at.h * x.bias.head
        row, column = (at.q0 + i).to(tl.int64), (at.k0 + j).to(tl.int64)
        place = here + row * x.bias.row + column * x.bias.column
        if MASK:
            bias = tl.load(place, mask=(i < at.M) & (j < at.N), other=0.0)
        elif TRANSPOSED:
            bias = tl.load(place, mask=j < at.N, other=0.0)
        else:
            bias = tl.load(place, mask=i < at.M, other=0.0)
        s += bias.to(tl.float32) * LOG2_E
    return s


@triton.jit
def _soft_tanh(s, softcap):
    """tanh(s / (softcap · log₂e)); never NaN.

    1 − 2 / (1 + exp2(2s / softcap)) loses digits where s is small beside the cap, as it usually
    is; there the series y − y³/3 + 2y⁵/15 − 17y⁷/315 has them all.
    """
    far = 1.0 - 2.0 / (1.0 + tl.exp2(s * (2.0 / softcap)))
    y = s * (1.0 / (softcap * LOG2_E))
    y2 = y * y
    near = y * (1.0 + y2 * (-0.3333333333 + y2 * (0.1333333333 - y2 * 0.05396825397)))
    return tl.where(y2 < 0.015625, near, far)  # |y| < 1/8


@triton.jit
def visible(i, j, at, x):
    """Whether query i may see key j."""
    here = i + (at.N - at.M)
    seen = (j <= tl.minimum(here + at.right, at.N - 1)) & (j >= here - at.left)
    if x.key_mask is not None:
        place = x.key_mask.ptr + at.b * x.key_mask.batch
        place += (at.k0 + j).to(tl.int64) * x.key_mask.column
        seen = seen & (tl.load(place, mask=j < at.N, other=0) != 0)
    return seen


@triton.jit
def kept(rows, keys, start, at, x, TRANSPOSED: tl.constexpr):
    """Which weights dropout keeps, (rows, keys) or the transpose.

    One call of the generator gives four numbers, for four neighbouring keys. Its counter is
    (key // 4, query, h, b), so that every kernel that meets a score draws the same bits for it.
    """
    QUARTER: tl.constexpr = keys.shape[0] // 4
    ROWS: tl.constexpr = rows.shape[0]
    four = start // 4 + tl.arange(0, QUARTER)
    if TRANSPOSED:
        key = four[:, None] + tl.zeros([QUARTER, ROWS], tl.int32)
        query = at.q0 + rows[None, :] + tl.zeros([QUARTER, ROWS], tl.int32)
    else:
        key = four[None, :] + tl.zeros([ROWS, QUARTER], tl.int32)
        query = at.q0 + rows[:, None] + tl.zeros([ROWS, QUARTER], tl.int32)
    head = key * 0 + at.h.to(tl.int32)
    batch = key * 0 + at.b.to(tl.int32)
    r0, r1, r2, r3 = tl.philox(tl.load(x.seed), key, query, head, batch, ROUNDS)
    bits = tl.join(tl.join(r0, r2), tl.join(r1, r3))  # (.., .., 2, 2), in the order of the keys
    if TRANSPOSED:
        bits = bits.permute(0, 2, 3, 1).reshape(4 * QUARTER, ROWS)
    else:
        bits = bits.reshape(ROWS, 4 * QUARTER)
    return (bits >> 8).to(tl.int32) >= x.threshold


@triton.jit
def weights(s, i, j, lse, scale, at, x, MASK: tl.constexpr, TRANSPOSED: tl.constexpr):
    """The attention weights of the forward pass again: exp2(logit − LSE), and 0 where hidden."""
    p = tl.exp2(logits(s * scale, i, j, at, x, MASK, TRANSPOSED) - lse)
    if MASK:
        p = tl.where(visible(i, j, at, x), p, 0.0)
    return p


@triton.jit
def logit_gradient(p, dp, rows, keys, start, delta, at, x, TRANSPOSED: tl.constexpr):
    """From the gradients of the weights to those of the logits, and the weights as v met them.

    The gradient of the softmax is p · (dp − delta), where delta = Σ_j p · dp is known beforehand.
    """
    met = p
    if x.seed is not None:
        keep = kept(rows, keys, start, at, x, TRANSPOSED)
        met = tl.where(keep, p * x.rescale, 0.0)
        dp = tl.where(keep, dp * x.rescale, 0.0)
    return p * (dp - delta), met


@triton.jit
def softcap_gradient(ds, s, scale, x):
    """From the gradients of the logits to those of scale · q·k: the soft-cap's 1 − tanh²."""
    if x.softcap is not None:
        t = _soft_tanh(s * scale, x.softcap)
        ds *= 1.0 - t * t
    return ds

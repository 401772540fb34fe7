"""From a GGUF file's blocks of small integers back to float32.

A block holds some weights as integers q of few bits, and a scale d (with some formats a minimum m
too) that they share. There are two recipes:

    w = d · q        q counts from 0 in both directions     Q4_0 Q5_0 Q8_0  Q3_K Q6_K Q8_K
    w = d · q + m    q ≥ 0, m is the smallest weight        Q4_1 Q5_1       Q2_K Q4_K Q5_K

The K formats have a second level: 256 weights share one d in half precision, and each 16 or 32 of
them have a small integer scale s of their own, so that their scale is d · s. How the bits lie is
the format of ggml (``ggml-common.h``). The order of the products is ggml's too, so that results
agree to the last bit.

Every function here takes blocks ``(n, bytes)`` of uint8 and returns ``(n, weights)`` of float32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minift.models.gguf.tensor_types import TensorType

AT_ONCE = 1 << 17
"""Weights that are worked on at a time: what lies in between then fits into a processor's cache."""


def dequantize(data: Tensor, kind: TensorType) -> Tensor:
    """The weights ``(n,)`` in the bytes ``data (n / kind.weights · kind.size,)``.

    Beside the result it needs a few megabytes of memory.
    """
    blocks = data.view(-1, kind.size)  # (n / weights, size)
    weights = torch.empty(blocks.shape[0], kind.weights)
    step = max(1, AT_ONCE // kind.weights)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        # a copy, since the file's tensors begin at addresses that no wider number may have
        weights[part] = READERS[kind.name](blocks[part].clone())
    return weights.flatten()


def f32(blocks: Tensor) -> Tensor:
    """Each weight as it is."""
    return blocks.view(torch.float32)


def f16(blocks: Tensor) -> Tensor:
    """Each weight in half precision."""
    return blocks.view(torch.float16).float()


def bf16(blocks: Tensor) -> Tensor:
    """Each weight as the upper half of a float32."""
    return blocks.view(torch.bfloat16).float()


def q4_0(blocks: Tensor) -> Tensor:
    """32 weights d · (q − 8): d, then two q in each of 16 bytes."""
    d, q = blocks.split([2, 16], dim=1)
    return f16(d) * (_fields(q, 4).float() - 8)


def q4_1(blocks: Tensor) -> Tensor:
    """32 weights d · q + m: d, m, then two q in each of 16 bytes."""
    d, m, q = blocks.split([2, 2, 16], dim=1)
    return f16(d) * _fields(q, 4).float() + f16(m)


def q5_0(blocks: Tensor) -> Tensor:
    """32 weights d · (q − 16): d, the 32 fifth bits of q, then their lower four."""
    d, high, low = blocks.split([2, 4, 16], dim=1)
    return f16(d) * (_five_bits(high, low).float() - 16)


def q5_1(blocks: Tensor) -> Tensor:
    """32 weights d · q + m: d, m, the 32 fifth bits of q, then their lower four."""
    d, m, high, low = blocks.split([2, 2, 4, 16], dim=1)
    return f16(d) * _five_bits(high, low).float() + f16(m)


def q8_0(blocks: Tensor) -> Tensor:
    """32 weights d · q: d, then q as signed bytes."""
    d, q = blocks.split([2, 32], dim=1)
    return f16(d) * q.view(torch.int8).float()


def q2_k(blocks: Tensor) -> Tensor:
    """16 groups of 16 weights d·s · q − m·t: s and t of four bits, q of two."""
    scales, q, d, m = blocks.split([16, 64, 2, 2], dim=1)
    scale = f16(d) * (scales & 15).float()  # (n, 16)
    least = f16(m) * (scales >> 4).float()
    return _grouped(scale, _halves(q, 2), least)


def q3_k(blocks: Tensor) -> Tensor:
    """16 groups of 16 weights d·(s − 32) · q: s of six bits, q from −4 to 3.

    The lower two bits of q lie together; its third bit says whether 4 is *not* subtracted.
    """
    high, low, scales, d = blocks.split([32, 64, 12, 2], dim=1)
    s = _fields(scales[:, :8], 4) | _fields(scales[:, 8:], 2) << 4  # (n, 16)
    q = _halves(low, 2) | _fields(high, 1) << 2
    return _grouped(f16(d) * (s.float() - 32), q.float() - 4)


def q4_k(blocks: Tensor) -> Tensor:
    """8 groups of 32 weights d·s · q − m·t: s and t of six bits, q of four."""
    d, m, scales, q = blocks.split([2, 2, 12, 128], dim=1)
    s, t = _six_bits(scales)  # (n, 8)
    return _grouped(f16(d) * s.float(), _runs(q, 32, 4), f16(m) * t.float())


def q5_k(blocks: Tensor) -> Tensor:
    """As Q4_K with a fifth bit for each q: bit g of byte i belongs to weight i of group g."""
    d, m, scales, high, low = blocks.split([2, 2, 12, 32, 128], dim=1)
    s, t = _six_bits(scales)
    q = _runs(low, 32, 4) | _fields(high, 1) << 4
    return _grouped(f16(d) * s.float(), q, f16(m) * t.float())


def q6_k(blocks: Tensor) -> Tensor:
    """16 groups of 16 weights d·s · (q − 32): s a signed byte, q of four bits and two more."""
    low, high, s, d = blocks.split([128, 64, 16, 2], dim=1)
    q = _runs(low, 64, 4) | _halves(high, 2) << 4
    return _grouped(f16(d) * s.view(torch.int8).float(), q.float() - 32)


def q8_k(blocks: Tensor) -> Tensor:
    """256 weights d · q: d in single precision, q as signed bytes, and sums that are not needed."""
    d, q, _ = blocks.split([4, 256, 32], dim=1)
    return d.view(torch.float32) * q.view(torch.int8).float()


READERS: dict[str, Callable[[Tensor], Tensor]] = {
    "F32": f32, "F16": f16, "BF16": bf16,
    "Q4_0": q4_0, "Q4_1": q4_1, "Q5_0": q5_0, "Q5_1": q5_1, "Q8_0": q8_0,
    "Q2_K": q2_k, "Q3_K": q3_k, "Q4_K": q4_k, "Q5_K": q5_k, "Q6_K": q6_k, "Q8_K": q8_k,
}  # fmt: skip


def _fields(data: Tensor, bits: int) -> Tensor:
    """Numbers of few bits: the lowest of all bytes first, then the next of all bytes, and so on."""
    mask = (1 << bits) - 1
    # a loop, because a shift by one number is many times faster than by a tensor of numbers
    fields = [data >> shift & mask for shift in range(0, 8, bits)]
    return torch.stack(fields, dim=-2).flatten(-2)  # (…, 8 / bits, bytes) → (…, bytes · 8 / bits)


def _runs(data: Tensor, run: int, bits: int) -> Tensor:
    """``_fields`` of each ``run`` bytes on their own: ``(n, bytes)``, ``(n, bytes · 8 / bits)``."""
    return _fields(data.unflatten(1, (-1, run)), bits).flatten(1)


def _halves(data: Tensor, bits: int) -> Tensor:
    """``_runs`` of 32 bytes: 128 weights of two bits each, one half of a K block."""
    return _runs(data, 32, bits)


def _five_bits(high: Tensor, low: Tensor) -> Tensor:
    """q of Q5_0 and Q5_1: bit i of the four bytes ``high`` belongs to weight i."""
    places = torch.arange(8, dtype=torch.uint8)
    fifth = (high[..., None] >> places & 1).flatten(1)  # (n, 4, 8) → (n, 32)
    return _fields(low, 4) | fifth << 4


def _six_bits(scales: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of Q4_K and Q5_K, ``(n, 8)`` each, from twelve bytes.

    Four bytes have the first four scales, four the first four minima, in their lower six bits.
    The other four of each have their lower four bits in the last four bytes, scale below minimum,
    and their upper two bits in what the first eight bytes have left.
    """
    s, t, rest = scales.split(4, dim=1)  # (n, 4) each
    s_rest = rest & 15 | s >> 6 << 4
    t_rest = rest >> 4 | t >> 6 << 4
    return torch.cat([s & 63, s_rest], dim=1), torch.cat([t & 63, t_rest], dim=1)


def _grouped(scale: Tensor, q: Tensor, least: Tensor | None = None) -> Tensor:
    """scale · q − least, where each group of a block has its own: ``(n, groups)``, ``(n, 256)``."""
    groups = scale.shape[1]
    w = scale[..., None] * q.float().unflatten(1, (groups, -1))  # (n, groups, 256 / groups)
    return (w if least is None else w - least[..., None]).flatten(1)

"""Rotary positions with another layout, base or direction.

How theirs rotates is read from their record: each pair (x, y) of a query before and after is a
complex number, and the quotient of the two is the rotation. So no module of RoPE is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from minift.compare.hypotheses.evidence import Evidence
from minift.layers.attention import split_heads

BASES = (1e2, 1e3, 1e4, 1e5, 2.5e5, 5e5, 1e6, 1e7)


@dataclass(frozen=True)
class Rotation:
    """How one tensor was rotated: ``before (B, H, T, D)`` by ``angles (B, T, D/2)``."""

    before: Tensor
    angles: Tensor
    halves: bool
    """Feature j goes with j + D/2 (Llama); else with its neighbour (GPT-J)."""

    def apply(
        self, x: Tensor | None = None, angles: Tensor | None = None, halves: bool | None = None
    ) -> Tensor:
        """Another tensor, rotated in another way or in this one."""
        x = self.before if x is None else x
        angles = self.angles if angles is None else angles
        halves = self.halves if halves is None else halves
        turn = torch.polar(torch.ones_like(angles), angles)[:, None]  # (B, 1, T, D/2)
        return _real(_complex(x, halves) * turn, halves)


def rotation_of(evidence: Evidence, after: Tensor) -> Rotation | None:
    """How their q or k was rotated; ``None`` where it was not."""
    for before in _candidates(evidence, after):
        norms = [x.double().norm(dim=-1) for x in (before, after)]
        if not torch.allclose(norms[0], norms[1], rtol=1e-4, atol=1e-5):
            continue
        if torch.allclose(before, after, rtol=0, atol=1e-6):
            return None
        for halves in (True, False):
            one, other = _complex(before, halves), _complex(after, halves)
            angles = (other * one.conj()).sum(1).angle().float()  # (B, T, D/2)
            found = Rotation(before, angles, halves)
            if torch.allclose(found.apply(), after, rtol=1e-3, atol=1e-4):
                return found
    return None


def other_rotations(q: Rotation, k: Rotation) -> Iterator[tuple[str, str, tuple[Tensor, Tensor]]]:
    """Queries and keys rotated in the usual wrong ways."""
    name = {True: "halves (j with j + D/2)", False: "neighbours (2j with 2j + 1)"}
    text = f"{name[not q.halves]} are rotated, theirs: {name[q.halves]}"
    for both in _both(q, k, halves=not q.halves):
        yield "layout of RoPE halves", text, both
    yield "RoPE missing", "neither queries nor keys are rotated", (q.before, k.before)
    yield "RoPE missing", "keys are not rotated", (q.apply(), k.before)
    yield "RoPE missing", "queries are not rotated", (q.before, k.apply())
    backwards = (q.apply(angles=-q.angles), k.apply(angles=-k.angles))
    yield "RoPE direction", "the rotation goes backwards", backwards
    shifted = (q.apply(), k.apply(angles=k.angles.roll(1, dims=1)))
    yield "position offset", "keys are rotated as the token before", shifted
    tokens, pairs = q.angles.shape[1:]
    places = torch.arange(tokens).float()[:, None]  # (T, 1)
    j = torch.arange(pairs).float()[None]
    for base in BASES:
        angles = (places * base ** (-j / (2 * pairs)))[None]
        text = f"frequencies are {base:g}^(−j/D), theirs ^(−2j/D)"
        yield "RoPE frequencies", text, (q.apply(angles=angles), k.apply(angles=angles))
    for base in BASES:
        angles = (places * base ** (-j / pairs))[None]
        yield "RoPE base", f"the base is {base:g}", (q.apply(angles=angles), k.apply(angles=angles))
    for factor in (2.0, 0.5, 4.0, 0.25, 8.0, 0.125):
        angles = q.angles.new_tensor(factor) * places[None] * (q.angles[:1, 1:2])
        text = f"positions are multiplied by {factor:g}"
        yield "RoPE scaling", text, (q.apply(angles=angles), k.apply(angles=angles))


def _both(q: Rotation, k: Rotation, halves: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """The other layout, with the frequencies in either order of that layout."""
    yield q.apply(halves=halves), k.apply(halves=halves)
    # cos and sin laid out for one layout, the exchange of features for the other
    yield _mixed(q, halves), _mixed(k, halves)
    yield _mixed(q, not halves, crossed=True), _mixed(k, not halves, crossed=True)


def _mixed(rotation: Rotation, halves: bool, crossed: bool = False) -> Tensor:
    """x cos + swap(x) sin, where only the swap (or only cos and sin) has the layout ``halves``."""
    x, angles = rotation.before, rotation.angles
    laid = halves if crossed else not halves
    wide = torch.cat([angles, angles], -1) if laid else angles.repeat_interleave(2, -1)
    swap_halves = not laid
    swapped = _real(_complex(x, swap_halves) * 1j, swap_halves)
    return x * wide.cos()[:, None] + swapped * wide.sin()[:, None]


def _candidates(evidence: Evidence, after: Tensor) -> Iterator[Tensor]:
    """Outputs of before that have as many numbers as ``after``, as ``(B, H, T, D)``."""
    tokens, dim = after.shape[2:]
    for step in evidence.earlier():
        value = step.value
        if step.side != "output" or value.shape[-1] % dim:
            continue
        if value.dim() == 3 and value.shape[1] == tokens:
            split = split_heads(value, value.shape[-1] // dim)
        elif value.dim() == 4 and value.shape[1] == tokens:
            split = value.transpose(1, 2)
        else:
            split = value
        if split.shape == after.shape:
            yield split


def _complex(x: Tensor, halves: bool) -> Tensor:
    if halves:
        one, other = x.float().chunk(2, dim=-1)
    else:
        one, other = x.float()[..., 0::2], x.float()[..., 1::2]
    return torch.complex(one.contiguous(), other.contiguous())


def _real(z: Tensor, halves: bool) -> Tensor:
    if halves:
        return torch.cat([z.real, z.imag], dim=-1)
    return torch.stack([z.real, z.imag], dim=-1).flatten(-2)

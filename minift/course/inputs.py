"""Inputs for checks: small readable numbers first, then seeded noise of ragged shapes."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

_SALT: ContextVar[int] = ContextVar("salt", default=0)


@contextmanager
def salted(salt: int) -> Iterator[None]:
    """Inside, every random input is another one: a table of the usual answers is worth nothing."""
    token = _SALT.set(salt)
    try:
        yield
    finally:
        _SALT.reset(token)


def seeded(seed: int) -> int:
    """The seed to draw from in place of ``seed``."""
    return seed + 1_000_003 * _SALT.get()


def leniency() -> float:
    """How many times the tolerance is allowed: inputs that nobody has looked at may cancel out, and
    the sum of what cancels is rounding. A right answer must not depend on luck."""
    return 256.0 if _SALT.get() else 1.0


def counting(*shape: int, start: int = 1) -> Tensor:
    """``start``, ``start + 1``, … in fp32: numbers a reader can follow by hand."""
    size = torch.Size(shape).numel()
    return torch.arange(start, start + size, dtype=torch.float32).reshape(shape)


def normal(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers in fp32, the same on every machine."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seeded(seed)))


def strided(x: Tensor) -> Tensor:
    """The same values stored with the last two dimensions exchanged: not contiguous."""
    return x.transpose(-2, -1).contiguous().transpose(-2, -1)


def draw(seed: int) -> random.Random:
    """A source of random choices, the same on every machine."""
    return random.Random(seeded(seed))


def bio_tags(length: int, types: Sequence[str], seed: int) -> list[str]:
    """Random tags in which B- and I- meet in every order, as a model's predictions do."""
    rng = draw(seed)
    choices = ["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]
    return [rng.choice(choices) for _ in range(length)]

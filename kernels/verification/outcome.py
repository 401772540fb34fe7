"""What it means for a kernel to be right: measurements as ratios to a bound.

The tests and ``python -m kernels verify`` use these same functions, and so do the mutants that
prove them: a bound is only worth what it catches. Every measurement is a ratio to its bound, so
that 1 is the limit for all of them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch

from kernels.lab.compiler import Compiled
from kernels.lab.memory import Report


@dataclass(frozen=True)
class Shipped:
    """One configuration that users get, and how to compile it for an architecture."""

    kernel: str
    dtype: str
    variant: str
    compile: Callable[[str], Compiled]
    tensor_cores: bool = True  # whether the work is matrix products
    # Attention scores that one step of the main loop computes in a block; by architecture where
    # the tiles differ.
    scores: int | Mapping[str, int] = 0
    archs: tuple[str, ...] = ()  # the only ones that it is shipped for; none: all
    # Bits of a bulk load; less only where a warp's words are one full line, or there is no more to
    # read: one number a query, a key or a share.
    narrowest: int = 128
    operands: str = ""  # type that the matrix products read, when it is not ``dtype``

    def scores_on(self, arch: str) -> int:
        """``scores`` for one architecture."""
        return self.scores if isinstance(self.scores, int) else self.scores.get(arch, 0)


@dataclass(frozen=True)
class Outcome:
    """One case: the worst error as a share of its bound, and what the launches did."""

    ratio: float
    report: Report
    bytes_moved: int
    bytes_needed: int  # the least that a kernel with these tiles can move

    @property
    def passed(self) -> bool:
        return self.ratio <= 1 and self.report.ok and self.bytes_moved == self.bytes_needed


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Inside, ``torch.empty`` gives NaN: an output that a kernel forgets to write shows."""

    def poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *args, **kwargs: make(*args, **kwargs).fill_(torch.nan)

    with (
        mock.patch.object(torch, "empty", poisoned(torch.empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
    ):
        yield


def worst(error: torch.Tensor, bound: torch.Tensor) -> float:
    """The largest error / bound; where the bound is zero, only an exact value passes."""
    ratio = torch.where(error == 0, 0.0, error / bound)
    return float(ratio.nan_to_num(math.inf).max()) if ratio.numel() else 0.0

"""One value against the right one: type first, then shape, dtype, and numbers last."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from minift.course.show import MAX_ELEMENTS, a_kind, kind, show


@dataclass(frozen=True)
class Difference:
    """What differs: "type", "lazy", "shape", "dtype", "device", "length" or "value"."""

    aspect: str
    yours: str
    right: str


def difference(
    got: Any, right: Any, *, ulps: float = 16, dtype: torch.dtype | None = None
) -> Difference | None:
    """The first difference between ``got`` and ``right``, or None.

    A tensor passes when ``|got − right| ≤ ulps · eps(dtype) · max|right|``, where the maximum is
    over finite elements; NaN and infinities must stand in the same places. ``dtype`` is the
    right dtype where ``right`` itself was computed in a higher precision.
    """
    if _lazy(got):
        wanted = right.to(dtype) if isinstance(right, Tensor) else right
        return Difference("lazy", a_kind(got), a_kind(wanted))
    if isinstance(right, Tensor):
        return _tensors(got, right, ulps, dtype or right.dtype)
    if isinstance(right, Mapping):
        return _mappings(got, right, ulps, dtype)
    if isinstance(right, (list, tuple)):
        return _sequences(got, right, ulps, dtype)
    if isinstance(right, Number) and not isinstance(right, bool):
        return _numbers(got, right)
    same = type(got) is type(right) and got == right
    return None if same else Difference("value", show(got), show(right))


def _lazy(got: Any) -> bool:
    """Whether the values of a result are still to come: a generator, ``map``, ``zip``."""
    return isinstance(got, Iterator)


def _tensors(got: Any, right: Tensor, ulps: float, dtype: torch.dtype) -> Difference | None:
    if not isinstance(got, Tensor) or got.layout != right.layout:
        return Difference("type", f"{a_kind(got)}: {show(got)}", a_kind(right.to(dtype)))
    if got.shape != right.shape:
        return Difference("shape", kind(got), f"shape {tuple(right.shape)}")
    if got.dtype != dtype:
        return Difference("dtype", kind(got), f"dtype {str(dtype).removeprefix('torch.')}")
    if got.device != right.device:
        return Difference("device", f"{kind(got)} on {got.device}", f"a tensor on {right.device}")
    wrong = _beyond(got.detach().double(), right.detach().double(), ulps, dtype)
    return _where(got, right.to(dtype), wrong) if bool(wrong.any()) else None


def _beyond(got: Tensor, right: Tensor, ulps: float, dtype: torch.dtype) -> Tensor:
    finite = right[right.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0.0
    eps = torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    near = (got - right).abs() <= ulps * eps * scale
    alike = (got == right) | (got.isnan() & right.isnan())
    return ~(near | alike)


def _where(got: Tensor, right: Tensor, wrong: Tensor) -> Difference:
    if right.numel() <= MAX_ELEMENTS:
        yours = show(got)
        if yours == show(right):  # the digits shown are equal: say how far off the others are
            yours += f", off by {(got.double() - right.double()).abs().max().item():.2g}"
        return Difference("value", yours, show(right))
    place = tuple(wrong.nonzero()[0].tolist())
    at = f"at {list(place)} of {kind(right)}"
    return Difference("value", f"{show(got[place].item())} {at}", show(right[place].item()))


def _mappings(
    got: Any, right: Mapping[str, Any], ulps: float, dtype: torch.dtype | None
) -> Difference | None:
    if not isinstance(got, Mapping) or set(got) != set(right):
        return Difference("type", show(got), f"a mapping with {', '.join(right)}")
    for name, value in right.items():
        if found := difference(got[name], value, ulps=ulps, dtype=dtype):
            return Difference(found.aspect, f"{name}: {found.yours}", f"{name}: {found.right}")
    return None


def _sequences(
    got: Any, right: Sequence[Any], ulps: float, dtype: torch.dtype | None
) -> Difference | None:
    family = list if isinstance(right, list) else tuple
    if not isinstance(got, family):
        return Difference("type", f"{a_kind(got)}: {show(got)}", f"a {family.__name__}")
    if len(got) != len(right):
        return Difference("length", f"{show(got)} (length {len(got)})", show(right))
    for mine, theirs in zip(got, right, strict=True):
        if found := difference(mine, theirs, ulps=ulps, dtype=dtype):
            nested = isinstance(theirs, (Tensor, Mapping))
            return found if nested else Difference(found.aspect, show(got), show(right))
    return None


def _numbers(got: Any, right: Any) -> Difference | None:
    if not isinstance(got, Number) or isinstance(got, (bool, complex)):
        return Difference("type", f"{a_kind(got)}: {show(got)}", f"{a_kind(right)}: {show(right)}")
    alike = math.isclose(float(got), float(right), rel_tol=1e-9, abs_tol=1e-12)  # type: ignore[arg-type]
    return None if alike else Difference("value", show(got), show(right))

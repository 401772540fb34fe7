"""What a version of the ladder is, and how to compile exactly what it launches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch

from kernels.lab.compiler import Compiled, compile_for


@dataclass(frozen=True)
class Rung:
    """One version of an operation.

    Attributes:
        version: "v1", "v2", ...
        function: takes and returns PyTorch tensors.
        reason: why this version exists, in one line.
    """

    version: str
    function: Callable[..., Any]
    reason: str


def compile_launches(
    function: Callable[..., Any], *args: Any, arch: str, **kwargs: Any
) -> list[Compiled]:
    """The machine code of each launch that ``function(*args, **kwargs)`` makes, in order.

    Nothing runs, so the tensors may be on ``meta``; the blocks, warps and stages are those that
    the function chooses for them.
    """
    made: list[Compiled] = []

    def record(kernel: Any, grid: Any, *launched: Any, memory: Any = None, **options: Any) -> None:
        made.append(compile_for(kernel, *launched, arch=arch, **options))

    with mock.patch.dict(function.__globals__, launch=record):
        function(*args, **kwargs)
    return made


FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def check_float(name: str, tensor: torch.Tensor, dimensions: int | None = None) -> None:
    """Raise unless it is a tensor of fp32, fp16 or bf16 with so many dimensions, none empty."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATS:
        raise TypeError(f"{name}: expected float32, float16 or bfloat16, got {tensor.dtype}")
    if dimensions is not None and tensor.ndim != dimensions:
        raise ValueError(
            f"{name}: expected {dimensions} dimensions, got shape {tuple(tensor.shape)}"
        )
    if tensor.numel() == 0:
        raise ValueError(f"{name}: expected at least one element, got shape {tuple(tensor.shape)}")


def check_like(
    name: str, tensor: torch.Tensor, other: torch.Tensor, shape: tuple[int, ...] | None = None
) -> None:
    """Raise unless dtype and device are those of ``other``, and the shape (too, or as given)."""
    check_float(name, tensor)
    if tensor.dtype != other.dtype:
        raise TypeError(f"{name}: expected {other.dtype} like the others, got {tensor.dtype}")
    if tensor.device != other.device:
        raise ValueError(f"{name}: expected device {other.device}, got {tensor.device}")
    expected = tuple(other.shape) if shape is None else shape
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name}: expected shape {expected}, got {tuple(tensor.shape)}")


def check_contiguous(name: str, tensor: torch.Tensor) -> None:
    """Raise unless the elements lie in memory one after the other."""
    if not tensor.is_contiguous():
        raise ValueError(
            f"{name}: expected a contiguous tensor, got strides {tensor.stride()}; "
            "use .contiguous()"
        )

"""What a step keeps on the device because the host must not wait for it."""

from typing import Any, NamedTuple

import torch


class Control(NamedTuple):
    """What a device knows about the step, one element each."""

    norm: torch.Tensor
    skip: torch.Tensor
    skipped: torch.Tensor


def new_control(device: torch.device) -> Control:
    """No norm yet, nothing to skip and nothing skipped."""
    integers = torch.zeros((2, 1), dtype=torch.int32, device=device)
    return Control(torch.full((1,), torch.nan, device=device), *integers.unbind())


def capturing() -> bool:
    """Whether a CUDA graph is being recorded."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def on_cuda(value: Any) -> bool:
    """Whether it is a tensor that the host could only read by waiting."""
    return isinstance(value, torch.Tensor) and value.device.type != "cpu"


def scalar_on(value: torch.Tensor | float | None, device: torch.device) -> torch.Tensor | None:
    """One fp32 element on the device."""
    if value is None:
        return None
    if isinstance(value, torch.Tensor):
        return value.to(device, torch.float32, non_blocking=True).reshape(1)
    return torch.full((1,), float(value), device=device)

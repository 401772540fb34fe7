"""What may be optimised: parameter groups, gradients and options, checked before any launch."""

import math
from itertools import pairwise
from typing import Any

import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

# Options of torch.optim.AdamW that are in a group besides the numbers, so that a state_dict can
# go there. True is refused for those that change the formula or the way it is computed.
FLAGS: dict[str, Any] = {
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "decoupled_weight_decay": True,
}
_FIXED = ("amsgrad", "differentiable", "decoupled_weight_decay")


def check_group(group: dict[str, Any], index: int, *, stochastic_rounding: bool) -> None:
    """Raise ``ValueError`` or ``TypeError`` for a group that cannot be optimised."""
    where = f"param_groups[{index}]"
    check_hyperparameters(group, where)
    for i, param in enumerate(group["params"]):
        check_parameter(param, f"{where}: parameter {i}", stochastic_rounding)


def check_hyperparameters(group: dict[str, Any], where: str) -> None:
    """The numbers and flags of a group; a schedule may have changed them since they were given."""
    for name in ("lr", "eps", "weight_decay"):
        value = group[name]
        if isinstance(value, torch.Tensor):
            if name != "lr" or value.numel() != 1:
                raise ValueError(f"{where}: {name} must be a number, got {_shape(value)} tensor")
            if value.device.type != "cpu":
                continue  # looking at it would wait for the device
        if not 0 <= float(value) < math.inf:
            raise ValueError(f"{where}: {name} must not be negative or infinite, got {value}")
    betas = group["betas"]
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{where}: betas must be two numbers in [0, 1), got {betas}")
    for flag in _FIXED:
        if group[flag] != FLAGS[flag]:
            raise ValueError(f"{where}: {flag}={group[flag]} is not supported")


def check_parameter(param: torch.Tensor, name: str, stochastic_rounding: bool) -> None:
    if param.dtype not in DTYPES:
        raise TypeError(f"{name} is {param.dtype}; use torch.float32, bfloat16 or float16")
    if stochastic_rounding and param.dtype == torch.float16:
        raise TypeError(f"{name} is torch.float16; stochastic_rounding is for torch.bfloat16")
    if param.device.type not in ("cpu", "cuda"):
        raise ValueError(f"{name} is on {param.device}; use the CPU or CUDA")
    if param.layout != torch.strided:
        raise ValueError(f"{name} of shape {_shape(param)} is sparse; use a dense tensor")
    if not same_layout(torch.empty_like(param, device="meta"), param):
        raise ValueError(
            f"{name} of shape {_shape(param)} is a strided view; "
            "give its own memory to it with .contiguous()"
        )


def check_apart(params: list[torch.Tensor]) -> None:
    """Raise when two parameters share memory: one launch would write it twice at once."""
    places = sorted(
        (str(p.device), p.data_ptr(), p.data_ptr() + p.numel() * p.element_size(), i)
        for i, p in enumerate(params)
        if p.numel()
    )
    for (device, _, end, i), (other, start, _, j) in pairwise(places):
        if device == other and start < end:
            raise ValueError(
                f"parameters {min(i, j)} and {max(i, j)} share memory; give it only once"
            )


def check_state(param: torch.Tensor, state: dict[str, Any], name: str, masters: bool) -> None:
    """Raise where a parameter is no longer what its state was made for: its memory would be read
    as something else."""
    if not state:
        return
    m = state["exp_avg"] if "exp_avg" in state else state["exp_avg_codes"]
    if m.shape != param.shape:
        raise ValueError(
            f"{name} has shape {_shape(param)}, its state {_shape(m)}; make a new optimiser"
        )
    wanted = masters and param.dtype != torch.float32
    if wanted != ("master" in state):
        raise TypeError(
            f"{name} is {param.dtype} and was not at its first step; make a new optimiser"
        )


def check_grad(param: torch.Tensor) -> None:
    """Raise for a gradient that does not fit its parameter."""
    grad = param.grad
    assert grad is not None
    of = f"the gradient of a parameter of shape {_shape(param)}"
    if grad.layout != torch.strided:
        raise ValueError(f"{of} is sparse; use sparse=False or torch.optim.SparseAdam")
    if grad.dtype != param.dtype:
        raise TypeError(f"{of} is {grad.dtype}, expected {param.dtype} like the parameter")
    if grad.shape != param.shape:
        raise ValueError(f"{of} has shape {_shape(grad)}; they must be equal")
    if grad.device != param.device:
        raise ValueError(f"{of} is on {grad.device}, expected {param.device} like the parameter")


def check_max_grad_norm(value: float | None) -> None:
    """Raise unless it is None or a positive number."""
    if value is None or (not isinstance(value, bool | torch.Tensor) and float(value) > 0):
        return
    raise ValueError(f"max_grad_norm must be a number above 0, or None for no limit, got {value}")


def check_seed(seed: int) -> None:
    """Raise unless it fits into 63 bits."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed must be an integer from 0 to 2**63 - 1, got {seed!r}")


def check_scalar(name: str, value: torch.Tensor | float | None) -> None:
    """Raise unless it is None, a positive number, or a tensor of one floating-point element."""
    if isinstance(value, torch.Tensor):
        if value.numel() != 1 or not value.is_floating_point():
            raise ValueError(
                f"{name} must have one floating-point element, got {_shape(value)} {value.dtype}"
            )
    elif value is not None and not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be a number above 0, got {value}")


def same_layout(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the elements of two tensors of one shape lie in memory in the same order."""
    strides = zip(a.shape, a.stride(), b.stride(), strict=True)
    return a.numel() <= 1 or all(x == y for length, x, y in strides if length > 1)


def in_layout(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy of it with the strides of ``like``."""
    if same_layout(tensor, like):
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)

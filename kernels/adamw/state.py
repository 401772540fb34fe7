"""The state of a parameter: what it is, and how that of another optimiser is taken over.

==================  =======================  ===================================================
key                 dtype                    what
==================  =======================  ===================================================
``step``            fp32, one element        steps so far; on the host, or on the device if only
                                             the device knows (capturable, skipping, clipping)
``exp_avg``,        fp32                     the moments, also for bf16 and fp16 parameters
``exp_avg_sq``
``master``          fp32                     the weight that bf16 and fp16 parameters round
``exp_avg_codes``   uint8                    instead of ``exp_avg`` in ``AdamW8bit``, and ``exp_
``exp_avg_scale``   fp32, one a block        avg_sq_codes``, ``exp_avg_sq_scale`` likewise
==================  =======================  ===================================================
"""

from typing import Any

import torch

from kernels.adamw.eight_bit import dequantise, quantise
from kernels.adamw.groups import in_layout

MOMENTS = ("exp_avg", "exp_avg_sq")
_NUMBERS = {"lr", "betas", "eps", "weight_decay"}

State = dict[str, Any]


def new_state(param: torch.Tensor, block_size: int | None, master: bool) -> State:
    """The state before the first step: moments of 0, in 8 bits if there is a block size."""
    state: State = {"step": torch.tensor(0.0)}
    for name in MOMENTS:
        if block_size is None:
            state[name] = torch.zeros_like(param, dtype=torch.float32)
        else:
            blocks = -(-param.numel() // block_size)
            state[f"{name}_codes"] = torch.zeros_like(param, dtype=torch.uint8)
            state[f"{name}_scale"] = torch.zeros(blocks, device=param.device)
    if master:
        state["master"] = param.detach().to(torch.float32, copy=True)
    return state


def moments_in_fp32(state: State, block_size: int) -> dict[str, torch.Tensor]:
    """Both moments in fp32, from either form."""
    return {
        name: state[name]
        if name in state
        else dequantise(
            state[f"{name}_codes"],
            state[f"{name}_scale"],
            signed=name == "exp_avg",
            block_size=block_size,
        )
        for name in MOMENTS
    }


def adopt(
    state: State, param: torch.Tensor, stored_block: int, block_size: int | None, master: bool
) -> State:
    """A copy of somebody's state in the form, the layout and the place that this one needs.

    Moments stay fp32 whatever the parameter is (``torch.optim`` would round them to its dtype).
    """
    own = new_state(param, block_size, master)
    own["step"] = torch.as_tensor(state["step"]).to("cpu", torch.float32, copy=True).reshape(())
    same_codes = block_size == stored_block and "exp_avg_codes" in state
    if block_size is not None and same_codes and _fits(state, own):
        for name in own.keys() - {"step", "master"}:
            own[name].copy_(state[name])
    else:
        for name, values in moments_in_fp32(state, stored_block).items():
            moment = torch.empty_like(param, dtype=torch.float32).copy_(values)
            if block_size is None:
                own[name] = moment
            else:
                codes, scale = quantise(moment, signed=name == "exp_avg", block_size=block_size)
                own[f"{name}_codes"], own[f"{name}_scale"] = codes, scale
    if master and "master" in state:
        own["master"].copy_(state["master"])
    return own


def _fits(state: State, own: State) -> bool:
    """Whether codes are stored in the order of memory that they are needed in."""
    codes = state["exp_avg_codes"]
    return in_layout(codes, own["exp_avg_codes"]) is codes


def reconciled(master: torch.Tensor, param: torch.Tensor) -> torch.Tensor:
    """The master weights, except where somebody has changed the parameter: there it counts."""
    return torch.where(master.to(param.dtype) == param, master, param.to(torch.float32))


def check_state_dict(state_dict: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Raise ``ValueError`` for the state of another optimiser or of other parameters."""
    if not isinstance(state_dict, dict) or not {"state", "param_groups"} <= state_dict.keys():
        raise ValueError("state_dict: expected a dict with state, param_groups")
    for i, group in enumerate(state_dict["param_groups"]):
        if missing := _NUMBERS - group.keys():
            raise ValueError(
                f"state_dict: param_groups[{i}] lacks {', '.join(sorted(missing))}; "
                "this is not the state of an AdamW optimiser"
            )
        for option, wanted in (("amsgrad", False), ("decoupled_weight_decay", True)):
            if group.get(option, wanted) != wanted:
                raise ValueError(f"state_dict: {option}={group[option]} is not supported")
    params = [param for group in groups for param in group["params"]]
    saved = [
        (number, group.get("block_size"))
        for group in state_dict["param_groups"]
        for number in group["params"]
    ]
    for (number, block), param in zip(saved, params, strict=False):
        if state := state_dict["state"].get(number):
            _check_state(state, param, number, block)


def _check_state(state: State, param: torch.Tensor, number: int, block: Any) -> None:
    where = f"state_dict: parameter {number}"
    codes = {f"{name}_{part}" for name in MOMENTS for part in ("codes", "scale")}
    if not ({"step", *MOMENTS} <= state.keys() or {"step", *codes} <= state.keys()):
        found = ", ".join(map(str, state)) or "nothing"
        raise ValueError(f"{where} has {found}; expected step, exp_avg, exp_avg_sq")
    for name in state.keys() & {*MOMENTS, *codes, "master"}:
        _check_tensor(state[name], f"{where}: {name}", integers=name.endswith("_codes"))
        if not name.endswith("_scale") and state[name].shape != param.shape:
            raise ValueError(
                f"{where}: {name} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(param.shape)} like the parameter"
            )
        if name.endswith("_scale") and (
            not isinstance(block, int) or state[name].shape != (-(-param.numel() // block),)
        ):
            raise ValueError(
                f"{where}: {name} has shape {tuple(state[name].shape)}, which does not fit "
                f"block_size={block} and {param.numel()} elements"
            )
    step = torch.as_tensor(state["step"])
    if step.numel() != 1 or not 0 <= float(step) < 2**24:
        raise ValueError(f"{where}: step must be one number from 0 to 2**24, got {state['step']}")


def _check_tensor(value: Any, where: str, *, integers: bool) -> None:
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{where} is a {type(value).__name__}; expected a tensor")
    if value.dtype != torch.uint8 if integers else not value.is_floating_point():
        wanted = "torch.uint8" if integers else "a floating-point tensor"
        raise ValueError(f"{where} is {value.dtype}; expected {wanted}")

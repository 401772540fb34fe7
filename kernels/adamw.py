# mypy: allow-untyped-defs
"""AdamW for a whole model in one launch.

An optimiser step does almost no arithmetic: what it costs is memory traffic and launches. Each
fp32 parameter has to move 28 bytes (read param, grad and two moments, 16; write param and two
moments, 12), and this kernel moves exactly those. One launch serves every tensor: an int64 table
holds the addresses and the length of each, and a map says which piece of which tensor a program
updates.

The constants of a step (1 − β₁, √(1 − β₂ᵗ), ...) are computed on the host in double precision:
1 − β formed from an fp32 β is wrong by 111 ulp at β = 0.999. Operations and roundings follow
PyTorch's (``fma`` where its vector code uses one), so that both moments agree bit for bit.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from kernels.launch import launch

BLOCK = 1024  # parameters a program: two 128-bit loads a thread from each of the four tensors
FIELDS = ("param", "grad", "exp_avg", "exp_avg_sq")


@triton.jit
def _adamw(
    table,  # int64 (tensors, 5): addresses of param, grad, exp_avg, exp_avg_sq; length
    constants,  # fp32 (tensors, 7)
    pieces,  # int32 (programs, 2): tensor, and which BLOCK of it
    ALIGNED: tl.constexpr,  # every address is divisible by 16: 128-bit loads and stores
    BLOCK: tl.constexpr,
):
    piece = pieces + 2 * tl.program_id(0)
    tensor = tl.load(piece).to(tl.int64)
    start = tl.load(piece + 1).to(tl.int64) * BLOCK
    row = table + 5 * tensor
    p = _pointer(row, ALIGNED)
    g = _pointer(row + 1, ALIGNED)
    m = _pointer(row + 2, ALIGNED)
    v = _pointer(row + 3, ALIGNED)
    n = tl.load(row + 4)
    constant = constants + 7 * tensor
    # A mask costs the wide loads, so only the last piece of a tensor has one.
    if start + BLOCK <= n:
        _update(p, g, m, v, start, n, constant, False, BLOCK)
    else:
        _update(p, g, m, v, start, n, constant, True, BLOCK)


@triton.jit
def _pointer(cell, ALIGNED: tl.constexpr):
    """The address in a cell of the table, as a pointer to fp32."""
    pointer = tl.load(cell).to(tl.pointer_type(tl.float32))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


@triton.jit
def _update(
    p_ptr, g_ptr, m_ptr, v_ptr, start, n, constant, MASK: tl.constexpr, BLOCK: tl.constexpr
):
    decay = tl.load(constant)  # 1 - lr * weight_decay
    one_minus_beta1 = tl.load(constant + 1)
    beta2 = tl.load(constant + 2)
    one_minus_beta2 = tl.load(constant + 3)
    eps = tl.load(constant + 4)
    step_size = tl.load(constant + 5)  # -lr / (1 - beta1**step)
    sqrt_correction2 = tl.load(constant + 6)  # sqrt(1 - beta2**step)

    i = start + tl.arange(0, BLOCK)
    if MASK:
        inside = i < n
        p = tl.load(p_ptr + i, mask=inside, other=0.0)
        g = tl.load(g_ptr + i, mask=inside, other=0.0)
        m = tl.load(m_ptr + i, mask=inside, other=0.0)
        v = tl.load(v_ptr + i, mask=inside, other=0.0)
    else:
        p = tl.load(p_ptr + i)
        g = tl.load(g_ptr + i)
        m = tl.load(m_ptr + i)
        v = tl.load(v_ptr + i)

    # From whichever end is nearer: m + (1 - beta1)(g - m) or g + beta1 (m - g).
    near_m = tl.fma(g - m, one_minus_beta1, m)
    near_g = tl.fma(m - g, 1.0 - one_minus_beta1, g)
    m = tl.where(one_minus_beta1 < 0.5, near_m, near_g)
    v = tl.fma(g * one_minus_beta2, g, v * beta2)
    denominator = tl.div_rn(tl.sqrt_rn(v), sqrt_correction2) + eps
    p = p * decay + tl.div_rn(step_size * m, denominator)

    if MASK:
        tl.store(p_ptr + i, p, mask=inside)
        tl.store(m_ptr + i, m, mask=inside)
        tl.store(v_ptr + i, v, mask=inside)
    else:
        tl.store(p_ptr + i, p)
        tl.store(m_ptr + i, m)
        tl.store(v_ptr + i, v)


class Row(NamedTuple):
    """One tensor's part in a step: equal shapes and strides, fp32, and the step's constants."""

    param: torch.Tensor
    grad: torch.Tensor
    exp_avg: torch.Tensor
    exp_avg_sq: torch.Tensor
    constants: tuple[float, ...]


def step_constants(
    step: int, lr: float, betas: tuple[float, float], eps: float, weight_decay: float
) -> tuple[float, ...]:
    """The seven numbers that the kernel needs of step ``step`` (counted from 1), in double."""
    beta1, beta2 = betas
    return (
        1 - lr * weight_decay,
        1 - beta1,
        beta2,
        1 - beta2,
        eps,
        -lr / (1 - beta1**step),
        (1 - beta2**step) ** 0.5,
    )


def update(rows: list[Row], *, block: int = BLOCK) -> None:
    """Update every row in one launch. All rows on one device; empty tensors are left out."""
    rows = [row for row in rows if row.param.numel()]
    if not rows:
        return
    device = rows[0].param.device
    lengths = tuple(row.param.numel() for row in rows)
    addresses = [[t.data_ptr() for t in row[:4]] for row in rows]
    table = [[*row, n] for row, n in zip(addresses, lengths, strict=True)]
    pieces = _pieces(lengths, block)
    launch(
        _adamw,
        (len(pieces),),
        _upload(torch.tensor(table, dtype=torch.int64), device),
        _upload(torch.tensor([row.constants for row in rows], dtype=torch.float32), device),
        _upload(torch.from_numpy(pieces), device),
        memory={name: [getattr(row, name) for row in rows] for name in FIELDS},
        ALIGNED=all(a % 16 == 0 for row in addresses for a in row),
        BLOCK=block,
        num_warps=4,
        enable_fp_fusion=False,  # the fused operations are written out, as PyTorch has them
    )


def _pieces(lengths: tuple[int, ...], block: int) -> "np.ndarray[Any, np.dtype[np.int32]]":
    """(tensor, block of it) for each program."""
    counts = np.array([triton.cdiv(n, block) for n in lengths])
    tensor = np.repeat(np.arange(len(lengths)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    return np.stack([tensor, np.arange(counts.sum()) - first], axis=1).astype(np.int32)


def _upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The values on the device; from pinned memory, so that the copy waits for nothing."""
    return values if device.type == "cpu" else values.pin_memory().to(device, non_blocking=True)


class AdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay, one kernel launch a step for each device.

    p ← p·(1 − lr·wd);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
    p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)

    A ``torch.optim.Optimizer``: parameter groups, closures and learning-rate schedulers work, and
    ``state_dict`` goes to and from ``torch.optim.AdamW`` in the middle of training. Parameters and
    state are fp32, on the CPU (interpreted: for tests and lessons) or on CUDA devices.

    Args:
        params: parameters or groups; a group may set its own ``lr``, ``betas``, ``eps`` and
            ``weight_decay``.

    Raises:
        TypeError: a parameter or gradient that is not fp32.
        ValueError: a hyperparameter out of range; a parameter that is not dense (a strided view)
            or not on a CPU or CUDA device; a sparse gradient; the state of another optimiser.

    Source: Loshchilov and Hutter (arXiv 1711.05101). Counterpart: ``torch.optim.AdamW``.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, **_TORCH_ONLY})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        index = len(self.param_groups) - 1
        try:
            _check_group(self.param_groups[index], index)
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter that has a gradient; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        ready = [(p, group) for group in self.param_groups for p in group["params"]]
        ready = [(p, group) for p, group in ready if p.grad is not None]
        for param, _ in ready:
            _check_grad(param)
        by_device: dict[torch.device, list[Row]] = {}
        for param, group in ready:
            by_device.setdefault(param.device, []).append(self._row(param, group))
        for rows in by_device.values():
            update(rows)
        torch.autograd.graph.increment_version([param for param, _ in ready])
        return loss

    def _row(self, param: torch.Tensor, group: dict[str, Any]) -> Row:
        state = self.state[param]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        state["step"] += 1
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = _in_layout(state[name], param)
        constants = step_constants(
            int(state["step"].item()),
            float(group["lr"]),
            group["betas"],
            group["eps"],
            group["weight_decay"],
        )
        assert param.grad is not None
        grad = _in_layout(param.grad, param)
        return Row(param, grad, state["exp_avg"], state["exp_avg_sq"], constants)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of this class or of ``torch.optim.AdamW``."""
        _check_state(state_dict)
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            group.update(_TORCH_ONLY)


# Options of torch.optim.AdamW that this class has in its groups, so that a state_dict can go there.
_TORCH_ONLY: dict[str, Any] = {
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
    "decoupled_weight_decay": True,
}


def _check_group(group: dict[str, Any], index: int) -> None:
    where = f"param_groups[{index}]"
    for name in ("lr", "eps", "weight_decay"):
        if not float(group[name]) >= 0:
            raise ValueError(f"{where}: {name} must not be negative, got {group[name]}")
    if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"{where}: betas must be two numbers in [0, 1), got {group['betas']}")
    for i, param in enumerate(group["params"]):
        if param.dtype != torch.float32:
            raise TypeError(f"{where}: parameter {i} is {param.dtype}; only torch.float32 works")
        if param.device.type not in ("cpu", "cuda"):
            raise ValueError(f"{where}: parameter {i} is on {param.device}; use the CPU or CUDA")
        if not _same_layout(torch.empty_like(param, device="meta"), param):
            raise ValueError(
                f"{where}: parameter {i} of shape {tuple(param.shape)} is a strided view; "
                "give its own memory to it with .contiguous()"
            )


def _check_grad(param: torch.Tensor) -> None:
    grad = param.grad
    assert grad is not None
    if grad.layout != torch.strided:
        raise ValueError(f"a parameter of shape {tuple(param.shape)} has a sparse gradient")
    if grad.dtype != torch.float32:
        raise TypeError(
            f"the gradient of a parameter of shape {tuple(param.shape)} is {grad.dtype}; "
            "only torch.float32 works"
        )


def _check_state(state_dict: dict[str, Any]) -> None:
    wanted = {"lr", "betas", "eps", "weight_decay"}
    for i, group in enumerate(state_dict["param_groups"]):
        if missing := wanted - group.keys():
            raise ValueError(
                f"state_dict: param_groups[{i}] lacks {', '.join(sorted(missing))}; "
                "this is not the state of an AdamW optimiser"
            )
        for option in ("amsgrad", "maximize", "decoupled_weight_decay"):
            if group.get(option, _TORCH_ONLY[option]) != _TORCH_ONLY[option]:
                raise ValueError(f"state_dict: {option}={group[option]} is not supported")
    for i, state in state_dict["state"].items():
        if not {"step", "exp_avg", "exp_avg_sq"} <= state.keys():
            raise ValueError(
                f"state_dict: parameter {i} has {', '.join(map(str, state)) or 'nothing'}; "
                "expected step, exp_avg, exp_avg_sq"
            )


def _same_layout(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the elements of two tensors of one shape lie in memory in the same order."""
    strides = zip(a.shape, a.stride(), b.stride(), strict=True)
    return a.numel() <= 1 or all(x == y for length, x, y in strides if length > 1)


def _in_layout(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return tensor if _same_layout(tensor, like) else torch.empty_like(like).copy_(tensor)

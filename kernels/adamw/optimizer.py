"""``kernels.AdamW``: the optimiser over the kernels of this package."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from kernels.adamw import groups as group_checks
from kernels.adamw.constants import step_constants
from kernels.adamw.control import Control, capturing, new_control, on_cuda, scalar_on
from kernels.adamw.groups import (
    FLAGS,
    check_apart,
    check_grad,
    check_group,
    check_parameter,
    check_scalar,
    check_state,
    in_layout,
)
from kernels.adamw.state import (
    MOMENTS,
    adopt,
    check_state_dict,
    new_state,
    reconciled,
)
from kernels.adamw.table import Batch, Row, Uploads

Ready = tuple[torch.Tensor, dict[str, Any], int]  # parameter, its group, its number


class AdamW(torch.optim.Optimizer):
    """AdamW with decoupled weight decay, one kernel launch a step for each device.

    p ← p·(1 − lr·wd);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
    p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)

    A ``torch.optim.Optimizer``: parameter groups, closures and learning-rate schedulers work, and
    ``state_dict`` goes to and from ``torch.optim.AdamW`` in the middle of training. Parameters are
    on the CPU (interpreted: for tests and lessons) or on CUDA devices, in fp32, bf16 and fp16,
    mixed as you like. The arithmetic and the moments are fp32 for all of them.

    A bf16 or fp16 parameter is the rounded copy of fp32 weights in ``state[p]["master"]``, so that
    small updates are not lost; where somebody else changes the parameter, its new value counts. A
    write through ``p.data`` is the exception: PyTorch keeps no count of those (``p._version``), so
    the next step undoes it. Write under ``torch.no_grad()`` instead.
    PyTorch's AdamW has no such weights: a state from there starts them at the parameter, and one
    that goes there has its moments rounded to 16 bits by ``load_state_dict``, as all of its are.

    Args:
        params: parameters or groups; a group may set its own ``lr``, ``betas``, ``eps``,
            ``weight_decay``, ``maximize``.
        lr: a number, or a tensor of one element (on the device, with ``capturable``, so that it
            can change between replays of a CUDA graph).
        maximize: go up instead of down.
        capturable: count steps on the device, so that a CUDA graph can replay ``step()``; one tiny
            launch more. Nothing waits for the device in either mode.
        max_grad_norm: scale the gradients down to this global norm, in the update itself (the
            gradients stay as they are); as ``torch.nn.utils.clip_grad_norm_``. It takes one
            launch that reads every gradient, and a tiny one.
        skip_nonfinite: a step whose gradients hold an inf or NaN changes nothing, step counts
            included; ``skipped`` counts those (not part of ``state_dict``). The same two launches.
        stochastic_rounding: bf16 parameters have no master weights and are rounded up or down at
            random, right on average: 22 bytes a parameter move instead of 28.
        seed: of that rounding; with the step count it determines every bit.
        amsgrad, differentiable: must be False. foreach, fused: accepted and without effect.

    ``step(grad_scale=s)`` divides the gradients by s (a number or a tensor of one element) in the
    update; ``torch.amp.GradScaler.step(optimizer)`` does that by itself, and a step that the
    scaler finds infinite is skipped on the device.

    Raises:
        TypeError: a parameter that is not fp32, bf16 or fp16; a gradient of another dtype.
        ValueError: a hyperparameter out of range; a parameter that is not dense (a strided view)
            or not on a CPU or CUDA device; a sparse gradient; the state of another optimiser.

    Sources: Loshchilov and Hutter (arXiv 1711.05101); Micikevicius et al. (arXiv 1710.03740) for
    master weights and scaling. Counterpart: ``torch.optim.AdamW``.
    """

    _step_supports_amp_scaling = True  # GradScaler then sets grad_scale and found_inf
    block_size: int | None = None  # 8-bit codes that share a scale

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        max_grad_norm: float | None = None,
        skip_nonfinite: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None:
        group_checks.check_max_grad_norm(max_grad_norm)
        group_checks.check_seed(seed)
        self.max_grad_norm = max_grad_norm
        self.skip_nonfinite = skip_nonfinite
        self.stochastic_rounding = stochastic_rounding
        self.seed = seed
        self._start()
        numbers = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        flags: dict[str, Any] = {"amsgrad": amsgrad, "maximize": maximize, "capturable": capturable}
        flags |= {"differentiable": differentiable, "foreach": foreach, "fused": fused}
        super().__init__(params, {**numbers, **FLAGS, **flags})

    def _start(self) -> None:
        """What is not state: tables on the device, and when a parameter was last written."""
        self._uploads = Uploads()
        self._control: dict[torch.device, Control] = {}
        self._versions: dict[torch.Tensor, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        own = ("max_grad_norm", "skip_nonfinite", "stochastic_rounding", "seed")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_uploads" not in self.__dict__:  # a copy of an optimiser
            self._start()
        super().__setstate__(state)

    @property
    def grad_norm(self) -> torch.Tensor | None:
        """The norm of all gradients in the last step, before clipping and after ``grad_scale``.

        fp32, on the device; the next step overwrites it. ``None`` when nothing asked for it.
        """
        if not self._measures:
            return None
        return next((c.norm.reshape(()) for c in self._control.values()), None)

    @property
    def _measures(self) -> bool:
        return self.max_grad_norm is not None or self.skip_nonfinite

    @property
    def skipped(self) -> torch.Tensor:
        """How many steps were skipped because of inf or NaN: int32, on the device."""
        counts = (c.skipped.reshape(()) for c in self._control.values())
        return next(counts, torch.tensor(0, dtype=torch.int32))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        index = len(self.param_groups) - 1
        try:
            check_group(
                self.param_groups[index], index, stochastic_rounding=self.stochastic_rounding
            )
            check_apart([p for group in self.param_groups for p in group["params"]])
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        grad_scale: torch.Tensor | float | None = None,
    ) -> Any:
        """One step for every parameter that has a gradient; returns what ``closure`` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        scale = getattr(self, "grad_scale", None) if grad_scale is None else grad_scale
        found_inf = getattr(self, "found_inf", None)
        ready = self._checked(scale)
        if not ready:
            return loss
        on_device = self._counts_on_device(scale, found_inf)
        batches = self._batches(ready, on_device)
        if on_device:
            self._update_on_device(batches, scale, found_inf)
        else:
            for batch, _ in batches:
                batch.step()
        params = [param for param, *_ in ready]
        torch.autograd.graph.increment_version(params)
        self._versions.update((param, param._version) for param in params)
        return loss

    def _checked(self, scale: torch.Tensor | float | None) -> list[Ready]:
        """Every parameter with a gradient; raises before anything has changed."""
        group_checks.check_max_grad_norm(self.max_grad_norm)
        check_scalar("grad_scale", scale)
        for i, group in enumerate(self.param_groups):
            group_checks.check_hyperparameters(group, f"param_groups[{i}]")
        params = [(param, group) for group in self.param_groups for param in group["params"]]
        ready = [
            (param, group, number)
            for number, (param, group) in enumerate(params)
            if param.grad is not None
        ]
        for param, _, number in ready:
            name = f"parameter {number}"
            check_parameter(param, name, self.stochastic_rounding)
            check_state(param, self.state.get(param, {}), name, not self.stochastic_rounding)
            check_grad(param)
        return ready

    def _counts_on_device(
        self, scale: torch.Tensor | float | None, found_inf: torch.Tensor | None
    ) -> bool:
        """Whether the host cannot know the constants of this step without waiting."""
        capturable = any(group["capturable"] for group in self.param_groups)
        if not capturable and capturing():
            raise RuntimeError("step() in a CUDA graph needs an AdamW with capturable=True")
        return (
            capturable
            or self.skip_nonfinite
            or not all(x is None for x in (self.max_grad_norm, scale, found_inf))
            or any(on_cuda(group["lr"]) for group in self.param_groups)
        )

    def _batches(
        self, ready: list[Ready], on_device: bool
    ) -> list[tuple[Batch, list[dict[str, Any]]]]:
        """For each device its rows, and the group of each row."""
        by_device: dict[torch.device, list[Ready]] = {}
        for one in ready:
            by_device.setdefault(one[0].device, []).append(one)
        return [
            (
                Batch(
                    [self._row(*one, on_device) for one in mine],
                    self._uploads,
                    quant=self.block_size or 256,
                ),
                [group for _, group, _ in mine],
            )
            for mine in by_device.values()
        ]

    def _row(self, param: torch.Tensor, group: dict[str, Any], number: int, on_device: bool) -> Row:
        assert param.grad is not None
        state = self._state_of(param)
        constants: tuple[float, ...] = ()
        steps = 0
        state["step"] = state["step"].to(param.device if on_device else "cpu")
        if not on_device:
            state["step"] += 1
            steps = int(state["step"].item())
            numbers = (group["betas"], group["eps"], group["weight_decay"])
            constants = step_constants(steps, float(group["lr"]), *numbers)
        m, v = (state[n] if n in state else state[f"{n}_codes"] for n in MOMENTS)
        return Row(
            param,
            in_layout(param.grad, param),
            m,
            v,
            constants,
            master=state.get("master"),
            exp_avg_scale=state.get("exp_avg_scale"),
            exp_avg_sq_scale=state.get("exp_avg_sq_scale"),
            step=state["step"],
            factor=-1.0 if group["maximize"] else 1.0,
            steps=steps,
            seed=self.seed,
            number=number,
        )

    def _state_of(self, param: torch.Tensor) -> dict[str, Any]:
        """The parameter's state, with each tensor in the parameter's layout."""
        state = self.state[param]
        if not state:
            state.update(new_state(param, self._codes_a_scale(param), self._has_master(param)))
        for name in state.keys() & {*MOMENTS, "master"}:
            state[name] = in_layout(state[name], param)
        if "master" in state and self._versions.get(param) != param._version:
            state["master"] = reconciled(state["master"], param)
        return state

    def _has_master(self, param: torch.Tensor) -> bool:
        return param.dtype != torch.float32 and not self.stochastic_rounding

    def _codes_a_scale(self, param: torch.Tensor) -> int | None:
        """How many 8-bit codes share a scale, or None for fp32 moments."""
        return None

    def _update_on_device(
        self,
        batches: list[tuple[Batch, list[dict[str, Any]]]],
        scale: torch.Tensor | float | None,
        found_inf: torch.Tensor | None,
    ) -> None:
        measured = self._measures
        skips = self.skip_nonfinite or found_inf is not None
        parts = [batch.partial_norms() for batch, _ in batches] if measured else []
        for batch, groups in batches:
            control = self._control_of(batch.device)
            here = [part.to(batch.device, non_blocking=True) for part in parts]
            constants = batch.device_constants(
                groups,
                partials=torch.cat(here) if measured else None,
                max_norm=self.max_grad_norm,
                grad_scale=scalar_on(scale, batch.device),
                found_inf=scalar_on(found_inf, batch.device),
                norm=control.norm if measured else None,
                skip=control.skip if skips else None,
                skipped=control.skipped if skips else None,
            )
            batch.update(constants, control.skip if skips else None)

    def _control_of(self, device: torch.device) -> Control:
        if device not in self._control:
            self._control[device] = new_control(device)
        return self._control[device]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a copy of the state of this class, ``AdamW8bit`` or ``torch.optim.AdamW``."""
        held: dict[str, Any] = {}

        def hold_back(_: Any, given: dict[str, Any]) -> dict[str, Any]:
            """After the user's hooks: PyTorch gets the groups, and does not round the state."""
            check_state_dict(given, self.param_groups)
            held.update(given)
            return {**given, "state": {}}

        with_state = self.register_load_state_dict_pre_hook(hold_back)
        try:
            super().load_state_dict(state_dict)
        finally:
            with_state.remove()
        self._versions.clear()
        for theirs, group in zip(held["param_groups"], self.param_groups, strict=True):
            block = group.get("block_size", 0)
            for name, value in FLAGS.items():
                group.setdefault(name, value)
            group["foreach"] = group["fused"] = None
            self._adopt_group(group)
            for number, param in zip(theirs["params"], group["params"], strict=True):
                if state := held["state"].get(number):
                    mine = self._codes_a_scale(param), self._has_master(param)
                    self.state[param] = adopt(state, param, block, *mine)

    def _adopt_group(self, group: dict[str, Any]) -> None:
        group.pop("block_size", None)

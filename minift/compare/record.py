"""What goes into and comes out of each module of a model, forward and backward.

Attention is no module but a function; calls of PyTorch's ``scaled_dot_product_attention``, or the
formula step by step, are seen on their way and recorded between the modules.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Key = tuple[str, str, int]
MATMUL = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)
TANH = (torch.tanh, Tensor.tanh)


@dataclass
class Step:
    """One tensor on its way: the input or the output of a module's n-th call."""

    name: str
    side: str
    """ "input" or "output"."""
    turn: int
    value: Tensor
    gradient: Tensor | None = None
    attention: "Attention | None" = None
    """Of an input: the attention computed between the module before and this one."""

    @property
    def key(self) -> Key:
        """What the same step has in the other model's record."""
        return (self.name, self.side, self.turn)


@dataclass(frozen=True)
class Attention:
    """The arguments of one ``scaled_dot_product_attention``."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    causal: bool
    scale: float
    scores: Tensor | None = None
    """Where the formula was computed step by step: what went into the softmax."""
    capped: tuple[Tensor, Tensor] | None = None
    """Input and output of a tanh on the way there."""


@dataclass
class Trace:
    """The steps of one run, in order."""

    steps: list[Step] = field(default_factory=list)

    def by_key(self) -> dict[Key, Step]:
        """The steps by name, side and turn."""
        return {step.key: step for step in self.steps}


@contextmanager
def recording(
    modules: Mapping[str, nn.Module], layers: Mapping[str, nn.Module], trace: Trace
) -> Iterator[None]:
    """Fill ``trace`` during the block: inputs and outputs of modules, outputs of layers."""
    watch, turns, handles = _Watch(), Counter[tuple[str, str]](), []

    def note(name: str, side: str, given: Any) -> None:
        tensor = _first_tensor(given)
        if tensor is None:
            return
        step = Step(name, side, turns[name, side], tensor.detach().clone())
        turns[name, side] += 1
        if side == "input":
            step.attention = watch.take()
        elif tensor.requires_grad:
            tensor.register_hook(lambda gradient: setattr(step, "gradient", gradient.detach()))
        trace.steps.append(step)

    for name, module in {**layers, **modules}.items():
        if name in modules:
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: note(name, "input", (*args, kwargs)),
                    with_kwargs=True,
                )
            )
        handles.append(
            module.register_forward_hook(lambda _, __, out, name=name: note(name, "output", out))
        )
    try:
        with watch:
            yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch(TorchFunctionMode):
    """Remembers the last attention until the next module takes it."""

    last: Attention | None = None
    product: tuple[Tensor, Tensor] | None = None
    capped: tuple[Tensor, Tensor] | None = None
    scores: Tensor | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            self.last = _attention(*args, **(kwargs or {}))
        elif isinstance(out, Tensor) and out.dim() == 4:
            self._step_by_step(func, args, out)
        return out

    def _step_by_step(self, func: Any, args: tuple[Any, ...], out: Tensor) -> None:
        """The formula written out: q kᵀ, a tanh perhaps, the softmax, and the product with v."""
        if func in TANH:
            self.capped = (args[0].detach(), out.detach())
        elif func in SOFTMAX:
            self.scores = args[0].detach()
        elif func in MATMUL and self.scores is not None and args[0].shape == self.scores.shape:
            assert self.product is not None
            q, k = self.product
            v = args[1].detach()
            self.last = Attention(q, k, v, None, False, 1.0, self.scores, self.capped)
            self.scores = self.capped = self.product = None
        elif func in MATMUL:
            self.product = (args[0].detach(), args[1].detach().transpose(-2, -1))

    def take(self) -> Attention | None:
        """The attention since the last call, if there was one."""
        found, self.last = self.last, None
        return found


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Attention:
    mask = None if attn_mask is None else attn_mask.detach()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (x.detach().clone() for x in (query, key, value))
    return Attention(q, k, v, mask, is_causal, float(scale))


def _first_tensor(given: Any) -> Tensor | None:
    """The tensor that flows through a module: the first among its arguments or results."""
    if isinstance(given, Tensor):
        return given
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, (tuple, list)):
        for item in given:
            if (found := _first_tensor(item)) is not None:
                return found
    return None


def same(one: Tensor, other: Tensor) -> bool:
    """Equal in shape and in every number."""
    return one.shape == other.shape and torch.equal(one, other)


def like(value: Tensor, reference: Tensor) -> Tensor:
    """Heads before tokens or tokens before heads, as the other model has it."""
    turned = value.transpose(1, 2) if value.dim() == 4 else value
    if value.dim() != 4 or turned.shape != reference.shape:
        return value
    if value.shape != reference.shape:
        return turned
    near, far = ((x - reference).abs().max() for x in (value, turned))
    return value if bool(near <= far) else turned

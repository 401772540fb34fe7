"""Activation patching: put what a module gave in one run into another run, and see what changes.

Vig et al. 2020 (arXiv:2004.12265) and Meng et al. 2022 (arXiv:2202.05262), section 2 ("causal
tracing"): two texts that differ in a few tokens give two answers. Where the clean run's activation,
put into the corrupted run, brings the clean answer back, the difference is carried.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minift.errors import InputError, one_of
from minift.inspect.stack import evaluating, first_tensor, layer_names, with_first


@dataclass(frozen=True)
class Patching:
    """The metric after each patch, and without any."""

    scores: Tensor
    """``(modules, T)``: module m patched at token t."""
    clean: float
    corrupted: float
    modules: tuple[str, ...]

    @property
    def recovered(self) -> Tensor:
        """0 where a patch changes nothing, 1 where it brings the whole clean answer back."""
        return (self.scores - self.corrupted) / (self.clean - self.corrupted)


@torch.no_grad()
def activation_patching(
    model: nn.Module,
    clean: Tensor,
    corrupted: Tensor,
    metric: Callable[[Any], Tensor],
    *,
    modules: Sequence[str] | None = None,
) -> Patching:
    """Patch each module at each token with the clean run's activation.

    Args:
        clean, corrupted: ids ``(1, T)`` of the two texts, as many tokens each.
        metric: the model's output for N sequences → ``(N,)``, such as the difference of two
            logits at the last token.
        modules: dotted names, from ``layer_names`` or ``named_modules``; ``None``: the layers.

    Raises:
        InputError: texts of different lengths, several at once, an unknown module, a metric of
            another shape, or one that does not tell the two texts apart.
    """
    if clean.shape != corrupted.shape or clean.shape[0] != 1:
        shapes = f"{tuple(clean.shape)} and {tuple(corrupted.shape)}"
        raise InputError(f"clean, corrupted: shapes {shapes}; right: (1, T) twice")
    names = tuple(layer_names(model) if modules is None else modules)
    with evaluating(model):
        saved = recorded(model, clean, names)
        base = [_one(metric(model(ids)), 1) for ids in (clean, corrupted)]
        if float(base[0]) == float(base[1]):
            raise InputError(f"metric: {float(base[0]):g} for both texts; right: one that differs")
        tokens = clean.shape[1]
        at = torch.eye(tokens, dtype=torch.bool, device=clean.device)  # sequence t: token t
        copies = corrupted.expand(tokens, -1)  # (T, T)
        scores = []
        for name in names:
            with patched(model, {name: saved[name]}, at):
                scores.append(_one(metric(model(copies)), tokens))
    return Patching(torch.stack(scores), float(base[0]), float(base[1]), names)


@torch.no_grad()
def recorded(model: nn.Module, input_ids: Tensor, modules: Sequence[str]) -> dict[str, Tensor]:
    """What each module gives in a run, ``(B, T, …)``.

    Raises:
        InputError: an unknown module.
    """
    saved: dict[str, Tensor] = {}

    def save(name: str) -> Callable[..., None]:
        return lambda _, __, out: saved.update({name: first_tensor(out).detach()})

    handles = [_module(model, name).register_forward_hook(save(name)) for name in modules]
    try:
        model(input_ids)
    finally:
        for handle in handles:
            handle.remove()
    return saved


@contextmanager
def patched(
    model: nn.Module, activations: Mapping[str, Tensor], where: Tensor | None = None
) -> Iterator[None]:
    """Inside the block, modules give these activations instead of their own.

    Args:
        activations: by dotted name, broadcastable to what the module gives, ``(B, T, C)``.
        where: ``(B, T)`` or ``(T,)``, True where to replace; ``None``: everywhere.

    Raises:
        InputError: an unknown module.
    """

    def swap(value: Tensor) -> Callable[..., Any]:
        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            own = first_tensor(output)
            replaced = value.expand_as(own)
            if where is not None:
                replaced = torch.where(where[..., None], replaced, own)  # (B, T, C)
            return with_first(output, replaced)

        return hook

    handles = []
    try:
        for name, value in activations.items():
            handles.append(_module(model, name).register_forward_hook(swap(value)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _module(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise one_of("module", name, layer_names(model)) from None


def _one(values: Tensor, sequences: int) -> Tensor:
    if values.shape != (sequences,):
        raise InputError(
            f"metric: gives shape {tuple(values.shape)} for {sequences} sequences; "
            f"right: ({sequences},), one number each"
        )
    return values

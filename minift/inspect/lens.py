"""The logit lens: what each layer would say if it were the last."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.inspect.stack import evaluating, first_tensor, layer_names, with_first


@torch.no_grad()
def logit_lens(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """The logits read off after the embedding and after each layer: ``(layers + 1, B, T, V)``.

    What flows between two layers goes straight to the model's own final norm and head, whatever
    they are; the last entry is the model's logits. nostalgebraist 2020, "interpreting GPT: the
    logit lens".

    Raises:
        InputError: a model without a head, or without a single stack of layers.
    """
    layers = [model.get_submodule(name) for name in layer_names(model)]
    with evaluating(model):
        states, outputs, logits = _states(model, layers, input_ids, attention_mask)
        if logits is None:
            raise InputError(
                f"model: {type(model).__name__} has no logits; right: a model with a head"
            )
        read = []
        for state in states[:-1]:
            with _passing(layers, outputs, state):
                read.append(model(input_ids, attention_mask).logits)
    return torch.stack([*read, logits])


def _states(
    model: nn.Module, layers: list[nn.Module], input_ids: Tensor, attention_mask: Tensor | None
) -> tuple[list[Tensor], list[Any], Tensor | None]:
    """The first layer's input and each layer's output, the outputs as they are, and the logits."""
    states: list[Tensor] = []
    outputs: list[Any] = []
    handles = [layers[0].register_forward_pre_hook(lambda _, args: states.append(args[0]))]
    for layer in layers:
        handles.append(layer.register_forward_hook(lambda _, __, out: outputs.append(out)))
    try:
        logits = model(input_ids, attention_mask).logits
    finally:
        for handle in handles:
            handle.remove()
    return [*states, *map(first_tensor, outputs)], outputs, logits


@contextmanager
def _passing(layers: list[nn.Module], outputs: list[Any], state: Tensor) -> Iterator[None]:
    """Every layer gives ``state``, at no cost, in the form that it gives its own results in."""
    own = [layer.__dict__.get("forward") for layer in layers]
    for layer, output in zip(layers, outputs, strict=True):
        result = with_first(output, state)
        layer.forward = lambda *_, result=result, **__: result
    try:
        yield
    finally:
        for layer, forward in zip(layers, own, strict=True):
            del layer.forward
            if forward is not None:
                layer.forward = forward

"""The stack of layers of a model, and what its modules give."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from minift.errors import InputError
from minift.models.loading import family_of


def layer_names(model: nn.Module, part: str = "") -> list[str]:
    """The dotted names of a model's layers, or of a ``part`` of each: ``"attention"``.

    Raises:
        InputError: the model has no single stack of layers (an encoder-decoder), or its layers
            have no such part.
    """
    prefix = family_of(model).prefix
    base = getattr(model, prefix, model)
    layers = getattr(base, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise InputError(
            f"model: {type(model).__name__} has no single stack of layers; "
            "right: an encoder or a decoder"
        )
    start = "" if base is model else f"{prefix}."
    names = [f"{start}layers.{i}" for i in range(len(layers))]
    if part:
        names = [f"{name}.{part}" for name in names]
        known = dict(model.named_modules())
        if any(name not in known for name in names):
            parts = [name for name, _ in layers[0].named_children()]
            raise InputError(f"part: {part!r}; known: {', '.join(parts)}")
    return names


def first_tensor(output: Any) -> Tensor:
    """What flows on: a module's output, or the first of several."""
    tensor = output[0] if isinstance(output, tuple) else output
    assert isinstance(tensor, Tensor)
    return tensor


def with_first(output: Any, tensor: Tensor) -> Any:
    """The same output with another tensor flowing on."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Dropout off inside the block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)

"""Setting dropout for a run, whatever a checkpoint was trained with."""

from torch import nn


def set_dropout(model: nn.Module, p: float, attention_p: float | None = None) -> None:
    """Set the probability of every dropout in ``model``: of activations and, where a layer drops
    attention probabilities (its ``dropout_p``), of those too (``attention_p``; None: the same)."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        elif hasattr(module, "dropout_p"):
            setattr(module, "dropout_p", p if attention_p is None else attention_p)  # noqa: B010

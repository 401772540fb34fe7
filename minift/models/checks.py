"""Checks of what is fed to a model: one clear line instead of an index error deep inside."""

import torch
from torch import Tensor

from minift.errors import InputError


def check_inputs(
    input_ids: Tensor,
    attention_mask: Tensor | None,
    *,
    vocab_size: int,
    max_positions: int | None,
    past: int = 0,
    names: tuple[str, str] = ("input_ids", "attention_mask"),
) -> None:
    """Check ids ``(B, T)`` and mask ``(B, past + T)`` before they reach an embedding table.

    ``max_positions`` is ``None`` where there is no table of positions; ``names`` are those of the
    two arguments, for the message.

    Raises:
        InputError: wrong type or shape, an id outside the vocabulary, or a sequence longer than
            the position table.
    """
    check_ids(names[0], input_ids, vocab_size, "vocab_size")
    batch, length = input_ids.shape
    if max_positions is not None and past + length > max_positions:
        raise InputError(
            f"{names[0]}: {past + length} tokens are more than the model's {max_positions} "
            "positions; right: truncate, e.g. tokenizer(text, truncation=True)"
        )
    if attention_mask is not None and attention_mask.shape != (batch, past + length):
        raise InputError(
            f"{names[1]}: shape {tuple(attention_mask.shape)}; right: "
            f"{(batch, past + length)}, one entry for each token (cached ones included)"
        )


def check_ids(name: str, ids: Tensor, size: int, size_name: str) -> None:
    """Raises InputError unless ``ids`` is a non-empty integer ``(B, T)`` in 0…size−1."""
    if ids.dtype not in (torch.int64, torch.int32):
        raise InputError(f"{name}: dtype {ids.dtype}; right: torch.int64")
    if ids.dim() != 2 or ids.numel() == 0:
        raise InputError(f"{name}: shape {tuple(ids.shape)}; right: (batch, tokens), not empty")
    if torch.compiler.is_compiling():
        return
    low, high = (int(x) for x in ids.aminmax())
    if low < 0 or high >= size:
        wrong = low if low < 0 else high
        raise InputError(f"{name}: id {wrong} is outside 0…{size - 1} ({size_name} {size})")


def refuse_token_types(given: object) -> None:
    """Raises InputError unless ``token_type_ids``, which a tokenizer may hand over, is ``None``."""
    if given is not None:
        raise InputError("token_type_ids: this model has no table of them; right: None")


def check_labels(labels: Tensor, shape: tuple[int, ...], classes: int) -> None:
    """Raises InputError unless ``labels`` has ``shape`` and holds 0…classes−1 or −100 (ignored)."""
    if labels.dtype != torch.int64:
        raise InputError(f"labels: dtype {labels.dtype}; right: torch.int64")
    if tuple(labels.shape) != tuple(shape):
        raise InputError(f"labels: shape {tuple(labels.shape)}; right: {tuple(shape)}")
    if torch.compiler.is_compiling():
        return
    wrong = labels[((labels < 0) & (labels != -100)) | (labels >= classes)]
    if wrong.numel():
        raise InputError(
            f"labels: {int(wrong[0])} is outside 0…{classes - 1}; right: a class, or −100 to ignore"
        )

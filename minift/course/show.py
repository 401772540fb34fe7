"""Values shown small: enough to see what went wrong, the same text on every machine."""

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_ELEMENTS = 24
MAX_CHARACTERS = 160

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # differs from run to run


def show(value: Any) -> str:
    """A value in one line; large tensors by type and shape, long lists cut."""
    if isinstance(value, Tensor):
        return _tensor(value)
    if isinstance(value, dict):
        return _cut(", ".join(f"{name} = {show(item)}" for name, item in value.items()))
    if isinstance(value, BaseException):
        return _cut(f"{type(value).__name__}: {value}")
    if _holds_tensors(value):
        return "(" + ", ".join(show(item) for item in value) + ")"
    text = _number(value) if isinstance(value, (bool, int, float)) else _repr(value)
    return _cut(_ADDRESS.sub("", text))


def _repr(value: Any) -> str:
    """What the learner's own ``__repr__`` says, if it can."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def kind(value: Any) -> str:
    """The type of a value in words: ``float32 tensor of shape (2, 3)``, ``list``, ``int``."""
    if isinstance(value, Tensor):
        sparse = "" if value.layout == torch.strided else "sparse "
        return f"{sparse}{_dtype(value)} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return "NumPy array"
    return str(getattr(value, "in_words", type(value).__name__))


def a_kind(value: Any) -> str:
    """``kind`` with its article: ``a float32 tensor of shape (2, 3)``, ``an int``."""
    name = kind(value)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _tensor(value: Tensor) -> str:
    head = f"{_dtype(value)} {tuple(value.shape)}"
    if value.is_meta:
        return f"{head} on meta"
    if value.numel() > MAX_ELEMENTS or value.layout != torch.strided:
        return head
    return f"{head} {_nested(value.detach().tolist())}"


def _nested(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_nested(item) for item in value) + "]"
    return str(int(value)) if isinstance(value, bool) else _number(value)


def _number(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and any(isinstance(v, torch.Tensor) for v in value)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 2] + " …"

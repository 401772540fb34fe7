"""LoRA: fine-tune a low-rank update instead of the weight (Hu et al. 2021, arXiv:2106.09685).

    y = W x + b + (α / r) · B A dropout(x)          A: (r, in), B: (out, r), section 4.1

W and b are frozen. A starts random and B zero, so that training starts from the model as it was;
afterwards B A can be added to W, and the adapted model costs nothing extra. ``lora_files`` saves
adapters for the ``peft`` library and loads them.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.models.checkpoint import listed
from minift.models.loading import family_of

M = TypeVar("M", bound=nn.Module)


class LoraLinear(nn.Module):
    """A frozen ``nn.Linear`` and its low-rank update; ``x: (..., in)`` → ``(..., out)``."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.r, self.alpha = r, alpha
        self.dropout = nn.Dropout(dropout)
        self.a = nn.Parameter(base.weight.new_empty(r, base.in_features))
        self.b = nn.Parameter(base.weight.new_zeros(base.out_features, r))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))  # as nn.Linear starts

    @property
    def scaling(self) -> float:
        return self.alpha / self.r

    def forward(self, x: Tensor) -> Tensor:
        update = nn.functional.linear(nn.functional.linear(self.dropout(x), self.a), self.b)
        return self.base(x) + update * self.scaling

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The plain layer with ``W + (α / r) · B A``."""
        self.base.weight += (self.b @ self.a) * self.scaling
        return self.base.requires_grad_(True)


def add_lora(
    model: M,
    targets: str | Iterable[str],
    r: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    *,
    modules_to_save: Iterable[str] = (),
) -> M:
    """Freeze ``model`` and put adapters on its linear layers; changes it in place.

    Args:
        targets: ends of module paths, ours or Hugging Face's (``"query"``, ``"c_attn"``), or one
            string, a regular expression for whole Hugging Face paths (as in ``peft``).
        modules_to_save: modules that stay trainable and are saved too, such as ``"classifier"``.

    Raises:
        InputError: a target or module that is not there, adapters already there, r below 1, a
            dropout outside [0, 1).
    """
    if r < 1 or not 0.0 <= dropout < 1.0:
        raise InputError(f"r: {r}, dropout: {dropout}; right: r ≥ 1 and 0 ≤ dropout < 1")
    if any(isinstance(module, LoraLinear) for module in model.modules()):
        raise InputError("model: has adapters already; right: merge_lora(model) first")
    chosen = _chosen(model, targets)
    kept = list(modules_to_save)
    for name in kept:
        if not hasattr(model, name):
            raise InputError(f"modules_to_save: {type(model).__name__} has no {name!r}")
    model.requires_grad_(False)
    for path, layer in chosen.items():
        model.set_submodule(path, LoraLinear(layer, r, alpha, dropout))
    for name in kept:
        model.get_submodule(name).requires_grad_(True)
    return model


def merge_lora(model: M) -> M:
    """Add every adapter to its weight and make the model an ordinary one again; in place."""
    for path, adapter in list(adapters(model)):
        model.set_submodule(path, adapter.merged())
    return model.requires_grad_(True)


def adapters(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    """The adapters of a model, with the paths of the layers that they stand in for."""
    return ((path, m) for path, m in model.named_modules() if isinstance(m, LoraLinear))


def their_path(model: nn.Module, path: str) -> str:
    """Hugging Face's path of a module of ours."""
    return family_of(model).theirs(f"{path}.weight").removesuffix(".weight")


def _chosen(model: nn.Module, targets: str | Iterable[str]) -> dict[str, nn.Linear]:
    linear = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    theirs = {path: their_path(model, path) for path in linear}
    if isinstance(targets, str):
        try:
            matches = {targets: [p for p in linear if re.fullmatch(targets, theirs[p])]}
        except re.error as error:
            raise InputError(
                f"targets: {targets!r} is not a regular expression ({error.msg})"
            ) from None
    else:
        ends = {p: (f".{p}", f".{theirs[p]}") for p in linear}
        matches = {
            t: [p for p in linear if any(e.endswith(f".{t}") for e in ends[p])] for t in targets
        }
    unused = [target for target, paths in matches.items() if not paths]
    if unused or not matches:
        known = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
        what = f"{listed(unused)} is no linear layer" if unused else "none given"
        raise InputError(f"targets: {what}; known: {known}")
    return {path: linear[path] for paths in matches.values() for path in paths}

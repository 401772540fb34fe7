"""LoRA: fine-tune a low-rank update instead of the weight (Hu et al. 2021, arXiv:2106.09685).

    y = W x + b + (α / r) · B A dropout(x)          A: (r, in), B: (out, r), section 4.1

W and b are frozen. A starts random and B zero, so that training starts from the model as it was;
afterwards B A can be added to W, and the adapted model costs nothing extra. Adapters are saved in
the layout of the ``peft`` library, which loads them.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.files import write_json
from minift.models.checkpoint import filling, listed, read_file, read_json_object, write_file
from minift.models.loading import family_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASK_TYPES = {"BertForTokenClassification": "TOKEN_CLS", "GPT2LMHeadModel": "CAUSAL_LM"}
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
    targets = targets if isinstance(targets, str) else list(targets)
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
    for path, adapter in list(_adapters(model)):
        model.set_submodule(path, adapter.merged())
    return model.requires_grad_(True)


def save_lora(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` that ``peft`` loads.

    Raises:
        InputError: the model has no adapters.
    """
    adapters = dict(_adapters(model))
    if not adapters:
        raise InputError("model: has no adapters; right: add_lora(model, …) first")
    family, first = family_of(model), next(iter(adapters.values()))
    saved = [name for name in _whole(model) if name.rpartition(".")[0] not in adapters]
    config = {
        "peft_type": "LORA",
        "task_type": TASK_TYPES.get(type(model).__name__),
        "base_model_name_or_path": None,
        "r": first.r,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout.p,
        "target_modules": [_their_path(model, path) for path in adapters],
        "fan_in_fan_out": any(family.is_transposed(f"{path}.weight") for path in adapters),
        "modules_to_save": sorted({name.split(".")[0] for name in saved}) or None,
        "bias": "none",
        "inference_mode": True,
    }
    tensors = {key: value.detach().cpu() for key, value in _named(model).items()}
    with filling(folder) as place:
        write_file(place / WEIGHTS, tensors)
        write_json(place / CONFIG, config)


def load_lora(model: M, folder: str | os.PathLike[str]) -> M:
    """Put the adapters of a folder, ours or ``peft``'s, on ``model``; changes it in place.

    Raises:
        InputError: an option that is not plain LoRA, or weights that do not fit the model.
    """
    folder = Path(folder)
    config = read_json_object(folder / CONFIG)
    plain = {"peft_type": "LORA", "bias": "none", "use_rslora": False, "use_dora": False}
    plain |= {"rank_pattern": {}, "alpha_pattern": {}, "lora_bias": False}
    for name, right in plain.items():
        if config.get(name, right) != right:
            given = config[name]
            raise InputError(f"{folder / CONFIG}: {name}={given!r} is not supported; {right!r} is")
    kept = [name for name in config.get("modules_to_save") or () if hasattr(model, name)]
    tensors = read_file(folder / WEIGHTS)
    add_lora(
        model,
        config["target_modules"],
        config["r"],
        config["lora_alpha"],
        config.get("lora_dropout", 0.0),
        modules_to_save=kept,
    )
    _fill(_named(model), tensors, str(folder / WEIGHTS))
    return model


def _fill(wanted: dict[str, nn.Parameter], given: dict[str, Tensor], source: str) -> None:
    wrong = [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    wrong += wanted.keys() ^ given.keys()
    if wrong:
        raise InputError(f"{source}: does not fit the model: {listed(sorted(wrong))}")
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(given[key])


def _adapters(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    return ((path, m) for path, m in model.named_modules() if isinstance(m, LoraLinear))


def _their_path(model: nn.Module, path: str) -> str:
    return family_of(model).theirs(f"{path}.weight").removesuffix(".weight")


def _chosen(model: nn.Module, targets: str | list[str]) -> dict[str, nn.Linear]:
    linear = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    if isinstance(targets, str):
        found = {p: m for p, m in linear.items() if re.fullmatch(targets, _their_path(model, p))}
        unused = [] if found else [targets]
    else:
        ends = {p: (f".{p}", f".{_their_path(model, p)}") for p in linear}
        match = {
            t: [p for p in linear if any(e.endswith(f".{t}") for e in ends[p])] for t in targets
        }
        found = {p: linear[p] for paths in match.values() for p in paths}
        unused = [target for target, paths in match.items() if not paths]
    if unused or not found:
        ours = sorted({path.rpartition(".")[2] for path in linear})
        raise InputError(f"targets: {listed(unused)} is no linear layer; known: {', '.join(ours)}")
    return found


def _whole(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters besides the adapters'."""
    adapters = tuple(f"{path}." for path, _ in _adapters(model))
    named = model.named_parameters()
    return {n: p for n, p in named if p.requires_grad and not n.startswith(adapters)}


def _named(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every trained parameter under ``peft``'s name."""
    root, named = "base_model.model.", {}
    for path, adapter in _adapters(model):
        named[f"{root}{_their_path(model, path)}.lora_A.weight"] = adapter.a
        named[f"{root}{_their_path(model, path)}.lora_B.weight"] = adapter.b
    for name, parameter in _whole(model).items():
        named[f"{root}{family_of(model).theirs(name)}"] = parameter
    return named

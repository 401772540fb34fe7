"""LoRA adapters on disk, in the layout of the ``peft`` library, both ways."""

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from minift.adapt.lora import adapters, add_lora, their_path
from minift.errors import InputError
from minift.files import write_json
from minift.models.checkpoint import filling, listed, read_file, read_json_object, write_file
from minift.models.loading import family_of

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
TASK_TYPES = {"BertForTokenClassification": "TOKEN_CLS", "GPT2LMHeadModel": "CAUSAL_LM"}
M = TypeVar("M", bound=nn.Module)


def save_lora(model: nn.Module, folder: str | os.PathLike[str]) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` that ``peft`` loads.

    Raises:
        InputError: the model has no adapters.
    """
    found = dict(adapters(model))
    if not found:
        raise InputError("model: has no adapters; right: add_lora(model, …) first")
    family, first = family_of(model), next(iter(found.values()))
    config = {
        "peft_type": "LORA",
        "task_type": TASK_TYPES.get(type(model).__name__),
        "base_model_name_or_path": None,
        "r": first.r,
        "lora_alpha": first.alpha,
        "lora_dropout": first.dropout.p,
        "target_modules": [their_path(model, path) for path in found],
        "fan_in_fan_out": any(family.is_transposed(f"{path}.weight") for path in found),
        "modules_to_save": sorted({name.split(".")[0] for name in _kept(model)}) or None,
        "bias": "none",
        "inference_mode": True,
    }
    with filling(folder) as place:
        write_file(place / WEIGHTS, {k: v.detach().cpu() for k, v in trained(model).items()})
        write_json(place / CONFIG, config)


def load_lora(model: M, folder: str | os.PathLike[str]) -> M:
    """Put the adapters of a folder, ours or ``peft``'s, on ``model``; changes it in place.

    Raises:
        InputError: an option that is not plain LoRA, or weights that do not fit the model, which
            then stays as it was.
    """
    folder = Path(folder)
    config = read_json_object(folder / CONFIG)
    try:
        _check_config(config)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from None
    given = read_file(folder / WEIGHTS)
    kept = [name for name in config.get("modules_to_save") or () if hasattr(model, name)]
    size = (config["r"], config["lora_alpha"], config.get("lora_dropout", 0.0))
    add_lora(model, config["target_modules"], *size, modules_to_save=kept)
    wanted = trained(model)
    wrong = [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if wrong := sorted([*wrong, *(wanted.keys() ^ given.keys())]):
        for path, adapter in list(adapters(model)):
            model.set_submodule(path, adapter.base)
        model.requires_grad_(True)
        raise InputError(f"{folder / WEIGHTS}: does not fit the model: {listed(wrong)}")
    with torch.no_grad():
        for key, parameter in wanted.items():
            parameter.copy_(given[key])
    return model


def _check_config(config: dict[str, Any]) -> None:
    plain: dict[str, Any] = {"peft_type": "LORA", "bias": "none", "lora_bias": False}
    plain |= {"use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}}
    for name, right in plain.items():
        if config.get(name, right) != right:
            raise InputError(f"{name}={config[name]!r} is not supported; right: {right!r}")
    for name, kind, right in (
        ("r", int, "a whole number"),
        ("lora_alpha", (int, float), "a number"),
        ("target_modules", (list, str), "a list of names or a regular expression"),
    ):
        if not isinstance(config.get(name), kind):
            raise InputError(f"{name}={config.get(name)!r}; right: {right}")


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every trainable parameter, under the name that ``peft`` gives it in its files."""
    family, root, named = family_of(model), "base_model.model.", {}
    for path, adapter in adapters(model):
        named[f"{root}{their_path(model, path)}.lora_A.weight"] = adapter.a
        named[f"{root}{their_path(model, path)}.lora_B.weight"] = adapter.b
    for name, parameter in _kept(model).items():
        named[f"{root}{family.theirs(name)}"] = parameter
    return named


def _kept(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trainable parameters besides the adapters'."""
    prefixes = tuple(f"{path}." for path, _ in adapters(model))
    named = model.named_parameters()
    return {n: p for n, p in named if p.requires_grad and not n.startswith(prefixes)}

"""A family's weight-name table at work: tensors of a checkpoint into a model, and back."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.models.checkpoint import listed
from minift.models.family import Family
from minift.models.init import init_weights

M = TypeVar("M", bound=nn.Module)


def to_theirs(family: Family, model: nn.Module) -> dict[str, Tensor]:
    """The weights of ``model`` under Hugging Face's names and in their layout, on the CPU.

    Raises:
        InputError: a parameter that the family's table does not have, such as an adapter's.
    """
    tensors = {}
    for name, parameter in model.named_parameters():
        value = parameter.detach().cpu()
        try:
            tensors[family.theirs(name)] = _flip(family, name, value).contiguous()
        except KeyError:
            raise InputError(
                f"model: {name} is not a weight of {type(model).__name__}; "
                "right: merge its adapters first (minift.adapt.lora.merge_lora)"
            ) from None
    return tensors


def from_theirs(
    family: Family,
    model: M,
    tensors: Mapping[str, Tensor],
    source: str,
    *,
    new: Collection[str] = (),
) -> M:
    """Give ``model`` (built on the meta device) the tensors of a checkpoint.

    Args:
        tensors: under Hugging Face's names, with or without the base model's prefix.
        source: where they come from, for error messages.
        new: our parameters that are not taken from ``tensors`` but start random.

    Raises:
        InputError: weights that are missing, superfluous, of another shape or not floating point.
    """
    names = {_modern(family.bare(name)): name for name in tensors}
    if len(names) < len(tensors):
        twice = sorted(tensors.keys() - names.values())
        raise InputError(f"{source}: {listed(twice)} is there under two names; right: once")
    theirs = {bare: tensors[name] for bare, name in names.items()}
    _leave_out_optional(family, model, theirs)
    wanted = {name: p for name, p in model.named_parameters() if name not in new}
    state, missing, wrong = {}, [], []
    for name, parameter in wanted.items():
        key = family.theirs(name)
        value = theirs.pop(family.bare(key), None)
        if value is None:
            missing.append(key)
        elif problem := _misfit(value, _flip(family, name, parameter)):
            wrong.append(f"{key} {problem}")
        else:
            state[name] = _flip(family, name, value).to(parameter.dtype).contiguous()
    _check_tied(family, theirs, state, source)
    extra = [names[name] for name in theirs if not family.is_ignorable(name)]
    _report(source, missing, extra, wrong)
    model.load_state_dict(state, strict=False, assign=True)
    config: Any = model.config
    for path in dict.fromkeys(name.rpartition(".")[0] for name in new):
        part = model.get_submodule(path).to_empty(device="cpu", recurse=False)
        init_weights(part, config.initializer_range)
    return model


def _flip(family: Family, name: str, value: Tensor) -> Tensor:
    """Between our layout and theirs; its own inverse."""
    return value.T if family.is_transposed(name) and value.dim() == 2 else value


def _modern(name: str) -> str:
    """Checkpoints converted from TensorFlow call a norm's parameters gamma and beta."""
    stem, _, leaf = name.rpartition(".")
    if stem.endswith("LayerNorm") and leaf in ("gamma", "beta"):
        return f"{stem}.{'weight' if leaf == 'gamma' else 'bias'}"
    return name


def _leave_out_optional(family: Family, model: nn.Module, theirs: Mapping[str, Tensor]) -> None:
    for part in family.optional:
        if getattr(model, part, None) is not None and not any(
            name.startswith(f"{part}.") for name in theirs
        ):
            setattr(model, part, None)


def _misfit(value: Tensor, wanted: Tensor) -> str | None:
    if value.shape != wanted.shape:
        return f"{tuple(value.shape)} (right: {tuple(wanted.shape)})"
    if not value.dtype.is_floating_point:
        return f"{value.dtype} (right: floating point)"
    return None


def _check_tied(
    family: Family,
    theirs: dict[str, Tensor],
    state: Mapping[str, Tensor],
    source: str,
) -> None:
    """A second copy of a tied weight is dropped when it is one, and refused when it differs."""
    for copy, original in family.tied.items():
        if copy not in theirs:  # a weight of its own was taken already
            continue
        value, held = theirs.pop(copy), state.get(original)
        if held is not None and not torch.equal(value.to(held.dtype), held):
            raise InputError(
                f"{source}: {copy} differs from the embedding that the config ties it to; "
                "right: the same values, or tie_word_embeddings false"
            )


def _report(source: str, missing: list[str], extra: list[str], wrong: list[str]) -> None:
    kinds = (("missing", missing), ("not expected", extra), ("of another shape or type", wrong))
    found = [f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds if names]
    if found:
        raise InputError(f"{source}: tensors do not match the config; {'; '.join(found)}")

"""Which module of ours is which of theirs: the family's weight names, read as module paths."""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from minift.errors import InputError, one_of
from minift.models.family import Family
from minift.models.loading import FAMILIES

LAYER = re.compile(r"^(.*?\.\d+)\.")


@dataclass(frozen=True)
class Pair:
    """Two modules that hold the same parameters under different names."""

    name: str
    theirs_name: str
    ours: nn.Module
    theirs: nn.Module


@dataclass(frozen=True)
class Alignment:
    """Two models side by side; names are ours."""

    model: nn.Module
    """Ours."""
    pairs: dict[str, Pair]
    layers: dict[str, Pair]
    """The containers of whole layers, such as ``layers.0``."""
    right: dict[str, Tensor]
    """Their parameters under our names, in our layout."""
    names: dict[str, str]
    """Our parameters' names → theirs."""
    family: Family
    is_tied: bool
    """Whether their head is the token embedding again."""

    def turned(self, name: str, value: Tensor) -> Tensor:
        """A tensor like our parameter ``name``, in their layout; the way back is the same."""
        is_other = self.names[name] != name and self.family.is_transposed(name)
        return value.T if is_other and value.dim() == 2 else value


def align(ours: nn.Module, theirs: Any) -> Alignment:
    """Pair the modules of two models; ``theirs`` is Hugging Face's or one of ours.

    Raises:
        InputError: ``ours`` (or a class that it is derived from) is not one of this project's.
    """
    family = known_family(ours)
    is_ours = _family(theirs) is not None
    modules, pairs = dict(theirs.named_modules(remove_duplicate=False)), {}
    for path, module in ours.named_modules(remove_duplicate=False):
        other = path if is_ours else _counterpart(family, path, module)
        if other and path and other in modules and _has_own(modules[other]):
            pairs[path] = Pair(path, other, module, modules[other])
    layers = {}
    for pair in pairs.values():
        mine, other_match = LAYER.match(pair.name), LAYER.match(pair.theirs_name)
        if mine and other_match:
            name, other = mine[1], other_match[1]
            layers[name] = Pair(name, other, ours.get_submodule(name), modules[other])
    names = {}
    for name, _ in ours.named_parameters():
        try:
            names[name] = name if is_ours else family.theirs(name)
        except KeyError:
            continue
    given = dict(theirs.named_parameters(remove_duplicate=False))
    alignment = Alignment(ours, pairs, layers, {}, names, family, _is_tied(theirs))
    for name in _expected(family, pairs, is_ours):
        other = name if is_ours else family.theirs(name)
        if other in given:
            value = given[other].detach()
            flip = not is_ours and family.is_transposed(name) and value.dim() == 2
            alignment.right[name] = value.T if flip else value
    return alignment


def known_family(model: nn.Module) -> Family:
    """The family of a model of this project or of a class derived from one."""
    family = _family(model)
    if family is None:
        known = sorted({c.__name__ for f in FAMILIES.values() for c in f.classes.values()})
        raise one_of("ours", type(model).__name__, known)
    return family


def common_parent(one: str, other: str) -> str:
    """The longest path that both lie in: ``a.b.c`` and ``a.b.d`` → ``a.b``."""
    shared = []
    for mine, theirs in zip(one.split("."), other.split("."), strict=False):
        if mine != theirs:
            break
        shared.append(mine)
    return ".".join(shared)


def check_same_kind(ours: nn.Module, theirs: Any) -> None:
    """Raises InputError when ours is none of ours, or the two are not of one model type."""
    known_family(ours)
    mine, other = (getattr(m.config, "model_type", None) for m in (ours, theirs))
    if mine != other:
        raise InputError(f"theirs: a {other}, ours is a {mine}; right: two models of one type")


def _family(model: Any) -> Family | None:
    for family in FAMILIES.values():
        if any(cls in family.classes.values() for cls in type(model).__mro__):
            return family
    return None


def _is_tied(theirs: Any) -> bool:
    head = theirs.get_output_embeddings() if hasattr(theirs, "get_output_embeddings") else None
    if head is None:
        return bool(getattr(theirs.config, "tie_word_embeddings", False))
    return head.weight is theirs.get_input_embeddings().weight


def _leaves(module: nn.Module) -> list[str]:
    own = [name for name, _ in module.named_parameters(recurse=False)]
    return list(dict.fromkeys([*own, "weight", "bias"]))


def _has_own(module: nn.Module) -> bool:
    return next(iter(module.parameters(recurse=False)), None) is not None


def _counterpart(family: Family, path: str, module: nn.Module) -> str | None:
    for leaf in _leaves(module):
        try:
            return family.theirs(f"{path}.{leaf}").rpartition(".")[0]
        except KeyError:
            continue
    return None


def _expected(family: Family, pairs: dict[str, Pair], is_ours: bool) -> list[str]:
    """Our names of all parameters that theirs may have, also of those that ours lacks."""
    found = []
    for pair in pairs.values():
        for leaf in _leaves(pair.theirs if is_ours else pair.ours):
            name = f"{pair.name}.{leaf}"
            try:
                family.theirs(name)
            except KeyError:
                continue
            found.append(name)
    return found

"""What a model family tells the loader about itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Family:
    """Classes, tasks and weight names of one family.

    A parameter's name is a module path and a leaf (``weight`` or ``bias``). ``names`` maps our
    module paths to Hugging Face's; ``{i}`` stands for a layer's number. Both sides keep the base
    model of a model with a head under the same ``prefix``, which the table leaves out.
    """

    config: type[Any]
    """A frozen dataclass with Hugging Face's field names, ``from_dict`` and ``to_dict``."""
    prefix: str
    """The attribute that holds the base model inside a model with a head (Hugging Face's too)."""
    classes: Mapping[str, type[nn.Module]]
    """By the name in a config's ``architectures``; the first is the default."""
    tasks: Mapping[str, type[nn.Module]]
    """By the name that ``load(task=…)`` takes."""
    names: Mapping[str, str]
    transposed: tuple[str, ...] = ()
    """Our module paths whose weight Hugging Face stores as (in, out)."""
    ignorable: tuple[str, ...] = ()
    """Patterns of tensors that a checkpoint may hold and that these models have no use for."""
    heads: tuple[str, ...] = ()
    """Patterns of the weights of heads, dropped when a task is loaded that has another one."""
    optional: tuple[str, ...] = ()
    """Parts that a base model goes without when the checkpoint has nothing for them."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Hugging Face's name of a tied copy → our name of the weight that it is a copy of."""

    @property
    def model_type(self) -> str:
        """What a ``config.json`` calls the family."""
        return str(self.config.model_type)

    def theirs(self, ours: str) -> str:
        """Hugging Face's name of our parameter; both with the prefix or both without."""
        prefix, path, leaf = self._parts(ours)
        index = re.search(r"\.(\d+)\.", path)
        template = path if index is None else path.replace(index[0], ".{i}.", 1)
        return f"{prefix}{self.names[template].format(i=index and index[1])}.{leaf}"

    def is_transposed(self, ours: str) -> bool:
        """Whether Hugging Face stores this parameter of ours transposed."""
        _, path, leaf = self._parts(ours)
        return leaf == "weight" and re.sub(r"\.\d+\.", ".{i}.", path) in self.transposed

    def bare(self, name: str) -> str:
        """A parameter's name without the base model's prefix."""
        return name.removeprefix(f"{self.prefix}.")

    def is_ignorable(self, theirs: str) -> bool:
        """Whether a tensor of a checkpoint is listed as one that these models do not use."""
        return any(re.fullmatch(pattern, self.bare(theirs)) for pattern in self.ignorable)

    def is_head(self, theirs: str) -> bool:
        """Whether a tensor of a checkpoint is a weight of some head."""
        return any(re.fullmatch(pattern, self.bare(theirs)) for pattern in self.heads)

    def _parts(self, ours: str) -> tuple[str, str, str]:
        bare = self.bare(ours)
        path, _, leaf = bare.rpartition(".")
        return ours[: len(ours) - len(bare)], path, leaf

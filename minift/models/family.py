"""What a model family tells the loader about itself."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Classes, tasks and weight names of one family.

    A parameter's name is a module path and a leaf (``weight`` or ``bias``). ``names`` maps our
    module paths to Hugging Face's; ``{i}`` stands for a layer's number. A parameter that is no
    weight or bias of a module (a class token, say) stands there with its whole name. Both sides
    keep the base model of a model with a head under the same ``prefix``, which the table leaves
    out.
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
    lasting: tuple[str, ...] = ()
    """Patterns among ``heads`` of weights that mean the same in every class that has them."""
    optional: tuple[str, ...] = ()
    """Parts that a base model goes without when the checkpoint has nothing for them."""
    tied: Mapping[str, str] = field(default_factory=dict)
    """Hugging Face's name of a tied copy → our name of the weight that it is a copy of."""
    model_types: tuple[str, ...] = ()
    """The ``model_type``s that this family serves, where they are several."""
    from_disk: Callable[[Tensors, Any], Tensors] | None = None
    """Where ``transformers`` stores other tensors than it has in memory: the tensors of a file →
    those in memory, by Hugging Face's names with the prefix; the second argument is the config."""
    to_disk: Callable[[Tensors, Any], Tensors] | None = None
    """The way back."""
    settle: Callable[[Tensors, Any], Any] | None = None
    """What the tensors of a checkpoint say about its config, where ``transformers`` leaves that to
    them: (tensors, config) → config."""

    @property
    def all_types(self) -> tuple[str, ...]:
        """What a ``config.json`` may call the family."""
        return self.model_types or (str(self.config.model_type),)

    def theirs(self, ours: str) -> str:
        """Hugging Face's name of our parameter; both with the prefix or both without."""
        bare = self.bare(ours)
        prefix, index = ours[: len(ours) - len(bare)], re.search(r"\.(\d+)\.", bare)
        whole = _template(bare)
        path, _, leaf = whole.rpartition(".")
        name = self.names[whole] if whole in self.names else f"{self.names[path]}.{leaf}"
        return prefix + name.format(i=index and index[1])

    def is_transposed(self, ours: str) -> bool:
        """Whether Hugging Face stores this parameter of ours transposed."""
        path, _, leaf = _template(self.bare(ours)).rpartition(".")
        return leaf == "weight" and path in self.transposed

    def bare(self, name: str) -> str:
        """A parameter's name without the base model's prefix."""
        return name.removeprefix(f"{self.prefix}.")

    def is_ignorable(self, theirs: str) -> bool:
        """Whether a tensor of a checkpoint is listed as one that these models do not use."""
        return any(re.fullmatch(pattern, self.bare(theirs)) for pattern in self.ignorable)

    def is_head(self, theirs: str) -> bool:
        """Whether a tensor of a checkpoint is a weight of some head."""
        return any(re.fullmatch(pattern, self.bare(theirs)) for pattern in self.heads)

    def is_lasting(self, theirs: str) -> bool:
        """Whether a head's tensor may be taken over by another class that has one of that name."""
        return any(re.fullmatch(pattern, self.bare(theirs)) for pattern in self.lasting)


def _template(name: str) -> str:
    """A name with ``{i}`` for the layer's number, the first number in it."""
    return re.sub(r"\.\d+\.", ".{i}.", name, count=1)

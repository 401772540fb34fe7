"""What hypotheses are tested on: the place, both records, and the right numbers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from minift.compare.pairs import Alignment
from minift.compare.record import Key, Step, Trace, like, same
from minift.compare.running import Batch, Named

NEAR = 12
"""How many different tensors before the place are taken for terms of a sum."""


@dataclass(frozen=True)
class Place:
    """The first difference. ``module`` computes it; ``key`` is the step that shows it."""

    module: str
    key: Key
    before: str | None
    """Forward: the module finished before; backward: the last one whose gradient is right."""
    direction: str

    def __str__(self) -> str:
        name, side, turn = self.key
        call = f", call {turn + 1}" if turn else ""
        if self.direction == "backward":
            where = f" (between {name} and {self.before})" if self.before else f" ({name}.{side})"
            return f"{self.module}, in its gradient{where if self.module != name else ''}{call}"
        if side == "output":
            return f"{self.module}{call}"
        return f"{self.module}, between {self.before} and {name}{call}"


@dataclass(frozen=True)
class Cause:
    """A mistake that would make this difference."""

    name: str
    text: str
    reproduced: bool
    """Whether theirs, with this mistake, gives our numbers."""


class Guess(NamedTuple):
    """A hypothesis, and the numbers that ours would have here if it were true."""

    name: str
    text: str
    value: Tensor


@dataclass(frozen=True)
class Evidence:
    """The records of both models. Names are ours, parameters in our layout."""

    place: Place
    alignment: Alignment
    batch: Batch
    mine: Trace
    theirs: Trace
    again: Trace
    """Of ours, once more, from another seed."""
    tolerances: dict[Key, float]
    gradients: tuple[Named, Named]
    """Of our parameters by our names, and of theirs by theirs."""

    @property
    def ours_here(self) -> Tensor:
        """Our numbers at the place."""
        return like(self.mine.by_key()[self.place.key].value, self.step.value)

    @property
    def step(self) -> Step:
        """Their step at the place."""
        return self.theirs.by_key()[self.place.key]

    @property
    def index(self) -> int:
        """The number of that step in their record."""
        return next(i for i, s in enumerate(self.theirs.steps) if s.key == self.place.key)

    @property
    def tolerance(self) -> float:
        """What counts as equal at the place."""
        return self.tolerances[self.place.key]

    def right(self, leaf: str, name: str | None = None) -> Tensor | None:
        """Their parameter of the module at the place, or of module ``name``."""
        return self.alignment.right.get(f"{name or self.place.key[0]}.{leaf}")

    def own(self, leaf: str) -> Tensor | None:
        """Our parameter of the module at the place."""
        value = getattr(self.alignment.pairs[self.place.key[0]].ours, leaf, None)
        return value.detach() if isinstance(value, Tensor) else None

    def input(self) -> Tensor | None:
        """What their module at the place was given."""
        name, _, turn = self.place.key
        found = self.theirs.by_key().get((name, "input", turn))
        return None if found is None else found.value

    def distance(self, value: Tensor) -> float | None:
        """max|ours − value| over real tokens; ``None`` where the shapes do not fit."""
        ours, guess = self.batch.real(self.ours_here), self.batch.real(value)
        if ours.shape != guess.shape:
            if ours.numel() != guess.numel():
                return None
            guess = guess.reshape(ours.shape)
        return float((ours.double() - guess.double()).abs().max())

    def earlier(self) -> Iterator[Step]:
        """Their steps before the place, the last first, each tensor once."""
        seen: list[Tensor] = []
        for step in reversed(self.theirs.steps[: self.index]):
            if not any(same(step.value, other) for other in seen):
                seen.append(step.value)
                yield step
            if len(seen) == NEAR:
                return

"""What a training run is set to."""

import math
from dataclasses import dataclass

from minift.errors import InputError

_RULES = {
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "accumulation_steps": (1, math.inf),
    "weight_decay": (0.0, math.inf),
    "warmup_ratio": (0.0, 1.0),
    "dropout": (0.0, 0.999),
    "max_grad_norm": (0.0, math.inf),
    "patience": (1, math.inf),
    "seed": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; Hugging Face's ``TrainingArguments`` has the same ideas.

    Attributes:
        epochs: passes over the training examples.
        batch_size: examples a forward pass.
        accumulation_steps: forward passes an optimiser step; the gradient equals that of one
            batch of ``batch_size * accumulation_steps`` examples.
        learning_rate: the peak of the schedule.
        weight_decay: decoupled decay, on weight matrices only (not biases, not norms).
        warmup_ratio: share of all steps in which the learning rate rises from 0 to its peak;
            it then falls linearly to 0.
        max_grad_norm: gradients are scaled so that their joint L2 norm is at most this; 0: never.
        dropout: probability used all over the model.
        patience: stop after this many evaluations in a row without a better score; None: never.
        seed: of shuffling, dropout and fresh weights.
    """

    epochs: int = 3
    batch_size: int = 16
    accumulation_steps: int = 1
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    warmup_ratio: float = 0.1
    max_grad_norm: float = 1.0
    dropout: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"learning_rate: given {self.learning_rate}; right would be above 0")
        for name, (low, high) in _RULES.items():
            value = getattr(self, name)
            if name == "patience" and value is None:
                continue
            whole = isinstance(low, int)
            if not isinstance(value, int if whole else (int, float)) or isinstance(value, bool):
                kind = "a whole number" if whole else "a number"
                raise InputError(f"{name}: given {value!r}; right would be {kind}")
            if not (low <= value <= high and math.isfinite(value)):
                least = _number(low)
                has_limit = math.isfinite(high)
                bound = f"from {least} to {_number(high)}" if has_limit else f"{least} or more"
                raise InputError(f"{name}: given {value}; right would be {bound}")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"

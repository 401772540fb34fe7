"""The training loop: batches in, a better model and its history out.

It works on any module that takes a batch as keyword arguments and returns an object with
``.loss``: our models and Hugging Face's alike, which is how the two are compared step by step.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from minift.data.batches import Batch
from minift.errors import InputError
from minift.training.config import TrainConfig
from minift.training.optim import adamw, linear_schedule


@dataclass(frozen=True)
class Step:
    """One optimiser step: mean loss per label, gradient norm before clipping, learning rate."""

    step: int
    loss: float
    grad_norm: float
    learning_rate: float


@dataclass(frozen=True)
class Evaluation:
    """The validation score after ``step`` optimiser steps."""

    step: int
    epoch: int
    score: float


@dataclass
class History:
    """What happened: every step, every evaluation, and which one was best."""

    steps: list[Step] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    stopped_early: bool = False

    @property
    def losses(self) -> list[float]:
        return [step.loss for step in self.steps]

    @property
    def best(self) -> Evaluation | None:
        """The first evaluation with the highest score; the model ends with its weights."""
        return max(self.evaluations, key=lambda e: e.score, default=None)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


Observer = Callable[[Step | Evaluation, int], None]


def train(
    model: nn.Module,
    batches: Callable[[int], Sequence[Batch]],
    config: TrainConfig,
    *,
    evaluate: Callable[[], float] | None = None,
    observe: Observer | None = None,
) -> History:
    """Train ``model`` in place and return its history.

    Args:
        model: takes ``**batch``, returns an object whose ``.loss`` is the mean over labels.
        batches: the batches of epoch 0, 1, …, each with ``labels`` (-100: no label there); every
            epoch has as many.
        config: the settings.
        evaluate: the validation score, higher is better, called after every epoch with the model
            in eval mode. With it, the model ends with the weights of the best evaluation, and
            ``config.patience`` stops a run that no longer improves.
        observe: called with each :class:`Step` and :class:`Evaluation` and the total of steps.

    The run is reproducible to the bit on a CPU with the same number of threads: dropout draws from
    ``torch.manual_seed(config.seed)``, set here.

    Raises:
        InputError: there is no batch, or the loss is not a finite number.
    """
    torch.manual_seed(config.seed)
    first = batches(0)
    if not first:
        raise InputError("batches: there is none; right would be at least one training example")
    optimizer, schedule, total = prepare(model, config, len(first))
    history, best = History(), _Best(model)
    for epoch in range(config.epochs):
        model.train()
        for group in _grouped(first if epoch == 0 else batches(epoch), config.accumulation_steps):
            record = update(model, group, optimizer, schedule, config, len(history.steps) + 1)
            history.steps.append(record)
            if observe:
                observe(record, total)
        if evaluate:
            model.eval()
            result = Evaluation(len(history.steps), epoch + 1, evaluate())
            history.evaluations.append(result)
            best.see(result.score)
            if observe:
                observe(result, total)
            if config.patience and best.since >= config.patience:
                history.stopped_early = epoch + 1 < config.epochs
                break
    best.restore()
    model.eval()
    return history


def prepare(
    model: nn.Module, config: TrainConfig, batches_per_epoch: int
) -> tuple[torch.optim.Optimizer, LRScheduler, int]:
    """Optimiser, schedule and number of optimiser steps of a run."""
    total = math.ceil(batches_per_epoch / config.accumulation_steps) * config.epochs
    optimizer = adamw(model, config)
    warmup = math.ceil(total * config.warmup_ratio)
    return optimizer, linear_schedule(optimizer, warmup_steps=warmup, total_steps=total), total


def first_losses(
    model: nn.Module, batches: Sequence[Batch], config: TrainConfig, steps: int
) -> list[float]:
    """The losses of the first ``steps`` optimiser steps of the run that :func:`train` would make.

    For holding another implementation against a finished run without paying for a second one.
    """
    torch.manual_seed(config.seed)
    optimizer, schedule, _ = prepare(model, config, len(batches))
    model.train()
    groups = list(_grouped(batches, config.accumulation_steps))[:steps]
    return [
        update(model, group, optimizer, schedule, config, number).loss
        for number, group in enumerate(groups, start=1)
    ]


def update(
    model: nn.Module,
    group: Sequence[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: LRScheduler,
    config: TrainConfig,
    step: int,
) -> Step:
    r"""One optimiser step over the batches of ``group``.

    A batch's loss is a mean over its own :math:`n_i` labels. Weighted with
    :math:`n_i / \sum_j n_j`, the gradients add up to that of one large batch, however unevenly
    the labels are spread.
    """
    counts = [int((batch["labels"] != -100).sum()) for batch in group]
    total, loss = max(1, sum(counts)), 0.0
    for batch, count in zip(group, counts, strict=True):
        if count:  # a batch without labels has no loss: its mean would be 0/0
            part = model(**batch).loss * (count / total)
            part.backward()
            loss += part.item()
    if not math.isfinite(loss):
        raise InputError(
            f"learning_rate: at step {step} the loss is {loss}; "
            f"right would be a smaller learning rate than {config.learning_rate:g}"
            + (f", or weight decay than {config.weight_decay:g}" if config.weight_decay > 1 else "")
        )
    norm = _clip(model, config.max_grad_norm)
    rate = float(schedule.get_last_lr()[0])
    optimizer.step()
    schedule.step()
    optimizer.zero_grad(set_to_none=True)
    return Step(step, loss, norm, rate)


def _clip(model: nn.Module, max_norm: float) -> float:
    limit = max_norm or math.inf
    norm: Tensor = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return float(norm)


def _grouped(batches: Sequence[Batch], size: int) -> Iterator[Sequence[Batch]]:
    for start in range(0, len(batches), size):
        yield batches[start : start + size]


class _Best:
    """Keeps the weights of the best evaluation, so that training ends with them."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.score, self.since = model, -math.inf, 0
        self.weights: dict[str, Any] | None = None

    def see(self, score: float) -> None:
        if score > self.score:
            self.score, self.since = score, 0
            self.weights = copy.deepcopy(self.model.state_dict())
        else:
            self.since += 1

    def restore(self) -> None:
        if self.weights is not None and self.since:
            self.model.load_state_dict(self.weights)

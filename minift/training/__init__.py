"""The fine-tuning loop: configuration, optimiser groups, schedule, loop, progress."""

from minift.training.config import TrainConfig
from minift.training.loop import History, train

__all__ = ["History", "TrainConfig", "train"]

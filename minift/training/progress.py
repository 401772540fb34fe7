"""A progress bar for a training run: loss as it goes, the score after each epoch."""

import sys
from types import TracebackType

from tqdm import tqdm

from minift.training.loop import Evaluation, Step


class Progress:
    """Shows a run on standard error; pass it to ``train`` as ``observe``.

    The loss shown is a running mean, so that it can be read; the history has every step's own.
    """

    def __init__(self, title: str, score_name: str = "F1", enabled: bool = True) -> None:
        self.title, self.score_name, self.enabled = title, score_name, enabled
        self.bar: tqdm | None = None
        self.loss, self.score = 0.0, "-"

    def __call__(self, record: Step | Evaluation, total: int) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=total, desc=self.title, unit="step", file=sys.stderr, disable=not self.enabled
            )
        if isinstance(record, Step):
            self.loss = record.loss if record.step == 1 else 0.9 * self.loss + 0.1 * record.loss
            self.bar.update()
        else:
            self.score = f"{record.score:.3f}"
        self.bar.set_postfix_str(f"loss {self.loss:.3f}, valid {self.score_name} {self.score}")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.close()

"""The demo's figures, as SVG text to put into a page."""

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from minift.training import History

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"  # told apart by colour-blind readers


def loss_curve(history: History, baseline: float) -> str:
    """The training loss of every step, and the validation F1 after every epoch."""
    figure, axis = _figure(7.2, 3.2)
    steps = [record.step for record in history.steps]
    axis.plot(steps, history.losses, color=BLUE, alpha=0.3, linewidth=0.8)
    axis.plot(steps, _running_mean(history.losses), color=BLUE, label="loss (running mean)")
    axis.set(xlabel="optimiser step", ylabel="loss in nats per labelled word", ylim=(0, None))
    right = axis.twinx()
    points = [(e.step, e.score) for e in history.evaluations]
    right.plot(*zip(*points, strict=True), "o-", color=ORANGE, label="validation F1")
    right.axhline(baseline, color=GREY, linestyle="--", label="dictionary baseline, test F1")
    right.set(ylabel="entity F1", ylim=(0, 1))
    right.spines["right"].set_visible(True)
    lines = [*axis.get_lines()[1:], *right.get_lines()]
    names = [str(line.get_label()) for line in lines]
    figure.legend(lines, names, loc="outside upper left", ncols=3, frameon=False)
    return _svg(figure)


def confusion_matrix(confusion: Counter[tuple[str, str]], types: Sequence[str]) -> str:
    """Of the words of each gold type (a row), the share that got each predicted type."""
    names = [*types, "O"]
    counts = np.array([[confusion[gold, guess] for guess in names] for gold in names], float)
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    figure, axis = _figure(7.2, 6.4)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted type", ylabel="gold type")
    for row, column in zip(*np.nonzero(share >= 0.005), strict=True):
        value = share[row, column]
        shade = "white" if value > 0.5 else "black"
        label = f"{100 * value:.0f}"
        axis.text(column, row, label, ha="center", va="center", color=shade, fontsize=7)
    figure.colorbar(image, label="share of the row's words", shrink=0.8)
    return _svg(figure)


def attention_map(weights: Tensor, tokens: Sequence[str]) -> str:
    """Where each token (a row) looks; ``weights: (T, T)``."""
    size = 1.6 + 0.26 * len(tokens)
    figure, axis = _figure(size + 0.8, size)
    image = axis.imshow(weights.detach().cpu().float().numpy(), cmap="Blues", vmin=0)
    axis.set_xticks(range(len(tokens)), tokens, rotation=60, ha="right")
    axis.set_yticks(range(len(tokens)), tokens)
    axis.set(xlabel="attended token", ylabel="token")
    figure.colorbar(image, label="attention weight", shrink=0.8)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "minift", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().partition("<svg")[1] + buffer.getvalue().partition("<svg")[2]


def _running_mean(values: Sequence[float], keep: float = 0.9) -> list[float]:
    means, mean = [], values[0]
    for value in values:
        mean = keep * mean + (1 - keep) * value
        means.append(mean)
    return means

"""Figures of the notebooks: one style, a text form that tests can compare, and steady numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

# Eight colours that stay apart in every common form of colour blindness (Okabe & Ito 2008).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]

STYLE: dict[str, Any] = {
    "figure.figsize": (6.4, 3.2),
    "figure.dpi": 90,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "image.cmap": "Blues",  # white is nothing; one hue, so that only lightness counts
}


def use_style() -> None:
    """Draw in the house style from here on. A notebook calls it in its first code cell."""
    plt.style.use({**STYLE, "axes.prop_cycle": plt.cycler(color=COLOURS)})
    try:
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    backend: Any = InlineBackend.instance()
    # The picture's bytes then do not name the version of matplotlib.
    backend.print_figure_kwargs = {"bbox_inches": None, "metadata": {"Software": None}}


def heatmap(
    ax: Axes,
    matrix: Any,
    *,
    rows: Sequence[object] | None = None,
    columns: Sequence[object] | None = None,
    numbers: str | None = None,
) -> None:
    """A matrix as coloured squares.

    Args:
        matrix: ``(M, N)``, a tensor, an array or nested lists.
        rows, columns: labels of the rows and columns.
        numbers: a format such as ".2f" to write each value into its square.
    """
    values = np.asarray(matrix, dtype=float)
    low, high = np.nanmin(values), np.nanmax(values)
    ax.imshow(values, aspect="equal", vmin=low, vmax=high if high > low else low + 1)
    ax.grid(False)
    for axis, labels in ((ax.yaxis, rows), (ax.xaxis, columns)):
        if labels is not None:
            axis.set_ticks(range(len(labels)), [str(label) for label in labels])
    if numbers is not None:
        middle = (low + high) / 2
        for (row, column), value in np.ndenumerate(values):
            colour = "white" if value > middle else "#999999" if value == 0 else "black"
            text = format(value, numbers)
            ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)


def describe(fig: Figure) -> str:
    """What a figure shows, in a few lines of text.

    Pictures are compared by nobody, their descriptions by every test run; a screen reader can
    read them, too. Values are rounded to two digits, so that they are equal on every machine.
    """
    return "\n".join(line for ax in fig.axes for line in _axes(ax))


def agree(name: str, value: float, reference: float, rtol: float = 0.05) -> None:
    """Print that ``value`` equals ``reference`` within ``rtol``, with one text for every machine.

    The reference is printed, not the value; a value further away is printed as it is.
    """
    if abs(value - reference) <= rtol * abs(reference):
        print(f"{name} = {reference:g} (within {rtol:.0%})")
    else:
        print(f"{name} = {value:g}, expected {reference:g} within {rtol:.0%}")


def _axes(ax: Axes) -> Iterable[str]:
    title = ax.get_title(loc="left") or ax.get_title()
    head = f"Plot {title!r}" if title else "Plot"
    if not ax.axison:
        yield f"{head}: a drawing with {len(ax.patches)} shapes and {len(ax.texts)} texts"
        return
    yield f"{head}: x is {ax.get_xlabel()!r}, y is {ax.get_ylabel()!r}"
    for image in ax.images:
        array = np.asarray(image.get_array())
        size = " × ".join(map(str, array.shape))
        yield f"  image of {size}, values {_range(array)}"
    for line in ax.lines:
        x, y = (np.asarray(data, dtype=float) for data in line.get_data())
        yield f"  line{_label(line)}: {x.size} points, x {_range(x)}, y {_range(y)}"
    for bars in ax.containers:
        if isinstance(bars, BarContainer):
            yield f"  {len(bars)} bars{_label(bars)}, {_range(_lengths(bars))}"
    for points in ax.collections:
        x, y = np.asarray(points.get_offsets(), dtype=float).reshape(-1, 2).T
        yield f"  points{_label(points)}: {x.size}, x {_range(x)}, y {_range(y)}"


def _lengths(bars: BarContainer) -> np.ndarray:
    upright = bars.orientation != "horizontal"
    return np.array([bar.get_height() if upright else bar.get_width() for bar in bars])


def _label(artist: Any) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_") else f" {label!r}"


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return "none"
    return f"{_rounded(finite.min())} to {_rounded(finite.max())}"


def _rounded(value: float) -> str:
    text = f"{value:.2g}"
    return f"{float(text):g}" if float(text) else "0"

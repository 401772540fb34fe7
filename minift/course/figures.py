"""Figures of the notebooks: one style, a text form that tests can compare, and steady numbers."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

MANY = 6  # lines without a name that are still described one by one

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
    read them, too. Values that are not whole are rounded to two digits, so that they are equal on
    every machine.
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
    if ax.get_label() == "<colorbar>":
        yield f"Colours: {ax.get_ylabel() or ax.get_xlabel()} {_range(np.array(ax.get_ylim()))}"
        return
    title = ax.get_title(loc="left") or ax.get_title()
    head = f"Plot {_quoted(title)}" if title else "Plot"
    if not ax.axison:
        texts = dict.fromkeys(_quoted(t.get_text()) for t in ax.texts if t.get_text().strip())
        some = f", such as {', '.join(list(texts)[:3])}" if texts else ""
        shapes, words = _count(len(ax.patches), "shape"), _count(len(ax.texts), "text")
        yield f"{head}: a drawing with {shapes} and {words}{some}"
        return
    yield f"{head}: x is {_quoted(ax.get_xlabel())}, y is {_quoted(ax.get_ylabel())}"
    yield from map(_image, ax.images)
    yield from _lines(ax)
    for bars in ax.containers:
        if isinstance(bars, BarContainer):
            yield f"  {_count(len(bars), 'bar')}{_label(bars)}, {_range(_lengths(bars))}"
    for collection in ax.collections:
        if isinstance(collection, PathCollection):
            x, y = np.asarray(collection.get_offsets(), dtype=float).reshape(-1, 2).T
            count = _count(x.size, "point")
            yield f"  {count}{_label(collection)}: x {_range(x)}, y {_range(y)}"


def _image(image: Any) -> str:
    array = np.asarray(image.get_array())
    size = " × ".join(map(str, array.shape[:2]))
    if array.ndim == 2:
        return f"  image of {size}, values {_range(array)}"
    colours = np.unique(array.reshape(-1, array.shape[2]), axis=0)
    return f"  coloured squares, {size}, {_count(len(colours), 'colour')}"


def _lines(ax: Axes) -> Iterable[str]:
    """Every line with a name; those without one together, if there are many."""
    across, down = ax.get_yaxis_transform(which="grid"), ax.get_xaxis_transform(which="grid")
    unnamed = [line for line in ax.lines if not _label(line)]
    for line in ax.lines:
        x, y = (np.asarray(data, dtype=float) for data in line.get_data())
        if line.get_transform() == across:
            yield f"  line across{_label(line)} at y = {_rounded(y[0])}"
        elif line.get_transform() == down:
            yield f"  line upright{_label(line)} at x = {_rounded(x[0])}"
        elif _label(line) or len(unnamed) <= MANY:
            yield f"  line{_label(line)}: {_count(x.size, 'point')}, x {_range(x)}, y {_range(y)}"
    if len(unnamed) > MANY:
        x, y = (np.concatenate([line.get_data()[i] for line in unnamed]) for i in (0, 1))
        yield f"  {len(unnamed)} lines without a name: x {_range(x)}, y {_range(y)}"


def _lengths(bars: BarContainer) -> np.ndarray:
    upright = bars.orientation != "horizontal"
    return np.array([bar.get_height() if upright else bar.get_width() for bar in bars])


def _label(artist: Any) -> str:
    label = str(artist.get_label())
    return "" if label.startswith("_") else f" {_quoted(label)}"


def _quoted(text: str) -> str:
    return repr(" ".join(text.split()))


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _range(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)].astype(float)
    if not finite.size:
        return "none"
    return f"{_rounded(finite.min())} to {_rounded(finite.max())}"


def _rounded(value: float) -> str:
    """Whole numbers as they are, others to two digits."""
    if float(value).is_integer() and abs(value) < 1e6:
        return str(int(value))
    text = f"{value:.2g}"
    return f"{float(text):g}" if float(text) else "0"

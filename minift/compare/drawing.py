"""A diagnosis as a figure: a bar per layer."""

from typing import TYPE_CHECKING, Any

from minift.compare.table import LIMIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from minift.compare.diagnosis import Diagnosis

SMALLEST = 1e-2
"""Bars of equal numbers still have a length on the logarithmic axis."""
COLOURS = ("#0072B2", "#D55E00")  # told apart by colour-blind readers


def draw(diagnosis: "Diagnosis", ax: "Axes | None" = None, *, modules: bool = False) -> Any:
    """Bars of the forward and the backward difference, in noise floors, on a logarithmic axis.

    Args:
        ax: where to draw; ``None`` makes a figure.
        modules: a bar for each module of the layer that differs first (and its neighbours), in the
            order of computation, instead of one for each layer.

    Returns:
        The figure.
    """
    from matplotlib import pyplot as plt

    bars = _module_bars(diagnosis) if modules else diagnosis.layers()
    if ax is None:
        _, ax = plt.subplots(figsize=(7.2, 1.2 + 0.26 * len(bars)))
    for i, kind in enumerate(("forward", "backward")):
        lengths = [max(values[i], SMALLEST) for values in bars.values()]
        lengths = [min(length, 1e12) for length in lengths]
        places = [row + (i - 0.5) * 0.38 for row in range(len(bars))]
        ax.barh(places, lengths, height=0.36, color=COLOURS[i], label=kind, left=0)
    ax.set_xscale("log")
    ax.set_xlim(SMALLEST, None)
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.axvline(LIMIT, color="#000000", linestyle=":", label=f"limit: {LIMIT:g} noise floors")
    first = "equal" if diagnosis.ok else f"first: {diagnosis.first or 'see the table'}"
    ax.set(xlabel="difference / noise floor", ylabel="computed from top to bottom", title=first)
    ax.legend(loc="best")
    return ax.figure


def _module_bars(diagnosis: "Diagnosis") -> dict[str, tuple[float, float]]:
    """The sites around the first difference."""
    sites = diagnosis.sites
    at = 0 if diagnosis.place is None else next(
        (i for i, s in enumerate(sites) if (s.name, s.side, s.turn) == diagnosis.place.key), 0
    )  # fmt: skip
    chosen = sites[max(0, at - 8) : at + 9]
    return {f"{s.name}, {s.side}": (s.forward or 0.0, s.backward or 0.0) for s in chosen}

"""A diagnosis as a figure: a bar per layer."""

import math
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
        size = (8.4, 1.2 + 0.26 * len(bars))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    finite = [x for values in bars.values() for x in values if math.isfinite(x)]
    longest = 10 * max([LIMIT, *finite])  # of what is infinite: no gradient at all
    for i, kind in enumerate(("forward", "backward")):
        lengths = [min(max(values[i], SMALLEST), longest) for values in bars.values()]
        places = [row + (i - 0.5) * 0.38 for row in range(len(bars))]
        ax.barh(places, lengths, height=0.36, color=COLOURS[i], label=kind, left=0)
    ax.set_xscale("log")
    ax.set_xlim(SMALLEST, None)
    ax.set_yticks(range(len(bars)), list(bars))
    ax.invert_yaxis()
    ax.axvline(LIMIT, color="#000000", linestyle=":", label=f"limit: {LIMIT:g} noise floors")
    first = "equal" if diagnosis.ok else f"first: {diagnosis.first or 'see the table'}"
    ax.set(xlabel="difference / noise floor", ylabel="computed from top to bottom", title=first)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax.figure


def _module_bars(diagnosis: "Diagnosis") -> dict[str, tuple[float, float]]:
    """The sites around the first difference."""
    sites = diagnosis.sites
    at = 0 if diagnosis.place is None else next(
        (i for i, s in enumerate(sites) if (s.name, s.side, s.turn) == diagnosis.place.key), 0
    )  # fmt: skip
    chosen = sites[max(0, at - 8) : at + 9]
    return {f"{s.name}, {s.side}": (s.forward or 0.0, s.backward or 0.0) for s in chosen}

"""A diagnosis as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

LIMIT = 4.0
"""Of a module, in noise floors. Wider than for a whole model's results: a model has hundreds."""
HEAD = f"{'in units of the noise floor':<44}{'forward':>9}{'backward':>10}"


def layer_of(name: str) -> str:
    """The layer that a module belongs to; the module itself where it is in none."""
    found = re.match(r"^(.*?\.\d+)(\.|$)", name)
    return found[1] if found else name


def layer_table(layers: Mapping[str, tuple[float, float]]) -> list[str]:
    """A line for each layer: its largest differences."""
    return [HEAD, *(_line(name, *values) for name, values in layers.items())]


def module_table(sites: Sequence[Any]) -> list[str]:
    """A line for each module; its input and output together where both are equal to theirs."""
    lines = [HEAD]
    for site in sites:
        call = f" (call {site.turn + 1})" if site.turn else ""
        lines.append(_line(f"{site.name} {site.side}{call}", site.forward, site.backward))
    return lines


def _line(name: str, forward: float | None, backward: float | None) -> str:
    mark = "  DIFFERS" if any((x or 0.0) > LIMIT for x in (forward, backward)) else ""
    return f"{name:<44}{_units(forward):>9}{_units(backward):>10}{mark}"


def _units(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1000 else f"{value:.0e}"

"""Figures of what was found inside; each function gives the figure."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from minift.inspect.patching import Patching

Labels = Sequence[str]


def draw_attention(maps: Tensor, tokens: Labels, titles: Labels = ("",)) -> Any:
    """One map ``(T, T)`` or several ``(n, T, T)``, side by side with one colour bar."""
    several = maps if maps.dim() == 3 else maps[None]
    figure, axes = _axes(len(several), len(tokens))
    for ax, one, title in zip(axes, several, titles, strict=True):
        image = _image(ax, one, tokens, tokens, 0.0, float(several.max()))
        ax.set(xlabel="token looked at", ylabel="token that looks", title=title)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.8)
    return figure


def draw_rollout(shares: Tensor, tokens: Labels, titles: Labels = ("",)) -> Any:
    """One rollout ``(T, T)`` or several ``(n, T, T)``, side by side."""
    figure = draw_attention(shares, tokens, titles)
    for ax in figure.axes[:-1]:
        ax.set(xlabel="token of the text", ylabel="position")
    figure.axes[-1].set_ylabel("share")
    return figure


def draw_lens(logits: Tensor, tokens: Labels, decode: Callable[[int], str]) -> Any:
    """The likeliest token after each layer, for each position; ``logits (layers + 1, T, V)``."""
    shares, best = logits.softmax(-1).max(-1)  # (layers + 1, T)
    levels = ["embedding", *(f"layer {i}" for i in range(1, len(logits)))]
    figure, (ax,) = _axes(1, len(tokens), width=0.62, rows=len(levels))
    image = _image(ax, shares, levels, tokens, 0.0, 1.0, square=False)
    for (row, column), share in _cells(shares):
        colour = "white" if share > 0.55 else "black"
        text = decode(int(best[row, column])).strip() or "␣"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    ax.set(xlabel="token read so far", ylabel="read off after", title="Likeliest next token")
    figure.colorbar(image, ax=ax, label="probability")
    return figure


def draw_attributions(values: Tensor, tokens: Labels, title: str = "") -> Any:
    """What each token adds ``(T,)``, as bars: up for more, down for less."""
    figure, (ax,) = _axes(1, len(tokens), width=0.55, rows=6)
    numbers = values.detach().cpu().tolist()
    colours = ["#0072B2" if number >= 0 else "#D55E00" for number in numbers]
    ax.bar(range(len(tokens)), numbers, color=colours)
    ax.axhline(0.0, color="#000000", linewidth=0.8)
    ax.set_xticks(range(len(tokens)), list(tokens), rotation=60)
    ax.set(xlabel="token", ylabel="adds to the result", title=title)
    return figure


def draw_patching(patching: Patching, tokens: Labels, title: str = "") -> Any:
    """How much of the clean answer each patch brings back, by module and token."""
    shares, names = patching.recovered, [_short(name) for name in patching.modules]
    most = max(1.0, float(shares.abs().max()))
    figure, (ax,) = _axes(1, len(tokens), width=0.7, rows=len(names))
    image = _image(ax, shares, names, tokens, -most, most, square=False, colours="RdBu")
    for (row, column), share in _cells(shares):
        colour = "white" if abs(share) > 0.6 * most else "black"
        ax.text(
            column,
            row,
            f"{round(share, 1) + 0.0:.1f}",
            ha="center",
            va="center",
            color=colour,
            fontsize=8,
        )
    ax.set(xlabel="token patched", ylabel="module patched", title=title)
    figure.colorbar(image, ax=ax, label="clean answer brought back")
    return figure


def _axes(count: int, columns: int, width: float = 0.34, rows: int | None = None) -> Any:
    from matplotlib import pyplot as plt

    wide = max(3.2, width * columns + 1.6)
    high = wide * 0.9 if rows is None else max(2.4, 0.36 * rows + 1.4)
    figure, axes = plt.subplots(
        1, count, figsize=(wide * count + 0.8, high), squeeze=False, layout="constrained"
    )
    return figure, list(axes[0])


def _image(
    ax: Any,
    values: Tensor,
    rows: Labels,
    columns: Labels,
    low: float,
    high: float,
    square: bool = True,
    colours: str = "Blues",
) -> Any:
    aspect = "equal" if square else "auto"
    image = ax.imshow(
        values.detach().cpu().float().numpy(), cmap=colours, vmin=low, vmax=high, aspect=aspect
    )
    ax.grid(False)
    turned = 0 if all(len(label) < 3 for label in columns) else 90 if square else 45
    ax.set_xticks(range(len(columns)), list(columns), rotation=turned)
    ax.set_yticks(range(len(rows)), list(rows))
    return image


def _cells(values: Tensor) -> list[tuple[tuple[int, int], float]]:
    rows = values.detach().cpu().tolist()
    return [((r, c), value) for r, row in enumerate(rows) for c, value in enumerate(row)]


def _short(name: str) -> str:
    return name.replace("transformer.", "").replace("model.", "")

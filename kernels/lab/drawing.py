"""Pictures of what programs touch, and of rooflines, for notebooks.

    with check(trace=True) as report:
        interpret(matmul)[(2, 2)](a, b, c, ...)
    fig = draw_programs(report, {"a": a, "b": b, "c": c})
    fig = draw_steps(report, {"a": a, "b": b, "c": c}, program=(1, 0, 0))

A matrix is drawn element by element, row 0 at the top. Blue is read, red is written. A notebook
shows every figure that a cell has made; a figure that is also the cell's value appears twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from kernels.lab.bounds import Roofline
from kernels.lab.floats import Array
from kernels.lab.memory import Program, Report
from kernels.lab.tiles import Tile, tiles, times_touched

# Eight colours that stay apart in every common form of colour blindness (Okabe & Ito 2008).
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"]
READ, WRITTEN = COLOURS[0], COLOURS[1]
SHARED, UNTOUCHED, EDGE = "#b8b8b8", "#f4f4f4", "#666666"
_PROGRAMS = ["#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442", "#c9a66b"]
_MOST_NUMBERED = 64


class Matrix(NamedTuple):
    """Part of a tensor that is drawn as a matrix, as in :func:`kernels.lab.tiles.tiles`."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


def matrix(tensor: Any) -> Matrix:
    """A vector or matrix as it lies in memory; of more dimensions, the first of the outer ones."""
    if isinstance(tensor, Matrix):
        return tensor
    return Matrix(tuple(tensor.shape[-2:]), tuple(tensor.stride()[-2:]))


def draw_programs(
    report: Report,
    tensors: Mapping[str, Any],
    *,
    programs: Sequence[Program] | None = None,
    kind: str = "",
) -> Figure:
    """Each tensor coloured by the program that touched it.

    Args:
        report: of ``with check(trace=True) as report:``.
        tensors: name of the argument -> tensor or :class:`Matrix`; one panel each.
        programs: only these, all of them when None.
        kind: only these accesses: "load", "store" or "atomic"; all of them when empty.

    A tile of one program carries the number of the access, counted from 1 over that program's
    accesses to the tensor; with more than eight programs it carries the program instead. A tile
    that several programs touch is grey and says how many they are.
    """
    found = {
        name: [t for t in _tiles(report, name, tensor, kind) if _wanted(t, programs)]
        for name, tensor in tensors.items()
    }
    panels = _Programs(tile.program for ts in found.values() for tile in ts)
    fig, axes = _panels(1, len(found), [matrix(t).shape for t in tensors.values()])
    for ax, (name, tensor) in zip(axes[0], tensors.items(), strict=True):
        panels.draw(ax, found[name], matrix(tensor).shape)
        ax.set_title(f"{_short(name)}: {_verbs(found[name])}", fontsize=10)
    _legend(fig, panels.legend())
    return fig


def draw_pairs(
    report: Report,
    rows: Mapping[str, Any],
    columns: Mapping[str, Any],
    *,
    programs: Sequence[Program] | None = None,
) -> Figure:
    """Which rows of one tensor meet which rows of another in one program: attention's scores.

    ``rows={"q": q}, columns={"k": k}`` draws the (M, N) matrix of scores, coloured by program and
    numbered by the order in which a program computes its tiles. What no program computes is pale.
    """
    (left, right) = ((*one.items(),)[0] for one in (rows, columns))
    shape = (matrix(left[1]).shape[0], matrix(right[1]).shape[0])
    met: list[Tile] = []
    for first in _tiles(report, *left, "load"):
        for second in _tiles(report, *right, "load"):
            if first.program == second.program and _wanted(first, programs):
                touched = _any_row(first)[:, None] & _any_row(second)[None, :]
                met.append(replace(second, rows=first.rows, columns=second.rows, touched=touched))
    panels = _Programs(tile.program for tile in met)
    fig, axes = _panels(1, 1, [shape])
    panels.draw(axes[0, 0], met, shape)
    axes[0, 0].set(xlabel=f"rows of {_short(right[0])}", ylabel=f"rows of {_short(left[0])}")
    _legend(fig, panels.legend())
    return fig


def draw_steps(
    report: Report,
    tensors: Mapping[str, Any],
    *,
    program: Program = (0, 0, 0),
    most: int = 5,
) -> Figure:
    """Small multiples: one row a tensor, one column a step of one program.

    Args:
        program: the program that is followed.
        most: columns; of a longer run the first ones and the last are drawn.

    Solid colour is what the step touches, a pale one what earlier steps touched.
    """
    found = {
        name: [t for t in _tiles(report, name, tensor) if t.program == program]
        for name, tensor in tensors.items()
    }
    every = sorted({tile.step for ts in found.values() for tile in ts})
    if not every:
        raise ValueError(f"program: no access to {', '.join(tensors)} by program {program}")
    shown = every if len(every) <= most else [*every[: most - 1], every[-1]]
    shapes = [matrix(t).shape for t in tensors.values()]
    fig, axes = _panels(len(found), len(shown), shapes, by_row=True)
    for row, (name, tensor) in zip(axes, tensors.items(), strict=True):
        for ax, step in zip(row, shown, strict=True):
            _step_panel(ax, found[name], matrix(tensor).shape, step)
            ax.tick_params(labelleft=ax is row[0])
        row[0].set_ylabel(f"{_short(name)}\n{_size(matrix(tensor).shape)}", fontsize=10)
    for ax, step in zip(axes[0], shown, strict=True):
        last = f" of {every[-1] + 1}" if ax is axes[0][-1] else ""
        ax.set_title(f"step {step + 1}{last}", fontsize=10)
    written = {tile.writes for ts in found.values() for tile in ts}
    handles = [Patch(color=READ, label="read")] if False in written else []
    handles += [Patch(color=WRITTEN, label="written")] if True in written else []
    handles += [Patch(color=_pale(READ), label="in an earlier step")] if len(shown) > 1 else []
    _legend(fig, handles)
    return fig


def draw_traffic(report: Report, tensors: Mapping[str, Any], *, kind: str = "load") -> Figure:
    """How often each element was read (or stored): what tiling makes a kernel load again."""
    counts = {
        name: times_touched(_tiles(report, name, t, kind), matrix(t).shape, kind=kind)
        for name, t in tensors.items()
    }
    fig, axes = _panels(1, len(counts), [matrix(t).shape for t in tensors.values()])
    top = max(1, *(int(c.max()) for c in counts.values()))
    for ax, (name, count) in zip(axes[0], counts.items(), strict=True):
        image = ax.imshow(count, cmap="Blues", vmin=0, vmax=top, aspect="auto")
        _dress(ax, count.shape)
        low, high = int(count.min()), int(count.max())
        times = f"{low}" if low == high else f"{low} to {high}"
        ax.set_title(f"{_short(name)}: {times} {kind}{'' if high == 1 else 's'}", fontsize=10)
    bar = fig.colorbar(image, ax=list(axes[0]), shrink=0.8, label=f"{kind}s of an element")
    bar.locator = plt.MaxNLocator(integer=True)
    bar.update_ticks()
    return fig


def draw_roofline(rooflines: Sequence[Roofline], ax: Axes | None = None) -> Axes:
    """FLOP/s against FLOPs a byte, both logarithmic: the roof of each GPU, the bound of each work.

    Every point lies on its roof: it is the most that the GPU allows, not a measurement.
    """
    ax = ax or plt.subplots(figsize=(6.4, 3.8), layout="constrained")[1]
    roofs = {(r.gpu.name, r.dtype): r for r in rooflines}
    shades = {key: COLOURS[i % len(COLOURS)] for i, key in enumerate(roofs)}
    lowest = min(min(r.intensity, r.ridge) for r in rooflines) / 4
    highest = max(max(r.intensity, r.ridge) for r in rooflines) * 8
    x = np.geomspace(max(lowest, 1e-2), highest, 200)
    for (name, dtype), roof in roofs.items():
        y = np.minimum(x * roof.gpu.bandwidth, roof.gpu.flops[dtype]) / 1e12
        ax.plot(x, y, color=shades[name, dtype], label=f"{name}, {dtype}")
    for r in rooflines:
        at = (max(r.intensity, x[0]), max(r.attainable, x[0] * r.gpu.bandwidth) / 1e12)
        ax.plot(*at, "o", color=shades[r.gpu.name, r.dtype], markersize=6)
        below = (6, -13) if r.limit == "compute" else (8, -4)
        ax.annotate(r.name, at, xytext=below, textcoords="offset points", fontsize=9)
    ax.set(xscale="log", yscale="log", xlabel="FLOPs a byte", ylabel="TFLOP/s (bound)")
    ax.legend(loc="lower right", frameon=False, fontsize=9)
    return ax


# ---- panels


def _tiles(report: Report, name: str, tensor: Any, kind: str = "") -> list[Tile]:
    shape, strides, offset = matrix(tensor)
    return [t for t in tiles(report, name, shape, strides, offset) if kind in ("", t.kind)]


def _any_row(tile: Tile) -> Array:
    return np.asarray(tile.touched.any(axis=1))


def _wanted(tile: Tile, programs: Sequence[Program] | None) -> bool:
    return programs is None or tile.program in [(*p, 0, 0)[:3] for p in programs]


class _Programs:
    """One colour a program, the same in every panel."""

    def __init__(self, programs: Iterable[Program]) -> None:
        self.programs = sorted(set(programs), key=lambda p: p[::-1])
        self.many = len(self.programs) > len(_PROGRAMS)
        self.axes = max((3 if z else 2 if y else 1 for _, y, z in self.programs), default=1)
        self.shared = False

    def draw(self, ax: Axes, found: list[Tile], shape: tuple[int, ...]) -> None:
        picture = _blank(shape)
        owner = np.full(picture.shape[:2], -1)
        several = np.zeros(picture.shape[:2], bool)
        for tile in found:
            me = self.programs.index(tile.program)
            several |= tile.touched & (owner != -1) & (owner != me)
            owner[tile.touched] = me
        for i in range(len(self.programs)):
            picture[owner == i] = to_rgb(_PROGRAMS[i % len(_PROGRAMS)])
        picture[several] = to_rgb(SHARED)
        self.shared |= bool(several.any())
        ax.imshow(picture, aspect="auto", interpolation="nearest")
        boxes: dict[tuple[tuple[int, int], tuple[int, int]], list[Tile]] = {}
        for tile in found:
            boxes.setdefault((tile.rows, tile.columns), []).append(tile)
        for (rows, columns), group in boxes.items():
            _box(ax, rows, columns, self._text(group) if len(boxes) <= _MOST_NUMBERED else "")
        _dress(ax, picture.shape[:2])

    def _text(self, group: list[Tile]) -> str:
        who = {tile.program for tile in group}
        if len(who) > 1:
            return f"×{len(who)}"
        numbers = ", ".join(str(tile.order + 1) for tile in group[:2])
        return self._name(group[0].program) if self.many else numbers

    def _name(self, program: Program) -> str:
        """As short as the grid allows: 3, or (1, 2)."""
        return str(program[0]) if self.axes == 1 else str(program[: self.axes])

    def legend(self) -> list[Patch]:
        shades = [] if self.many else list(zip(self.programs, _PROGRAMS, strict=False))
        handles = [Patch(color=c, label=f"program {self._name(p)}") for p, c in shades]
        if self.many:
            handles.append(Patch(color="none", label="in a tile: its program"))
        if self.shared:
            handles.append(Patch(color=SHARED, label="several programs"))
        return handles


def _step_panel(ax: Axes, found: list[Tile], shape: tuple[int, ...], step: int) -> None:
    picture = _blank(shape)
    for tile in found:
        shade = WRITTEN if tile.writes else READ
        if tile.step < step:
            picture[tile.touched] = to_rgb(_pale(shade))
    for tile in found:
        if tile.step == step:
            picture[tile.touched] = to_rgb(WRITTEN if tile.writes else READ)
    ax.imshow(picture, aspect="auto", interpolation="nearest")
    _dress(ax, picture.shape[:2])


def _blank(shape: tuple[int, ...]) -> Array:
    return np.full((*(1, *shape)[-2:], 3), to_rgb(UNTOUCHED))


def _box(ax: Axes, rows: tuple[int, int], columns: tuple[int, int], text: str) -> None:
    x, y = columns[0] - 0.5, rows[0] - 0.5
    width, height = columns[1] - columns[0], rows[1] - rows[0]
    ax.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor="white", linewidth=1.5))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)


def _dress(ax: Axes, shape: tuple[int, ...]) -> None:
    """A frame, what the axes are, the first and the last index, and nothing else."""
    ax.grid(False)
    ax.set(xlabel="column", ylabel="row")
    for axis, length in ((ax.yaxis, shape[0]), (ax.xaxis, shape[1])):
        axis.set_ticks([0, length - 1] if length > 1 else [])
    ax.tick_params(labelsize=8, length=2, color=EDGE)
    for spine in ax.spines.values():
        spine.set(visible=True, color=EDGE, linewidth=0.8)


def _panels(
    rows: int, columns: int, shapes: Sequence[tuple[int, ...]], *, by_row: bool = False
) -> tuple[Figure, Any]:
    """Axes in proportion to what they show, but none too thin to see."""
    longest = max(max(shape) for shape in shapes)
    heights = [max(0.4, 2.2 * (1, *shape)[-2] / longest) for shape in shapes]
    widths = [max(1.0, 2.4 * shape[-1] / longest) for shape in shapes]
    if by_row:
        size = (0.9 + columns * (max(widths) + 0.15), 0.8 + sum(heights) + 0.3 * rows)
        ratios: dict[str, Any] = {"height_ratios": heights}
    else:
        size = (0.4 + sum(widths) + 0.5 * columns, 0.9 + max(heights))
        ratios = {"width_ratios": widths}
    size = (min(max(size[0], 4.4), 8.5), min(max(size[1], 1.5), 6.0))
    return plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", gridspec_kw=ratios
    )


def _legend(fig: Figure, handles: list[Patch]) -> None:
    longest = max((len(str(h.get_label())) for h in handles), default=1)
    fig.legend(
        handles=handles,
        loc="outside lower center",
        ncols=max(1, min(len(handles), int(fig.get_figwidth() * 13 / (longest + 5)))),
        frameon=False,
        fontsize=9,
        handlelength=1.2,
        columnspacing=1.2,
    )


def _pale(colour: str) -> str:
    mixed = [round(255 * (0.35 * c + 0.65)) for c in to_rgb(colour)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def _short(name: str) -> str:
    """``q_ptr`` and ``q.ptr`` are both called q."""
    return name.removesuffix("_ptr").removesuffix(".ptr")


def _verbs(found: list[Tile]) -> str:
    kinds = dict.fromkeys("written" if t.writes else "read" for t in found)
    return " and ".join(kinds) or "not touched"


def _size(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))

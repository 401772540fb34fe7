"""Which program touched which part of a matrix, and in which order: a trace, laid out in 2-D.

    with check(trace=True) as report:
        interpret(matmul)[(4, 4)](a, b, c, ...)
    for tile in tiles(report, "a", a.shape, a.stride()):
        print(tile.program, tile.order, tile.kind, tile.rows, tile.columns)

:mod:`kernels.lab.drawing` draws it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kernels.lab.floats import Array
from kernels.lab.memory import Access, Program, Report


@dataclass(frozen=True)
class Tile:
    """What one load, store or atomic touched of a matrix.

    Attributes:
        program: its place in the grid.
        kind: "load", "store" or "atomic".
        argument: the kernel's name for the tensor.
        order: how many accesses this program made to this matrix before.
        step: see :func:`steps`.
        rows, columns: half-open ranges around everything touched.
        touched: ``(M, N)`` bool, the elements themselves; lanes that were masked off are not in.
    """

    program: Program
    kind: str
    argument: str
    order: int
    step: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    touched: Array = field(compare=False, repr=False)

    @property
    def writes(self) -> bool:
        return self.kind != "load"


def tiles(
    report: Report,
    argument: str,
    shape: Sequence[int],
    strides: Sequence[int] | None = None,
    offset: int = 0,
) -> list[Tile]:
    """The accesses to one matrix in the order in which they happened.

    Args:
        report: of ``with check(trace=True) as report:``.
        argument: the kernel's name for the tensor.
        shape: ``(M, N)``, or ``(N,)`` for a vector, which is one row.
        strides: in elements; those of a dense tensor when None.
        offset: elements from the tensor's first one to the matrix's: for one head of a
            ``(B, H, T, D)`` tensor, ``b * stride_b + h * stride_h``.

    Accesses outside this matrix (another head) are left out; a tile may be touched in parts.

    Raises: ``ValueError`` when nothing was traced, the argument is not known, or shape and strides
    are not those of a matrix whose elements are all different.
    """
    if not report.traced:
        raise ValueError("report: has no trace; use check(trace=True)")
    known = list(dict.fromkeys(access.argument for access in report.trace))
    if argument not in known:
        raise ValueError(f"argument: no access to {argument!r}; known: {', '.join(known)}")
    layout = _Layout.of(shape, strides, offset)
    found: list[Tile] = []
    seen: Counter[Program] = Counter()
    for access, step in zip(report.trace, steps(report), strict=True):
        if access.argument != argument:
            continue
        rows, columns = layout.locate(access.elements)
        if rows.size:
            found.append(_tile(access, seen[access.program], step, rows, columns, layout.shape))
            seen[access.program] += 1
    return found


def steps(report: Report) -> list[int]:
    """For each access of the trace, the step of its program in which it happens.

    A step ends when a program comes back to a tensor that it has already touched in the step in
    the same way: one pass of a loop that loads a tile of each of its tensors.
    """
    step: Counter[Program] = Counter()
    touched: dict[Program, set[tuple[str, str]]] = {}
    found = []
    for access in report.trace:
        mine = touched.setdefault(access.program, set())
        key = (access.argument, access.kind)
        if key in mine:
            step[access.program] += 1
            mine.clear()
        mine.add(key)
        found.append(step[access.program])
    return found


def times_touched(found: Sequence[Tile], shape: Sequence[int], *, kind: str = "load") -> Array:
    """``(M, N)``: how often each element was touched by accesses of one kind."""
    total = np.zeros((1, *shape)[-2:], np.int64)
    for tile in found:
        if tile.kind == kind:
            total += tile.touched
    return total


@dataclass(frozen=True)
class _Layout:
    """From the index of an element in memory to its row and column."""

    shape: tuple[int, int]
    strides: tuple[int, int]
    offset: int

    @classmethod
    def of(cls, shape: Sequence[int], strides: Sequence[int] | None, offset: int) -> "_Layout":
        if not 1 <= len(shape) <= 2 or (strides is not None and len(strides) != len(shape)):
            raise ValueError(
                f"shape, strides: expected those of a vector or a matrix, got {tuple(shape)} and "
                f"{None if strides is None else tuple(strides)}"
            )
        m, n = (1, *shape)[-2:]
        given = (n, 1) if strides is None else (0, *strides)[-2:]
        outer, inner = max(given), min(given)
        across = n if given[1] <= given[0] else m
        if len(shape) == 2 and (inner < 1 or outer < inner * across) and m > 1 and n > 1:
            raise ValueError(f"strides: elements of a matrix overlap with strides {given}")
        return cls((m, n), (given[0], given[1]), offset)

    def locate(self, elements: Array) -> tuple[Array, Array]:
        """Rows and columns of the elements that lie in the matrix."""
        index = np.asarray(elements, np.int64) - self.offset
        m, n = self.shape
        row_stride, column_stride = self.strides
        if m == 1 or column_stride > row_stride:
            columns, rest = np.divmod(index, max(column_stride, 1))
            rows, left = np.divmod(rest, max(row_stride, 1)) if m > 1 else (0 * rest, rest)
        else:
            rows, rest = np.divmod(index, max(row_stride, 1))
            columns, left = np.divmod(rest, max(column_stride, 1)) if n > 1 else (0 * rest, rest)
        inside = (index >= 0) & (rows < m) & (columns < n) & (left == 0)
        return rows[inside], columns[inside]


def _tile(
    access: Access, order: int, step: int, rows: Array, columns: Array, shape: tuple[int, int]
) -> Tile:
    touched = np.zeros(shape, bool)
    touched[rows, columns] = True
    return Tile(
        program=access.program,
        kind=access.kind,
        argument=access.argument,
        order=order,
        step=step,
        rows=(int(rows.min()), int(rows.max()) + 1),
        columns=(int(columns.min()), int(columns.max()) + 1),
        touched=touched,
    )

"""The results of a verification: one row a kernel, and the rows as tables, text and JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class NumberRow:
    """One kernel and dtype in the interpreter: every number summed or the worst over the cases."""

    kernel: str
    dtype: str
    cases: int
    worst_error: float  # as a share of its bound
    out_of_bounds: int
    races: int
    bytes_moved: int
    bytes_needed: int

    @property
    def ok(self) -> bool:
        clean = not self.out_of_bounds and not self.races
        return clean and self.worst_error <= 1 and self.bytes_moved == self.bytes_needed


@dataclass(frozen=True)
class MachineRow:
    """One kernel, dtype and shape compiled for one architecture."""

    kernel: str
    dtype: str
    variant: str
    arch: str
    registers: int
    spills_in_loop: int
    shared_bytes: int
    occupancy: float
    blocks: int  # a multiprocessor; 0 when the kernel cannot launch
    tensor_core: int  # instructions in the whole kernel
    tensor_core_needed: bool
    wide: int  # global-memory instructions of 128 bits or more
    mix: dict[str, int]  # of the main loop, or of the whole kernel if it has no loop

    @property
    def ok(self) -> bool:
        fits = self.registers > 0 and self.blocks > 0 and self.spills_in_loop == 0
        return fits and self.wide > 0 and (self.tensor_core > 0 or not self.tensor_core_needed)


Row = NumberRow | MachineRow


def tables(rows: Iterable[Row]) -> list[tuple[list[str], list[list[str]]]]:
    """Header and cells of the table of numbers and of the table of machine code."""
    rows = list(rows)
    numbers = [_number_cells(row) for row in rows if isinstance(row, NumberRow)]
    machine = [_machine_cells(row) for row in rows if isinstance(row, MachineRow)]
    number_head = "kernel dtype cases error/bound out-of-bounds races bytes/minimum verdict"
    machine_head = "kernel dtype variant arch registers spills shared occupancy verdict"
    parts = [(number_head.split(), numbers), ([*machine_head.split(), "instructions"], machine)]
    return [(head, body) for head, body in parts if body]


def format_table(rows: Iterable[Row]) -> str:
    """The rows as two aligned tables of plain text."""
    return "\n\n".join(aligned([head, *body]) for head, body in tables(rows))


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """The rows as one JSON object: ``ok``, ``numbers``, ``machine``."""
    rows = list(rows)
    tables = {"numbers": NumberRow, "machine": MachineRow}
    return {
        "ok": all(row.ok for row in rows),
        **{
            name: [{**asdict(row), "ok": row.ok} for row in rows if isinstance(row, kind)]
            for name, kind in tables.items()
        },
    }


def _number_cells(row: NumberRow) -> list[str]:
    return [
        row.kernel,
        row.dtype,
        str(row.cases),
        f"{row.worst_error:.2f}",
        str(row.out_of_bounds),
        str(row.races),
        f"{row.bytes_moved / row.bytes_needed:.3f}",
        _verdict(row),
    ]


def _machine_cells(row: MachineRow) -> list[str]:
    return [
        row.kernel,
        row.dtype,
        row.variant,
        row.arch,
        str(row.registers),
        str(row.spills_in_loop),
        f"{row.shared_bytes:,}",
        f"{row.occupancy:.0%}",
        _verdict(row),
        _mix(row.mix),
    ]


def _mix(counts: dict[str, int]) -> str:
    """The classes that decide: tensor cores, exponentials, arithmetic, memory; the rest as one."""
    shown = [k for k in ("mma", "exp2", "fp32", "integer", "shared", "global") if k in counts]
    rest = sum(n for kind, n in counts.items() if kind not in shown)
    return " ".join([*(f"{kind}:{counts[kind]}" for kind in shown), f"other:{rest}"])


def _verdict(row: Row) -> str:
    return "ok" if row.ok else "FAILED"


def aligned(table: list[list[str]]) -> str:
    """Rows of cells as lines of text, every column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in table)
    return "\n".join(line.rstrip() for line in lines)

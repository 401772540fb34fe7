"""The time and memory that a notebook states in its opening, and what it takes when it runs.

A notebook says: *90 minutes with the exercises; 15 seconds to run on two CPU cores, with 1 GB of
memory.* The tests run its cells and hold the kernel against the last two numbers.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat

SLOWNESS = 4.0  # a machine may be slower or busier by this factor; memory has no such excuse
TOTAL_SECONDS = 600  # what all notebooks together may state

FORM = "90 minutes …; 15 seconds to run on two CPU cores, with 1 GB of memory"

_STATED = re.compile(
    r"(\d+) minutes [^;]*; (\d+) seconds to run on two CPU cores, with ([\d.]+) ([MG])B of memory"
)
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB", flags=re.M)


@dataclass(frozen=True)
class Budget:
    """What a notebook states: minutes to work through it, seconds to run, gigabytes (10⁹ bytes)."""

    minutes: int
    seconds: int
    gigabytes: float


@dataclass(frozen=True)
class Spent:
    """What it took: seconds in its cells, and the kernel's peak memory where the system tells."""

    seconds: float
    gigabytes: float | None


def stated(text: str) -> Budget | None:
    """The budget in the text of a notebook's opening, or None when there is none of that form."""
    found = _STATED.search(" ".join(text.split()))
    if not found:
        return None
    scale = 1.0 if found[4] == "G" else 1e-3
    return Budget(int(found[1]), int(found[2]), float(found[3]) * scale)


def stated_in(notebook: Path) -> Budget | None:
    """The budget that a notebook's first markdown cells state."""
    cells = nbformat.read(notebook, 4).cells[:4]
    return stated("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))


def peak_memory(process: int) -> float | None:
    """The most memory that a process had resident, in gigabytes; None where Linux's /proc is not.

    The system keeps the maximum (VmHWM), so that one look at the end suffices.
    """
    try:
        found = _PEAK.search(Path(f"/proc/{process}/status").read_text(encoding="ascii"))
    except OSError:
        return None
    return int(found[1]) * 1024 / 1e9 if found else None


def overdrawn(name: str, budget: Budget, spent: Spent) -> str | None:
    """One line on what a notebook took beyond its budget, or None."""
    if spent.seconds > budget.seconds * SLOWNESS:
        return (
            f"{name}: its cells ran {spent.seconds:.0f} s, and it states {budget.seconds} s "
            f"(a slow machine may take {SLOWNESS:g} times as long); make it faster, or state more"
        )
    if spent.gigabytes is not None and spent.gigabytes > budget.gigabytes:
        return (
            f"{name}: its kernel took {spent.gigabytes:.2f} GB of memory, and it states "
            f"{budget.gigabytes:g} GB; make it smaller, or state more"
        )
    return None


def table(rows: list[tuple[str, Budget | None, Spent]]) -> list[str]:
    """Lines with what each notebook states and took, and the total, for the end of a test run."""
    lines = [f"{'notebook':<36}{'stated s':>9}{'took s':>9}{'stated GB':>11}{'took GB':>9}"]
    for name, budget, spent in sorted(rows, key=lambda row: row[0]):
        seconds = str(budget.seconds) if budget else "-"
        gigabytes = f"{budget.gigabytes:g}" if budget else "-"
        peak = "-" if spent.gigabytes is None else f"{spent.gigabytes:.2f}"
        lines.append(f"{name:<36}{seconds:>9}{spent.seconds:>9.1f}{gigabytes:>11}{peak:>9}")
    budgets = sum(budget.seconds for _, budget, _ in rows if budget)
    took = sum(spent.seconds for _, _, spent in rows)
    return [*lines, f"{f'all {len(rows)}, one after another':<36}{budgets:>9}{took:>9.1f}"]

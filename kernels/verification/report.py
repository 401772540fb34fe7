"""What the machine code of every shipped configuration looks like, and the targets it is held to.

:func:`report` compiles each configuration for each architecture and reads off what decides its
cost; ``python -m kernels report`` prints the table and, below it, each target of
:mod:`kernels.verification.targets` with its value. Cycles are bounds (see
:mod:`kernels.lab.bounds`), not measurements.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kernels.lab.bounds import DTYPE_RATES, Bracket, bracket
from kernels.lab.compiler import Compiled
from kernels.verification.outcome import Shipped
from kernels.verification.table import aligned
from kernels.verification.verify import ARCHITECTURES, KERNELS, chosen_kernels


@dataclass(frozen=True)
class ReportRow:
    """One configuration compiled for one architecture.

    ``scores`` is x/score (see :meth:`kernels.lab.Compiled.instructions_per_score`), 0 where it
    does not apply. ``widths`` are the bits of the loads that carry the data, 0 for whole tiles.
    ``limit`` is the busiest pipe of the main loop, "memory" for a kernel without a loop, and
    ``ideal`` to ``serial`` the bracket in cycles, 0 without a loop.
    """

    kernel: str
    dtype: str
    variant: str
    arch: str
    registers: int
    spills_in_loop: int
    scores: float
    flops_per_instruction: float
    widths: tuple[int, ...]
    asynchronous: int
    tensor_core: str
    barriers: int
    occupancy: float
    limit: str
    ideal: float
    serial: float
    narrowest: int = 128  # bits that a bulk load may have


def report(
    names: Sequence[str] = (),
    archs: Sequence[str] = (),
    *,
    quick: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> list[ReportRow]:
    """A row for every shipped configuration of the named kernels on each architecture.

    Args:
        names: keys of :data:`kernels.verification.verify.KERNELS`; all when empty.
        archs: of sm_80, sm_90, sm_100, gfx942; all when empty.
        quick: the short list of configurations.
        progress: called with a short line before each compilation.

    Raises: ``ValueError`` for a name or an architecture that is not known.
    """
    chosen = chosen_kernels(names)
    for arch in archs:
        if arch not in ARCHITECTURES:
            raise ValueError(f"unknown arch {arch!r}; known: {', '.join(ARCHITECTURES)}")
    rows = []
    for name in chosen:
        for one in KERNELS[name][0].shipped(quick):
            for arch in dict.fromkeys(archs) or ARCHITECTURES:
                if one.archs and arch not in one.archs:
                    continue
                progress(f"{name} {one.dtype} {one.variant}: {arch}")
                rows.append(report_row(one, one.compile(arch)))
    return rows


def report_row(shipped: Shipped, compiled: Compiled) -> ReportRow:
    found = bracket_of(shipped, compiled)
    scored = shipped.scores_on(compiled.arch) if compiled.tensor_core else 0
    return ReportRow(
        kernel=shipped.kernel,
        dtype=shipped.dtype,
        variant=shipped.variant,
        arch=compiled.arch,
        registers=compiled.registers,
        spills_in_loop=compiled.spills_in_loop,
        scores=compiled.instructions_per_score(scored) if scored else 0.0,
        flops_per_instruction=compiled.flops_per_instruction,
        widths=tuple(sorted(compiled.bulk_loads, reverse=True)),
        asynchronous=compiled.asynchronous_copies.total(),
        tensor_core=compiled.tensor_core,
        barriers=compiled.barriers if compiled.main_loop else 0,
        occupancy=compiled.occupancy,
        limit=found.limit if found else "memory",
        ideal=found.ideal if found else 0.0,
        serial=found.serial if found else 0.0,
        narrowest=shipped.narrowest,
    )


def bracket_of(shipped: Shipped, compiled: Compiled) -> Bracket | None:
    """The bracket of the main loop; None for a kernel without one."""
    if compiled.main_loop is None:
        return None
    dtype = shipped.operands or shipped.dtype
    return bracket(compiled, dtype=dtype if dtype in DTYPE_RATES else "fp32")


_HEAD = "kernel dtype variant arch reg local x/score loads async core occup limit cycles".split()
_MOST = 24  # characters of a variant, so that a line stays within 120
NOTE = (
    "local: local-memory operations in loops. x/score: instructions of a thread beside matrix "
    "products, a score.\nloads: bits of the widest/narrowest bulk load. async: copies to shared "
    "memory in the main loop.\nlimit, cycles: busiest pipe, and bound on the cycles of a pass of "
    "the main loop, ideal-serial; no measurement."
)


def format_report(rows: Iterable[ReportRow]) -> str:
    """The rows as an aligned table, at most 120 characters wide."""
    return aligned([_HEAD, *(_cells(row) for row in rows)])


def _cells(row: ReportRow) -> list[str]:
    return [
        row.kernel,
        row.dtype,
        row.variant if len(row.variant) <= _MOST else f"{row.variant[: _MOST - 1]}…",
        row.arch,
        str(row.registers),
        str(row.spills_in_loop),
        f"{row.scores:.2f}" if row.scores else "-",
        _widths(row.widths),
        str(row.asynchronous or "-"),
        row.tensor_core or "-",
        f"{row.occupancy:.0%}",
        row.limit,
        f"{row.ideal:.0f}-{row.serial:.0f}" if row.serial else "-",
    ]


def _widths(widths: tuple[int, ...]) -> str:
    """The widest load and, when there is another, the narrowest one."""
    names = ["tile" if width == 0 else str(width) for width in widths]
    return "/".join(dict.fromkeys([*names[:1], *names[-1:]])) or "-"


def report_json(rows: Iterable[ReportRow]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]

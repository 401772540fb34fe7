"""A launch over there: the tensors as one pool, everything else by its place in it.

A tensor that is both an argument and in a table of addresses has to be the same memory on the
other side, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from kernels.lab import OutOfBoundsError, RaceError, Report
from kernels.lab.memory import Traffic
from minift.course.launch import Table, launched

FACTS = ("programs", "dot_flops", "out_of_bounds", "races")
FINDINGS = {"OutOfBoundsError": OutOfBoundsError, "RaceError": RaceError}


def request(
    programs: int,
    args: Sequence[Any],
    constants: Mapping[str, Any],
    memory: Mapping[str, Sequence[Tensor]] | None,
    strict: bool,
) -> tuple[list[Tensor], dict[str, Any]]:
    """The tensors of a launch and the request for it, as ``answer`` takes them."""
    pool: list[Tensor] = []

    def place(entry: Any) -> Any:
        if isinstance(entry, Table):
            return {"rows": [[place(e) for e in row] for row in entry.rows]}
        if not isinstance(entry, Tensor):
            return {"value": entry}
        known = [i for i, tensor in enumerate(pool) if tensor is entry]
        if not known:
            pool.append(entry)
        return {"at": known[0] if known else len(pool) - 1}

    placed = [place(a) for a in args]
    named = None if memory is None else {n: [place(t) for t in ts] for n, ts in memory.items()}
    rest = {"constants": dict(constants), "memory": named, "strict": strict}
    return pool, {"pool": pool, "programs": programs, "args": placed, **rest}


def answer(
    kernel: Any,
    pool: list[Tensor],
    programs: int,
    args: list[Any],
    constants: dict[str, Any],
    memory: dict[str, list[Any]] | None,
    strict: bool,
) -> dict[str, Any]:
    """In the isolated process: launch, and say what happened."""

    def entry(placed: dict[str, Any]) -> Any:
        if "rows" in placed:
            return Table([[entry(e) for e in row] for row in placed["rows"]])
        return pool[placed["at"]] if "at" in placed else placed["value"]

    named = None if memory is None else {n: [entry(t) for t in ts] for n, ts in memory.items()}
    try:
        report = launched(kernel, programs, [entry(a) for a in args], constants, named, strict)
    except (OutOfBoundsError, RaceError) as error:
        return {"finding": type(error).__name__, "message": str(error), "pool": pool}
    traffic = {name: asdict(t) for name, t in report.traffic.items()}
    return {"pool": pool, "traffic": traffic, **{n: getattr(report, n) for n in FACTS}}


def report_of(found: dict[str, Any]) -> Report:
    """The report in an answer.

    Raises:
        OutOfBoundsError, RaceError: the answer is such a finding.
    """
    if "finding" in found:
        raise FINDINGS[found["finding"]](found["message"])
    traffic = {name: Traffic(**t) for name, t in found["traffic"].items()}
    return Report(traffic=traffic, **{name: found[name] for name in FACTS})

"""What the kernels have to reach, each with its value: of the machine code, and of the traffic.

A limit is a number that a good implementation has been seen to reach; the floor of x/score, for
example, is about 4.5 + D / BLOCK_N.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import kernels
from kernels.flash_attention.layouts import Layout
from kernels.lab.memory import Report, check
from kernels.lab.tiles import tiles
from kernels.verification.attention import DTYPES, OPTIONS, compile_attention
from kernels.verification.report import ReportRow
from kernels.verification.table import aligned


@dataclass(frozen=True)
class Target:
    """A value and its limit; ``relation`` is how the value has to stand to the limit."""

    name: str
    value: float
    relation: str  # "<=", ">=" or "="
    limit: float
    missed_by: tuple[str, ...] = ()  # the configurations that miss it, where it is about several

    @property
    def met(self) -> bool:
        if self.relation == "=":
            return self.value == self.limit
        return self.value <= self.limit if self.relation == "<=" else self.value >= self.limit


# (dtype, head dim, arch) -> the most that x/score of the forward kernel may be
SCORE_LIMITS = {
    ("fp16", "D=64", "sm_80"): 8.2,
    ("fp16", "D=128", "sm_80"): 12.5,
    ("fp16", "D=64", "sm_90"): 7.8,
    ("fp16", "D=128", "sm_90"): 10.7,
}

# The tiles (queries, keys), warps and stages for which those limits were found.
SCORE_LAYOUTS = {"D=64": Layout(128, 64, 4, 2), "D=128": Layout(128, 64, 8, 2)}

# (which backward kernel, arch) -> the least that FLOP/instruction may be, at D = 64 in fp16
BACKWARD_LIMITS = {
    ("dq", "sm_80"): 1170,
    ("dkv", "sm_80"): 986,
    ("dq", "sm_90"): 1414,
    ("dkv", "sm_90"): 1140,
}


def machine_targets(rows: Sequence[ReportRow]) -> list[Target]:
    """The targets that the rows of a report say something about."""
    spilling = [row for row in rows if row.spills_in_loop]
    spills = sum(row.spills_in_loop for row in spilling)
    made = [Target("local-memory operations in loops, all rows", spills, "=", 0, _who(spilling))]
    nvidia = [row for row in rows if row.arch.startswith("sm_")]
    if nvidia:
        narrow = [row for row in nvidia if not _wide(row)]
        name = "sm rows whose bulk loads are neither 128 bits nor asynchronous"
        made.append(Target(name, len(narrow), "=", 0, _who(narrow)))
    return [*made, *_score_targets(rows), *_backward_targets(rows)]


def _who(rows: Iterable[ReportRow]) -> tuple[str, ...]:
    return tuple(f"{row.kernel} {row.dtype} {row.variant} {row.arch}" for row in rows)


def _wide(row: ReportRow) -> bool:
    """Whether all bulk loads are 128 bits wide, or nothing waits for them. Codes of one byte move
    as words of 32 bits beside fp32 numbers: four to a thread, a full line to a warp."""
    return bool(row.widths) and (row.asynchronous > 0 or min(row.widths) >= row.narrowest)


def _score_targets(rows: Iterable[ReportRow]) -> Iterator[Target]:
    """The best variant of each registered size: the pointer or the descriptor version."""
    forward = [r for r in _plain(rows) if r.scores and {"attention", "forward"} <= _words(r)]
    for (dtype, size, arch), limit in SCORE_LIMITS.items():
        fitting = [r for r in forward if (r.dtype, r.arch) == (dtype, arch) and size in _words(r)]
        if fitting:
            name = f"attention forward {dtype} {size} {arch}, as shipped: x/score"
            yield Target(name, min(r.scores for r in fitting), "<=", limit)


def tile_targets(
    names: Sequence[str] = (), archs: Collection[str] = ("sm_80", "sm_90")
) -> list[Target]:
    """x/score of the forward kernel in the tiles for which the limits were found; the shipped
    tiles are chosen freely."""
    made = []
    for (dtype, size, arch), limit in SCORE_LIMITS.items():
        if arch in archs and (not names or "attention" in names):
            layout, d = SCORE_LAYOUTS[size], int(size.removeprefix("D="))
            compiled = compile_attention("forward", DTYPES[dtype], d, arch, layout=layout)
            value = compiled.instructions_per_score(layout.block_m * layout.block_n)
            tile = f"{layout.block_m}x{layout.block_n} w{layout.num_warps}"
            made.append(
                Target(
                    f"attention forward {dtype} {size} {tile} {arch}: x/score", value, "<=", limit
                )
            )
    return made


def _plain(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Without those that have an option on: the limits are of plain scores."""
    return [row for row in rows if not _words(row) & set(OPTIONS)]


def _words(row: ReportRow) -> set[str]:
    return set(f"{row.kernel} {row.variant}".split())


def _backward_targets(rows: Sequence[ReportRow]) -> Iterator[Target]:
    for (part, arch), limit in BACKWARD_LIMITS.items():
        wanted = {"attention", part, "D=64"}
        fitting = [r for r in _plain(rows) if wanted <= _words(r)]
        fitting = [r for r in fitting if (r.dtype, r.arch) == ("fp16", arch)]
        if fitting:
            name = f"attention {part} fp16 D=64 {arch}: FLOP/instruction"
            yield Target(name, max(r.flops_per_instruction for r in fitting), ">=", limit)


# ---- counted in the interpreter


def number_targets(names: Sequence[str] = ()) -> list[Target]:
    """The targets of traffic, launches and FLOPs of the named kernels, all of them by default."""
    measures: dict[str, Callable[[], list[Target]]] = {
        "attention": attention_targets,
        "adamw": adamw_targets,
    }
    return [
        t for name, measure in measures.items() if not names or name in names for t in measure()
    ]


def adamw_targets() -> list[Target]:
    """Two steps of a model of several tensors: the second is the one that is counted."""
    lengths = (1, 1000, 1023, 4096)
    params = [torch.nn.Parameter(torch.ones(n)) for n in lengths]
    optimizer: Any = kernels.AdamW(params, lr=1e-3)
    for _ in range(2):
        for p in params:
            p.grad = torch.ones_like(p)
        with check() as report:
            optimizer.step()
    moved = sum(
        t.loaded + t.stored
        for name, t in report.traffic.items()
        if name in ("param", "grad", "exp_avg", "exp_avg_sq")
    )
    return [
        Target("adamw fp32: bytes a parameter and step", moved / sum(lengths), "=", 28),
        Target("adamw fp32: launches a step", len(report.kernels), "=", 1),
    ]


def attention_targets(length: int = 512, d: int = 64) -> list[Target]:
    """A causal forward call in fp16 with the shipped tiles, against the least those tiles allow."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, length, d, generator=generator).half() for _ in range(3))
    with torch.no_grad(), check(trace=True) as report:
        kernels.attention(q, k, v, causal=True)
    block_m, block_n = (_tile_rows(report, name, (length, d)) for name in ("q", "k"))
    row = d * q.element_size()
    keys = sum(
        min(length, -(-min(first + block_m, length) // block_n) * block_n)
        for first in range(0, length, block_m)
    )
    least = 2 * (length + keys) * row + _statistics(report)
    needed = 4 * d * length * (length + 1) // 2
    block = max(block_m, block_n)
    of = f"attention forward causal, {length} × {length}"
    moved = (report.loaded + report.stored) / least
    flops = report.dot_flops / needed
    return [
        Target(f"{of}: bytes against the tiles' minimum", moved, "<=", 1.02),
        Target(f"{of}: FLOPs against those needed", flops, "<=", 1 + block / length),
    ]


def _tile_rows(report: Report, tensor: str, shape: tuple[int, int]) -> int:
    """Rows of the largest tile of q or k that a program loads; their names begin with it."""
    name = next(a.argument for a in report.trace if re.match(rf"{tensor}\b|{tensor}_", a.argument))
    return max(t.rows[1] - t.rows[0] for t in tiles(report, name, shape))


def _statistics(report: Report) -> int:
    """Bytes of the LSE, 4 a query, where the call stores it."""
    return sum(t.stored for name, t in report.traffic.items() if "lse" in name)


def format_targets(targets: Sequence[Target]) -> str:
    """One line a target: value, limit, met or missed; then who misses those about many rows."""
    head = ["target", "value", "limit", "verdict"]
    cells = [
        [t.name, _number(t.value), f"{t.relation} {_number(t.limit)}", "met" if t.met else "MISSED"]
        for t in targets
    ]
    lines = [f"  {t.name}:{_first(t.missed_by)}" for t in targets if t.missed_by]
    return "\n".join([aligned([head, *cells]), *(["", "missed by", *lines] if lines else [])])


def _first(names: Sequence[str], most: int = 3) -> str:
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return "".join(f"\n    {name}" for name in names[:most]) + more


def _number(value: float) -> str:
    """Four digits, so that a miss by a hair shows: 8.203 is not 8.2."""
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def targets_json(targets: Iterable[Target]) -> list[dict[str, Any]]:
    return [{**asdict(t), "met": t.met} for t in targets]

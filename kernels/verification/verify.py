"""Verify the kernels without a GPU, in numbers and in machine code.

:func:`verify` runs the cases of each kernel in the corrected interpreter (numbers, bounds, races,
exact traffic) and compiles the shipped layouts for four architectures (registers, spills, shared
memory, instructions). ``python -m kernels verify`` prints the table.
"""

import re
from collections.abc import Callable, Sequence
from types import ModuleType

import torch

from kernels.lab.compiler import Compiled
from kernels.lab.control_flow import mix
from kernels.verification import adamw, attention, decoding, ladder
from kernels.verification.outcome import Outcome, Shipped
from kernels.verification.table import MachineRow, NumberRow, Row

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# name -> the module with its cases and shipped layouts, and the dtypes that it runs in
KERNELS: dict[str, tuple[ModuleType, tuple[str, ...]]] = {
    "attention": (attention, ("fp32", "fp16", "bf16")),
    "decode": (decoding, ("fp32", "fp16", "bf16")),
    "adamw": (adamw, ("fp32", "fp16", "bf16")),
    "ladder": (ladder, ("fp32", "fp16", "bf16")),
}

_WIDE = re.compile(r"\.128|dwordx4|UTMALDG")


def verify(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Row]:
    """Check the named kernels (all of them by default).

    Args:
        names: keys of :data:`KERNELS`.
        quick: fewer cases and one architecture, a few seconds instead of about a minute.
        progress: called with a short line before each part.

    Returns a row for each kernel and dtype, then one for each compiled variant; all hold when
    every ``row.ok`` is true.

    Raises: ``ValueError`` for a name that is not known.
    """
    chosen = chosen_kernels(names)
    rows: list[Row] = []
    for name in chosen:
        module, dtypes = KERNELS[name]
        for dtype in dtypes:
            progress(f"{name} {dtype}: numbers")
            rows.append(number_row(name, dtype, module.outcomes(DTYPES[dtype], quick)))
    for name in chosen:
        for arch in ("sm_90",) if quick else ARCHITECTURES:
            for one in KERNELS[name][0].shipped(True):  # the rest is in the report
                progress(f"{name} {one.dtype} {one.variant}: {arch}")
                rows.append(machine_row(one, one.compile(arch)))
    return rows


def chosen_kernels(names: Sequence[str]) -> list[str]:
    """The names, or all when there are none; ``ValueError`` for one that is not known."""
    for name in names:
        if name not in KERNELS:
            raise ValueError(f"unknown kernel {name!r}; known: {', '.join(KERNELS)}")
    return list(dict.fromkeys(names)) or list(KERNELS)


def number_row(kernel: str, dtype: str, outcomes: list[Outcome]) -> NumberRow:
    return NumberRow(
        kernel=kernel,
        dtype=dtype,
        cases=len(outcomes),
        worst_error=max(o.ratio for o in outcomes),
        out_of_bounds=sum(len(o.report.out_of_bounds) for o in outcomes),
        races=sum(len(o.report.races) for o in outcomes),
        bytes_moved=sum(o.bytes_moved for o in outcomes),
        bytes_needed=sum(o.bytes_needed for o in outcomes),
    )


def machine_row(shipped: Shipped, compiled: Compiled) -> MachineRow:
    return MachineRow(
        kernel=shipped.kernel,
        dtype=shipped.dtype,
        variant=shipped.variant,
        arch=compiled.arch,
        registers=compiled.registers,
        spills_in_loop=compiled.spills_in_loop,
        shared_bytes=compiled.shared_bytes,
        occupancy=compiled.occupancy,
        blocks=compiled.blocks_per_multiprocessor,
        tensor_core=compiled.instruction_mix["mma"],
        tensor_core_needed=shipped.tensor_cores,
        wide=sum(n for op, n in compiled.opcodes("global").items() if _WIDE.search(op)),
        mix=dict(mix(compiled.core)),
    )

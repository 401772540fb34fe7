"""Verify the kernels without a GPU, in numbers and in machine code.

:func:`verify` runs the cases of :mod:`kernels.checks` in the corrected interpreter (numbers,
bounds, races, exact traffic) and compiles the shipped layouts for four architectures (registers,
spills, shared memory, instructions). ``python -m kernels verify`` prints the table.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from kernels.adamw import BLOCK, _adamw
from kernels.checks import (
    LAYOUTS,
    AdamWCase,
    AttentionCase,
    Outcome,
    check_adamw,
    check_attention,
)
from kernels.flash_attention import CONFIGS, _forward
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.table import MachineRow, NumberRow, Row

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "gfx942")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

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
        quick: fewer cases and one architecture, a few seconds instead of most of a minute.
        progress: called with a short line before each part.

    Returns a row for each kernel and dtype, then one for each compiled variant; all hold when
    every ``row.ok`` is true.

    Raises: ``ValueError`` for a name that is not known.
    """
    for name in names:
        if name not in KERNELS:
            raise ValueError(f"unknown kernel {name!r}; known: {', '.join(KERNELS)}")
    chosen = [KERNELS[name] for name in names or KERNELS]
    rows: list[Row] = []
    for number_rows, _ in chosen:
        rows += number_rows(quick, progress)
    for _, machine_rows in chosen:
        rows += machine_rows(quick, progress)
    return rows


# ---- attention


def attention_cases(dtype: torch.dtype, quick: bool) -> list[AttentionCase]:
    """Ragged lengths, head dims, groups and layouts; the last one runs the shipped layout."""
    shapes = [(17, 33, 24), (65, 100, 64)]
    if not quick:
        shapes += [(1, 1, 8), (133, 31, 40), (31, 133, 128), (64, 64, 16)]
        shapes += [(2, 65, 256), (100, 15, 80)]
    cases = [
        AttentionCase(
            m,
            n,
            d,
            dtype,
            causal=causal,
            heads=2 + 2 * (i % 2),
            kv_heads=1 + i % 2,
            layout=LAYOUTS[i % len(LAYOUTS)],
            seed=i,
        )
        for i, (m, n, d) in enumerate(shapes)
        for causal in (False, True)
    ]
    return [*cases, AttentionCase(200, 190, 64, dtype, causal=True, config=None)]


def _attention_numbers(quick: bool, progress: Callable[[str], None]) -> list[Row]:
    rows: list[Row] = []
    for name, dtype in DTYPES.items():
        progress(f"attention {name}: numbers")
        cases = attention_cases(dtype, quick)
        rows.append(
            _number_row("attention", name, [check_attention(c, strict=False) for c in cases])
        )
    return rows


def compile_attention(dtype: torch.dtype, d: int, arch: str, *, causal: bool = True) -> Compiled:
    """The shipped layout for this dtype and head dim, as a long causal call would compile it."""
    block_d = max(16, 1 << (d - 1).bit_length())
    config = CONFIGS[dtype.itemsize, block_d]
    q, kv = example((2, 4, 1024, d), dtype), example((2, 2, 1024, d), dtype)
    strides = [stride for t in (q, kv, kv, q) for stride in t.stride()]
    return compile_for(
        _forward,
        *(q, kv, kv, q, None),
        *strides,
        *(0.125, 4, 2, 1024, 1024),
        D=d,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_D=block_d,
        CAUSAL=causal,
        NEGATE=False,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        arch=arch,
    )


def _attention_machine(quick: bool, progress: Callable[[str], None]) -> list[Row]:
    variants = (
        [("fp16", 64)] if quick else [("fp16", 64), ("fp16", 128), ("bf16", 64), ("fp32", 64)]
    )
    rows: list[Row] = []
    for arch in ("sm_90",) if quick else ARCHITECTURES:
        for name, d in variants:
            progress(f"attention {name}, D = {d}: {arch}")
            compiled = compile_attention(DTYPES[name], d, arch)
            # fp32 keeps full precision, for which NVIDIA's tensor cores have no instruction.
            needed = name != "fp32"
            rows.append(_machine_row("attention", name, f"D={d}", compiled, needed))
    return rows


# ---- AdamW


def adamw_cases(quick: bool) -> list[AdamWCase]:
    """Tails of every kind, with and without decay, large and small steps."""
    lengths = (1, 1023, 1024, 1025)
    cases = [AdamWCase(), AdamWCase(lengths=lengths, steps=2, block=None, seed=1)]
    if not quick:
        cases += [
            AdamWCase(weight_decay=0.0, seed=2),
            AdamWCase(lr=1e-3, betas=(0.4, 0.95), seed=3),
            AdamWCase(lr=1e-4, eps=1e-6, seed=4, steps=10),
        ]
    return cases


def _adamw_numbers(quick: bool, progress: Callable[[str], None]) -> list[Row]:
    progress("adamw fp32: numbers")
    outcomes = [check_adamw(case, strict=False) for case in adamw_cases(quick)]
    return [_number_row("adamw", "fp32", outcomes)]


def compile_adamw(arch: str) -> Compiled:
    """The shipped layout, with every tensor aligned to 16 bytes."""
    return compile_for(
        _adamw,
        example((8, 5), torch.int64),
        example((8, 7), torch.float32),
        example((64, 2), torch.int32),
        ALIGNED=True,
        BLOCK=BLOCK,
        num_warps=4,
        enable_fp_fusion=False,
        arch=arch,
    )


def _adamw_machine(quick: bool, progress: Callable[[str], None]) -> list[Row]:
    rows: list[Row] = []
    for arch in ("sm_90",) if quick else ARCHITECTURES:
        progress(f"adamw: {arch}")
        rows.append(_machine_row("adamw", "fp32", "aligned", compile_adamw(arch), False))
    return rows


KERNELS = {
    "attention": (_attention_numbers, _attention_machine),
    "adamw": (_adamw_numbers, _adamw_machine),
}


# ---- rows


def _number_row(kernel: str, dtype: str, outcomes: list[Outcome]) -> NumberRow:
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


def _machine_row(
    kernel: str, dtype: str, variant: str, compiled: Compiled, tensor_core_needed: bool
) -> MachineRow:
    loops = compiled.main_loops
    mix: Counter[str] = loops[0].mix if loops else compiled.instruction_mix
    return MachineRow(
        kernel=kernel,
        dtype=dtype,
        variant=variant,
        arch=compiled.arch,
        registers=compiled.registers,
        spills_in_loop=compiled.spills_in_loop,
        shared_bytes=compiled.shared_bytes,
        occupancy=compiled.occupancy,
        blocks=compiled.blocks_per_multiprocessor,
        tensor_core=compiled.instruction_mix["mma"],
        tensor_core_needed=tensor_core_needed,
        wide=sum(n for op, n in compiled.opcodes("global").items() if _WIDE.search(op)),
        mix=dict(mix),
    )

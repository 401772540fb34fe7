"""Attention: what a case gives and moves, held against its bounds, and what is shipped."""

import math
from functools import partial
from types import ModuleType
from typing import Any

import torch

import kernels.flash_attention
from kernels import reference
from kernels.flash_attention.backward import _dkv, _dq
from kernels.flash_attention.bias_gradient import _dbias
from kernels.flash_attention.call import EVERYWHERE
from kernels.flash_attention.descriptor import _forward_descriptor, describe
from kernels.flash_attention.forward import _forward
from kernels.flash_attention.layouts import Layout, block_d, row_of_table
from kernels.flash_attention.scores import Options
from kernels.flash_attention.tiles import view
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.lab.memory import Report, check
from kernels.verification.attention_bounds import error, reference_and_bounds
from kernels.verification.attention_cases import (
    FEATURES,
    AttentionCase,
    Inputs,
    feature_cases,
    shape_cases,
)
from kernels.verification.outcome import Outcome, Shipped, poisoned_memory

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
KERNELS = {"forward": _forward, "dq": _dq, "dkv": _dkv, "dbias": _dbias}
SIZES = [*(("fp16", d) for d in (64, 128, 16, 32, 256)), ("bf16", 64), ("fp32", 64), ("fp32", 128)]

BULK = ("q", "k", "v", "out", "dout", "dq", "dk", "dv")
ROWS = ("lse_ptr", "delta_ptr", "dlse_ptr")  # one fp32 number a query

Results = dict[str, torch.Tensor | None]  # out, lse (natural), dq, dk, dv, dbias, dsinks


def run_attention(
    case: AttentionCase, package: ModuleType = kernels.flash_attention, *, strict: bool = True
) -> tuple[Results, Report, Report | None]:
    """What the kernels give, and what the launches of forward and backward did."""
    inputs = Inputs(case)
    q, k, v = inputs.q, inputs.k, inputs.v
    call, layouts = package.call, case.layouts(package.layouts)
    problem = inputs.problem(call)
    with poisoned_memory(), check(strict=strict) as forward:
        out, lse = call.forward(q, k, v, problem, layouts)
    results: Results = {"out": out, "lse": lse * math.log(2)}
    if not case.backward:
        return results, forward, None
    dlse = None if inputs.dlse is None else inputs.dlse * math.log(2)
    with poisoned_memory(), check(strict=strict) as backward:
        found = call.backward(inputs.dout, dlse, q, k, v, out, lse, problem, layouts)
    names = ("dq", "dk", "dv", "dbias", "dsinks")
    return results | dict(zip(names, found, strict=True)), forward, backward


def check_attention(
    case: AttentionCase, package: ModuleType = kernels.flash_attention, *, strict: bool = True
) -> Outcome:
    """Run a case and measure it; ``strict`` as in :func:`kernels.lab.check`."""
    results, forward, backward = run_attention(case, package, strict=strict)
    exact, bounds = reference_and_bounds(case)
    ratio = 0.0
    for name, bound in bounds.items():
        found = results[name]
        if found is None:
            return Outcome(math.inf, forward, 0, 0)
        ratio = max(ratio, error(found, exact[name], bound))
    moved, needed = bulk_bytes(forward), attention_bytes(case)
    if backward is not None:
        forward.out_of_bounds += backward.out_of_bounds
        forward.races += backward.races
        if not case.bias:  # whose gradient is a pass of its own
            moved, needed = moved + bulk_bytes(backward), needed + backward_bytes(case)
    return Outcome(ratio, forward, moved, needed)


# ---- traffic


def bulk_bytes(report: Report) -> int:
    """The bytes of the matrices and of the numbers a query; options and tables left out."""
    names = {*(f"{name}.ptr" for name in BULK), *ROWS}
    return sum(t.loaded + t.stored for name, t in report.traffic.items() if name in names)


def attention_bytes(case: AttentionCase) -> int:
    """The bytes that tiling leaves: q, out and LSE once, and for each tile of queries the tiles of
    keys and values of which at least one query sees something."""
    m, row = case.m, case.d * case.dtype.itemsize
    keys = _tiles_seen(case, "forward")
    return case.batch * case.heads * (2 * (m + keys) * row + 4 * m)


def backward_bytes(case: AttentionCase) -> int:
    """The same for the three kernels of the backward pass."""
    m, n, row = case.m, case.n, case.d * case.dtype.itemsize
    delta = 2 * m * row + 4 * m * (2 if case.lse_gradient else 1)
    dq = 3 * m * row + 8 * m + 2 * _tiles_seen(case, "dq") * row
    queries = _tiles_seen(case, "dkv", by_keys=True)
    dkv = queries * (2 * row + 8)
    own = 4 * n * row
    return case.batch * (case.heads * (delta + dq + dkv) + case.kv_heads * own)


def _tiles_seen(case: AttentionCase, kernel: str, *, by_keys: bool = False) -> int:
    """Rows of the other side that all tiles of one head load, in whole tiles."""
    shipped = kernels.flash_attention.layouts.layout_for(kernel, Inputs(case).q)
    mine, other = case.blocks or shipped[:2]
    options = Inputs(case).options
    seen, _ = reference.attention_band(
        *(case.m, case.n, case.causal, case.window),
        *(options.get("cu_seqlens_q"), options.get("cu_seqlens_k")),
    )
    rows = 0
    q0 = k0 = 0
    for m, n in case.packed or ((case.m, case.n),):
        own = seen[q0 : q0 + m, k0 : k0 + n]
        q0, k0 = q0 + m, k0 + n
        if by_keys:
            own, tile, step = own.T, other, mine
        else:
            tile, step = mine, other
        for block in own.split(tile):
            touched = block.any(0).split(step)
            rows += sum(len(part) for part in touched if part.any())
    return rows


# ---- what is verified and shipped


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    """Ragged shapes and every feature; the last case runs the shipped tile sizes."""
    shapes, features = shape_cases(dtype), feature_cases(dtype)
    if quick:
        chosen = [shapes["17 x 33, D = 24, causal"], features["dropout"], features["packed"]]
    else:
        chosen = [*shapes.values(), *(features[name] for name in FEATURES)]
    chosen.append(AttentionCase(150, 140, 64, dtype, causal=True, blocks=None, seed=1))
    return [check_attention(case, strict=False) for case in chosen]


def shipped(quick: bool) -> list[Shipped]:
    """Every kernel with its layouts for a long causal call; those of the bias gradient too."""
    sizes = [("fp16", 64)] if quick else SIZES
    return [
        Shipped(
            f"attention {kernel}",
            name,
            f"D={d}",
            partial(compile_attention, kernel, DTYPES[name], d),
            # fp32 keeps full precision, for which NVIDIA's tensor cores have no instruction.
            tensor_cores=name != "fp32",
            scores={
                machine: layout.block_m * layout.block_n
                for machine, layout in row_of_table(kernel, DTYPES[name], d).items()
            },
            narrowest=32
            if kernel in ("dkv", "dbias")
            else 128,  # LSE and delta, one number a query
        )
        for kernel in KERNELS
        for name, d in sizes
    ] + [
        Shipped(
            "attention forward",
            name,
            f"D={d} descriptors",
            partial(compile_descriptor, DTYPES[name], d),
            scores={
                machine: layout.block_m * layout.block_n
                for machine, layout in row_of_table("forward", DTYPES[name], d).items()
            },
            archs=("sm_90", "sm_100"),  # those that have a copy engine for tiles
        )
        for name, d in sizes
        if name == "fp16" and not quick
    ]


def compile_attention(
    kernel: str,
    dtype: torch.dtype,
    d: int,
    arch: str,
    *,
    options: Options | None = None,
    layout: Layout | None = None,
    transposed: bool = False,
) -> Compiled:
    """One kernel's code for a long causal call with GQA and the shipped layout; ``transposed``:
    the rows of q, k, v and dout are neighbours in memory."""
    q, kv = example((2, 4, 1024, d), dtype), example((2, 2, 1024, d), dtype)
    if transposed:
        q, kv = (t.mT.contiguous().mT for t in (q, kv))
    row = example((2, 4, 1024))
    plain = Options(*[None] * len(Options._fields))
    if kernel == "dbias" and options is None:
        options = plain._replace(bias=view(example((1, 4, 1024, 1024), dtype)))
    layout = layout or row_of_table(kernel, dtype, d, rich=options is not None)[arch]
    numbers = (1024, 1024, 4, 2, EVERYWHERE, 0)  # M, N, H, GROUP, left, right
    mine, theirs, x = view(q), view(kv), options or plain
    dbias = view(example((1, 4, 1024, 1024)))
    arguments: tuple[Any, ...] = {
        "forward": (mine, theirs, theirs, mine, row, None, x, None, 0.125),
        "dq": (mine, theirs, theirs, mine, mine, row, row, x, None, 0.18, 0.125),
        "dkv": (mine, theirs, theirs, mine, theirs, theirs, row, row, x, None, 0.18, 0.125),
        "dbias": (mine, theirs, theirs, mine, dbias, row, row, x, None, 0.18, 1, 2),
    }[kernel]
    return compile_for(
        KERNELS[kernel],
        *arguments,
        *numbers,
        D=d,
        BLOCK_D=block_d(d),
        **layout.options(),
        **({"NEGATE": False} if kernel == "forward" else {}),
        arch=arch,
    )


def compile_descriptor(dtype: torch.dtype, d: int, arch: str) -> Compiled:
    """The forward kernel with tensor descriptors, for the same call."""
    q, kv = example((2, 4, 1024, d), dtype), example((2, 2, 1024, d), dtype)
    layout, width = row_of_table("forward", dtype, d)[arch], block_d(d)
    mine = describe(q, layout.block_m, width)
    theirs = describe(kv, layout.block_n, width)
    numbers = (0.125, 1024, 1024, 4, 2, EVERYWHERE, 0)  # scale, M, N, H, GROUP, left, right
    return compile_for(
        _forward_descriptor,
        *(mine, theirs, theirs, mine, example((2, 4, 1024)), *numbers),
        BLOCK_D=width,
        **layout.options(),
        arch=arch,
    )

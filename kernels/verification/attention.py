"""Attention: what a case gives and moves, held against its bounds, and what is shipped."""

import math
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import torch

import kernels.flash_attention
from kernels.flash_attention import call
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
from kernels.verification.attention_traffic import backward_bytes, bulk_bytes, forward_bytes
from kernels.verification.outcome import Outcome, Shipped, poisoned_memory

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
KERNELS = {"forward": _forward, "dq": _dq, "dkv": _dkv, "dbias": _dbias}
OPTIONS = ("softcap", "slopes", "bias", "key_mask", "dropout")  # see the table of rich layouts
NVIDIA = ("sm_80", "sm_90", "sm_100")
COPY_ENGINES = NVIDIA[1:]  # those that have an engine for copies of tiles
SIZES = [*(("fp16", d) for d in (64, 128, 16, 32, 256)), ("bf16", 64), ("fp32", 64), ("fp32", 128)]

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
    moved, needed = bulk_bytes(forward), forward_bytes(case)
    if backward is not None:
        forward.out_of_bounds += backward.out_of_bounds
        forward.races += backward.races
        moved, needed = moved + bulk_bytes(backward), needed + backward_bytes(case)
    return Outcome(ratio, forward, moved, needed)


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
    """Every kernel with its layouts for a long causal call, those of the bias gradient too; unless
    ``quick`` also descriptors, delta, and each option alone with the tiles of its table."""
    sizes = [("fp16", 64)] if quick else SIZES
    made = [_shipped(kernel, name, d) for kernel in KERNELS for name, d in sizes]
    if quick:
        return made
    return [
        *made,
        *(_shipped("forward", n, d, descriptors=True) for n, d in sizes if n == "fp16"),
        *(
            _shipped(kernel, "fp16", d, option)
            for kernel in ("forward", "dq", "dkv")
            for d in (64, 128)
            for option in OPTIONS
        ),
        *(
            Shipped(
                *("attention delta", name, f"D={d}", partial(compile_delta, DTYPES[name], d)),
                tensor_cores=False,
            )
            for name, d in sizes
        ),
    ]


def _shipped(
    kernel: str, name: str, d: int, option: str | None = None, *, descriptors: bool = False
) -> Shipped:
    dtype = DTYPES[name]
    compiler = partial(compile_attention, kernel, dtype, d)
    if option:
        compiler = partial(compiler, options=example_options(option))
    if descriptors:
        compiler = partial(compile_descriptor, dtype, d)
    row = row_of_table(kernel, dtype, d, rich=option is not None)
    archs = NVIDIA if option else COPY_ENGINES if descriptors else ()
    narrowest = 32 if kernel in ("dkv", "dbias") else 128  # LSE and delta, one number a query
    if option == "key_mask":
        narrowest = 8  # one byte a key
    if (kernel, option) == ("dkv", "bias"):
        narrowest = 16  # scores are transposed there: neighbours in a row are not in one thread
    return Shipped(
        f"attention {kernel}",
        name,
        " ".join(filter(None, (f"D={d}", option, "descriptors" if descriptors else ""))),
        compiler,
        # fp32 keeps full precision, for which NVIDIA's tensor cores have no instruction.
        tensor_cores=name != "fp32",
        scores={machine: layout.block_m * layout.block_n for machine, layout in row.items()},
        archs=archs,
        narrowest=narrowest,
    )


def example_options(*names: str) -> Options:
    """Those of :data:`OPTIONS` that are named, for the call of :func:`compile_attention`."""
    seed = example((1,), torch.int64)
    given: dict[str, dict[str, Any]] = {
        "softcap": {"softcap": 30.0},
        "slopes": {"slopes": view(example((2, 4, 1, 1)))},
        "bias": {"bias": view(example((2, 4, 1024, 1024), torch.float16))},
        "key_mask": {"key_mask": view(example((2, 1, 1, 1024), torch.uint8))},
        "dropout": {"seed": seed, "threshold": 2**20, "rescale": 1.25},
    }
    plain = Options(*[None] * len(Options._fields))
    return plain._replace(**{k: v for name in names for k, v in given[name].items()})


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
    if kernel == "dbias" and options is None:
        options = example_options()._replace(bias=view(example((1, 4, 1024, 1024), dtype)))
    layout = layout or row_of_table(kernel, dtype, d, rich=options is not None)[arch]
    numbers = (1024, 1024, 4, 2, EVERYWHERE, 0)  # M, N, H, GROUP, left, right
    mine, theirs, x = view(q), view(kv), options or example_options()
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
    plain = Options(*[None] * len(Options._fields))
    return compile_for(
        _forward_descriptor,
        *(mine, theirs, theirs, mine, example((2, 4, 1024)), plain, *numbers),
        BLOCK_D=width,
        **layout.options(),
        arch=arch,
    )


def compile_delta(dtype: torch.dtype, d: int, arch: str) -> Compiled:
    """The kernel that takes Σ dO · O before the gradients, as it is launched for the same call."""
    q = example((2, 4, 1024, d), dtype)
    with mock.patch.object(call, "launch") as launch:
        call._launch_delta(q, None, q, q)
    kernel, _grid, *arguments = launch.call_args.args
    return compile_for(kernel, *arguments, **launch.call_args.kwargs, arch=arch)

"""How fast the kernels are, beside PyTorch's own: measured on a GPU, bounded without one.

On a GPU each operation of :data:`OPERATIONS` is timed with ``triton.testing.do_bench`` (medians)
against its rivals. Without one there is nothing to measure: :func:`bounds` says instead what no
GPU can beat (the roofline of the operation) and what the main loop allows (its bracket). To bench
another kernel, add one entry to :data:`OPERATIONS`.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import triton.testing

import kernels
from kernels.lab.bounds import roofline
from kernels.lab.gpus import GPUS
from kernels.verification.outcome import Shipped
from kernels.verification.report import bracket_of
from kernels.verification.table import aligned
from kernels.verification.verify import KERNELS, chosen_kernels

Runs = dict[str, Callable[[], Any]]  # implementation -> one call; ours is called "kernels"


@dataclass(frozen=True)
class Operation:
    """One line of the bench.

    Attributes:
        kernel, dtype: which kernel, as ``verify`` names them.
        case: the sizes, for the reader.
        build: device -> what to time; "kernels" is ours, the others are its rivals.
        bytes, flops: the least that the operation moves and does.
        shipped: words of the shipped configuration whose main loop gives the bracket, or none.
        peak: whose FLOP/s the roofline takes: ``dtype``, or "fp32" without tensor cores.
    """

    kernel: str
    dtype: str
    case: str
    build: Callable[[torch.device], Runs]
    bytes: int
    flops: int
    shipped: str
    peak: str


def attention(
    batch: int, heads: int, length: int, d: int, *, causal: bool = True, backward: bool = False
) -> Operation:
    """Attention against SDPA and flex-attention: the forward pass, or the backward pass alone."""
    scores = batch * heads * length * (length + 1 if causal else 2 * length) // 2
    # Forward: q·kᵀ and p·v. Backward: q·kᵀ again, dO·vᵀ, pᵀ·dO, dS·k and dSᵀ·q. 2 a multiply-add.
    products = 5 if backward else 2
    tensors = 8 if backward else 4  # q, k, v, out; with dO, dQ, dK, dV
    which = "backward" if backward else "forward"
    return Operation(
        "attention",
        "fp16",
        f"{which} B={batch} H={heads} T={length} D={d}{' causal' if causal else ''}",
        partial(_attention_runs, batch, heads, length, d, causal, backward),
        bytes=tensors * batch * heads * length * d * 2,
        flops=2 * products * scores * d,
        shipped="" if backward else f"forward D={d}",
        peak="fp16",
    )


def _attention_runs(
    batch: int,
    heads: int,
    length: int,
    d: int,
    causal: bool,
    backward: bool,
    device: torch.device,
) -> Runs:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    shape = (batch, heads, length, d)
    q, k, v, d_out = (torch.randn(shape, device=device, dtype=torch.float16) for _ in range(4))
    inputs = (q, k, v)
    for tensor in inputs:
        tensor.requires_grad_(backward)
    mask = None
    if causal:
        mask = create_block_mask(
            lambda b, h, i, j: i >= j, None, None, length, length, device=str(device)
        )
    flex = torch.compile(flex_attention) if device.type == "cuda" else flex_attention
    sdpa = torch.nn.functional.scaled_dot_product_attention
    runs: Runs = {
        "kernels": partial(kernels.attention, q, k, v, causal=causal),
        "sdpa": partial(sdpa, q, k, v, is_causal=causal),
        "flex": partial(flex, q, k, v, block_mask=mask),
    }
    if not backward:
        return runs
    return {
        name: partial(torch.autograd.grad, run(), inputs, d_out, retain_graph=True)
        for name, run in runs.items()
    }


def adamw(tensors: int, length: int) -> Operation:
    """One optimiser step of a whole model in fp32, against torch's fused AdamW."""
    n = tensors * length
    return Operation(
        "adamw",
        "fp32",
        f"step of {tensors} tensors of {length:,}",
        partial(_adamw_runs, tensors, length),
        bytes=28 * n,  # read param, grad, two moments; write param and two moments
        flops=15 * n,
        shipped="",
        peak="fp32",
    )


def _adamw_runs(tensors: int, length: int, device: torch.device) -> Runs:
    def step(optimizer: Callable[..., Any]) -> Callable[[], Any]:
        params = [torch.nn.Parameter(torch.ones(length, device=device)) for _ in range(tensors)]
        for p in params:
            p.grad = torch.full_like(p, 1e-3)
        return optimizer(params, lr=1e-3).step

    return {
        "kernels": step(kernels.AdamW),
        "torch fused": step(partial(torch.optim.AdamW, fused=True)),
        "torch foreach": step(partial(torch.optim.AdamW, foreach=True)),
    }


def decode(batch: int, heads: int, kv_heads: int, length: int, d: int) -> Operation:
    """One new token against a cache, with heads that share keys, against SDPA."""
    return Operation(
        "decode",
        "fp16",
        f"B={batch} H={heads} of {kv_heads} cache={length} D={d}",
        partial(_decode_runs, batch, heads, kv_heads, length, d),
        bytes=2 * batch * kv_heads * length * d * 2,  # k and v once
        flops=4 * batch * heads * length * d,
        shipped=f"decode D={d} contiguous",
        peak="fp16",
    )


def _decode_runs(
    batch: int, heads: int, kv_heads: int, length: int, d: int, device: torch.device
) -> Runs:
    q = torch.randn(batch, heads, 1, d, device=device, dtype=torch.float16)
    shape = (batch, kv_heads, length, d)
    k, v = (torch.randn(shape, device=device, dtype=torch.float16) for _ in range(2))
    sdpa = torch.nn.functional.scaled_dot_product_attention
    return {
        "kernels": partial(kernels.decode_attention, q, k, v),
        "sdpa": partial(sdpa, q, k, v, enable_gqa=True),
    }


OPERATIONS: list[Operation] = [
    attention(4, 16, 1024, 64),
    attention(4, 16, 4096, 64),
    attention(4, 16, 4096, 64, causal=False),
    attention(4, 16, 4096, 128),
    attention(4, 16, 4096, 64, backward=True),
    attention(4, 16, 4096, 128, backward=True),
    decode(1, 32, 8, 32768, 128),
    decode(16, 32, 8, 8192, 128),
    adamw(1, 2**26),
    adamw(300, 2**18),
]


# ---- with a GPU


@dataclass(frozen=True)
class Timing:
    """The median time of one implementation of one operation."""

    kernel: str
    case: str
    implementation: str
    milliseconds: float
    ratio: float  # of this time to ours: above 1, ours is faster
    teraflops: float
    gigabytes: float  # a second, of the operation's least traffic


def measure(
    names: Sequence[str] = (), *, progress: Callable[[str], None] = lambda message: None
) -> list[Timing]:
    """Time every operation of the named kernels on the current GPU; ours comes first."""
    timings = []
    for operation in _chosen(names):
        runs = operation.build(torch.device("cuda"))
        ours = 0.0
        for name, run in runs.items():
            progress(f"{operation.kernel} {operation.case}: {name}")
            try:
                time = float(triton.testing.do_bench(run, return_mode="median"))
            except Exception as error:  # one that does not run must not hide the others
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                print(
                    f"{operation.kernel} {operation.case}: {name} failed: {reason}", file=sys.stderr
                )
                continue
            ours = ours or time
            timings.append(_timing(operation, name, time, ours))
        del runs
        torch.cuda.empty_cache()
    return timings


def _timing(operation: Operation, name: str, milliseconds: float, ours: float) -> Timing:
    seconds = milliseconds / 1e3
    return Timing(
        operation.kernel,
        operation.case,
        name,
        milliseconds,
        milliseconds / ours,
        operation.flops / seconds / 1e12,
        operation.bytes / seconds / 1e9,
    )


def format_timings(timings: Iterable[Timing]) -> str:
    head = ["kernel", "case", "implementation", "ms (median)", "ratio", "TFLOP/s", "GB/s"]
    cells = [
        [
            t.kernel,
            t.case,
            t.implementation,
            f"{t.milliseconds:.3f}",
            f"{t.ratio:.2f}",
            f"{t.teraflops:,.1f}",
            f"{t.gigabytes:,.0f}",
        ]
        for t in timings
    ]
    return aligned([head, *cells])


# ---- without one


@dataclass(frozen=True)
class Bound:
    """What one GPU cannot beat on one operation: a bound, not a measurement.

    ``milliseconds`` is the roofline, ``limit`` its side. ``busiest`` is the pipe of the main loop
    that is busy longest, ``ideal`` and ``serial`` the times of the bracket; empty and 0 where no
    configuration is shipped for the case or it has no main loop.
    """

    kernel: str
    case: str
    gpu: str
    milliseconds: float
    limit: str
    busiest: str
    ideal: float
    serial: float


def bounds(
    names: Sequence[str] = (), *, progress: Callable[[str], None] = lambda message: None
) -> list[Bound]:
    """The bounds of every operation of the named kernels on every GPU of the data sheets."""
    return [_bound(operation, arch, progress) for operation in _chosen(names) for arch in GPUS]


def configuration(operation: Operation) -> Shipped | None:
    """The shipped configuration whose main loop does most of the operation's work."""
    if not operation.shipped:
        return None
    words = set(operation.shipped.split())
    return next(
        one
        for one in KERNELS[operation.kernel][0].shipped(False)
        if one.dtype == operation.dtype and words <= set(f"{one.kernel} {one.variant}".split())
    )


def _bound(operation: Operation, arch: str, progress: Callable[[str], None]) -> Bound:
    roof = roofline(operation.bytes, operation.flops, arch=arch, dtype=operation.peak)
    found = None
    if one := configuration(operation):
        progress(f"{operation.kernel} {operation.case}: {arch}")
        found = bracket_of(one, one.compile(arch))
    busiest, ideal, serial = "", 0.0, 0.0
    if found and found.flops:
        busiest = found.limit
        ideal, serial = (
            operation.flops / (found.tflops(cycles) * 1e9) for cycles in (found.ideal, found.serial)
        )
    return Bound(
        operation.kernel,
        operation.case,
        roof.gpu.name,
        roof.seconds * 1e3,
        roof.limit,
        busiest,
        ideal,
        serial,
    )


def format_bounds(found: Iterable[Bound]) -> str:
    head = ["kernel", "case", "GPU", "roofline (bound)", "limit", "main loop (bound)", "busiest"]
    cells = [
        [
            b.kernel,
            b.case,
            b.gpu,
            f"{b.milliseconds:.3f} ms",
            b.limit,
            f"{b.ideal:.3f}-{b.serial:.3f} ms" if b.busiest else "-",
            b.busiest or "-",
        ]
        for b in found
    ]
    return aligned([head, *cells])


def bench_json(rows: Iterable[Timing] | Iterable[Bound]) -> list[dict[str, Any]]:
    return [asdict(row) for row in rows]


def _chosen(names: Sequence[str]) -> list[Operation]:
    chosen = chosen_kernels(names)
    return [operation for operation in OPERATIONS if operation.kernel in chosen]

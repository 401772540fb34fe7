"""Decoding over a cache: cases, their bounds, and the configurations that are shipped."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from types import ModuleType
from typing import Any
from unittest import mock

import torch

import kernels.flash_attention
from kernels import reference
from kernels.flash_attention import call
from kernels.flash_attention import decode as flash_decode
from kernels.flash_attention.decode import _decode_share
from kernels.flash_attention.layouts import block_d, row_of_table
from kernels.flash_attention.scores import Options
from kernels.flash_attention.tiles import view
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.lab.memory import check
from kernels.verification.attention_bounds import EPS32, LOG2_E
from kernels.verification.outcome import Outcome, Shipped, poisoned_memory, worst

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class DecodeCase:
    """Shapes, cache and options of one call; ``lengths`` has the keys of each sequence."""

    lengths: tuple[int, ...] = (40, 1, 33)
    m: int = 1
    d: int = 16
    dtype: torch.dtype = torch.float32
    heads: int = 4
    kv_heads: int = 2
    room: int = 48  # keys that the cache has room for
    page: int | None = None  # rows of a page; None for a contiguous cache
    shares: int = 3
    block_n: int | None = 16  # None for the shipped one
    scale: float | None = None
    window: int | None = None
    softcap: float | None = None
    alibi: bool = False
    sinks: bool = False
    spread: float = 1.0
    seed: int = 0


class Cache:
    """q, and k and v as the reference takes them and as the kernel finds them; NaN in between."""

    def __init__(self, case: DecodeCase) -> None:
        self.case = case
        self.generator = torch.Generator().manual_seed(case.seed)
        batch = len(case.lengths)
        self.q = self._random(batch, case.heads, case.m, case.d) * case.spread
        self.k = self._random(batch, case.kv_heads, case.room, case.d) * case.spread
        self.v = self._random(batch, case.kv_heads, case.room, case.d)
        self.lengths = torch.tensor(case.lengths, dtype=torch.int32)
        self.q, self.k, self.v = (t.to(case.dtype) for t in (self.q, self.k, self.v))

    def _random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator)

    @cached_property
    def options(self) -> dict[str, Any]:
        """As ``reference.attention`` takes them."""
        case = self.case
        options: dict[str, Any] = {n: getattr(case, n) for n in ("scale", "window", "softcap")}
        if case.alibi:
            options["alibi_slopes"] = 2.0 ** -torch.arange(1, case.heads + 1.0)
        if case.sinks:
            options["sinks"] = self._random(case.heads)
        return options

    @cached_property
    def stored(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """k and v in memory, and the table of pages if there is one."""
        case = self.case
        if case.page is None:
            k, v = (self._contiguous(t) for t in (self.k, self.v))
            return k, v, None
        pages = -(-case.room // case.page)
        order = torch.randperm(len(case.lengths) * pages + 2, generator=self.generator)
        table = order[: len(case.lengths) * pages].view(-1, pages).to(torch.int32)
        k, v = (self._paged(t, table) for t in (self.k, self.v))
        return k, v, table

    def _contiguous(self, values: torch.Tensor) -> torch.Tensor:
        """(B, T, H, D) in memory, viewed as (B, H, T, D); NaN behind each sequence."""
        b, h, t, d = values.shape
        out = torch.full((b, t, h, d), torch.nan, dtype=values.dtype).transpose(1, 2)
        for i, length in enumerate(self.case.lengths):
            out[i, :, :length] = values[i, :, :length]
        return out

    def _paged(self, values: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        page = self.case.page
        assert page is not None
        shape = (table.numel() + 2, self.case.kv_heads, page, self.case.d)
        out = torch.full(shape, torch.nan, dtype=values.dtype)
        for b, length in enumerate(self.case.lengths):
            for j in range(length):
                out[table[b, j // page], :, j % page] = values[b, :, j]
        return out


def check_decode(
    case: DecodeCase, package: ModuleType = kernels.flash_attention, *, strict: bool = True
) -> Outcome:
    """Output and LSE against fp64 attention over each sequence's own keys."""
    cache = Cache(case)
    k, v, table = cache.stored
    problem = package.call.Problem(
        scale=case.d**-0.5 if case.scale is None else case.scale,
        left=package.call.EVERYWHERE if case.window is None else case.window - 1,
        right=0,
        softcap=case.softcap,
        slopes=cache.options.get("alibi_slopes"),
        sinks=cache.options.get("sinks"),
    )
    with poisoned_memory(), check(strict=strict) as report:
        out, lse = package.decode.decode(
            cache.q, k, v, cache.lengths, table, problem, case.shares, case.block_n
        )
    ratio = max(
        _error(cache, b, out[b : b + 1], lse[b : b + 1] * math.log(2))
        for b in range(len(case.lengths))
    )
    moved = sum(
        report.traffic[name].loaded + report.traffic[name].stored
        for name in ("k.ptr", "v.ptr")
        if name in report.traffic
    )
    return Outcome(ratio, report, moved, _cache_bytes(case))


def _error(cache: Cache, b: int, out: torch.Tensor, lse: torch.Tensor) -> float:
    """The error of one sequence as a share of its bound (see ``attention_bounds``)."""
    case, n = cache.case, cache.case.lengths[b]
    q, k, v = cache.q[b : b + 1].double(), cache.k[b : b + 1, :, :n], cache.v[b : b + 1, :, :n]
    k, v = k.double(), v.double()
    options = cache.options | {"causal": True}
    exact, exact_lse = reference.attention(q, k, v, **options)
    if not torch.equal(lse.isfinite(), exact_lse.isfinite()) or not out.isfinite().all():
        return math.inf
    weights, _ = reference.attention_weights(q, k, **options)
    scale = abs(case.d**-0.5 if case.scale is None else case.scale)
    size = q.abs() @ reference.shared(k, q).abs().mT * scale + (case.softcap or 0.0)
    if case.alibi:
        distance = reference.attention_band(case.m, n)[1]
        size = size + cache.options["alibi_slopes"][:, None, None].double() * distance
    size = size.masked_fill(weights == 0, 0.0)
    growth = 1 + LOG2_E * (size.amax(-1) if n else torch.zeros(size.shape[:-1]))
    if case.sinks:
        growth = growth + LOG2_E * cache.options["sinks"].abs()[None, :, None]
    c = weights @ reference.shared(v, q).abs()
    bound = 4 * EPS32 * growth[..., None] * c
    if case.dtype != torch.float32:
        bound = bound + 2 * torch.finfo(case.dtype).eps * c
    if case.dtype == torch.float16:
        bound = bound + 2**-24 * (reference.shared(v, q).abs().sum(-2, keepdim=True) + 1)
    off = (lse.double() - exact_lse).nan_to_num(0.0).abs()
    return max(
        worst((out.double() - exact).abs(), bound),
        worst(off, 4 * EPS32 * growth),
    )


def _cache_bytes(case: DecodeCase) -> int:
    """Every tile of keys that some query of the sequence sees, once for each key head and 16 of
    its queries: not once for each query head, which is the point of the kernel."""
    block = case.block_n or row_of_table("decode", case.dtype, case.d)["sm_80"].block_n
    rows = 0
    for n in case.lengths:
        seen, _ = reference.attention_band(case.m, n, True, case.window)
        touched = seen.any(0).split(block)
        rows += sum(len(part) for part in touched if part.any())
    times = -(-case.heads // case.kv_heads * case.m // 16)  # tiles of 16 queries
    return 2 * times * rows * case.kv_heads * case.d * case.dtype.itemsize


# ---- what is verified and shipped

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several queries": {"m": 3, "lengths": (40, 3, 2)},
    "empty sequence": {"lengths": (0, 48, 17)},
    "paged": {"page": 16},
    "odd pages": {"page": 7, "room": 49, "m": 2},
    "window": {"window": 9, "m": 2},
    "softcap": {"softcap": 2.0},
    "alibi": {"alibi": True, "m": 2},
    "sinks": {"sinks": True, "lengths": (40, 0, 5)},
    "one share": {"shares": 1},
    "many shares": {"shares": 16, "room": 100, "lengths": (100, 3, 70)},
    "multi-query": {"heads": 8, "kv_heads": 1, "m": 3},
    "odd head dim": {"d": 40},
    "negative scale": {"scale": -0.4},
    "large scores": {"spread": 8.0, "d": 64},
    "large scores, negative scale": {"spread": 8.0, "d": 64, "scale": -0.3},
    "everything": {
        "page": 16,
        "m": 2,
        "window": 20,
        "softcap": 3.0,
        "alibi": True,
        "sinks": True,
        "lengths": (48, 0, 21),
        "d": 24,
    },
}


def cases(dtype: torch.dtype) -> dict[str, DecodeCase]:
    """Every option, over ragged lengths."""
    return {
        name: DecodeCase(**{"dtype": dtype, "seed": i, **options})
        for i, (name, options) in enumerate(OPTIONS.items())
    }


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    chosen = list(cases(dtype).values())
    shipped = DecodeCase((150, 70), d=64, dtype=dtype, room=160, block_n=None)
    return [check_decode(c, strict=False) for c in [*(chosen[::4] if quick else chosen), shipped]]


def shipped(quick: bool) -> list[Shipped]:
    """The kernel over one share, contiguous and paged, and unless ``quick`` the one that adds them
    up."""
    sizes = [("fp16", 64)] if quick else [("fp16", 64), ("fp16", 128), ("bf16", 64), ("fp32", 64)]
    sums = [
        Shipped(
            *("decode sum", name, f"D={d}", partial(compile_sum, DTYPES[name], d)),
            tensor_cores=False,
            narrowest=32,  # the LSE, one number a share
        )
        for name, d in sizes
    ]
    return ([] if quick else sums) + [
        Shipped(
            "decode",
            name,
            f"D={d} {kind}",
            partial(compile_decode, DTYPES[name], d, page=page),
            tensor_cores=name != "fp32",
        )
        for name, d in sizes
        for kind, page in (("contiguous", None), ("paged", 16))
    ]


def compile_decode(
    dtype: torch.dtype,
    d: int,
    arch: str,
    *,
    page: int | None = None,
    options: Options | None = None,
) -> Compiled:
    """The code for one new query of a GQA model over a long cache, with the shipped layout."""
    layout = row_of_table("decode", dtype, d)[arch]
    none = options or Options(*[None] * len(Options._fields))
    q, cache = example((2, 8, 1, d), dtype), example((64, 2, page or 4096, d), dtype)
    return compile_for(
        _decode_share,
        *(view(q), view(cache), view(cache)),
        *(example((4, 2, 8, 1, d)), example((4, 2, 8, 1)), example((2,), torch.int32)),
        example((2, 64), torch.int32) if page else None,
        *(None, none, 0.18, 1, 4096, 8, 4, 2**30, 0, 8),
        PAGE=page or 1,
        D=d,
        BLOCK_R=16,
        BLOCK_N=layout.block_n,
        BLOCK_D=block_d(d),
        NEGATE=False,
        num_warps=layout.num_warps,
        num_stages=layout.num_stages,
        arch=arch,
    )


def compile_sum(dtype: torch.dtype, d: int, arch: str, shares: int = 8) -> Compiled:
    """The code that adds up the shares of one query, as it is launched after the other kernel."""
    q, cache = example((2, 8, 1, d), dtype), example((2, 2, 4096, d), dtype)
    problem = call.Problem(d**-0.5, right=0)
    with mock.patch.object(flash_decode, "launch") as launch:
        flash_decode.decode(q, cache, cache, None, None, problem, shares)
    kernel, _grid, *arguments = launch.call_args.args
    return compile_for(kernel, *arguments, **launch.call_args.kwargs, arch=arch)

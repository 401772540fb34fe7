"""Attention: cases, the bounds of their errors, and the configurations that are shipped.

The usual ``atol=1e-2`` lets an off-by-one mask pass in fp32 and fails a correct kernel in bf16.
Here the reference is fp64 on the very inputs the kernel got, and a bound has two parts. *Logic*,
for fp32: elementwise, what rounding in fp32 can explain. *Precision*, for fp16 and bf16: the norm
of the whole error, which rounding keeps far below the worst case and a wrong cast does not, and
elementwise what rounding the weights and the output can explain.
"""

import math
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import torch

import kernels.flash_attention
from kernels import reference
from kernels.flash_attention import CONFIGS, _forward
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.lab.memory import Report, check
from kernels.verification.outcome import Outcome, Shipped, poisoned_memory, worst

LOG2_E = math.log2(math.e)
LAYOUTS = ("contiguous", "transposed", "padded", "interleaved", "expanded")
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class AttentionCase:
    """Shapes, layout and numbers of one call of attention."""

    m: int
    n: int
    d: int
    dtype: torch.dtype = torch.float32
    causal: bool = False
    heads: int = 2
    kv_heads: int = 1
    batch: int = 1
    layout: str = "contiguous"  # of q; k and v have the next two of LAYOUTS
    scale: float | None = None
    spread: float = 1.0  # standard deviation of q and k
    config: tuple[int, int] | None = (32, 32)  # (BLOCK_M, BLOCK_N), or None for the shipped layout
    seed: int = 0

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """q, k, v; whatever memory lies between their elements holds NaN."""
        generator = torch.Generator().manual_seed(self.seed)
        first = LAYOUTS.index(self.layout)
        shapes = [(self.heads, self.m)] + 2 * [(self.kv_heads, self.n)]
        q, k, v = (
            laid_out(
                torch.randn(self.batch, heads, length, self.d, generator=generator) * spread,
                self.dtype,
                LAYOUTS[(first + i) % len(LAYOUTS)],
            )
            for i, ((heads, length), spread) in enumerate(
                zip(shapes, (self.spread, self.spread, 1.0), strict=True)
            )
        )
        return q, k, v


def laid_out(values: torch.Tensor, dtype: torch.dtype, layout: str) -> torch.Tensor:
    """``values: (B, H, T, D)`` in memory as named: every way a caller's view may come."""
    b, h, t, d = values.shape
    empty = torch.full((b, h + 1, t + 3, 2 * d + 8), torch.nan, dtype=dtype)
    if layout == "contiguous":
        return values.to(dtype)
    if layout == "transposed":  # as a (B, T, H·D) projection is viewed
        view = torch.full((b, t, h, d), torch.nan, dtype=dtype).transpose(1, 2)
    elif layout == "padded":  # a window in a larger tensor: NaN before, after and beside
        view = empty[:, :h, 1 : t + 1, 3 : d + 3]
    elif layout == "interleaved":  # every second number
        view = empty[:, :h, :t, : 2 * d : 2]
    elif layout == "expanded":  # one sequence for the whole batch, stride 0
        return values[:1].to(dtype).expand(b, h, t, d)
    else:
        raise ValueError(f"layout: unknown {layout!r}; known: {', '.join(LAYOUTS)}")
    return view.copy_(values)


def run_attention(
    case: AttentionCase, module: ModuleType = kernels.flash_attention, *, strict: bool = True
) -> tuple[torch.Tensor, torch.Tensor, Report]:
    """Output, LSE in base 2, and what the launch did."""
    q, k, v = case.tensors()
    config = module.config_for(q)
    if case.config is not None:
        config = config._replace(block_m=case.config[0], block_n=case.config[1])
    scale = case.d**-0.5 if case.scale is None else case.scale
    with poisoned_memory(), check(strict=strict) as report:
        out, lse = module.forward(
            q, k, v, causal=case.causal, scale=scale, config=config, with_lse=True
        )
    return out, lse, report


def check_attention(
    case: AttentionCase, module: ModuleType = kernels.flash_attention, *, strict: bool = True
) -> Outcome:
    """Run a case and measure it; ``strict`` as in :func:`kernels.lab.check`."""
    out, lse, report = run_attention(case, module, strict=strict)
    q, k, v = (t.double() for t in case.tensors())
    scores = reference.attention_scores(q, k, causal=case.causal, scale=case.scale)
    exact, exact_lse = reference.attention(q, k, v, causal=case.causal, scale=case.scale)
    size = reference.attention_scores(q.abs(), k.abs(), scale=case.scale).abs()
    size = size.masked_fill(scores == -torch.inf, 0.0)
    ratio = attention_error(out, exact, scores, size, v)
    ratio = max(ratio, lse_error(lse * math.log(2), exact_lse, size))
    return Outcome(ratio, report, report.loaded + report.stored, attention_bytes(case, scores))


def attention_error(
    out: torch.Tensor,
    exact: torch.Tensor,
    scores: torch.Tensor,
    size: torch.Tensor,
    v: torch.Tensor,
) -> float:
    """The error of an attention output as a share of its bound; infinite if a NaN differs.

    Logic: |err| ≤ 4·eps32·(1 + max|S|·log₂e)·C. ``size`` is |S|, the scores of |q| and |k|: an
    error of a score grows with them. C is the output for |v|: an error of a weight counts as much
    as what it weighs. Precision, for 16-bit types: ‖err‖ ≤ 0.5·eps·‖out‖ over the whole output
    (only from 1,000 elements up, because a norm of few elements scatters), and elementwise
    2·eps·C on top of the logic bound, with 2⁻²⁵·Σ|v| for weights below the range of fp16.
    """
    error = (out.double() - exact).abs()
    if not torch.equal(out.isnan(), exact.isnan()):
        return math.inf
    v_abs = v.abs().repeat_interleave(scores.shape[1] // v.shape[1], dim=1)
    c = torch.softmax(scores, -1).nan_to_num(0.0) @ v_abs  # (B, H, M, D)
    bound = 4 * torch.finfo(torch.float32).eps * _growth(size)[..., None] * c
    ratio = 0.0
    if out.dtype != torch.float32:
        eps = torch.finfo(out.dtype).eps
        bound = bound + 2 * eps * c
        if out.dtype == torch.float16:
            bound = bound + 2**-25 * v_abs.sum(-2, keepdim=True)
        if out.numel() >= 1000:
            ratio = float(error.norm() / exact.norm() / (0.5 * eps))
    return max(ratio, worst(error, bound))


def lse_error(lse: torch.Tensor, exact: torch.Tensor, size: torch.Tensor) -> float:
    """The error of an LSE as a share of 4·eps32·(1 + max|S|·log₂e); -inf has to be -inf."""
    if not torch.equal(lse == -torch.inf, exact == -torch.inf):
        return math.inf
    error = (lse.double() - exact).masked_fill(exact == -torch.inf, 0.0).abs()
    return worst(error, 4 * torch.finfo(torch.float32).eps * _growth(size))


def _growth(size: torch.Tensor) -> torch.Tensor:
    return 1 + size.amax(-1) * LOG2_E


def attention_bytes(case: AttentionCase, scores: torch.Tensor) -> int:
    """The bytes that tiling leaves: q, out and LSE once, and for each tile of queries the tiles of
    keys and values of which at least one query sees something."""
    shipped = kernels.flash_attention.config_for(case.tensors()[0])
    block_m, block_n = case.config or shipped[:2]
    seen = (scores != -torch.inf)[0, 0]  # (M, N), the same in every head
    lengths = [int(tile.any(0).sum()) for tile in seen.split(block_m)]
    keys = sum(min(case.n, -(-length // block_n) * block_n) for length in lengths)
    row = case.d * case.dtype.itemsize
    return case.batch * case.heads * (2 * (case.m + keys) * row + 4 * case.m)


# ---- what is verified and shipped


def cases(dtype: torch.dtype, quick: bool) -> list[AttentionCase]:
    """Ragged lengths, head dims, groups and layouts; the last one runs the shipped layout."""
    shapes = [(17, 33, 24), (65, 100, 64)]
    if not quick:
        shapes += [(1, 1, 8), (133, 31, 40), (31, 133, 128), (64, 64, 16)]
        shapes += [(2, 65, 256), (100, 15, 80)]
    made = [
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
    return [*made, AttentionCase(200, 190, 64, dtype, causal=True, config=None)]


def outcomes(dtype: torch.dtype, quick: bool) -> list[Outcome]:
    return [check_attention(case, strict=False) for case in cases(dtype, quick)]


def shipped(quick: bool) -> list[Shipped]:
    """What ``verify`` compiles: the layouts of the usual head dims."""
    variants = (
        [("fp16", 64)] if quick else [("fp16", 64), ("fp16", 128), ("bf16", 64), ("fp32", 64)]
    )
    made = []
    for name, d in variants:
        dtype = DTYPES[name]
        config = CONFIGS[dtype.itemsize, max(16, 1 << (d - 1).bit_length())]
        made.append(
            Shipped(
                "attention",
                name,
                f"D={d}",
                partial(compile_attention, dtype, d),
                # fp32 keeps full precision, for which NVIDIA's tensor cores have no instruction.
                tensor_cores=name != "fp32",
                scores=config.block_m * config.block_n,
            )
        )
    return made


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

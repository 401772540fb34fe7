"""What it means for a kernel to be right: cases, bounds and measurements.

The tests and ``python -m kernels verify`` use these same functions, and so do the mutants that
prove them: a bound is only worth what it catches. Every measurement is a ratio to its bound, so
that 1 is the limit for all of them.

The usual ``atol=1e-2`` lets an off-by-one mask pass in fp32 and fails a correct kernel in bf16.
Here the reference is fp64 on the very inputs the kernel got, and a bound has two parts. *Logic*,
for fp32: elementwise, what rounding in fp32 can explain. *Precision*, for fp16 and bf16: the norm
of the whole error, which rounding keeps far below the worst case and a wrong cast does not, and
elementwise what rounding the weights and the output can explain.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from unittest import mock

import torch

import kernels.adamw
import kernels.flash_attention
from kernels import reference
from kernels.lab.memory import Report, check

LOG2_E = math.log2(math.e)
LAYOUTS = ("contiguous", "transposed", "padded", "interleaved", "expanded")


@dataclass(frozen=True)
class Outcome:
    """One case: the worst error as a share of its bound, and what the launches did."""

    ratio: float
    report: Report
    bytes_moved: int
    bytes_needed: int  # the least that a kernel with these tiles can move

    @property
    def passed(self) -> bool:
        return self.ratio <= 1 and self.report.ok and self.bytes_moved == self.bytes_needed


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Inside, ``torch.empty`` gives NaN: an output that a kernel forgets to write shows."""

    def poisoned(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        return lambda *args, **kwargs: make(*args, **kwargs).fill_(torch.nan)

    with (
        mock.patch.object(torch, "empty", poisoned(torch.empty)),
        mock.patch.object(torch, "empty_like", poisoned(torch.empty_like)),
    ):
        yield


# ---- attention


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
    return max(ratio, _worst(error, bound))


def lse_error(lse: torch.Tensor, exact: torch.Tensor, size: torch.Tensor) -> float:
    """The error of an LSE as a share of 4·eps32·(1 + max|S|·log₂e); -inf has to be -inf."""
    if not torch.equal(lse == -torch.inf, exact == -torch.inf):
        return math.inf
    error = (lse.double() - exact).masked_fill(exact == -torch.inf, 0.0).abs()
    return _worst(error, 4 * torch.finfo(torch.float32).eps * _growth(size))


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


# ---- AdamW


@dataclass(frozen=True)
class AdamWCase:
    """Tensors and hyperparameters of one run of AdamW."""

    lengths: tuple[int, ...] = (1, 31, 32, 33, 100)
    steps: int = 3
    lr: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.1
    block: int | None = 32  # None for the shipped one
    aligned: bool = True  # whether addresses are divisible by 16
    seed: int = 0

    def options(self, tensor: int) -> dict[str, Any]:
        """Hyperparameters of one tensor: every other one has twice the rate and half the decay."""
        lr, decay = (1, 1) if tensor % 2 == 0 else (2, 0.5)
        return {
            "lr": self.lr * lr,
            "betas": self.betas,
            "eps": self.eps,
            "weight_decay": self.weight_decay * decay,
        }


Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # param, exp_avg, exp_avg_sq


def check_adamw(
    case: AdamWCase, module: ModuleType = kernels.adamw, *, strict: bool = True
) -> Outcome:
    """Every step against ``torch.optim.AdamW`` from the same state, by :func:`adamw_error`."""
    generator = torch.Generator().manual_seed(case.seed)
    twins = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in case.lengths]
    options = [case.options(i) for i in range(len(twins))]
    groups = [{"params": [p], **o} for p, o in zip(twins, options, strict=True)]
    theirs = torch.optim.AdamW(groups, foreach=False)
    new = [(p.detach().clone(), torch.zeros_like(p), torch.zeros_like(p)) for p in twins]
    ratio = 0.0
    with check(strict=strict) as report:
        for step in range(1, case.steps + 1):
            old, grads = new, [_gradient(n, generator) for n in case.lengths]
            mine = [tuple(_copy(t, case.aligned) for t in triple) for triple in old]
            rows = [
                module.Row(p, g, m, v, module.step_constants(step, **o))
                for (p, m, v), g, o in zip(mine, grads, options, strict=True)
            ]
            module.update(rows, block=case.block or module.BLOCK)
            new = _torch_step(theirs, twins, grads)
            for one in zip(mine, new, old, grads, options, strict=True):
                ratio = max(ratio, adamw_error(*one))
    moved = [t for name, t in report.traffic.items() if name in module.FIELDS]
    return Outcome(
        ratio,
        report,
        sum(t.loaded + t.stored for t in moved),
        28 * sum(case.lengths) * case.steps,
    )


def _copy(values: torch.Tensor, aligned: bool) -> torch.Tensor:
    room = torch.empty(values.numel() + 1)
    return (room[:-1] if aligned else room[1:]).copy_(values)


def _gradient(n: int, generator: torch.Generator) -> torch.Tensor:
    """Sizes from 1e-6 to 1e2: small gradients are where eps and its place show."""
    size = 10.0 ** torch.randint(-6, 3, (n,), generator=generator)
    return torch.randn(n, generator=generator) * size


def _torch_step(
    optimizer: torch.optim.AdamW, params: list[torch.nn.Parameter], grads: list[torch.Tensor]
) -> list[Triple]:
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    optimizer.step()
    states = [optimizer.state[p] for p in params]
    return [
        (p.detach().clone(), s["exp_avg"].clone(), s["exp_avg_sq"].clone())
        for p, s in zip(params, states, strict=True)
    ]


def adamw_error(
    mine: Any, theirs: Triple, old: Triple, grad: torch.Tensor, options: dict[str, Any]
) -> float:
    """The largest difference after one step from the same state, as a share of its bound.

    For the moments the bound is one ulp of the larger of the two terms that are added up: m and
    (1−β₁)(g−m), β₂v and (1−β₂)g². For p it is one ulp of p and six of its change: PyTorch takes
    square roots from a vector library that rounds one in five the other way, and two divisions
    pass that on (measured: up to five ulp of a change that is as large as p).
    """
    (p, m, v), (beta1, beta2) = old, options["betas"]
    kept = p * (1 - options["lr"] * options["weight_decay"])
    bounds = (
        _ulp(torch.maximum(p.abs(), theirs[0].abs())) + 6 * _ulp((theirs[0] - kept).abs()),
        _ulp(torch.maximum(m.abs(), (1 - beta1) * (grad - m).abs())),
        _ulp(torch.maximum(beta2 * v, (1 - beta2) * grad * grad)),
    )
    pairs = zip(mine, theirs, bounds, strict=True)
    return max(_worst((a.double() - b.double()).abs(), bound) for a, b, bound in pairs)


def _ulp(x: torch.Tensor) -> torch.Tensor:
    """The distance from each fp32 number to the next larger one."""
    return (torch.nextafter(x, torch.tensor(torch.inf)) - x).double()


def _worst(error: torch.Tensor, bound: torch.Tensor) -> float:
    """The largest error / bound; where the bound is zero, only an exact value passes."""
    ratio = torch.where(error == 0, 0.0, error / bound)
    return float(ratio.nan_to_num(math.inf).max()) if ratio.numel() else 0.0

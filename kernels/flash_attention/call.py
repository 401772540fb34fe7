"""One call of attention: what was asked for, and the launches that compute it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kernels.flash_attention.backward import _delta, _dkv, _dq
from kernels.flash_attention.bias_gradient import _dbias
from kernels.flash_attention.forward import _forward
from kernels.flash_attention.layouts import Layout, block_d, layout_for
from kernels.flash_attention.scores import LOG2_E, Options
from kernels.flash_attention.tiles import Packed, view
from kernels.launch import launch

EVERYWHERE = 2**30  # a reach that no sequence is longer than
RANDOM_BITS = 24  # that decide whether dropout keeps a weight

Layouts = Mapping[str, Layout]  # by kernel: overrides of the table


@dataclass(frozen=True)
class Problem:
    """Everything about a call but q, k and v; see ``kernels.attention``."""

    scale: float
    left: int = EVERYWHERE  # query i sees key j when -left <= j - (i + N - M) <= right
    right: int = EVERYWHERE
    softcap: float | None = None
    slopes: torch.Tensor | None = None  # fp32 (H,) or (B, H)
    bias: torch.Tensor | None = None  # broadcastable to (B, H, M, N)
    sinks: torch.Tensor | None = None  # (H,)
    key_mask: torch.Tensor | None = None  # bool (B, N)
    dropout_p: float = 0.0
    seed: torch.Tensor | None = None  # int64 (1,)
    cu_seqlens_q: torch.Tensor | None = None  # int32 (S + 1,)
    cu_seqlens_k: torch.Tensor | None = None

    def options(self, q: torch.Tensor, k: torch.Tensor) -> Options:
        """What changes the scores, as the kernels get it."""
        batch, heads, m, _ = q.shape
        slopes, bias, key_mask = self.slopes, self.bias, self.key_mask
        if slopes is not None:
            slopes = slopes.float().expand(batch, heads)[:, :, None, None]
        if bias is not None:
            bias = bias.expand(batch, heads, m, k.shape[2])
        if key_mask is not None:
            key_mask = key_mask.view(torch.uint8)[:, None, None, :]
        drop = self.dropout_p > 0
        return Options(
            softcap=self.softcap,
            slopes=None if slopes is None else view(slopes),
            bias=None if bias is None else view(bias),
            key_mask=None if key_mask is None else view(key_mask),
            seed=self.seed if drop else None,
            threshold=round(self.dropout_p * 2**RANDOM_BITS) if drop else None,
            rescale=1 / (1 - self.dropout_p) if drop else None,
        )

    def packed(self, block: int, *, by_keys: bool = False) -> Packed | None:
        """Where the sequences lie and, of tiles of ``block``, the first of each."""
        if self.cu_seqlens_q is None or self.cu_seqlens_k is None:
            return None
        cu = self.cu_seqlens_k if by_keys else self.cu_seqlens_q
        tiles = (cu.diff() + block - 1) // block
        first = torch.zeros_like(cu)
        first[1:] = tiles.cumsum(0)
        return Packed(self.cu_seqlens_q, self.cu_seqlens_k, first, cu.shape[0] - 1)

    def tiles(self, length: int, block: int) -> int:
        """The most tiles that the rows of all sequences can need, without looking at them."""
        tiles = -(-length // block)
        if self.cu_seqlens_q is not None:
            tiles += self.cu_seqlens_q.shape[0] - 2
        return tiles

    def numbers(self, q: torch.Tensor, k: torch.Tensor, tiles: int) -> tuple[int, ...]:
        """M, N, H, GROUP, left, right, tiles: the integers that every kernel takes."""
        heads, m = q.shape[1:3]
        return m, k.shape[2], heads, heads // k.shape[1], self.left, self.right, tiles


def _blocks(layout: Layout, q: torch.Tensor) -> dict[str, Any]:
    return {
        "D": q.shape[-1],
        "BLOCK_M": layout.block_m,
        "BLOCK_N": layout.block_n,
        "BLOCK_D": block_d(q.shape[-1]),
        "num_warps": layout.num_warps,
        "num_stages": layout.num_stages,
        "enable_fp_fusion": True,
    }


def forward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    problem: Problem,
    layouts: Layouts | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output ``(B, H, M, D)`` and LSE in base 2, ``(B, H, M)`` fp32: one launch."""
    out = torch.empty_like(q)
    lse = torch.empty(q.shape[:3], device=q.device, dtype=torch.float32)
    if not out.numel():
        return out, lse
    layout = (layouts or {}).get("forward") or layout_for("forward", q)
    tiles = problem.tiles(q.shape[2], layout.block_m)
    launch(
        _forward,
        (tiles * q.shape[0] * q.shape[1],),
        *(view(q), view(k), view(v), view(out), lse),
        *(problem.sinks, problem.options(q, k), problem.packed(layout.block_m)),
        abs(problem.scale) * LOG2_E.value,
        *problem.numbers(q, k, tiles),
        **_blocks(layout, q),
        NEGATE=problem.scale < 0,
    )
    return out, lse


def backward(
    dout: torch.Tensor,
    dlse: torch.Tensor | None,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    problem: Problem,
    layouts: Layouts | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of q, k, v, bias and sinks: three launches, and one more for a bias.

    ``lse`` and its gradient ``dlse`` are in base 2. Gradients of what was not given are ``None``.
    """
    named = layouts or {}
    options = problem.options(q, k)
    delta = _launch_delta(dout, dlse, q, out)
    scales = (problem.scale * LOG2_E.value, problem.scale)

    dq = torch.empty_like(q)
    layout = named.get("dq") or layout_for("dq", q)
    tiles = problem.tiles(q.shape[2], layout.block_m)
    launch(
        _dq,
        (tiles * q.shape[0] * q.shape[1],),
        *map(view, (q, k, v, dout, dq)),
        *(lse, delta, options, problem.packed(layout.block_m)),
        *scales,
        *problem.numbers(q, k, tiles),
        **_blocks(layout, q),
    )

    dk, dv = torch.empty_like(k), torch.empty_like(v)
    layout = named.get("dkv") or layout_for("dkv", q)
    tiles = problem.tiles(k.shape[2], layout.block_n)
    launch(
        _dkv,
        (tiles * k.shape[0] * k.shape[1],),
        *map(view, (q, k, v, dout, dk, dv)),
        *(lse, delta, options, problem.packed(layout.block_n, by_keys=True)),
        *scales,
        *problem.numbers(q, k, tiles),
        **_blocks(layout, q),
    )
    layout = named.get("dbias") or layout_for("dbias", q)
    dbias = _bias_gradient(dout, q, k, v, lse, delta, problem, layout)
    return dq, dk, dv, dbias, _sink_gradient(lse, delta, problem.sinks)


def _launch_delta(
    dout: torch.Tensor, dlse: torch.Tensor | None, q: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    batch, heads, m, d = q.shape
    delta = torch.empty(batch, heads, m, device=q.device, dtype=torch.float32)
    block = 32 if d > 64 else 64
    tiles = -(-m // block)
    launch(
        _delta,
        (tiles * batch * heads,),
        *(view(out), view(dout), dlse, delta, m, heads, tiles),
        D=d,
        BLOCK_M=block,
        BLOCK_D=block_d(d),
        num_warps=4,
    )
    return delta


def _bias_gradient(
    dout: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lse: torch.Tensor,
    delta: torch.Tensor,
    problem: Problem,
    layout: Layout,
) -> torch.Tensor | None:
    bias = problem.bias
    if bias is None:
        return None
    (batch, heads, m), n = q.shape[:3], k.shape[2]
    dbias = torch.zeros(*bias.shape[:2], m, n, device=q.device, dtype=torch.float32)
    tiles = problem.tiles(m, layout.block_m)
    launch(
        _dbias,
        (tiles * bias.shape[0] * bias.shape[1],),
        *map(view, (q, k, v, dout, dbias)),
        *(lse, delta, problem.options(q, k), problem.packed(layout.block_m)),
        problem.scale * LOG2_E.value,
        *problem.numbers(q, k, tiles),
        *(heads // bias.shape[1], batch // bias.shape[0]),
        **_blocks(layout, q),
    )
    return dbias.sum_to_size(bias.shape).to(bias.dtype)


def _sink_gradient(
    lse: torch.Tensor, delta: torch.Tensor, sinks: torch.Tensor | None
) -> torch.Tensor | None:
    """−Σ weight of the sink · delta: its value is zero, so that its dP is zero."""
    if sinks is None:
        return None
    weight = torch.exp2(sinks.float()[:, None] * LOG2_E.value - lse)  # (B, H, M)
    weight = weight.masked_fill(lse == -torch.inf, 0.0)
    return -(weight * delta).sum((0, 2)).to(sinks.dtype)

"""One call of attention: what was asked for, and the launches that compute it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kernels.flash_attention.backward import _delta, _dkv, _dq
from kernels.flash_attention.bias_gradient import _dbias
from kernels.flash_attention.forward import _forward
from kernels.flash_attention.layouts import (
    Layout,
    autotuned,
    block_d,
    is_autotuning,
    layout_for,
)
from kernels.flash_attention.scores import LOG2_E, Options
from kernels.flash_attention.tiles import Packed, view
from kernels.launch import launch

EVERYWHERE = 2**30  # a reach that no sequence is longer than
LN_2 = math.log(2)  # the natural LSE is that in base 2 times this
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
        starts = (self.cu_seqlens_q.contiguous(), self.cu_seqlens_k.contiguous())
        return Packed(*starts, first, cu.shape[0] - 1)

    def tiles(self, length: int, block: int) -> int:
        """The most tiles that the rows of all sequences can need, without looking at them."""
        tiles = -(-length // block)
        if self.cu_seqlens_q is not None:
            tiles += self.cu_seqlens_q.shape[0] - 2
        return tiles

    def numbers(self, q: torch.Tensor, k: torch.Tensor) -> tuple[int, ...]:
        """M, N, H, GROUP, left, right: the integers that every kernel takes."""
        heads, m = q.shape[1:3]
        return m, k.shape[2], heads, heads // k.shape[1], self.left, self.right

    @property
    def rich(self) -> bool:
        """Whether a score is more than scale · q·k under a band: that costs registers."""
        options = (self.softcap, self.slopes, self.bias, self.key_mask)
        return self.dropout_p > 0 or any(option is not None for option in options)


def _launch(
    name: str,
    kernel: Any,
    before: tuple[Any, ...],
    after: tuple[Any, ...],
    q: torch.Tensor,
    k: torch.Tensor,
    problem: Problem,
    layouts: Layouts | None,
    *,
    programs: int,  # for each tile
    by_keys: bool = False,  # whether a tile is one of keys
    **constexprs: Any,
) -> None:
    """One launch with the layout that is given, tuned or in the table, and the grid it asks for."""
    length = k.shape[2] if by_keys else q.shape[2]
    block = "BLOCK_N" if by_keys else "BLOCK_M"
    layout = (layouts or {}).get(name)
    packed = problem.cu_seqlens_q is not None
    if layout is None and is_autotuning() and not packed:  # where tiles begin depends on their size
        kernel = autotuned(name, kernel, q, rich=problem.rich)
        blocks: dict[str, Any] = {}
    else:
        layout = layout or layout_for(name, q, rich=problem.rich)
        blocks = layout.options()

    def grid(meta: dict[str, Any]) -> tuple[int]:
        return (problem.tiles(length, meta[block]) * programs,)

    launch(
        kernel,
        grid,
        *before,
        problem.options(q, k),
        problem.packed(blocks[block], by_keys=by_keys) if packed else None,
        *after,
        *problem.numbers(q, k),
        D=q.shape[-1],
        BLOCK_D=block_d(q.shape[-1]),
        **blocks,
        **constexprs,
    )


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
    scale = abs(problem.scale) * LOG2_E.value
    sinks = None if problem.sinks is None else problem.sinks.contiguous()
    views = (view(q), view(k), view(v), view(out), lse, sinks)
    _launch(
        *("forward", _forward, views, (scale,), q, k, problem, layouts),
        programs=q.shape[0] * q.shape[1],
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
    *,
    bias_gradient: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """The gradients of q, k, v, bias and sinks: three launches, and one more for a bias.

    ``lse`` and its gradient ``dlse`` are in base 2. Gradients of what was not given are ``None``,
    and so is that of the bias without ``bias_gradient``: it is a launch of its own.
    """
    if not q.numel():
        zeros = [None if t is None else torch.zeros_like(t) for t in (problem.bias, problem.sinks)]
        return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v), zeros[0], zeros[1]
    lse = lse.contiguous()
    delta = _launch_delta(dout, dlse, q, out)
    scales = (problem.scale * LOG2_E.value, problem.scale)
    given = (q, k, v, dout)
    heads = q.shape[0] * q.shape[1]
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    before = (*map(view, (*given, dq)), lse, delta)
    _launch("dq", _dq, before, scales, q, k, problem, layouts, programs=heads)
    before = (*map(view, (*given, dk, dv)), lse, delta)
    programs = k.shape[0] * k.shape[1]
    _launch(*("dkv", _dkv, before, scales, q, k, problem, layouts), programs=programs, by_keys=True)
    dbias = None
    if problem.bias is not None and bias_gradient:
        dbias = _bias_gradient(given, lse, delta, problem, layouts)
    return dq, dk, dv, dbias, _sink_gradient(lse, delta, problem.sinks)


def _launch_delta(
    dout: torch.Tensor, dlse: torch.Tensor | None, q: torch.Tensor, out: torch.Tensor
) -> torch.Tensor:
    batch, heads, m, d = q.shape
    delta = torch.empty(batch, heads, m, device=q.device, dtype=torch.float32)
    block = 32 if d > 64 else 64
    launch(
        _delta,
        (-(-m // block) * batch * heads,),
        *(view(out), view(dout), None if dlse is None else dlse.contiguous(), delta, m, heads),
        D=d,
        BLOCK_M=block,
        BLOCK_D=block_d(d),
        num_warps=4,
    )
    return delta


def _bias_gradient(
    given: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    lse: torch.Tensor,
    delta: torch.Tensor,
    problem: Problem,
    layouts: Layouts | None,
) -> torch.Tensor:
    (q, k, _, _), bias = given, problem.bias
    assert bias is not None
    shape = (*bias.shape[:2], q.shape[2], k.shape[2])
    dbias = torch.zeros(shape, device=q.device, dtype=torch.float32)
    before = (*map(view, (*given, dbias)), lse, delta)
    copies = (q.shape[1] // bias.shape[1], q.shape[0] // bias.shape[0])  # that share a matrix
    after = (problem.scale * LOG2_E.value, *copies)
    programs = bias.shape[0] * bias.shape[1]
    _launch("dbias", _dbias, before, after, q, k, problem, layouts, programs=programs)
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

"""How far rounding can take each result of attention: the bounds that its tests hold.

The usual ``atol=1e-2`` lets an off-by-one mask pass in fp32 and fails a correct kernel in bf16.
Here the reference is fp64 on the very inputs the kernel got, and a bound has two parts. *Logic*,
for fp32: elementwise, what rounding in fp32 can explain. *Precision*, for fp16 and bf16: the norm
of the whole error, which rounding keeps far below the worst case and a wrong cast does not, and
elementwise what rounding the weights and the output can explain.

Logic: |err| ≤ 4·eps32·(1 + max|S|·log₂e)·C. |S| is made of the scores of |q| and |k| and of
whatever is added to them: an error of a score grows with them. C is the same formula on absolute
values: an error of a weight counts as much as what it weighs. Precision: ‖err‖ ≤ 0.5·eps·‖exact‖
over the whole tensor (only from 1,000 elements up: the norm of few elements scatters), and
elementwise 2·eps·C on top of the logic bound, with 2⁻²⁴ for what fell below the range of fp16.
dQ and dK are differences of dP and delta, and delta is made of an output that was rounded: where
they nearly cancel, the norm of what that rounding takes away is granted beside ‖exact‖.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from kernels import reference
from kernels.verification.attention_cases import AttentionCase, Inputs
from kernels.verification.outcome import worst

LOG2_E = math.log2(math.e)
EPS32 = torch.finfo(torch.float32).eps


class Bound(NamedTuple):
    """How far a result may be off."""

    each: torch.Tensor  # in every element
    lost: torch.Tensor | None  # what the norm grants beside the result; None: no bound on the norm


def error(found: torch.Tensor, exact: torch.Tensor, bound: Bound) -> float:
    """The worst error as a share of its bound; infinite where one is NaN or infinite alone."""
    if found.shape != exact.shape or not torch.equal(found.isfinite(), exact.isfinite()):
        return math.inf
    difference = (found.double() - exact).nan_to_num(0.0).abs()
    ratio = worst(difference, bound.each)
    if bound.lost is not None and found.dtype != torch.float32 and found.numel() >= 1000:
        size = math.hypot(float(exact.norm()), float(bound.lost.norm()))
        ratio = max(ratio, float(difference.norm()) / size / (0.5 * torch.finfo(found.dtype).eps))
    return ratio


def reference_and_bounds(
    case: AttentionCase,
) -> tuple[dict[str, torch.Tensor], dict[str, Bound]]:
    """What is exact, and how far each element may be off, by name."""
    inputs = Inputs(case)
    learnt = {n: t.double() for n, t in inputs.options.items() if n in ("bias", "sinks")}
    tensors = [inputs.q.double(), inputs.k.double(), inputs.v.double(), *learnt.values()]
    tensors = [t.detach().requires_grad_() for t in tensors]
    options = inputs.options | dict(zip(learnt, tensors[3:], strict=True))
    drop: dict[str, Any] = {"dropout_p": case.dropout_p, "seed": case.seed + 5}
    q, k, v = tensors[:3]
    out, lse = reference.attention(q, k, v, **drop, **options)
    exact = {"out": out, "lse": lse}
    if case.backward:
        finite = lse.isfinite()
        loss = (out * inputs.dout.double()).sum()
        if inputs.dlse is not None:
            loss = loss + (lse[finite] * inputs.dlse[finite]).sum()
        names = ["dq", "dk", "dv", *(f"d{name}" for name in learnt)]
        exact |= dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))
    exact = {name: t.detach() for name, t in exact.items()}
    with torch.no_grad():
        return exact, _Bounds(inputs, exact, options, drop).all()


class _Bounds:
    """How far rounding can take each result."""

    def __init__(
        self,
        inputs: Inputs,
        exact: dict[str, torch.Tensor],
        options: dict[str, Any],
        drop: dict[str, Any],
    ) -> None:
        self.case, self.exact = inputs.case, exact
        self.q, self.k, self.v, self.dout = (
            t.double().abs() for t in (inputs.q, inputs.k, inputs.v, inputs.dout)
        )
        self.v, self.k_all = reference.shared(self.v, self.q), reference.shared(self.k, self.q)
        self.weights, lse = reference.attention_weights(
            inputs.q.double(), inputs.k.double(), **options
        )
        self.scale = abs(self.case.d**-0.5 if self.case.scale is None else self.case.scale)
        size = (self.q @ self.k_all.mT) * self.scale + (self.case.softcap or 0.0)
        if self.case.alibi:
            distance = reference.attention_band(
                *(self.case.m, self.case.n, False, None),
                *(options.get("cu_seqlens_q"), options.get("cu_seqlens_k")),
            )[1]
            size = size + options["alibi_slopes"][:, None, None].double() * distance
        if self.case.bias:
            size = size + options["bias"].abs()
        size = size.masked_fill(self.weights == 0, 0.0).amax(-1)
        self.sink = torch.zeros_like(size)
        if self.case.sinks:
            sinks = options["sinks"].double()[None, :, None]
            self.sink = torch.exp(sinks - lse)
            size = torch.maximum(size, sinks.abs())
        self.growth = (1 + size * LOG2_E)[..., None]  # (B, H, M, 1)
        self.met = self.weights
        self.dp = self.dout @ self.v.mT
        if self.case.dropout_p:
            p = self.case.dropout_p
            keep = reference.dropout_keep(
                drop["seed"], self.weights.shape, p, options.get("cu_seqlens_k")
            )
            self.met, self.dp = self.met * keep / (1 - p), self.dp * keep / (1 - p)
        product = self.dout * exact["out"].abs()
        self.delta = product.sum(-1, keepdim=True)
        self.delta_lost = product.norm(dim=-1, keepdim=True)  # times eps, if they are independent
        if inputs.dlse is not None:
            self.delta = self.delta + inputs.dlse.double().abs()[..., None]

    def all(self) -> dict[str, Bound]:
        v, k, q, scale = self.v, self.k_all, self.q, self.scale
        nothing = torch.zeros(())
        bounds = {
            "out": self._bound(lambda f: (f * self.met) @ v, v.sum(-2, keepdim=True), nothing),
            "lse": Bound(4 * EPS32 * self.growth[..., 0], None),
        }
        if not self.case.backward:
            return bounds
        pull = self.weights * (self.dp + self.delta)  # what a dS is made of
        lost = self.weights * self.delta_lost
        bounds["dq"] = self._bound(
            lambda f: scale * (f * pull) @ k, scale * k.sum(-2, keepdim=True), scale * lost @ k
        )
        bounds["dk"] = self._bound(
            lambda f: self._grouped(scale * (f * pull).mT @ q),
            self._grouped(scale * q.sum(-2, keepdim=True).expand_as(k)),
            self._grouped(scale**2 * lost.mT.square() @ q.square()).sqrt(),
        )
        bounds["dv"] = self._bound(
            lambda f: self._grouped((f * self.met).mT @ self.dout),
            self._grouped(self.dout.sum(-2, keepdim=True).expand_as(k)),
            nothing,
        )
        # These two are fp32, but delta is made of an output that may have been rounded to less.
        eps = 0.0 if self.case.dtype == torch.float32 else torch.finfo(self.case.dtype).eps
        if self.case.bias:
            off = 4 * EPS32 * self.growth * pull + eps * self.weights * self.delta
            bounds["dbias"] = Bound(off.sum_to_size(self.exact["dbias"].shape), None)
        if self.case.sinks:
            off = (4 * EPS32 * self.growth + eps)[..., 0] * self.sink * self.delta[..., 0]
            bounds["dsinks"] = Bound(off.sum((0, 2)), None)
        return bounds

    def _bound(
        self,
        c: Callable[[torch.Tensor], torch.Tensor],
        flushed: torch.Tensor,
        lost: torch.Tensor,
    ) -> Bound:
        """From C (given a factor on each query's share), what a weight or dS below the range of
        fp16 would have brought, and what the rounding of the output takes away through delta."""
        each = 4 * EPS32 * c(self.growth)
        if self.case.dtype != torch.float32:
            each = each + 2 * torch.finfo(self.case.dtype).eps * c(torch.ones_like(self.growth))
        if self.case.dtype == torch.float16:
            each = each + 2**-24 * (flushed + 1)
        return Bound(each, lost)

    def _grouped(self, x: torch.Tensor) -> torch.Tensor:
        """Summed over the query heads that share a key head."""
        return x.unflatten(1, (self.case.kv_heads, -1)).sum(2)

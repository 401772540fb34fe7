"""Integrated gradients: how much each token adds to a result.

    attribution_i = (x_i − x′_i) · ∫₀¹ ∂F(x′ + α (x − x′)) / ∂x_i dα

Sundararajan, Taly & Yan 2017 (arXiv:1703.01365), equation 1. x are the embeddings of the tokens, x′
a baseline that stands for "no information", F one number of the output. The attributions add up to
F(x) − F(x′) ("completeness", proposition 1). That is checked here, so that a sum with too few steps
is an error instead of a wrong picture. (F must not jump on the way: that of a mixture of experts
does, wherever a router changes its choice.)
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.inspect.stack import evaluating

STEPS = (8, 16, 32, 64, 128, 256, 512, 1024)
ROWS = 64
"""Sequences in one pass."""


@dataclass(frozen=True)
class Attribution:
    """What each token adds; the sum is ``result − baseline``."""

    tokens: Tensor
    """``(B, T)``."""
    result: Tensor
    """``(B,)``: F of the text."""
    baseline: Tensor
    """``(B,)``: F of the baseline."""
    error: float
    """The largest |sum − (result − baseline)|, as a share of |result − baseline|."""
    steps: int


def integrated_gradients(
    model: nn.Module,
    input_ids: Tensor,
    target: Callable[[Any], Tensor],
    attention_mask: Tensor | None = None,
    *,
    baseline: int | Tensor | None = None,
    steps: int | None = None,
    tolerance: float = 1e-3,
) -> Attribution:
    """How much each token of ``input_ids (B, T)`` adds to ``target``.

    Args:
        target: the model's output for N sequences → ``(N,)``, the number that is explained:
            ``lambda output: output.logits[:, -1, token]``.
        baseline: the token to stand at every place, such as the padding or mask token; or vectors,
            broadcastable to ``(B, T, C)``; ``None``: zeros, as the paper suggests for text.
        steps: points on the path (Gauss-Legendre); ``None``: as few as completeness needs.
        tolerance: how far the sum may be from F(x) − F(x′), as a share of it.

    Raises:
        InputError: the sum is further off than ``tolerance``, or ``target`` gives another shape.
    """
    with evaluating(model):
        embedding, x = _embedded(model, input_ids, attention_mask)
        if isinstance(baseline, int):
            start = embedding(torch.full_like(input_ids, baseline)).detach()
        else:
            start = x * 0 if baseline is None else baseline.to(x).expand_as(x)

        def function(vectors: Tensor) -> Tensor:
            times = vectors.shape[0] // input_ids.shape[0]
            ids = input_ids.repeat(times, 1)
            mask = None if attention_mask is None else attention_mask.repeat(times, 1)
            with _replaced(embedding, ids, vectors):
                return target(model(ids, mask))

        found = path_integral(function, x, start, steps=steps, tolerance=tolerance)
    tokens = found.tokens.flatten(2).sum(-1)  # (B, T)
    return Attribution(tokens, found.result, found.baseline, found.error, found.steps)


def path_integral(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    baseline: Tensor,
    *,
    steps: int | None = None,
    tolerance: float = 1e-3,
) -> Attribution:
    """Integrated gradients of any ``function (N, …) → (N,)`` at ``x (B, …)``; shape as ``x``.

    ``function`` is given several copies of the batch one after the other, N = copies · B.

    Raises:
        InputError: as ``integrated_gradients``.
    """
    with torch.no_grad():
        ends = torch.stack([_values(function, x), _values(function, baseline)])  # (2, B)
    wanted = ends[0] - ends[1]
    for number in STEPS if steps is None else (steps,):
        values = _integral(function, x, baseline, number) * (x - baseline)
        error = _share(values.flatten(1).sum(-1) - wanted, wanted, ends)
        if error <= tolerance:
            return Attribution(values, ends[0], ends[1], error, number)
    raise InputError(
        f"steps: {number}; the attributions miss F(x) − F(baseline) by {error:.1e} of it (allowed: "
        f"{tolerance:g}); right: more steps, or a baseline such as the padding token"
    )


def _integral(
    function: Callable[[Tensor], Tensor], x: Tensor, baseline: Tensor, steps: int
) -> Tensor:
    """The mean gradient on the path, by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    points = list(zip((nodes + 1) / 2, weights / 2, strict=True))
    total, at_once = torch.zeros_like(x), max(1, ROWS // x.shape[0])
    for first in range(0, steps, at_once):
        some = points[first : first + at_once]
        path = torch.cat([baseline + float(a) * (x - baseline) for a, _ in some])
        path = path.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(_values(function, path).sum(), path)
        parts = gradient.unflatten(0, (len(some), x.shape[0]))  # (steps, B, …)
        share = torch.tensor([float(w) for _, w in some], dtype=x.dtype, device=x.device)
        total += (parts * share.view(-1, *[1] * x.dim())).sum(0)
    return total


def _values(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    values = function(x)
    if values.shape != x.shape[:1]:
        raise InputError(
            f"target: gives shape {tuple(values.shape)} for {x.shape[0]} sequences; "
            f"right: ({x.shape[0]},), one number each"
        )
    return values


def _share(missing: Tensor, wanted: Tensor, ends: Tensor) -> float:
    """|missing| as a share of |wanted|; what is lost in the rounding of F itself does not count."""
    rounding = 8 * torch.finfo(ends.dtype).eps * ends.abs().amax(0)
    share = (missing.abs() - rounding).clamp(min=0) / wanted.abs()
    share = share.masked_fill(missing.abs() <= rounding, 0.0)
    worst = float(share.detach().max())
    return worst if math.isfinite(worst) else math.inf


def _embedded(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None
) -> tuple[nn.Embedding, Tensor]:
    """The module that looks the tokens up, and their vectors ``(B, T, C)``."""
    found: list[tuple[nn.Embedding, Tensor]] = []

    def look(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, nn.Embedding) and args[0] is input_ids:
            found.append((module, output.detach()))

    handles = [
        module.register_forward_hook(look)
        for module in model.modules()
        if isinstance(module, nn.Embedding)
    ]
    try:
        with torch.no_grad():
            model(input_ids, attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    return found[0]


@contextmanager
def _replaced(embedding: nn.Embedding, ids: Tensor, vectors: Tensor) -> Iterator[None]:
    """The embedding gives ``vectors`` for exactly these ids."""

    def swap(_: nn.Module, args: tuple[Any, ...], __: Tensor) -> Tensor | None:
        return vectors if args[0] is ids else None

    handle = embedding.register_forward_hook(swap)
    try:
        yield
    finally:
        handle.remove()

"""The kernels' functions in plain PyTorch, any dtype: what the tests hold the kernels against.

In fp64 these are the oracle: their own rounding is a billionth of what is being measured.
"""

from itertools import pairwise
from typing import Any

import torch


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    dropout_p: float = 0.0,
    seed: int = 0,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and LSE as ``kernels.attention`` has them, differentiable, from whole matrices.

    Shapes: ``q: (B, H, M, D)``, ``k, v: (B, H_kv, N, D)``; returns ``(B, H, M, D)`` and
    ``(B, H, M)``. ``options`` are those of :func:`attention_weights`.
    """
    weights, lse = attention_weights(q, k, **options)
    if dropout_p:
        keep = dropout_keep(seed, weights.shape, dropout_p, options.get("cu_seqlens_k"))
        weights = weights * keep / (1 - dropout_p)
    return weights @ shared(v, q), lse


def attention_weights(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights before dropout, ``(B, H, M, N)``, and log(sum(exp(scores))), ``(B, H, M)``.

    A query that sees no key has weights 0 and, without a sink, an LSE of -inf.
    """
    scores = attention_scores(q, k, scale=scale, softcap=softcap)
    seen, distance = attention_band(
        *(q.shape[2], k.shape[2], causal, window, cu_seqlens_q, cu_seqlens_k, q.device)
    )
    if alibi_slopes is not None:
        scores = scores - alibi_slopes.to(q.dtype)[..., None, None] * distance
    if bias is not None:
        scores = scores + bias
        seen = seen & (bias != -torch.inf)
    if key_mask is not None:
        seen = seen & key_mask[:, None, None, :]
    scores = scores.masked_fill(~seen, -torch.inf)
    every = scores  # the scores of a query's sum: its keys and, if there is one, the sink
    if sinks is not None:
        sink = sinks[None, :, None, None].expand(*q.shape[:3], 1)
        every = torch.cat([scores, sink.to(scores.dtype)], dim=-1)
    nothing = (every == -torch.inf).all(-1)  # kept out of the sums: -inf - (-inf) is NaN
    lse = every.masked_fill(nothing[..., None], 0.0).logsumexp(-1)
    weights = torch.exp(scores - lse[..., None]).masked_fill(scores == -torch.inf, 0.0)
    return weights, lse.masked_fill(nothing, -torch.inf)


def attention_scores(
    q: torch.Tensor,
    k: torch.Tensor,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> torch.Tensor:
    """q·kᵀ · scale, ``(B, H, M, N)``, through softcap · tanh(· / softcap) if that is given."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ shared(k, q).mT * scale
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def attention_band(
    m: int,
    n: int,
    causal: bool = False,
    window: int | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    device: torch.device | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Whether query i may see key j, and abs(i + N − M − j); both ``(M, N)``, per sequence."""
    seen = torch.zeros(m, n, dtype=torch.bool, device=device)
    distance = torch.zeros(m, n, device=device, dtype=torch.float64)
    ends_q = [0, m] if cu_seqlens_q is None else cu_seqlens_q.tolist()
    ends_k = [0, n] if cu_seqlens_k is None else cu_seqlens_k.tolist()
    for (q0, q1), (k0, k1) in zip(pairwise(ends_q), pairwise(ends_k), strict=True):
        i = torch.arange(q1 - q0, device=device)[:, None] + (k1 - k0) - (q1 - q0)
        ahead = torch.arange(k1 - k0, device=device)[None, :] - i
        near = torch.ones_like(ahead, dtype=torch.bool) if window is None else abs(ahead) < window
        seen[q0:q1, k0:k1] = near & (ahead <= 0) if causal else near
        distance[q0:q1, k0:k1] = ahead.abs().double()
    return seen, distance


def dropout_keep(
    seed: int, shape: torch.Size, p: float, cu_seqlens_k: torch.Tensor | None = None
) -> torch.Tensor:
    """Which weights ``(B, H, M, N)`` dropout keeps.

    Philox with the counter (j // 4, i, h, b) gives the bits of four neighbouring keys; in packed
    sequences j counts from the beginning of its own.
    """
    batch, heads, m, n = shape
    keys = torch.arange(n)
    if cu_seqlens_k is not None:
        sequence = torch.bucketize(keys, cu_seqlens_k[1:].long(), right=True)
        keys = keys - cu_seqlens_k.long()[sequence]
    axes = (torch.arange(batch), torch.arange(heads), torch.arange(m), keys)
    b, h, i, j = torch.meshgrid(*axes, indexing="ij")
    four = torch.stack(philox((j // 4, i, h, b), seed), -1)
    bits = four.gather(-1, (j % 4)[..., None])[..., 0]
    return bits >> 8 >= round(p * 2**24)


def philox(
    counter: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
    key: int,
    rounds: int = 7,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Philox4x32: four blocks of 32 random bits, in int64, from four blocks of counters.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), section 3.
    """
    low = 0xFFFFFFFF
    c0, c1, c2, c3 = counter
    k0, k1 = key & low, key >> 32 & low
    for _ in range(rounds):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high2, low2 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & low, (k1 + 0xBB67AE85) & low
    return c0, c1, c2, c3


def _multiply(a: torch.Tensor, b: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The upper and the lower 32 bits of a product of 32-bit numbers, by halves of 16 bits."""
    low, high = a * (b & 0xFFFF), a * (b >> 16)
    total = low + ((high & 0xFFFF) << 16)
    return (high >> 16) + (total >> 32), total & 0xFFFFFFFF


def shared(kv: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Each key head repeated for the query heads that share it."""
    return kv.repeat_interleave(q.shape[1] // kv.shape[1], dim=1)


def adamw_step(
    param: torch.Tensor,
    grad: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One AdamW step, returning the new ``param, exp_avg, exp_avg_sq`` (inputs are not changed).

    p ← p·(1 − lr·wd);  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;
    p ← p − lr/(1−β₁ᵗ) · m / (√v / √(1−β₂ᵗ) + ε)

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101),
    algorithm 2, with the operations in the order of ``torch.optim.AdamW``.
    """
    beta1, beta2 = betas
    exp_avg = exp_avg + (1 - beta1) * (grad - exp_avg)
    exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad * grad
    denominator = exp_avg_sq.sqrt() / (1 - beta2**step) ** 0.5 + eps
    update = lr / (1 - beta1**step) * exp_avg / denominator
    return param * (1 - lr * weight_decay) - update, exp_avg, exp_avg_sq

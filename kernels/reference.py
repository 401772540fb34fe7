"""The kernels' functions in plain PyTorch, any dtype: what the tests hold the kernels against.

In fp64 these are the oracle: their own rounding is a billionth of what is being measured.
"""

import torch


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """softmax(q·kᵀ · scale) · v and log(sum(exp(q·kᵀ · scale))), as ``kernels.attention`` has them.

    Shapes: ``q: (B, H, M, D)``, ``k, v: (B, H_kv, N, D)``; returns ``(B, H, M, D)`` and
    ``(B, H, M)``. A query that sees no key gives zeros and -inf.
    """
    scores = attention_scores(q, k, causal=causal, scale=scale)
    lse = scores.logsumexp(-1)
    weights = torch.exp(scores - lse.masked_fill(lse == -torch.inf, 0.0)[..., None])
    return weights @ _shared(v, q), lse


def attention_scores(
    q: torch.Tensor, k: torch.Tensor, *, causal: bool = False, scale: float | None = None
) -> torch.Tensor:
    """q·kᵀ · scale, ``(B, H, M, N)``, with -inf where query i may not see key j."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ _shared(k, q).mT * scale
    m, n = scores.shape[-2:]
    if causal:
        visible = torch.ones(m, n, dtype=torch.bool, device=q.device).tril(n - m)
        scores = scores.masked_fill(~visible, -torch.inf)
    return scores


def _shared(kv: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
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

"""A mixture of experts: many feed-forward networks, of which a router picks a few for each token.

    p = softmax(W_router x)                      one probability an expert
    y = Σ pₑ / Σ p · feed_forwardₑ(x)            both sums over the k experts with the largest p

Shazeer et al. 2017 (arXiv:1701.06538), section 2; as in Mixtral (Jiang et al. 2024,
arXiv:2401.04088, section 2.1). R: tokens of all texts in one row, E: experts, C: hidden size,
F: inner size.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.layers.activation import activation


def route(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The ``k`` experts of each token and their shares: both ``(R, k)`` from ``logits: (R, E)``.

    Shares are the softmax over all experts (in fp32 at least), cut to the k and scaled to sum 1.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    shares, chosen = logits.softmax(dim=-1, dtype=wide).topk(k, dim=-1)  # (R, k)
    return shares / shares.sum(dim=-1, keepdim=True), chosen


class Experts(nn.Module):
    """E gated feed-forward networks, their weights in two stacks.

    ``gate_up: (E, 2F, C)`` holds W_gate over W_up, ``down: (E, C, F)``. Hugging Face:
    ``MixtralExperts``.
    """

    def __init__(self, experts: int, hidden: int, inner: int, act: str) -> None:
        super().__init__()
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * inner, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, inner))
        self.act = activation(act)

    def forward(self, x: Tensor, shares: Tensor, chosen: Tensor) -> Tensor:
        """``x: (R, C)`` through each token's experts ``chosen: (R, k)``, mixed by ``shares``."""
        y = torch.zeros_like(x)
        for expert in chosen.unique().tolist():
            rows, slots = (chosen == expert).nonzero(as_tuple=True)  # the tokens that chose it
            gate, up = F.linear(x[rows], self.gate_up[expert]).chunk(2, dim=-1)  # (rows, F) each
            out = F.linear(self.act(gate) * up, self.down[expert])  # (rows, C)
            y = y.index_add(0, rows, (out * shares[rows, slots, None]).to(x.dtype))
        return y


class MixtureOfExperts(nn.Module):
    """Router and experts in the place of a feed-forward network.

    Args:
        k: experts for each token.
        jitter: in training, x is multiplied by noise from [1 − jitter, 1 + jitter], so that
            tokens near a border see both sides (Fedus et al. 2021, arXiv:2101.03961, section 2.3).
    """

    def __init__(
        self, hidden: int, inner: int, act: str, experts: int, k: int, jitter: float = 0.0
    ) -> None:
        super().__init__()
        self.k, self.jitter = k, jitter
        self.router = nn.Linear(hidden, experts, bias=False)
        self.experts = Experts(experts, hidden, inner, act)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x: (B, T, C)`` → the same shape, and the router's logits ``(B·T, E)``."""
        if self.training and self.jitter > 0:
            x = x * torch.empty_like(x).uniform_(1.0 - self.jitter, 1.0 + self.jitter)
        flat = x.flatten(0, 1)  # (R, C)
        logits = self.router(flat)
        return self.experts(flat, *route(logits, self.k)).view_as(x), logits


def load_balancing_loss(
    router_logits: Sequence[Tensor], k: int, attention_mask: Tensor | None = None
) -> Tensor:
    """How unevenly experts are used: ``E · Σₑ fₑ Pₑ``; k when all are used alike, at most about E.

    fₑ: how many of a token's k choices fall on expert e, on average; Pₑ: its mean probability.
    Only Pₑ has a gradient; pushing it down where fₑ is large makes the router spread out. Fedus et
    al. 2021 (arXiv:2101.03961), equations 4 to 6, over all layers at once as in transformers.

    Args:
        router_logits: ``(R, E)`` of each layer.
        attention_mask: ``(B, T)`` with B·T = R; tokens with 0 do not count.
    """
    logits = torch.cat(list(router_logits))  # (layers · R, E)
    probabilities = logits.softmax(dim=-1)
    chosen = probabilities.topk(k, dim=-1).indices
    uses = F.one_hot(chosen, logits.shape[-1]).sum(dim=1).float()  # (layers · R, E)
    if attention_mask is None:
        counted = torch.ones(len(logits), 1, device=logits.device)
    else:
        counted = (attention_mask != 0).float().flatten().repeat(len(router_logits))[:, None]
    fractions = (uses * counted).sum(dim=0) / counted.sum()  # f: (E,)
    means = (probabilities.float() * counted).sum(dim=0) / counted.sum()  # P: (E,)
    return logits.shape[-1] * (fractions * means).sum()

"""Root-mean-square normalisation."""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """``x / √(mean(x²) + ε) · w`` over the last axis; ``x: (..., hidden)`` in and out.

    Zhang & Sennrich 2019 (arXiv:1910.07467), equation 4: layer norm without subtracting the mean
    and without a bias. Half-precision inputs are normalised in fp32. Hugging Face:
    ``LlamaRMSNorm``; with ``unit_offset``, ``Gemma2RMSNorm``, whose factor is ``1 + w`` with w
    starting at 0, multiplied in fp32 too.
    """

    def __init__(self, hidden: int, eps: float, *, unit_offset: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(hidden) if unit_offset else torch.ones(hidden))
        self.eps = eps
        self.unit_offset = unit_offset

    def forward(self, x: Tensor) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        if self.unit_offset:
            return (wide * (1.0 + self.weight.to(wide.dtype))).to(x.dtype)
        return self.weight * wide.to(x.dtype)

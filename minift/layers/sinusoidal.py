"""Positions as sines and cosines (Vaswani et al. 2017, section 3.5)."""

import torch
from torch import Tensor

from minift.errors import InputError


def sinusoidal(positions: Tensor, dim: int, base: float = 10000.0) -> Tensor:
    """A vector for every position: pairs of a sine and a cosine, from fast to slow.

        P[t, 2i]     = sin(t / base^(2i / dim))
        P[t, 2i + 1] = cos(t / base^(2i / dim))

    Nothing is learnt and there is no largest position. A step of s turns pair i by the same angle
    wherever it starts, so P[t + s] is one fixed linear map of P[t].

    Args:
        positions: ``(…, T)``, whole numbers.
        dim: even.

    Returns:
        ``(…, T, dim)``, float32, made in float64: at position 5000 float32 angles would be wrong
        in the fourth decimal. Hugging Face's Marian has the same numbers, all sines before all
        cosines.

    Raises:
        InputError: an odd ``dim``.
    """
    if dim % 2 or dim < 2:
        raise InputError(f"dim: {dim}; right: an even number, for pairs of a sine and a cosine")
    evens = torch.arange(0, dim, 2, dtype=torch.float64, device=positions.device)  # (dim / 2,)
    angles = positions[..., None].double() * base ** (-evens / dim)  # (…, T, dim / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2).float()  # (…, T, dim)

"""Activation functions by the name that a Hugging Face config gives them."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.errors import one_of


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of GELU: ``0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))``.

    Hendrycks & Gimpel 2016 (arXiv:1606.08415), section 2. It is written out, operation by
    operation, because GPT-2's published numbers were made this way; PyTorch's fused
    ``gelu(approximate="tanh")`` is the same function with other roundings.
    """
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x.pow(3.0))))


def gelu_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of GELU in PyTorch's fused form."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """``x σ(1.702 x)``, the sigmoid approximation of GELU (the same paper, section 2)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation that a config's ``hidden_act`` or ``activation_function`` names.

    Raises:
        InputError: the name is not one of ``ACTIVATIONS``.
    """
    if name not in ACTIVATIONS:
        raise one_of("activation function", name, sorted(ACTIVATIONS))
    return ACTIVATIONS[name]

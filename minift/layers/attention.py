"""Scaled dot-product attention, and the one place that chooses who computes it.

    attention(q, k, v) = softmax(scale · q kᵀ + mask) v          scale = 1/√D by default

Vaswani et al. 2017, section 3.2.1. Three backends compute the same function:

- ``"triton"``: this project's own kernels, ``kernels.attention``, forward and backward;
- ``"torch"``: PyTorch's fused ``scaled_dot_product_attention`` (Hugging Face's "sdpa");
- ``"eager"``: the formula line by line, which also yields the probabilities (Hugging Face's
  "eager").
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.errors import InputError, one_of
from minift.layers.mask import causal_mask

BACKENDS = ("triton", "torch", "eager")
KERNEL_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_default: ContextVar[str | None] = ContextVar("attention_backend", default=None)


@contextmanager
def use_backend(name: str | None) -> Iterator[None]:
    """Force one backend for every attention inside the ``with`` block (``None``: choose freely)."""
    token = _default.set(_known(name))
    try:
        yield
    finally:
        _default.reset(token)


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention of ``q: (B, H, M, D)`` over ``k, v: (B, H, N, D)`` → ``(B, H, M, D)``.

    Args:
        mask: boolean, broadcastable to ``(B, H, M, N)``; ``True`` where a key may be seen.
        causal: additionally hide the future; queries are the last ``M`` of ``N`` positions.
        dropout_p: probability of dropping an attention weight; 0 outside training.
        scale: factor of the scores; ``None`` is ``D ** -0.5``.
        backend: one of ``BACKENDS``; ``None`` takes ``use_backend``'s choice, else the Triton
            kernels for CUDA tensors that they take, else PyTorch.

    A query that may see nothing (padding on the left) has no meaning; each backend gives finite
    numbers for it: zeros from the kernels, the mean of the values from the formula.

    Raises:
        InputError: an unknown backend, or "triton" with a dtype or head size it does not take.
    """
    backend = _known(backend) or _default.get() or _choose(q)
    if backend == "triton":
        return _triton(q, k, v, mask, causal, dropout_p, scale)
    if backend == "eager":
        return eager_attention(q, k, v, mask=mask, causal=causal, dropout_p=dropout_p, scale=scale)[
            0
        ]
    square = q.shape[-2] == k.shape[-2]
    if causal and q.shape[-2] > 1 and (mask is not None or not square):
        mask, causal = _with_causal(q, k, mask), False
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout_p, is_causal=causal and q.shape[-2] > 1, scale=scale
    )


def eager_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The formula, and the attention probabilities ``(B, H, M, N)`` (after dropout) beside it.

    Hidden scores get the most negative finite number added rather than −∞: a query that may see
    nothing (padding on the left) then has uniform weights instead of NaN, as in Hugging Face.
    """
    scores = torch.matmul(q, k.transpose(-2, -1)) * (
        q.shape[-1] ** -0.5 if scale is None else scale
    )
    if causal:
        mask = _with_causal(q, k, mask)
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=q.dtype).masked_fill_(
            ~mask, torch.finfo(q.dtype).min
        )
    probabilities = F.dropout(scores.softmax(dim=-1), dropout_p)  # (B, H, M, N)
    return torch.matmul(probabilities, v), probabilities


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, T, H·D)`` → ``(B, H, T, D)``."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)  # (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """``(B, H, T, D)`` → ``(B, T, H·D)``."""
    return x.transpose(1, 2).flatten(2)  # (B, T, H·D)


def _known(name: str | None) -> str | None:
    if name is not None and name not in BACKENDS:
        raise one_of("backend", name, BACKENDS)
    return name


def _with_causal(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    causal = causal_mask(q.shape[-2], k.shape[-2], q.device)  # (M, N)
    return causal if mask is None else mask & causal


def _kernel_takes(q: Tensor) -> bool:
    """Whether the kernels have this dtype and head size."""
    return q.dtype in KERNEL_DTYPES and 8 <= q.shape[-1] <= 256


def _choose(q: Tensor) -> str:
    usable = q.is_cuda and _kernel_takes(q) and find_spec("triton") is not None
    return "triton" if usable else "torch"


def _triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    causal: bool,
    dropout_p: float,
    scale: float | None,
) -> Tensor:
    if not _kernel_takes(q):
        kinds = "float32, float16 or bfloat16 with a head size of 8 to 256"
        raise InputError(
            f"backend: 'triton' takes {kinds}, got {q.dtype} with {q.shape[-1]}; "
            "right: 'torch', 'eager' or None"
        )
    try:
        import kernels

        y = kernels.attention(
            q, k, v, causal=causal, scale=scale, dropout_p=dropout_p, **_hidden(mask, q, k)
        )
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(f"backend: 'triton': {error}") from None
    assert isinstance(y, Tensor)  # a pair only with return_lse
    return y


def _hidden(mask: Tensor | None, q: Tensor, k: Tensor) -> dict[str, Any]:
    """The mask as the kernels take it: one flag a key, or else −∞ added to each hidden score."""
    if mask is None:
        return {}
    shape = (1,) * (4 - mask.ndim) + tuple(mask.shape)
    mask = mask.reshape(shape)
    if mask.shape[1] == mask.shape[2] == 1:
        return {"key_mask": mask[:, 0, 0, :].expand(q.shape[0], k.shape[2])}
    return {"bias": torch.zeros_like(mask, dtype=q.dtype).masked_fill_(~mask, -torch.inf)}

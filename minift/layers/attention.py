"""Scaled dot-product attention, and the one place that chooses who computes it.

    attention(q, k, v) = softmax(scale · q kᵀ + bias + mask) v          scale = 1/√D by default

Vaswani et al. 2017, section 3.2.1. Keys and values may have fewer heads than the queries: each of
them then serves a group of query heads that stand next to each other (Ainslie et al. 2023,
arXiv:2305.13245). Three backends compute the same function:

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
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention of ``q: (B, H, M, D)`` over ``k, v: (B, H_kv, N, D)`` → ``(B, H, M, D)``.

    Args:
        mask: boolean, broadcastable to ``(B, H, M, N)``; ``True`` where a key may be seen.
        bias: added to the scores, broadcastable to ``(B, H, M, N)``, in the dtype of ``q``; for
            relative positions.
        causal: additionally hide the future; queries are the last ``M`` of ``N`` positions.
        window: with ``causal``, the most keys that a query sees, itself among them.
        softcap: c, which keeps scores between −c and c: ``c · tanh(score / c)``, before the bias
            and the mask (Gemma 2, arXiv:2408.00118, section 2).
        dropout_p: probability of dropping an attention weight; 0 outside training.
        scale: factor of the scores; ``None`` is ``D ** -0.5``.
        backend: one of ``BACKENDS``; ``None`` takes ``use_backend``'s choice, else the Triton
            kernels for CUDA tensors that they take, else PyTorch (the formula where there is a
            ``softcap``, which PyTorch's function does not have).

    A query that may see nothing (padding on the left) has no meaning; each backend gives finite
    numbers for it: zeros from the kernels, the mean of the values from the formula.

    Raises:
        InputError: an unknown backend, "triton" with a dtype or head size it does not take, heads
            that do not divide, or a window without ``causal``.
    """
    _check(q, k, causal, window)
    backend = _known(backend) or _default.get() or _choose(q)
    options: dict[str, Any] = {"mask": mask, "bias": bias, "dropout_p": dropout_p, "scale": scale}
    if backend == "triton":
        return _triton(q, k, v, causal=causal, window=window, softcap=softcap, **options)
    if backend == "eager" or softcap is not None:
        options |= {"causal": causal, "window": window, "softcap": softcap}
        return eager_attention(q, k, v, **options)[0]
    return _torch(q, k, v, causal=causal, window=window, **options)


def eager_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The formula, and the attention probabilities ``(B, H, M, N)`` (after dropout) beside it.

    The arguments are those of ``attention``. Hidden scores get the most negative finite number
    added rather than −∞: a query that may see nothing (padding on the left) then has uniform
    weights instead of NaN, as in Hugging Face.
    """
    k, v = repeat_heads(k, q.shape[1]), repeat_heads(v, q.shape[1])
    scores = torch.matmul(q, k.transpose(-2, -1)) * (
        q.shape[-1] ** -0.5 if scale is None else scale
    )
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if bias is not None:
        scores = scores + bias
    if causal:
        mask = _with_causal(q, k, mask, window)
    if mask is not None:
        scores = scores + _hiding(mask, q.dtype)
    probabilities = F.dropout(scores.softmax(dim=-1), dropout_p)  # (B, H, M, N)
    return torch.matmul(probabilities, v), probabilities


def split_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, T, H·D)`` → ``(B, H, T, D)``."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)  # (B, H, T, D)


def merge_heads(x: Tensor) -> Tensor:
    """``(B, H, T, D)`` → ``(B, T, H·D)``."""
    return x.transpose(1, 2).flatten(2)  # (B, T, H·D)


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """``(B, H_kv, N, D)`` → ``(B, heads, N, D)``: each head as often as its group has queries."""
    times = heads // x.shape[1]
    return x[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2)  # (B, H_kv, times, N, D)


def _check(q: Tensor, k: Tensor, causal: bool, window: int | None) -> None:
    if q.shape[1] % k.shape[1]:
        raise InputError(
            f"k: {k.shape[1]} heads for {q.shape[1]} of q; right: a number that divides them"
        )
    if window is not None and (not causal or window < 1):
        raise InputError(f"window: {window} with causal={causal}; right: at least 1, and causal")


def _known(name: str | None) -> str | None:
    if name is not None and name not in BACKENDS:
        raise one_of("backend", name, BACKENDS)
    return name


def _with_causal(q: Tensor, k: Tensor, mask: Tensor | None, window: int | None) -> Tensor:
    causal = causal_mask(q.shape[-2], k.shape[-2], q.device, window)  # (M, N)
    return causal if mask is None else mask & causal


def _hiding(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores: 0, or the most negative number where ``mask`` is False."""
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _torch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None,
    bias: Tensor | None,
    causal: bool,
    window: int | None,
    dropout_p: float,
    scale: float | None,
) -> Tensor:
    """PyTorch's function; what it cannot be told otherwise goes into its mask."""
    queries, keys = q.shape[-2], k.shape[-2]
    if window is not None and window >= keys:
        window = None
    causal = causal and (queries > 1 or window is not None)
    if causal and (queries != keys or not (mask is bias is window is None)):
        mask, causal = _with_causal(q, k, mask, window), False
    if bias is not None:
        mask = bias if mask is None else bias.masked_fill(~mask, torch.finfo(q.dtype).min)
    if mask is not None:  # with grouped heads and a mask its fast kernels step back
        k, v = repeat_heads(k, q.shape[1]), repeat_heads(v, q.shape[1])
    return F.scaled_dot_product_attention(
        q, k, v, mask, dropout_p, causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def _kernel_takes(q: Tensor) -> bool:
    """Whether the kernels have this dtype and head size."""
    return q.dtype in KERNEL_DTYPES and 8 <= q.shape[-1] <= 256


def _choose(q: Tensor) -> str:
    usable = q.is_cuda and _kernel_takes(q) and find_spec("triton") is not None
    return "triton" if usable else "torch"


def _triton(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, bias: Tensor | None, **options: Any
) -> Tensor:
    if not _kernel_takes(q):
        kinds = "float32, float16 or bfloat16 with a head size of 8 to 256"
        raise InputError(
            f"backend: 'triton' takes {kinds}, got {q.dtype} with {q.shape[-1]}; "
            "right: 'torch', 'eager' or None"
        )
    try:
        import kernels

        y = kernels.attention(q, k, v, **options, **_hidden(mask, bias, q, k))
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(f"backend: 'triton': {error}") from None
    assert isinstance(y, Tensor)  # a pair only with return_lse
    return y


def _hidden(mask: Tensor | None, bias: Tensor | None, q: Tensor, k: Tensor) -> dict[str, Any]:
    """Mask and bias as the kernels take them: one flag a key, or else −∞ in the bias."""
    if bias is not None:
        bias = bias.reshape((1,) * (4 - bias.ndim) + tuple(bias.shape))
    if mask is None:
        return {} if bias is None else {"bias": bias}
    mask = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    if mask.shape[1] == mask.shape[2] == 1:
        flags = {"key_mask": mask[:, 0, 0, :].expand(q.shape[0], k.shape[2])}
        return flags if bias is None else {**flags, "bias": bias}
    base = torch.zeros_like(mask, dtype=q.dtype) if bias is None else bias
    return {"bias": base.masked_fill(~mask, -torch.inf)}

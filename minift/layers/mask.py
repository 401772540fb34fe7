"""Masks and positions: which key a query may see, and where each token stands.

A mask is boolean and ``True`` means "may be seen", as in PyTorch's
``scaled_dot_product_attention``. No mask at all (``None``) is the common and fastest case, so the
functions give ``None`` when nothing is hidden.
"""

import torch
from torch import Tensor


def padding_mask(attention_mask: Tensor | None) -> Tensor | None:
    """``attention_mask: (B, N)``, 1 for tokens and 0 for padding → ``(B, 1, 1, N)`` or ``None``."""
    if attention_mask is None or bool((attention_mask != 0).all()):
        return None
    return (attention_mask != 0)[:, None, None, :]  # (B, 1, 1, N)


def causal_mask(
    queries: int, keys: int, device: torch.device | None = None, window: int | None = None
) -> Tensor:
    """``(M, N)``: query ``i`` sees key ``j`` when ``j ≤ i + N − M``.

    The queries are the **last** ``M`` of the ``N`` positions, so that a decoding step with a KV
    cache (``M`` = 1) sees everything. PyTorch's ``is_causal`` aligns to the start instead.

    With a ``window`` W a query sees the last W of these keys only, itself among them: ``i + N − M
    − j < W`` (Beltagy et al. 2020, arXiv:2004.05150, section 3.1; Mistral and Gemma).
    """
    mask = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return mask if window is None else mask.triu(keys - queries - window + 1)


def position_ids(
    padding: Tensor | None, total: int, new: int, device: torch.device | None = None
) -> Tensor:
    """Positions ``(B, new)`` of the last ``new`` of ``total`` tokens; ``(1, new)`` without padding.

    ``padding`` is what ``padding_mask`` gave. With padding on the left, the first real token is
    at position 0: that is how ``transformers.generate`` counts, and what a plain 0, 1, 2, … gets
    wrong. Padding itself gets the number of its place after the first token (0 before it), so that
    padding on the right changes nothing.
    """
    places = torch.arange(total, device=device)[None]  # (1, N)
    if padding is None:
        return places[:, total - new :]
    real = padding[:, 0, 0, :]  # (B, N)
    counted = real.long().cumsum(-1) - 1
    leading = (counted < 0).sum(-1, keepdim=True)  # (B, 1)
    return counted.where(real, (places - leading).clamp(min=0))[:, total - new :]

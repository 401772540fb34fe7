"""Attention whose scores are never stored, forward and backward.

``scores`` says what one score is, ``tiles`` where a program works; ``forward``, ``backward`` and
``bias_gradient`` are the kernels, ``layouts`` their sizes on each machine; ``call`` launches them,
``operators`` makes them operators of PyTorch, ``arguments`` says what is accepted.
"""

import torch

from kernels.flash_attention import arguments, operators
from kernels.flash_attention.call import EVERYWHERE, LN_2, Problem

__all__ = ["attention"]


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | torch.Tensor | None = None,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
    return_lse: bool = False,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """softmax(scale · q·kᵀ + ...) · v, differentiable in q, k, v, bias, sinks and the LSE.

    Shapes: ``q: (B, H, M, D)``, ``k, v: (B, H_kv, N, D)`` with H a multiple of H_kv (query head h
    reads key head h // (H / H_kv)), 8 <= D <= 256, any lengths, any strides. fp32, fp16 or bf16;
    sums are kept in fp32. Positions are aligned to the end: query i stands at key i + N − M.

    Args:
        causal: query i sees key j when j <= i + N − M. A query that sees no key gives zeros.
        scale: factor on the scores, 1/sqrt(D) when None.
        window: query i sees key j only when abs(i + N − M − j) < window (with ``causal``: the last
            ``window`` keys).
        softcap: c in s ← c · tanh(s / c), applied to the scaled scores.
        alibi_slopes: ``(H,)`` or ``(B, H)``; −slope · abs(i + N − M − j) is added. No gradient.
        bias: added to the scores; 4 dimensions that broadcast to ``(B, H, M, N)``.
        sinks: ``(H,)``: one more score in every sum of that head, whose value is zero.
        dropout_p: share of the weights that is dropped; the rest is divided by 1 − dropout_p.
        seed: of the dropout, an int or one int64 on the device; None draws it from PyTorch's
            generator. The same seed drops the same weights, whatever the layout.
        cu_seqlens_q, cu_seqlens_k: int32 ``(S + 1,)``: q, k and v (of batch size 1) hold S
            sequences end to end, and sequence s is positions cu[s] to cu[s + 1] − 1.
        key_mask: bool ``(B, N)``, True for a key that may be seen: padding, left or right.
        return_lse: also return log(sum(exp(scores))) per query, natural logarithm, fp32,
            ``(B, H, M)``; -inf for a query that sees no key.

    Returns: ``(B, H, M, D)`` in the dtype and, where it is dense, the layout of ``q``.

    Raises:
        TypeError: dtypes that differ or are not supported.
        ValueError: shapes, devices, head counts or numbers that do not fit.

    Source: FlashAttention (arXiv 2205.14135, 2307.08691). PyTorch's counterpart is
    ``scaled_dot_product_attention(..., enable_gqa=True)``, whose ``is_causal`` is aligned to the
    start instead; Hugging Face's is ``attn_implementation="flash_attention_2"``.
    """
    arguments.check_qkv(q, k, v)
    if not isinstance(causal, bool):
        raise TypeError(f"causal: expected True or False, got {causal!r}")
    arguments.check_numbers(scale, window, softcap, dropout_p)
    arguments.check_seed(seed, q)
    arguments.check_packed(cu_seqlens_q, cu_seqlens_k, q, k)
    heads = q.shape[1]
    if alibi_slopes is not None:
        shapes = [(heads,), (q.shape[0], heads)]
        arguments.check_floats("alibi_slopes", alibi_slopes, q, shapes, finite=True)
        if alibi_slopes.requires_grad:
            raise ValueError("alibi_slopes: expected constants, got a tensor that needs a gradient")
    if sinks is not None:
        arguments.check_floats("sinks", sinks, q, [(heads,)], finite=False)
    if bias is not None:
        arguments.check_bias(bias, q, k.shape[2])
    if key_mask is not None:
        arguments.check_key_mask(key_mask, k)
    reach = EVERYWHERE if window is None else min(window - 1, EVERYWHERE)
    problem = Problem(
        scale=q.shape[-1] ** -0.5 if scale is None else float(scale),
        left=reach,
        right=0 if causal else reach,
        softcap=softcap,
        slopes=None if alibi_slopes is None else alibi_slopes.float(),
        bias=bias,
        sinks=sinks,
        key_mask=key_mask,
        dropout_p=dropout_p,
        seed=_seed(seed, q.device) if dropout_p else None,
        cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
    )
    out, lse = operators.attention_forward(q, k, v, *operators.flatten(problem))
    return (out, lse * LN_2) if return_lse else out


def _seed(seed: int | torch.Tensor | None, device: torch.device) -> torch.Tensor:
    if isinstance(seed, torch.Tensor):
        return seed
    if seed is None:
        return torch.randint(2**62, (1,), dtype=torch.int64, device=device)
    return torch.full((1,), seed, dtype=torch.int64, device=device)

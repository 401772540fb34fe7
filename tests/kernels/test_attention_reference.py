"""The fp64 reference of attention, held against PyTorch written another way.

The kernels are measured against ``kernels.reference``; here the reference itself is: against
``scaled_dot_product_attention`` with a mask of additions, and against a softmax over one query at a
time.
"""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attention_helpers import draw, normal

from kernels import reference

M, N, D, HEADS = 7, 11, 8, 4


def doubles(m: int = M, n: int = N, kv_heads: int = 2, batch: int = 2) -> list[torch.Tensor]:
    tensors = draw(m, n, D, heads=HEADS, kv_heads=kv_heads, batch=batch)
    return [t.double().requires_grad_() for t in tensors]


def one_by_one(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = False,
    scale: float = D**-0.5,
    window: int | None = None,
    softcap: float | None = None,
    alibi_slopes: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    sinks: torch.Tensor | None = None,
    key_mask: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each query's score list written out in words of Python; a sink is a key whose value is 0."""
    batch, heads, m, d = q.shape
    n, group = k.shape[2], heads // k.shape[1]
    out = torch.zeros(batch, heads, m, d, dtype=q.dtype)
    lse = torch.full((batch, heads, m), -math.inf, dtype=q.dtype)
    for b, h, i in torch.cartesian_prod(*map(torch.arange, (batch, heads, m))).tolist():
        own = i + n - m  # the key at which the query stands
        scores, values = [], []
        for j in range(n):
            ahead = j - own
            hidden = (causal and ahead > 0) or (window is not None and abs(ahead) >= window)
            if hidden or (key_mask is not None and not key_mask[b, j]):
                continue
            s = (q[b, h, i] * k[b, h // group, j]).sum() * scale
            if softcap is not None:
                s = softcap * torch.tanh(s / softcap)
            if alibi_slopes is not None:
                s = s - alibi_slopes.expand(batch, heads)[b, h] * abs(ahead)
            if bias is not None:
                s = s + bias.expand(batch, heads, m, n)[b, h, i, j]
            scores.append(s)
            values.append(v[b, h // group, j])
        if sinks is not None:
            scores.append(sinks[h])
            values.append(torch.zeros(d, dtype=q.dtype))
        if scores:
            s = torch.stack(scores)
            out[b, h, i] = F.softmax(s, dim=0) @ torch.stack(values)
            lse[b, h, i] = torch.logsumexp(s, dim=0)
    return out, lse


def options(m: int, n: int) -> dict[str, dict[str, Any]]:
    bias, last = normal(1, 4, m, n).double(), normal(2, 1, 1, n).double()
    sinks, mask = normal(4).double(), normal(2, n) > -0.5
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0])
    everything = {"bias": last, "sinks": sinks, "key_mask": mask, "alibi_slopes": slopes}
    return {
        "plain": {},
        "causal": {"causal": True},
        "scale": {"scale": -0.3},
        "window": {"window": 3},
        "causal window": {"window": 3, "causal": True},
        "softcap": {"softcap": 0.7},
        "slopes": {"alibi_slopes": slopes},
        "slopes of each sequence": {"alibi_slopes": torch.stack([slopes, slopes.flip(0)])},
        "bias": {"bias": bias},
        "sinks": {"sinks": sinks},
        "key mask": {"key_mask": mask},
        "everything": everything | {"causal": True, "window": 6, "softcap": 2.0},
    }


@pytest.mark.parametrize("shape", [(M, N), (N, M)], ids=["fewer queries", "more queries"])
@pytest.mark.parametrize("name", options(M, N))
def test_one_query_at_a_time(name: str, shape: tuple[int, int]) -> None:
    given = options(*shape)[name]
    q, k, v = doubles(*shape)
    found, expected = reference.attention(q, k, v, **given), one_by_one(q, k, v, **given)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    weight = normal(*q.shape).double()
    losses = ((result[0] * weight).sum() for result in (found, expected))
    for a, b in zip(*(torch.autograd.grad(loss, (q, k, v)) for loss in losses), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("window", [None, 4])
def test_scaled_dot_product_attention(window: int | None) -> None:
    """The mask and ALiBi as one matrix that is added, in the words of PyTorch."""
    q, k, v = doubles(batch=1)
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0]).double()
    last = torch.ones(M, N).tril(N - M).bool()
    if window is not None:
        last &= ~torch.ones(M, N).tril(N - M - window).bool()
    steps = torch.arange(N - M, N)[:, None] - torch.arange(N)[None, :]
    mask = (-slopes[:, None, None] * steps.abs()).masked_fill(~last, -math.inf)[None]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    out, _ = reference.attention(q, k, v, causal=True, window=window, alibi_slopes=slopes)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_packed_sequences_are_sequences() -> None:
    """Laid end to end or one after the other: the same."""
    q, k, v = doubles(12, 14, batch=1)
    lengths = ((5, 4), (0, 3), (7, 7))
    cu_q, cu_k = torch.tensor([0, 5, 5, 12]), torch.tensor([0, 4, 7, 14])
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0])
    given: dict[str, Any] = {"causal": True, "window": 4, "alibi_slopes": slopes}
    out, lse = reference.attention(q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **given)
    of_q, of_k = zip(*lengths, strict=True)
    parts = zip(q.split(of_q, 2), k.split(of_k, 2), v.split(of_k, 2), strict=True)
    alone = [reference.attention(*part, **given) for part in parts]
    torch.testing.assert_close(out, torch.cat([o for o, _ in alone], 2), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lse, torch.cat([x for _, x in alone], 2), rtol=1e-12, atol=1e-12)


def test_a_sink_is_one_more_key() -> None:
    """A key whose score is the sink whatever the query, and whose value is zero."""
    q, k, v = doubles(kv_heads=4)
    sinks = normal(4).double()
    zeros = torch.zeros(2, 4, 1, D, dtype=torch.float64)
    bias = torch.cat([sinks[None, :, None, None], torch.zeros(1, 4, 1, N)], -1)
    expected = F.scaled_dot_product_attention(
        q, torch.cat([zeros, k], 2), torch.cat([zeros, v], 2), attn_mask=bias.expand(2, 4, M, -1)
    )
    out, _ = reference.attention(q, k, v, sinks=sinks)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_dropped_weights_are_zero_and_the_rest_is_divided() -> None:
    q, k, v = doubles(batch=1)
    weights, _ = reference.attention_weights(q, k)
    keep = reference.dropout_keep(3, weights.shape, 0.4)
    out, _ = reference.attention(q, k, v, dropout_p=0.4, seed=3)
    torch.testing.assert_close(out, torch.where(keep, weights / 0.6, 0.0) @ reference.shared(v, q))

"""Queries that see no key: zeros, an LSE of -inf (or the sink), no part in any gradient, no NaN."""

import math
from typing import Any

import pytest
import torch
from attention_helpers import assert_close, both, draw, normal

import kernels
from kernels.verification.attention import DTYPES, AttentionCase, check_attention

M, N = 20, 24
CU_Q = torch.tensor([0, 6, 13, 20], dtype=torch.int32)
CU_K = torch.tensor([0, 10, 10, 24], dtype=torch.int32)  # the second sequence has no key


def _padding(*hidden: slice) -> torch.Tensor:
    mask = torch.ones(1, N, dtype=torch.bool)
    for part in hidden:
        mask[:, part] = False
    return mask


def _bias(rows: slice, m: int = M, n: int = N) -> torch.Tensor:
    bias = normal(1, 2, m, n)
    bias[:, :, rows] = -math.inf
    return bias


# name -> (lengths, options, which queries see nothing)
WAYS: dict[str, tuple[tuple[int, int], dict[str, Any], slice]] = {
    "causal, more queries than keys": ((M, 7), {"causal": True}, slice(0, 13)),
    "every key is padding": ((M, N), {"key_mask": _padding(slice(None))}, slice(0, M)),
    "left padding, causal": (
        (M, N), {"causal": True, "key_mask": _padding(slice(0, 10))}, slice(0, 6)
    ),
    "window, more queries than keys": ((M, 7), {"window": 3}, slice(0, 11)),
    "the window is padding": (
        (M, N), {"window": 2, "key_mask": _padding(slice(8, 20))}, slice(5, 15)
    ),
    "a packed sequence without keys": (
        (M, N), {"cu_seqlens_q": CU_Q, "cu_seqlens_k": CU_K}, slice(6, 13)
    ),
    "a bias of -inf": ((M, N), {"bias": _bias(slice(3, 9))}, slice(3, 9)),
    "a bias of -inf in a full tile": ((70, 40), {"bias": _bias(slice(0, 4), 70, 40)}, slice(0, 4)),
    "no keys": ((M, 0), {}, slice(0, M)),
}  # fmt: skip


@pytest.mark.parametrize("sinks", [False, True], ids=["", "sinks"])
@pytest.mark.parametrize("way", WAYS)
def test_queries_that_see_nothing(way: str, sinks: bool) -> None:
    (m, n), options, blind = WAYS[way]
    q, k, v = draw(m, n, grad=True)
    options = {**options}
    if "bias" in options:
        options["bias"] = options["bias"].clone().requires_grad_()
    if sinks:
        options["sinks"] = torch.tensor([0.3, -1.0], requires_grad=True)
    pairs = both(q, k, v, dout=normal(1, 2, m, 16), dlse=normal(1, 2, m, seed=2), **options)
    assert_close(pairs)
    out, lse, dq = (pairs[name][0][:, :, blind] for name in ("out", "lse", "dq"))
    assert (out == 0).all() and (dq == 0).all()
    expected = options["sinks"][None, :, None] if sinks else torch.tensor(-math.inf)
    torch.testing.assert_close(lse, expected.expand_as(lse), rtol=0, atol=1e-6)
    if "bias" in options:
        assert (pairs["dbias"][0][:, :, blind] == 0).all()
    seeing = [i for i in range(m) if not blind.start <= i < blind.stop]
    assert (pairs["out"][0][:, :, seeing] != 0).any(-1).all()


@pytest.mark.parametrize(
    ("dtype", "key_mask"),
    [
        ("fp32", "nothing"),
        ("fp16", "nothing"),
        ("bf16", "nothing"),
        ("fp16", "left"),
        ("bf16", "right"),
    ],
)
def test_padding_in_every_dtype(dtype: str, key_mask: str) -> None:
    """The first of two sequences has no key at all, or both are padded."""
    for case in (
        AttentionCase(18, 20, 8, DTYPES[dtype], causal=True, key_mask=key_mask, batch=2),
        AttentionCase(5, 20, 8, DTYPES[dtype], sinks=True, key_mask=key_mask, batch=2, seed=1),
    ):
        assert check_attention(case).passed


@pytest.mark.parametrize("shape", [(0, 20, 24), (2, 0, 24), (2, 20, 0), (2, 0, 0), (0, 0, 0)])
def test_nothing_to_do(shape: tuple[int, int, int]) -> None:
    """No sequences, no queries, no keys."""
    batch, m, n = shape
    q, k, v = draw(m, n, batch=batch, grad=True)
    bias = torch.zeros(1, 2, m, n, requires_grad=True)
    sinks = torch.tensor([0.5, -math.inf], requires_grad=True)
    out, lse = kernels.attention(q, k, v, bias=bias, sinks=sinks, return_lse=True)
    assert out.shape == q.shape and lse.shape == q.shape[:3]
    (out.sum() + lse[:, :1].sum()).backward()
    for tensor in (out, *(t.grad for t in (q, k, v, bias))):
        assert (tensor == 0).all()
    expected = torch.tensor([batch * m if n == 0 else 0.0, 0.0])
    torch.testing.assert_close(sinks.grad, expected)


def test_no_sequences_with_a_bias_of_their_own() -> None:
    q, k, v = draw(batch=0)
    bias = torch.zeros(0, 2, 20, 24, requires_grad=True)
    kernels.attention(q, k, v, bias=bias).sum().backward()
    assert bias.grad.shape == bias.shape


def test_a_blind_query_in_the_loss_is_not_nan() -> None:
    """Log of nothing: a finite gradient arrives at an LSE of -inf and goes nowhere."""
    q, k, v = draw(20, 7, grad=True)
    out, lse = kernels.attention(q, k, v, causal=True, return_lse=True)
    (out.sum() + lse.logsumexp(-1).sum()).backward()
    assert all(t.grad.isfinite().all() for t in (q, k, v))

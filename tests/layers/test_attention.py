import threading
from types import SimpleNamespace

import pytest
import torch

from minift.errors import InputError
from minift.layers import attention as module
from minift.layers.attention import (
    attention,
    eager_attention,
    merge_heads,
    split_heads,
    use_backend,
)

SHAPES = [(2, 3, 5, 5, 8), (1, 1, 1, 1, 8), (1, 2, 1, 9, 16), (2, 1, 4, 9, 8), (1, 2, 33, 33, 24)]


def random_qkv(batch, heads, queries, keys, dim, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, n, dim) for n in (queries, keys, keys)]
    return [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]


def by_loops(q, k, v, mask, causal, scale):
    """The formula for one query at a time, in fp64."""
    q, k, v = (x.double() for x in (q, k, v))
    out = torch.zeros_like(q)
    batch, heads, queries, keys = *q.shape[:3], k.shape[2]
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                last = i + keys - queries if causal else keys - 1
                seen = [j for j in range(keys) if j <= last and (mask is None or mask[b, j])]
                if seen:
                    scores = torch.stack([(q[b, h, i] * k[b, h, j]).sum() * scale for j in seen])
                    out[b, h, i] = (scores.softmax(0)[:, None] * v[b, h, seen]).sum(0)
    return out


@pytest.mark.parametrize("backend", [None, "torch", "eager"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_against_the_formula(backend, causal, padded, shape):
    q, k, v = random_qkv(*shape)
    mask = None
    if padded:  # on the right, so that every query sees a key
        counts = torch.arange(1, shape[0] + 1)[:, None] * shape[3] // shape[0]
        mask = torch.arange(shape[3])[None] < counts.clamp(min=shape[3] - shape[2] + 1)
    for scale in (None, 0.7):
        got = attention(
            q,
            k,
            v,
            mask=None if mask is None else mask[:, None, None, :],
            causal=causal,
            scale=scale,
            backend=backend,
        )
        wanted = by_loops(q, k, v, mask, causal, scale or shape[-1] ** -0.5)
        # measured: 4e-7
        assert float((got - wanted).abs().max()) < 2e-6


@pytest.mark.parametrize("shape", [(1, 2, 5, 5, 8), (1, 1, 1, 9, 16), (1, 1, 4, 9, 8)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_the_triton_kernel_gives_the_same(shape, causal):
    pytest.importorskip("triton")
    q, k, v = random_qkv(*shape)
    got = attention(q, k, v, causal=causal, scale=0.3, backend="triton")
    wanted = attention(q, k, v, causal=causal, scale=0.3, backend="torch")
    assert float((got - wanted).abs().max()) < 2e-6


def test_eager_gives_the_probabilities():
    q, k, v = random_qkv(2, 3, 4, 6, 8)
    y, p = eager_attention(q, k, v, causal=True)
    assert p.shape == (2, 3, 4, 6)
    assert torch.allclose(p.sum(-1), torch.ones(2, 3, 4))
    assert float(p.triu(3).abs().max()) == 0.0  # query i sees keys up to i + 2
    assert torch.equal(y, p @ v)


def test_a_query_that_sees_nothing_is_finite():
    q, k, v = random_qkv(1, 1, 3, 3, 8)
    mask = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    for backend in ("torch", "eager"):
        assert attention(q, k, v, mask=mask, causal=True, backend=backend).isfinite().all()


def test_dropout_keeps_the_mean_and_follows_the_seed():
    q, k, v = random_qkv(1, 1, 4, 64, 8)
    for backend in ("torch", "eager"):
        torch.manual_seed(0)
        first = attention(q, k, v, dropout_p=0.5, backend=backend)
        assert not torch.equal(first, attention(q, k, v, dropout_p=0.5, backend=backend))
        torch.manual_seed(0)
        assert torch.equal(first, attention(q, k, v, dropout_p=0.5, backend=backend))
        many = [attention(q, k, v, dropout_p=0.5, backend=backend) for _ in range(400)]
        plain = attention(q, k, v, backend=backend)
        # standard error of the mean of 400: 0.01
        assert float((torch.stack(many).mean(0) - plain).abs().max()) < 0.06


def test_use_backend_nests_and_stays_in_its_thread(monkeypatch):
    used = []
    monkeypatch.setattr(
        module, "eager_attention", lambda q, k, v, **_: used.append("eager") or (v, None)
    )
    q, k, v = random_qkv(1, 1, 2, 2, 8)
    with use_backend("eager"):
        attention(q, k, v)
        with use_backend("torch"):
            attention(q, k, v)
        with use_backend(None):
            attention(q, k, v)
        assert used == ["eager"]
        attention(q, k, v, backend="torch")
        other = threading.Thread(target=lambda: attention(q, k, v))
        other.start()
        other.join()
        assert used == ["eager"]
        with pytest.raises(RuntimeError), use_backend("torch"):
            raise RuntimeError
        attention(q, k, v)
    attention(q, k, v)
    assert used == ["eager", "eager"]


def on_gpu(dtype=torch.float16, dim=64, requires_grad=False):
    return SimpleNamespace(
        is_cuda=True, dtype=dtype, shape=(1, 1, 4, dim), requires_grad=requires_grad
    )


@pytest.mark.parametrize(
    ("tensor", "mask", "dropout", "expected"),
    [
        (on_gpu(), None, 0.0, "triton"),
        (on_gpu(requires_grad=True), None, 0.0, "torch"),
        (on_gpu(), "a mask", 0.0, "torch"),
        (on_gpu(), None, 0.1, "torch"),
        (on_gpu(dtype=torch.float64), None, 0.0, "torch"),
        (on_gpu(dim=4), None, 0.0, "torch"),
        (on_gpu(dim=512), None, 0.0, "torch"),
        (torch.zeros(1, 1, 4, 64), None, 0.0, "torch"),
    ],
)
def test_the_choice_on_a_gpu(monkeypatch, tensor, mask, dropout, expected):
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    assert module._choose(tensor, tensor, tensor, mask, dropout) == expected
    if tensor.requires_grad:
        with torch.no_grad():
            assert module._choose(tensor, tensor, tensor, mask, dropout) == "triton"
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module._choose(tensor, tensor, tensor, mask, dropout) == "torch"


def test_what_triton_cannot_do_is_said():
    q, k, v = random_qkv(1, 1, 2, 2, 8)
    mask = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    end = "yet; right: 'torch', 'eager' or None"
    for options, lacks in (({"mask": mask}, "padding mask"), ({"dropout_p": 0.1}, "dropout")):
        with pytest.raises(InputError) as caught:
            attention(q, k, v, backend="triton", **options)
        assert str(caught.value) == f"backend: 'triton' has no {lacks} {end}"
    with pytest.raises(InputError, match="backend: 'triton' has no backward pass yet"):
        attention(q.requires_grad_(), k, v, backend="triton")
    with pytest.raises(InputError, match=r"backend: unknown 'flash'; known: triton, torch, eager"):
        attention(q, k, v, backend="flash")
    with pytest.raises(InputError, match="backend: unknown 'flash'"), use_backend("flash"):
        pass


def test_heads_are_split_in_order_and_merged_again():
    x = torch.arange(2 * 3 * 8).view(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    assert heads[1, 2, 0].tolist() == x[1, 0, 4:6].tolist()
    assert torch.equal(merge_heads(heads), x)

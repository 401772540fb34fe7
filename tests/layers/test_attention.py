import itertools
import threading
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from minift.errors import InputError
from minift.layers import attention as module
from minift.layers.attention import (
    BACKENDS,
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


def with_options(q, k, v, mask, bias, window, softcap, scale):
    """The causal formula for one query at a time, in fp64, heads in groups, one option a line."""
    q, k, v = (x.double() for x in (q, k, v))
    out = torch.zeros_like(q)
    batch, heads, queries, keys = *q.shape[:3], k.shape[2]
    for b, h, i in itertools.product(range(batch), range(heads), range(queries)):
        group = h * k.shape[1] // heads
        last = i + keys - queries
        first = 0 if window is None else max(0, last - window + 1)
        seen = [j for j in range(first, last + 1) if mask is None or mask[b, j]]
        scores = (k[b, group, seen] * q[b, h, i]).sum(-1) * scale
        if softcap is not None:
            scores = softcap * (scores / softcap).tanh()
        if bias is not None:
            scores = scores + bias[min(b, len(bias) - 1), h, i, seen]
        out[b, h, i] = (scores.softmax(0)[:, None] * v[b, group, seen]).sum(0)
    return out


OPTIONS = {
    "groups": {"kv_heads": 2},
    "one key head": {"kv_heads": 1},
    "window": {"window": 3},
    "window of one": {"window": 1},
    "wide window": {"window": 40},
    "softcap": {"softcap": 0.4},
    "bias": {"bias": 1},
    "bias of each text": {"bias": 2},
    "padding": {"padded": True},
    "all": {"kv_heads": 2, "window": 4, "softcap": 2.0, "bias": 2, "padded": True},
    "all but softcap": {"kv_heads": 1, "window": 4, "bias": 1, "padded": True},
}


@pytest.mark.parametrize("backend", [None, "torch", "eager", "triton"])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(2, 4, 9, 9, 8), (2, 4, 1, 9, 8), (2, 4, 5, 12, 8)], ids=str)
def test_options_against_the_formula(backend, name, shape):
    if backend == "triton":
        pytest.importorskip("triton")
    options = dict(OPTIONS[name])
    kv_heads, padded = options.pop("kv_heads", 4), options.pop("padded", False)
    q, k, v = random_qkv(*shape)
    k, v = k[:, :kv_heads], v[:, :kv_heads]
    mask = torch.ones(2, shape[3], dtype=torch.bool)
    mask[1, 1::4] = not padded  # each query still sees the key before a hidden one
    bias = None
    if "bias" in options:
        generator = torch.Generator().manual_seed(7)
        bias = torch.randn(options["bias"], 4, *shape[2:4], generator=generator)
    options |= {"bias": bias, "scale": 0.8}
    visible = mask[:, None, None, :] if padded else None
    got = attention(q, k, v, mask=visible, causal=True, backend=backend, **options)
    wanted = with_options(q, k, v, mask, **{"window": None, "softcap": None, **options})
    assert float((got - wanted).abs().max()) < 2e-6  # measured: 6e-7


def test_heads_that_do_not_divide_and_windows_of_nothing():
    q, k, v = random_qkv(1, 3, 2, 2, 8)
    with pytest.raises(InputError, match="k: 2 heads for 3 of q; right: a number that divides"):
        attention(q, k[:, :2], v[:, :2])
    for options in ({"window": 2}, {"window": 0, "causal": True}):
        with pytest.raises(InputError, match=r"window: \d with causal=.*; right: at least 1, and"):
            attention(q, k, v, **options)


@pytest.mark.parametrize("shape", [(1, 2, 5, 5, 8), (2, 1, 1, 9, 16), (1, 1, 4, 9, 8)], ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("mask", [None, "keys", "pairs", "heads"])
def test_the_triton_kernels_give_the_same(shape, causal, mask):
    pytest.importorskip("triton")
    batch, heads, queries, keys, _ = shape
    visible = {
        None: None,
        "keys": torch.arange(keys)[None, None, None] >= torch.arange(batch)[:, None, None, None],
        "pairs": torch.ones(queries, keys, dtype=torch.bool).triu(-1),
        "heads": torch.ones(1, heads, queries, keys, dtype=torch.bool).triu(-2),
    }[mask]
    q, k, v = (x.requires_grad_() for x in random_qkv(*shape))
    found = {}
    for backend in ("triton", "torch"):
        y = attention(q, k, v, mask=visible, causal=causal, scale=0.3, backend=backend)
        found[backend] = (y, *torch.autograd.grad(y.square().sum(), (q, k, v)))
    for got, wanted in zip(found["triton"], found["torch"], strict=True):
        # measured: 7e-7
        assert float((got - wanted).detach().abs().max()) < 4e-6


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
    for backend in BACKENDS if find_spec("triton") else ("torch", "eager"):
        assert attention(q, k, v, mask=mask, causal=True, backend=backend).isfinite().all()


def test_dropout_keeps_the_mean_and_follows_the_seed():
    q, k, v = random_qkv(1, 1, 4, 64, 8)
    for backend in BACKENDS if find_spec("triton") else ("torch", "eager"):
        torch.manual_seed(0)
        first = attention(q, k, v, dropout_p=0.5, backend=backend)
        assert not torch.equal(first, attention(q, k, v, dropout_p=0.5, backend=backend))
        torch.manual_seed(0)
        assert torch.equal(first, attention(q, k, v, dropout_p=0.5, backend=backend))
        repeats = 60 if backend == "triton" else 400
        many = [attention(q, k, v, dropout_p=0.5, backend=backend) for _ in range(repeats)]
        plain = attention(q, k, v, backend=backend)
        # standard error of the mean: 0.01 of 400, 0.025 of 60
        limit = 0.15 if backend == "triton" else 0.06
        assert float((torch.stack(many).mean(0) - plain).abs().max()) < limit


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


def on_gpu(dtype=torch.float16, dim=64):
    return SimpleNamespace(is_cuda=True, dtype=dtype, shape=(1, 1, 4, dim))


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (on_gpu(), "triton"),
        (on_gpu(dtype=torch.float64), "torch"),
        (on_gpu(dim=4), "torch"),
        (on_gpu(dim=512), "torch"),
        (torch.zeros(1, 1, 4, 64), "torch"),
    ],
    ids=["fp16", "fp64", "D = 4", "D = 512", "cpu"],
)
def test_the_choice_on_a_gpu(monkeypatch, tensor, expected):
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    assert module._choose(tensor) == expected
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module._choose(tensor) == "torch"


def test_what_triton_cannot_do_is_said():
    q, k, v = random_qkv(1, 1, 2, 2, 4)
    kinds = "float32, float16 or bfloat16 with a head size of 8 to 256"
    for x, got in ((q, "torch.float32 with 4"), (q.double(), "torch.float64 with 4")):
        with pytest.raises(InputError) as caught:
            attention(x, k, v, backend="triton")
        wanted = f"backend: 'triton' takes {kinds}, got {got}; right: 'torch', 'eager' or None"
        assert str(caught.value) == wanted
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

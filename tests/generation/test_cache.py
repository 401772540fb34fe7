import pytest
import torch

from minift.errors import InputError
from minift.generation.cache import KVCache


def fill(cache, pieces, layers=2):
    """Feed pieces of a sequence to every layer; the concatenation that each step should give."""
    generator = torch.Generator().manual_seed(0)
    seen = [[] for _ in range(layers)]
    for length in pieces:
        for layer in range(layers):
            k, v = (torch.randn(2, 3, length, 4, generator=generator) for _ in range(2))
            seen[layer].append((k, v))
            keys, values = cache.update(layer, k, v)
            yield keys, torch.cat([k for k, _ in seen[layer]], dim=2)
            yield values, torch.cat([v for _, v in seen[layer]], dim=2)
        cache.advance(length)


@pytest.mark.parametrize("capacity", [None, 9, 12])
def test_it_gives_all_tokens_in_order(capacity):
    cache = KVCache(capacity)
    assert cache.length == 0
    for got, wanted in fill(cache, [4, 1, 1, 3]):
        assert torch.equal(got, wanted)
    assert cache.length == 9


@pytest.mark.parametrize("capacity", [None, 9])
@pytest.mark.parametrize("window", [1, 2, 3, 6, 20])
@pytest.mark.parametrize("pieces", [[4, 1, 1, 3], [1] * 9, [9], [2, 5, 2]], ids=str)
def test_a_window_keeps_what_the_next_token_may_see(capacity, window, pieces):
    cache, generator = KVCache(capacity), torch.Generator().manual_seed(0)
    every = torch.randn(2, 3, 9, 4, generator=generator)
    for length in pieces:
        start, end = cache.length, cache.length + length
        kept = min(start, window - 1)
        for layer in range(2):
            k = every[:, :, start:end] + layer
            keys, values = cache.update(layer, k, -k, window=window)
            assert torch.equal(keys, every[:, :, start - kept : end] + layer)
            assert torch.equal(values, -keys)
        cache.advance(length)
        held = sum(k.untyped_storage().nbytes() for k, _ in cache._layers.values())
        assert held == 2 * 4 * (2 * 3 * 4) * min(end, window - 1)


@pytest.mark.parametrize("capacity", [None, 6])
def test_rows_are_reordered_and_repeated(capacity):
    cache = KVCache(capacity)
    start = torch.randn(3, 2, 4, 5)
    cache.update(0, start, 2 * start)
    cache.update(1, start, 3 * start, window=3)
    cache.set_cross(0, -start, -2 * start)
    cache.advance(4)
    cache.reorder(torch.tensor([2, 0, 0, 1]))
    more = torch.randn(4, 2, 1, 5)
    chosen = start[[2, 0, 0, 1]]
    wanted = torch.cat([chosen, more], 2)
    assert torch.equal(cache.update(0, more, 2 * more)[0], wanted)
    assert torch.equal(cache.update(1, more, 3 * more, window=3)[1], 3 * wanted[:, :, 2:])
    assert torch.equal(cache.cross(0)[1], -2 * chosen)
    assert cache.cross(1) is None


def test_memory_is_set_aside_once():
    cache = KVCache(capacity=9)
    addresses = {got.data_ptr() for got, _ in fill(cache, [4, 1, 1, 3])}
    assert len(addresses) == 4  # keys and values of two layers


def test_too_many_tokens():
    cache = KVCache(capacity=5)
    with pytest.raises(InputError) as caught:
        list(fill(cache, [4, 2]))
    assert str(caught.value) == "cache: 6 tokens do not fit; right: KVCache(capacity=6)"


def test_another_batch_is_refused():
    for capacity in (None, 9):
        cache = KVCache(capacity)
        list(fill(cache, [4]))
        with pytest.raises(InputError) as caught:
            cache.update(0, torch.zeros(3, 3, 1, 4), torch.zeros(3, 3, 1, 4))
        right = "cache: holds 2 sequences, was given 3; right: one cache for each batch"
        assert str(caught.value) == right


def test_gradients_need_the_growing_one():
    k = torch.zeros(1, 1, 2, 4, requires_grad=True)
    with pytest.raises(InputError, match=r"keeps no gradients; right: torch.no_grad\(\)"):
        KVCache(capacity=4).update(0, k, k)
    with torch.no_grad():
        KVCache(capacity=4).update(0, k, k)
    cache = KVCache()
    cache.update(0, k, k)
    cache.advance(2)
    cache.update(0, k, k)[0].sum().backward()
    assert k.grad.unique().tolist() == [2.0]


@pytest.mark.parametrize(
    ("capacity", "window", "kept"), [(None, None, 9), (12, None, 9), (12, 4, 3)]
)
def test_what_is_held_and_what_it_takes(capacity, window, kept):
    cache = KVCache(capacity)
    assert cache.nbytes == 0
    for length in (4, 1, 4):
        for layer in (0, 1):
            k = torch.zeros(2, 3, length, 4, dtype=torch.float16)
            cache.update(layer, k, k, window)
        cache.advance(length)
    assert cache.kept(0) == cache.kept(1) == kept
    room = 12 if capacity and window is None else kept
    assert cache.nbytes == 2 * 2 * (2 * 3 * room * 4) * 2  # layers, keys and values, numbers, bytes
    cache.set_cross(0, k, k)
    assert cache.nbytes == 2 * 2 * (2 * 3 * room * 4) * 2 + 2 * (2 * 3 * 4 * 4) * 2

"""Greedy tokens, with and without a cache, and prompts taken in pieces."""

import pytest
import torch
from tiny_decoders import DECODERS, ONE_EACH, hf_decoder
from tiny_hf import assert_close, ragged

import minift
from minift.generation.cache import KVCache

NEW = 14


@pytest.mark.parametrize("name", DECODERS)
def test_greedy_tokens(name):
    theirs = hf_decoder(name, pad_token_id=0)
    ours = minift.from_hf(theirs)
    theirs.config.output_router_logits = False  # with it their generate stumbles over its mask
    ids, mask = ragged([7, 12, 1, 20], "left", seed=3)
    # no text ends early, so that all steps count
    options = {"max_new_tokens": NEW, "eos_token_id": 52, "attention_mask": mask}
    wanted = theirs.generate(ids, do_sample=False, pad_token_id=0, **options)
    assert wanted.shape[1] > 20 + NEW // 2
    assert torch.equal(ours.generate(ids, **options), wanted)
    if DECODERS[name][1].get("rope_parameters", {}).get("rope_type") in ("dynamic", "longrope"):
        return  # a cached key keeps the angle of its own time: other tokens without a cache
    assert torch.equal(ours.generate(ids, use_cache=False, **options), wanted)


def test_stretching_with_the_length_shows_without_a_cache():
    for name in ("llama-dynamic", "llama-longrope"):
        theirs = hf_decoder(name, pad_token_id=0)
        ids, mask = ragged([7, 12, 10, 12], "left", seed=3)
        options = {"attention_mask": mask, "max_new_tokens": NEW, "eos_token_id": 52}
        wanted = theirs.generate(ids, do_sample=False, pad_token_id=0, use_cache=False, **options)
        ours = minift.from_hf(theirs)
        assert torch.equal(ours.generate(ids, use_cache=False, **options), wanted), name


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("capacity", [None, 30])
@pytest.mark.parametrize("cuts", [(1,) * 9, (5, 1, 6), (3, 17), (14, 1, 1, 9)], ids=str)
def test_with_a_cache_as_without(name, capacity, cuts):
    ours = minift.from_hf(hf_decoder(name))
    ids, mask = ragged([sum(cuts) - 5, sum(cuts), 3], "left")
    with torch.no_grad():
        whole = ours(ids, mask).logits
        cache, parts, seen = KVCache(capacity), [], 0
        for cut in cuts:
            output = ours(ids[:, seen : seen + cut], mask[:, : seen + cut], cache=cache)
            parts.append(output.logits)
            assert output.cache is cache
            seen += cut
            assert cache.length == seen
    assert_close(torch.cat(parts, dim=1)[mask != 0], whole[mask != 0], "logits")


@pytest.mark.parametrize("name", ["mistral-window", "qwen2-window", "gemma3", "mixtral"])
def test_sliding_layers_keep_their_window_only(name):
    ours = minift.from_hf(hf_decoder(name))
    cache = KVCache()
    with torch.no_grad():
        for _ in range(3):
            ours(ragged([11, 11])[0], cache=cache)
            for layer in ours.model.layers:
                window = layer.attention.window
                held = cache._layers[layer.attention.layer][0]
                assert held.shape[1] == ours.config.kv_heads  # not repeated for the queries
                assert held.shape[2] == (cache.length if window is None else window - 1)


@pytest.mark.parametrize("name", ONE_EACH)
def test_gradients_through_the_cache(name):
    ours = minift.from_hf(hf_decoder(name))
    ids = ragged([19, 19])[0]
    weight = ours.model.layers[0].attention.k.weight
    whole = ours(ids).logits[:, 8:]
    whole.sin().sum().backward()
    wanted, weight.grad = weight.grad, None
    first = ours(ids[:, :8])
    second = ours(ids[:, 8:], cache=first.cache)
    assert_close(second.logits, whole)
    second.logits.sin().sum().backward()
    # two passes add in another order: measured up to 3.4e-6 of the largest
    assert float((weight.grad - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


def test_when_a_cache_is_kept():
    ours = minift.from_hf(hf_decoder("llama"))
    ids = ragged([9, 9])[0]
    assert ours(ids).cache.length == 9
    assert ours(ids, use_cache=False).cache is None
    assert ours.train()(ids).cache is None
    assert ours(ids, use_cache=True).cache.length == 9
    assert ours(ids, last_only=True).logits.shape == (2, 1, 53)


def test_balance_counts_the_new_tokens_only():
    ours = minift.from_hf(hf_decoder("mixtral-balanced"))
    ids, mask = ragged([7, 12, 3], "left")
    with torch.no_grad():
        cache = ours(ids[:, :4], mask[:, :4]).cache
        piece = ours(ids[:, 4:], mask, cache=cache)
        logits = [
            part.view(3, 12, -1)[:, 4:].flatten(0, 1) for part in ours(ids, mask).router_logits
        ]
    real = (mask[:, 4:] != 0).flatten()
    for mine, wanted in zip(piece.router_logits, logits, strict=True):
        assert_close(mine[real], wanted[real], "router logits")
    counted = torch.cat([part[real] for part in logits]).softmax(-1)  # (layers · R, E)
    uses = torch.zeros_like(counted).scatter(1, counted.topk(3).indices, 1.0)
    assert_close(piece.aux_loss, 5 * (uses.mean(0) * counted.mean(0)).sum(), "balance")

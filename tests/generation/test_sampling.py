"""Drawn tokens, under the same seed as ``transformers.generate``."""

import pytest
import torch
from tiny_gpt2 import hf_gpt2, prompts

import minift

METHODS = {
    "their-defaults": {},
    "all-tokens": {"top_k": 0},
    "temperature": {"temperature": 0.4},
    "hot": {"temperature": 3.0, "top_k": 0},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.6, "top_k": 0},
    "min-p": {"min_p": 0.2, "top_k": 0},
    "penalty": {"repetition_penalty": 1.6},
    "all": {
        "temperature": 1.3,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.02,
        "repetition_penalty": 1.2,
    },
}


def drawn(theirs, ids, mask, seed=0, **options):
    """Our texts, after they were compared with theirs under the same seed."""
    torch.manual_seed(seed)
    got = minift.from_hf(theirs).generate(ids, mask, do_sample=True, **options)
    torch.manual_seed(seed)
    wanted = theirs.generate(ids, attention_mask=mask, do_sample=True, **options)
    assert torch.equal(got, wanted)
    return got


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", METHODS)
def test_same_tokens(method, seed):
    theirs = hf_gpt2(seed=seed)
    ids, mask = prompts([4, 9, 1], seed)
    got = drawn(theirs, ids, mask, seed, max_new_tokens=20, **METHODS[method])
    other = drawn(theirs, ids, mask, seed + 100, max_new_tokens=20, **METHODS[method])
    assert not torch.equal(got, other)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("texts", [1, 3])
def test_several_texts_that_end(texts, use_cache):
    theirs = hf_gpt2()
    ids, mask = prompts([4, 9, 1])
    special = {"eos_token_id": [3, 17, 40], "pad_token_id": 52, "num_return_sequences": texts}
    more = {"use_cache": use_cache, "max_new_tokens": 25, "min_new_tokens": 2}
    got = drawn(theirs, ids, mask, **special, **more)
    assert len(got) == 3 * texts
    assert 52 in got[:, -1].tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ["their-defaults", "top-k", "top-p", "all"])
def test_beams_that_are_drawn(method, seed):
    theirs = hf_gpt2(seed=seed)
    ids, mask = prompts([4, 9, 1], seed)
    options = {"num_beams": 3, "num_return_sequences": 2, "eos_token_id": 5, **METHODS[method]}
    drawn(theirs, ids, mask, seed, max_new_tokens=12, **options)


def test_frequencies_are_the_probabilities():
    """Independent of their code: 4000 first tokens against softmax(logits / t)."""
    model = minift.from_hf(hf_gpt2())
    ids, _ = prompts([5])
    torch.manual_seed(0)
    options = {"do_sample": True, "temperature": 2.0, "top_k": 0}
    got = model.generate(ids, max_new_tokens=1, num_return_sequences=4000, **options)[:, -1]
    with torch.no_grad():
        wanted = (model(ids).logits[0, -1].double() / 2.0).softmax(-1)
    counts = got.bincount(minlength=53) / 4000
    assert float((counts - wanted).abs().max()) < 4 * (0.25 / 4000) ** 0.5  # four deviations


def test_greedy_draws_nothing():
    model = minift.from_hf(hf_gpt2())
    ids, mask = prompts([4, 9])
    state = torch.random.get_rng_state()
    model.generate(ids, mask, temperature=0.5, top_k=3)
    model.generate(ids, mask, num_beams=2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_one_candidate_is_greedy():
    model = minift.from_hf(hf_gpt2())
    ids, mask = prompts([4, 9, 1])
    wanted = model.generate(ids, mask)
    for one in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}):
        assert torch.equal(model.generate(ids, mask, do_sample=True, **one), wanted)

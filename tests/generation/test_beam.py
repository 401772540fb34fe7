"""Beam search, token by token against ``transformers.generate``."""

import pytest
import torch
from tiny_gpt2 import CONFIGS, hf_gpt2, prompts

import minift
from minift.generation.beam import NEVER, BeamSearch
from minift.generation.settings import GenerationSettings


def both(theirs, ids, mask, **options):
    """Our texts, after they were compared with theirs."""
    ours = minift.from_hf(theirs)
    got = ours.generate(ids, mask, **options)
    wanted = theirs.generate(ids, attention_mask=mask, do_sample=False, **options)
    assert torch.equal(got, wanted)
    return got


def likely_eos(theirs, ids, mask, place=3):
    """A token that beams will meet: a new one of the first prompt's best text."""
    free = minift.from_hf(theirs).generate(ids, mask, num_beams=3, max_new_tokens=12)
    return int(free[0, ids.shape[1] + place])


@pytest.mark.parametrize("beams", [2, 3, 4, 5])
@pytest.mark.parametrize("name", CONFIGS)
def test_same_tokens(name, beams):
    theirs = hf_gpt2(name)
    ids, mask = prompts([4, 9, 1])
    for use_cache in (True, False):
        both(theirs, ids, mask, use_cache=use_cache, num_beams=beams, max_new_tokens=10)


def test_beams_find_better_texts():
    ids, mask = prompts([4, 9, 1])
    whole = torch.cat([mask, torch.ones(3, 10).long()], dim=1)
    for name in ("plain", "deep", "untied"):
        model = minift.from_hf(hf_gpt2(name))
        found = []
        for beams in (1, 5):
            text = model.generate(ids, mask, max_new_tokens=10, num_beams=beams)
            with torch.no_grad():
                log_probs = model(text, whole).logits.log_softmax(-1)[:, 8:-1]
            found.append(float(log_probs.gather(2, text[:, 9:, None]).sum()))
        assert found[0] < found[1]


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 1.0, 2.5])
def test_length_penalty_and_the_end(length_penalty, early_stopping):
    lengths, options = [], {"length_penalty": length_penalty, "early_stopping": early_stopping}
    for seed in range(3):
        theirs = hf_gpt2(seed=seed)
        ids, mask = prompts([4, 9, 1, 7], seed)
        eos = likely_eos(theirs, ids, mask)
        for beams in (2, 4):
            special = {"eos_token_id": eos, "pad_token_id": 52, "num_beams": beams}
            got = both(theirs, ids, mask, max_new_tokens=12, **options, **special)
            lengths += (got[:, 9:] != 52).sum(1).tolist()
    assert len(set(lengths)) > 1 or length_penalty > 1  # texts of several lengths


def test_the_ways_to_end_differ():
    """Else the comparison above would not see an ``early_stopping`` that is ignored."""
    ends = {}
    for seed in range(6):
        theirs = hf_gpt2(seed=seed)
        ids, mask = prompts([4, 9, 1, 7], seed)
        for early_stopping in (True, False, "never"):
            options = {"early_stopping": early_stopping, "length_penalty": 2.0, "num_beams": 3}
            eos = likely_eos(theirs, ids, mask)
            got = both(theirs, ids, mask, max_new_tokens=12, eos_token_id=eos, **options)
            ends.setdefault(early_stopping, []).append(got.tolist())
    assert ends[True] != ends[False] != ends["never"] != ends[True]


@pytest.mark.parametrize("texts", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_several_texts_for_each_prompt(seed, texts):
    theirs = hf_gpt2("deep", seed=seed)
    ids, mask = prompts([4, 9, 1], seed)
    eos = likely_eos(theirs, ids, mask, place=5)
    options = {"num_beams": 4, "num_return_sequences": texts, "max_new_tokens": 12}
    got = both(theirs, ids, mask, eos_token_id=eos, pad_token_id=51, **options)
    assert len(got) == 3 * texts
    assert len({tuple(row) for row in got.tolist()}) == len(got)  # all different


@pytest.mark.parametrize("pad", [None, 0, 52])
def test_several_eos_tokens_and_what_fills(pad):
    ids, mask = prompts([4, 9, 1])
    theirs = hf_gpt2()
    eos = [likely_eos(theirs, ids, mask, place) for place in (1, 4, 6)]
    options = {"num_beams": 3, "max_new_tokens": 15, "num_return_sequences": 3}
    got = both(theirs, ids, mask, eos_token_id=eos, pad_token_id=pad, **options)
    # theirs fills with EOS where padding is 0; so do we
    assert (52 if pad else eos[0]) in got[:, -1].tolist()


@pytest.mark.parametrize("seed", range(4))
def test_most_tokens_end_a_text(seed):
    """Candidates must be so many that K of them go on, even if all EOS tokens come first."""
    theirs = hf_gpt2(seed=seed, vocab_size=8)
    ids = torch.randint(0, 8, (3, 4), generator=torch.Generator().manual_seed(seed))
    options = {"num_beams": 4, "num_return_sequences": 4, "eos_token_id": [0, 1, 2, 3, 4, 5]}
    options |= {"early_stopping": "never", "length_penalty": 4.0}  # the longest texts win
    got = both(theirs, ids, torch.ones_like(ids), max_new_tokens=6, pad_token_id=7, **options)
    assert len(got) == 12


@pytest.mark.parametrize("beams", [2, 4])
def test_the_likeliest_tokens_all_end_a_text(beams):
    """More than 2 · K candidates are needed, or fewer than K texts would go on."""
    theirs = hf_gpt2(vocab_size=20, seed=1)
    eos = [3, 4, 5, 6, 7, 8, 9, 10]
    with torch.no_grad():
        norm, table = theirs.transformer.ln_f, theirs.transformer.wte.weight
        norm.weight.mul_(0.2)
        table[eos] += 4.0 * norm.bias / norm.bias.square().sum()  # logits of EOS: 4 more
    ids = torch.randint(11, 20, (3, 4), generator=torch.Generator().manual_seed(1))
    options = {"num_beams": beams, "num_return_sequences": beams, "eos_token_id": eos}
    options |= {"early_stopping": "never", "length_penalty": 6.0, "max_new_tokens": 7}
    got = both(theirs, ids, torch.ones_like(ids), pad_token_id=0, **options)
    assert got.shape[1] == 4 + 7  # some went on to the end


@pytest.mark.parametrize("options", [{"min_new_tokens": 6}, {"repetition_penalty": 1.5}], ids=str)
def test_processors_act_on_log_probabilities(options):
    changed = []
    for seed in range(4):
        theirs = hf_gpt2(seed=seed)
        ids, mask = prompts([4, 9, 1], seed)
        eos = likely_eos(theirs, ids, mask)
        more = {"eos_token_id": eos, "num_beams": 3, "max_new_tokens": 12, "length_penalty": 0.0}
        plain = both(theirs, ids, mask, **more)
        changed.append(not torch.equal(both(theirs, ids, mask, **more, **options), plain))
    assert any(changed)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_few_new_tokens(steps):
    ids, mask = prompts([4, 1])
    assert both(hf_gpt2(), ids, mask, num_beams=4, max_new_tokens=steps).shape == (2, 4 + steps)


def test_up_to_the_last_position():
    ids, mask = prompts([30, 2])
    assert both(hf_gpt2(), ids, mask, num_beams=2, max_new_tokens=10).shape == (2, 40)


def test_half_precision_counts_in_fp32():
    theirs = hf_gpt2().to(torch.bfloat16)
    ids, mask = prompts([6, 6])
    both(theirs, ids, mask, num_beams=3, max_new_tokens=10)


def exhaustive(model, prompt, new):
    """The most probable continuation of ``new`` tokens, by trying all of them."""
    vocabulary = model.config.vocab_size
    places = torch.cartesian_prod(*[torch.arange(vocabulary)] * new).view(-1, new)
    texts = torch.cat([prompt.expand(len(places), -1), places], dim=1)
    log_probs = model(texts).logits.log_softmax(-1)[:, -new - 1 : -1]
    total = log_probs.gather(2, places[:, :, None])[:, :, 0].double().sum(1)
    return places[total.argmax()]


@pytest.mark.parametrize("seed", range(4))
def test_with_enough_beams_it_finds_the_best_text_of_all(seed):
    model = minift.from_hf(hf_gpt2(seed=seed, vocab_size=6))
    prompt = torch.tensor([[1, 4, 2]])
    got = model.generate(prompt, num_beams=36, max_new_tokens=3)
    with torch.no_grad():
        assert torch.equal(got[0, 3:], exhaustive(model, prompt, 3))


def test_a_finished_text_keeps_its_score():
    """One step by hand: token 2 ends a text, the K − 1 others go on."""
    settings = GenerationSettings(num_beams=2, eos_token_id=(2,), length_penalty=2.0)
    search = BeamSearch(torch.zeros(2, 3).long(), settings, lambda ids: ids[:, -1] == 2)
    log_probs = torch.tensor([[0.1, 0.2, 0.5, 0.2]]).log().expand(2, -1)
    search.step(log_probs)
    assert search.finished.ids[0, 0, :4].tolist() == [0, 0, 0, 2]
    assert float(search.finished.scores[0, 0]) == pytest.approx(float(log_probs[0, 2]))
    assert float(search.finished.scores[0, 1]) < NEVER / 2
    assert sorted(search.running.ids[0, :, -1].tolist()) == [1, 3]
    assert not search.over
    search.step(log_probs)  # both running texts end: log(0.2 · 0.5) / 2²
    wanted = float((log_probs[0, 1] + log_probs[0, 2]) / 4)
    assert float(search.finished.scores[0, 0]) == pytest.approx(wanted)
    assert search.finished.new.tolist() == [[2, 2]]

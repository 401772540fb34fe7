"""Greedy decoding, token by token against ``transformers.generate``."""

import pytest
import torch
from tiny_gpt2 import CONFIGS, hf_gpt2, prompts

import minift
from minift.errors import InputError


def theirs_generate(model, ids, mask, **options):
    return model.generate(ids, attention_mask=mask, do_sample=False, **options)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("lengths", [[5], [1], [4, 9, 1], [6, 6]], ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_same_tokens(name, lengths, use_cache):
    theirs = hf_gpt2(name)
    ours = minift.from_hf(theirs)
    ids, mask = prompts(lengths)
    got = ours.generate(ids, mask, max_new_tokens=25, use_cache=use_cache)
    wanted = theirs_generate(theirs, ids, mask, max_new_tokens=25)
    assert torch.equal(got, wanted)
    assert len(set(got[0, -25:].tolist())) > 2  # not one token again and again


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_rows_end_at_different_steps(seed, use_cache):
    theirs = hf_gpt2(seed=seed)
    ours = minift.from_hf(theirs)
    ids, mask = prompts([4, 9, 1, 7], seed)
    free = ours.generate(ids, mask, max_new_tokens=25)[:, 9:]
    eos = int(free[0, 3])  # the first row ends at the fourth new token, or before
    options = {"max_new_tokens": 25, "eos_token_id": eos, "pad_token_id": 52}
    got = ours.generate(ids, mask, use_cache=use_cache, **options)
    assert torch.equal(got, theirs_generate(theirs, ids, mask, **options))
    end = got[0, 9:].tolist().index(eos)
    assert end <= 3
    assert set(got[0, 10 + end :].tolist()) <= {52}
    both = [eos, int(free[1, 5])]
    options["eos_token_id"] = both
    got = ours.generate(ids, mask, use_cache=use_cache, **options)
    assert torch.equal(got, theirs_generate(theirs, ids, mask, **options))


def test_all_rows_finished_stops():
    ours = minift.from_hf(hf_gpt2())
    ids, mask = prompts([4, 4])
    ids[1] = ids[0]
    first = int(ours.generate(ids, mask, max_new_tokens=1)[0, -1])
    assert ours.generate(ids, mask, max_new_tokens=25, eos_token_id=first).shape == (2, 5)
    assert ours.generate(ids, mask, max_new_tokens=25, eos_token_id=[]).shape == (2, 29)


def test_the_config_s_special_tokens_are_the_defaults():
    ids, mask = prompts([4, 9, 1])
    free = minift.from_hf(hf_gpt2()).generate(ids, mask, max_new_tokens=25)[:, 9:]
    eos = int(free[0, 3])
    for pad in (None, 51):
        theirs = hf_gpt2(eos_token_id=eos, pad_token_id=pad)
        ours = minift.from_hf(theirs)
        got = ours.generate(ids, mask, max_new_tokens=25)
        assert torch.equal(got, theirs_generate(theirs, ids, mask, max_new_tokens=25))
        assert int(got[0, -1]) == (eos if pad is None else 51)
    assert ours.generate(ids, mask, eos_token_id=[]).shape == (3, 29)  # 20 new ones


def test_the_mask_is_inferred_from_padding_as_theirs():
    theirs = hf_gpt2()
    ours = minift.from_hf(theirs)
    ids, mask = prompts([4, 9, 1])
    options = {"max_new_tokens": 9, "pad_token_id": 0}
    got = ours.generate(ids, **options)
    assert torch.equal(got, theirs.generate(ids, do_sample=False, **options))
    assert torch.equal(got, ours.generate(ids, mask, **options))
    options["eos_token_id"] = 0  # then 0 may be text
    got = ours.generate(ids, **options)
    assert torch.equal(got, theirs.generate(ids, do_sample=False, **options))
    assert torch.equal(got, ours.generate(ids, torch.ones_like(mask), **options))


def test_a_padded_prompt_continues_as_alone():
    ours = minift.from_hf(hf_gpt2("deep"))
    ids, mask = prompts([4, 9, 1])
    together = ours.generate(ids, mask, max_new_tokens=20)
    for row, length in enumerate([4, 9, 1]):
        alone = ours.generate(ids[row : row + 1, -length:], max_new_tokens=20)
        assert torch.equal(alone[0, length:], together[row, 9:])


def test_mode_and_gradients_are_left_as_they_were():
    theirs = hf_gpt2(resid_pdrop=0.5, embd_pdrop=0.5)
    ours = minift.from_hf(theirs).train()
    ids, mask = prompts([4, 9])
    got = ours.generate(ids, mask, max_new_tokens=9)
    assert torch.equal(got, theirs_generate(theirs, ids, mask, max_new_tokens=9))
    assert ours.training
    assert all(parameter.grad is None for parameter in ours.parameters())
    with pytest.raises(InputError):
        ours.generate(ids + 53, mask)
    assert ours.training


def test_up_to_the_last_position():
    theirs = hf_gpt2()
    ours = minift.from_hf(theirs)
    ids, mask = prompts([30, 2])
    got = ours.generate(ids, mask, max_new_tokens=10)
    assert got.shape == (2, 40)
    assert torch.equal(got, theirs_generate(theirs, ids, mask, max_new_tokens=10))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0; right: at least 1"),
        (
            {"max_new_tokens": 36},
            "max_new_tokens: 5 prompt tokens and 36 new ones are more than the model's 40 "
            "positions; right: at most 35, or a shorter prompt",
        ),
        (
            {"attention_mask": torch.tensor([[1, 1, 1, 1, 0]])},
            "attention_mask: padding on the right; right: pad prompts on the left",
        ),
        (
            {"attention_mask": torch.tensor([[1, 1, 1, 1]])},
            "attention_mask: shape (1, 4); right: (1, 5), one entry for each token of input_ids",
        ),
        ({"input_ids": torch.tensor([[53]])}, "input_ids: id 53 is outside 0…52 (vocab_size 53)"),
        (
            {"input_ids": torch.tensor([5])},
            "input_ids: shape (1,); right: (batch, tokens), not empty",
        ),
        (
            {"input_ids": torch.zeros(1, 0, dtype=torch.long)},
            "input_ids: shape (1, 0); right: (batch, tokens), not empty",
        ),
    ],
)
def test_wrong_input(options, message):
    ours = minift.from_hf(hf_gpt2())
    with pytest.raises(InputError) as caught:
        ours.generate(**{"input_ids": prompts([5])[0], **options})
    assert str(caught.value) == message

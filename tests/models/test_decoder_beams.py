"""Beams, drawn tokens and streams of every decoder family: caches that slide and change rows."""

import pytest
import torch
from tiny_decoders import ONE_EACH, hf_decoder
from tiny_hf import ragged

import minift

OPTIONS = {
    "beams": {"num_beams": 3, "length_penalty": 0.5},
    "all-beams": {"num_beams": 4, "num_return_sequences": 4, "early_stopping": True},
    "drawn": {"do_sample": True, "num_return_sequences": 3, "temperature": 1.5},
}


@pytest.mark.parametrize("how", OPTIONS)
@pytest.mark.parametrize("name", ONE_EACH)
def test_same_tokens(name, how):
    theirs = hf_decoder(name, pad_token_id=0)
    ours = minift.from_hf(theirs)
    theirs.config.output_router_logits = False  # with it their generate stumbles over its mask
    ids, mask = ragged([7, 12, 1], "left", seed=3)
    ids = ids.clamp(min=1) * mask
    options = {"max_new_tokens": 9, "eos_token_id": [7, 33], "attention_mask": mask, **OPTIONS[how]}
    for use_cache in (True, False):
        torch.manual_seed(0)
        wanted = theirs.generate(ids, use_cache=use_cache, pad_token_id=51, **options)
        torch.manual_seed(0)
        got = ours.generate(ids, use_cache=use_cache, pad_token_id=51, **options)
        assert torch.equal(got, wanted)

"""Options of ``generate``: defaults as ``transformers`` has them, and wrong values in one line."""

import pytest
import transformers
from tiny_gpt2 import hf_gpt2, prompts

import minift
from minift.errors import InputError
from minift.generation.settings import GenerationSettings


def test_their_defaults():
    theirs = transformers.GenerationConfig._get_default_generation_params()
    ours = GenerationSettings()
    shared = [name for name in theirs if hasattr(ours, name)]
    assert len(shared) == 9
    assert {name: getattr(ours, name) for name in shared} == {name: theirs[name] for name in shared}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens: 0; right: at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens: 2.5; right: at least 1"),
        ({"min_new_tokens": -1}, "min_new_tokens: -1; right: at least 0"),
        (
            {"min_new_tokens": 30},
            "min_new_tokens: 30 is more than max_new_tokens (20); right: at most that",
        ),
        ({"num_beams": 0}, "num_beams: 0; right: at least 1"),
        ({"num_beams": True}, "num_beams: True; right: at least 1"),
        ({"num_return_sequences": 0}, "num_return_sequences: 0; right: at least 1"),
        ({"top_k": -1}, "top_k: -1; right: at least 1, or 0 to keep every token"),
        ({"top_k": 2.0}, "top_k: 2.0; right: at least 1, or 0 to keep every token"),
        (
            {"temperature": 0},
            "temperature: 0; right: above 0, or do_sample=False for the most probable token",
        ),
        (
            {"temperature": float("nan")},
            "temperature: nan; right: above 0, or do_sample=False for the most probable token",
        ),
        ({"temperature": "hot"}, "temperature: 'hot'; right: a number"),
        ({"repetition_penalty": -1.0}, "repetition_penalty: -1.0; right: above 0"),
        ({"top_p": 0.0}, "top_p: 0.0; right: above 0 and at most 1 (every token)"),
        ({"top_p": 1.01}, "top_p: 1.01; right: above 0 and at most 1 (every token)"),
        ({"min_p": 1.5}, "min_p: 1.5; right: from 0 (every token) to 1"),
        ({"length_penalty": float("inf")}, "length_penalty: inf; right: a finite number"),
        ({"early_stopping": "always"}, "early_stopping: 'always'; right: True, False, 'never'"),
        (
            {"num_return_sequences": 3},
            "num_return_sequences: 3 greedy texts would be equal; right: 1, or do_sample=True, or "
            "num_beams",
        ),
        (
            {"num_return_sequences": 3, "num_beams": 2},
            "num_return_sequences: 3 with num_beams=2; right: at most as many as beams",
        ),
        (
            {"topk": 3},
            "option: unknown 'topk'; known: max_new_tokens, min_new_tokens, do_sample, "
            "temperature, top_k, top_p, min_p, repetition_penalty, num_beams, length_penalty, "
            "early_stopping, num_return_sequences, stop_strings, eos_token_id, pad_token_id; did "
            "you mean 'top_k'?",
        ),
    ],
    ids=str,
)
def test_wrong_values(options, message):
    model = minift.from_hf(hf_gpt2())
    with pytest.raises(InputError) as caught:
        model.generate(prompts([5])[0], **options)
    assert str(caught.value) == message

"""Pieces of text as they come: joined they are the whole text, and none has half a character."""

import random

import pytest
import torch
from tiny_gpt2 import hf_gpt2, prompts
from tiny_tokenizers import TEXT, byte_level, characters

import minift
from minift.errors import InputError
from minift.generation.streaming import stream
from minift.text.stream import TextStream

WRITING = ["naïve café", "日本語 and 😀 👍🏽", "plain words.", "a\ufffdb", "é", TEXT]


def pieces_of(tokenizer, ids):
    text = TextStream(tokenizer, skip_special_tokens=True)
    return [*(text.push(token) for token in ids), text.finish()]


@pytest.mark.parametrize("text", WRITING)
@pytest.mark.parametrize("tokenizer", [byte_level(256), byte_level(320)], ids=["bytes", "bpe"])
def test_no_piece_has_half_a_character(tokenizer, text):
    pieces = pieces_of(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)
    assert pieces[-1] == ""  # nothing is left to the end


def test_a_character_comes_with_its_last_byte():
    tokenizer = byte_level(256)
    assert pieces_of(tokenizer, tokenizer.encode("a😀b")) == ["a", "", "", "", "😀", "b", ""]


def test_bytes_that_are_no_character():
    tokenizer = byte_level(256)
    ids = tokenizer.encode("日")
    assert pieces_of(tokenizer, ids[:2]) == ["", "", "\ufffd"]
    assert pieces_of(tokenizer, [*ids[:2], *tokenizer.encode("x")]) == ["", "", "\ufffdx", ""]
    rng = random.Random(0)
    for _ in range(200):
        ids = [rng.randrange(len(tokenizer)) for _ in range(12)]
        assert "".join(pieces_of(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_special_tokens_have_no_text():
    tokenizer = byte_level()
    end = tokenizer.encode("<|end|>")
    assert len(end) == 1
    assert pieces_of(tokenizer, [*tokenizer.encode("ab"), *end])[-2:] == ["", ""]


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_new_tokens": 1},
        {"repetition_penalty": 1.5, "max_new_tokens": 30},
        {"do_sample": True, "temperature": 2.0, "top_k": 0, "max_new_tokens": 30},
        {"do_sample": True, "top_p": 0.9, "eos_token_id": list(range(0, 320, 8))},
    ],
    ids=str,
)
def test_the_text_of_generate(options, use_cache):
    tokenizer = byte_level()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer)))
    prompt = "the cat"
    ids = torch.tensor([tokenizer.encode(prompt)])
    torch.manual_seed(3)
    wanted = model.generate(ids, use_cache=use_cache, **options)[0, ids.shape[1] :]
    for given in (prompt, ids[0].tolist()):
        torch.manual_seed(3)
        got = list(stream(model, tokenizer, given, use_cache=use_cache, **options))
        assert "".join(got) == tokenizer.decode(wanted, skip_special_tokens=True)
        assert all(got)  # no empty piece


def test_it_ends_with_the_stop_string():
    tokenizer = characters()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer)))
    whole = "".join(stream(model, tokenizer, "the", max_new_tokens=30))
    string = whole[4:6]
    got = "".join(stream(model, tokenizer, "the", max_new_tokens=30, stop_strings=string))
    assert got == whole[: whole.index(string) + 2]


def test_pieces_come_while_it_writes():
    tokenizer = characters()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer) - 1))  # without <unk>
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    pieces = stream(model, tokenizer, "the", max_new_tokens=20)
    assert not calls
    for seen, _ in enumerate(pieces, start=1):
        assert len(calls) == seen
    assert len(calls) == 20
    hook.remove()


def test_gradients_and_mode_of_the_caller():
    tokenizer = characters()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer), resid_pdrop=0.5)).train()
    pieces = stream(model, tokenizer, "the")
    next(pieces)
    assert torch.is_grad_enabled()
    pieces.close()
    assert model.training
    again = "".join(stream(model, tokenizer, "the"))
    assert again == "".join(stream(model.eval(), tokenizer, "the"))


def test_an_empty_prompt_begins_with_bos():
    tokenizer = characters()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer), bos_token_id=7))
    assert list(stream(model, tokenizer, "")) == list(stream(model, tokenizer, [7]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "num_beams: 2; right: 1, to stream one text"),
        (
            {"num_return_sequences": 2, "do_sample": True},
            "num_return_sequences: 2; right: 1, to stream one text",
        ),
        ({"top_p": 0}, "top_p: 0; right: above 0 and at most 1 (every token)"),
        ({"prompt": ""}, "prompt: no token in it; right: some text to continue"),
        (
            {"max_new_tokens": 40},
            "max_new_tokens: 3 prompt tokens and 40 new ones are more than the model's 40 "
            "positions; right: at most 37, or a shorter prompt",
        ),
    ],
)
def test_wrong_input_is_said_at_once(options, message):
    tokenizer = characters()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer)))
    with pytest.raises(InputError) as caught:
        stream(model, tokenizer, **{"prompt": "the", **options})
    assert str(caught.value) == message


def test_a_batch_of_texts_continues_as_each_alone():
    """Padded on the left by the tokenizer's own padding, against the stream of each."""
    tokenizer = byte_level()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer)))
    ids, mask = prompts([4, 9, 1])
    got = model.generate(ids, mask)
    for row, length in enumerate([4, 9, 1]):
        alone = "".join(stream(model, tokenizer, ids[row, -length:].tolist()))
        assert alone == tokenizer.decode(got[row, 9:], skip_special_tokens=True)

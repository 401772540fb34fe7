"""Stop strings, wherever tokens begin and end, against ``transformers``' criterion."""

import random
import re

import pytest
import torch
from tiny_gpt2 import hf_gpt2, prompts
from tiny_tokenizers import TEXT, byte_level, characters
from transformers.generation.stopping_criteria import StopStringCriteria

import minift
from minift.errors import InputError
from minift.generation.stopping import StopStrings

TOKENIZERS = {"byte-level": byte_level, "characters": characters}
STRINGS = {
    "one": ["stop"],
    "one-character": ["."],
    "several": ["cat", "the end", "op", "\n\n"],
    "long": ["stop the cats! the dog"],
    "accents": ["é", "ïve"],
    "wide": ["本", "😀", "👍🏽"],
    "space": [" the"],
}


def cut_differently(tokenizer, text, rng):
    """Ids whose text is ``text`` (or nearly), cut into tokens at random places."""
    ids, at = [], 0
    while at < len(text):
        end = min(len(text), at + rng.randint(1, 6))
        ids += tokenizer.encode(text[at:end], add_special_tokens=False)
        at = end
    return ids


def texts(tokenizer, strings, rng):
    """Texts with and without the strings near their end, as rows of 40 ids."""
    rows = []
    for _ in range(60):
        start = rng.randrange(len(TEXT) - 20)
        piece = TEXT[start : start + rng.randint(8, 20)]
        ending = rng.choice(["", *strings, *(s[:-1] for s in strings), *(s + "s" for s in strings)])
        ids = cut_differently(tokenizer, piece + ending + rng.choice(["", "", " ", "ed"]), rng)
        ids = ids[: len(ids) - rng.randint(0, 2)]
        if ids and rng.random() < 0.2:  # half a character, or any token at all
            ids[-1] = rng.randrange(len(tokenizer))
        filled = [rng.randrange(len(tokenizer)) for _ in range(40)] + ids
        rows.append(filled[-40:])
    return rows


@pytest.mark.parametrize("name", STRINGS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_same_verdict(kind, name):
    tokenizer, strings = TOKENIZERS[kind](), STRINGS[name]
    if kind == "characters":  # theirs refuses characters that no token has
        strings = [s for s in strings if set(s) <= set(TEXT) and "️" not in s]
    ids = torch.tensor(texts(tokenizer, strings, random.Random(0)))
    got = StopStrings(strings, tokenizer)(ids)
    wanted = StopStringCriteria(tokenizer.hf, strings)(ids, None)
    wrong = (got != wanted).nonzero()[:, 0].tolist()
    assert not wrong, [(tokenizer.decode(ids[i]), strings) for i in wrong]
    assert 3 < int(got.sum()) < len(got) - 3


def test_every_last_token_after_every_beginning():
    """All 320 last tokens after tokens that begin a string, or end it already."""
    tokenizer, strings = byte_level(), ["stopped", "é", "😀!"]
    for beginning in ("the sto", "stopped", "s", "caf", "😀", "the ", "stop", "dé"):
        ids = torch.tensor(tokenizer.encode(beginning)).expand(len(tokenizer), -1)
        ids = torch.cat([ids, torch.arange(len(tokenizer))[:, None]], dim=1)
        wanted = StopStringCriteria(tokenizer.hf, strings)(ids, None)
        assert torch.equal(StopStrings(strings, tokenizer)(ids), wanted)


def test_half_a_character_before_the_last_token():
    tokenizer = byte_level()
    ids = torch.tensor([tokenizer.encode("日")])
    assert ids.shape[1] > 1  # one character, several tokens
    assert StopStrings(["日"], tokenizer)(ids).tolist() == [True]
    assert StopStrings(["日"], tokenizer)(ids[:, :-1]).tolist() == [False]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_same_texts(seed, beams):
    tokenizer = byte_level()
    theirs = hf_gpt2(seed=seed, vocab_size=len(tokenizer))
    ours = minift.from_hf(theirs)
    ids, mask = prompts([4, 9, 1], seed)
    free = ours.generate(ids, mask, num_beams=beams, max_new_tokens=20)
    # two characters that stand beside each other in each of the first two rows
    written = [tokenizer.decode(row[11:]) for row in free[:2]]
    strings = [re.search(r"[ -~]{2}|[ -~]", text).group() for text in written]
    for eos in (None, 0):
        options = {
            "stop_strings": strings,
            "num_beams": beams,
            "eos_token_id": eos,
            "max_new_tokens": 20,
        }
        options["pad_token_id"] = None if eos is None else 7
        got = ours.generate(ids, mask, tokenizer=tokenizer, **options)
        wanted = theirs.generate(
            ids, attention_mask=mask, do_sample=False, tokenizer=tokenizer.hf, **options
        )
        assert torch.equal(got, wanted)


def test_one_string_or_several():
    tokenizer = byte_level()
    model = minift.from_hf(hf_gpt2(vocab_size=len(tokenizer)))
    ids, _ = prompts([5])
    text = tokenizer.decode(model.generate(ids)[0, 5:])
    string = text[3:5]
    one = model.generate(ids, stop_strings=string, tokenizer=tokenizer)
    assert torch.equal(one, model.generate(ids, stop_strings=[string], tokenizer=tokenizer))
    found = tokenizer.decode(one[0, 5:])
    assert string in found
    assert string not in tokenizer.decode(one[0, 5:-1])
    assert text.startswith(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"stop_strings": "."},
            "stop_strings: tokens alone do not show them; right: tokenizer=… beside them",
        ),
        (
            {"stop_strings": ["a", ""]},
            "stop_strings: ('a', ''); right: texts, none of them empty",
        ),
        ({"stop_strings": [3]}, "stop_strings: (3,); right: texts, none of them empty"),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(InputError) as caught:
        minift.from_hf(hf_gpt2()).generate(prompts([5])[0], **options)
    assert str(caught.value) == message

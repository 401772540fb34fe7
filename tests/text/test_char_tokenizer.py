"""The character tokenizer: the same protocol, and files that ``transformers`` reads alike."""

from pathlib import Path

import pytest
import torch
from awkward import AWKWARD
from transformers import AutoTokenizer

from minift.errors import InputError
from minift.text.char_tokenizer import CharTokenizer
from minift.text.loading import load_tokenizer
from minift.text.tokenizer import Tokenizer

TEXTS = ["hello world\n", "é 中文 👍🏽", "a\r\n\tb\u2028", *AWKWARD.values()]
SPECIAL = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}


def test_by_hand() -> None:
    tokenizer = CharTokenizer.train(["hello", "world"], eos_token="<end>")
    assert isinstance(tokenizer, Tokenizer)
    assert list(tokenizer.vocab) == ["<end>", "d", "e", "h", "l", "o", "r", "w"]
    encoding = tokenizer.tokenize("old<end>h")
    assert encoding.ids == tokenizer.encode("old<end>h") == [5, 4, 1, 0, 3]
    assert encoding.tokens == ["o", "l", "d", "<end>", "h"]
    assert encoding.offsets == [(0, 1), (1, 2), (2, 3), (3, 8), (8, 9)]
    assert encoding.word_index == [0, 1, 2, 3, 4]
    assert tokenizer.decode(torch.tensor([5, 4, 1, 0])) == "old<end>"
    assert tokenizer.decode([5, 4, 1, 0], skip_special_tokens=True) == "old"
    assert tokenizer.tokenize_words(["he", "l"]) == ([3, 2, 4], [0, 0, 1])


@pytest.mark.parametrize("special", [{}, SPECIAL, {"unk_token": "?"}])
def test_saved_for_transformers(special: dict[str, str], tmp_path: Path) -> None:
    ours = CharTokenizer.train(TEXTS, **special)  # type: ignore[arg-type]
    ours.save(tmp_path)
    theirs, again = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path)
    assert isinstance(again, CharTokenizer)
    assert (again.vocab, again.config) == (ours.vocab, ours.config)
    texts = [*TEXTS, "<s>a</s><pad>", *(["Ж<unk>q"] if special else [])]
    for text in texts if special else TEXTS:
        right = theirs(text, return_offsets_mapping=True)
        mine = ours.tokenize(text)
        assert (mine.ids, mine.offsets) == (right["input_ids"], right["offset_mapping"])
        assert mine.word_index == right.word_ids()
        assert ours.encode(text) == again.encode(text) == right["input_ids"]
        for skip in (False, True):
            right_text = theirs.decode(mine.ids, skip_special_tokens=skip)
            assert ours.decode(mine.ids, skip) == right_text
    assert len(ours) == len(theirs)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batches(side: str, tmp_path: Path) -> None:
    CharTokenizer.train(TEXTS, **SPECIAL).save(tmp_path)  # type: ignore[arg-type]
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    for tokenizer in (ours, theirs):
        tokenizer.padding_side = tokenizer.truncation_side = side
    options = {"padding": True, "truncation": True, "max_length": 7}
    mine, right = ours(TEXTS[:3], **options), theirs(TEXTS[:3], return_tensors="pt", **options)
    assert torch.equal(mine["input_ids"], right["input_ids"])
    assert torch.equal(mine["attention_mask"], right["attention_mask"])


def test_an_unknown_character() -> None:
    tokenizer = CharTokenizer.train("abc")
    with pytest.raises(InputError, match=r"text: character 2 is 'Z', which the vocabulary lacks"):
        tokenizer.encode("abZc")
    with pytest.raises(InputError, match=r"text: character 0 is '\\u0416', which"):
        tokenizer.tokenize("Ж")
    unknown = CharTokenizer.train("abc", unk_token="?")
    assert unknown.decode(unknown.encode("abZЖ")) == "ab??"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "texts: no character in them"),
        ([""], "texts: no character in them"),
        ([3], "text: int given; right would be a str"),
        (["\ud800"], "half of a surrogate pair"),
    ],
)
def test_nothing_to_learn_from(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CharTokenizer.train(texts)

"""Ids one at a time: pieces are whole characters, and joined they are the text of all ids."""

import random
from typing import Any

import pytest
from awkward import AWKWARD, random_text
from token_parity import Pair

from minift.errors import InputError
from minift.text.bpe_tokenizer import BPETokenizer
from minift.text.bpe_training import train_bpe
from minift.text.char_tokenizer import CharTokenizer
from minift.text.huggingface import HuggingFaceTokenizer
from minift.text.stream import TextStream
from minift.text.tokenizer import Tokenizer
from minift.text.wordpiece_tokenizer import WordPieceTokenizer

BYTES = train_bpe([], 257)  # every byte is a token


def pieces(tokenizer: Tokenizer, ids: list[int], skip: bool = False) -> list[str]:
    stream = TextStream(tokenizer, skip)
    given = [stream.push(id_) for id_ in ids]
    return [*given, stream.finish()]


@pytest.mark.parametrize("name", AWKWARD)
def test_texts(gpt2: Pair, name: str) -> None:
    """A real character U+FFFD is the one that may come later than it could."""
    for tokenizer in (gpt2.ours, BYTES):
        given = pieces(tokenizer, tokenizer.encode(AWKWARD[name]))
        assert "".join(given) == AWKWARD[name]
        if "\ufffd" not in AWKWARD[name]:
            assert not any("\ufffd" in piece for piece in given) and given[-1] == ""


def test_every_byte_of_a_character_is_waited_for() -> None:
    given = pieces(BYTES, BYTES.encode("aé中👍"))
    assert given == ["a", "", "é", "", "", "中", "", "", "", "👍", ""]


def test_broken_text_comes_too() -> None:
    ids = [BYTES.encode("👍")[i] for i in (0, 1)]
    assert pieces(BYTES, ids) == ["", "", "\ufffd"]
    assert pieces(BYTES, [*ids, *BYTES.encode("a")]) == ["", "", "\ufffda", ""]


@pytest.mark.parametrize("seed", range(4))
def test_random_ids(real: Pair, seed: int) -> None:
    rng = random.Random(seed)
    for tokenizer in (real.ours, BYTES):
        for skip in (False, True):
            for _ in range(150):
                ids = [rng.randrange(len(tokenizer)) for _ in range(rng.randint(0, 40))]
                ids += rng.choices(range(3), k=rng.randint(0, 2))
                rng.shuffle(ids)
                assert "".join(pieces(tokenizer, ids, skip)) == tokenizer.decode(ids, skip)


def test_special_tokens(smollm2: Pair) -> None:
    ids = smollm2.ours.encode("<|im_start|>é<|im_end|><|im_end|> x")
    assert "".join(pieces(smollm2.ours, ids)) == "<|im_start|>é<|im_end|><|im_end|> x"
    assert pieces(smollm2.ours, ids, skip=True)[-4:] == ["", "", " x", ""]


def test_other_tokenizers(ours: WordPieceTokenizer, theirs: Any) -> None:
    rng = random.Random(0)
    chars = CharTokenizer.train("".join(AWKWARD.values()), unk_token="?")
    for tokenizer in (ours, HuggingFaceTokenizer(theirs), chars):
        for text in [*AWKWARD.values(), *(random_text(rng) for _ in range(50))]:
            ids = tokenizer.encode(text)
            for skip in (False, True):
                assert "".join(pieces(tokenizer, ids, skip)) == tokenizer.decode(ids, skip)


def test_only_the_last_ids_are_decoded_again(monkeypatch: Any) -> None:
    lengths: list[int] = []
    decode = BPETokenizer.decode

    def counted(self: BPETokenizer, ids: list[int], skip: bool = False) -> str:
        lengths.append(len(ids))
        return decode(self, ids, skip)

    monkeypatch.setattr(BPETokenizer, "decode", counted)
    pieces(BYTES, BYTES.encode("é👍" * 300))
    assert max(lengths) <= 8


def test_a_tokenizer_that_cleans_up(ours: WordPieceTokenizer, monkeypatch: Any) -> None:
    import dataclasses

    config = dataclasses.replace(ours.config, clean_up_tokenization_spaces=True)
    monkeypatch.setattr(ours, "config", config)
    with pytest.raises(InputError, match="clean_up_tokenization_spaces=false"):
        TextStream(ours)

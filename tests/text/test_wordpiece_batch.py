"""Tensors from a call: pairs, truncation, padding, against ``transformers``."""

import random
from typing import Any

import pytest
import torch

from minift.errors import InputError
from minift.text.batch import truncate
from minift.text.wordpiece_tokenizer import WordPieceTokenizer

TEXTS = ["A short one.", "", "Something considerably longer, unaffable words included!", "É 中"]
PAIRS = ["And a second text that is longer than the first", "b", "", "two words"]


def assert_same(ours: WordPieceTokenizer, theirs: Any, *texts: Any, **options: Any) -> None:
    mine = ours(*texts, **options)
    right = theirs(*texts, return_tensors="pt", **options)
    assert set(mine) == set(right)
    for name, tensor in right.items():
        assert mine[name].dtype == torch.int64
        assert torch.equal(mine[name], tensor), (texts, options, name, mine[name], tensor)


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("padding", [True, "longest", "max_length"])
@pytest.mark.parametrize("max_length", [3, 4, 5, 8, 17, 40, None])
@pytest.mark.parametrize("pairs", [False, True])
def test_batches(
    ours: WordPieceTokenizer,
    theirs: Any,
    pairs: bool,
    max_length: int | None,
    padding: bool | str,
    special: bool,
) -> None:
    assert_same(
        ours,
        theirs,
        *([TEXTS, PAIRS] if pairs else [TEXTS]),
        padding=padding,
        truncation=True,
        max_length=max_length,
        add_special_tokens=special,
    )


def test_one_text_is_a_batch_of_one(ours: WordPieceTokenizer, theirs: Any) -> None:
    for text in TEXTS[::2]:
        right = theirs([text], return_tensors="pt")
        mine = ours(text)
        assert mine["input_ids"].shape == (1, len(ours.encode(text)))
        assert all(torch.equal(mine[name], right[name]) for name in right)


@pytest.mark.parametrize("first", range(6))
@pytest.mark.parametrize("second", range(6))
def test_longest_first_for_all_small_lengths(
    ours: WordPieceTokenizer, theirs: Any, first: int, second: int
) -> None:
    texts = "a " * first, "b " * second
    for max_length in range(3, 14):
        assert_same(ours, theirs, *([t] for t in texts), truncation=True, max_length=max_length)


@pytest.mark.parametrize("strategy", ["only_first", "only_second"])
def test_cutting_one_of_two(ours: WordPieceTokenizer, theirs: Any, strategy: str) -> None:
    texts = ["one two three four five six seven"], ["eight nine ten eleven twelve"]
    compared = refused = 0
    for max_length in range(4, 20):
        options = {"truncation": strategy, "max_length": max_length}
        try:
            theirs(*texts, **options)
        except Exception:
            refused += 1
            with pytest.raises(InputError, match=rf"truncation: '{strategy}' cannot take away"):
                ours(*texts, **options)
            continue
        assert_same(ours, theirs, *texts, **options)
        compared += 1
    assert compared > 5 and refused > 3


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_from_the_left(ours: WordPieceTokenizer, theirs: Any, side: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(ours, side, "left")
    monkeypatch.setattr(theirs, side, "left")
    assert_same(ours, theirs, TEXTS, padding=True, truncation=True, max_length=6)
    assert_same(ours, theirs, TEXTS, PAIRS, padding=True, truncation=True, max_length=8)


def test_truncation_of_long_speech_pairs(
    ours: WordPieceTokenizer, theirs: Any, speech_lines: list[str]
) -> None:
    rng = random.Random(0)
    firsts = [" ".join(rng.sample(speech_lines, rng.randint(1, 30))) for _ in range(20)]
    seconds = [" ".join(rng.sample(speech_lines, rng.randint(1, 30))) for _ in range(20)]
    assert_same(ours, theirs, firsts, seconds, padding=True, truncation=True)
    assert_same(ours, theirs, firsts, padding="max_length", truncation=True)
    assert ours(firsts, padding=True, truncation=True)["input_ids"].shape[1] == 512


def test_truncate_leaves_its_arguments_alone() -> None:
    first, second = [1, 2, 3, 4], [5, 6, 7]
    assert truncate(first, second, 5, "longest_first") == ([1, 2, 3], [5, 6])
    assert truncate(first, second, 5, "longest_first", "left") == ([2, 3, 4], [6, 7])
    for side in ("left", "right"):
        assert truncate(first, second, 0, "longest_first", side) == ([], [])
        assert truncate(first, None, 0, "longest_first", side) == ([], None)
    assert (first, second) == ([1, 2, 3, 4], [5, 6, 7])


LONG = "word " * 600


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([LONG], {}, r"text 0: 602 tokens, but the maximum is 512; pass truncation=True"),
        ([["a", LONG]], {"padding": True}, r"text 1: 602 tokens"),
        ([["a b c d"]], {"max_length": 4}, r"text 0: 6 tokens, but the maximum is 4; pass"),
        ([LONG], {"truncation": True, "max_length": 600}, r"600 tokens.*is 512; lower max_length"),
        ([["a", "a b"]], {}, r"padding: rows of 3 to 4 tokens make no tensor; pass padding=True"),
        ([[]], {}, r"text: an empty list"),
        ([["a", "b"], ["c"]], {}, r"text_pair: 1 texts for 2 first texts"),
        ([["a", 3]], {}, r"text: int given; right would be a str"),
        (["a"], {"padding": "longst"}, r"padding: unknown 'longst'.*did you mean 'longest'"),
        (["a"], {"truncation": "first"}, r"truncation: unknown 'first'"),
        (["a"], {"max_length": 0}, r"max_length: 0; right would be 1 or more"),
        (["a"], {"max_length": "9"}, r"max_length: '9'; right would be 1 or more"),
        (["a", "b"], {"truncation": True, "max_length": 2}, r"2 has no room for 3 special tokens"),
        (["a b"], {"truncation": "only_second", "max_length": 3}, r"needs a text_pair"),
    ],
)
def test_wrong_calls(
    ours: WordPieceTokenizer, texts: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ours(*texts, **options)
    assert "\n" not in str(caught.value)


def test_encode_of_a_long_text_is_not_refused(ours: WordPieceTokenizer) -> None:
    assert len(ours.encode(LONG)) == 602


def test_words_split_before(ours: WordPieceTokenizer, theirs: Any, speech_lines: list[str]) -> None:
    awkward = [
        "Hello",
        "[SEP]",
        "x[MASK]y",
        "\x00",
        "wonderfully",
        "",
        " ",
        "a b",
        "é\u0301",
        "don't",
    ]
    for words in [awkward, [], ["\u200b"], *(line.split() for line in speech_lines[::500])]:
        right = theirs(
            words, is_split_into_words=True, add_special_tokens=False, return_offsets_mapping=True
        )
        ids, word_index = ours.tokenize_words(words)
        encoding = ours.tokenize(words)
        assert ids == encoding.ids == right["input_ids"]
        assert word_index == encoding.word_index == right.word_ids()
        assert encoding.offsets == right["offset_mapping"]
        assert encoding.tokens == right.tokens()


def test_a_text_in_place_of_words_is_refused(ours: WordPieceTokenizer) -> None:
    with pytest.raises(InputError, match="words: a str given; right would be a list of words"):
        ours.tokenize_words("a b c")  # type: ignore[arg-type]


@pytest.mark.parametrize("skip", [True, False])
def test_decode(ours: WordPieceTokenizer, theirs: Any, speech_lines: list[str], skip: bool) -> None:
    rng = random.Random(0)
    texts = [*speech_lines[::300], "it's n't ' s, a . b ! do not don't [SEP] [MASK]x [UNK] ' ve"]
    samples = [ours.encode(text) for text in texts]
    samples += [[rng.randrange(ours.vocab_size) for _ in range(30)] for _ in range(300)]
    samples += [[], [102], [0, 0, 101], [2015], [100, 2015, 2015]]
    for ids in samples:
        assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)
    assert ours.decode(torch.tensor([101, 7592, 102]), True) == "hello"


def test_decode_with_clean_up(ours: WordPieceTokenizer, theirs: Any, monkeypatch: Any) -> None:
    import dataclasses

    config = dataclasses.replace(ours.config, clean_up_tokenization_spaces=True)
    monkeypatch.setattr(ours, "config", config)
    text = "it's what we've got, don't you? I'm ' here ' . they're n't"
    ids = ours.encode(text)
    right = theirs.decode(ids, clean_up_tokenization_spaces=True)
    assert ours.decode(ids) == right != theirs.decode(ids)


@pytest.mark.parametrize("id_", [-1, 30522, 10**9])
def test_decode_refuses_ids_that_do_not_exist(ours: WordPieceTokenizer, id_: int) -> None:
    with pytest.raises(InputError, match=rf"ids: {id_}; right would be 0 to 30521"):
        ours.decode([101, id_])

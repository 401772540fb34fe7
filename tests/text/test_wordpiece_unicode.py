"""Every code point of Unicode, and texts made to be awkward, against the Rust library."""

import random
from collections.abc import Iterator

import pytest
from awkward import AWKWARD, EVERY, VARIED, random_text
from token_parity import Compare
from tokenizers.normalizers import BertNormalizer as RustNormalizer

from minift.errors import InputError
from minift.text.normalize import BertNormalizer
from minift.text.wordpiece_tokenizer import WordPieceTokenizer


def in_batches(words: list[str], size: int = 2048) -> Iterator[str]:
    for i in range(0, len(words), size):
        yield " ".join(words[i : i + size])


def test_every_code_point(same: Compare) -> None:
    """Between a's: a character that is dropped, split off or taken for a space changes the word."""
    assert len(EVERY) == 1_112_064
    words = ["a" + "a".join(EVERY[i : i + 45]) + "a" for i in range(0, len(EVERY), 45)]
    same(in_batches(words, 64))


def test_every_kind_of_code_point_alone(same: Compare) -> None:
    assert len(VARIED) > 60_000
    same(in_batches(VARIED))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x", "y"),
        ("e\u0301", "\u0323\u302e"),  # between marks of classes 230, 220 and 224
        ("\u0316\u1b44", "\u05b0"),  # after marks with nothing before them
    ],
)
def test_every_kind_of_code_point_inside_a_word(same: Compare, before: str, after: str) -> None:
    assert len(VARIED) > 60_000
    same(in_batches([before + char + after for char in VARIED]))


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("chinese", [True, False])
@pytest.mark.parametrize("accents", [True, False, None])
@pytest.mark.parametrize("lowercase", [True, False])
def test_each_switch_of_the_normalizer(
    clean: bool, chinese: bool, accents: bool | None, lowercase: bool
) -> None:
    ours = BertNormalizer(clean, chinese, accents, lowercase)
    theirs = RustNormalizer(
        clean_text=clean,
        handle_chinese_chars=chinese,
        strip_accents=accents,
        lowercase=lowercase,
    )
    for i in range(0, len(VARIED), 5000):
        text = "a".join(VARIED[i : i + 5000 : 10])
        assert "".join(char for char, _, _ in ours(text)) == theirs.normalize_str(text)


def test_normalization_of_every_code_point() -> None:
    ours, theirs = BertNormalizer(), RustNormalizer()
    assigned = [char for char in EVERY if char < "\U00034000" or char >= "\U000e0000"]
    for i in range(0, len(assigned), 10_000):
        text = " ".join(assigned[i : i + 10_000])
        assert "".join(char for char, _, _ in ours(text)) == theirs.normalize_str(text)


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward(same: Compare, name: str) -> None:
    text = AWKWARD[name]
    same([text, text.upper(), text.lower(), "x" + text + "y", f" {text} {text}\n", text[::-1]])


@pytest.mark.parametrize(
    "char", ["a", "ab", "é", "e\u0301", "中", "İ", "\u0301", "\U0001d400", "-"]
)
@pytest.mark.parametrize("length", [49, 50, 51, 99, 100, 101, 199, 200, 201, 1000])
def test_long_words(same: Compare, char: str, length: int) -> None:
    same([char * length, f"x {char * length} y", char * length + "z", "z" + char * length])


def test_a_word_of_a_hundred_thousand_characters(same: Compare, ours: WordPieceTokenizer) -> None:
    same(["a" * 100_000, "é" * 100_000, "中-" * 50_000])
    assert ours.tokenize("a" * 100_000).ids == [ours.unk_token_id]


@pytest.mark.parametrize("seed", range(5))
def test_random_texts(same: Compare, seed: int) -> None:
    rng = random.Random(seed)
    assert same(random_text(rng) for _ in range(5000)) == 5000


@pytest.mark.parametrize("text", ["a\ud800b", "\udc00", "ok \udfff"])
def test_half_a_surrogate_pair_is_refused(ours: WordPieceTokenizer, text: str) -> None:
    with pytest.raises(InputError, match=r"half of a surrogate pair.*errors='replace'"):
        ours.encode(text)
    with pytest.raises(InputError, match="surrogate"):
        ours.tokenize(text)


@pytest.mark.parametrize("text", [None, 3, b"bytes"])
def test_what_is_not_text_is_refused(ours: WordPieceTokenizer, text: object) -> None:
    with pytest.raises(InputError, match=rf"text: {type(text).__name__} given"):
        ours.encode(text)  # type: ignore[arg-type]

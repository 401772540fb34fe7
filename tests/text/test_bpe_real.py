"""The real vocabularies of GPT-2 and SmolLM2: ids, tokens, offsets, words and decoded text."""

import random
from typing import Any

import pytest
from awkward import AWKWARD, EVERY, VARIED, random_text
from token_parity import Pair, compare
from tokenizers import Regex, pre_tokenizers

from minift.errors import InputError
from minift.text.bpe_split import Splitter

# GPT-2's expression, as its authors published it.
ORIGINAL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def test_prose(real: Pair, speech_lines: list[str]) -> None:
    """Two hundred years of speeches, every fourth sentence."""
    lines = speech_lines[::4]
    assert compare(*real, lines) == len(lines) > 20_000
    ids = [id_ for line in lines for id_ in real.ours.encode(line)]
    assert real.ours.decode(ids) == real.rust.decode(ids) == "".join(lines)


def test_technical_prose(real: Pair, topics: list[str]) -> None:
    """Tables, code and indentation: much white space."""
    assert real.same(topics[::3]) == len(topics[::3]) > 3_000


def test_whole_texts(real: Pair, speech_lines: list[str], topics: list[str]) -> None:
    assert real.same(["\n".join(speech_lines[::500]), "\n".join(topics[:2000])]) == 2


@pytest.mark.parametrize("between", ["", "a", " ", "1", "!", "\n"])
@pytest.mark.parametrize("digits", [False, True])
def test_every_code_point_is_cut_alike(between: str, digits: bool) -> None:
    """Alone all of them, beside others every kind of them."""
    text = between.join(VARIED if between else EVERY)
    steps: list[Any] = [pre_tokenizers.Split(Regex(ORIGINAL), "isolated")]
    if digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    right = pre_tokenizers.Sequence(steps).pre_tokenize_str(text)
    assert Splitter(split_digits=digits)(text) == [word for word, _ in right]


@pytest.mark.parametrize("between", ["", " "])
def test_every_kind_of_code_point(real: Pair, between: str) -> None:
    chars = [char for char in VARIED if " " <= char < "\U00040000"]  # SmolLM2 lacks some others
    real.same(between.join(chars[i : i + 700]) for i in range(0, len(chars), 700))


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward(real: Pair, name: str) -> None:
    text = AWKWARD[name].replace("\x1d", "")  # which SmolLM2 lacks
    real.same([text, text.upper(), "x" + text + "y", f" {text} {text}\n", text[::-1]])


def mixed(rng: random.Random) -> str:
    """What the cuts depend on, in any order."""
    parts = ["'s", "'ll", "'S", "’s", " ", "  ", "\n", "\t", "\xa0", "\u3000", "\x85", "\x1c", "1"]
    parts += ["23", "½", "٣", "Ⅷ", "²", "a", "é", "中", "\u0301", "!", "€", "'", "\U0001f600", "-"]
    parts += ["<|endoftext|>", "<|im_start|>", "<|im", "\x00", "\U00011de5", "\U00016ff4"]
    return "".join(rng.choices(parts, k=rng.randint(0, 25)))


@pytest.mark.parametrize("seed", range(3))
def test_random_texts(real: Pair, seed: int) -> None:
    rng = random.Random(seed)
    assert real.same(mixed(rng) for _ in range(1500)) == 1500
    control = dict.fromkeys(range(32))  # of these, SmolLM2 lacks some
    assert real.same(random_text(rng).translate(control) for _ in range(300)) == 300


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes(gpt2: Pair, seed: int) -> None:
    rng = random.Random(seed)
    texts = [rng.randbytes(rng.randint(1, 60)) for _ in range(500)]
    gpt2.same(text.decode("latin-1") for text in texts)
    gpt2.same(text.decode("utf-8", errors="replace") for text in texts)


def test_random_ids(real: Pair) -> None:
    """Most of them decode to broken UTF-8."""
    rng = random.Random(0)
    bytes_ = [id_ for id_ in range(real.ours.vocab_size) if len(real.ours.decode([id_])) == 1]
    for pool in (range(real.ours.vocab_size), bytes_):
        for _ in range(1000):
            ids = rng.choices(pool, k=rng.randint(0, 12))
            for skip in (True, False):
                assert real.ours.decode(ids, skip) == real.rust.decode(
                    ids, skip_special_tokens=skip
                )


@pytest.mark.parametrize("piece", ["a", "ab", " ", "é", "中", "1", "!", "\u0301", "\n", "ha"])
def test_long_words(real: Pair, piece: str) -> None:
    real.same([piece * n for n in (1, 2, 3, 49, 50, 51, 1000, 20_000)])


def test_special_tokens_in_a_text(real: Pair) -> None:
    end = "<|endoftext|>"
    real.same([end, end * 3, f"a{end}b", f" {end} ", end[:-1], end.upper(), f"{end}\n\n1{end}"])


def test_bytes_that_smollm2_lacks(smollm2: Pair) -> None:
    """They vanish, in the library too; a word of nothing else still counts as a word."""
    ours, rust = smollm2
    lost = [chr(code) for code in range(32) if not ours.encode(chr(code))]
    assert lost == ["\x04", "\x06", "\x13", "\x14", "\x16", "\x1d"]
    lost += ["\U00040000", "\U0010ffff"]  # their first bytes
    for char in lost:
        for text in (char, f"a{char}b", f"a {char} b", char * 2, f"!{char}! {char}é{char}"):
            mine, right = ours.tokenize(text), rust.encode(text, add_special_tokens=False)
            assert (mine.ids, mine.word_index) == (right.ids, right.word_ids)
    encoding = ours.tokenize("!\x04é\x04 yes")
    assert encoding.tokens == ["!", "Ã©", "Ġyes"]
    assert encoding.offsets == [(0, 1), (2, 3), (4, 8)]


def test_digits_apart(smollm2: Pair, gpt2: Pair) -> None:
    text = "In 1984  12"
    assert smollm2.ours.tokenize(text).tokens == ["In", "Ġ", *"1984", "ĠĠ", *"12"]
    assert gpt2.ours.tokenize(text).tokens == ["In", "Ġ1984", "Ġ", "Ġ12"]


def test_round_trip(gpt2: Pair, speech_lines: list[str]) -> None:
    for text in [*speech_lines[::200], *AWKWARD.values()]:
        assert gpt2.ours.decode(gpt2.ours.encode(text)) == text


@pytest.mark.parametrize("text", ["a\ud800b", "\udc00", "ok \udfff"])
def test_half_a_surrogate_pair_is_refused(real: Pair, text: str) -> None:
    for call in (real.ours.encode, real.ours.tokenize, real.ours):
        with pytest.raises(InputError, match=r"half of a surrogate pair.*errors='replace'"):
            call(text)


@pytest.mark.parametrize("text", [None, 3, b"bytes"])
def test_what_is_not_text_is_refused(real: Pair, text: object) -> None:
    with pytest.raises(InputError, match=rf"text: {type(text).__name__} given"):
        real.ours.encode(text)  # type: ignore[arg-type]


def test_an_id_that_does_not_exist(real: Pair) -> None:
    with pytest.raises(InputError, match=rf"ids: -1; right would be 0 to {len(real.ours) - 1}"):
        real.ours.decode([-1])

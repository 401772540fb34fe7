"""Training: the same merges, in the same order, and the same ids as the library learns."""

import json
import random

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, pre_tokenizers, trainers

from minift.errors import InputError
from minift.text.bpe_tokenizer import BPETokenizer
from minift.text.bpe_training import count_words, train_bpe

END = "<|endoftext|>"


def learnt_by_rust(
    texts: list[str], size: int, *, special: tuple[str, ...] = (END,), least: int = 0,
    digits: bool = False,
) -> tuple[dict[str, int], list[tuple[str, str]]]:  # fmt: skip
    tokenizer = RustTokenizer(models.BPE())
    steps: list[object] = [pre_tokenizers.ByteLevel(add_prefix_space=False)]
    if digits:
        steps.insert(0, pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=least,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [(left, right) for left, right in model["merges"]]


def assert_same(texts: list[str], size: int, least: int = 0, digits: bool = False) -> BPETokenizer:
    ours = train_bpe(texts, size, min_frequency=least, split_digits=digits)
    vocab, merges = learnt_by_rust(texts, size, least=least, digits=digits)
    assert ours.merges == merges
    assert ours.vocab == vocab
    return ours


def test_speeches(speech_lines: list[str]) -> None:
    ours = assert_same(speech_lines[::8], 3000)
    assert len(ours.merges) == 3000 - 257


def test_technical_prose(topics: list[str]) -> None:
    ours = assert_same(topics, 1500, digits=True)
    assert not any(token != "1" and "1" in token for token in ours.vocab)


@pytest.mark.parametrize("least", [0, 1, 2, 3, 10])
def test_least_frequency(topics: list[str], least: int) -> None:
    """Words here are rare, so that training ends for want of pairs."""
    ours = assert_same(topics[:150], 5000, least=least)
    assert len(ours.vocab) < 5000


@pytest.mark.parametrize("seed", range(20))
def test_ties(seed: int) -> None:
    """Few letters and few words: most pairs are as frequent as another."""
    rng = random.Random(seed)
    letters = rng.choice(["ab", "abc", "ab c", "é中", "aA 1'"])
    texts = ["".join(rng.choices(letters, k=rng.randint(1, 40))) for _ in range(rng.randint(1, 60))]
    assert_same(texts, rng.randint(257, 700))


def test_one_letter() -> None:
    """Pairs overlap in "aaa"; a merge leaves odd ones over."""
    assert_same(["a" * n for n in range(1, 40)], 400)
    assert_same(["ab" * n + "a" * n for n in range(1, 30)], 500)


def test_many_languages() -> None:
    texts = ["naïve café", "我来到北京清华大学", "Привет, мир", "👍🏽 👩‍👧", "שָׁלוֹם", "ภาษาไทย"]
    assert_same(texts * 3, 400)


def test_special_tokens_take_the_first_ids() -> None:
    texts = ["low lower lowest", "<pad> low", "lo"]
    special = ("<pad>", "<s>", "lo", "<s>")
    ours = train_bpe(texts, 275, special_tokens=special)
    assert (ours.vocab, ours.merges) == learnt_by_rust(texts, 275, special=special)
    assert [ours.vocab[token] for token in special] == [0, 1, 2, 1]
    assert ours.encode("<pad>low")[0] == 0
    assert ours.eos_token_id == 0


def test_what_was_learnt_is_used(topics: list[str]) -> None:
    tokenizer = train_bpe(topics, 600)
    assert tokenizer.encode(END) == [tokenizer.eos_token_id] == [0]
    for text in topics[::200]:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    ids = tokenizer.encode("\n".join(topics))
    assert len(ids) < 0.55 * len("\n".join(topics))


def test_no_room_for_merges() -> None:
    assert assert_same(["abab abab"], 257).merges == []
    assert assert_same([], 300).merges == []
    assert train_bpe(["aa"], 256, special_tokens=()).vocab_size == 256


def test_counted_words() -> None:
    assert count_words(["a b\n", " b é"]) == {"a": 1, "Ġb": 2, "Ċ": 1, "ĠÃ©": 1}


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        ("a text", 300, "texts: a str given; right would be a list or an iterator of texts"),
        (["a", 3], 300, "text: int given; right would be a str"),
        (["a\ud800"], 300, "half of a surrogate pair"),
        (["a"], 256, "vocab_size: 256; right would be 257 or more"),
        (["a"], 300.0, r"vocab_size: 300\.0; right would be 257 or more"),
    ],
)
def test_what_is_refused(texts: list[str], size: int, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        train_bpe(texts, size)
    assert "\n" not in str(caught.value)

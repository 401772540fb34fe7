"""Small vocabularies: every switch, added tokens, batches, against the library."""

import itertools
import random
from typing import Any

import pytest
import torch
from awkward import AWKWARD
from token_parity import Pair, compare
from tokenizers import AddedToken as RustAddedToken
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from minift.errors import InputError
from minift.text.added_tokens import AddedToken
from minift.text.bpe import BPE
from minift.text.bpe_tokenizer import BPEConfig, BPETokenizer
from minift.text.bpe_training import train_bpe
from minift.text.tokenizer import Tokenizer

TEXTS = ["Hello  world", " hello", "", " ", "x", "don't  12 34", "héllo 中 👍🏽", "a\n b\t c "]
TRAINED = train_bpe(TEXTS * 3 + ["hello world hello"] * 9, 300)
FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def pair(config: BPEConfig, ours: BPETokenizer = TRAINED, trim: bool = False) -> Pair:
    rust = RustTokenizer(
        models.BPE(vocab=ours.vocab, merges=ours.merges, ignore_merges=config.ignore_merges)
    )
    rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.add_prefix_space)
    rust.decoder = decoders.ByteLevel()
    for t in config.added_tokens:
        flags = {name: getattr(t, name) for name in FLAGS}
        added = RustAddedToken(t.content, special=t.special, **flags)
        (rust.add_special_tokens if t.special else rust.add_tokens)([added])
    if trim:
        rust.post_processor = processors.ByteLevel(
            add_prefix_space=config.add_prefix_space, trim_offsets=True
        )
    return Pair(BPETokenizer(ours.vocab, ours.merges, config), rust)


def test_it_fills_the_protocol() -> None:
    assert isinstance(TRAINED, Tokenizer)


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("prefix", [False, True])
def test_spaces(prefix: bool, trim: bool) -> None:
    end = AddedToken("<|endoftext|>", 0)
    config = BPEConfig(add_prefix_space=prefix, trim_offsets=trim, added_tokens=(end,))
    both = pair(config, trim=trim)
    more = ["<|endoftext|>x", "x<|endoftext|> y<|endoftext|>", "  x", "\t x  y ", "é  ", "   "]
    assert both.same([*TEXTS, *more, *AWKWARD.values()]) > 50


def test_whole_words_before_merges() -> None:
    """With ``ignore_merges`` a word that the vocabulary has is not built from pairs."""
    vocab = {token: i for i, token in enumerate([*TRAINED.vocab, "abcd"])}
    for ignore in (False, True):
        trained = BPETokenizer(vocab, TRAINED.merges)
        both = pair(BPEConfig(ignore_merges=ignore), trained)
        both.same(["abcd", "abcd abcd", "abcde", *TEXTS])
        assert (len(both.ours.encode("abcd")) == 1) == ignore


@pytest.mark.parametrize("seed", range(30))
def test_random_merges(seed: int) -> None:
    """Merges in any order, several to one token too: what counts is the order of the heap."""
    rng = random.Random(seed)
    tokens, merges = list("abc"), []
    for _ in range(25):
        left, right = rng.choices(tokens, k=2)
        merges.append((left, right))
        tokens.append(left + right)
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    merges = list(dict.fromkeys(merges))
    rng.shuffle(merges)
    ours, rust = BPE(vocab, merges), RustTokenizer(models.BPE(vocab=vocab, merges=merges))
    for _ in range(60):
        word = "".join(rng.choices("abc", k=rng.randint(1, 40)))
        assert ours(vocab[char] for char in word) == rust.encode(word).ids, word


@pytest.mark.parametrize("flags", [*itertools.product([False, True], repeat=4)])
@pytest.mark.parametrize("special", [True, False])
def test_added_tokens(flags: tuple[bool, ...], special: bool) -> None:
    rng = random.Random(repr(flags))
    options = {"special": special, **dict(zip(FLAGS, flags, strict=True))}
    contents = ["<X>", "ab", "A b", "hel", "<X>y"]
    start = len(TRAINED.vocab)
    added = tuple(AddedToken(text, start + i, **options) for i, text in enumerate(contents))
    both = pair(BPEConfig(added_tokens=added))
    parts = [*contents, " ", "  ", "\n", "a", "x", "_", "-", "é", "1", "lo", "<"]
    compare(*both, ["".join(rng.choices(parts, k=rng.randint(1, 12))) for _ in range(150)])


def test_decoding_an_added_token_beyond_ascii() -> None:
    """Here ours is right and the library is not: it takes the letter ä for the byte 0xE4."""
    ours, rust = pair(BPEConfig(added_tokens=(AddedToken("näher", len(TRAINED), special=False),)))
    assert ours.encode("näher") == rust.encode("näher").ids == [len(TRAINED)]
    assert ours.decode([len(TRAINED)]) == "näher" != rust.decode([len(TRAINED)])


def test_words_split_before() -> None:
    both = pair(BPEConfig())
    words = ["Hello", "", " ", "a b", "é", "x"]
    right = both.rust.encode(words, is_pretokenized=True, add_special_tokens=False)
    encoding = both.ours.tokenize(words)
    assert (encoding.ids, encoding.word_index) == (right.ids, right.word_ids)
    assert encoding.offsets == right.offsets
    assert both.ours.tokenize_words(words) == (right.ids, right.word_ids)


# -- batches ------------------------------------------------------------------------------------


def batch_pair(bos: bool, eos: bool, **sides: str) -> tuple[BPETokenizer, Any]:
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    trained = train_bpe(TEXTS * 5, 320, special_tokens=tuple(names.values()))
    added = trained.config.added_tokens
    config = BPEConfig(
        add_bos_token=bos, add_eos_token=eos, added_tokens=added, model_max_length=30, **names,
        **sides,
    )  # fmt: skip
    both = pair(config, trained)
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=both.rust, add_bos_token=bos, add_eos_token=eos, model_max_length=30,
        **names, **sides,
    )  # fmt: skip
    return both.ours, theirs


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(("bos", "eos"), [*itertools.product([False, True], repeat=2)])
def test_batches(bos: bool, eos: bool, side: str) -> None:
    ours, theirs = batch_pair(bos, eos, padding_side=side, truncation_side=side)
    pairs: list[tuple[list[str], ...]] = [(TEXTS,), (TEXTS, TEXTS[::-1])]
    for texts, padding, length in itertools.product(
        pairs, [True, "max_length"], [4, 5, 9, 16, None]
    ):
        options = {"padding": padding, "truncation": True, "max_length": length}
        mine, right = ours(*texts, **options), theirs(*texts, return_tensors="pt", **options)
        for name in ("input_ids", "attention_mask"):
            assert torch.equal(mine[name], right[name]), (texts, options, name)
        assert set(mine) == {"input_ids", "attention_mask"}
    for text in TEXTS:
        assert ours.encode(text) == theirs(text)["input_ids"]
        assert ours.encode(text, False) == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(ours.encode(text), True) == text


def test_padding_without_a_padding_token() -> None:
    with pytest.raises(InputError, match="padding: the tokenizer has no padding token"):
        TRAINED(["a", "a b"], padding=True)


def test_a_merge_of_what_is_no_token() -> None:
    with pytest.raises(InputError, match=r"merge 1, a qq: the vocabulary lacks 'qq'"):
        BPE({"a": 0}, [("a", "qq")])

"""Hugging Face's tokenizers in the place of ours: the same protocol, the same answers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as RustTokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from minift.errors import InputError
from minift.text.huggingface import HuggingFaceTokenizer
from minift.text.loading import load_tokenizer
from minift.text.tokenizer import NO_LIMIT, Tokenizer
from minift.text.wordpiece_tokenizer import WordPieceTokenizer

TEXTS = ["Hello there, world!", "a", "Größe 中文 \U0001f600 hello hello", ""]
LINES = ["hello there world", "the whole wide world", "Größe hello, hello!", "a b c d e f"] * 5


def byte_level_bpe() -> RustTokenizer:
    """Words are cut in another way than GPT-2's."""
    tokenizer = RustTokenizer(models.BPE())
    cut = pre_tokenizers.Split(Regex(r" ?\S+|\s+"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"]
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer


def unigram() -> RustTokenizer:
    tokenizer = RustTokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=specials, unk_token="<unk>")
    tokenizer.train_from_iterator(LINES, trainer)
    end = ("</s>", tokenizer.token_to_id("</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[end]
    )
    return tokenizer


def other_wordpiece() -> RustTokenizer:
    """A WordPiece model, but not in BERT's pipeline."""
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "hello", "world", "##s", "a", "!"]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = RustTokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "byte-level BPE": (
        byte_level_bpe,
        {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    ),
    "unigram": (unigram, {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}),
    "WordPiece": (other_wordpiece, {"unk_token": "[UNK]", "pad_token": "[PAD]"}),
}


@pytest.fixture(params=KINDS)
def folder(request: Any, tmp_path: Path) -> Path:
    build, names = KINDS[request.param]
    PreTrainedTokenizerFast(tokenizer_object=build(), model_max_length=20, **names).save_pretrained(
        tmp_path
    )
    return tmp_path


def test_both_kinds_fill_the_protocol(ours: WordPieceTokenizer, theirs: Any) -> None:
    adapter: Tokenizer = HuggingFaceTokenizer(theirs)
    own: Tokenizer = ours
    assert isinstance(adapter, Tokenizer) and isinstance(own, Tokenizer)
    for text in TEXTS:
        assert adapter.tokenize(text) == own.tokenize(text)
        assert adapter.encode(text) == own.encode(text)
        assert adapter.encode(text, False) == own.encode(text, add_special_tokens=False)
        assert adapter.tokenize_words(text.split()) == own.tokenize_words(text.split())
        assert adapter.tokenize(text.split()) == own.tokenize(text.split())
        ids = own.encode(text)
        for skip in (True, False):
            assert adapter.decode(torch.tensor(ids), skip) == own.decode(torch.tensor(ids), skip)
    for options in ({"padding": True}, {"padding": "max_length", "truncation": True}):
        a, b = adapter(TEXTS, TEXTS[::-1], **options), own(TEXTS, TEXTS[::-1], **options)
        assert list(a) != [] and {name: a[name].tolist() for name in a} == {
            name: b[name].tolist() for name in b
        }
    for name in ("vocab_size", "model_max_length", "mask_token_id", "cls_token_id", "sep_token_id"):
        assert getattr(adapter, name) == getattr(own, name)


def test_other_kinds_load_through_the_adapter(folder: Path, tmp_path: Path) -> None:
    tokenizer, right = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, HuggingFaceTokenizer)
    assert tokenizer.model_max_length == 20 and tokenizer.vocab_size == right.vocab_size
    for text in TEXTS:
        assert tokenizer.encode(text) == right(text)["input_ids"]
        encoding = tokenizer.tokenize(text)
        plain = right(text, add_special_tokens=False)
        assert (encoding.ids, encoding.tokens) == (plain["input_ids"], plain.tokens())
        for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
            assert 0 <= start <= end <= len(text), token
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=7)
    expected = right(TEXTS, padding=True, truncation=True, max_length=7, return_tensors="pt")
    assert set(batch) == set(right.model_input_names)
    assert all(torch.equal(batch[name], expected[name]) for name in batch)
    tokenizer.save(tmp_path / "again")
    again = load_tokenizer(tmp_path / "again")
    assert [again.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_wrong_calls(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    with pytest.raises(InputError, match=r"text 1: \d+ tokens, but the maximum is 20; pass trunc"):
        tokenizer(["a", "a b c d " * 10], padding=True)
    with pytest.raises(InputError, match=r"padding: rows of \d+ to \d+ tokens make no tensor"):
        tokenizer(["a", "hello hello there there"])
    with pytest.raises(InputError, match=r"text: .*refuses it"):
        tokenizer(["a", 3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="truncation: unknown 'yes'"):
        tokenizer("a", truncation="yes")
    assert len(tokenizer.encode("a b c d " * 10)) > 20


def test_padding_without_a_padding_token() -> None:
    tokenizer = HuggingFaceTokenizer(PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe()))
    assert tokenizer.pad_token_id is None and tokenizer.model_max_length == NO_LIMIT
    assert tokenizer("hello", truncation=True)["input_ids"].shape == (1, 1)
    with pytest.raises(InputError, match="padding: the tokenizer has no padding token"):
        tokenizer(["a", "a b"], padding=True)
    with pytest.raises(InputError, match="padding: 'max_length' needs max_length"):
        tokenizer(["a", "a b"], padding="max_length")


def test_a_file_that_transformers_refuses(folder: Path) -> None:
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["type"] = "Anagram"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="transformers cannot load the tokenizer") as caught:
        load_tokenizer(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(InputError, match="str is not a fast tokenizer"):
        HuggingFaceTokenizer("bert")

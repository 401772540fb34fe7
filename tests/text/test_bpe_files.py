"""Folders of byte-level BPE tokenizers, both ways, and what is wrong in them."""

import json
from pathlib import Path
from typing import Any

import pytest
from awkward import AWKWARD
from token_parity import Pair
from transformers import AutoTokenizer, GPT2Tokenizer

from minift.errors import InputError
from minift.text.added_tokens import AddedToken
from minift.text.bpe_tokenizer import BPEConfig, BPETokenizer
from minift.text.bpe_training import train_bpe
from minift.text.huggingface import HuggingFaceTokenizer
from minift.text.loading import load_tokenizer

TEXTS = ["Hello  world 12  34", " hello<|endoftext|> x", "", "héllo 中文 <new> x <new>", "a\n\t b "]
TRAINED = train_bpe(
    [*TEXTS * 4, "hello world, hello"], 310, special_tokens=("<|endoftext|>", "<s>")
)
NEW = AddedToken("<new>", TRAINED.vocab_size, special=False, rstrip=True)
ADDED = (*TRAINED.config.added_tokens, NEW)
GPT2 = {"tokenizer_class": "GPT2Tokenizer", "unk_token": "<|endoftext|>"}

CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "GPT-2": GPT2,
    "digits": {"split_digits": True},
    "prefix": {"add_prefix_space": True},
    "trim": {"trim_offsets": True},
    "bos": {"add_bos_token": True},
    "bos and eos": {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>"},
    "eos": {"add_eos_token": True},
    "whole words": {"ignore_merges": True},
    "sides": {"padding_side": "left", "truncation_side": "left", "model_max_length": 9},
    "template": {"chat_template": "{{ bos_token }}{% for m in messages %}{{ m.role }}{% endfor %}"},
}


def tokenizer(name: str) -> BPETokenizer:
    named = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<s>"}
    config = BPEConfig(**{**named, "added_tokens": ADDED, **CONFIGS[name]})
    return BPETokenizer(TRAINED.vocab, TRAINED.merges, config)


@pytest.mark.parametrize("name", CONFIGS)
def test_save_and_load(name: str, tmp_path: Path) -> None:
    first = tokenizer(name)
    first.save(tmp_path / "a")
    second, theirs = load_tokenizer(tmp_path / "a"), AutoTokenizer.from_pretrained(tmp_path / "a")
    assert isinstance(second, BPETokenizer)
    assert (second.config, second.merges, second.vocab) == (first.config, first.merges, first.vocab)
    for text in TEXTS:
        right = theirs(text, add_special_tokens=False, return_offsets_mapping=True)
        mine = first.tokenize(text)
        assert (mine.ids, mine.tokens) == (right["input_ids"], right.tokens())
        assert (mine.offsets, mine.word_index) == (right["offset_mapping"], right.word_ids())
        assert first.encode(text) == theirs(text)["input_ids"]
        right = theirs([text], [text], truncation=True)["input_ids"]
        assert first(text, text, truncation=True)["input_ids"].tolist() == right
        for skip in (False, True):
            ids = first.encode(text)
            assert first.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)
    for key in ("bos", "eos", "pad", "unk", "sep", "cls", "mask"):
        assert getattr(first, f"{key}_token_id") == getattr(theirs, f"{key}_token_id")
    assert first.chat_template == theirs.chat_template
    assert (first.model_max_length, len(first)) == (theirs.model_max_length, len(theirs))
    second.save(tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes()


def test_the_real_ones_saved(real: Pair, tmp_path: Path, speech_lines: list[str]) -> None:
    real.ours.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*speech_lines[::2000], *AWKWARD.values()]
    assert theirs(texts)["input_ids"] == [real.ours.encode(text) for text in texts]
    assert load_tokenizer(tmp_path).encode("\n".join(texts)) == real.ours.encode("\n".join(texts))


def test_folders_of_transformers(gpt2: Pair, tmp_path: Path) -> None:
    """Saved by its GPT-2 class, with and without tokenizer.json."""
    gpt2.ours.save(tmp_path)
    names = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    GPT2Tokenizer(vocab=names[0], merges=names[1], add_bos_token=True).save_pretrained(tmp_path)
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(ours, BPETokenizer)
    assert ours.encode("a b") == theirs("a b")["input_ids"] == [50256, 64, 275]
    (tmp_path / "tokenizer.json").unlink()
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(ours, BPETokenizer) and ours.encode("a b") == theirs("a b")["input_ids"]


def test_new_special_tokens_in_the_settings(tmp_path: Path) -> None:
    tokenizer("plain").save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    more = {"mask_token": "<mask>", "extra_special_tokens": ["<e1>", "hello"]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    ours, theirs = load_tokenizer(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    text = "a<mask>b<e1>hello <new>"
    assert ours.encode(text) == theirs(text)["input_ids"]
    assert (ours.mask_token_id, len(ours)) == (theirs.mask_token_id, len(theirs))


OTHERS = {
    "another cut": (
        "pre_tokenizer",
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
    ),
    "a normaliser": ("normalizer", {"type": "NFC"}),
    "another decoder": ("decoder", {"type": "Fuse"}),
    "dropout": ("model", {"dropout": 0.1}),
    "another frame": (
        "post_processor",
        {"type": "RobertaProcessing", "sep": ["<s>", 1], "cls": ["<s>", 1], "trim_offsets": True,
         "add_prefix_space": False},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_pipelines_are_left_to_transformers(name: str, tmp_path: Path) -> None:
    tokenizer("plain").save(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    key, change = OTHERS[name]
    data[key] = {**data[key], **change} if key == "model" else change
    path.write_text(json.dumps(data))
    ours = load_tokenizer(tmp_path)
    assert isinstance(ours, HuggingFaceTokenizer)
    if name != "dropout":
        theirs = AutoTokenizer.from_pretrained(tmp_path)
        assert all(ours.encode(text) == theirs(text)["input_ids"] for text in TEXTS)


def test_merges_as_pairs(tmp_path: Path) -> None:
    """Newer files write a merge as a list of two, so that tokens may have spaces."""
    tokenizer("plain").save(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["merges"] = [merge.split(" ") for merge in data["model"]["merges"]]
    path.write_text(json.dumps(data))
    loaded = load_tokenizer(tmp_path)
    assert isinstance(loaded, BPETokenizer) and loaded.merges == TRAINED.merges


WRONG: dict[str, tuple[str, Any, str]] = {
    "merge of strangers": ("merges", ["a b", "zz y"], r"merge \d, \S+ \S+: the vocabulary lacks"),
    "merge of one": ("merges", ["a"], r"merge 1: 'a'; right would be two tokens"),
    "merge of three": ("merges", [["a", "b", "c"]], r"merge 1: \['a', 'b', 'c'\]; right would"),
    "merges missing": ("merges", None, r"not the layout of a BPE tokenizer"),
    "ids with a gap": ("vocab", {"a": 0, "b": 2}, r"the ids in model.vocab are not 0 to 1, each"),
    "ids no numbers": ("vocab", {"a": "0"}, r"model.vocab is not an object of token: id"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_models(name: str, tmp_path: Path) -> None:
    tokenizer("plain").save(tmp_path)
    path = tmp_path / "tokenizer.json"
    data = json.loads(path.read_text())
    key, value, message = WRONG[name]
    data["model"][key] = value
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"add_bos_token": 1}, r"add_bos_token: 1; right would be true or false"),
        ({"bos_token": 3}, r"bos_token: 3; right would be the token's text"),
        ({"padding_side": "up"}, r"padding_side: unknown 'up'; known: right, left"),
        ({"model_max_length": "9"}, r"model_max_length: '9'; right would be a int"),
        ({"chat_template": 3}, r"chat_template: 3; right would be a Jinja template"),
        (
            {"added_tokens_decoder": {"5": {"content": "new"}}},
            r"added token 'new': its id 5 is that",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    tokenizer("plain").save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=message) as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_wrong_merges_txt(tmp_path: Path) -> None:
    tokenizer("GPT-2").save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    path = tmp_path / "merges.txt"
    path.write_text("#version: 0.2\nh e\nhel\n")
    with pytest.raises(InputError, match=r"merges.txt, line 3: merge 2: 'hel'; right would be two"):
        load_tokenizer(tmp_path)
    path.write_bytes(b"h \xff\n")
    with pytest.raises(InputError, match=r"merges.txt: byte 0xff is not UTF-8"):
        load_tokenizer(tmp_path)


def test_several_chat_templates(tmp_path: Path) -> None:
    tokenizer("plain").save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    path.write_text(json.dumps({"chat_template": several}))
    assert load_tokenizer(tmp_path).chat_template == "d"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert load_tokenizer(tmp_path).chat_template == "file"

"""The tokenizer in a GGUF file, written out: against ``tokenizers`` and ``transformers``."""

import json
import re
import unicodedata

import pytest
import tokenizers
import transformers
from tiny_gguf import write_gguf
from tokenizers import decoders, models, pre_tokenizers, trainers

import minift
from minift.models.gguf import read_gguf
from minift.models.gguf.tokenizer import tokenizer_config, tokenizer_json, write_tokenizer

SPECIAL = ["<|end|>", "<|im_start|>", "<｜odd▁one｜>"]
LINES = [
    "In 1984, x=12345678 and I'm here.", "  two  spaces  12 \n\n  new\r\nlines\t\t", "", " ",
    "I'LL we'd don't 'tis", "naïve café Straße \u00bd \u0661\u0662 \u00b2",
    "日本語 🎉👩‍👩‍👧 \u200b\ufeff",
    "a<|im_start|>user\nHi<|end|><|im_end|>", "!!!??? ...\n\n\n---", "<tool>x</tool> y", "\x00\x7f",
]  # fmt: skip
TEXT = [*LINES, "the quick brown fox " * 20, "1234 2024 12345 " * 20, "don't I'm we'll " * 20] * 3
SMOLLM = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
)
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def trained(cutting):
    """A tiny byte-level BPE of the ``tokenizers`` library."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = cutting, decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens([tokenizers.AddedToken("<tool>", normalized=False)])
    return tokenizer


def entries_of(tokenizer, pre, **more):
    vocab = tokenizer.get_vocab()
    tokens = sorted(vocab, key=vocab.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    types = [3 if token in SPECIAL else 4 if token == "<tool>" else 1 for token in tokens]
    entries = {
        "model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types,
        "merges": [" ".join(pair) for pair in merges], "bos_token_id": 1, "eos_token_id": 0,
    }  # fmt: skip
    entries = {f"tokenizer.ggml.{key}": value for key, value in {**entries, **more}.items()}
    entries = {key: value for key, value in entries.items() if value is not None}
    return {"llama.context_length": 77, **entries}


@pytest.fixture(scope="module")
def gpt2():
    return trained(GPT2)


def ids_of(tokenizer, line):
    return tokenizer.encode(line, add_special_tokens=False)


@pytest.mark.parametrize(("pre", "cutting"), [("gpt-2", GPT2), ("smollm", SMOLLM)])
def test_the_tokenizer_that_was_written(pre, cutting, tmp_path):
    original = trained(cutting)
    path = write_gguf(tmp_path / "x.gguf", "llama", entries_of(original, pre), {})
    ours = minift.load_tokenizer(path)
    assert len(ours) == original.get_vocab_size()
    assert (ours.model_max_length, ours.pad_token_id) == (77, None)
    ours.save(tmp_path / "saved")
    write_tokenizer(path, tmp_path)
    for folder in (tmp_path, tmp_path / "saved"):
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        assert (theirs.bos_token, theirs.eos_token) == ("<|im_start|>", "<|end|>")
        assert theirs.model_max_length == 77
        for line in LINES:
            wanted = original.encode(line, add_special_tokens=False).ids
            assert ids_of(ours, line) == wanted == ids_of(theirs, line), line
            for keep in (True, False):
                assert ours.decode(wanted, skip_special_tokens=keep) == original.decode(
                    wanted, skip_special_tokens=keep
                )


def test_digits_of_smollm_are_cut_before_spaces():
    """Without that, as in ``transformers``' own reader of GGUF files, two spaces come apart."""
    two = "x  12"
    cut = [piece for piece, _ in SMOLLM.pre_tokenize_str(two)]
    assert (cut, len(GPT2.pre_tokenize_str(two))) == (["x", "ĠĠ", "1", "2"], 3)


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2"])
def test_as_transformers_reads_it(pre, gpt2, tmp_path):
    write_gguf(tmp_path / "x.gguf", "llama", entries_of(gpt2, pre), {})
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path, gguf_file="x.gguf")
    ours = minift.load_tokenizer(tmp_path)
    for line in LINES:
        line = unicodedata.normalize("NFC", line)
        assert ids_of(ours, line) == ids_of(theirs, line), line
    apart = unicodedata.normalize("NFD", "naïve")
    assert (ids_of(ours, apart) == ids_of(ours, "naïve")) == (pre == "qwen2")


@pytest.mark.parametrize("ends", [("bos",), ("eos",), ("bos", "eos")])
def test_first_and_last_token(ends, gpt2, tmp_path):
    flags = {f"add_{end}_token": True for end in ends}
    path = write_gguf(tmp_path / "x.gguf", "llama", entries_of(gpt2, "gpt-2", **flags), {})
    ours = minift.load_tokenizer(path)
    inner = ids_of(ours, "a b")
    assert ours.encode("a b") == [1] * ("bos" in ends) + inner + [0] * ("eos" in ends)


def test_whole_words_first(tmp_path):
    """Llama 3 looks a word up before it merges."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "abc"]
    more = {"tokens": tokens, "token_type": [1] * len(tokens), "merges": ["a b"]}
    for pre, wanted in (("llama-bpe", ["abc"]), ("gpt-2", ["ab", "c"])):
        entries = entries_of(trained(GPT2), pre, **more)
        path = write_gguf(tmp_path / "x.gguf", "llama", entries, {})
        ids = minift.load_tokenizer(path).encode("abc")
        assert [tokens[i] for i in ids] == wanted


def test_config(gpt2, tmp_path):
    more = {"unknown_token_id": 2, "padding_token_id": 0}
    entries = entries_of(gpt2, "gpt-2", **more) | {"tokenizer.chat_template": "{{ messages }}"}
    file = read_gguf(write_gguf(tmp_path / "x.gguf", "llama", entries, {}))
    config = tokenizer_config(file)
    assert config["chat_template"] == "{{ messages }}"
    assert (config["unk_token"], config["pad_token"]) == (SPECIAL[2], SPECIAL[0])
    added = tokenizer_json(file)["added_tokens"]
    assert [(token["content"], token["special"]) for token in added] == [
        *((token, True) for token in SPECIAL), ("<tool>", False),
    ]  # fmt: skip


PROBLEMS = {
    "model": ({"model": "llama"}, "tokenizer.ggml.model: unknown 'llama'; known: gpt2"),
    "no model": ({"model": None}, "tokenizer.ggml.model: unknown None; known: gpt2"),
    "cutting": ({"pre": "tekken"}, "tokenizer.ggml.pre: unknown 'tekken'; known: gpt-2, smollm, l"),
    "no tokens": ({"tokens": None}, "tokenizer.ggml.tokens is missing or no list of texts; right"),
    "tokens": ({"tokens": [1, 2]}, "tokenizer.ggml.tokens is missing or no list of texts; right"),
    "twice": ({"tokens": ["a", "a"]}, "tokenizer.ggml.tokens has a token twice; right: distinct"),
    "merges": ({"merges": ["a b", "c"]}, "merges has 'c'; right: two tokens with one space betwe"),
    "no merges": ({"merges": None}, "tokenizer.ggml.merges is missing or no list of texts"),
    "types": ({"token_type": [1]}, "token_type is missing or has not one number a token; right: "),
    "id": ({"eos_token_id": 2**20}, "tokenizer.ggml.eos_token_id is 1048576; right: 0…"),
    "first": ({"add_bos_token": True, "bos_token_id": None}, "bos_token_id is missing; right: the"),
    "stranger": ({"merges": ["a qqq"]}, "x.gguf"),  # a merge of what is no token
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_does_not_fit(name, gpt2, tmp_path):
    changes, wanted = PROBLEMS[name]
    entries = entries_of(gpt2, **{"pre": "gpt-2", **changes})
    path = write_gguf(tmp_path / "x.gguf", "llama", entries, {})
    with pytest.raises(minift.InputError, match=wanted) as caught:
        minift.load_tokenizer(path)
    assert str(caught.value).startswith(str(path))


def test_no_file(tmp_path):
    missing = tmp_path / "x.gguf"
    for load in (minift.load_tokenizer, minift.load):
        with pytest.raises(minift.InputError, match=f"{re.escape(str(missing))}: cannot be read"):
            load(missing)
    with pytest.raises(minift.InputError, match=r"^nowhere.gguf: cannot be read .No such file"):
        minift.load("nowhere.gguf")
    with pytest.raises(minift.InputError, match=r"no tokenizer; right would be tokenizer.json"):
        minift.load_tokenizer(tmp_path)

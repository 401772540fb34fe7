"""A GGUF file's tokenizer as Hugging Face's two files: the same vocabulary, merges and template.

Only byte-level BPE (``tokenizer.ggml.model`` is ``gpt2``). How text is cut into words before the
merges is not in the file; it has only a name for it, ``tokenizer.ggml.pre``.
"""

from pathlib import Path
from typing import Any

import numpy as np

from minift.errors import InputError, one_of
from minift.files import write_json
from minift.models.gguf.reader import GGUF, Value, read_gguf

CONTROL, USER_DEFINED = 3, 4  # token types: special tokens, and added ones that are text

BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
GPT2 = [{**BYTES, "use_regex": True}]
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _split(digits: str) -> list[dict[str, Any]]:
    """Words as Llama 3 and Qwen 2 cut them; they differ in how many digits stay together."""
    pattern = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}{REST}"
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return [{**split, "invert": False}, {**BYTES, "use_regex": False}]


CUTTING: dict[str, list[dict[str, Any]]] = {
    "gpt-2": GPT2,
    "smollm": [{"type": "Digits", "individual_digits": True}, *GPT2],
    "llama-bpe": _split(r"\p{N}{1,3}"),
    "qwen2": _split(r"\p{N}"),
}
WHOLE_WORDS_FIRST = ("llama-bpe",)  # a word that is a token is not built by merges
COMPOSED = ("qwen2",)  # text is brought into Unicode's form NFC first


def write_tokenizer(path: Path, folder: Path) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` of a GGUF file into ``folder``.

    Raises:
        InputError: as ``read_gguf``; or a tokenizer of another kind, or one that is not whole.
    """
    file = read_gguf(path)
    content, config = tokenizer_json(file), tokenizer_config(file)
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", config)


def tokenizer_json(file: GGUF) -> dict[str, Any]:
    """The content of a ``tokenizer.json``.

    Raises:
        InputError: another kind of tokenizer, an unknown way to cut words, or lists that are
            missing or do not fit each other.
    """
    _one_of(file, "model", ("gpt2",))
    pre = _one_of(file, "pre", tuple(CUTTING))
    tokens = _strings(file, "tokens")
    vocab = {token: id_ for id_, token in enumerate(tokens)}
    if len(vocab) < len(tokens):
        raise _error(file, "tokens", "has a token twice", "distinct tokens")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added_tokens(file, tokens),
        "normalizer": {"type": "NFC"} if pre in COMPOSED else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": CUTTING[pre]},
        "post_processor": _post_processor(file, tokens),
        "decoder": {**BYTES, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre in WHOLE_WORDS_FIRST,
            "vocab": vocab,
            "merges": _merges(file),
        },
    }


def tokenizer_config(file: GGUF) -> dict[str, Any]:
    """The content of a ``tokenizer_config.json``: special tokens, longest text, chat template."""
    tokens = _strings(file, "tokens")
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    config["clean_up_tokenization_spaces"] = False
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if (id_ := _token_id(file, theirs, tokens)) is not None:
            config[f"{ours}_token"] = tokens[id_]
    length = file.metadata.get(f"{file.metadata.get('general.architecture')}.context_length")
    if length is not None:
        config["model_max_length"] = length
    template = file.metadata.get("tokenizer.chat_template")
    if template is not None:
        if not isinstance(template, str):
            right = "right: a Jinja template"
            raise InputError(f"{file.path}: tokenizer.chat_template is no text; {right}")
        config["chat_template"] = template
    return config


def _error(file: GGUF, key: str, given: str, right: str) -> InputError:
    return InputError(f"{file.path}: tokenizer.ggml.{key} {given}; right: {right}")


def _get(file: GGUF, key: str) -> "Value | None":
    return file.metadata.get(f"tokenizer.ggml.{key}")


def _one_of(file: GGUF, key: str, known: tuple[str, ...]) -> str:
    value = _get(file, key)
    if not isinstance(value, str) or value not in known:
        given = value[:80] if isinstance(value, str) else value
        raise InputError(f"{file.path}: {one_of(f'tokenizer.ggml.{key}', given, known)}")
    return value


def _strings(file: GGUF, key: str) -> list[str]:
    value = _get(file, key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _error(file, key, "is missing or no list of texts", "a list of texts")
    return [str(item) for item in value]


def _token_id(file: GGUF, key: str, tokens: list[str]) -> int | None:
    value = _get(file, f"{key}_token_id")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < len(tokens):
        raise _error(file, f"{key}_token_id", f"is {value!r:.80}", f"0…{len(tokens) - 1}")
    return value


def _merges(file: GGUF) -> list[list[str]]:
    merges = [merge.split(" ") for merge in _strings(file, "merges")]
    for merge in merges:
        if len(merge) != 2:
            given = f"has {' '.join(merge)!r:.80}"
            raise _error(file, "merges", given, "two tokens with one space between")
    return merges


def _added_tokens(file: GGUF, tokens: list[str]) -> list[dict[str, Any]]:
    """The tokens that are found in a text before it is cut into words."""
    types = _get(file, "token_type")
    if not isinstance(types, np.ndarray) or types.shape != (len(tokens),):
        given = "is missing or has not one number a token"
        raise _error(file, "token_type", given, f"{len(tokens)} numbers")
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": id_, "content": tokens[id_], **plain, "special": kind == CONTROL}
        for id_, kind in enumerate(types.tolist())
        if kind in (CONTROL, USER_DEFINED)
    ]


def _post_processor(file: GGUF, tokens: list[str]) -> dict[str, Any] | None:
    """Puts the first and the last token around a text, where the file asks for them."""
    text: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    second: list[dict[str, Any]] = [{"Sequence": {"id": "B", "type_id": 0}}]
    special = {}
    for name in ("bos", "eos"):
        if _get(file, f"add_{name}_token") is not True:
            continue
        id_ = _token_id(file, name, tokens)
        if id_ is None:
            raise _error(
                file, f"{name}_token_id", "is missing", f"there, since add_{name}_token is"
            )
        token = tokens[id_]
        special[token] = {"id": token, "ids": [id_], "tokens": [token]}
        put = {"SpecialToken": {"id": token, "type_id": 0}}
        text, second = (
            ([put, *text], [put, *second]) if name == "bos" else ([*text, put], [*second, put])
        )
    if not special:
        return None
    return {
        "type": "TemplateProcessing",
        "single": text,
        "pair": [*text, *second],
        "special_tokens": special,
    }

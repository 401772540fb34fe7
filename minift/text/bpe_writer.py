"""The files of a byte-level BPE tokenizer, in the layout that ``transformers`` reads."""

import dataclasses
import os
from pathlib import Path

from minift.files import write_json, write_text
from minift.text.bpe_reader import SWITCHES
from minift.text.bpe_tokenizer import BPEConfig, BPETokenizer
from minift.text.files import Json, plain_json, write_template


def write_bpe(tokenizer: BPETokenizer, folder: str | os.PathLike[str]) -> None:
    """Write tokenizer.json, vocab.json, merges.txt, tokenizer_config.json and the chat template.

    ``transformers.AutoTokenizer.from_pretrained(folder)`` gives the same ids from them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = tokenizer.config
    merges = [f"{left} {right}" for left, right in tokenizer.merges]
    write_json(folder / "vocab.json", tokenizer.vocab)
    write_text(folder / "merges.txt", "".join(f"{line}\n" for line in ["#version: 0.2", *merges]))
    write_json(folder / "tokenizer.json", _tokenizer_json(tokenizer, merges))
    switches = {key: True for key in SWITCHES if getattr(config, key)}
    write_json(folder / "tokenizer_config.json", plain_json(config) | switches)
    write_template(folder, tokenizer.chat_template)


def _tokenizer_json(tokenizer: BPETokenizer, merges: list[str]) -> Json:
    config = tokenizer.config
    byte_level = {"type": "ByteLevel", "add_prefix_space": config.add_prefix_space}
    byte_level |= {"trim_offsets": config.trim_offsets, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    apart = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [dataclasses.asdict(token) for token in config.added_tokens],
        "normalizer": None,
        "pre_tokenizer": apart if config.split_digits else byte_level,
        "post_processor": _post_processor(tokenizer, config, byte_level),
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": config.ignore_merges,
            "vocab": tokenizer.vocab,
            "merges": merges,
        },
    }


def _post_processor(tokenizer: BPETokenizer, config: BPEConfig, byte_level: Json) -> Json | None:
    """What puts special tokens around a text; it trims offsets where that is asked for instead."""
    around = {"bos_token": config.add_bos_token, "eos_token": config.add_eos_token}
    tokens = {name: tokenizer.special_tokens.get(name) for name, wanted in around.items() if wanted}
    before, after = tokens.get("bos_token"), tokens.get("eos_token")

    def framed(text: str, type_id: int) -> list[Json]:
        parts: list[Json] = [{"Sequence": {"id": text, "type_id": type_id}}]
        if before:
            parts.insert(0, {"SpecialToken": {"id": before, "type_id": type_id}})
        if after:
            parts.append({"SpecialToken": {"id": after, "type_id": type_id}})
        return parts

    if not before and not after:
        return byte_level if config.trim_offsets else None
    ids = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    return {
        "type": "TemplateProcessing",
        "single": framed("A", 0),
        "pair": framed("A", 0) + framed("B", 1),
        "special_tokens": {
            token: {"id": token, "ids": [ids[name]], "tokens": [token]}
            for name, token in tokens.items()
            if token
        },
    }

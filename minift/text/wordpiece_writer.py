"""The files of a BERT tokenizer, in the layout that ``transformers`` and ``tokenizers`` read."""

import dataclasses
import os
from pathlib import Path

from minift.files import write_json, write_text
from minift.text.files import Json, plain_json
from minift.text.wordpiece_reader import NAMED, SWITCHES, usual_framing
from minift.text.wordpiece_tokenizer import WordPieceConfig, WordPieceTokenizer


def write_wordpiece(tokenizer: WordPieceTokenizer, folder: str | os.PathLike[str]) -> None:
    """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json.

    ``transformers.AutoTokenizer.from_pretrained(folder)`` gives the same ids from them.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = tokenizer.config
    tokens = sorted(tokenizer.vocab, key=lambda token: tokenizer.vocab[token])
    special = {name: getattr(config, name) for name in NAMED}
    write_text(folder / "vocab.txt", "".join(token + "\n" for token in tokens))
    write_json(folder / "tokenizer.json", _tokenizer_json(tokenizer.vocab, config))
    write_json(folder / "tokenizer_config.json", _settings(config))
    write_json(folder / "special_tokens_map.json", special)


def _settings(config: WordPieceConfig) -> Json:
    switches = {key: getattr(config.normalizer, name) for key, name in SWITCHES.items()}
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    if not config.returns_token_type_ids:
        inputs.remove("token_type_ids")
    return switches | plain_json(config) | {"model_input_names": inputs}


def _tokenizer_json(vocab: dict[str, int], config: WordPieceConfig) -> Json:
    prefix = config.continuing_subword_prefix
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [dataclasses.asdict(token) for token in config.added_tokens],
        "normalizer": {"type": "BertNormalizer"} | dataclasses.asdict(config.normalizer),
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _framing(vocab, config.cls_token, config.sep_token),
        "decoder": {"type": "WordPiece", "prefix": prefix, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": config.unk_token,
            "continuing_subword_prefix": prefix,
            "max_input_chars_per_word": config.max_input_chars_per_word,
            "vocab": vocab,
        },
    }


def _framing(vocab: dict[str, int], cls: str, sep: str) -> Json:
    single, pair = usual_framing(cls, sep)
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": pair,
        "special_tokens": {
            token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in (cls, sep)
        },
    }

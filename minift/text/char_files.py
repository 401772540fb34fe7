"""The files of a character tokenizer, both ways.

For Hugging Face's library it is a table of words (``WordLevel``) behind a cut after every
character.
"""

import dataclasses
import os
from pathlib import Path

from minift.errors import InputError
from minift.files import write_json
from minift.text.added_tokens import AddedToken
from minift.text.base import Settings
from minift.text.char_tokenizer import CharTokenizer
from minift.text.files import (
    GENERIC,
    Json,
    chat_template,
    check_ids,
    checked,
    optional_json,
    plain_json,
    plain_settings,
    read_json,
    special_names,
    tokenizer_class,
    write_template,
)

_CUT: Json = {
    "type": "Split",
    "pattern": {"Regex": r"[\s\S]"},
    "behavior": "Isolated",
    "invert": False,
}
_NONE = "\ud7ff"  # the library wants an unknown token's name; nobody's text has this code point


def is_char_folder(folder: Path) -> bool:
    """Whether the folder holds what ``write_char`` writes."""
    path = folder / "tokenizer.json"
    if not path.exists() or tokenizer_class(folder) not in (None, *GENERIC):
        return False
    data = read_json(path)
    model = data.get("model")
    return (
        isinstance(model, dict)
        and model.get("type") == "WordLevel"
        and data.get("pre_tokenizer") == _CUT
        and not data.get("normalizer")
        and not data.get("post_processor")
    )


def read_char(folder: Path) -> CharTokenizer:
    """The tokenizer in ``folder``.

    Raises:
        InputError: a file that is malformed, with its name and what is wrong in it.
    """
    path = folder / "tokenizer.json"
    data, settings = read_json(path), optional_json(folder / "tokenizer_config.json")
    try:
        added = [AddedToken(**entry) for entry in data.get("added_tokens") or ()]
        vocab = data["model"].get("vocab")
        check_ids(vocab)
        config = Settings(
            **(plain_settings(settings) | special_names(settings)),
            added_tokens=checked({token.content: token for token in added}, vocab),
            chat_template=chat_template(folder, settings),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the layout of a character tokenizer ({error})") from None
    return CharTokenizer(vocab, config)


def write_char(tokenizer: CharTokenizer, folder: str | os.PathLike[str]) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template, if there is one."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = tokenizer.config
    data = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [dataclasses.asdict(token) for token in config.added_tokens],
        "normalizer": None,
        "pre_tokenizer": _CUT,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": tokenizer.vocab,
            "unk_token": config.unk_token or _NONE,
        },
    }
    write_json(folder / "tokenizer.json", data)
    write_json(folder / "tokenizer_config.json", plain_json(config))
    write_template(folder, tokenizer.chat_template)

"""The settings that the files of every tokenizer hold, as ``transformers`` reads them.

``tokenizer_config.json`` has switches, special tokens and lengths; older folders have
``special_tokens_map.json`` and ``added_tokens.json`` beside it; the chat template may stand in
``chat_template.jinja``.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from minift.errors import InputError, one_of
from minift.files import read_text, write_text
from minift.text.added_tokens import AddedToken
from minift.text.base import Settings
from minift.text.tokenizer import SPECIAL

Json = dict[str, Any]

PLAIN = {  # settings taken over as they are, and their types
    "model_max_length": int,
    "padding_side": str,
    "truncation_side": str,
    "clean_up_tokenization_spaces": bool,
    "tokenizer_class": str,
}
# For these classes ``transformers`` leaves the pipeline as tokenizer.json has it.
GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
TEMPLATE = "chat_template.jinja"


def read_json(path: Path) -> Json:
    """The JSON object in a file.

    Raises:
        InputError: not JSON (names line and column), or not an object.
    """
    try:
        value = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
        ) from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: {type(value).__name__} found; right would be a JSON object")
    return value


def optional_json(path: Path) -> Json:
    """The JSON object in a file; an empty one if there is no file."""
    return read_json(path) if path.exists() else {}


def tokenizer_class(folder: Path) -> str | None:
    """The class that ``tokenizer_config.json`` names, without ``Fast``."""
    kind = optional_json(folder / "tokenizer_config.json").get("tokenizer_class")
    return None if kind is None else str(kind).removesuffix("Fast")


# -- reading ------------------------------------------------------------------------------------


def plain_settings(settings: Json) -> Json:
    """The settings in ``PLAIN`` that are given.

    Raises:
        InputError: names a setting of another type, or a side that is none.
    """
    plain = {key: settings[key] for key in PLAIN if settings.get(key) is not None}
    for key, value in plain.items():
        if type(value) is not PLAIN[key]:
            raise InputError(f"{key}: {value!r}; right would be a {PLAIN[key].__name__}")
    for key in ("padding_side", "truncation_side"):
        if plain.get(key, "right") not in ("right", "left"):
            raise one_of(key, plain[key], ("right", "left"))
    return plain


def special_names(names: Json, wanted: Sequence[str] = SPECIAL) -> dict[str, str]:
    """``bos_token`` and so on → the token's text, of those that are given."""
    return {key: token_text(key, names[key]) for key in wanted if names.get(key) is not None}


def token_text(key: str, token: Any) -> str:
    """The text of a token that is written as a text or as an object with its flags."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise InputError(f"{key}: {token!r}; right would be the token's text")
    return content


def chat_template(folder: Path, settings: Json) -> str | None:
    """The chat template: a file of its own comes before ``tokenizer_config.json``.

    Of several with names, the one called "default".
    """
    if (folder / TEMPLATE).exists():
        return read_text(folder / TEMPLATE)
    template = settings.get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise InputError(f"chat_template: {template!r:.60}; right would be a Jinja template")
    return template


def extra_tokens(names: Json) -> list[Any]:
    """Special tokens without a name of their own."""
    return names.get("extra_special_tokens") or names.get("additional_special_tokens") or []


def added_in_settings(settings: Json, legacy: Json) -> dict[str, AddedToken]:
    """From ``added_tokens_decoder`` (id → token), or else the older ``added_tokens.json``."""
    listed = settings.get("added_tokens_decoder")
    try:
        if listed is None:
            tokens = [
                AddedToken(t, id_, special=False, normalized=True) for t, id_ in legacy.items()
            ]
        else:
            tokens = [AddedToken(**(entry | {"id": int(id_)})) for id_, entry in listed.items()]
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"added_tokens_decoder: not a table of id: token ({error})") from None
    return {token.content: token for token in tokens}


def with_special(
    added: dict[str, AddedToken], tokens: Iterable[Any], vocab: dict[str, int]
) -> dict[str, AddedToken]:
    """Special tokens are added tokens too; those that are new get the next free ids."""
    added = dict(added)
    for entry in tokens:
        content = token_text("special token", entry)
        flags = entry if isinstance(entry, dict) else {}
        next_id = max([len(vocab) - 1, *(token.id for token in added.values())]) + 1
        if content not in added:
            shape = {key: bool(flags.get(key)) for key in ("single_word", "lstrip", "rstrip")}
            added[content] = AddedToken(content, vocab.get(content, next_id), **shape)
    return added


def checked(added: dict[str, AddedToken], vocab: dict[str, int]) -> tuple[AddedToken, ...]:
    """The added tokens by id.

    Raises:
        InputError: one without text or id, or whose id is another token's.
    """
    taken = {id_: token for token, id_ in vocab.items()}
    for token in added.values():
        if not isinstance(token.content, str) or not token.content or type(token.id) is not int:
            raise InputError(f"added token {token.content!r}: needs a text and an id")
        if taken.setdefault(token.id, token.content) != token.content:
            raise InputError(
                f"added token {token.content!r}: its id {token.id} is that of {taken[token.id]!r}"
            )
        if vocab.get(token.content, token.id) != token.id:
            raise InputError(
                f"added token {token.content!r}: id {token.id}, but the vocabulary has it "
                f"as {vocab[token.content]}"
            )
    return tuple(sorted(added.values(), key=lambda token: token.id))


def check_ids(vocab: Any) -> None:
    """Refuse a ``model.vocab`` that is no table of token: id, or whose ids have gaps."""
    if not isinstance(vocab, dict) or not all(type(id_) is int for id_ in vocab.values()):
        raise InputError("model.vocab is not an object of token: id")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise InputError(f"the ids in model.vocab are not 0 to {len(vocab) - 1}, each once")


# -- writing ------------------------------------------------------------------------------------


def plain_json(config: Settings) -> Json:
    """What ``plain_settings`` and ``special_names`` read."""
    special = {name: getattr(config, name) for name in SPECIAL}
    given = {name: token for name, token in special.items() if token is not None}
    return {key: getattr(config, key) for key in PLAIN} | given


def write_template(folder: Path, template: str | None) -> None:
    """Write the chat template, or see to it that there is none."""
    if template is None:
        (folder / TEMPLATE).unlink(missing_ok=True)
    else:
        write_text(folder / TEMPLATE, template)

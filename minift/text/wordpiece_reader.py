"""A BERT tokenizer from the files of a folder, as ``transformers`` reads them.

``tokenizer.json`` holds everything; older folders have ``vocab.txt`` instead (one token a line, its
line number is its id). Beside either stand ``tokenizer_config.json`` (switches, special tokens,
maximum length) and, in older folders, ``special_tokens_map.json`` and ``added_tokens.json``.
Where they disagree, ``tokenizer_config.json`` has the last word.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from minift.errors import InputError, one_of
from minift.files import read_text
from minift.text.added_tokens import AddedToken
from minift.text.normalize import BertNormalizer
from minift.text.wordpiece_tokenizer import WordPieceConfig, WordPieceTokenizer

SPECIAL = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SWITCHES = {  # name in tokenizer_config.json → name in BertNormalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
PLAIN = {  # settings taken over as they are, and their types
    "model_max_length": int,
    "padding_side": str,
    "truncation_side": str,
    "clean_up_tokenization_spaces": bool,
    "tokenizer_class": str,
}
# Classes with this pipeline. Others have a vocab.txt too, but cut or frame it in another way.
_BERT = tuple(
    name + "Tokenizer" for name in ("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert")
)
# For these classes ``transformers`` leaves the pipeline as tokenizer.json has it.
_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")

Json = dict[str, Any]


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


def is_ours(folder: Path) -> bool:
    """Whether the folder's tokenizer is the BERT pipeline that this package implements."""
    kind = _optional(folder / "tokenizer_config.json").get("tokenizer_class", "BertTokenizer")
    if str(kind).removesuffix("Fast") not in (*_BERT, *_GENERIC):
        return False
    path = folder / "tokenizer.json"
    return not path.exists() or is_bert(read_json(path))


def is_bert(data: Json) -> bool:
    """Whether a ``tokenizer.json`` holds that pipeline: normaliser, words, pieces, framing."""
    parts = [data.get(part) for part in ("model", "normalizer", "pre_tokenizer")]
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    return (
        kinds == ["WordPiece", "BertNormalizer", "BertPreTokenizer"]
        and _first_and_last(data.get("post_processor")) is not None
    )


def _first_and_last(framing: Any) -> tuple[str, str] | None:
    """The tokens of ``[CLS] A [SEP] B [SEP]``; None if the framing is another."""
    try:
        if framing["type"] == "BertProcessing":
            return framing["cls"][0], framing["sep"][0]
        cls, _, sep = framing["single"]
        names = cls["SpecialToken"]["id"], sep["SpecialToken"]["id"]
        usual = usual_framing(*names)
    except (KeyError, TypeError, ValueError):
        return None
    return names if (framing["single"], framing.get("pair")) == usual else None


def usual_framing(cls: str, sep: str) -> tuple[list[Json], list[Json]]:
    """The templates of one text and of two, as ``tokenizer.json`` writes them."""

    def special(token: str, type_id: int) -> Json:
        return {"SpecialToken": {"id": token, "type_id": type_id}}

    def sequence(name: str, type_id: int) -> Json:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [special(cls, 0), sequence("A", 0), special(sep, 0)]
    return single, [*single, sequence("B", 1), special(sep, 1)]


def read_wordpiece(folder: Path) -> WordPieceTokenizer:
    """The tokenizer in ``folder``; ``tokenizer.json`` is preferred to ``vocab.txt``.

    Raises:
        InputError: a file that is malformed, with its name and what is wrong in it.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        vocab, config, added = _from_tokenizer_json(path)
    else:
        path = folder / "vocab.txt"
        vocab, config, added = _from_vocab(path), WordPieceConfig(), {}
    settings = _optional(folder / "tokenizer_config.json")
    names = _optional(folder / "special_tokens_map.json") | settings
    try:
        config = _with_settings(config, settings, names)
        added |= _added_in_settings(settings, _optional(folder / "added_tokens.json"))
        added = _with_special(added, names, config, vocab)
        return WordPieceTokenizer(
            vocab, dataclasses.replace(config, added_tokens=_checked(added, vocab))
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _optional(path: Path) -> Json:
    return read_json(path) if path.exists() else {}


# -- vocabulary and pipeline --------------------------------------------------------------------


def _from_vocab(path: Path) -> dict[str, int]:
    lines = read_text(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    vocab: dict[str, int] = {}
    for number, token in enumerate(lines):
        if token in vocab:
            raise InputError(
                f"{path}, line {number + 1}: {token!r} stands already in line {vocab[token] + 1}; "
                "right would be each token once"
            )
        vocab[token] = number
    return vocab


def _from_tokenizer_json(
    path: Path,
) -> tuple[dict[str, int], WordPieceConfig, dict[str, AddedToken]]:
    data = read_json(path)
    try:
        model, vocab = data["model"], data["model"]["vocab"]
        added = [AddedToken(**entry) for entry in data.get("added_tokens") or ()]
        cls_token, sep_token = _first_and_last(data["post_processor"]) or ("[CLS]", "[SEP]")
        config = WordPieceConfig(
            cls_token=cls_token,
            sep_token=sep_token,
            normalizer=_normalizer({k: v for k, v in data["normalizer"].items() if k != "type"}),
            unk_token=model["unk_token"],
            continuing_subword_prefix=model["continuing_subword_prefix"],
            max_input_chars_per_word=model["max_input_chars_per_word"],
        )
        _check_ids(vocab)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the layout of a WordPiece tokenizer ({error})") from None
    return vocab, config, {token.content: token for token in added}


def _normalizer(options: Json) -> BertNormalizer:
    known = [field.name for field in dataclasses.fields(BertNormalizer)]
    for key, value in options.items():
        if key not in known:
            raise one_of("normalizer option", key, known)
        if not (isinstance(value, bool) or (value is None and key == "strip_accents")):
            raise InputError(f"normalizer option {key}: {value!r}; right would be true or false")
    return BertNormalizer(**options)


def _check_ids(vocab: Any) -> None:
    if not isinstance(vocab, dict) or not all(type(id_) is int for id_ in vocab.values()):
        raise InputError("model.vocab is not an object of token: id")
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise InputError(f"the ids in model.vocab are not 0 to {len(vocab) - 1}, each once")


# -- tokenizer_config.json ----------------------------------------------------------------------


def _with_settings(config: WordPieceConfig, settings: Json, names: Json) -> WordPieceConfig:
    changes = {key: settings[key] for key in PLAIN if settings.get(key) is not None}
    for key, value in changes.items():
        if type(value) is not PLAIN[key]:
            raise InputError(f"{key}: {value!r}; right would be a {PLAIN[key].__name__}")
    for key in ("padding_side", "truncation_side"):
        if changes.get(key, "right") not in ("right", "left"):
            raise one_of(key, changes[key], ("right", "left"))
    changes |= {key: _content(key, names[key]) for key in SPECIAL if names.get(key) is not None}
    changes["normalizer"] = _switched(config.normalizer, settings)
    changes["returns_token_type_ids"] = _returns_token_type_ids(settings)
    return dataclasses.replace(config, **changes)


def _switched(normalizer: BertNormalizer, settings: Json) -> BertNormalizer:
    """The normaliser as the settings say; a BERT class without a switch means its default."""
    if str(settings.get("tokenizer_class")).removesuffix("Fast") in _GENERIC:
        return normalizer
    switches = {name: settings[key] for key, name in SWITCHES.items() if key in settings}
    base = BertNormalizer() if "tokenizer_class" in settings else normalizer
    return _normalizer(dataclasses.asdict(base) | switches)


def _content(key: str, token: Any) -> str:
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) or not content:
        raise InputError(f"{key}: {token!r}; right would be the token's text")
    return content


def _returns_token_type_ids(settings: Json) -> bool:
    inputs = settings.get("model_input_names")
    if inputs is None:
        return not str(settings.get("tokenizer_class")).startswith("DistilBert")
    return "token_type_ids" in inputs


# -- added tokens -------------------------------------------------------------------------------


def _added_in_settings(settings: Json, legacy: Json) -> dict[str, AddedToken]:
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


def _with_special(
    added: dict[str, AddedToken], names: Json, config: WordPieceConfig, vocab: dict[str, int]
) -> dict[str, AddedToken]:
    """Special tokens are added tokens too; extra ones get the next free ids."""
    added = dict(added)
    extra = names.get("extra_special_tokens") or names.get("additional_special_tokens") or []
    wanted = [names.get(key) or getattr(config, key) for key in SPECIAL]
    for entry in [*wanted, *extra]:
        content = _content("special token", entry)
        flags = entry if isinstance(entry, dict) else {}
        next_id = max([len(vocab) - 1, *(token.id for token in added.values())]) + 1
        id_ = vocab.get(content, next_id if entry in extra else None)
        if content not in added and id_ is not None:
            shape = {key: bool(flags.get(key)) for key in ("single_word", "lstrip", "rstrip")}
            added[content] = AddedToken(content, id_, **shape)
    return added


def _checked(added: dict[str, AddedToken], vocab: dict[str, int]) -> tuple[AddedToken, ...]:
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

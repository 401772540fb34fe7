"""A BERT tokenizer from the files of a folder, as ``transformers`` reads them.

``tokenizer.json`` holds everything; older folders have ``vocab.txt`` instead (one token a line, its
line number is its id). Beside either stand ``tokenizer_config.json`` (switches, special tokens,
maximum length) and, in older folders, ``special_tokens_map.json`` and ``added_tokens.json``.
Where they disagree, ``tokenizer_config.json`` has the last word.
"""

import dataclasses
from pathlib import Path
from typing import Any

from minift.errors import InputError, one_of
from minift.files import read_text
from minift.text.added_tokens import AddedToken
from minift.text.files import (
    GENERIC,
    Json,
    added_in_settings,
    check_ids,
    checked,
    extra_tokens,
    optional_json,
    plain_settings,
    read_json,
    special_names,
    token_text,
    with_special,
)
from minift.text.normalize import BertNormalizer
from minift.text.wordpiece_tokenizer import WordPieceConfig, WordPieceTokenizer

NAMED = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
SWITCHES = {  # name in tokenizer_config.json → name in BertNormalizer
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Classes with this pipeline. Others have a vocab.txt too, but cut or frame it in another way.
_BERT = tuple(
    name + "Tokenizer" for name in ("Bert", "DistilBert", "Electra", "MobileBert", "SqueezeBert")
)


def is_ours(folder: Path) -> bool:
    """Whether the folder's tokenizer is the BERT pipeline that this package implements."""
    kind = optional_json(folder / "tokenizer_config.json").get("tokenizer_class", "BertTokenizer")
    if str(kind).removesuffix("Fast") not in (*_BERT, *GENERIC):
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
    settings = optional_json(folder / "tokenizer_config.json")
    names = optional_json(folder / "special_tokens_map.json") | settings
    try:
        config = _with_settings(config, settings, names)
        added |= added_in_settings(settings, optional_json(folder / "added_tokens.json"))
        wanted = [names.get(key) or getattr(config, key) for key in NAMED]
        known = [token for token in wanted if token_text("special token", token) in vocab]
        added = with_special(added, [*known, *extra_tokens(names)], vocab)
        return WordPieceTokenizer(
            vocab, dataclasses.replace(config, added_tokens=checked(added, vocab))
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


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
        check_ids(vocab)
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


# -- tokenizer_config.json ----------------------------------------------------------------------


def _with_settings(config: WordPieceConfig, settings: Json, names: Json) -> WordPieceConfig:
    changes = plain_settings(settings) | special_names(names, NAMED)
    changes["normalizer"] = _switched(config.normalizer, settings)
    changes["returns_token_type_ids"] = _returns_token_type_ids(settings)
    return dataclasses.replace(config, **changes)


def _switched(normalizer: BertNormalizer, settings: Json) -> BertNormalizer:
    """The normaliser as the settings say; a BERT class without a switch means its default."""
    if str(settings.get("tokenizer_class")).removesuffix("Fast") in GENERIC:
        return normalizer
    switches = {name: settings[key] for key, name in SWITCHES.items() if key in settings}
    base = BertNormalizer() if "tokenizer_class" in settings else normalizer
    return _normalizer(dataclasses.asdict(base) | switches)


def _returns_token_type_ids(settings: Json) -> bool:
    inputs = settings.get("model_input_names")
    if inputs is None:
        return not str(settings.get("tokenizer_class")).startswith("DistilBert")
    return "token_type_ids" in inputs

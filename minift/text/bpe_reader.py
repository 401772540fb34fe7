"""A byte-level BPE tokenizer from the files of a folder, as ``transformers`` reads them.

``tokenizer.json`` holds everything; older folders have ``vocab.json`` (token → id) and
``merges.txt`` (two tokens a line) instead. Settings stand beside either; see ``files``.
"""

import dataclasses
from pathlib import Path
from typing import Any

from minift.errors import InputError
from minift.files import read_text
from minift.text.added_tokens import AddedToken
from minift.text.bpe_tokenizer import BPEConfig, BPETokenizer
from minift.text.byte_level import ALPHABET
from minift.text.files import (
    GENERIC,
    Json,
    added_in_settings,
    chat_template,
    check_ids,
    checked,
    extra_tokens,
    optional_json,
    plain_settings,
    read_json,
    special_names,
    tokenizer_class,
    with_special,
)

SWITCHES = ("add_prefix_space", "add_bos_token", "add_eos_token")
GPT2 = "GPT2Tokenizer"
_END = "<|endoftext|>"  # of a GPT-2 tokenizer whose files name no special token

Merges = list[tuple[str, str]]


def is_bpe_folder(folder: Path) -> bool:
    """Whether the folder's tokenizer is a byte-level BPE of the kinds implemented here."""
    kind = tokenizer_class(folder)
    path = folder / "tokenizer.json"
    if not path.exists():
        both = (folder / "vocab.json").exists() and (folder / "merges.txt").exists()
        return both and kind in (None, GPT2)
    return kind in (None, GPT2, *GENERIC) and is_byte_level_bpe(read_json(path))


def is_byte_level_bpe(data: Json) -> bool:
    """Whether a ``tokenizer.json`` holds the pipeline of GPT-2, or SmolLM2's with digits apart."""
    model = data.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or data.get("normalizer"):
        return False
    odd = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    unknown_used = model.get("unk_token") and not set(ALPHABET) <= set(model.get("vocab") or ())
    decoder = data.get("decoder")
    return (
        not any(model.get(name) for name in odd)
        and not unknown_used
        and isinstance(decoder, dict)
        and decoder.get("type") == "ByteLevel"
        and _cutting(data.get("pre_tokenizer")) is not None
        and _framing(data.get("post_processor")) is not None
    )


def _cutting(pre_tokenizer: Any) -> Json | None:
    """The options of the first cut; None if it is another."""
    steps: Any = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer.get("pretokenizers")
    if not isinstance(steps, list) or not steps or not all(isinstance(s, dict) for s in steps):
        return None
    *before, last = steps
    digits = [{"type": "Digits", "individual_digits": True}]
    if last.get("type") != "ByteLevel" or last.get("use_regex") is False:
        return None
    prefix = last.get("add_prefix_space", True)
    if before not in ([], digits) or (before and prefix):
        return None
    return {"split_digits": bool(before), "add_prefix_space": prefix}


def _framing(post_processor: Any) -> Json | None:
    """The options of what comes around a text; None if it is another framing."""
    if post_processor is None:
        return {}
    try:
        if post_processor["type"] == "ByteLevel":
            return {"trim_offsets": post_processor.get("trim_offsets", True)}
        single, pair = (_shape(post_processor[name]) for name in ("single", "pair"))
        a = single.index("A")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    before, after = single[:a], single[a + 1 :]
    if len(before) > 1 or len(after) > 1 or pair != [*single, *before, "B", *after]:
        return None
    options: Json = {"add_bos_token": bool(before), "add_eos_token": bool(after)}
    around = {"bos_token": before, "eos_token": after}
    return options | {name: tokens[0] for name, tokens in around.items() if tokens}


def _shape(template: list[Json]) -> list[str]:
    """A template's parts in order: special tokens, and A and B for the texts."""
    return [
        part["Sequence"]["id"] if "Sequence" in part else part["SpecialToken"]["id"]
        for part in template
    ]


def read_bpe(folder: Path) -> BPETokenizer:
    """The tokenizer in ``folder``; ``tokenizer.json`` is preferred to ``vocab.json``.

    Raises:
        InputError: a file that is malformed, with its name and what is wrong in it.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        vocab, merges, config, added = _from_tokenizer_json(path)
    else:
        path = folder / "vocab.json"
        vocab, merges, config, added = _from_two_files(folder)
    settings = optional_json(folder / "tokenizer_config.json")
    names = optional_json(folder / "special_tokens_map.json") | settings
    try:
        config = _with_settings(config, settings, names)
        config = dataclasses.replace(config, chat_template=chat_template(folder, settings))
        added |= added_in_settings(settings, optional_json(folder / "added_tokens.json"))
        special = [names.get(key) or token for key, token in special_names(vars(config)).items()]
        added = with_special(added, [*special, *extra_tokens(names)], vocab)
        config = dataclasses.replace(config, added_tokens=checked(added, vocab))
        return BPETokenizer(vocab, merges, config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _from_tokenizer_json(
    path: Path,
) -> tuple[dict[str, int], Merges, BPEConfig, dict[str, AddedToken]]:
    data = read_json(path)
    cutting, framing = _cutting(data["pre_tokenizer"]), _framing(data.get("post_processor"))
    options = {**(cutting or {}), **(framing or {})}
    try:
        model = data["model"]
        added = [AddedToken(**entry) for entry in data.get("added_tokens") or ()]
        check_ids(model["vocab"])
        merges = [_pair(merge, i) for i, merge in enumerate(model["merges"])]
        config = BPEConfig(**options, ignore_merges=bool(model.get("ignore_merges")))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not the layout of a BPE tokenizer ({error})") from None
    return model["vocab"], merges, config, {token.content: token for token in added}


def _from_two_files(
    folder: Path,
) -> tuple[dict[str, int], Merges, BPEConfig, dict[str, AddedToken]]:
    vocab = read_json(folder / "vocab.json")
    try:
        check_ids(vocab)
    except InputError as error:
        raise InputError(f"{folder / 'vocab.json'}: {error}") from None
    lines = read_text(folder / "merges.txt").replace("\r\n", "\n").split("\n")
    merges: Merges = []
    for number, line in enumerate(lines):
        if line and not line.startswith("#version"):
            try:
                merges.append(_pair(line, len(merges)))
            except InputError as error:
                where = f"{folder / 'merges.txt'}, line {number + 1}"
                raise InputError(f"{where}: {error}") from None
    return vocab, merges, BPEConfig(tokenizer_class=GPT2), {}


def _pair(merge: Any, i: int) -> tuple[str, str]:
    """A merge is written as "a b" or as ["a", "b"]."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, str]:
        raise InputError(f"merge {i + 1}: {merge!r:.60}; right would be two tokens")
    return parts[0], parts[1]


def _with_settings(config: BPEConfig, settings: Json, names: Json) -> BPEConfig:
    changes = plain_settings(settings)
    if changes.get("tokenizer_class", config.tokenizer_class).removesuffix("Fast") == GPT2:
        # The class puts these in where the files say nothing.
        changes |= dict.fromkeys(("bos_token", "eos_token", "unk_token"), _END)
    switches = {key: settings[key] for key in SWITCHES if settings.get(key) is not None}
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise InputError(f"{key}: {value!r}; right would be true or false")
    if any(key in switches for key in ("add_bos_token", "add_eos_token")):
        # These settings stand in the place of the framing in tokenizer.json.
        changes |= {"add_bos_token": False, "add_eos_token": False, "trim_offsets": False}
    return dataclasses.replace(config, **(changes | switches | special_names(names)))

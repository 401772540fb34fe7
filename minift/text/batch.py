"""From lists of ids to the tensors a model takes: truncation, special tokens, padding.

Works for every tokenizer that says how it frames ids with special tokens; arguments and results
are those of a call of a Hugging Face tokenizer with ``return_tensors="pt"``.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from minift.errors import InputError, one_of
from minift.text.tokenizer import NO_LIMIT

Row = tuple[list[int], list[int]]  # ids and token types

PADDING = (True, "longest", "max_length", False, "do_not_pad")
TRUNCATION = (True, "longest_first", "only_first", "only_second", False, "do_not_truncate")


class Framer(Protocol):
    """What a tokenizer must offer to make batches."""

    model_max_length: int
    padding_side: str
    truncation_side: str

    @property
    def pad_token_id(self) -> int | None: ...

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]: ...

    def frame(self, first: list[int], second: list[int] | None = None) -> Row:
        """Put special tokens around one or two texts' ids; give each id its type."""
        ...


@dataclass(frozen=True)
class BatchOptions:
    """Arguments of the call, checked."""

    padding: bool | str = False
    truncation: bool | str = False
    max_length: int | None = None
    add_special_tokens: bool = True

    def __post_init__(self) -> None:
        if self.padding not in PADDING:
            raise one_of("padding", self.padding, [str(value) for value in PADDING])
        if self.truncation not in TRUNCATION:
            raise one_of("truncation", self.truncation, [str(value) for value in TRUNCATION])
        if self.max_length is not None and (
            type(self.max_length) is not int or self.max_length < 1
        ):
            raise InputError(f"max_length: {self.max_length!r}; right would be 1 or more")

    @property
    def pads_to_limit(self) -> bool:
        return self.padding == "max_length"

    @property
    def pads(self) -> bool:
        return self.padding not in (False, "do_not_pad")

    @property
    def strategy(self) -> str | None:
        """The truncation strategy; None if texts are not cut."""
        if self.truncation in (False, "do_not_truncate"):
            return None
        return "longest_first" if self.truncation is True else str(self.truncation)

    def limit(self, model_max_length: int) -> int:
        """The most ids that a row may have; a larger ``max_length`` counts only for cutting."""
        if self.max_length is None:
            return model_max_length
        return self.max_length if self.strategy else min(self.max_length, model_max_length)


def build_batch(
    framer: Framer,
    text: str | list[str],
    text_pair: str | list[str] | None,
    options: BatchOptions,
) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask``, ``token_type_ids``: LongTensors of shape (B, T).

    Raises:
        InputError: not texts; texts and pairs of different number; a text that is longer than
            the model allows and is not to be cut; rows of different length and no padding.
    """
    firsts, seconds = as_lists(text, text_pair)
    limit = options.limit(framer.model_max_length)
    rows = [
        _row(framer, first, second, limit, options)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    lengths = [len(ids) for ids, _ in rows]
    check_lengths(lengths, limit, framer.model_max_length)
    check_padding(lengths, limit, framer.pad_token_id, options)
    width = limit if options.pads_to_limit else max(lengths)
    return _pad(rows, width, framer)


def as_lists(
    text: str | list[str], text_pair: str | list[str] | None
) -> tuple[list[str], list[str] | list[None]]:
    for name, given in (("text", text), ("text_pair", text_pair or [])):
        if not isinstance(given, str | list | tuple):
            kind = type(given).__name__
            raise InputError(f"{name}: {kind} given; right would be a text or a list of texts")
    firsts = [text] if isinstance(text, str) else list(text)
    if not firsts:
        raise InputError("text: an empty list; right would be a text or a list of texts")
    if text_pair is None:
        return firsts, [None] * len(firsts)
    seconds = [text_pair] if isinstance(text_pair, str) else list(text_pair)
    if len(seconds) != len(firsts):
        raise InputError(
            f"text_pair: {len(seconds)} texts for {len(firsts)} first texts; "
            "right would be the same number"
        )
    return firsts, seconds


def _row(framer: Framer, first: str, second: str | None, limit: int, options: BatchOptions) -> Row:
    a = framer.encode(first, add_special_tokens=False)
    b = None if second is None else framer.encode(second, add_special_tokens=False)
    if options.strategy:
        added = len(framer.frame([], None if b is None else [])[0])
        room = limit - (added if options.add_special_tokens else 0)
        if room < 0:
            raise InputError(f"max_length: {limit} has no room for {added} special tokens")
        a, b = truncate(a, b, room, options.strategy, framer.truncation_side)
    if options.add_special_tokens:
        return framer.frame(a, b)
    return a + (b or []), [0] * len(a) + [1] * len(b or [])


def truncate(
    first: list[int], second: list[int] | None, room: int, strategy: str, side: str = "right"
) -> tuple[list[int], list[int] | None]:
    """Cut one or two lists of ids until ``room`` ids are left.

    ``longest_first`` shortens the longer list to the length of the shorter one, then both alike
    (an odd id stays with the longer list; with the second, if they are equally long);
    ``only_first`` and ``only_second`` leave the other list whole.

    Raises:
        InputError: nothing would be left of the list to be cut, or there is no second list.
    """
    n, m = len(first), len(second or [])
    excess = n + m - room
    if excess <= 0:
        return first, second
    if strategy == "only_second" and second is None:
        raise InputError("truncation: 'only_second' needs a text_pair; right would be True")
    if strategy == "longest_first":
        n, m = (room, 0) if second is None else _longest_first(n, m, room)
    elif excess >= (n if strategy == "only_first" else m):
        raise InputError(f"truncation: {strategy!r} cannot take away {excess} tokens; pass True")
    else:
        n, m = (n - excess, m) if strategy == "only_first" else (n, m - excess)
    return _cut(first, n, side), None if second is None else _cut(second, m, side)


def _longest_first(n: int, m: int, room: int) -> tuple[int, int]:
    short, long = sorted((n, m))
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short, long = room // 2, room // 2 + room % 2
    return (short, long) if n <= m else (long, short)


def _cut(ids: list[int], length: int, side: str) -> list[int]:
    return ids[:length] if side == "right" else ids[len(ids) - length :]


def check_lengths(lengths: list[int], limit: int, model_max_length: int) -> None:
    """Refuse rows that are longer than was asked for or than the model can take.

    Raises:
        InputError: names the first such row, its length and the maximum.
    """
    most = min(limit, model_max_length)
    for i, length in enumerate(lengths):
        if length > most:
            cure = "pass truncation=True" if limit <= model_max_length else "lower max_length"
            raise InputError(f"text {i}: {length} tokens, but the maximum is {most}; {cure}")


def check_padding(
    lengths: list[int], limit: int, pad_token_id: int | None, options: BatchOptions
) -> None:
    """Refuse what cannot become one tensor.

    Raises:
        InputError: rows of different length without padding; padding without a padding token,
            or to a maximum that nobody set.
    """
    shortest, longest = min(lengths), max(lengths)
    if options.pads_to_limit and limit >= NO_LIMIT:
        raise InputError("padding: 'max_length' needs max_length, as the tokenizer has no limit")
    if not options.pads and shortest != longest:
        raise InputError(
            f"padding: rows of {shortest} to {longest} tokens make no tensor; pass padding=True"
        )
    if options.pads and pad_token_id is None:
        raise InputError("padding: the tokenizer has no padding token; tokenize one text at a time")


def _pad(rows: list[Row], width: int, framer: Framer) -> dict[str, torch.Tensor]:
    ids = torch.full((len(rows), width), framer.pad_token_id or 0, dtype=torch.long)  # (B, T)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, (row, row_types) in enumerate(rows):
        begin = 0 if framer.padding_side == "right" else width - len(row)
        place = slice(begin, begin + len(row))
        ids[i, place], types[i, place] = torch.tensor(row), torch.tensor(row_types)
        mask[i, place] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

"""BERT's text normalisation, with the place in the original text that every character came from.

One original character can become none (a control character), one, or several (``ß`` stays one,
``ﬃ`` stays one, ``각`` becomes three letters), so a normalised text is a list of
``(character, start, end)``: the character and the span of the original it stands for.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from minift.text.unicode_tables import (
    CHINESE,
    CONTROL,
    LATER_LOWER_CASE,
    NONSPACING,
    NOT_DECOMPOSED,
    PRIVATE_USE,
    REORDERING,
    WHITESPACE,
)

Aligned = list[tuple[str, int, int]]


def is_control(char: str) -> bool:
    """Whether clean-up drops the character: control, format, private use, U+0000 and U+FFFD."""
    return char in CONTROL or (char >= "\ue000" and char in PRIVATE_USE)


def is_chinese(char: str) -> bool:
    """Whether the character is an ideograph that stands as a word of its own."""
    return char >= "\u3400" and char in CHINESE


def lower(char: str) -> str:
    """Lower case of one character alone: İ gives two characters, Σ is never the final ς."""
    return LATER_LOWER_CASE.get(char) or char.lower()


def clean(text: Aligned) -> Aligned:
    """Drop control characters; every kind of white space becomes a plain space."""
    return [
        (" " if char in WHITESPACE else char, start, end)
        for char, start, end in text
        if not is_control(char)
    ]


def set_chinese_apart(text: Aligned) -> Aligned:
    """Put spaces around each ideograph; the spaces point to the ideograph."""
    spaced: Aligned = []
    for char, start, end in text:
        apart = [" ", char, " "] if is_chinese(char) else [char]
        spaced += [(c, start, end) for c in apart]
    return spaced


def decompose(text: Aligned) -> Aligned:
    """Canonical decomposition (NFD): letters and their accents become separate characters.

    A run of marks is put in canonical order. As in the library, the origins are then dealt out in
    the order of the result: the first part of each decomposed character takes the next origin,
    its other parts repeat the one before.
    """
    parts: list[tuple[int, str, bool]] = []  # (combining class, character, is it a first part)
    for char, _, _ in text:
        if char < "\xc0":  # plain letters and digits have no accent to take off
            parts.append((0, char, True))
            continue
        whole = char in NOT_DECOMPOSED
        for i, part in enumerate(char if whole else unicodedata.normalize("NFD", char)):
            rank = unicodedata.combining(part) if part in REORDERING else 0
            parts.append((rank, part, i == 0))
    origins = iter(text)
    start = end = 0
    decomposed: Aligned = []
    for _, part, is_first in _in_canonical_order(parts):
        if is_first:
            _, start, end = next(origins)
        decomposed.append((part, start, end))
    return decomposed


def _in_canonical_order(parts: list[tuple[int, str, bool]]) -> list[tuple[int, str, bool]]:
    """Sort each run of marks (class above 0) by class; equal classes keep their order."""
    begin = 0
    for i, (rank, _, _) in enumerate([*parts, (0, "", True)]):
        if rank == 0:
            if i - begin > 1:
                parts[begin:i] = sorted(parts[begin:i], key=lambda part: part[0])
            begin = i + 1
    return parts


def drop_accents(text: Aligned) -> Aligned:
    """Decompose, then drop the nonspacing marks: é becomes e."""
    return [item for item in decompose(text) if item[0] not in NONSPACING]


def lower_case(text: Aligned) -> Aligned:
    """Lower each character on its own; what it becomes keeps its origin."""
    return [(c, start, end) for char, start, end in text for c in lower(char)]


@dataclass(frozen=True)
class BertNormalizer:
    """The four steps of BERT's normalisation, each of which can be switched off.

    Same names and meaning as ``tokenizers.normalizers.BertNormalizer``; ``strip_accents=None``
    means "as ``lowercase`` says", which is what the original BERT did.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def steps(self) -> list[Callable[[Aligned], Aligned]]:
        """The steps that are switched on, in order."""
        strip = self.lowercase if self.strip_accents is None else self.strip_accents
        switched = [
            (self.clean_text, clean),
            (self.handle_chinese_chars, set_chinese_apart),
            (strip, drop_accents),
            (self.lowercase, lower_case),
        ]
        return [step for on, step in switched if on]

    def __call__(self, text: str) -> Aligned:
        """``(character, start, end)`` of the normalised text."""
        aligned = [(char, i, i + 1) for i, char in enumerate(text)]
        for step in self.steps():
            aligned = step(aligned)
        return aligned

"""The first cut of byte-level BPE: a text into words, each with the space before it.

GPT-2 cuts with a regular expression: contractions of English, then runs of letters, of numbers and
of everything else, each with one space in front if there is one, then white space. Merges never
cross these cuts. SmolLM2 sets every digit apart before that, so that numbers are spelled out.

The original expression asks for Unicode's letters and numbers, ``\\p{L}`` and ``\\p{N}``, which
Python's ``re`` does not know. So each character is first replaced by an ASCII one of its kind (é by
A, ½ by 0, € by !); the expression looks at those, and the cuts are applied to the text itself.

Hugging Face: ``tokenizers.pre_tokenizers.ByteLevel`` and ``Digits(individual_digits=True)``.
"""

import re
from typing import Protocol

from minift.text.letters import LATER_NUMBERS, LETTERS, NUMBERS
from minift.text.unicode_tables import WHITESPACE

# In this order; of the last two, the first leaves the last space to the word that follows.
GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
# Digits cut the text before the rest is looked at: white space before one ends as at the very end.
DIGITS_APART = r"'(?:[sdmt]|ll|ve|re)|[0-9]| ?[A-Za-z]+| ?[^\sA-Za-z0-9]+|\s+(?![^\s0-9])|\s+"


class _Set(Protocol):
    def __contains__(self, char: str, /) -> bool: ...


class _Kinds(dict[int, str]):
    """Code point → an ASCII character of its kind; entries are made when they are first needed."""

    def __init__(self, *numbers: _Set) -> None:
        super().__init__({code: chr(code) for code in range(128)})
        self._numbers = numbers

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char in LETTERS:
            kind = "A"
        elif any(char in numbers for numbers in self._numbers):
            kind = "0"
        else:
            kind = "\t" if char in WHITESPACE or char == "\x85" else "!"
        self[code] = kind
        return kind


class Splitter:
    """Cuts a text into the words that are merged each on its own.

    Args:
        split_digits: every digit is a word of its own (SmolLM2), instead of runs of them (GPT-2).
    """

    def __init__(self, split_digits: bool = False) -> None:
        self._pattern = re.compile(DIGITS_APART if split_digits else GPT2, re.ASCII)
        self._kinds = _Kinds(NUMBERS, LATER_NUMBERS) if split_digits else _Kinds(NUMBERS)

    def __call__(self, text: str) -> list[str]:
        """The words in order; joined, they are the text again."""
        if text.isascii():
            return self._pattern.findall(text)
        kinds = text.translate(self._kinds)  # as long as the text
        return [text[match.start() : match.end()] for match in self._pattern.finditer(kinds)]

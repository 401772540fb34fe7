"""Splitting raw text into words with character positions, for tasks that label words."""

import re
from typing import NamedTuple

# A word may hold . - @ : / + ' & between two word characters (an e-mail address, a number with a
# decimal point, don't). The 's of Anna's and every other punctuation mark are words of their own.
_WORD = re.compile(r"\w+(?:(?!['’]s\b)[.\-@:/+'’&]+\w+)*|['’]s\b|[^\w\s]")


class Word(NamedTuple):
    """A word and its half-open character range ``[start, end)`` in the text."""

    text: str
    start: int
    end: int


def split_words(text: str) -> list[Word]:
    """The words of a text in order; whitespace belongs to none of them."""
    return [Word(m.group(), m.start(), m.end()) for m in _WORD.finditer(text)]

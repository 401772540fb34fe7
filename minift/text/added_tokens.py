"""Tokens that stand outside the vocabulary's rules: [CLS], [SEP], [MASK], and words added later.

They are cut out of a text before anything else happens to it, so a literal ``[SEP]`` in a text is
the separator itself, not a bracket, three letters and a bracket.
"""

import re
import unicodedata
from dataclasses import dataclass

from minift.text.unicode_tables import Ranges


@dataclass(frozen=True)
class AddedToken:
    """One added token and its flags (names and meaning of ``tokenizers.AddedToken``).

    Attributes:
        content: the text that stands for the token.
        id: its number.
        special: left out by ``decode(..., skip_special_tokens=True)``.
        single_word: not found inside a longer word.
        lstrip: takes the white space before it too.
        rstrip: takes the white space after it too.
        normalized: looked for in the normalised text, not in the original.
    """

    content: str
    id: int
    special: bool = True
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False


class AddedTokenFinder:
    """Cuts a text into added tokens and the stretches between them."""

    def __init__(self, tokens: dict[str, AddedToken]) -> None:
        """``tokens``: what to look for → the token it stands for."""
        self._tokens = tokens
        longest_first = sorted(tokens, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def cut(self, text: str) -> list[tuple[int, int, AddedToken | None]]:
        """``(start, end, token)`` of the parts of ``text`` in order; None is ordinary text."""
        parts: list[tuple[int, int, AddedToken | None]] = []
        done = 0
        for match in self._pattern.finditer(text) if self._tokens else ():
            token = self._tokens[match[0]]
            start, end = match.span()
            if token.single_word and not _stands_alone(text, start, end):
                continue
            if token.lstrip:
                start = max(done, len(text[:start].rstrip(_SPACES)))
            if token.rstrip:
                end = len(text) - len(text[end:].lstrip(_SPACES))
            if start > done:
                parts.append((done, start, None))
            parts.append((start, end, token))
            done = end
        return [*parts, (done, len(text), None)] if done < len(text) else parts


# Unicode's White_Space, which str.strip() exceeds by the separators U+001C to U+001F.
_SPACES = "".join(c for c in map(chr, range(0x3001)) if c.isspace() and not "\x1c" <= c <= "\x1f")


def _stands_alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    return not (before and _in_word(before)) and not (after and _in_word(after))


# Circled and squared letters: category So, but alphabetic.
_LETTER_SIGNS = Ranges("24B6-24E9 1F130-1F149 1F150-1F169 1F170-1F189")


def _in_word(char: str) -> bool:
    """Unicode's word characters (UTS 18, Annex C): letters, marks, digits, connectors, joiners."""
    category = unicodedata.category(char)
    if category[0] in "LM" or category in ("Nd", "Nl", "Pc"):
        return True
    return char in "\u200c\u200d" or char in _LETTER_SIGNS

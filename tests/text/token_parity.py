"""What the tokenizer tests share: all lists of an encoding against the library's."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import pytest
from tokenizers import Tokenizer as RustTokenizer

from minift.text.tokenizer import Tokenizer

Compare = Callable[[Iterable[str]], int]


class Pair(NamedTuple):
    """One tokenizer twice."""

    ours: Tokenizer
    rust: RustTokenizer

    def same(self, texts: Iterable[str]) -> int:
        """How many texts; fails at the first that is cut or joined in another way."""
        texts = list(texts)
        for text in texts:
            ids = self.ours.encode(text, add_special_tokens=False)
            if self.ours.decode(ids) != self.rust.decode(ids, skip_special_tokens=False):
                pytest.fail(f"decoded in another way: {text!a:.200}", pytrace=False)
        return compare(self.ours, self.rust, texts)


def unlimited(tokenizer: RustTokenizer) -> RustTokenizer:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def compare(ours: Tokenizer, rust: RustTokenizer, texts: Iterable[str]) -> int:
    count = 0
    for text in texts:
        a, b = ours.tokenize(text), rust.encode(text, add_special_tokens=False)
        ours_all = (a.ids, a.tokens, a.offsets, a.word_index)
        if ours_all != (b.ids, b.tokens, b.offsets, b.word_ids):
            pytest.fail(difference(a, b, text), pytrace=False)
        count += 1
    return count


def difference(a: Any, b: Any, text: str) -> str:
    mine = list(zip(a.tokens, a.ids, a.offsets, a.word_index, strict=True))
    right = list(zip(b.tokens, b.ids, b.offsets, b.word_ids, strict=True))
    i = next((i for i, (x, y) in enumerate(zip(mine, right, strict=False)) if x != y), -1)
    where = slice(max(0, i - 1), i + 3)
    start = b.offsets[i][0] if b.offsets else 0
    near = ascii(text[max(0, start - 10) : start + 20])
    return f"near {near}: token {i}: ours {mine[where]!a}, right {right[where]!a}"

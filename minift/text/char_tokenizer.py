"""The simplest tokenizer: every character is a token.

The vocabulary is tiny and the sequences are long. Good for first models on one text; a character
that was not in that text has no id.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from minift.errors import InputError
from minift.text.added_tokens import AddedToken, AddedTokenFinder
from minift.text.base import BaseTokenizer, Settings
from minift.text.checks import check_text
from minift.text.tokenizer import Encoding


class CharTokenizer(BaseTokenizer):
    """One token a character (code point).

    Args:
        vocab: token → id; a character each, apart from the special tokens.
        config: ``unk_token`` stands for characters that the vocabulary lacks. Without one, such a
            character is refused.
    """

    def __init__(self, vocab: dict[str, int], config: Settings | None = None) -> None:
        config = config or Settings()
        super().__init__(vocab, config)
        self._finder = AddedTokenFinder({token.content: token for token in config.added_tokens})

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        unk_token: str | None = None,
        pad_token: str | None = None,
        bos_token: str | None = None,
        eos_token: str | None = None,
    ) -> "CharTokenizer":
        """The tokenizer of all characters in some texts: special tokens first, then by code point.

        Raises:
            InputError: no texts, or one that is none.
        """
        named: dict[str, Any] = {"unk_token": unk_token, "pad_token": pad_token}
        named |= {"bos_token": bos_token, "eos_token": eos_token}
        characters: set[str] = set()
        for text in [texts] if isinstance(texts, str) else texts:
            check_text(text)
            characters.update(text)
        if not characters:
            raise InputError("texts: no character in them; right would be some text to learn from")
        special = list(dict.fromkeys(token for token in named.values() if token is not None))
        vocab = {token: i for i, token in enumerate(dict.fromkeys([*special, *sorted(characters)]))}
        added = tuple(AddedToken(token, vocab[token]) for token in special)
        return cls(vocab, Settings(added_tokens=added, **named))

    def _pieces(self, text: str) -> Iterator[tuple[int, int, Encoding]]:
        check_text(text)
        for start, end, token in self._finder.cut(text):
            if token is not None:
                yield start, 1, Encoding([token.id], [text[start:end]], [(0, end - start)], [0])
                continue
            ids = [self._id(char, start + i) for i, char in enumerate(text[start:end])]
            tokens = [self._token_of[id_] for id_ in ids]
            numbers = list(range(len(ids)))
            yield start, len(ids), Encoding(ids, tokens, [(i, i + 1) for i in numbers], numbers)

    def _id(self, char: str, position: int) -> int:
        id_ = self.vocab.get(char, self.unk_token_id)
        if id_ is None:
            raise InputError(
                f"text: character {position} is {char!a}, which the vocabulary lacks; right would "
                "be text of its characters, or a tokenizer with an unk_token"
            )
        return id_

    def frame(
        self, first: list[int], second: list[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """The ids as they are: no special tokens around a text."""
        second = second or []
        return first + second, [0] * len(first) + [1] * len(second)

    def _join(self, ids: Sequence[int]) -> str:
        return "".join([self._token_of[id_] for id_ in ids])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json, tokenizer_config.json and, if there is one, chat_template.jinja."""
        from minift.text.char_files import write_char

        write_char(self, folder)

"""BERT's tokenizer, from text to ids and back.

text → added tokens cut out → normalised → words → pieces → ids
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from minift.errors import InputError
from minift.text.added_tokens import AddedToken, AddedTokenFinder
from minift.text.base import BaseTokenizer, Settings
from minift.text.checks import check_text
from minift.text.decode import join_pieces
from minift.text.normalize import Aligned, BertNormalizer
from minift.text.pretokenize import split_words
from minift.text.tokenizer import Encoding
from minift.text.unicode_tables import WHITESPACE
from minift.text.wordpiece import WordPiece

# Words repeat: remembering how a stretch between white space was cut makes encoding ten times
# faster. Long stretches (URLs, base64) do not repeat, so they are not kept.
CACHE_SIZE = 50_000
CACHE_LONGEST = 50

_STRETCH = re.compile(f"[^{''.join(sorted(WHITESPACE))}]+")


@dataclass(frozen=True, kw_only=True)
class WordPieceConfig(Settings):
    """Everything that the files of a BERT tokenizer say, apart from the vocabulary."""

    normalizer: BertNormalizer = field(default_factory=BertNormalizer)
    unk_token: str = "[UNK]"
    cls_token: str = "[CLS]"
    sep_token: str = "[SEP]"
    pad_token: str = "[PAD]"
    mask_token: str = "[MASK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    returns_token_type_ids: bool = True
    tokenizer_class: str = "BertTokenizer"


class WordPieceTokenizer(BaseTokenizer):
    """BERT's tokenizer, equal to ``transformers.BertTokenizer`` in ids, tokens and offsets.

    Args:
        vocab: token → id, the ids being 0 … len(vocab) - 1.
        config: the special tokens, the normaliser's switches, the model's maximum length.

    Raises:
        InputError: the vocabulary lacks one of [UNK], [CLS], [SEP], [PAD] (or what the
            configuration calls them).
    """

    config: WordPieceConfig
    cls_token_id: int
    sep_token_id: int

    def __init__(self, vocab: dict[str, int], config: WordPieceConfig | None = None) -> None:
        config = config or WordPieceConfig()
        _check_special_tokens(vocab, config)
        super().__init__(vocab, config)
        self._set_added_tokens(self.config.added_tokens)
        self._cut_word = WordPiece(
            vocab,
            self.config.unk_token,
            self.config.continuing_subword_prefix,
            self.config.max_input_chars_per_word,
        )
        self._cache: dict[str, Encoding] = {}

    def _set_added_tokens(self, added: tuple[AddedToken, ...]) -> None:
        normalize = self.config.normalizer
        original = {token.content: token for token in added if not token.normalized}
        normalized = {_text(normalize(t.content)): t for t in added if t.normalized}
        self._in_original = AddedTokenFinder(original)
        self._in_normalized = AddedTokenFinder(normalized) if normalized else None
        self._token_of |= {t.id: text for text, t in normalized.items()}

    # -- text to pieces -------------------------------------------------------------------------

    def _pieces(self, text: str) -> Iterator[tuple[int, int, Encoding]]:
        """Every added token and every stretch between white space."""
        check_text(text)
        for start, end, token in self._in_original.cut(text):
            if token is not None:
                yield start, 1, Encoding([token.id], [text[start:end]], [(0, end - start)], [0])
            elif self._in_normalized is not None:  # such a token may contain white space
                yield start, *_with_words(self._cut(text[start:end]))
            else:
                for stretch in _STRETCH.finditer(text, start, end):
                    yield stretch.start(), *_with_words(self._remembered(stretch[0]))

    def _remembered(self, stretch: str) -> Encoding:
        pieces = self._cache.get(stretch)
        if pieces is None:
            pieces = self._cut(stretch)
            if len(stretch) <= CACHE_LONGEST:
                if len(self._cache) >= CACHE_SIZE:
                    self._cache.clear()
                self._cache[stretch] = pieces
        return pieces

    def _cut(self, text: str) -> Encoding:
        """Normalise, split into words, cut each word into pieces."""
        encoding = Encoding()
        for number, (word, token) in enumerate(self._words(self.config.normalizer(text))):
            pieces = [(token.id, 0, len(word))] if token else self._cut_word(_text(word))
            for id_, start, end in pieces:
                encoding.ids.append(id_)
                encoding.tokens.append(_text(word) if token else self._token_of[id_])
                encoding.offsets.append((word[start][1], word[end - 1][2]))
                encoding.word_index.append(number)
        return encoding

    def _words(self, normal: Aligned) -> list[tuple[Aligned, AddedToken | None]]:
        """Words of a normalised text, and the added tokens that are looked for in it."""
        if self._in_normalized is None:
            return [(word, None) for word in split_words(normal)]
        words: list[tuple[Aligned, AddedToken | None]] = []
        for start, end, token in self._in_normalized.cut(_text(normal)):
            part = normal[start:end]
            words += [(part, token)] if token else [(word, None) for word in split_words(part)]
        return words

    def frame(
        self, first: list[int], second: list[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """``[CLS] first [SEP]`` or ``[CLS] first [SEP] second [SEP]``, with types 0 and 1."""
        ids = [self.cls_token_id, *first, self.sep_token_id]
        types = [0] * len(ids)
        if second is not None:
            ids += [*second, self.sep_token_id]
            types += [1] * (len(second) + 1)
        return ids, types

    def _join(self, ids: list[int]) -> str:
        """Pieces joined to words, no space before a full stop."""
        tokens = [self._token_of[id_] for id_ in ids]
        return join_pieces(tokens, self.config.continuing_subword_prefix)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
        from minift.text.wordpiece_writer import write_wordpiece

        write_wordpiece(self, folder)


def _with_words(pieces: Encoding) -> tuple[int, Encoding]:
    return pieces.word_index[-1] + 1 if pieces.ids else 0, pieces


def _text(aligned: Aligned) -> str:
    return "".join([char for char, _, _ in aligned])


def _check_special_tokens(vocab: dict[str, int], config: WordPieceConfig) -> None:
    needed = (config.unk_token, config.cls_token, config.sep_token, config.pad_token)
    missing = [token for token in needed if token not in vocab]
    if missing:
        raise InputError(
            f"the vocabulary lacks {', '.join(missing)}; right would be one with all of "
            f"{', '.join(needed)}"
        )

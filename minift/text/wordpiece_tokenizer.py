"""BERT's tokenizer, from text to ids and back.

text → added tokens cut out → normalised → words → pieces → ids
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from minift.errors import InputError
from minift.text.added_tokens import AddedToken, AddedTokenFinder
from minift.text.decode import clean_up, join_pieces
from minift.text.normalize import Aligned, BertNormalizer
from minift.text.pretokenize import split_words
from minift.text.tokenizer import NO_LIMIT, Encoding
from minift.text.unicode_tables import WHITESPACE
from minift.text.wordpiece import WordPiece

if TYPE_CHECKING:
    from torch import Tensor

# Words repeat: remembering how a stretch between white space was cut makes encoding ten times
# faster. Long stretches (URLs, base64) do not repeat, so they are not kept.
CACHE_SIZE = 50_000
CACHE_LONGEST = 50

_STRETCH = re.compile(f"[^{''.join(sorted(WHITESPACE))}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class WordPieceConfig:
    """Everything that the files of a BERT tokenizer say, apart from the vocabulary."""

    normalizer: BertNormalizer = field(default_factory=BertNormalizer)
    unk_token: str = "[UNK]"
    cls_token: str = "[CLS]"
    sep_token: str = "[SEP]"
    pad_token: str = "[PAD]"
    mask_token: str = "[MASK]"
    added_tokens: tuple[AddedToken, ...] = ()
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: int = 100
    model_max_length: int = NO_LIMIT
    padding_side: str = "right"
    truncation_side: str = "right"
    clean_up_tokenization_spaces: bool = False
    returns_token_type_ids: bool = True
    tokenizer_class: str = "BertTokenizer"


class WordPieceTokenizer:
    """BERT's tokenizer, equal to ``transformers.BertTokenizer`` in ids, tokens and offsets.

    Args:
        vocab: token → id, the ids being 0 … len(vocab) - 1.
        config: the special tokens, the normaliser's switches, the model's maximum length.

    Raises:
        InputError: the vocabulary lacks one of [UNK], [CLS], [SEP], [PAD] (or what the
            configuration calls them).
    """

    def __init__(self, vocab: dict[str, int], config: WordPieceConfig | None = None) -> None:
        self.vocab, self.config = vocab, config or WordPieceConfig()
        self._set_special_tokens(self.config)
        self._set_added_tokens(self.config.added_tokens)
        self._cut_word = WordPiece(
            vocab,
            self.config.unk_token,
            self.config.continuing_subword_prefix,
            self.config.max_input_chars_per_word,
        )
        self._cache: dict[str, Encoding] = {}

    def _set_special_tokens(self, config: WordPieceConfig) -> None:
        needed = (config.unk_token, config.cls_token, config.sep_token, config.pad_token)
        missing = [token for token in needed if token not in self.vocab]
        if missing:
            raise InputError(
                f"the vocabulary lacks {', '.join(missing)}; right would be one with all of "
                f"{', '.join(needed)}"
            )
        ids = [self.vocab[token] for token in needed]
        self.unk_token_id, self.cls_token_id, self.sep_token_id, self.pad_token_id = ids
        self.mask_token_id = self.vocab.get(config.mask_token)
        self.vocab_size = len(self.vocab)
        self.model_max_length = config.model_max_length
        self.padding_side, self.truncation_side = config.padding_side, config.truncation_side

    def _set_added_tokens(self, added: tuple[AddedToken, ...]) -> None:
        normalize = self.config.normalizer
        original = {token.content: token for token in added if not token.normalized}
        normalized = {_text(normalize(t.content)): t for t in added if t.normalized}
        self._in_original = AddedTokenFinder(original)
        self._in_normalized = AddedTokenFinder(normalized) if normalized else None
        self._special_ids = {token.id for token in added if token.special}
        self._token_of = {id_: token for token, id_ in self.vocab.items()}
        self._token_of |= {t.id: text for text, t in (original | normalized).items()}

    def __len__(self) -> int:
        """Size of the vocabulary with the added tokens."""
        return len(self._token_of)

    # -- text to pieces -------------------------------------------------------------------------

    def _stretches(self, text: str) -> Iterator[tuple[int, Encoding]]:
        """``(start, pieces)`` of every added token and every stretch between white space."""
        _check_text(text)
        for start, end, token in self._in_original.cut(text):
            if token is not None:
                yield start, Encoding([token.id], [text[start:end]], [(0, end - start)], [0])
            elif self._in_normalized is not None:  # such a token may contain white space
                yield start, self._cut(text[start:end])
            else:
                for stretch in _STRETCH.finditer(text, start, end):
                    yield stretch.start(), self._remembered(stretch[0])

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

    # -- what users call ------------------------------------------------------------------------

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """``[CLS] text [SEP]`` as ids, never truncated (``transformers``' ``encode``)."""
        ids = [id_ for _, pieces in self._stretches(text) for id_ in pieces.ids]
        return self.frame(ids)[0] if add_special_tokens else ids

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

    def tokenize(self, text: str | list[str]) -> Encoding:
        """Ids, tokens, offsets in the original text and word numbers, without special tokens.

        A list of words split before is tokenized word by word: ``word_index`` then counts the
        list's items and offsets are within the item (``is_split_into_words=True``).
        """
        if not isinstance(text, str):
            return self._tokenize_split(text)
        encoding = Encoding()
        words_before = 0
        for begin, pieces in self._stretches(text):
            encoding.ids.extend(pieces.ids)
            encoding.tokens.extend(pieces.tokens)
            encoding.offsets.extend([(begin + start, begin + end) for start, end in pieces.offsets])
            encoding.word_index.extend([words_before + word for word in pieces.word_index])
            words_before = encoding.word_index[-1] + 1 if encoding.ids else 0
        return encoding

    def _tokenize_split(self, words: list[str]) -> Encoding:
        encoding = Encoding()
        for number, word in enumerate(words):
            pieces = self.tokenize(word)
            encoding.ids.extend(pieces.ids)
            encoding.tokens.extend(pieces.tokens)
            encoding.offsets.extend(pieces.offsets)
            encoding.word_index.extend([number] * len(pieces))
        return encoding

    def tokenize_words(self, words: list[str]) -> tuple[list[int], list[int]]:
        """``(ids, word_index)`` of words split before, without special tokens.

        A word of nothing but control characters or white space has no ids: its number is absent.

        Raises:
            InputError: a text instead of a list of words.
        """
        if isinstance(words, str):
            raise InputError("words: a str given; right would be a list of words")
        encoding = self._tokenize_split(words)
        return encoding.ids, encoding.word_index

    def decode(self, ids: "Sequence[int] | Tensor", skip_special_tokens: bool = False) -> str:
        """The text of ids: pieces joined to words, no space before a full stop.

        Raises:
            InputError: an id that the vocabulary does not have.
        """
        ids = [int(id_) for id_ in ids]
        unknown = [id_ for id_ in ids if id_ not in self._token_of]
        if unknown:
            raise InputError(f"ids: {unknown[0]}; right would be 0 to {max(self._token_of)}")
        dropped = self._special_ids if skip_special_tokens else ()
        tokens = [self._token_of[id_] for id_ in ids if id_ not in dropped]
        text = join_pieces(tokens, self.config.continuing_subword_prefix)
        return clean_up(text) if self.config.clean_up_tokenization_spaces else text

    def __call__(
        self,
        text: str | list[str],
        text_pair: str | list[str] | None = None,
        *,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
    ) -> "dict[str, Tensor]":
        """A batch of LongTensors of shape (B, T): ids, attention mask and token types.

        Arguments are those of a Hugging Face tokenizer's call with ``return_tensors="pt"``.

        Raises:
            InputError: as ``minift.text.batch.build_batch`` says.
        """
        from minift.text.batch import BatchOptions, build_batch

        options = BatchOptions(padding, truncation, max_length, add_special_tokens)
        batch = build_batch(self, text, text_pair, options)
        if not self.config.returns_token_type_ids:
            del batch["token_type_ids"]
        return batch

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json."""
        from minift.text.wordpiece_writer import write_wordpiece

        write_wordpiece(self, folder)


def _text(aligned: Aligned) -> str:
    return "".join([char for char, _, _ in aligned])


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InputError(f"text: {type(text).__name__} given; right would be a str")
    if not text.isascii() and (bad := _SURROGATE.search(text)):
        raise InputError(
            f"text: character {bad.start()} is U+{ord(bad[0]):04X}, half of a surrogate pair; "
            "right would be text decoded with errors='replace'"
        )

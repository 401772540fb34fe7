"""What the tokenizers of this package share, whatever their pieces are.

A subclass cuts a text into pieces, puts special tokens around ids and joins tokens to a text; the
rest of ``minift.text.tokenizer.Tokenizer`` follows from these three.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minift.errors import InputError
from minift.text.added_tokens import AddedToken
from minift.text.chat import ChatMixin
from minift.text.checks import check_ids
from minift.text.decode import clean_up
from minift.text.tokenizer import NO_LIMIT, SPECIAL, Encoding

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the files of every tokenizer may say; names are those of ``tokenizer_config.json``."""

    bos_token: str | None = None
    eos_token: str | None = None
    unk_token: str | None = None
    sep_token: str | None = None
    pad_token: str | None = None
    cls_token: str | None = None
    mask_token: str | None = None
    added_tokens: tuple[AddedToken, ...] = ()
    model_max_length: int = NO_LIMIT
    padding_side: str = "right"
    truncation_side: str = "right"
    clean_up_tokenization_spaces: bool = False
    returns_token_type_ids: bool = False
    chat_template: str | None = None
    tokenizer_class: str = "PreTrainedTokenizerFast"


class BaseTokenizer(ChatMixin):
    """A tokenizer of this package.

    Args:
        vocab: token → id, the ids being 0 … len(vocab) - 1.
        config: special tokens, added tokens, lengths and sides.
    """

    config: Settings
    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    sep_token_id: int | None
    pad_token_id: int | None
    cls_token_id: int | None
    mask_token_id: int | None

    def __init__(self, vocab: dict[str, int], config: Settings) -> None:
        self.config = config
        self.vocab, self.vocab_size = vocab, len(vocab)
        self.model_max_length = config.model_max_length
        self.padding_side, self.truncation_side = config.padding_side, config.truncation_side
        self.chat_template = config.chat_template
        self._special_ids = {token.id for token in config.added_tokens if token.special}
        self._token_of = {id_: token for token, id_ in vocab.items()}
        self._token_of |= {token.id: token.content for token in config.added_tokens}
        known = vocab | {token.content: token.id for token in config.added_tokens}
        self.special_tokens: dict[str, str] = {}
        for name in SPECIAL:
            content = getattr(config, name)
            setattr(self, f"{name}_id", known.get(content))
            if content in known:
                self.special_tokens[name] = content

    @property
    def cleans_up_spaces(self) -> bool:
        """Whether ``decode`` removes spaces before punctuation at the end."""
        return self.config.clean_up_tokenization_spaces

    def __len__(self) -> int:
        """Size of the vocabulary with the added tokens."""
        return len(self._token_of)

    def _pieces(self, text: str) -> Iterator[tuple[int, int, Encoding]]:
        """``(start, words, encoding)`` of the parts of a text: where each begins, how many words.

        Its offsets count from its start, its ``word_index`` from 0; no special tokens.
        """
        raise NotImplementedError

    def frame(
        self, first: list[int], second: list[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """Special tokens around one text's ids or two, and the token type of each id."""
        raise NotImplementedError

    def _join(self, ids: list[int]) -> str:
        """The text of ids that the vocabulary has."""
        raise NotImplementedError

    def _plain_ids(self, text: str) -> list[int]:
        return [id_ for _, _, encoding in self._pieces(text) for id_ in encoding.ids]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, never truncated (``transformers``' ``encode``)."""
        ids = self._plain_ids(text)
        return self.frame(ids)[0] if add_special_tokens else ids

    def tokenize(self, text: str | list[str]) -> Encoding:
        """Ids, tokens, offsets in the original text and word numbers, without special tokens.

        A list of words split before is tokenized word by word: ``word_index`` then counts the
        list's items and offsets are within the item (``is_split_into_words=True``).
        """
        if not isinstance(text, str):
            return self._tokenize_split(text)
        encoding = Encoding()
        words_before = 0
        for begin, words, pieces in self._pieces(text):
            encoding.ids.extend(pieces.ids)
            encoding.tokens.extend(pieces.tokens)
            encoding.offsets.extend([(begin + start, begin + end) for start, end in pieces.offsets])
            encoding.word_index.extend([words_before + word for word in pieces.word_index])
            words_before += words
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

        A word of which nothing is left (control characters, for BERT) has no ids: its number is
        absent.

        Raises:
            InputError: a text instead of a list of words.
        """
        if isinstance(words, str):
            raise InputError("words: a str given; right would be a list of words")
        encoding = self._tokenize_split(words)
        return encoding.ids, encoding.word_index

    def decode(self, ids: "Sequence[int] | Tensor", skip_special_tokens: bool = False) -> str:
        """The text of ids.

        Raises:
            InputError: an id that the vocabulary does not have.
        """
        ids = check_ids(ids)
        unknown = [id_ for id_ in ids if id_ not in self._token_of]
        if unknown:
            raise InputError(f"ids: {unknown[0]}; right would be 0 to {max(self._token_of)}")
        dropped = self._special_ids if skip_special_tokens else ()
        text = self._join([id_ for id_ in ids if id_ not in dropped])
        return clean_up(text) if self.cleans_up_spaces else text

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
        """A batch of LongTensors of shape (B, T): ids, attention mask and, for BERT, token types.

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

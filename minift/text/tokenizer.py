"""What every tokenizer here can do, whoever wrote it.

Two kinds fill this place: the tokenizers of this package, written from scratch (characters,
byte-level BPE, WordPiece), and ``minift.text.huggingface.HuggingFaceTokenizer``, which wraps any
fast one of Hugging Face's.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

NO_LIMIT = int(1e30)
"""``model_max_length`` of a tokenizer whose files name none (Hugging Face's number for it)."""

SPECIAL = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
)  # fmt: skip
"""The special tokens that have a name; a tokenizer has some of them."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """A tokenized text: four lists of the same length, special tokens not included.

    Attributes:
        ids: the tokens' numbers in the vocabulary.
        tokens: the tokens as the vocabulary writes them (``##`` marks a piece that continues a
            word in WordPiece, ``Ġ`` a space in byte-level BPE).
        offsets: ``(start, end)`` of each token, in characters of the original text.
        word_index: number of the word that each token is a piece of, from 0.
    """

    ids: list[int] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    offsets: list[tuple[int, int]] = field(default_factory=list)
    word_index: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Attribute names are Hugging Face's; ids that do not exist are None."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def model_max_length(self) -> int: ...
    @property
    def pad_token_id(self) -> int | None: ...
    @property
    def bos_token_id(self) -> int | None: ...
    @property
    def eos_token_id(self) -> int | None: ...
    @property
    def cls_token_id(self) -> int | None: ...
    @property
    def sep_token_id(self) -> int | None: ...
    @property
    def unk_token_id(self) -> int | None: ...
    @property
    def mask_token_id(self) -> int | None: ...
    @property
    def special_tokens(self) -> dict[str, str]:
        """``bos_token`` and so on → the token, of those that exist."""
        ...

    @property
    def chat_template(self) -> str | None: ...
    @property
    def cleans_up_spaces(self) -> bool:
        """Whether ``decode`` removes spaces before punctuation at the end."""
        ...

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, never truncated."""
        ...

    def decode(self, ids: "Sequence[int] | Tensor", skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        ...

    def tokenize(self, text: str | list[str]) -> Encoding:
        """Ids, tokens, offsets and word numbers, without special tokens.

        A list is a text that was split into words before: each item is tokenized on its own,
        ``word_index`` counts the items and ``offsets`` are within the item.
        """
        ...

    def tokenize_words(self, words: list[str]) -> tuple[list[int], list[int]]:
        """``(ids, word_index)`` of words split before, without special tokens."""
        ...

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
        """A batch for a model: LongTensors of shape (B, T); one text makes a batch of one."""
        ...

    @overload
    def apply_chat_template(
        self,
        messages: "list[dict[str, Any]]",
        *,
        add_generation_prompt: bool = False,
        tokenize: Literal[True] = True,
    ) -> list[int]: ...
    @overload
    def apply_chat_template(
        self,
        messages: "list[dict[str, Any]]",
        *,
        add_generation_prompt: bool = False,
        tokenize: Literal[False],
    ) -> str:
        """A conversation as ids or as text, written as the model's chat template says."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write files that ``load_tokenizer`` and ``transformers.AutoTokenizer`` load."""
        ...

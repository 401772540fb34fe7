"""Any fast tokenizer of Hugging Face's in the place of one of ours."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minift.errors import InputError
from minift.text.chat import ChatMixin
from minift.text.checks import check_ids
from minift.text.tokenizer import NO_LIMIT, SPECIAL, Encoding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from minift.text.batch import BatchOptions


class HuggingFaceTokenizer(ChatMixin):
    """``minift.text.tokenizer.Tokenizer`` by delegation.

    Args:
        tokenizer: a fast tokenizer (``transformers.PreTrainedTokenizerFast``).
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise InputError(
                f"tokenizer: {type(tokenizer).__name__} is not a fast tokenizer and has no offsets"
            )
        self.hf = tokenizer
        self.vocab_size = int(tokenizer.vocab_size)
        self.model_max_length = min(int(tokenizer.model_max_length), NO_LIMIT)
        self.chat_template: str | None = tokenizer.chat_template
        self.special_tokens = {
            name: str(token) for name in SPECIAL if (token := getattr(tokenizer, name)) is not None
        }
        self.cleans_up_spaces = bool(tokenizer.clean_up_tokenization_spaces)
        self.bos_token_id: int | None = tokenizer.bos_token_id
        self.eos_token_id: int | None = tokenizer.eos_token_id
        self.pad_token_id: int | None = tokenizer.pad_token_id
        self.cls_token_id: int | None = tokenizer.cls_token_id
        self.sep_token_id: int | None = tokenizer.sep_token_id
        self.unk_token_id: int | None = tokenizer.unk_token_id
        self.mask_token_id: int | None = tokenizer.mask_token_id

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "HuggingFaceTokenizer":
        """The tokenizer in a folder; never from the network, never running the folder's code.

        Raises:
            InputError: ``transformers`` cannot read the folder's files.
        """
        from transformers import AutoTokenizer

        careful = {"local_files_only": True, "trust_remote_code": False}
        try:
            return cls(AutoTokenizer.from_pretrained(Path(folder), **careful))
        except InputError:
            raise
        except Exception as error:  # the Rust library raises bare Exception
            raise InputError(f"{folder}: transformers cannot load the tokenizer: {error}") from None

    def __len__(self) -> int:
        return len(self.hf)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, never truncated."""
        return self._ask(text, add_special_tokens=add_special_tokens)["input_ids"]

    def decode(self, ids: "Sequence[int] | Tensor", skip_special_tokens: bool = False) -> str:
        """The text of ids; InputError for what are no whole numbers."""
        return self.hf.decode(check_ids(ids), skip_special_tokens=skip_special_tokens)

    def tokenize(self, text: str | list[str]) -> Encoding:
        """Ids, tokens, offsets and word numbers, without special tokens."""
        found = self._ask(
            text,
            add_special_tokens=False,
            is_split_into_words=not isinstance(text, str),
            return_offsets_mapping=True,
        )
        return Encoding(
            found["input_ids"], found.tokens(), found["offset_mapping"], found.word_ids()
        )

    def tokenize_words(self, words: list[str]) -> tuple[list[int], list[int]]:
        """``(ids, word_index)`` of words split before, without special tokens."""
        encoding = self.tokenize(words)
        return encoding.ids, encoding.word_index

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
        """A batch of LongTensors of shape (B, T): what the model of this tokenizer takes.

        Raises:
            InputError: as ``minift.text.batch.build_batch`` says.
        """
        import torch

        from minift.text.batch import BatchOptions, as_lists, check_lengths, check_padding

        options = BatchOptions(padding, truncation, max_length, add_special_tokens)
        firsts, seconds = as_lists(text, text_pair)
        limit = options.limit(self.model_max_length)
        check_padding([0], limit, self.pad_token_id, options)
        rows = self._rows(firsts, None if text_pair is None else seconds, limit, options)
        lengths = [sum(mask) for mask in rows["attention_mask"]]
        check_lengths(lengths, limit, self.model_max_length)
        check_padding(lengths, limit, self.pad_token_id, options)
        return {name: torch.tensor(rows[name], dtype=torch.long) for name in rows}

    def _rows(
        self, firsts: list[str], seconds: Any, limit: int, options: "BatchOptions"
    ) -> dict[str, list[list[int]]]:
        bounded = limit < NO_LIMIT
        found = self._ask(
            firsts,
            seconds,
            padding=options.padding,
            truncation=(options.strategy or False) if bounded else False,
            max_length=limit if bounded else None,
            add_special_tokens=options.add_special_tokens,
            return_attention_mask=True,
        )
        names = [name for name in found if name in self.hf.model_input_names]
        return {name: found[name] for name in dict.fromkeys([*names, "attention_mask"])}

    def _ask(self, *texts: Any, **options: Any) -> Any:
        try:
            return self.hf(*texts, **options, verbose=False)
        except Exception as error:  # the Rust library raises bare Exception
            raise InputError(f"text: {type(self.hf).__name__} refuses it: {error}") from None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """``save_pretrained``."""
        self.hf.save_pretrained(folder)

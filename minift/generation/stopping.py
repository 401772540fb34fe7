"""When a text is finished: after an EOS token, or when its text ends with a stop string."""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from minift.errors import InputError
from minift.generation.settings import GenerationSettings

Stop = Callable[[Tensor], Tensor]
"""``ids (R, N) → (R,)``: True where the last token finished the text."""


class Decodes(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, ids: Sequence[int] | Tensor, skip_special_tokens: bool = False) -> str: ...


class StopStrings:
    """Whether the last token completes one of some strings, wherever tokens begin and end.

    The string may begin in an earlier token, of the prompt too, and end anywhere inside the last
    one. Hugging Face: ``StopStringCriteria``.
    """

    def __init__(self, strings: Sequence[str], tokenizer: Decodes) -> None:
        self.strings = tuple(strings)
        self.tokenizer = tokenizer
        # a token has a byte at least, so that no string can begin before this many tokens
        self.reach = max(len(text.encode()) for text in self.strings)

    def __call__(self, ids: Tensor) -> Tensor:
        ended = [self._ended(row) for row in ids[:, -self.reach :].tolist()]
        return torch.tensor(ended, device=ids.device)

    def _ended(self, tail: list[int]) -> bool:
        text = self.tokenizer.decode(tail)
        if not any(string in text for string in self.strings):
            return False
        # half a character, which the last token may complete, is no text yet
        before = len(self.tokenizer.decode(tail[:-1]).rstrip("\ufffd"))
        starts = (max(before - len(string) + 1, 0) for string in self.strings)
        return any(
            text.find(string, start) >= 0
            for string, start in zip(self.strings, starts, strict=True)
        )


def stop_of(settings: GenerationSettings, tokenizer: Decodes | None) -> Stop:
    """All conditions of ``settings`` in one; the number of tokens is the loop's business.

    Raises:
        InputError: stop strings without a tokenizer.
    """
    if settings.stop_strings and tokenizer is None:
        raise InputError(
            "stop_strings: tokens alone do not show them; right: tokenizer=… beside them"
        )
    strings = None
    if settings.stop_strings and tokenizer is not None:
        strings = StopStrings(settings.stop_strings, tokenizer)
    eos = torch.tensor(settings.eos_token_id, dtype=torch.long)

    def stop(ids: Tensor) -> Tensor:
        ended = torch.isin(ids[:, -1], eos.to(ids.device))  # (R,)
        return ended if strings is None else ended | strings(ids)

    return stop

"""How to continue a text: every option of ``generate``, checked once."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from minift.errors import InputError, one_of


@dataclass(frozen=True)
class GenerationSettings:
    """The options of ``generate``, under Hugging Face's names and with its defaults.

    Raises:
        InputError: a value that has no meaning; the message names it.
    """

    max_new_tokens: int = 20
    """The most tokens to add to each prompt."""
    min_new_tokens: int = 0
    """EOS cannot be chosen before so many tokens were added."""
    do_sample: bool = False
    """Draw each token from the distribution instead of taking the most probable one."""
    temperature: float = 1.0
    """Divides the logits: below 1 the likely tokens gain, above 1 they lose."""
    top_k: int | None = 50
    """Only the k most probable tokens can be drawn; 0 or ``None``: all of them."""
    top_p: float = 1.0
    """Only the most probable tokens that together have probability p can be drawn."""
    min_p: float | None = None
    """Only tokens at least ``min_p`` times as probable as the most probable one can be drawn."""
    repetition_penalty: float = 1.0
    """Makes tokens that the text holds already less likely (above 1) or more likely (below)."""
    num_beams: int = 1
    """How many texts beam search keeps beside each other; 1: no beam search."""
    length_penalty: float = 1.0
    """A beam's score is its log-probability divided by (new tokens) to this power."""
    early_stopping: bool | str = False
    """When beam search ends; see ``minift.generation.beam``. True, False or ``"never"``."""
    num_return_sequences: int = 1
    """Texts for each prompt: samples, or the best beams."""
    stop_strings: tuple[str, ...] = ()
    """A text that ends with one of these is finished (``tokenizer`` is needed to see it)."""
    eos_token_id: tuple[int, ...] = ()
    """The tokens after which a text is finished."""
    pad_token_id: int | None = None
    """Fills texts that are finished before others."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_distribution()
        self._check_beams()
        if not all(isinstance(text, str) and text for text in self.stop_strings):
            raise InputError(
                f"stop_strings: {self.stop_strings!r}; right: texts, none of them empty"
            )

    @classmethod
    def read(cls, options: Mapping[str, Any], config: Any) -> "GenerationSettings":
        """From keyword arguments; what they leave open about special tokens, ``config`` says.

        ``eos_token_id`` may be a number, several, or empty (never stop early); ``stop_strings`` one
        text or several.

        Raises:
            InputError: a name that is not an option, or a value that has no meaning.
        """
        known = tuple(field.name for field in fields(cls))
        for name in options:
            if name not in known:
                raise one_of("option", name, known)
        eos = options.get("eos_token_id")
        eos = _numbers(config.eos_token_id if eos is None else eos)
        pad = options.get("pad_token_id")
        pad = config.pad_token_id if pad is None else pad
        stops = options.get("stop_strings") or ()
        return cls(
            **{
                **options,
                "eos_token_id": eos,
                # padding is only ever written after an EOS: without one there is none to choose
                "pad_token_id": eos[0] if pad is None and eos else pad,
                "stop_strings": (stops,) if isinstance(stops, str) else tuple(stops),
            }
        )

    @property
    def copies(self) -> int:
        """Texts that are continued for each prompt."""
        return self.num_beams if self.num_beams > 1 else self.num_return_sequences

    def _check_counts(self) -> None:
        _whole("max_new_tokens", self.max_new_tokens, 1)
        _whole("min_new_tokens", self.min_new_tokens, 0)
        _whole("num_beams", self.num_beams, 1)
        _whole("num_return_sequences", self.num_return_sequences, 1)
        if self.top_k is not None:
            _whole("top_k", self.top_k, 0, "at least 1, or 0 to keep every token")
        if self.min_new_tokens > self.max_new_tokens:
            raise InputError(
                f"min_new_tokens: {self.min_new_tokens} is more than max_new_tokens "
                f"({self.max_new_tokens}); right: at most that"
            )

    def _check_distribution(self) -> None:
        for name in ("temperature", "repetition_penalty"):
            value = _real(name, getattr(self, name))
            if not 0.0 < value < math.inf:
                hint = ", or do_sample=False for the most probable token" * (name == "temperature")
                raise InputError(f"{name}: {value}; right: above 0{hint}")
        if not 0.0 < _real("top_p", self.top_p) <= 1.0:
            raise InputError(f"top_p: {self.top_p}; right: above 0 and at most 1 (every token)")
        if self.min_p is not None and not 0.0 <= _real("min_p", self.min_p) <= 1.0:
            raise InputError(f"min_p: {self.min_p}; right: from 0 (every token) to 1")

    def _check_beams(self) -> None:
        if not math.isfinite(_real("length_penalty", self.length_penalty)):
            raise InputError(f"length_penalty: {self.length_penalty}; right: a finite number")
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise InputError(
                f"early_stopping: {self.early_stopping!r}; right: True, False, 'never'"
            )
        if self.num_return_sequences == 1:
            return
        if self.num_beams > 1 and self.num_return_sequences > self.num_beams:
            raise InputError(
                f"num_return_sequences: {self.num_return_sequences} with num_beams="
                f"{self.num_beams}; right: at most as many as beams"
            )
        if self.num_beams == 1 and not self.do_sample:
            raise InputError(
                f"num_return_sequences: {self.num_return_sequences} greedy texts would be equal; "
                "right: 1, or do_sample=True, or num_beams"
            )


def _whole(name: str, value: Any, least: int, right: str | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}: {value!r}; right: {right or f'at least {least}'}")


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name}: {value!r}; right: a number")
    return value


def _numbers(given: int | Iterable[int] | None) -> tuple[int, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, int) else tuple(int(token) for token in given)

"""A model in the middle of a text: what decoding asks of it, and nothing about its family."""

from typing import Any, Protocol

import torch
from torch import Tensor

from minift.generation.cache import KVCache


class DecodingState(Protocol):
    """What greedy decoding, sampling and beam search need: logits, and rows that change places."""

    def next_logits(self, ids: Tensor) -> Tensor:
        """``(R, V)``: scores of the token after ``ids (R, N)``, all tokens so far.

        Between two calls ``ids`` grows on the right; what was there before stays, but for
        ``reorder``.
        """
        ...

    def reorder(self, rows: Tensor) -> None:
        """From now on text r continues the old text ``rows[r]``: a beam that was split in two."""
        ...


class CausalLM(Protocol):
    """What a model must have to be decoded from."""

    config: Any
    training: bool

    @property
    def max_positions(self) -> int: ...
    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def parameters(self) -> Any: ...


class CausalState:
    """A causal model with its cache and the attention mask of all tokens so far.

    Args:
        model: gives logits for ``input_ids``, ``attention_mask`` and ``cache``.
        mask: ``(R, T)``, 1 for the tokens of the prompts and 0 for padding on their left.
        cache: of the same rows, empty or with the beginning of the texts; ``None`` computes
            every token anew at every step.
    """

    def __init__(self, model: CausalLM, mask: Tensor, cache: KVCache | None) -> None:
        self.model = model
        self.mask = mask
        self.cache = cache

    def next_logits(self, ids: Tensor) -> Tensor:
        """As ``DecodingState`` says; only tokens that are not in the cache go through the model."""
        rows, total = ids.shape
        new = self.mask.new_ones(rows, total - self.mask.shape[1])
        self.mask = torch.cat([self.mask, new], dim=1)  # (R, N)
        seen = 0 if self.cache is None else self.cache.length
        output = self.model(
            ids[:, seen:],
            attention_mask=self.mask,
            cache=self.cache,
            use_cache=self.cache is not None,
            last_only=True,
        )
        return output.logits[:, -1]  # (R, V)

    def reorder(self, rows: Tensor) -> None:
        """As ``DecodingState`` says."""
        self.mask = self.mask[rows]
        if self.cache is not None:
            self.cache.reorder(rows)

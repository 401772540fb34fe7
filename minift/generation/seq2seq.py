"""``model.generate`` of an encoder-decoder: a target for each source.

The decoding loop, the samplers and the beams are those of the decoders: only the state differs.
The source is read once; the text that grows is the target.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from minift.generation.cache import KVCache
from minift.generation.decode import continue_texts
from minift.generation.generate import evaluation
from minift.generation.settings import GenerationSettings
from minift.generation.stopping import Decodes


class EncoderDecoder(Protocol):
    """What a model must have to be decoded from."""

    config: Any
    training: bool

    @property
    def start_token_id(self) -> int: ...
    def encode(self, input_ids: Tensor, attention_mask: Tensor | None) -> Any: ...
    def __call__(self, input_ids: Tensor | None, **options: Any) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...
    def parameters(self) -> Any: ...


class Seq2SeqState:
    """An encoder-decoder that has read its sources ``input_ids (B, S)``, and the decoder's cache.

    Rows are texts in the making: one for each source at first, more with beams or samples.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        cache: KVCache | None,
    ) -> None:
        self.model = model
        self.mask = attention_mask
        self.cache = cache
        self.encoded = model.encode(input_ids, attention_mask)

    def next_logits(self, ids: Tensor) -> Tensor:
        """``(R, V)``: scores of the token after the targets ``ids (R, N)``."""
        seen = 0 if self.cache is None else self.cache.length
        output = self.model(
            None,
            attention_mask=self.mask,
            decoder_input_ids=ids[:, seen:],
            encoder_output=self.encoded,
            cache=self.cache,
        )
        return output.logits[:, -1]  # (R, V)

    def reorder(self, rows: Tensor) -> None:
        """From now on text r continues the old text ``rows[r]``."""
        self.mask = None if self.mask is None else self.mask[rows]
        self.encoded.last_hidden_state = self.encoded.last_hidden_state[rows]  # (R, S, C)
        if self.cache is not None:
            self.cache.reorder(rows)


@torch.no_grad()
def generate(
    self: EncoderDecoder,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    use_cache: bool = True,
    tokenizer: Decodes | None = None,
    **options: Any,
) -> Tensor:
    """A target for each source of ``input_ids: (B, S)``; gives ``(B · texts, 1 + new)``.

    Each row begins with the decoder's start token. The same tokens as ``transformers``'
    ``generate``.

    Args:
        attention_mask: ``(B, S)``, 1 for source tokens and 0 for padding, on either side. ``None``:
            ``input_ids != pad_token_id`` if there is such a token, else all ones.
        use_cache: keep keys and values of past tokens instead of computing them anew.
        tokenizer: the model's, for ``stop_strings``.
        options: as for ``minift.generation.generate.generate``.

    Raises:
        InputError: an option that is unknown or has no meaning, a mask of another shape.
    """
    settings = GenerationSettings.read(options, self.config)
    if attention_mask is None:
        attention_mask = _mask(input_ids, self.config.pad_token_id, settings)
    # as long as the longest target with its start token
    cache = KVCache(capacity=1 + settings.max_new_tokens) if use_cache else None
    with evaluation(self):
        state = Seq2SeqState(self, input_ids, attention_mask, cache)
        start = input_ids.new_full((len(input_ids), 1), self.start_token_id)
        return continue_texts(state, start, settings, tokenizer=tokenizer)


def _mask(ids: Tensor, pad: int | None, settings: GenerationSettings) -> Tensor | None:
    """Padding is seen by its token, unless that also ends a text."""
    if pad is None or pad in settings.eos_token_id:
        return None
    return ids.ne(pad).long()

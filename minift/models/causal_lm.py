"""What every causal language model has in common: the head, the shifted loss, generation."""

import sys
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.generation.generate import generate
from minift.layers.loss import next_token_loss
from minift.models.checks import check_labels, refuse_token_types
from minift.models.init import init_weights
from minift.models.output import ModelOutput


class CausalLM(nn.Module):
    """A decoder with its language-modelling head.

    Where ``tie_word_embeddings`` holds, ``lm_head`` is ``None`` and the token embedding is used.
    The families' classes derive from this one; Hugging Face: ``…ForCausalLM``.
    """

    prefix: ClassVar[str] = "model"
    """The attribute that holds the decoder, under Hugging Face's name."""

    def __init__(self, config: Any, decoder: Any) -> None:
        super().__init__()
        self.config = config
        self.add_module(self.prefix, decoder)
        self.lm_head = None
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(decoder.token.embedding_dim, config.vocab_size, bias=False)
            init_weights(self.lm_head, config.initializer_range)

    generate = generate

    @property
    def decoder(self) -> Any:
        """The model without its head."""
        return getattr(self, self.prefix)

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt and new tokens together."""
        return sys.maxsize  # no table of positions that could end

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        use_cache: bool | None = None,
        last_only: bool = False,
        token_type_ids: None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """``logits (B, T, V)`` for ``input_ids (B, T)``.

        Args:
            attention_mask: ``(B, N)``, 1 for tokens and 0 for padding, on either side; positions
                are counted from the first token (Hugging Face's forward does not do that, its
                ``generate`` does).
            labels: ``(B, T)``, as ``input_ids``: position t is compared with label t + 1; −100 is
                ignored.
            cache: of the tokens before these; it is extended in place.
            use_cache: start a cache when none is given; ``None``: in evaluation mode.
            last_only: logits of the last token only, ``(B, 1, V)``, for decoding.

        Raises:
            InputError: ids or labels outside the vocabulary, more tokens than positions, a mask
                of another shape, ``last_only`` with ``labels``, any ``token_type_ids``.
        """
        refuse_token_types(token_type_ids)
        if last_only and labels is not None:
            raise InputError("last_only: True together with labels; right: labels need all logits")
        if cache is None and (not self.training if use_cache is None else use_cache):
            cache = KVCache()
        output: ModelOutput = self.decoder(
            input_ids,
            attention_mask,
            cache=cache,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        x = output.last_hidden_state
        assert x is not None
        output.logits = self.head(x[:, -1:] if last_only else x)
        if labels is not None:
            output.loss = self._loss(output.logits, labels, tuple(input_ids.shape))
        return output

    def head(self, x: Tensor) -> Tensor:
        """``(B, T, C)`` → ``(B, T, V)``."""
        head = self.decoder.token if self.lm_head is None else self.lm_head
        return F.linear(x, head.weight)

    def _loss(self, logits: Tensor, labels: Tensor, shape: tuple[int, ...]) -> Tensor:
        check_labels(labels, shape, self.config.vocab_size)
        return next_token_loss(logits, labels)

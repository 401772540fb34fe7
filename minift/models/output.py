"""What a model returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from minift.generation.cache import KVCache


@dataclass
class ModelOutput:
    """The results of one forward pass; ``None`` where a field does not apply.

    The names are Hugging Face's, but for ``cache`` (theirs: ``past_key_values``).
    """

    logits: Tensor | None = None
    """``(B, T, labels or vocabulary)``, ``(B, labels)`` for whole texts: before the softmax."""
    loss: Tensor | None = None
    """Scalar: mean cross-entropy over the labels that are not −100, or the class's own."""
    seq_relationship_logits: Tensor | None = None
    """``(B, 2)``: BERT's second head in pretraining, "B follows A" first."""
    last_hidden_state: Tensor | None = None
    """``(B, T, hidden)``: the output of the last layer (after the final norm, if there is one)."""
    aux_loss: Tensor | None = None
    """Scalar: how unevenly a mixture of experts is used; 1 · k when evenly."""
    router_logits: tuple[Tensor, ...] | None = None
    """Scores of the experts in each layer, ``(B·T, experts)``."""
    pooler_output: Tensor | None = None
    """``(B, hidden)``: BERT's summary of the first token."""
    cache: "KVCache | None" = None
    """Keys and values of all tokens so far, for the next decoding step."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Embedding output, then each layer's: ``layers + 1`` tensors ``(B, T, hidden)``."""
    attentions: tuple[Tensor, ...] | None = None
    """Attention probabilities of each layer, ``(B, heads, T, N)``."""
    encoder_last_hidden_state: Tensor | None = None
    """``(B, S, hidden)``: an encoder-decoder's output of the encoder."""
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    """An encoder's ``hidden_states``; the field of that name has the decoder's."""
    encoder_attentions: tuple[Tensor, ...] | None = None
    """The same of an encoder-decoder's encoder, ``(B, heads, S, S)``; ``attentions`` has the
    decoder's attention to itself."""
    cross_attentions: tuple[Tensor, ...] | None = None
    """The decoder's attention to the encoder's output, ``(B, heads, T, S)``."""

"""The transformer of 2017: an encoder that reads and a decoder that writes (Vaswani et al. 2017).

    x = √C · token + position                                    encoder, for each layer:
    x = norm(x + attention(x))                                     every word sees every word
    x = norm(x + feed_forward(x))                                decoder, for each layer:
    y = norm(y + attention(y))                                     a word sees those before it
    y = norm(y + attention(y → x))                                 and all of the encoder's output
    y = norm(y + feed_forward(y))
    logits = y · tokenᵀ                                          one table for all three embeddings

The norm comes after each sum ("post-norm") and positions are sines and cosines. B: batch, S: source
tokens, T: new target tokens, N: all target tokens with the cached ones, C: ``d_model``, H: heads,
V: vocabulary. ``torch.nn.Transformer`` is the part between embeddings and logits.
"""

import math
import sys
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.generation.seq2seq import generate
from minift.layers.activation import activation
from minift.layers.feed_forward import FeedForward
from minift.layers.loss import smoothed_cross_entropy
from minift.layers.mask import causal_mask, padding_mask, position_ids
from minift.layers.multi_head import MultiHeadAttention
from minift.layers.sinusoidal import sinusoidal
from minift.models.checks import check_ids, check_inputs, check_labels
from minift.models.config import check_heads, check_positive, check_probability
from minift.models.output import ModelOutput


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and options under the names of ``torch.nn.Transformer``; the defaults are the paper's.

    ``torch.nn.Transformer(dropout=p)`` sets all three dropouts to p and has ``final_norm``, one
    more norm after each stack, which the paper does not have.
    """

    vocab_size: int = 37000
    d_model: int = 512
    nhead: int = 8
    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    dim_feedforward: int = 2048
    activation: str = "relu"
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    layer_norm_eps: float = 1e-5
    final_norm: bool = False
    label_smoothing: float = 0.1
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2

    def __post_init__(self) -> None:
        check_positive(
            self, "vocab_size", "d_model", "nhead", "num_encoder_layers", "num_decoder_layers",
            "dim_feedforward",
        )  # fmt: skip
        check_probability(
            self, "dropout", "attention_dropout", "activation_dropout", "label_smoothing"
        )
        check_heads("d_model", self.d_model, "nhead", self.nhead)
        check_heads("d_model", self.d_model, "pairs of a sine and a cosine", 2)
        activation(self.activation)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            if not 0 <= getattr(self, name) < self.vocab_size:
                raise InputError(
                    f"config: {name}={getattr(self, name)}; "
                    f"right: from 0 to {self.vocab_size - 1}, below vocab_size"
                )


class ResidualAttention(MultiHeadAttention):
    """``norm(x + dropout(attention(x)))``: attention with its residual and its norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.d_model, config.nhead, dropout_p=config.attention_dropout)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        want_probabilities: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        y, probabilities = super().forward(x, keys_values, mask, want_probabilities)
        return self.norm(x + self.dropout(y)), probabilities


class EncoderLayer(nn.Module):
    """Self-attention, then ``norm(x + feed_forward(x))``."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention = ResidualAttention(config)
        self.feed_forward = feed_forward(config)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor | None, want_probabilities: bool
    ) -> tuple[Tensor, Tensor | None]:
        x, probabilities = self.attention(x, None, mask, want_probabilities)
        return self.norm(x + self.feed_forward(x)), probabilities


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoder's output, then feed-forward."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention = ResidualAttention(config)
        self.cross_attention = ResidualAttention(config)
        self.feed_forward = feed_forward(config)
        self.norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        memory: Tensor,
        memory_mask: Tensor | None,
        cache: KVCache | None,
        want_probabilities: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        keys_values = self.attention.keys_values(x)  # (B, H, T, D) each
        if cache is not None:
            keys_values = cache.update(self.layer, *keys_values)  # (B, H, N, D)
        x, own = self.attention(x, keys_values, mask, want_probabilities)
        from_memory = self._memory(memory, cache)
        x, cross = self.cross_attention(x, from_memory, memory_mask, want_probabilities)
        return self.norm(x + self.feed_forward(x)), own, cross

    def _memory(self, memory: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of the encoder's output: the same at every step, so kept."""
        kept = None if cache is None else cache.cross(self.layer)
        if kept is not None:
            return kept
        k, v = self.cross_attention.keys_values(memory)  # (B, H, S, D)
        if cache is not None:
            cache.set_cross(self.layer, k, v)
        return k, v


def feed_forward(config: TransformerConfig) -> FeedForward:
    """A layer's feed-forward part, as the config has it."""
    return FeedForward(
        config.d_model,
        config.dim_feedforward,
        config.activation,
        config.dropout,
        config.activation_dropout,
    )


class Transformer(nn.Module):
    """The encoder-decoder with its embedding and head: source and target ids → logits."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_encoder_layers))
        self.decoder = nn.ModuleList(
            DecoderLayer(config, i) for i in range(config.num_decoder_layers)
        )
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(config.d_model, eps=config.layer_norm_eps) if config.final_norm else None
            for _ in range(2)
        )
        self.apply(self._start)

    generate = generate

    @property
    def start_token_id(self) -> int:
        """What every target begins with."""
        return self.config.bos_token_id

    def _start(self, module: nn.Module) -> None:
        """Matrices as Glorot & Bengio 2010; embeddings so that √C times them has deviation 1."""
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.d_model**-0.5)

    def forward(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_output: ModelOutput | None = None,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """``logits (B, T, V)`` for the source ``input_ids (B, S)`` and a target.

        Args:
            attention_mask: ``(B, S)``, 1 for tokens and 0 for padding, on either side.
            labels: ``(B, T)``, the target; −100 is ignored. The loss is label-smoothed.
            cache: of the target tokens before these; it is extended in place.
            decoder_input_ids: ``(B, T)``, what the decoder reads; ``None``: the labels, one place
                to the right, after ``bos_token_id``.
            decoder_attention_mask: ``(B, N)``, 1 for target tokens, cached ones included.
            encoder_output: from ``encode``, so that many decoding steps read the source once;
                ``input_ids`` may be ``None`` then.

        Raises:
            InputError: ids or labels outside the vocabulary, a mask of another shape, no source or
                no target.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise InputError("decoder_input_ids: None; right: a target, here or in labels")
            decoder_input_ids = self.shifted(labels)
        if encoder_output is None:
            if input_ids is None:
                raise InputError("input_ids: None; right: a source, here or in encoder_output")
            encoder_output = self.encode(input_ids, attention_mask, output_attentions)
        memory = encoder_output.last_hidden_state
        assert memory is not None
        output = self._decode(
            decoder_input_ids,
            decoder_attention_mask,
            memory,
            padding_mask(attention_mask),  # (B, 1, 1, S)
            cache,
            output_attentions,
        )
        output.encoder_last_hidden_state = memory  # (B, S, C)
        output.encoder_attentions = encoder_output.attentions
        assert output.last_hidden_state is not None
        output.logits = F.linear(output.last_hidden_state, self.token.weight)  # (B, T, V)
        if labels is not None:
            check_labels(labels, tuple(decoder_input_ids.shape), self.config.vocab_size)
            output.loss = smoothed_cross_entropy(output.logits, labels, self.config.label_smoothing)
        return output

    def shifted(self, labels: Tensor) -> Tensor:
        """What the decoder reads to predict ``labels (B, T)``: BOS, then all but the last."""
        ids = F.pad(labels, (1, 0), value=self.config.bos_token_id)[:, :-1]  # (B, T)
        return ids.masked_fill(ids == -100, self.config.pad_token_id)

    def encode(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """The encoder alone: ``input_ids (B, S)`` → ``last_hidden_state (B, S, C)``."""
        vocab = self.config.vocab_size
        check_inputs(input_ids, attention_mask, vocab_size=vocab, max_positions=sys.maxsize)
        mask, attentions = padding_mask(attention_mask), []  # (B, 1, 1, S)
        x = self._embed(input_ids, mask, 0)  # (B, S, C)
        for layer in self.encoder:
            x, probabilities = layer(x, mask, output_attentions)
            attentions.append(probabilities)
        return ModelOutput(
            last_hidden_state=x if self.encoder_norm is None else self.encoder_norm(x),
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _decode(
        self,
        ids: Tensor,
        attention_mask: Tensor | None,
        memory: Tensor,
        memory_mask: Tensor | None,
        cache: KVCache | None,
        want: bool,
    ) -> ModelOutput:
        past = 0 if cache is None else cache.length
        self._check_target(ids, attention_mask, past)
        padding = padding_mask(attention_mask)  # (B, 1, 1, N)
        x = self._embed(ids, padding, past)  # (B, T, C)
        mask = causal_mask(ids.shape[1], past + ids.shape[1], ids.device)  # (T, N)
        if padding is not None:
            mask = padding & mask  # (B, 1, T, N)
        maps: list[tuple[Tensor, Tensor]] = []
        for layer in self.decoder:
            x, *both = layer(x, mask, memory, memory_mask, cache, want)
            maps.append((both[0], both[1]))
        if cache is not None:
            cache.advance(ids.shape[1])
        return ModelOutput(
            last_hidden_state=x if self.decoder_norm is None else self.decoder_norm(x),
            cache=cache,
            attentions=tuple(own for own, _ in maps) if want else None,
            cross_attentions=tuple(cross for _, cross in maps) if want else None,
        )

    def _embed(self, ids: Tensor, padding: Tensor | None, past: int) -> Tensor:
        """``dropout(√C · token + position)``; the first token is at position 0."""
        width, new = self.config.d_model, ids.shape[1]
        places = position_ids(padding, past + new, new, ids.device)  # (1 or B, T)
        x = self.token(ids) * math.sqrt(width)  # (B, T, C)
        return self.dropout(x + sinusoidal(places, width).to(x.dtype))

    def _check_target(self, ids: Tensor, mask: Tensor | None, past: int) -> None:
        check_ids("decoder_input_ids", ids, self.config.vocab_size, "vocab_size")
        wanted = (ids.shape[0], past + ids.shape[1])
        if mask is not None and mask.shape != wanted:
            raise InputError(
                f"decoder_attention_mask: shape {tuple(mask.shape)}; right: {wanted}, "
                "one entry for each token (cached ones included)"
            )

"""BERT: a bidirectional transformer encoder (Devlin et al. 2019, arXiv:1810.04805).

    x  = norm(word + token type + position)
    x  = norm(x + attention(x))        for each layer; "post-norm": the norm comes after
    x  = norm(x + feed_forward(x))

Every operation is the one that Hugging Face's ``BertModel`` does, in the same order, so that the
numbers (dropout from the same seed included) are the same. B: batch, T: tokens, C: hidden size,
H: heads, D = C / H. What the encoder is trained for stands on top of it, in
:mod:`minift.models.bert_heads`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.layers.activation import activation
from minift.layers.attention import attention, eager_attention, merge_heads, split_heads
from minift.layers.feed_forward import FeedForward
from minift.layers.mask import padding_mask
from minift.models.checks import check_ids, check_inputs
from minift.models.config import (
    check_deviation,
    check_heads,
    check_positive,
    check_probability,
    read_config,
    read_labels,
    with_label_ids,
)
from minift.models.init import init_weights
from minift.models.losses import check_problem_type
from minift.models.output import ModelOutput


@dataclass(frozen=True)
class BertConfig:
    """The sizes and options of a BERT, under Hugging Face's names."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    tie_word_embeddings: bool = True
    problem_type: str | None = None
    id2label: dict[int, str] | None = None

    model_type: ClassVar[str] = "bert"
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
    }

    def __post_init__(self) -> None:
        check_positive(
            self, "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "intermediate_size", "max_position_embeddings", "type_vocab_size",
        )  # fmt: skip
        check_probability(
            self, "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"
        )
        check_heads(
            "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
        )
        check_deviation(self)
        check_problem_type(self.problem_type)
        activation(self.hidden_act)
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise InputError(
                f"config: pad_token_id={self.pad_token_id}; "
                f"right: below vocab_size {self.vocab_size}, or null"
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "BertConfig":
        """From the content of a ``config.json``; InputError for what is not supported."""
        return read_config(cls, {**data, "id2label": read_labels(data)}, cls.FIXED)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json``, without ``architectures`` and ``dtype``."""
        return with_label_ids({"model_type": self.model_type, **asdict(self)})


class BertEmbeddings(nn.Module):
    """``dropout(norm(word + token type + position))``: ids ``(B, T)`` → ``(B, T, C)``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.word = nn.Embedding(config.vocab_size, hidden, padding_idx=config.pad_token_id)
        self.position = nn.Embedding(config.max_position_embeddings, hidden)
        self.token_type = nn.Embedding(config.type_vocab_size, hidden)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        x = self.word(input_ids) + self.token_type(token_type_ids)  # (B, T, C)
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)[None]  # (1, T)
        x = x + self.position(positions)
        return self.dropout(self.norm(x))


class BertAttention(nn.Module):
    """``norm(x + dropout(W_o · heads))``: multi-head self-attention with its residual."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.dropout_p = config.attention_probs_dropout_prob
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, x: Tensor, mask: Tensor | None, want_probabilities: bool
    ) -> tuple[Tensor, Tensor | None]:
        q = split_heads(self.query(x), self.heads)  # (B, H, T, D)
        k = split_heads(self.key(x), self.heads)
        v = split_heads(self.value(x), self.heads)
        dropout_p = self.dropout_p if self.training else 0.0
        probabilities = None  # (B, H, T, T)
        if want_probabilities:
            y, probabilities = eager_attention(q, k, v, mask=mask, dropout_p=dropout_p)
        else:
            y = attention(q, k, v, mask=mask, dropout_p=dropout_p)
        y = self.dropout(self.output(merge_heads(y)))  # (B, T, C)
        return self.norm(y + x), probabilities


class BertLayer(nn.Module):
    """Attention, then ``norm(x + feed_forward(x))``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = BertAttention(config)
        self.feed_forward = FeedForward(
            config.hidden_size,
            config.intermediate_size,
            config.hidden_act,
            config.hidden_dropout_prob,
        )
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor | None, want_probabilities: bool
    ) -> tuple[Tensor, Tensor | None]:
        x, probabilities = self.attention(x, mask, want_probabilities)
        return self.norm(self.feed_forward(x) + x), probabilities


class BertModel(nn.Module):
    """The encoder, and the pooler ``tanh(W · first token)`` unless ``pooling`` is False.

    Hugging Face's counterpart has the same name; ``pooling`` is its ``add_pooling_layer``.
    """

    def __init__(self, config: BertConfig, pooling: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = BertEmbeddings(config)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if pooling else None
        self.apply(lambda module: init_weights(module, config.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Encode ``input_ids: (B, T)``; ``attention_mask`` is 1 for tokens and 0 for padding.

        Returns:
            ``last_hidden_state (B, T, C)``, ``pooler_output (B, C)``, and on request every
            layer's ``hidden_states`` and ``attentions`` (computed by the eager formula).

        Raises:
            InputError: ids outside the vocabulary, more tokens than positions, a mask of
                another shape.
        """
        self._check(input_ids, attention_mask, token_type_ids)
        mask = padding_mask(attention_mask)  # (B, 1, 1, T)
        x = self.embeddings(input_ids, token_type_ids)  # (B, T, C)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = layer(x, mask, output_attentions)
            hidden_states.append(x)
            attentions.append(probabilities)
        return ModelOutput(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else torch.tanh(self.pooler(x[:, 0])),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _check(self, ids: Tensor, mask: Tensor | None, types: Tensor | None) -> None:
        config = self.config
        check_inputs(
            ids,
            mask,
            vocab_size=config.vocab_size,
            max_positions=config.max_position_embeddings,
        )
        if types is not None:
            if types.shape != ids.shape:
                raise InputError(
                    f"token_type_ids: shape {tuple(types.shape)}; "
                    f"right: {tuple(ids.shape)}, as input_ids"
                )
            check_ids("token_type_ids", types, config.type_vocab_size, "type_vocab_size")

"""GPT-2: a causal transformer decoder (Radford et al. 2019).

    x = token + position
    x = x + attention(norm(x))         for each layer; "pre-norm": the norm comes before
    x = x + feed_forward(norm(x))
    logits = norm(x) · tokenᵀ          the head is the token embedding again ("tied")

B: batch, T: new tokens, N: all tokens with the cached ones, C: hidden size, H: heads, D = C / H,
V: vocabulary. Hugging Face stores the products' weights as (in, out); here they are ordinary
``nn.Linear`` weights, (out, in), and turned on the way in and out.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from minift.generation.cache import KVCache
from minift.layers.activation import activation
from minift.layers.attention import attention, eager_attention, merge_heads, split_heads
from minift.layers.feed_forward import FeedForward
from minift.layers.mask import causal_mask, padding_mask, position_ids
from minift.models.causal_lm import CausalLM
from minift.models.checks import check_inputs
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
class GPT2Config:
    """The sizes and options of a GPT-2, under Hugging Face's names."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    problem_type: str | None = None
    id2label: dict[int, str] | None = None

    model_type: ClassVar[str] = "gpt2"
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "add_cross_attention": (False,),
        "reorder_and_upcast_attn": (False,),
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
    }

    def __post_init__(self) -> None:
        check_positive(self, "vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "inner")
        check_probability(self, "resid_pdrop", "embd_pdrop", "attn_pdrop")
        check_heads("n_embd", self.n_embd, "n_head", self.n_head)
        check_deviation(self)
        check_problem_type(self.problem_type)
        activation(self.activation_function)

    @property
    def inner(self) -> int:
        """The feed-forward width: ``n_inner``, or four times the hidden size."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GPT2Config":
        """From the content of a ``config.json``; InputError for what is not supported."""
        return read_config(cls, {**data, "id2label": read_labels(data)}, cls.FIXED)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json``, without ``architectures`` and ``dtype``."""
        return with_label_ids({"model_type": self.model_type, **asdict(self)})


class GPT2Attention(nn.Module):
    """Causal multi-head self-attention; ``qkv`` is one product for queries, keys and values."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.heads = config.n_head
        self.dropout_p = config.attn_pdrop
        self.scale = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.output = nn.Linear(config.n_embd, config.n_embd)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: KVCache | None, want_probabilities: bool
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        if cache is not None:
            k, v = cache.update(self.layer, k, v)  # (B, H, N, D)
        dropout_p = self.dropout_p if self.training else 0.0
        # a mask, where there is one, holds the causal part already
        options: dict[str, Any] = {"mask": mask, "causal": mask is None, "scale": self.scale}
        probabilities = None  # (B, H, T, N)
        if want_probabilities:
            y, probabilities = eager_attention(q, k, v, dropout_p=dropout_p, **options)
        else:
            y = attention(q, k, v, dropout_p=dropout_p, **options)
        return self.dropout(self.output(merge_heads(y))), probabilities


class GPT2Layer(nn.Module):
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attention = GPT2Attention(config, layer)
        self.norm_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.feed_forward = FeedForward(
            config.n_embd, config.inner, config.activation_function, config.resid_pdrop
        )

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: KVCache | None, want_probabilities: bool
    ) -> tuple[Tensor, Tensor | None]:
        y, probabilities = self.attention(self.norm_1(x), mask, cache, want_probabilities)
        x = y + x
        return x + self.feed_forward(self.norm_2(x)), probabilities


class GPT2Model(nn.Module):
    """The decoder without a head: ids ``(B, T)`` → ``last_hidden_state (B, T, C)``.

    Hugging Face's counterpart has the same name.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocab_size, config.n_embd)
        self.position = nn.Embedding(config.n_positions, config.n_embd)
        self.dropout = nn.Dropout(config.embd_pdrop)
        self.layers = nn.ModuleList(GPT2Layer(config, i) for i in range(config.n_layer))
        self.norm = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        """As BERT, but products that add to the residual start smaller (paper, section 2.3)."""
        std = self.config.initializer_range
        init_weights(module, std)
        if isinstance(module, GPT2Layer):
            for product in (module.attention.output, module.feed_forward.down):
                init_weights(product, std / math.sqrt(2 * self.config.n_layer))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Masks, positions and errors as ``GPT2LMHeadModel``'s; ``cache`` is extended in place."""
        past = 0 if cache is None else cache.length
        self._check(input_ids, attention_mask, past)
        new = input_ids.shape[1]
        padding = padding_mask(attention_mask)  # (B, 1, 1, N)
        mask = None
        if padding is not None:
            mask = padding & causal_mask(new, past + new, input_ids.device)  # (B, 1, T, N)
        positions = position_ids(padding, past + new, new, input_ids.device)  # (1 or B, T)
        x = self.dropout(self.token(input_ids) + self.position(positions))  # (B, T, C)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = layer(x, mask, cache, output_attentions)
            hidden_states.append(x)
            attentions.append(probabilities)
        if cache is not None:
            cache.advance(new)
        hidden_states[-1] = self.norm(x)
        return ModelOutput(
            last_hidden_state=hidden_states[-1],
            cache=cache,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _check(self, ids: Tensor, mask: Tensor | None, past: int) -> None:
        config = self.config
        check_inputs(
            ids, mask, vocab_size=config.vocab_size, max_positions=config.n_positions, past=past
        )


class GPT2LMHeadModel(CausalLM):
    """The decoder with its language-modelling head; Hugging Face's class has the same name."""

    prefix = "transformer"

    def __init__(self, config: GPT2Config) -> None:
        super().__init__(config, GPT2Model(config))

    @property
    def max_positions(self) -> int:
        """The longest sequence, prompt and new tokens together."""
        return int(self.config.n_positions)

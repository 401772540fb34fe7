"""T5's two stacks of layers, and what their layers are made of.

    encoder:  x = x + attention(norm(x))              each token sees the whole input
              x = x + feed_forward(norm(x))
    decoder:  y = y + attention(norm(y))              each token sees itself and those before
              y = y + attention(norm(y), x)           "cross": queries from y, keys from x
              y = y + feed_forward(norm(y))

B: batch, S: source tokens, T: new tokens, N: all tokens with the cached ones, C: hidden size,
H: heads, D: size of a head.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.layers.activation import activation
from minift.layers.attention import attention, eager_attention, merge_heads, split_heads
from minift.layers.feed_forward import FeedForward, GatedFeedForward
from minift.layers.norm import RMSNorm
from minift.layers.relative import RelativeBias
from minift.models.config import check_positive, check_probability, read_config


@dataclass(frozen=True)
class T5Config:
    """The sizes and options of a T5, under Hugging Face's names."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    dropout_rate: float = 0.1
    layer_norm_epsilon: float = 1e-6
    initializer_factor: float = 1.0
    feed_forward_proj: str = "relu"
    tie_word_embeddings: bool = True
    scale_decoder_outputs: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    decoder_start_token_id: int | None = 0

    model_type: ClassVar[str] = "t5"
    is_encoder_decoder: ClassVar[bool] = True
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "is_encoder_decoder": (True,),
        "is_decoder": (False,),
        "quantization_config": (None,),
    }

    def __post_init__(self) -> None:
        check_positive(
            self, "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "decoder_layers",
            "num_heads", "relative_attention_num_buckets", "relative_attention_max_distance",
        )  # fmt: skip
        check_probability(self, "dropout_rate")
        buckets, far = self.relative_attention_num_buckets, self.relative_attention_max_distance
        if buckets < 4 or buckets % 2 or far <= buckets // 2:
            raise InputError(
                f"config: relative_attention_num_buckets={buckets} for a max_distance of {far}; "
                "right: even, at least 4, and at most twice the distance less one"
            )
        if self.pad_token_id is None or self.decoder_start_token_id is None:
            raise InputError(
                f"config: pad_token_id={self.pad_token_id}, decoder_start_token_id="
                f"{self.decoder_start_token_id}; right: numbers, the decoder begins with them"
            )
        self.act  # noqa: B018  (refuses unknown names)

    @property
    def decoder_layers(self) -> int:
        """As many as in the encoder where a config does not say."""
        return self.num_decoder_layers or self.num_layers

    @property
    def is_gated(self) -> bool:
        """Whether the feed-forward network has a gate (version 1.1)."""
        return self.feed_forward_proj.startswith("gated-")

    @property
    def act(self) -> str:
        """The activation: "gated-gelu" means GELU's tanh approximation, for history's sake."""
        name = self.feed_forward_proj.removeprefix("gated-")
        name = "gelu_new" if self.feed_forward_proj == "gated-gelu" else name
        activation(name)
        return name

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "T5Config":
        """From the content of a ``config.json``; InputError for what is not supported.

        Old files say ``tie_word_embeddings: false`` and mean by it that the logits are not
        scaled, too. ``decoder_start_token_id`` is the padding where a file does not say.
        """
        start = {"decoder_start_token_id": data.get("pad_token_id", cls.pad_token_id)}
        scale = {"scale_decoder_outputs": data.get("tie_word_embeddings", True)}
        return read_config(cls, {**start, **scale, **data}, cls.FIXED)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json``, without ``architectures`` and ``dtype``."""
        data = {"model_type": self.model_type, "is_encoder_decoder": True, **asdict(self)}
        return {**data, "num_decoder_layers": self.decoder_layers}


@dataclass
class Passing:
    """What goes through all layers of a stack besides the hidden states."""

    mask: Tensor | None
    bias: Tensor
    cache: KVCache | None = None
    source: Tensor | None = None
    """The encoder's output ``(B, S, C)``; ``None`` in the encoder."""
    source_mask: Tensor | None = None
    attentions: list[Tensor] | None = None
    cross_attentions: list[Tensor] | None = None


class T5Attention(nn.Module):
    """Multi-head attention with unscaled scores: over its own tokens, or over the source's."""

    def __init__(self, config: T5Config, layer: int, cross: bool) -> None:
        super().__init__()
        self.layer, self.cross = layer, cross
        self.heads = config.num_heads
        self.dropout_p = config.dropout_rate
        inner = config.num_heads * config.d_kv
        self.q = nn.Linear(config.d_model, inner, bias=False)
        self.k = nn.Linear(config.d_model, inner, bias=False)
        self.v = nn.Linear(config.d_model, inner, bias=False)
        self.output = nn.Linear(inner, config.d_model, bias=False)

    def forward(self, x: Tensor, passing: Passing) -> Tensor:
        q = split_heads(self.q(x), self.heads)  # (B, H, T, D)
        k, v = self._cross(passing) if self.cross else self._own(x, passing.cache)
        mask, bias = (passing.source_mask, None) if self.cross else (passing.mask, passing.bias)
        record = passing.cross_attentions if self.cross else passing.attentions
        dropout_p = self.dropout_p if self.training else 0.0
        options: dict[str, Any] = {"mask": mask, "bias": bias, "scale": 1.0}
        if record is None:
            y = attention(q, k, v, dropout_p=dropout_p, **options)
        else:
            y, probabilities = eager_attention(q, k, v, dropout_p=dropout_p, **options)
            record.append(probabilities)
        return self.output(merge_heads(y))

    def _own(self, x: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        k, v = (split_heads(product(x), self.heads) for product in (self.k, self.v))
        return (k, v) if cache is None else cache.update(self.layer, k, v)  # (B, H, N, D)

    def _cross(self, passing: Passing) -> tuple[Tensor, Tensor]:
        """Keys and values of the source ``(B, H, S, D)``, made in the first step alone."""
        held = None if passing.cache is None else passing.cache.cross(self.layer)
        if held is None:
            assert passing.source is not None
            k, v = (split_heads(p(passing.source), self.heads) for p in (self.k, self.v))
            held = k, v
            if passing.cache is not None:
                passing.cache.set_cross(self.layer, k, v)
        return held


class T5Layer(nn.Module):
    """``x + attention(norm(x))``, in a decoder the same over the source, ``x + ff(norm(x))``."""

    def __init__(self, config: T5Config, layer: int, decoder: bool) -> None:
        super().__init__()
        hidden, eps = config.d_model, config.layer_norm_epsilon
        self.norm_1 = RMSNorm(hidden, eps)
        self.attention = T5Attention(config, layer, cross=False)
        self.norm_cross = RMSNorm(hidden, eps) if decoder else None
        self.cross_attention = T5Attention(config, layer, cross=True) if decoder else None
        self.norm_2 = RMSNorm(hidden, eps)
        network: type[nn.Module] = GatedFeedForward if config.is_gated else FeedForward
        # two names, because what they call ``up`` has two names on the other side
        self.network = "gated_feed_forward" if config.is_gated else "feed_forward"
        options = {"inner_dropout": config.dropout_rate, "bias": False}
        self.add_module(self.network, network(hidden, config.d_ff, config.act, **options))
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor, passing: Passing) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), passing))
        if self.cross_attention is not None and self.norm_cross is not None:
            x = x + self.dropout(self.cross_attention(self.norm_cross(x), passing))
        return x + self.dropout(getattr(self, self.network)(self.norm_2(x)))


class T5Stack(nn.Module):
    """The layers of the encoder or the decoder, with their bias of positions and last norm."""

    def __init__(self, config: T5Config, decoder: bool) -> None:
        super().__init__()
        count = config.decoder_layers if decoder else config.num_layers
        self.relative_bias = RelativeBias(
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
            config.num_heads,
            bidirectional=not decoder,
        )
        self.layers = nn.ModuleList(T5Layer(config, i, decoder) for i in range(count))
        self.norm = RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout_rate)

    def forward(self, x: Tensor, passing: Passing) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The output ``(B, T, C)``, and the hidden states before each layer and at the end."""
        x = self.dropout(x)
        hidden_states = [x]
        for layer in self.layers:
            x = layer(x, passing)
            hidden_states.append(x)
        hidden_states[-1] = self.dropout(self.norm(x))
        return hidden_states[-1], tuple(hidden_states)

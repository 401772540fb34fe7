"""Gemma 2 and the text part of Gemma 3.

    x = token · √C
    x = x + norm(attention(norm(x)))              for each layer: a norm before and one after
    x = x + norm(W_down (gelu(W_gate norm(x)) ⊙ W_up norm(x)))
    logits = norm(x) · tokenᵀ                     Gemma 2: kept between ±30 by a tanh

Gemma team 2024 (arXiv:2408.00118) and 2025 (arXiv:2503.19786). Beside Llama: every norm's factor is
1 + w; the head is the token embedding; most layers see a sliding window only ("local"), Gemma 2's
every second and Gemma 3's every sixth all tokens ("global"). Gemma 2 keeps attention scores between
±50 as well. Gemma 3 normalises queries and keys instead, and gives the global layers a rotation of
their own, with a larger base.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.layers.activation import activation
from minift.layers.feed_forward import GatedFeedForward
from minift.layers.norm import RMSNorm
from minift.layers.rotary import Rope, read_rope_parameters
from minift.models.causal_lm import CausalLM
from minift.models.decoder import Decoder, GroupedAttention, Run
from minift.models.decoder_config import FULL, SLIDING, DecoderConfig
from minift.models.family import Family
from minift.models.llama import ATTENTION_NAMES, FEED_FORWARD_NAMES

HF_CLASSES = {"gemma2": "Gemma2ForCausalLM", "gemma3_text": "Gemma3ForCausalLM"}
PATTERN = {"gemma2": 2, "gemma3_text": 6}  # every so manieth layer is a global one
OPTIONS = (
    "head_dim", "hidden_activation", "attention_bias", "query_pre_attn_scalar", "sliding_window",
    "layer_types", "final_logit_softcapping", "attn_logit_softcapping",
)  # fmt: skip


@dataclass(frozen=True)
class GemmaConfig(DecoderConfig):
    """The sizes and options of a Gemma 2 or 3; the defaults are Gemma 2's.

    ``attn_logit_softcapping`` does nothing in Gemma 3, as in transformers. Gemma 3's
    ``rope_parameters`` has one entry for each kind of layer.
    """

    model_type: str = "gemma2"
    vocab_size: int = 256000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int | None = 4
    head_dim: int | None = 256
    max_position_embeddings: int = 8192
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1
    pad_token_id: int | None = 0
    sliding_window: int | None = 4096
    hidden_activation: str = "gelu_pytorch_tanh"
    attention_bias: bool = False
    query_pre_attn_scalar: int = 256
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0

    OWN: ClassVar[dict[str, tuple[str, ...]]] = dict.fromkeys(HF_CLASSES, OPTIONS)
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "gemma3_text": {
            "vocab_size": 262208, "max_position_embeddings": 131072,
            "final_logit_softcapping": None, "attn_logit_softcapping": None,
        }
    }  # fmt: skip
    THETAS: ClassVar[dict[str, float]] = {FULL: 1e6, SLIDING: 1e4}  # Gemma 3's bases
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        **DecoderConfig.FIXED,
        "use_bidirectional_attention": (False, None),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_activation)
        for name in ("query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"config: {name}={value}; right: above 0")
        self.rope(SLIDING)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Local layers, and after every one or five of them a global one."""
        if self.layer_types is not None:
            return super().kinds
        return _alternating(self.num_hidden_layers, PATTERN[self.model_type])

    def rope(self, kind: str) -> Rope:
        """Gemma 3's local and global layers have their own."""
        if self.model_type == "gemma2":
            return super().rope(kind)
        parameters = self.rope_parameters or self.read_rope({"model_type": self.model_type})
        return Rope.from_parameters(parameters[kind], self.head_size, self.max_position_embeddings)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "GemmaConfig":
        """As the others; an older Gemma 3 has ``sliding_window_pattern`` for ``layer_types``."""
        pattern, layers = data.get("sliding_window_pattern"), data.get("num_hidden_layers", 26)
        if data.get("layer_types") is None and isinstance(pattern, int) and pattern > 0:
            data = {**data, "layer_types": list(_alternating(layers, pattern))}
        return super().from_dict(data)

    @classmethod
    def read_rope(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """Gemma 3's two, from today's layout or from ``rope_theta``, ``rope_local_base_freq`` and
        ``rope_scaling`` (of the global layers)."""
        if data.get("model_type") != "gemma3_text":
            return super().read_rope(data)
        given = data.get("rope_parameters") or {}
        if not isinstance(given, Mapping) or given.keys() - {FULL, SLIDING}:
            raise InputError(
                f"config: rope_parameters={given!r}; right: {FULL} and {SLIDING}, each with "
                "{rope_type, rope_theta, …}"
            )
        scaling, bases = data.get("rope_scaling") or {}, ("rope_theta", "rope_local_base_freq")
        nested = {}
        for kind, base in zip((FULL, SLIDING), bases, strict=True):
            flat = {**(given.get(kind) or {}), **(scaling if kind == FULL else {})}
            theta = data.get(base, cls.THETAS[kind])
            nested[kind] = read_rope_parameters({"rope_parameters": flat}, theta)
        return nested


def _alternating(layers: int, pattern: int) -> tuple[str, ...]:
    return tuple(FULL if (i + 1) % pattern == 0 else SLIDING for i in range(layers))


class GemmaLayer(nn.Module):
    """``x + norm(attention(norm(x)))``, then ``x + norm(feed_forward(norm(x)))``."""

    def __init__(self, config: GemmaConfig, layer: int) -> None:
        super().__init__()
        is_second = config.model_type == "gemma2"
        norm = partial(RMSNorm, eps=config.rms_norm_eps, unit_offset=True)
        self.norm_1 = norm(config.hidden_size)
        self.attention = GroupedAttention(
            config,
            layer,
            bias=config.attention_bias,
            output_bias=config.attention_bias,
            norm=None if is_second else partial(norm, config.head_size),
            scale=config.query_pre_attn_scalar**-0.5,
            softcap=config.attn_logit_softcapping if is_second else None,
        )
        self.norm_after_1 = norm(config.hidden_size)
        self.norm_2 = norm(config.hidden_size)
        self.feed_forward = GatedFeedForward(
            config.hidden_size, config.intermediate_size, config.hidden_activation
        )
        self.norm_after_2 = norm(config.hidden_size)

    def forward(self, x: Tensor, run: Run) -> Tensor:
        y = self.attention(self.norm_1(x), run)
        x = x + self.norm_after_1(y)
        return x + self.norm_after_2(self.feed_forward(self.norm_2(x)))


class GemmaForCausalLM(CausalLM):
    """The decoder with its language-modelling head.

    Hugging Face: ``Gemma2ForCausalLM`` or ``Gemma3ForCausalLM``, as ``model_type`` says.
    """

    def __init__(self, config: GemmaConfig) -> None:
        layers = (GemmaLayer(config, i) for i in range(config.num_hidden_layers))
        norm = RMSNorm(config.hidden_size, config.rms_norm_eps, unit_offset=True)
        decoder = Decoder(config, layers, norm, embedding_scale=config.hidden_size**0.5)
        super().__init__(config, decoder)

    @property
    def hf_class(self) -> str:
        """The counterpart's name."""
        return HF_CLASSES[self.config.model_type]

    def head(self, x: Tensor) -> Tensor:
        """``(B, T, C)`` → ``(B, T, V)``, between ±cap where there is one: ``c · tanh(y / c)``."""
        logits, cap = super().head(x), self.config.final_logit_softcapping
        return logits if cap is None else torch.tanh(logits / cap) * cap


NORM_NAMES = {
    "layers.{i}.norm_after_1": "layers.{i}.post_attention_layernorm",
    "layers.{i}.norm_2": "layers.{i}.pre_feedforward_layernorm",
    "layers.{i}.norm_after_2": "layers.{i}.post_feedforward_layernorm",
}
FAMILY = Family(
    config=GemmaConfig,
    model_types=tuple(HF_CLASSES),
    prefix=GemmaForCausalLM.prefix,
    classes=dict.fromkeys(HF_CLASSES.values(), GemmaForCausalLM),
    tasks={"causal-lm": GemmaForCausalLM},
    names=ATTENTION_NAMES | FEED_FORWARD_NAMES | NORM_NAMES,
    heads=(r"score\..*",),
    tied={"lm_head.weight": "model.token.weight"},
)

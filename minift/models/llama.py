"""Llama and the decoders built like it: Llama 2 and 3, SmolLM2, Mistral, Qwen2, Qwen3.

    x = token
    x = x + attention(norm(x))         for each layer; grouped heads, rotary positions
    x = x + W_down (silu(W_gate norm(x)) ⊙ W_up norm(x))
    logits = norm(x) · headᵀ

Touvron et al. 2023 (arXiv:2302.13971 and 2307.09288). What the relatives change:

    mistral    every layer sees a sliding window of tokens (Jiang et al. 2023, arXiv:2310.06825)
    qwen2      a bias in the products for q, k and v; a window in the upper layers, if wanted
    qwen3      queries and keys are normalised over each head; D is free of C / H
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from minift.layers.activation import activation
from minift.layers.feed_forward import GatedFeedForward
from minift.layers.norm import RMSNorm
from minift.models.causal_lm import CausalLM
from minift.models.decoder import Decoder, GroupedAttention, Run
from minift.models.decoder_config import FULL, SLIDING, DecoderConfig
from minift.models.family import Family

HF_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
WINDOWED = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
NO_ENDS = {"bos_token_id": None, "eos_token_id": None}
QWEN = {
    "vocab_size": 151936, "intermediate_size": 22016, "num_key_value_heads": 32,
    "max_position_embeddings": 32768, "sliding_window": 4096, **NO_ENDS,
}  # fmt: skip


@dataclass(frozen=True)
class LlamaConfig(DecoderConfig):
    """The sizes and options of a Llama or a relative; the defaults are Llama 2's."""

    model_type: str = "llama"
    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    use_sliding_window: bool = False
    max_window_layers: int = 28

    OWN: ClassVar[dict[str, tuple[str, ...]]] = {
        "llama": ("head_dim", "hidden_act", "attention_bias", "mlp_bias"),
        "mistral": ("head_dim", "hidden_act", "sliding_window"),
        "qwen2": ("hidden_act", *WINDOWED),
        "qwen3": ("head_dim", "hidden_act", "attention_bias", *WINDOWED),
    }
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {
        "mistral": {
            "intermediate_size": 14336, "num_key_value_heads": 8,
            "max_position_embeddings": 131072, "sliding_window": 4096,
        },
        "qwen2": QWEN,
        "qwen3": {**QWEN, "head_dim": 128},
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)

    @property
    def window(self) -> int | None:
        """Qwen has a switch beside the size."""
        is_off = self.model_type in ("qwen2", "qwen3") and not self.use_sliding_window
        return None if is_off else self.sliding_window

    @property
    def kinds(self) -> tuple[str, ...]:
        """Qwen's lower layers see everything, those from ``max_window_layers`` on a window."""
        if self.layer_types is not None or self.model_type not in ("qwen2", "qwen3"):
            return super().kinds
        layers, first = self.num_hidden_layers, self.max_window_layers
        return tuple(
            SLIDING if self.window is not None and i >= first else FULL for i in range(layers)
        )


class LlamaLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, config: LlamaConfig, layer: int) -> None:
        super().__init__()
        norm = partial(RMSNorm, eps=config.rms_norm_eps)
        self.norm_1 = norm(config.hidden_size)
        self.attention = GroupedAttention(
            config,
            layer,
            bias=config.attention_bias or config.model_type == "qwen2",
            output_bias=config.attention_bias,
            norm=partial(norm, config.head_size) if config.model_type == "qwen3" else None,
        )
        self.norm_2 = norm(config.hidden_size)
        self.feed_forward = GatedFeedForward(
            config.hidden_size, config.intermediate_size, config.hidden_act, bias=config.mlp_bias
        )

    def forward(self, x: Tensor, run: Run) -> Tensor:
        x = x + self.attention(self.norm_1(x), run)
        return x + self.feed_forward(self.norm_2(x))


class LlamaForCausalLM(CausalLM):
    """The decoder with its language-modelling head.

    Hugging Face: ``LlamaForCausalLM``, ``MistralForCausalLM``, ``Qwen2ForCausalLM`` or
    ``Qwen3ForCausalLM``, as the config's ``model_type`` says.
    """

    def __init__(self, config: LlamaConfig) -> None:
        layers = (LlamaLayer(config, i) for i in range(config.num_hidden_layers))
        norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        super().__init__(config, Decoder(config, layers, norm))

    @property
    def hf_class(self) -> str:
        """The counterpart's name."""
        return HF_CLASSES[self.config.model_type]


ATTENTION_NAMES = {
    "token": "embed_tokens",
    "layers.{i}.norm_1": "layers.{i}.input_layernorm",
    "layers.{i}.attention.q": "layers.{i}.self_attn.q_proj",
    "layers.{i}.attention.k": "layers.{i}.self_attn.k_proj",
    "layers.{i}.attention.v": "layers.{i}.self_attn.v_proj",
    "layers.{i}.attention.q_norm": "layers.{i}.self_attn.q_norm",
    "layers.{i}.attention.k_norm": "layers.{i}.self_attn.k_norm",
    "layers.{i}.attention.output": "layers.{i}.self_attn.o_proj",
    "layers.{i}.norm_2": "layers.{i}.post_attention_layernorm",
    "norm": "norm",
    "lm_head": "lm_head",
}
FEED_FORWARD_NAMES = {
    "layers.{i}.feed_forward.gate": "layers.{i}.mlp.gate_proj",
    "layers.{i}.feed_forward.up": "layers.{i}.mlp.up_proj",
    "layers.{i}.feed_forward.down": "layers.{i}.mlp.down_proj",
}
FAMILY = Family(
    config=LlamaConfig,
    model_types=tuple(HF_CLASSES),
    prefix=LlamaForCausalLM.prefix,
    classes=dict.fromkeys(HF_CLASSES.values(), LlamaForCausalLM),
    tasks={"causal-lm": LlamaForCausalLM},
    names=ATTENTION_NAMES | FEED_FORWARD_NAMES,
    ignorable=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),  # old versions saved it
    heads=(r"score\..*", r"qa_outputs\..*"),
    tied={"lm_head.weight": "model.token.weight"},
)

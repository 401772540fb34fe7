"""Mixtral: a Llama whose feed-forward networks are mixtures of experts.

    x = token
    x = x + attention(norm(x))         for each layer; grouped heads, rotary positions
    x = x + experts(norm(x))           two of eight networks for each token
    logits = norm(x) · headᵀ

Jiang et al. 2024 (arXiv:2401.04088). On disk each expert has three tensors of its own; in memory
two stacks hold those of all experts, here as in transformers.
"""

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.layers.activation import activation
from minift.layers.experts import MixtureOfExperts, load_balancing_loss
from minift.layers.norm import RMSNorm
from minift.models.causal_lm import CausalLM
from minift.models.checkpoint import listed
from minift.models.config import check_positive, check_probability
from minift.models.decoder import Decoder, GroupedAttention, Run
from minift.models.decoder_config import DecoderConfig
from minift.models.family import Family, Tensors
from minift.models.llama import ATTENTION_NAMES
from minift.models.output import ModelOutput


@dataclass(frozen=True)
class MixtralConfig(DecoderConfig):
    """The sizes and options of a Mixtral; the defaults are those of Mixtral-8x7B."""

    model_type: str = "mixtral"
    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 131072
    rms_norm_eps: float = 1e-5
    hidden_act: str = "silu"
    num_local_experts: int = 8
    num_experts_per_tok: int = 2
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001
    router_jitter_noise: float = 0.0

    OWN: ClassVar[dict[str, tuple[str, ...]]] = {
        "mixtral": (
            "head_dim", "sliding_window", "hidden_act", "num_local_experts",
            "num_experts_per_tok", "output_router_logits", "router_aux_loss_coef",
            "router_jitter_noise",
        )
    }  # fmt: skip
    THETA: ClassVar[float] = 1_000_000.0

    def __post_init__(self) -> None:
        super().__post_init__()
        activation(self.hidden_act)
        check_positive(self, "num_local_experts", "num_experts_per_tok")
        check_probability(self, "router_jitter_noise")
        if self.num_experts_per_tok > self.num_local_experts:
            raise InputError(
                f"config: num_experts_per_tok={self.num_experts_per_tok}; right: at most "
                f"num_local_experts={self.num_local_experts}"
            )


class MixtralLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + experts(norm(x))``."""

    def __init__(self, config: MixtralConfig, layer: int) -> None:
        super().__init__()
        norm = partial(RMSNorm, config.hidden_size, config.rms_norm_eps)
        self.norm_1, self.norm_2 = norm(), norm()
        self.attention = GroupedAttention(config, layer)
        self.feed_forward = MixtureOfExperts(
            config.hidden_size,
            config.intermediate_size,
            config.hidden_act,
            experts=config.num_local_experts,
            k=config.num_experts_per_tok,
            jitter=config.router_jitter_noise,
        )

    def forward(self, x: Tensor, run: Run) -> Tensor:
        x = x + self.attention(self.norm_1(x), run)
        y, router_logits = self.feed_forward(self.norm_2(x))
        run.router_logits.append(router_logits)
        return x + y


class MixtralForCausalLM(CausalLM):
    """The decoder with its language-modelling head; Hugging Face's class has the same name."""

    def __init__(self, config: MixtralConfig) -> None:
        layers = [MixtralLayer(config, i) for i in range(config.num_hidden_layers)]
        norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        super().__init__(config, Decoder(config, layers, norm))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        cache: KVCache | None = None,
        *,
        output_router_logits: bool | None = None,
        **options: Any,
    ) -> ModelOutput:
        """As ``CausalLM.forward``, and how evenly the experts are used.

        Args:
            output_router_logits: give ``router_logits`` and ``aux_loss``, the load-balancing
                loss, and add ``router_aux_loss_coef`` times it to the loss where there are
                labels; ``None``: as the config says.
        """
        output = super().forward(input_ids, attention_mask, labels, cache, **options)
        wanted = output_router_logits
        if not (self.config.output_router_logits if wanted is None else wanted):
            output.router_logits = None
            return output
        assert output.router_logits is not None
        if attention_mask is not None:  # without the columns of cached tokens
            attention_mask = attention_mask[:, -input_ids.shape[1] :]
        k = self.config.num_experts_per_tok
        output.aux_loss = load_balancing_loss(output.router_logits, k, attention_mask)
        if output.loss is not None:
            output.loss = output.loss + self.config.router_aux_loss_coef * output.aux_loss
        return output


EXPERT = re.compile(r"(.*layers\.\d+\.)block_sparse_moe\.experts\.(\d+)\.(w[123])\.weight")


def from_disk(tensors: Tensors, config: MixtralConfig) -> Tensors:
    """Each layer's ``experts.N.w1, w3`` (gate, up) and ``w2`` (down) → two stacks.

    Raises:
        InputError: a tensor of an expert that is missing, superfluous or of another shape.
    """
    found = {name: match for name in tensors if (match := EXPERT.fullmatch(name))}
    memory = {
        name.replace(".block_sparse_moe.", ".mlp."): value
        for name, value in tensors.items()
        if name not in found
    }
    if not found:
        return memory
    start = "model." if any(name.startswith("model.") for name in found) else ""
    wanted = {
        name: shape
        for i in range(config.num_hidden_layers)
        for name, shape in _expert_shapes(f"{start}layers.{i}.", config).items()
    }
    _check_experts({name: tensors[name] for name in found}, wanted)
    for i in range(config.num_hidden_layers):
        layer = f"{start}layers.{i}."
        w1, w2, w3 = (
            torch.stack([tensors[_expert(layer, e, w)] for e in range(config.num_local_experts)])
            for w in ("w1", "w2", "w3")
        )
        memory[f"{layer}mlp.experts.gate_up_proj"] = torch.cat([w1, w3], dim=1)  # (E, 2F, C)
        memory[f"{layer}mlp.experts.down_proj"] = w2  # (E, C, F)
    return memory


def to_disk(tensors: Tensors, config: MixtralConfig) -> Tensors:
    """The way back: three tensors for each expert."""
    disk = {}
    for name, value in tensors.items():
        layer, _, part = name.partition("mlp.")
        if part == "gate.weight":
            disk[f"{layer}block_sparse_moe.gate.weight"] = value
        elif part.startswith("experts."):
            for e in range(config.num_local_experts):
                split = value[e].chunk(2) if part == "experts.gate_up_proj" else (value[e],)
                names = ("w1", "w3") if len(split) == 2 else ("w2",)
                for w, matrix in zip(names, split, strict=True):
                    disk[_expert(layer, e, w)] = matrix.contiguous().clone()
        else:
            disk[name] = value
    return disk


def _expert(layer: str, expert: int, weight: str) -> str:
    return f"{layer}block_sparse_moe.experts.{expert}.{weight}.weight"


def _expert_shapes(layer: str, config: MixtralConfig) -> dict[str, tuple[int, int]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = {"w1": (inner, hidden), "w2": (hidden, inner), "w3": (inner, hidden)}
    return {
        _expert(layer, e, w): shape
        for e in range(config.num_local_experts)
        for w, shape in shapes.items()
    }


def _check_experts(found: Tensors, wanted: dict[str, tuple[int, int]]) -> None:
    wrong = [
        f"{name} {tuple(found[name].shape)} (right: {shape})"
        for name, shape in wanted.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    problems = {
        "missing": [name for name in wanted if name not in found],
        "not expected": [name for name in found if name not in wanted],
        "of another shape": wrong,
    }
    said = [f"{len(names)} {what}: {listed(names)}" for what, names in problems.items() if names]
    if said:
        raise InputError(f"tensors do not match the config; {'; '.join(said)}")


FAMILY = Family(
    config=MixtralConfig,
    prefix=MixtralForCausalLM.prefix,
    classes={"MixtralForCausalLM": MixtralForCausalLM},
    tasks={"causal-lm": MixtralForCausalLM},
    names=ATTENTION_NAMES
    | {
        "layers.{i}.feed_forward.router": "layers.{i}.mlp.gate",
        "layers.{i}.feed_forward.experts.gate_up": "layers.{i}.mlp.experts.gate_up_proj",
        "layers.{i}.feed_forward.experts.down": "layers.{i}.mlp.experts.down_proj",
    },
    heads=(r"score\..*", r"qa_outputs\..*"),
    tied={"lm_head.weight": "model.token.weight"},
    from_disk=from_disk,
    to_disk=to_disk,
)

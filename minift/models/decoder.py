"""The decoder that Llama, Gemma and Mixtral share: embeddings, a stack of layers, a last norm.

    x = token · scale
    x = layer(x)              for each layer of the family
    last_hidden_state = norm(x)

B: batch, T: new tokens, N: tokens that a layer sees (the cached ones too), C: hidden size,
H: heads, D: size of a head.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minift.generation.cache import KVCache
from minift.layers.attention import attention, eager_attention, merge_heads, split_heads
from minift.layers.mask import padding_mask, position_ids
from minift.layers.rotary import Rope, Rotation, rotate
from minift.models.checks import check_inputs
from minift.models.decoder_config import SLIDING, DecoderConfig
from minift.models.init import init_weights
from minift.models.output import ModelOutput


@dataclass
class Run:
    """What one forward pass hands to each layer besides x, and what the layers leave behind."""

    rotations: dict[Rope, Rotation]
    padding: Tensor | None
    """``(B, 1, 1, past + T)``, True for tokens; ``None``: no padding."""
    cache: KVCache | None
    attentions: list[Tensor] | None
    """Each layer's probabilities ``(B, H, T, N)``; ``None``: not asked for."""
    router_logits: list[Tensor] = field(default_factory=list)
    """Each mixture of experts' scores, ``(B·T, experts)``."""


class GroupedAttention(nn.Module):
    """Causal self-attention with rotary positions and grouped heads.

    A head of keys and values serves ``H / H_kv`` heads of queries (Ainslie et al. 2023,
    arXiv:2305.13245): the cache is that much smaller. With H_kv = H it is ordinary multi-head
    attention, with H_kv = 1 multi-query attention.

    Args:
        bias, output_bias: of the products for q, k, v and of the last one.
        norm: makes the norms of queries and keys, over D, before the rotation; ``None``: none.
        scale: of the scores; ``None`` is ``D ** -0.5``.
        softcap: keeps scores between ±softcap.
    """

    def __init__(
        self,
        config: DecoderConfig,
        layer: int,
        *,
        bias: bool = False,
        output_bias: bool = False,
        norm: Callable[[], nn.Module] | None = None,
        scale: float | None = None,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.layer, self.rope = layer, config.rope(config.kinds[layer])
        self.heads, self.kv_heads = config.num_attention_heads, config.kv_heads
        self.window = config.window if config.kinds[layer] == SLIDING else None
        self.dropout_p = config.attention_dropout
        self.scale, self.softcap = scale, softcap
        hidden, size = config.hidden_size, config.head_size
        self.q = nn.Linear(hidden, self.heads * size, bias=bias)
        self.k = nn.Linear(hidden, self.kv_heads * size, bias=bias)
        self.v = nn.Linear(hidden, self.kv_heads * size, bias=bias)
        self.output = nn.Linear(self.heads * size, hidden, bias=output_bias)
        self.q_norm, self.k_norm = (norm(), norm()) if norm else (nn.Identity(), nn.Identity())

    def forward(self, x: Tensor, run: Run) -> Tensor:
        rotation, padding = run.rotations[self.rope], run.padding
        q = rotate(self.q_norm(split_heads(self.q(x), self.heads)), rotation)  # (B, H, T, D)
        k = rotate(self.k_norm(split_heads(self.k(x), self.kv_heads)), rotation)
        v = split_heads(self.v(x), self.kv_heads)  # (B, H_kv, T, D)
        if run.cache is not None:
            k, v = run.cache.update(self.layer, k, v, self.window)  # (B, H_kv, N, D)
        options: dict[str, Any] = {
            # with a window the cache may have let go of the first tokens
            "mask": None if padding is None else padding[..., -k.shape[2] :],  # (B, 1, 1, N)
            "causal": True,
            "window": self.window,
            "softcap": self.softcap,
            "scale": self.scale,
            "dropout_p": self.dropout_p if self.training else 0.0,
        }
        if run.attentions is None:
            y = attention(q, k, v, **options)
        else:
            y, probabilities = eager_attention(q, k, v, **options)
            run.attentions.append(probabilities)
        return self.output(merge_heads(y))


class Decoder(nn.Module):
    """A family's layers between embedding and norm: ids ``(B, T)`` → ``(B, T, C)``.

    ``layers`` are called as ``layer(x, run)`` and give the next x.
    """

    def __init__(
        self,
        config: DecoderConfig,
        layers: Iterable[nn.Module],
        norm: nn.Module,
        embedding_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding_scale = embedding_scale
        self.token = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.ropes = {config.rope(kind) for kind in config.kinds}
        self.apply(lambda module: init_weights(module, config.initializer_range))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        cache: KVCache | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        past = 0 if cache is None else cache.length
        size = self.config.vocab_size
        check_inputs(input_ids, attention_mask, vocab_size=size, max_positions=None, past=past)
        new = input_ids.shape[1]
        padding = padding_mask(attention_mask)  # (B, 1, 1, past + T)
        positions = position_ids(padding, past + new, new, input_ids.device)  # (1 or B, T)
        x = self.embed(input_ids)  # (B, T, C)
        rotations = {rope: rope.rotation(positions, x.dtype) for rope in self.ropes}
        run = Run(rotations, padding, cache, [] if output_attentions else None)
        hidden_states = [x]
        for layer in self.layers:
            x = layer(x, run)
            hidden_states.append(x)
        if cache is not None:
            cache.advance(new)
        hidden_states[-1] = self.norm(x)
        return ModelOutput(
            last_hidden_state=hidden_states[-1],
            cache=cache,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=None if run.attentions is None else tuple(run.attentions),
            router_logits=tuple(run.router_logits) or None,
        )

    def embed(self, input_ids: Tensor) -> Tensor:
        """The tokens' vectors ``(B, T, C)``, scaled where the family does that."""
        x: Tensor = self.token(input_ids)
        if self.embedding_scale is None:
            return x
        return x * torch.tensor(self.embedding_scale, dtype=x.dtype, device=x.device)

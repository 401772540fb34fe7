"""ViT: a transformer encoder that reads images (Dosovitskiy et al. 2021, arXiv:2010.11929).

    x = [class token; W · patch 1; …; W · patch N] + position
    x = x + attention(norm(x))         for each layer; "pre-norm": the norm comes before
    x = x + feed_forward(norm(x))
    logits = W · norm(x)[0]            the class token's vector

An image is cut into square patches; each is one token. The blocks are those that read text. B:
batch, R: channels, (h, w): image size, (p, q): patch size, N = (h / p) · (w / q) patches, T = N + 1
tokens, C: hidden size, H: heads. Hugging Face's counterparts have the same names.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.layers.activation import activation
from minift.layers.feed_forward import FeedForward
from minift.layers.multi_head import MultiHeadAttention
from minift.models.config import (
    check_deviation,
    check_heads,
    check_positive,
    check_probability,
    read_config,
    read_labels,
    with_label_ids,
)
from minift.models.family import Family, Tensors
from minift.models.init import init_weights
from minift.models.losses import check_problem_type, text_loss
from minift.models.output import ModelOutput

Size = int | list[int] | tuple[int, ...]


@dataclass(frozen=True)
class ViTConfig:
    """The sizes and options of a ViT, under Hugging Face's names.

    ``image_size`` and ``patch_size`` are one number, or two: height and width, in pixels.
    """

    image_size: int | list[int] | tuple[int, ...] = 224
    patch_size: int | list[int] | tuple[int, ...] = 16
    num_channels: int = 3
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    qkv_bias: bool = True
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pooler_output_size: int | None = None
    pooler_act: str = "tanh"
    id2label: dict[int, str] | None = None
    problem_type: str | None = None

    model_type: ClassVar[str] = "vit"
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "pruned_heads": ({}, None),
        "quantization_config": (None,),
    }

    def __post_init__(self) -> None:
        check_positive(
            self, "num_channels", "hidden_size", "num_hidden_layers", "num_attention_heads",
            "intermediate_size", "pooled",
        )  # fmt: skip
        check_probability(self, "hidden_dropout_prob", "attention_probs_dropout_prob")
        check_heads(
            "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
        )
        check_deviation(self)
        activation(self.hidden_act)
        activation(self.pooler_act)
        check_problem_type(self.problem_type)
        if min(self.grid) < 1:
            raise InputError(
                f"config: patch_size={self.patch_size} is more than image_size={self.image_size}; "
                "right: at least one patch"
            )

    @property
    def image(self) -> tuple[int, int]:
        """Height and width of an image, in pixels."""
        return _two("image_size", self.image_size)

    @property
    def patch(self) -> tuple[int, int]:
        """Height and width of a patch, in pixels."""
        return _two("patch_size", self.patch_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches from top to bottom and from left to right; pixels that are left over are lost."""
        (height, width), (p, q) = self.image, self.patch
        return height // p, width // q

    @property
    def pooled(self) -> int:
        """The size of the pooler's output: ``pooler_output_size``, or the hidden size."""
        return self.pooler_output_size or self.hidden_size

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ViTConfig":
        """From the content of a ``config.json``; InputError for what is not supported."""
        return read_config(cls, {**data, "id2label": read_labels(data)}, cls.FIXED)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json``, without ``architectures`` and ``dtype``."""
        return with_label_ids({"model_type": self.model_type, **asdict(self)})


def _two(name: str, size: Size) -> tuple[int, int]:
    """Height and width from one number or from two."""
    both = (size, size) if isinstance(size, int) else tuple(size)
    if len(both) != 2 or not all(isinstance(n, int) and n >= 1 for n in both):
        raise InputError(f"config: {name}={size}; right: one number of pixels, or two")
    return both[0], both[1]


class ViTEmbeddings(nn.Module):
    """Pixels ``(B, R, h, w)`` → ``dropout([class token; patches] + position)``, ``(B, T, C)``.

    ``patch`` is a convolution that steps by its own size. Each output sees one patch only: it is
    the product of one matrix with the flattened patch.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        hidden, tokens = config.hidden_size, config.grid[0] * config.grid[1] + 1
        self.cls_token = nn.Parameter(torch.randn(1, 1, hidden))
        self.patch = nn.Conv2d(config.num_channels, hidden, config.patch, stride=config.patch)
        self.position = nn.Parameter(torch.randn(1, tokens, hidden))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.patch(pixel_values.to(self.patch.weight.dtype))  # (B, C, h / p, w / q)
        x = x.flatten(2).transpose(1, 2)  # (B, N, C)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)  # (B, T, C)
        return self.dropout(x + self.position)


class ViTLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        hidden, dropout = config.hidden_size, config.hidden_dropout_prob
        self.attention = MultiHeadAttention(
            hidden,
            config.num_attention_heads,
            dropout_p=config.attention_probs_dropout_prob,
            qkv_bias=config.qkv_bias,
        )
        self.norm_1 = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.norm_2 = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.feed_forward = FeedForward(
            hidden, config.intermediate_size, config.hidden_act, dropout
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, want_probabilities: bool) -> tuple[Tensor, Tensor | None]:
        y, probabilities = self.attention(self.norm_1(x), want_probabilities=want_probabilities)
        x = self.dropout(y) + x
        return self.feed_forward(self.norm_2(x)) + x, probabilities


class ViTModel(nn.Module):
    """The encoder, and the pooler ``act(W · class token)`` unless ``pooling`` is False.

    ``pooling`` is Hugging Face's ``add_pooling_layer``.
    """

    def __init__(self, config: ViTConfig, pooling: bool = True) -> None:
        super().__init__()
        self.config = config
        self.embeddings = ViTEmbeddings(config)
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = nn.Linear(config.hidden_size, config.pooled) if pooling else None
        self.pooler_act = activation(config.pooler_act)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        init_weights(module, std)
        if isinstance(module, ViTEmbeddings):
            nn.init.trunc_normal_(module.position, std=std)
            nn.init.trunc_normal_(module.cls_token, std=std)

    def forward(
        self,
        pixel_values: Tensor,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """Encode ``pixel_values: (B, R, h, w)``, floating point.

        Returns:
            ``last_hidden_state (B, T, C)`` after the final norm, ``pooler_output``, and on request
            every layer's ``hidden_states`` (before it) and ``attentions`` ``(B, H, T, T)``.

        Raises:
            InputError: images of another shape than the config's (other sizes would need other
                positions; Hugging Face can interpolate them, this model does not).
        """
        self._check(pixel_values)
        x = self.embeddings(pixel_values)  # (B, T, C)
        hidden_states, attentions = [x], []
        for layer in self.layers:
            x, probabilities = layer(x, output_attentions)
            hidden_states.append(x)
            attentions.append(probabilities)
        x = self.norm(x)
        return ModelOutput(
            last_hidden_state=x,
            pooler_output=self.pooler_act(self.pooler(x[:, 0])) if self.pooler else None,
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _check(self, pixels: Tensor) -> None:
        wanted = (self.config.num_channels, *self.config.image)
        if pixels.dim() != 4 or tuple(pixels.shape[1:]) != wanted or not len(pixels):
            right = ", ".join(map(str, wanted))
            raise InputError(f"pixel_values: shape {tuple(pixels.shape)}; right: (batch, {right})")
        if not pixels.is_floating_point():
            raise InputError(
                f"pixel_values: dtype {pixels.dtype}; right: floating point, scaled as in training"
            )


class ViTForImageClassification(nn.Module):
    """A label for an image: ``logits = W · class token + b``.

    ``config.id2label`` names the classes (two, LABEL_0 and LABEL_1, when it is ``None``).
    """

    has_labels = True

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViTModel(config, pooling=False)
        self.classifier = nn.Linear(config.hidden_size, len(config.id2label or "01"))
        init_weights(self.classifier, config.initializer_range)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Tensor | None = None,
        *,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
    ) -> ModelOutput:
        """``logits (B, classes)``, and ``loss`` when ``labels`` are given.

        ``labels (B,)`` are a class for each image; numbers to be met or several classes at once are
        possible too, as ``config.problem_type`` says: see ``minift.models.losses.text_loss``.

        Raises:
            InputError: as ``ViTModel``; labels of another shape or dtype, or outside the classes.
        """
        output = self.vit(
            pixel_values,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
        )
        output.logits = self.classifier(output.last_hidden_state[:, 0])  # (B, classes)
        if labels is not None:
            output.loss = text_loss(output.logits, labels, self.config.problem_type)
        return output


# In a file, transformers keeps the names of its first ViT: those in memory → those on disk.
ON_DISK = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
IN_MEMORY = {old: new for new, old in ON_DISK.items()}


def from_disk(tensors: Tensors, config: ViTConfig) -> Tensors:
    """The tensors of a file under the names that ``transformers`` has in memory."""
    return _renamed(tensors, r"encoder\.layer", "layers", IN_MEMORY)


def to_disk(tensors: Tensors, config: ViTConfig) -> Tensors:
    """The way back."""
    return _renamed(tensors, "layers", "encoder.layer", ON_DISK)


def _renamed(tensors: Tensors, stack: str, new_stack: str, parts: Mapping[str, str]) -> Tensors:
    def new(found: re.Match[str]) -> str:
        return f"{new_stack}.{found[1]}.{parts.get(found[2], found[2])}.{found[3]}"

    pattern = rf"\b{stack}\.(\d+)\.(.+)\.(\w+)$"
    return {re.sub(pattern, new, name): value for name, value in tensors.items()}


FAMILY = Family(
    config=ViTConfig,
    prefix="vit",
    classes={"ViTModel": ViTModel, "ViTForImageClassification": ViTForImageClassification},
    tasks={"encoder": ViTModel, "image-classification": ViTForImageClassification},
    names={
        "embeddings.cls_token": "embeddings.cls_token",
        "embeddings.position": "embeddings.position_embeddings",
        "embeddings.patch": "embeddings.patch_embeddings.projection",
        "layers.{i}.attention.query": "layers.{i}.attention.q_proj",
        "layers.{i}.attention.key": "layers.{i}.attention.k_proj",
        "layers.{i}.attention.value": "layers.{i}.attention.v_proj",
        "layers.{i}.attention.output": "layers.{i}.attention.o_proj",
        "layers.{i}.norm_1": "layers.{i}.layernorm_before",
        "layers.{i}.norm_2": "layers.{i}.layernorm_after",
        "layers.{i}.feed_forward.up": "layers.{i}.mlp.fc1",
        "layers.{i}.feed_forward.down": "layers.{i}.mlp.fc2",
        "norm": "layernorm",
        "pooler": "pooler.dense",
        "classifier": "classifier",
    },
    ignorable=(r"embeddings\.mask_token", r"pooler\.dense\.(weight|bias)"),
    heads=(r"classifier\..*", r"decoder\..*"),
    optional=("pooler",),
    from_disk=from_disk,
    to_disk=to_disk,
)

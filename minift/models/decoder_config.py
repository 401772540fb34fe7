"""The options that Llama, Gemma, Mixtral and their relatives share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from minift.errors import InputError, one_of
from minift.layers.rotary import Rope, read_rope_parameters
from minift.models.config import (
    check_deviation,
    check_heads,
    check_positive,
    check_probability,
    read_config,
)

C = TypeVar("C", bound="DecoderConfig")
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and options under Hugging Face's names; a family's own config adds its own.

    One class serves several ``model_type``s that differ in a few options. ``OWN`` says which of
    the options beyond the common ones a type has, ``DEFAULTS`` what a ``config.json`` means by
    leaving an option out.
    """

    model_type: str = ""
    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    rope_parameters: dict[str, Any] | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = None
    sliding_window: int | None = None
    layer_types: list[str] | None = None

    COMMON: ClassVar[tuple[str, ...]] = ()
    """The options that every type has; filled in below."""
    OWN: ClassVar[dict[str, tuple[str, ...]]] = {}
    DEFAULTS: ClassVar[dict[str, dict[str, Any]]] = {}
    THETA: ClassVar[float] = 10_000.0
    """The base of the rotary angles where a config does not say."""
    FIXED: ClassVar[dict[str, tuple[Any, ...]]] = {
        "quantization_config": (None,),
        "partial_rotary_factor": (1.0, None),
    }

    def __post_init__(self) -> None:
        if self.model_type not in self.OWN:
            raise one_of("config: model_type", self.model_type, sorted(self.OWN))
        self._check_own()
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
        heads = ("num_attention_heads", "kv_heads", "head_size", "max_position_embeddings")
        check_positive(self, *sizes, *heads)
        check_probability(self, "attention_dropout")
        check_deviation(self)
        if self.head_dim is None:
            check_heads(
                "hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads
            )
        if self.num_attention_heads % self.kv_heads:
            check_heads(
                "num_attention_heads", self.num_attention_heads,
                "num_key_value_heads", self.kv_heads,
            )  # fmt: skip
        if self.head_size % 2:
            raise InputError(f"config: head_dim={self.head_size}; right: even, RoPE turns pairs")
        pad, size = self.pad_token_id, self.vocab_size
        if pad is not None and not -size <= pad < size:
            raise InputError(f"config: pad_token_id={pad}; right: below vocab_size={size}, or null")
        self._check_kinds()
        self.rope(FULL)

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values; as many as of queries where a config does not say."""
        return self.num_key_value_heads or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """D: ``head_dim``, or an equal part of the hidden size."""
        return self.head_dim or self.hidden_size // max(self.num_attention_heads, 1)

    @property
    def window(self) -> int | None:
        """How many tokens a sliding layer sees."""
        return self.sliding_window

    @property
    def kinds(self) -> tuple[str, ...]:
        """Of each layer: whether it sees all tokens before or a sliding window of them."""
        if self.layer_types is not None:
            return tuple(self.layer_types)
        return (FULL if self.window is None else SLIDING,) * self.num_hidden_layers

    def rope(self, kind: str) -> Rope:
        """The rotation in the layers of a kind; in most families the same for all."""
        parameters = self.rope_parameters or self.read_rope({"model_type": self.model_type})
        return Rope.from_parameters(parameters, self.head_size, self.max_position_embeddings)

    @classmethod
    def from_dict(cls: type[C], data: Mapping[str, Any]) -> C:
        """From the content of a ``config.json``; InputError for what is not supported."""
        kind = str(data.get("model_type", next(iter(cls.OWN))))
        known = {*cls.COMMON, *cls.OWN.get(kind, ()), *cls.FIXED, "head_dim"}
        given = {name: value for name, value in data.items() if name in known}
        given["rope_parameters"] = cls.read_rope(data)
        return read_config(cls, {**cls.DEFAULTS.get(kind, {}), **given}, cls.FIXED)

    @classmethod
    def read_rope(cls, data: Mapping[str, Any]) -> dict[str, Any]:
        """``rope_parameters`` in transformers' present layout."""
        return read_rope_parameters(data, cls.THETA)

    def to_dict(self) -> dict[str, Any]:
        """The content of a ``config.json``, without ``architectures`` and ``dtype``."""
        own = self.OWN[self.model_type]
        values = {n: value for n, value in asdict(self).items() if n in self.COMMON or n in own}
        values["num_key_value_heads"] = self.kv_heads
        if self.rope_parameters is None:
            values["rope_parameters"] = self.read_rope({"model_type": self.model_type})
        if "head_dim" in own or self.head_dim is not None:
            values["head_dim"] = self.head_size
        if "layer_types" in own:
            values["layer_types"] = list(self.kinds)
        return values

    def _check_own(self) -> None:
        """An option that the model type does not have would be lost on disk: refuse it."""
        known = {*self.COMMON, *self.OWN[self.model_type], "head_dim"}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in known and value != field.default:
                raise InputError(
                    f"config: {field.name}={value!r} is not an option of model_type "
                    f"{self.model_type!r}; right: {field.default!r}"
                )

    def _check_kinds(self) -> None:
        kinds = self.kinds
        if len(kinds) != self.num_hidden_layers:
            raise InputError(
                f"config: layer_types: {len(kinds)} entries; right: {self.num_hidden_layers}, one "
                "for each layer"
            )
        for kind in kinds:
            if kind not in (FULL, SLIDING):
                raise one_of("config: layer_types", kind, (FULL, SLIDING))
        if SLIDING in kinds and self.window is None:
            raise InputError("config: sliding_window=None with sliding layers; right: at least 1")
        if self.window is not None:
            check_positive(self, "window")


DecoderConfig.COMMON = tuple(
    field.name
    for field in fields(DecoderConfig)
    if field.name not in ("head_dim", "sliding_window", "layer_types")
)

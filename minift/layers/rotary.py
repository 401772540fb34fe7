"""Rotary position embedding (RoPE): positions as rotations of queries and keys.

    rotate(x, m):   pair i of x turned by the angle m · θᵢ,   θᵢ = base^(−2i/D),  i = 0 … D/2 − 1

Su et al. 2021 (RoFormer, arXiv:2104.09864), section 3.4. The product of a query at position m and
a key at position n depends on m − n only. Pair i is made of the elements i and i + D/2 of a head
(the "half" layout of Hugging Face; the paper and GGUF files put the two side by side).

Each ``rope_type`` of a Hugging Face config is another choice of the angles; the formulas are in
``rope_scaling.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from minift.errors import InputError, one_of
from minift.layers.rope_scaling import AMPLITUDES, FREQUENCIES

Rotation = tuple[Tensor, Tensor]
"""``cos, sin: (1 or B, 1, T, D)``, one angle a token and pair, so each angle twice."""

NEEDED: dict[str, tuple[str, ...]] = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "longrope": ("short_factor", "long_factor"),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}
"""What a ``rope_type`` cannot do without; the others have no such option."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "yarn": (
        "factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim",
        "truncate",
    ),
    "longrope": ("factor", "attention_factor"),
    "proportional": ("factor", "partial_rotary_factor"),
}  # fmt: skip
ANYWHERE = ("rope_theta", "rope_type", "type", "original_max_position_embeddings")
STRETCHED = ("yarn", "longrope", "llama3")  # these look at the length before the stretching


@dataclass(frozen=True)
class Rope:
    """The rotation of one kind of layer: a config's ``rope_parameters``, checked."""

    head_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rope_type: str = "default"
    original_max_position_embeddings: int = 0
    factor: float = 1.0
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    partial_rotary_factor: float = 1.0

    @classmethod
    def from_parameters(
        cls, parameters: Mapping[str, Any], head_dim: int, max_position_embeddings: int
    ) -> "Rope":
        """From a flat ``rope_parameters``; ``null`` entries count as absent.

        Raises:
            InputError: an unknown ``rope_type``, an option that it does not have, one that it
                needs and lacks, or a value that cannot be right.
        """
        given = {key: value for key, value in parameters.items() if value is not None}
        kind = given.get("rope_type", given.get("type", "default"))
        if kind not in FREQUENCIES:
            raise one_of("config: rope_type", kind, sorted(FREQUENCIES))
        _check_names(kind, given)
        values: dict[str, Any] = {"rope_type": kind}
        for name in ("short_factor", "long_factor"):
            if name in given:
                values[name] = _list(name, given.pop(name), head_dim // 2)
        known = {field.name for field in fields(cls)} - {"rope_type"}
        values |= {name: _number(name, given[name]) for name in known & given.keys()}
        original = values.setdefault("original_max_position_embeddings", max_position_embeddings)
        if kind in ("yarn", "longrope"):  # their factor may be left to the two lengths
            values.setdefault("factor", max_position_embeddings / original)
        return cls(head_dim, max_position_embeddings, **values)

    def frequencies(self, length: Tensor) -> Tensor:
        """``(D/2,)``, fp32: radians a position, for a text of ``length`` (a scalar) tokens.

        Only "dynamic" and "longrope" look at the length.
        """
        return FREQUENCIES[self.rope_type](self, length)

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> Rotation:
        """``cos, sin: (1 or B, 1, T, D)`` for ``positions: (1 or B, T)``.

        The angles are fp32 whatever ``dtype`` is: bf16 cannot tell position 257 from 256.
        """
        angles = positions[..., None].float() * self.frequencies(positions.max() + 1)  # (B, T, D/2)
        angles = torch.cat([angles, angles], dim=-1)  # (B, T, D)
        scale = AMPLITUDES.get(self.rope_type, _one)(self)
        cos, sin = angles.cos() * scale, angles.sin() * scale
        return cos[:, None].to(dtype), sin[:, None].to(dtype)  # (B, 1, T, D)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair (a, b) = (i, i + D/2) of ``x: (B, H, T, D)`` by its angle; the shape stays.

    ``a cos − b sin`` and ``b cos + a sin``, for all pairs in one line: what the sine takes part
    with is x with its halves exchanged and the sign of the new first half turned.

    With an amplitude other than 1 (YaRN, LongRoPE) the pairs are lengthened too.
    """
    cos, sin = rotation
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D/2) each
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def read_rope_parameters(data: Mapping[str, Any], default_theta: float) -> dict[str, Any]:
    """The flat ``rope_parameters`` of a ``config.json``, from today's layout or the older one.

    Today ``rope_parameters = {rope_type, rope_theta, …}``; before transformers 5, ``rope_theta``
    and ``rope_scaling = {type or rope_type, factor, …}`` stood beside the other options. Where
    both are there, ``rope_scaling`` counts, as in transformers.

    Raises:
        InputError: not an object with options.
    """
    given = data.get("rope_scaling") or data.get("rope_parameters") or {}
    if not isinstance(given, Mapping):
        raise InputError(f"config: rope_parameters={given!r}; right: {{rope_type, rope_theta, …}}")
    parameters = {key: value for key, value in given.items() if key != "type"}
    parameters.setdefault("rope_type", given.get("type", "default"))
    parameters.setdefault("rope_theta", data.get("rope_theta", default_theta))
    if parameters["rope_type"] in STRETCHED:
        original = data.get("original_max_position_embeddings")
        if original is not None:  # beside the others (Phi-3's place for it); it goes first
            parameters["original_max_position_embeddings"] = original
    return parameters


def _check_names(kind: str, given: Mapping[str, Any]) -> None:
    needed, optional = NEEDED.get(kind, ()), OPTIONAL.get(kind, ())
    if missing := [name for name in needed if name not in given]:
        raise InputError(
            f"config: rope_parameters: {missing[0]} is missing; rope_type={kind!r} needs "
            f"{', '.join(needed)}"
        )
    known = {*ANYWHERE, *needed, *optional}
    if given.get("partial_rotary_factor") == 1.0:
        known.add("partial_rotary_factor")
    if unknown := sorted(given.keys() - known):
        raise InputError(
            f"config: rope_parameters: {unknown[0]} is not an option of rope_type={kind!r}; "
            f"right: {', '.join((*needed, *optional)) or 'only rope_theta'}"
        )


def _number(name: str, value: Any) -> float | int | bool:
    if name == "truncate":
        if not isinstance(value, bool):
            raise InputError(f"config: rope_parameters: truncate={value!r}; right: true or false")
        return value
    kinds = (int,) if name == "original_max_position_embeddings" else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
        right = f"{'a whole number' if kinds == (int,) else 'a number'} above 0"
        raise InputError(f"config: rope_parameters: {name}={value!r}; right: {right}")
    return value


def _list(name: str, value: Any, length: int) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != length:
        given = f"{len(value)} numbers" if isinstance(value, list | tuple) else repr(value)
        raise InputError(f"config: rope_parameters: {name}: {given}; right: a list of {length}")
    return tuple(float(_number(name, x)) for x in value)


def _one(rope: Rope) -> float:
    return 1.0

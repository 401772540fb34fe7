"""The angles of rotary positions, one function for each ``rope_type``.

Each gives the frequencies θᵢ, ``(D/2,)`` in fp32: radians that pair i turns from one position to
the next. The first pairs turn fast and tell neighbours apart, the last ones turn slowly and tell
where in a long text a token is. A model that was trained on short texts meets angles of the slow
pairs that it has never seen when the text goes on; every variant after "default" is a way of
keeping them in the known range.

The operations come in the order of ``transformers.modeling_rope_utils``, so that all frequencies
are its own to the last bit: at position 8,000 one bit of θ₀ is an angle of 0.0005.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from minift.layers.rotary import Rope

TAU = 2 * math.pi


def default(rope: "Rope", length: Tensor) -> Tensor:
    """``θᵢ = base^(−2i/D)`` (Su et al. 2021, equation 15)."""
    return 1.0 / rope.rope_theta ** _exponents(rope, length)


def linear(rope: "Rope", length: Tensor) -> Tensor:
    """``θᵢ / factor``: positions squeezed into the trained length (Chen et al. 2023,
    arXiv:2306.15595, equation 4)."""
    return default(rope, length) / rope.factor


def dynamic(rope: "Rope", length: Tensor) -> Tensor:
    """A larger base, by how far the text is past the trained length L ("dynamic NTK").

    ``base · (factor · length / L − (factor − 1))^(D / (D − 2))``: the slowest pair is squeezed
    most, the fastest not at all (Peng et al. 2023, arXiv:2309.00071, sections 3.1 and 3.3). The
    keys that a cache holds keep the angles of their own time.
    """
    trained = rope.max_position_embeddings
    growth = rope.factor * length / trained - (rope.factor - 1)
    growth = torch.where(length > trained, growth, 1.0)
    base = rope.rope_theta * growth ** (rope.head_dim / (rope.head_dim - 2))
    return 1.0 / base ** _exponents(rope, length)


def yarn(rope: "Rope", length: Tensor) -> Tensor:
    """Fast pairs as they are, slow ones ``/ factor``, a ramp between (Peng et al., section 3.2).

    A pair is fast when it turns ``beta_fast`` times or more within the trained length, slow when
    it turns ``beta_slow`` times or less.
    """
    low, high = _turning(rope, rope.beta_fast), _turning(rope, rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.head_dim - 1)
    if low == high:
        high += 0.001  # a step instead of a ramp
    pairs = torch.arange(rope.head_dim // 2, dtype=torch.float32, device=length.device)
    kept = 1 - ((pairs - low) / (high - low)).clamp(0, 1)
    wavelengths = rope.rope_theta ** _exponents(rope, length)
    return 1.0 / (rope.factor * wavelengths) * (1 - kept) + 1.0 / wavelengths * kept


def longrope(rope: "Rope", length: Tensor) -> Tensor:
    """``θᵢ / factorᵢ`` with a searched factor for each pair (Ding et al. 2024, arXiv:2402.13753).

    One list serves texts up to the original length, the other all longer ones.
    """
    short, long = (
        torch.tensor(factors, dtype=torch.float32, device=length.device)
        for factors in (rope.short_factor, rope.long_factor)
    )
    factors = torch.where(length > rope.original_max_position_embeddings, long, short)
    return 1.0 / (factors * rope.rope_theta ** _exponents(rope, length))


def llama3(rope: "Rope", length: Tensor) -> Tensor:
    """Waves longer than ``L / low_freq_factor`` are slowed by ``factor``, those shorter than
    ``L / high_freq_factor`` stay, with a ramp between. L: the original length; Llama 3.1's rule."""
    plain = default(rope, length)
    original, low, high = (
        rope.original_max_position_embeddings, rope.low_freq_factor, rope.high_freq_factor,
    )  # fmt: skip
    wavelengths = TAU / plain
    slowed = torch.where(wavelengths > original / low, plain / rope.factor, plain)
    kept = (original / wavelengths - low) / (high - low)
    between = (1 - kept) * slowed / rope.factor + kept * slowed
    is_between = (wavelengths >= original / high) & (wavelengths <= original / low)
    return torch.where(is_between, between, slowed)


def proportional(rope: "Rope", length: Tensor) -> Tensor:
    """The default's first ``partial_rotary_factor`` of the pairs, ``/ factor``; the rest stand
    still (``p-RoPE``, Barbero et al. 2024, arXiv:2410.06205, section 6)."""
    turning = int(rope.partial_rotary_factor * rope.head_dim // 2)
    frequencies = default(rope, length)
    frequencies[turning:] = 0.0
    return frequencies / rope.factor


def yarn_amplitude(rope: "Rope") -> float:
    """Longer queries and keys, for scores as sharp as before: ``0.1 ln(factor) + 1`` (Peng et al.
    2023, equation 22); ``mscale`` and ``mscale_all_dim`` are DeepSeek's ratio of two of these."""
    if rope.attention_factor is not None:
        return rope.attention_factor

    def rule(mscale: float) -> float:
        return 1.0 if rope.factor <= 1 else 0.1 * mscale * math.log(rope.factor) + 1.0

    if rope.mscale and rope.mscale_all_dim:
        return rule(rope.mscale) / rule(rope.mscale_all_dim)
    return rule(1.0)


def longrope_amplitude(rope: "Rope") -> float:
    """``√(1 + ln(factor) / ln(L))``, L: the original length (Ding et al. 2024)."""
    if rope.attention_factor is not None:
        return rope.attention_factor
    if rope.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(rope.factor) / math.log(rope.original_max_position_embeddings))


def _exponents(rope: "Rope", length: Tensor) -> Tensor:
    """``2i/D`` for the pairs i, ``(D/2,)``."""
    return torch.arange(0, rope.head_dim, 2, device=length.device).float() / rope.head_dim


def _turning(rope: "Rope", turns: float) -> float:
    """The (fractional) pair that turns so many times within the original length."""
    wavelength = rope.original_max_position_embeddings / (turns * TAU)
    return rope.head_dim * math.log(wavelength) / (2 * math.log(rope.rope_theta))


FREQUENCIES: dict[str, Callable[["Rope", Tensor], Tensor]] = {
    "default": default,
    "linear": linear,
    "dynamic": dynamic,
    "yarn": yarn,
    "longrope": longrope,
    "llama3": llama3,
    "proportional": proportional,
}
AMPLITUDES: dict[str, Callable[["Rope"], float]] = {
    "yarn": yarn_amplitude,
    "longrope": longrope_amplitude,
}
"""Types whose rotation also lengthens queries and keys."""

"""Parity with Hugging Face: how far two models are apart, and the first layer where they part.

The same input goes through both. Hugging Face has two implementations of attention, "eager" and
"sdpa", that differ by rounding only; their difference on this very input is the **noise floor**.
A difference of ours is in order when it is within

    tolerance = max(2 × noise floor, (10⁻⁶ · max|x| + 2·10⁻⁶) · ε / ε_fp32)

for each quantity x: the second term, measured over many small random models, is what fp32 rounding
comes to where the floor happens to be small; ε is the precision of the models' dtype. Gradients
are sums over tokens and layers: they get 4 × the floor, and 2·10⁻⁶ times a fifth of the median of
all parameters' largest gradients, where that is above 1 (some, such as that of a key's bias, are 0
but for rounding). Padded positions are left out. Dropout is off.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minift.compare.pairs import Alignment, align, check_same_kind
from minift.compare.running import (
    Named,
    batch_for,
    evaluating,
    recording_nothing,
    run,
    run_theirs,
)

FACTOR, GRADIENT_FACTOR = 2.0, 4.0
"""How many times the noise floor a difference may be."""


@dataclass(frozen=True)
class Row:
    """One compared quantity; numbers are maxima of absolute values."""

    name: str
    difference: float
    floor: float
    tolerance: float
    size: float
    """max|x| of Hugging Face's values."""
    tensor: str = ""
    """Where the difference is largest, when the quantity is several tensors (gradients)."""

    @property
    def ok(self) -> bool:
        return self.difference <= self.tolerance  # False for NaN


@dataclass(frozen=True)
class Report:
    """The comparison of two models, in the order of computation."""

    rows: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def first_difference(self) -> str | None:
        """The name of the first quantity out of tolerance."""
        return next((row.name for row in self.rows if not row.ok), None)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; a number that is not finite becomes ``None``."""
        rows = []
        for row in self.rows:
            rows.append({k: _finite(v) for k, v in asdict(row).items()} | {"ok": row.ok})
        return {"ok": self.ok, "first_difference": self.first_difference, "rows": rows}

    def table(self) -> str:
        """The rows as aligned text."""
        head = f"{'':<16}{'difference':>12}{'noise floor':>13}{'tolerance':>12}{'max|x|':>10}"
        lines = [head]
        for row in self.rows:
            numbers = f"{row.difference:>12.1e}{row.floor:>13.1e}{row.tolerance:>12.1e}"
            where = f"  at {row.tensor}" if row.tensor and not row.ok else ""
            verdict = "" if row.ok else f"  DIFFERS{where}"
            lines.append(f"{row.name:<16}{numbers}{row.size:>10.3g}{verdict}")
        return "\n".join(lines)


def compare(
    ours: nn.Module,
    theirs: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    labels: Tensor | None = None,
    decoder_input_ids: Tensor | None = None,
    gradients: bool = True,
) -> Report:
    """Hold our model against a ``transformers`` model with the same weights.

    Args:
        ours: a model of this project.
        theirs: its counterpart, of ``transformers`` or ours; run with both of its attention
            implementations.
        input_ids: ``(B, T)``; of an image model, its ``pixel_values``.
        attention_mask: ``(B, T)``; 0 marks padding, on either side.
        labels: for the loss whose gradients are compared; ``None``: a fixed random projection of
            all outputs.
        decoder_input_ids: ``(B, T′)``, for encoder-decoders without ``labels``.
        gradients: compare the gradient of every parameter too.
    """
    check_same_kind(ours, theirs)
    batch = batch_for(ours, theirs, input_ids, attention_mask, labels, decoder_input_ids)
    with evaluating(ours), evaluating(theirs):
        mine = run(ours, batch, gradients)
        others = run_theirs(theirs, batch, gradients, recording_nothing)
    return report(align(ours, theirs), mine, *others)


def report(
    alignment: Alignment, mine: dict[str, Named], sdpa: dict[str, Named], eager: dict[str, Named]
) -> Report:
    """The table of what three runs gave."""
    if "gradients" in mine:
        named = mine["gradients"].items()
        mine["gradients"] = {
            alignment.names[key]: alignment.turned(key, value)
            for key, value in named
            if key in alignment.names
        }
    scale = gradient_scale(sdpa)
    kept = [name for name in sdpa if name in mine]
    return Report([_row(name, mine[name], sdpa[name], eager[name], scale) for name in kept])


def tolerance(
    floor: float, size: float, epsilon: float = 1.0, *, factor: float = FACTOR, scale: float = 1.0
) -> float:
    """The rule of this module, for values of at most ``size``."""
    return max(factor * floor, (1e-6 * size + 2e-6 * scale) * epsilon)


def gradient_scale(quantities: dict[str, Named]) -> float:
    """A fifth of the median of every parameter's largest gradient, at least 1."""
    sizes = sorted(largest(value) for value in quantities.get("gradients", {}).values())
    return max(1.0, sizes[len(sizes) // 2] / 5) if sizes else 1.0


def precision(values: Tensor) -> float:
    """ε of a tensor's dtype, in units of fp32's."""
    if not values.is_floating_point():
        return 0.0
    return torch.finfo(values.dtype).eps / torch.finfo(torch.float32).eps


def largest(x: Tensor) -> float:
    """max|x|; 0 of nothing."""
    return float(x.abs().max()) if x.numel() else 0.0


def _row(name: str, mine: Named, sdpa: Named, eager: Named, scale: float) -> Row:
    """The tensor of this quantity that is worst against its own tolerance."""
    rule = {"factor": GRADIENT_FACTOR, "scale": scale} if name == "gradients" else {}
    rows = []
    for tensor, theirs in sdpa.items():
        if tensor not in mine:
            continue
        size, floor = largest(theirs), floor_of(theirs, eager[tensor])
        difference, epsilon = largest(mine[tensor] - theirs), precision(theirs)
        limit = tolerance(floor, size, epsilon, **rule)
        rows.append(Row(name, difference, floor, limit, size, tensor))
    return max(rows, key=_badness)


def floor_of(sdpa: Tensor, eager: Tensor) -> float:
    """max|sdpa − eager|; 0 where the second is fp64 and has no number for padding."""
    floor = largest(sdpa.double() - eager.double())
    return floor if math.isfinite(floor) else 0.0


def _badness(row: Row) -> float:
    return math.inf if math.isnan(row.difference) else row.difference / row.tolerance


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""Parity with Hugging Face: how far two models are apart, and the first layer where they part.

The same input goes through both. Hugging Face has two implementations of attention, "eager" and
"sdpa", that differ by rounding only; their difference on this very input is the **noise floor**.
A difference of ours is in order when it is within

    tolerance = max(2 × noise floor, (10⁻⁶ · max|x| + 2·10⁻⁶) · ε / ε_fp32)

for each quantity x: the second term, measured over many small random models, is what fp32 rounding
comes to where the floor happens to be small; ε is the precision of the models' dtype. Padded
positions are left out. Dropout is off.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minift.models.loading import hf_names, to_hf_layout

Named = dict[str, Tensor]


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
    gradients: bool = True,
) -> Report:
    """Hold our model against a ``transformers`` model with the same weights.

    Args:
        ours: a model of this project.
        theirs: its counterpart; run with both of its attention implementations.
        input_ids: ``(B, T)``.
        attention_mask: ``(B, T)``; 0 marks padding, on either side.
        labels: for the loss whose gradients are compared; ``None``: a fixed random projection of
            all outputs.
        gradients: compare the gradient of every parameter too.
    """
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    inputs: dict[str, Tensor] = {"input_ids": input_ids, "attention_mask": mask}
    if labels is not None:
        inputs["labels"] = labels
    with _evaluating(ours), _evaluating(theirs):
        mine = _run(ours, inputs, gradients)
        if "gradients" in mine:
            mine["gradients"] = _translated(ours, mine["gradients"])
        if theirs.config.model_type == "gpt2":  # its forward does not count from the first token
            inputs["position_ids"] = (mask.long().cumsum(-1) - 1).clamp(min=0)
        with _implementation(theirs, "eager"):
            eager = _run(theirs, inputs, gradients)
        with _implementation(theirs, "sdpa"):
            sdpa = _run(theirs, inputs, gradients)
    epsilon = torch.finfo(next(ours.parameters()).dtype).eps / torch.finfo(torch.float32).eps
    return Report([_row(name, mine[name], sdpa[name], eager[name], epsilon) for name in sdpa])


def tolerance(floor: float, size: float, epsilon: float = 1.0) -> float:
    """The rule of this module, for values of at most ``size``."""
    return max(2 * floor, (1e-6 * size + 2e-6) * epsilon)


def _row(name: str, mine: Named, sdpa: Named, eager: Named, epsilon: float) -> Row:
    """The tensor of this quantity that is worst against its own tolerance."""
    rows = []
    for tensor, theirs in sdpa.items():
        size, floor = _largest(theirs), _largest(theirs - eager[tensor])
        difference = _largest(mine[tensor] - theirs)
        rows.append(Row(name, difference, floor, tolerance(floor, size, epsilon), size, tensor))
    return max(rows, key=_badness)


def _badness(row: Row) -> float:
    return math.inf if math.isnan(row.difference) else row.difference / row.tolerance


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0


def _run(model: Any, inputs: dict[str, Tensor], gradients: bool) -> dict[str, Named]:
    """Every compared quantity, in the order of computation, real tokens only."""
    with torch.set_grad_enabled(gradients):
        output = model(**inputs, output_hidden_states=True)
    real = inputs["attention_mask"] != 0
    found = {"embeddings": output.hidden_states[0][real]}
    for i, hidden in enumerate(output.hidden_states[1:], start=1):
        found[f"layer {i}"] = hidden[real]
    if getattr(output, "pooler_output", None) is not None:
        found["pooled"] = output.pooler_output
    if getattr(output, "logits", None) is not None:
        found["logits"] = output.logits[real]
    if getattr(output, "loss", None) is not None:
        found["loss"] = output.loss
    quantities = {name: {"": value.detach()} for name, value in found.items()}
    if gradients:
        scalar = found["loss"] if "loss" in found else _projection(list(found.values())[1:])
        quantities["gradients"] = _gradients(scalar, dict(model.named_parameters()))
    return quantities


def _projection(outputs: list[Tensor]) -> Tensor:
    """A scalar that depends on every output: the product with one fixed random direction."""
    flat = torch.cat([output.flatten() for output in outputs])
    direction = torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    return (flat * direction.to(flat)).sum()


def _translated(model: nn.Module, gradients: Named) -> Named:
    names = hf_names(model)
    return {names[key]: to_hf_layout(model, key, value) for key, value in gradients.items()}


def _gradients(scalar: Tensor, parameters: Named) -> Named:
    """Of every parameter; the models' own ``.grad`` stay untouched."""
    values = torch.autograd.grad(scalar, list(parameters.values()), materialize_grads=True)
    return dict(zip(parameters, values, strict=True))


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@contextmanager
def _implementation(model: Any, name: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        yield
    finally:
        model.set_attn_implementation(before)

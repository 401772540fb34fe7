"""What needs no formula: chance, the order of the modules, and the usual suspects."""

import torch

from minift.compare.hypotheses.evidence import Cause, Evidence
from minift.compare.record import Trace

SUSPECTS = {
    "attention": (
        "scale", "mask", "layout of RoPE halves", "head mapping", "relative bias", "soft-cap",
    ),
    "sum": ("residual missing", "pre-norm or post-norm", "missing term", "activation variant"),
    "product": ("weights differ", "transposed weight", "missing bias", "dtype"),
    "norm": ("norm epsilon", "norm gain", "norm formula", "dtype"),
    "embedding": ("position offset", "weights differ", "factor"),
    "result": ("tied weights", "shift of the labels"),
}  # fmt: skip


def is_random(evidence: Evidence) -> bool:
    """Whether ours gives other numbers from another seed."""
    first = evidence.mine.by_key()[evidence.place.key].value
    second = evidence.again.by_key().get(evidence.place.key)
    if second is None:
        return False
    one, other = evidence.batch.real(first), evidence.batch.real(second.value)
    if one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        return True
    apart = float((one.double() - other.double()).nan_to_num().abs().max())
    before = evidence.distance(evidence.step.value) or 0.0
    return apart > max(evidence.tolerance, 0.05 * before)


def order(evidence: Evidence) -> list[Cause]:
    """Modules before the place that ours does not run, or runs more often."""
    mine, theirs = _calls(evidence.mine), _calls(evidence.theirs)
    before = {step.name for step in evidence.theirs.steps[: evidence.index]}
    found = []
    for name in sorted(before & evidence.alignment.pairs.keys()):
        if mine.get(name, 0) != theirs.get(name, 0):
            text = f"ours runs {name} {mine.get(name, 0)} times, theirs {theirs.get(name, 0)}"
            found.append(Cause("module left out or run again", text, False))
    return found


def suspects(evidence: Evidence) -> list[Cause]:
    """What it often is at such a place; none of it could be reproduced."""
    kind = kind_of(evidence)
    text = f"usual at a place like this ({kind}); none of what was tried gives our numbers"
    return [Cause(name, text, False) for name in SUSPECTS[kind]]


def kind_of(evidence: Evidence) -> str:
    """What computes the numbers at the place."""
    name, side, _ = evidence.place.key
    if name in ("logits", "loss"):
        return "result"
    weight = evidence.right("weight")
    if side == "input":
        return "attention" if evidence.step.attention is not None else "sum"
    if name not in evidence.alignment.pairs or weight is None:
        return "sum"
    if isinstance(evidence.alignment.pairs[name].theirs, torch.nn.Embedding):
        return "embedding"
    return "norm" if weight.dim() == 1 else "product"


def _calls(trace: Trace) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in trace.steps:
        if step.side == "output":
            counts[step.name] = counts.get(step.name, 0) + 1
    return counts

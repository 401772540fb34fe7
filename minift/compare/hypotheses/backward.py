"""Equal outputs, other gradients: cut off, scaled, or one of two uses of a tied weight."""

import torch
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Cause, Evidence


def causes(evidence: Evidence) -> list[Cause]:
    """What makes our gradient from theirs at the place."""
    pair = _gradients(evidence)
    if pair is None:
        return [_unknown()]
    ours, theirs = pair
    if ours is None or not bool(ours.any()):
        text = "no gradient comes through: .detach(), .item(), torch.tensor(…) or no_grad"
        return [Cause("gradient cut off", text, True)]
    tied = _half_of_tied(evidence, ours, theirs)
    if tied is not None:
        return [tied]
    factor = float((ours.double() * theirs.double()).sum() / theirs.double().pow(2).sum())
    rest = (ours.double() - factor * theirs.double()).abs().max()
    if float(rest) <= 0.02 * float((ours - theirs).abs().max()):
        text = f"our gradient is {factor:.3g} times theirs"
        return [Cause("gradient scaled", text, True)]
    return [_part_lost(evidence, ours, theirs)]


def _gradients(evidence: Evidence) -> tuple[Tensor | None, Tensor] | None:
    name, side, _ = evidence.place.key
    if side == "output":
        ours = evidence.mine.by_key()[evidence.place.key].gradient
        theirs = evidence.theirs.by_key()[evidence.place.key].gradient
        if theirs is None:
            return None
        mine = None if ours is None else evidence.batch.real(ours)
        return mine, evidence.batch.real(theirs)
    key = evidence.alignment.names.get(f"{name}.{side}", "")
    ours, theirs = (given.get(key) for given in evidence.gradients)
    return None if theirs is None else (ours, theirs)


def _half_of_tied(evidence: Evidence, ours: Tensor, theirs: Tensor) -> Cause | None:
    """Of a table used at both ends: the gradient of its first use, from the recorded rows."""
    name, side, _ = evidence.place.key
    pair = evidence.alignment.pairs.get(name)
    found = evidence.theirs.by_key()
    ids, out = found.get((name, "input", 0)), found.get((name, "output", 0))
    if side == "output" or pair is None or not isinstance(pair.theirs, nn.Embedding):
        return None
    if ids is None or out is None or out.gradient is None:
        return None
    rows = out.gradient.expand(*ids.value.shape, -1).flatten(0, -2)
    looked_up = torch.zeros_like(theirs).index_add(0, ids.value.flatten(), rows)
    scale = float((ours - theirs).abs().max())
    for part, what in ((looked_up, "the head's use"), (theirs - looked_up, "the look-up")):
        if float((ours - part).abs().max()) <= 0.02 * scale:
            text = f"the weight is used twice, and {what} gives it no gradient"
            return Cause("tied weights", text, True)
    return None


def _part_lost(evidence: Evidence, ours: Tensor, theirs: Tensor) -> Cause:
    smaller = float(ours.norm()) < float(theirs.norm())
    text = (
        "of several ways for the gradient, one is cut off or changed (.detach(), no_grad, a hook)"
    )
    return Cause("gradient cut off" if smaller else "gradient changed", text, False)


def _unknown() -> Cause:
    return Cause("gradient changed", "a hook, .detach() or another formula backwards", False)

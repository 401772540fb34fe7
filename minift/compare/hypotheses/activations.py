"""The activation between the two products of a feed-forward network, plain or gated."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.layers.activation import ACTIVATIONS

Form = tuple[str, Callable[[Tensor], Tensor]]
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    **ACTIVATIONS,
    "no activation": lambda x: x,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "sigmoid": torch.sigmoid,
}


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Every known activation in place of theirs, of one product or of two."""
    if evidence.place.key[1] != "input" or not evidence.step.value.is_floating_point():
        return
    forms = list(_forms(evidence))
    theirs = next((name for name, value in forms if _is(evidence, value)), None)
    if theirs is None:
        return
    for name, value in forms:
        if name != theirs:
            swapped = name.split("(")[-1] != theirs.split("(")[-1] and "·" in name
            kind = "gate and up exchanged" if swapped else "activation variant"
            yield Guess(kind, f"{name} here, {theirs} in theirs", value)


def _forms(evidence: Evidence) -> Iterator[tuple[str, Tensor]]:
    """What these products can become: act(a), act(a) · b, a · act(b), for each activation."""
    shape = evidence.step.value.shape
    made = [s for s in evidence.earlier() if s.side == "output" and s.value.shape == shape][:2]
    for name, act in PLAIN.items():
        if made:
            yield name, act(made[0].value)
        if len(made) == 2:
            up, gate = made
            yield f"{name} · ({up.name})", act(gate.value) * up.value
            yield f"{name} · ({gate.name})", gate.value * act(up.value)


def _is(evidence: Evidence, value: Tensor) -> bool:
    theirs, guess = evidence.batch.real(evidence.step.value), evidence.batch.real(value)
    return float((theirs - guess).abs().max()) <= evidence.tolerance

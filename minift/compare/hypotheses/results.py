"""Logits whose head is no module of ours, and the loss."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.compare.record import same


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """The head with another weight; the loss with another shift or mean."""
    name = evidence.place.key[0]
    if name == "logits":
        yield from _heads(evidence)
    elif name == "loss" and "labels" in evidence.batch.inputs:
        logits = evidence.theirs.by_key()["logits", "output", 0].value
        yield from _losses(logits, evidence.batch.inputs["labels"])


def _heads(evidence: Evidence) -> Iterator[Guess]:
    logits = evidence.step.value
    states = list(evidence.earlier())
    for pair in evidence.alignment.pairs.values():
        table = evidence.right("weight", pair.name)
        if table is None or not isinstance(pair.theirs, nn.Embedding):
            continue
        for step in states:
            if len(table) != logits.shape[-1] or step.value.shape[-1] != table.shape[-1]:
                continue
            real = evidence.batch.real(step.value)
            if not evidence.alignment.is_tied:
                text = f"ours is {pair.name}.weight again; theirs has numbers of its own"
                yield Guess("tied weights", text, real @ table.T)
            for head in evidence.alignment.pairs.values():
                own = getattr(head.ours, "weight", None)
                is_other = isinstance(own, Tensor) and not same(own.detach(), table)
                if isinstance(own, Tensor) and own.shape == table.shape and is_other:
                    text = f"ours multiplies by {head.name}.weight, which holds other numbers"
                    yield Guess("tied weights", text, real @ own.detach().T)


def _losses(logits: Tensor, labels: Tensor) -> Iterator[Guess]:
    """``logits`` are those of real tokens; the loss is only tried where none is padding."""
    if logits.numel() // logits.shape[-1] != labels.numel():
        return
    full = logits.reshape(*labels.shape, -1)  # (B, T, V)
    flat = F.cross_entropy(full.flatten(0, -2), labels.flatten())
    yield Guess("shift of the labels", "place t is held against label t, theirs t + 1", flat)
    if labels.dim() == 2 and labels.shape[1] > 2:
        for shift, text in ((1, "t + 1, theirs t"), (2, "t + 2")):
            value = F.cross_entropy(full[:, :-shift].flatten(0, 1), labels[:, shift:].flatten())
            yield Guess("shift of the labels", f"place t is held against label {text}", value)
        total = F.cross_entropy(
            full[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum"
        )
        yield Guess("sum or mean", "the loss is the sum over the tokens", total)
    yield Guess("sum or mean", "a sum over the tokens", flat * torch.tensor(labels.numel()))

"""Token and position embeddings: which rows are looked up, and in which table."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.compare.record import same


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Other ids at the input; other rows or another table at the output."""
    name, side, _ = evidence.place.key
    pair = evidence.alignment.pairs.get(name)
    if pair is None or not isinstance(pair.theirs, nn.Embedding):
        return
    if side == "input":
        yield from _ids(evidence, evidence.step.value)
        return
    ids, table = evidence.input(), evidence.right("weight")
    if ids is None or table is None or ids.is_floating_point():
        return
    for shift in (-2, -1, 1, 2):
        rows = (ids + shift).clamp(0, len(table) - 1)
        yield Guess("position offset", f"row i {shift:+} is taken for i", table[rows])
    own = evidence.own("weight")
    if own is not None and own.shape[1:] == table.shape[1:] and not same(own, table):
        text = "theirs with our table gives our numbers: other weights were loaded"
        inside = ids.clamp(max=len(own) - 1)
        for other, right in evidence.alignment.right.items():
            if same(right, own) and other != f"{name}.weight":
                held = f"it holds theirs of {other.removesuffix('.weight')}"
                yield Guess("weights of another module", held, F.embedding(inside, own))
        yield Guess("weights differ", text, F.embedding(inside, own))


def _ids(evidence: Evidence, ids: Tensor) -> Iterator[Guess]:
    ours = evidence.ours_here
    mine, right = evidence.batch.real(ours), evidence.batch.real(ids)
    if mine.shape == right.shape and mine.numel():
        shift = int((mine - right).flatten()[0])
        yield Guess("position offset", f"positions start at {shift:+} of theirs", ids + shift)
    places = torch.arange(ids.shape[-1])[None].expand_as(ids)
    text = "places are counted with the padding on the left, not from the first token"
    yield Guess("positions with padding", text, places)

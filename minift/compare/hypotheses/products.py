"""A product y = W x + b with another W, another b, other rows, or less precision."""

from collections.abc import Iterator
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.compare.record import same

Inputs = tuple[Tensor, Tensor, Tensor | None]
ORDERS = ("q, k, v", "q, v, k", "k, q, v", "k, v, q", "v, q, k", "v, k, q")


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Every variant on their input with their weights."""
    x, weight = evidence.input(), evidence.right("weight")
    if evidence.place.key[1] != "output" or x is None or weight is None or weight.dim() != 2:
        return
    if isinstance(evidence.alignment.pairs[evidence.place.key[0]].theirs, nn.Embedding):
        return
    bias = evidence.right("bias")
    yield from _biases(evidence, (x, weight, bias))
    if weight.shape[0] == weight.shape[1]:
        text = "the weight is stored as (in, out) there and was not turned"
        yield Guess("transposed weight", text, F.linear(x, weight.T, bias))
    yield from _rows(evidence, (x, weight, bias))
    yield from _tied(evidence, (x, weight, bias))
    yield from _precision((x, weight, bias))
    yield from _other_weights(evidence, (x, weight, bias))


def head_dim(evidence: Evidence) -> int | None:
    """D, from the attention that they compute."""
    found = (s.attention for s in evidence.theirs.steps if s.attention is not None)
    return next((a.q.shape[-1] for a in found), None)


def to_halves(weight: Tensor, dim: int) -> Tensor:
    """Rows of each head from pairs (0, 1), (2, 3), … to halves (0, D/2), (1, D/2 + 1), …"""
    rows = weight.reshape(-1, dim // 2, 2, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


def to_pairs(weight: Tensor, dim: int) -> Tensor:
    """The way back."""
    rows = weight.reshape(-1, 2, dim // 2, *weight.shape[1:])
    return rows.transpose(1, 2).reshape(weight.shape)


def _biases(evidence: Evidence, given: Inputs) -> Iterator[Guess]:
    x, weight, bias = given
    own = evidence.own("bias")
    if bias is not None:
        yield Guess("missing bias", "the bias is not added", F.linear(x, weight))
        yield Guess("bias added twice", "the bias is added twice", F.linear(x, weight, 2 * bias))
    elif own is not None:
        yield Guess("extra bias", "theirs has no bias here", F.linear(x, weight, own))


def _rows(evidence: Evidence, given: Inputs) -> Iterator[Guess]:
    x, weight, bias = given
    dim = head_dim(evidence)
    right = F.linear(x, weight, bias)
    rows = right.movedim(-1, 0)  # (out, …)
    if dim is not None and dim % 2 == 0 and weight.shape[0] % dim == 0:
        for change in (to_halves, to_pairs):
            text = (
                "within each head the rows stand in another order: pairs (0, 1), (2, 3), … against "
                "halves (0, D/2), …: the layout of RoPE"
            )
            yield Guess("q/k permutation", text, change(rows, dim).movedim(0, -1))
    if weight.shape[0] % 3 == 0:
        parts = dict(zip("qkv", right.chunk(3, dim=-1), strict=True))
        for order in permutations("qkv"):
            if order != ("q", "k", "v"):
                text = f"the three parts come as {', '.join(order)}"
                yield Guess("order of q, k, v", text, torch.cat([parts[p] for p in order], -1))
        if dim is not None and weight.shape[0] % (3 * dim) == 0:
            by_head = right.unflatten(-1, (-1, 3, dim)).transpose(-2, -3).flatten(-3)
            text = "q, k and v are taken head by head, theirs has all of q first"
            yield Guess("order of q, k, v", text, by_head)


def _tied(evidence: Evidence, given: Inputs) -> Iterator[Guess]:
    """The head of a language model, which may be the token embedding again."""
    x, weight, bias = given
    own = evidence.own("weight")
    for name, table in _embeddings(evidence):
        if table.shape != weight.shape or own is None:
            continue
        if torch.equal(table, weight) and not torch.equal(own, weight):
            text = f"theirs is {name}.weight again; ours has numbers of its own"
            yield Guess("tied weights", text, F.linear(x, own, bias))
        elif torch.equal(own, table) and not torch.equal(table, weight):
            text = f"ours is {name}.weight again; theirs has numbers of its own"
            yield Guess("tied weights", text, F.linear(x, table, bias))


def _embeddings(evidence: Evidence) -> Iterator[tuple[str, Tensor]]:
    for pair in evidence.alignment.pairs.values():
        table = evidence.right("weight", pair.name)
        if isinstance(pair.theirs, nn.Embedding) and table is not None:
            yield pair.name, table


def _precision(given: Inputs) -> Iterator[Guess]:
    x, weight, bias = given
    for dtype in (torch.bfloat16, torch.float16):
        if x.dtype == dtype:
            continue
        name = str(dtype).removeprefix("torch.")
        w, b = weight.to(dtype), None if bias is None else bias.to(dtype)
        value = F.linear(x.to(dtype), w, b).to(x.dtype)
        yield Guess("dtype", f"computed in {name}", value)
        rounded = F.linear(x, w.to(x.dtype), None if b is None else b.to(x.dtype))
        yield Guess("dtype", f"the weights were rounded to {name}", rounded)


def _other_weights(evidence: Evidence, given: Inputs) -> Iterator[Guess]:
    x, weight, _ = given
    own, own_bias = evidence.own("weight"), evidence.own("bias")
    if own is None or own.shape != weight.shape or _equal(own, weight, own_bias, evidence):
        return
    value = F.linear(x, own, own_bias)
    for name, other in evidence.alignment.right.items():
        if (
            same(other, own)
            and name.endswith(".weight")
            and name != f"{evidence.place.key[0]}.weight"
        ):
            text = f"it holds theirs of {name.removesuffix('.weight')}"
            yield Guess("weights of another module", text, value)
    text = "theirs with our weights gives our numbers: other weights were loaded"
    yield Guess("weights differ", text, value)


def _equal(own: Tensor, weight: Tensor, own_bias: Tensor | None, evidence: Evidence) -> bool:
    """Whether ours has their parameters."""
    bias = evidence.right("bias")
    if own_bias is None or bias is None:
        return own_bias is bias and torch.equal(own, weight)
    return torch.equal(own, weight) and torch.equal(own_bias, bias)

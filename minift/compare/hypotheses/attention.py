"""softmax(scale · q kᵀ + mask) v with one thing wrong, on their recorded q, k and v."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from minift.compare.hypotheses.evidence import Evidence, Guess
from minift.compare.hypotheses.rotary import other_rotations, rotation_of
from minift.compare.record import Attention
from minift.layers.attention import merge_heads, split_heads


@dataclass(frozen=True)
class Parts:
    """One attention of theirs: ``q, k, v: (B, H, T, D)``, keys not yet repeated for groups."""

    q: Tensor
    k: Tensor
    v: Tensor
    seen: Tensor | None
    """``(…, M, N)``, True where a key may be seen; ``None``: everywhere."""
    bias: Tensor | None
    scale: float
    softcap: float | None = None


def guesses(evidence: Evidence) -> Iterator[Guess]:
    """Every variant of the attention just before the place."""
    found = evidence.step.attention
    if found is None or evidence.place.key[1] != "input":
        return
    parts = _parts(found)
    if parts.q.shape[-2] != parts.k.shape[-2]:
        yield from _scales(parts, evidence)
        return
    yield from _masks(parts)
    yield from _scales(parts, evidence)
    yield from _heads(parts, evidence)
    yield from _rotations(parts, evidence)
    yield from _formulas(parts)


def attend(
    parts: Parts,
    *,
    q: Tensor | None = None,
    k: Tensor | None = None,
    v: Tensor | None = None,
    seen: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The heads side by side, ``(B, T, H·D)``; what is given takes the place of a part."""
    q, k, v = (part if x is None else x for x, part in
               ((q, parts.q), (k, parts.k), (v, parts.v)))  # fmt: skip
    weights = _scores(parts, q, k, parts.seen if seen is None else seen, scale).softmax(-1)
    return merge_heads(weights @ _grouped(v, q.shape[1]))


def _scores(parts: Parts, q: Tensor, k: Tensor, seen: Tensor | None, scale: float | None) -> Tensor:
    k = _grouped(k, q.shape[1])
    scores = q @ k.transpose(-2, -1) * (parts.scale if scale is None else scale)
    if parts.softcap is not None:
        scores = parts.softcap * torch.tanh(scores / parts.softcap)
    if parts.bias is not None:
        scores = scores + parts.bias
    return scores if seen is None else scores.masked_fill(~seen, torch.finfo(q.dtype).min)


def _step_by_step(found: Attention) -> Parts:
    """Scale, soft-cap, bias and mask, from what went into the softmax."""
    assert found.scores is not None
    scores, raw = found.scores, found.q @ found.k.transpose(-2, -1)
    seen = scores > torch.finfo(scores.dtype).min / 2
    cap, capped, before = None, raw, scores
    if found.capped is not None:
        into, out = found.capped
        cap = float((scores / out)[seen].median())
        before = into * cap
    scale = float((before / raw)[seen].median())
    capped = raw * scale if cap is None else cap * torch.tanh(raw * scale / cap)
    bias = (scores - capped).masked_fill(~seen, 0.0)
    small = float(bias.abs().max()) < 1e-3 * float(scores[seen].abs().max())
    k, v = (_ungrouped(x, found.q.shape[1]) for x in (found.k, found.v))
    return Parts(found.q, k, v, seen, None if small else bias, scale, cap)


def _parts(found: Attention) -> Parts:
    if found.scores is not None:
        return _step_by_step(found)
    m, n = found.q.shape[-2], found.k.shape[-2]
    seen, bias = found.mask, None
    if found.causal:
        seen = torch.ones(m, n, dtype=torch.bool).tril()
    elif seen is not None and seen.is_floating_point():
        hidden = seen <= torch.finfo(seen.dtype).min / 2
        bias = seen.masked_fill(hidden, 0.0)
        bias, seen = (bias if bool(bias.any()) else None), ~hidden
    k, v = (_ungrouped(x, found.q.shape[1]) for x in (found.k, found.v))
    smaller = min(k.shape[1], v.shape[1]) if k.shape[1] != v.shape[1] else k.shape[1]
    if k.shape[1] != v.shape[1]:
        smaller = max(k.shape[1], v.shape[1])
        k, v = _grouped(k, smaller), _grouped(v, smaller)
    return Parts(found.q, k, v, seen, bias, found.scale)


def _ungrouped(x: Tensor, heads: int) -> Tensor:
    """``(B, H_kv, N, D)``: each head once, where it was repeated for a group of queries."""
    for size in range(heads, 1, -1):
        if heads % size == 0 and x.shape[1] == heads:
            groups = x.unflatten(1, (-1, size))
            if torch.equal(groups, groups[:, :, :1].expand_as(groups)):
                return groups[:, :, 0]
    return x


def _grouped(x: Tensor, heads: int) -> Tensor:
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)


def _masks(parts: Parts) -> Iterator[Guess]:
    q, n = parts.q, parts.k.shape[-2]
    everywhere = torch.ones(n, n, dtype=torch.bool)
    past = everywhere.tril()
    seen = everywhere if parts.seen is None else parts.seen
    real = seen.any(-2, keepdim=True)  # (…, 1, N): keys that somebody sees
    is_causal = not bool((seen & ~past).any())
    if is_causal:
        both = past & real
        yield Guess("mask", "the causal mask is missing: the future is seen", _with(parts, real))
        ahead = everywhere.tril(1) & real
        yield Guess("mask", "each query also sees the next token", _with(parts, ahead))
        yield Guess("mask", "a query does not see itself", _with(parts, past.tril(-1) & real))
        if bool((both & ~seen).any()):
            yield Guess("window", "the sliding window is missing", _with(parts, both))
            width = int(seen.sum(-1).max())
            for other in (width - 1, width + 1):
                text = f"the window is {other} tokens wide, theirs {width}"
                window = both & past.triu(1 - other)
                yield Guess("window", text, _with(parts, window))
    elif bool(seen.all()) or parts.seen is not None:
        yield Guess("mask", "a causal mask is put on", _with(parts, past & seen))
    if not bool(real.all()):
        base = past if is_causal else everywhere
        yield Guess("mask", "padding is not masked", _with(parts, base))
    if parts.seen is not None:
        yield Guess("mask", "no mask is applied", _with(parts, everywhere))
        yield Guess("mask", "the mask is inverted", _with(parts, ~seen))
        scores = _scores(parts, q, parts.k, None, None)
        text = "the mask is added as 0 and 1, not as 0 and −∞"
        weights = (scores + seen.to(scores.dtype)).softmax(-1)
        yield Guess("mask", text, merge_heads(weights @ _grouped(parts.v, q.shape[1])))


def _with(parts: Parts, seen: Tensor) -> Tensor:
    return attend(parts, seen=seen)


def _scales(parts: Parts, evidence: Evidence) -> Iterator[Guess]:
    heads, dim = parts.q.shape[1], parts.q.shape[-1]
    layer = next((int(p) for p in evidence.place.key[0].split(".") if p.isdigit()), 0)
    factors = {
        "1": 1.0, "1/D": 1 / dim, "1/√D": dim**-0.5, "√D": dim**0.5,
        "1/√(H·D)": (heads * dim) ** -0.5, "1/D²": dim**-2.0, "2/√D": 2 * dim**-0.5,
        "theirs squared": parts.scale**2,
        f"theirs/{layer + 1} (the layer)": parts.scale / (layer + 1),
        f"theirs·{layer + 1} (the layer)": parts.scale * (layer + 1),
    }  # fmt: skip
    for name, factor in factors.items():
        if abs(factor / parts.scale - 1) > 1e-6:
            text = f"scores are multiplied by {name} = {factor:.3g}, theirs by {parts.scale:.3g}"
            yield Guess("scale", text, attend(parts, scale=factor))


def _heads(parts: Parts, evidence: Evidence) -> Iterator[Guess]:
    q, k, v = parts.q, parts.k, parts.v
    heads, groups = q.shape[1], q.shape[1] // k.shape[1]
    if groups > 1:
        tiled = [x.repeat(1, groups, 1, 1) for x in (k, v)]
        text = "keys are given out in turn (0, 1, 0, 1), theirs in groups (0, 0, 1, 1)"
        yield Guess("head mapping", text, attend(parts, k=tiled[0], v=tiled[1]))
        first = [x[:, :1].expand(-1, heads, -1, -1) for x in (k, v)]
        text = "all queries use the first key head"
        yield Guess("head mapping", text, attend(parts, k=first[0], v=first[1]))
    weights = _scores(parts, q, k, parts.seen, None).softmax(-1)
    y = weights @ _grouped(v, heads)  # (B, H, T, D)
    text = "heads are put together without exchanging H and T first"
    yield Guess("heads not merged", text, y.reshape(y.shape[0], y.shape[2], -1))
    wide = [merge_heads(x) for x in (q, k, v)]
    for number in range(1, wide[0].shape[-1] + 1):
        if number != heads and groups == 1 and wide[0].shape[-1] % number == 0:
            a, b, c = (split_heads(x, number) for x in wide)
            scale = (wide[0].shape[-1] // number) ** -0.5
            other = replace(parts, q=a, k=b, v=c, bias=None, scale=scale)
            if parts.seen is None or parts.seen.dim() < 4 or parts.seen.shape[1] == 1:
                text = f"{number} heads, theirs has {heads}"
                yield Guess("number of heads", text, attend(other))
    if groups == 1 and q.shape[2] == k.shape[2]:
        batch, _, tokens, dim = q.shape
        cut = [x.reshape(batch, heads, tokens, dim) for x in wide]
        text = "(B, T, C) is reshaped straight to (B, H, T, D): tokens and heads are mixed"
        yield Guess("heads not split", text, attend(parts, q=cut[0], k=cut[1], v=cut[2]))


def _rotations(parts: Parts, evidence: Evidence) -> Iterator[Guess]:
    q, k = (rotation_of(evidence, x) for x in (parts.q, parts.k))
    if q is None or k is None:
        return
    for name, text, turned in other_rotations(q, k):
        yield Guess(name, text, attend(parts, q=turned[0], k=turned[1]))
    text = "the values are rotated too"
    yield Guess("RoPE on the values", text, attend(parts, v=k.apply(parts.v)))


def _formulas(parts: Parts) -> Iterator[Guess]:
    q, k, v = parts.q, parts.k, parts.v
    scores = _scores(parts, q, k, parts.seen, None)
    values = _grouped(v, q.shape[1])
    text = "the softmax runs over the queries, not over the keys"
    yield Guess("softmax dimension", text, merge_heads(scores.softmax(-2) @ values))
    if q.shape == k.shape:
        yield Guess("q and k exchanged", "keys ask, queries answer", attend(parts, q=k, k=q))
    if k.shape == v.shape:
        yield Guess("k and v exchanged", "keys and values are exchanged", attend(parts, k=v, v=k))
    if parts.bias is not None:
        bare = replace(parts, bias=None)
        yield Guess("relative bias", "the position bias is not added", attend(bare))
    for cap in (None, 10.0, 30.0, 50.0):
        if cap != parts.softcap:
            other = replace(parts, softcap=cap)
            text = (
                f"scores are capped at {cap or 'nothing'}, theirs at {parts.softcap or 'nothing'}"
            )
            yield Guess("soft-cap", text, attend(other))
    a, b, c = (x.bfloat16() for x in (q, k, v))
    bias = None if parts.bias is None else parts.bias.bfloat16()
    low = replace(parts, q=a, k=b, v=c, bias=bias)
    yield Guess("dtype", "attention runs in bfloat16", attend(low).to(q.dtype))

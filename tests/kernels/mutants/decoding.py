"""Bugs of decoding over a cache."""

from types import ModuleType

from kernels.verification.decoding import DecodeCase, check_decode
from mutants import Mutant

PACKAGE = "flash_attention"

_BUGS = {
    "a query more or less aligned to the end": ("Place(b, h[:, None], 0, 0, M, N", "Place(b, h[:, None], 0, 0, M, N + 1"),
    "lengths not read": ("if lengths is not None:\n        N =", "if lengths is not None:\n        _ ="),
    "lengths of the first sequence": ("tl.load(lengths + b)", "tl.load(lengths)"),
    "GQA by % instead of //": ("kv_h * GROUP + tl.minimum(r // M, GROUP - 1)", "kv_h + tl.minimum(r // M, GROUP - 1)"),
    "rows in the order query, head": ("    i = r % M\n", "    i = r // GROUP % M\n"),
    "sink in every share": (
        "share == 0, sink, high)\n        total += tl.where(share == 0",
        "share >= 0, sink, high)\n        total += tl.where(share >= 0",
    ),
    "sink in no share": (
        "share == 0, sink, high)\n        total += tl.where(share == 0",
        "share == 99, sink, high)\n        total += tl.where(share == 99",
    ),
    "sink not in the total": ("total += tl.where(share == 0, 1.0, 0.0)", "total += 0.0"),
    "sink in natural logarithm": ("to(tl.float32) * LOG2_E\n        high", "to(tl.float32)\n        high"),
    "first tile of a share lost": ("low = tl.minimum(tl.maximum(low, mine),", "low = tl.minimum(tl.maximum(low, mine + 1),"),
    "last tile of a share lost": ("end = tl.minimum(tl.maximum(end, low), mine + tiles_a_share)", "end = tl.minimum(tl.maximum(end, low), mine + tiles_a_share - 1)"),
    "shares overlap": ("end = tl.minimum(tl.maximum(end, low), mine + tiles_a_share)", "end = tl.maximum(end, low)"),
    "full tiles of other shares": ("full_high = tl.minimum(tl.maximum(full_high, full_low), end)", "full_high = tl.maximum(full_high, full_low)"),
    "everything unmasked": ("reach(0, M, N - M, left", "reach(0, 1, N, left"),
    "a share not normalised": ("acc *= (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]", "acc *= 1.0"),
    "division by an empty sum": ("acc *= (1.0 / tl.where(total == 0.0, 1.0, total))[:, None]", "acc *= (1.0 / total)[:, None]"),
    "LSE in two bases": ("tl.store(lse_ptr + row, high + tl.log2(total), mask=inside)", "tl.store(lse_ptr + row, high + tl.log(total), mask=inside)"),
    "accumulator not rescaled": ("v, acc * rescale[:, None]", "v, acc"),
    "sign of the scale lost": ("NEGATE=problem.scale < 0", "NEGATE=False"),
    "negative scale": ("abs(problem.scale)", "problem.scale"),
    "page of the first sequence": ("table + at.b * pages + keys", "table + keys"),
    "row of the page by //": ("(keys % PAGE).to(tl.int64)", "(keys // PAGE).to(tl.int64)"),
    "page and row swapped in the strides": ("block * x.batch + row * x.row", "block * x.row + row * x.batch"),
    "the first batch's cache for all": ("        return at.b, keys", "        return at.b * 0, keys"),
    "padded rows stored": ("tl.store(lse_ptr + row, high + tl.log2(total), mask=inside)", "tl.store(lse_ptr + row, high + tl.log2(total))"),
    "shares averaged": ("weight = tl.exp2(lse - origin)", "weight = tl.where(lse == float(\"-inf\"), 0.0, 1.0)"),
    "shares weighed with exp": ("weight = tl.exp2(lse - origin)", "weight = tl.exp(lse - origin)"),
    "empty shares counted": ("mask=s < shares, other=float(\"-inf\"))", "mask=s < shares, other=0.0)"),
    "the whole without its maximum": ("tl.store(lse_ptr + row, high + tl.log2(total))", "tl.store(lse_ptr + row, tl.log2(total))"),
    "one query's part for the next": ("(s.to(tl.int64) * rows + row)[:, None] * D", "(s.to(tl.int64) + shares * row)[:, None] * D"),
}  # fmt: skip
MUTANTS = {name: Mutant("decode.py", *bug) for name, bug in _BUGS.items()}

CASES = [
    DecodeCase(shares=5, room=80, lengths=(80, 3, 37), m=2, sinks=True, seed=1),
    DecodeCase((33, 0, 20), page=8, shares=2, m=3, heads=6, window=20, alibi=True, seed=2),
    DecodeCase((45,), d=40, shares=3, spread=6.0, scale=-0.3, seed=3),
]


def survives(package: ModuleType) -> bool:
    return all(check_decode(case, package).passed for case in CASES)

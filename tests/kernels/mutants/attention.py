"""Bugs of attention."""

from types import ModuleType

import torch

from kernels.verification.attention import AttentionCase, check_attention
from mutants import Mutant

PACKAGE = "flash_attention"
FILE = "flash_attention.py"

_BUGS = {
    "log2(e) to three digits": ("LOG2_E = 1.4426950408889634", "LOG2_E = 1.44"),
    "scale off by 0.2 %": ("abs(scale) * LOG2_E", "1.002 * abs(scale) * LOG2_E"),
    "< for <= on the causal edge": ("<= last[:, None]", "< last[:, None]"),
    "tail of the keys off by one": ("[BLOCK_M], N - 1, tl.int32", "[BLOCK_M], N, tl.int32"),
    "causal edge aligned to the start": ("last, rows + (N - M)", "last, rows"),
    "last tile of keys left out": ("tl.minimum(first + BLOCK_M, M)", "tl.minimum(first + 1, M)"),
    "unmasked loop goes too far": ("0, first + 1 + N - M", "0, first + BLOCK_N + N - M"),
    "ragged tile in the unmasked loop": (
        "unmasked = unmasked // BLOCK_N * BLOCK_N",
        "unmasked = tl.cdiv(unmasked, BLOCK_N) * BLOCK_N",
    ),
    "accumulator not rescaled": ("v, acc * rescale[:, None]", "v, acc"),
    "sum not rescaled": ("total * rescale + tl.sum", "total + tl.sum"),
    "maximum of the tile only": ("tl.maximum(high, tl.max(s, 1) * scale)", "tl.max(s, 1) * scale"),
    "GQA by % instead of //": ("h // GROUP", "h % GROUP"),
    "heads and batch swapped": ("b = (head // H).to", "b = (head % H).to"),
    "accumulator in the input's precision": (
        "return higher, total, acc",
        "return higher, total, acc.to(v.dtype).to(tl.float32)",
    ),
    "scores rounded to the input's precision": (
        's = tl.dot(q, tl.trans(k), input_precision="ieee")',
        's = tl.dot(q, tl.trans(k), input_precision="ieee").to(q.dtype).to(tl.float32)',
    ),
    "fp32 scores in tf32": ('tl.trans(k), input_precision="ieee"', "tl.trans(k)"),
    "exp for exp2": ("p = tl.exp2(s - origin", "p = tl.exp(s - origin"),
    "inf - inf when nothing was seen": ('tl.where(higher == float("-inf"), 0.0, higher)', "higher"),
    "division by an empty sum": ("tl.where(total == 0.0, 1.0, total)", "total"),
    "LSE in two bases": ("high + tl.log2(total)", "high + tl.log(total)"),
    "strides of k used for v": ("stride_vn, d, stride_vd", "stride_kn, d, stride_kd"),
    "batch stride of q used for k": ("k_ptr + b * stride_kb", "k_ptr + b * stride_qb"),
    "head dim not masked": ("    if D != BLOCK_D:\n", "    if D == 0:\n"),
    "rows of the output not masked": ("inside = (rows < M)", "inside = (rows <= M)"),
    "columns of the output not masked": ("& (d < D)[None, :]\n    tl.store", "\n    tl.store"),
    "sign of the scale lost": ("NEGATE=scale < 0", "NEGATE=False"),
    "weights not normalised": ("out = acc * (1.0 / ", "out = acc * (0.0 * "),
}  # fmt: skip

MUTANTS = {name: Mutant(FILE, *bug) for name, bug in _BUGS.items()}

TILES = {"config": (16, 16)}
CASES = [
    AttentionCase(20, 37, 16, causal=True, heads=4, kv_heads=2, batch=2, **TILES),
    AttentionCase(37, 20, 24, causal=True, layout="padded", seed=1, **TILES),
    AttentionCase(33, 40, 24, layout="interleaved", scale=-0.4, seed=2, **TILES),
    AttentionCase(17, 50, 64, spread=3.0, layout="transposed", seed=3, **TILES),
    AttentionCase(40, 90, 32, torch.bfloat16, spread=3.0, seed=4, **TILES),
    # Nearly equal weights over many tiles, where rounding the accumulator adds up.
    AttentionCase(40, 200, 32, torch.bfloat16, heads=1, spread=0.5, seed=5, **TILES),
    # Scores of hundreds, where exp2 overflows unless the maximum is over all tiles so far.
    AttentionCase(17, 60, 64, heads=1, spread=20.0, seed=6, **TILES),
]


def survives(package: ModuleType) -> bool:
    return all(check_attention(case, package).passed for case in CASES)

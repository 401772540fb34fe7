"""The checks are worth what they catch: one-line bugs in the kernels, each of which must be found.

A mutant is the kernel's own file with one piece of text replaced, loaded as a module of its own.
It is killed when a check raises or does not pass. The unchanged kernel passes the same cases.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import kernels.adamw
import kernels.flash_attention
from kernels.checks import AdamWCase, AttentionCase, check_adamw, check_attention

ATTENTION = {
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

ADAMW = {
    "eps inside the root": (
        "tl.sqrt_rn(v), sqrt_correction2) + eps", "tl.sqrt_rn(v + eps), sqrt_correction2)"
    ),
    "eps before the correction": (
        "tl.sqrt_rn(v), sqrt_correction2) + eps", "tl.sqrt_rn(v) + eps, sqrt_correction2)"
    ),
    "first bias not corrected": ("-lr / (1 - beta1**step)", "-lr"),
    "second bias not corrected": ("(1 - beta2**step) ** 0.5", "1.0"),
    "second bias corrected without the root": ("(1 - beta2**step) ** 0.5", "(1 - beta2**step)"),
    "steps counted from 0": ("1 - beta1**step", "1 - beta1 ** (step + 1)"),
    "decay not multiplied by lr": ("1 - lr * weight_decay,", "1 - weight_decay,"),
    "no weight decay": ("p * decay + ", "p + "),
    "1 - beta from an fp32 beta": ("        1 - beta1,", "        1 - float(np.float32(beta1)),"),
    "1 - beta1 for 1 - beta2": ("        1 - beta2,", "        1 - beta1,"),
    "v before the update": ("tl.sqrt_rn(v)", "tl.sqrt_rn(v * beta2)"),
    "gradient not squared": ("tl.fma(g * one_minus_beta2, g, v", "tl.fma(one_minus_beta2, g, v"),
    "tail mask off by one": ("inside = i < n", "inside = i <= n"),
    "full pieces go too far": ("start + BLOCK <= n", "start + BLOCK <= n + 1"),
    "pieces of a tensor not counted from 0": ("np.cumsum(counts) - counts", "np.cumsum(counts)"),
    "one moment read for the other": ("_pointer(row + 2, ALIGNED)", "_pointer(row + 3, ALIGNED)"),
    "alignment promised but not there": ("a % 16 == 0", "a % 4 == 0"),
    "constants of the first tensor for all": ("constants + 7 * tensor", "constants"),
    "exp_avg_sq not stored": ("tl.store(v_ptr + i, v)", "tl.store(v_ptr + i, v, mask=i < 0)"),
}  # fmt: skip

TILES = {"config": (16, 16)}
ATTENTION_CASES = [
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
ADAMW_CASES = [AdamWCase(steps=2), AdamWCase(steps=2, aligned=False, lr=1e-3, seed=1)]


def load_mutant(original: ModuleType, old: str, new: str, folder: Path) -> ModuleType:
    source = Path(str(original.__file__)).read_text()
    assert old in source, f"the kernel has changed: {old!r} is no longer there"
    name = f"mutant_of_{original.__name__.replace('.', '_')}"
    path = folder / f"{name}.py"
    path.write_text(source.replace(old, new))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def survives_attention(module: ModuleType) -> bool:
    return all(check_attention(case, module).passed for case in ATTENTION_CASES)


def survives_adamw(module: ModuleType) -> bool:
    return all(check_adamw(case, module).passed for case in ADAMW_CASES)


def test_the_kernels_themselves_survive() -> None:
    assert survives_attention(kernels.flash_attention)
    assert survives_adamw(kernels.adamw)


@pytest.mark.parametrize("bug", ATTENTION)
def test_attention_mutant_is_killed(bug: str, tmp_path: Path) -> None:
    mutant = load_mutant(kernels.flash_attention, *ATTENTION[bug], tmp_path)
    assert killed(lambda: survives_attention(mutant))


@pytest.mark.parametrize("bug", ADAMW)
def test_adamw_mutant_is_killed(bug: str, tmp_path: Path) -> None:
    mutant = load_mutant(kernels.adamw, *ADAMW[bug], tmp_path)
    assert killed(lambda: survives_adamw(mutant))


def killed(survives) -> bool:
    """A check that raises kills, unless the mutant does not even run as Python or Triton."""
    try:
        return not survives()
    except (IndexError, RuntimeError, ValueError):
        return True

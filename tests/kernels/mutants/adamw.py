"""Bugs of AdamW."""

from types import ModuleType

from kernels.verification.adamw import AdamWCase, check_adamw
from mutants import Mutant

PACKAGE = "adamw"
FILE = "adamw.py"

_BUGS = {
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

MUTANTS = {name: Mutant(FILE, *bug) for name, bug in _BUGS.items()}

CASES = [AdamWCase(steps=2), AdamWCase(steps=2, aligned=False, lr=1e-3, seed=1)]


def survives(package: ModuleType) -> bool:
    return all(check_adamw(case, package).passed for case in CASES)

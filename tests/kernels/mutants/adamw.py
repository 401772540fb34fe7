"""Bugs of AdamW."""

from types import ModuleType

import torch
from adamw_twins import (
    rates_in_tensors_are_those_of_their_groups,
    skips_what_it_finds_and_what_it_is_told,
)

from kernels.verification.adamw import AdamWCase, check_adamw
from kernels.verification.adamw_training import TrainingCase, check_constants, check_training
from mutants import Mutant

PACKAGE = "adamw"

_BUGS: dict[str, dict[str, tuple[str, str]]] = {
    "kernel.py": {
        "eps inside the root": (
            "tl.sqrt_rn(v), sqrt_correction2) + eps", "tl.sqrt_rn(v + eps), sqrt_correction2)"
        ),
        "eps before the correction": (
            "tl.sqrt_rn(v), sqrt_correction2) + eps", "tl.sqrt_rn(v) + eps, sqrt_correction2)"
        ),
        "no weight decay": ("p = p * decay + ", "p = p + "),
        "v before the update": ("tl.sqrt_rn(v)", "tl.sqrt_rn(v * beta2)"),
        "gradient not squared": (
            "tl.fma(g * one_minus_beta2, g, v", "tl.fma(one_minus_beta2, g, v"
        ),
        "gradient not scaled": ("g = g * tl.load(constant + 7)", "g = g"),
        "far end of the interpolation": ("one_minus_beta1 < 0.5", "one_minus_beta1 < 2.0"),
        "tail mask off by one": ("inside = i < tl.load", "inside = i <= tl.load"),
        "full pieces go too far": (
            "start + BLOCK <= tl.load(row + WIDE)", "start + BLOCK <= tl.load(row + WIDE) + 1"
        ),
        "one moment read for the other": (
            "m_ptr = _pointer(row + EXP_AVG, tl.float32",
            "m_ptr = _pointer(row + EXP_AVG_SQ, tl.float32",
        ),
        "constants of the first tensor for all": ("constants + CONSTANTS * tensor", "constants"),
        "exp_avg_sq not stored": (
            "tl.store(v_ptr, v, mask=inside)", "tl.store(v_ptr, v, mask=i < 0)"
        ),
        "master not stored": (
            "tl.store(w_ptr, w, mask=inside)", "tl.store(w_ptr, w, mask=i < 0)"
        ),
        "parameter read for its master": (
            "w_ptr = _pointer(row + MASTER, tl.float32, MASK) + i", "w_ptr = p_ptr"
        ),
        "fp16 read as bf16": ("stored = tl.float16", "stored = tl.bfloat16"),
        "kinds mixed up": ("K % 4, K >= 4, False", "K % 2, K >= 4, False"),
        "skips when it should not": ("tl.load(skip) != 0", "tl.load(skip) == 0"),
        "never skips": ("tl.load(skip) != 0", "tl.load(skip) > 1"),
        "one scale for both moments": (
            "codes + 256, QUANT", "codes, QUANT"
        ),
        "v scaled as m": ("tl.load(row + EXP_AVG_SQ_SCALE)", "tl.load(row + EXP_AVG_SCALE)"),
        "scales of the first blocks for all": ("block = start // QUANT +", "block ="),
        "the tail sets the scale": (
            "m = tl.where(inside, m, 0.0)", "m = tl.where(inside, m, 1e3)"
        ),
    },
    "constants.py": {
        "first bias not corrected": ("-lr / (1 - beta1**step)", "-lr"),
        "second bias not corrected": ("(1 - beta2**step) ** 0.5", "1.0"),
        "second bias corrected without the root": (
            "(1 - beta2**step) ** 0.5", "(1 - beta2**step)"
        ),
        "steps counted from 0": ("1 - beta1**step", "1 - beta1 ** (step + 1)"),
        "decay not multiplied by lr": ("1 - lr * weight_decay,", "1 - weight_decay,"),
        "1 - beta in fp32": (
            "        1 - beta1,", "        1 - __import__('numpy').float32(beta1).item(),"
        ),
        "1 - beta1 for 1 - beta2": ("        1 - beta2,", "        1 - beta1,"),
        "1 - beta^t in fp32": (
            "1.0 - tl.exp2(t * tl.log2(beta2))",
            "(1.0 - tl.exp2(t * tl.log2(beta2)).to(tl.float32)).to(tl.float64)",
        ),
        "step not counted on the device": ("tl.load(counter) + done", "tl.load(counter) + 0.0"),
        "skipped steps counted": ("done = 1.0 - skipping.to(tl.float32)", "done = 1.0"),
        "skips not counted": ("mask=first) + skipping, mask", "mask=first), mask"),
        "scale multiplied": ("1.0 / tl.load(grad_scale)", "1.0 * tl.load(grad_scale)"),
        "norm of the scaled gradients": ("tl.sqrt(total) * factor", "tl.sqrt(total)"),
        "small gradients scaled up": ("tl.where(clip > 1.0, 1.0, clip)", "clip"),
        "norm not rooted": ("tl.sqrt(total) * factor", "total * factor"),
        "only the first parts": ("range(0, parts, BLOCK)", "range(0, 1, BLOCK)"),
        "maximize forgotten": ("(sign * factor)", "(factor)"),
        "inf and NaN not looked for": (
            "bad += tl.sum(tl.load(partials", "bad += 0 * tl.sum(tl.load(partials"
        ),
        "only what somebody else has found": (
            "bad += tl.load(found_inf)", "bad = tl.load(found_inf)"
        ),
        "only what it finds itself": ("bad += tl.load(found_inf)", "bad += 0 * tl.load(found_inf)"),
    },
    "norm.py": {
        "sum of magnitudes": ("tl.sum(g * g)", "tl.sum(tl.abs(g))"),
        "only inf is found": ("g - g != 0.0", "tl.abs(g) == float('inf')"),
        "only NaN is found": ("g - g != 0.0", "g != g"),
        "every piece is the first": ("pieces + 2 * index", "pieces"),
        "tail not masked": ("i < tl.load(row + LENGTH), other", "i >= 0, other"),
        "16 bits read as 32": ("tl.load(row + KIND) % 4", "tl.load(row + KIND) * 0"),
    },
    "rounding.py": {
        "always down": ("(bits + noise)", "(bits + noise * 0)"),
        "always up": ("(bits + noise)", "(bits + (noise | 0xFFFF))"),
        "biased by half": ("(bits + noise)", "(bits + (noise >> 1))"),
        "a bit lost": ("(bits + noise) >> 16)", "((bits + noise) >> 17) << 1)"),
    },
    "eight_bit.py": {
        "scale of the whole piece": (
            "tl.max(tl.abs(rows), 1)", "tl.max(tl.abs(rows), 1) * 0 + tl.max(tl.abs(x))"
        ),
        "maximum with its sign": ("tl.max(tl.abs(rows), 1)", "tl.max(rows, 1)"),
        "sign lost": ("code > 0), code + 128", "code > 0), code"),
        "decades cut off hard": ("(1 + 0.9 / (FINEST * 2 ** (K - 1)))", "1.0"),
        "rounded up": ("tl.floor(y * slope", "tl.ceil(y * slope"),
        "six decades": ("tl.static_range(1, 7)", "tl.static_range(1, 6)"),
        "v rounded to zero": ("tl.where(x == 0.0, 0, code)", "tl.where(y < 3e-7, 0, code)"),
        "the largest is not exact": ("y > 1 - 0.45 / 256, 1", "y > 2.0, 1"),
    },
    "table.py": {
        "pieces of a tensor not counted from 0": (
            "np.cumsum(counts) - counts", "np.cumsum(counts)"
        ),
        "alignment promised but not there": ("address % 16 == 0", "address % 2 == 0"),
        "the last piece left out": ("triton.cdiv(n, block) for", "max(n // block, 1) for"),
        "groups of one parameter each": ("first = last", "first += 1"),
        "8-bit seen as fp32": ("self.exp_avg.dtype == torch.uint8", "False"),
    },
    "optimizer.py": {
        "the first step again and again": (
            "constants = step_constants(steps,", "constants = step_constants(1,"
        ),
        "master left out": ("master=state.get(\"master\")", "master=None"),
        "skips never asked for": ("self.skip_nonfinite or found_inf is not None", "False"),
    },
}  # fmt: skip

MUTANTS = {name: Mutant(file, *bug) for file, bugs in _BUGS.items() for name, bug in bugs.items()}

ALL = ("fp32", "bf16", "fp16", "bf16-stochastic")
STEPS = [
    AdamWCase(lengths=(1, 31, 64), steps=2),
    AdamWCase(lengths=(33, 64, 7, 70), weights=ALL, aligned=False, lr=1e-3, steps=2, seed=1),
    AdamWCase((70, 64, 64, 320), ALL, betas=(0.4, 0.95), block=64, steps=2, seed=2),
    AdamWCase(lengths=(96, 70), eight_bit=(True,), block=64, steps=2, seed=3),
]
HALF = (torch.float32, torch.bfloat16, torch.float16)
TRAINING = [
    TrainingCase((torch.float32,), shapes=((7,), (5, 3)), steps=2),
    TrainingCase(HALF, ((33,), (7, 5), (4,)), 1.0, True, grad_scale=64.0, steps=3, seed=1),
    TrainingCase((torch.float32,), ((7,),), 1e6, True, torch.inf, None, True, True, seed=2),
]


def survives(package: ModuleType) -> bool:
    return (
        all(check_adamw(case, package).passed for case in STEPS)
        and check_constants(package)
        and rates_in_tensors_are_those_of_their_groups(package)
        and skips_what_it_finds_and_what_it_is_told(package)
        and all(check_training(case, package).passed for case in TRAINING)
    )

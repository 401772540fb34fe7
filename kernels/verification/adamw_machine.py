"""AdamW: the configurations that are shipped, compiled for GPUs that are not there."""

from typing import Any

import torch

from kernels.adamw.constants import HYPERPARAMETERS, _prepare
from kernels.adamw.kernel import COLUMNS, CONSTANTS, EIGHT_BIT, _adamw
from kernels.adamw.norm import PARTS, _partial_norms
from kernels.adamw.table import BLOCK, warps
from kernels.lab.compiler import Compiled, compile_for, example
from kernels.verification.outcome import Shipped

# name -> (kinds of tensors in the model, whether inf and NaN may skip the step)
VARIANTS: dict[tuple[str, str], tuple[tuple[int, ...], bool]] = {
    ("fp32", "plain"): ((0,), False),
    ("fp32", "skipping"): ((0,), True),
    ("fp32", "8-bit"): ((0, EIGHT_BIT.value), False),  # small tensors are not in 8 bits
    ("bf16", "master"): ((1,), False),
    ("fp16", "master"): ((2,), False),
    ("bf16", "stochastic"): ((3,), False),
    ("bf16", "8-bit master"): ((1, EIGHT_BIT.value + 1), False),
    ("bf16", "8-bit stochastic"): ((3, EIGHT_BIT.value + 3), False),
    ("mixed", "fp32 bf16 fp16"): ((0, 1, 2), False),
}


def shipped(quick: bool) -> list[Shipped]:
    """What ``verify`` compiles: the update for every way of storing, and the two helpers."""

    def compiler(kinds: tuple[int, ...], skips: bool) -> Any:
        return lambda arch: compile_adamw(arch, kinds=kinds, skips=skips)

    updates = [
        Shipped(
            "adamw",
            dtype,
            variant,
            compiler(*how),
            tensor_cores=False,
            narrowest=32 if "8-bit" in variant else 128,
        )
        for (dtype, variant), how in VARIANTS.items()
    ]
    norm = Shipped("adamw", "fp32", "norm", compile_norm, tensor_cores=False)
    return [*updates, norm]


def compile_adamw(arch: str, kinds: tuple[int, ...] = (0,), skips: bool = False) -> Compiled:
    """The update for a model with tensors of these kinds, as ``Batch.update`` launches it."""
    eight_bit = max(kinds) >= EIGHT_BIT.value
    return compile_for(
        _adamw,
        example((8, COLUMNS.value), torch.int64),
        example((8, CONSTANTS.value)),
        example((64, 2), torch.int32),
        example((2, 256)) if eight_bit else None,
        example((1,), torch.int32) if skips else None,
        KINDS=sum(1 << kind for kind in kinds),
        BLOCK=BLOCK,
        QUANT=256,
        num_warps=warps(list(kinds)),
        enable_fp_fusion=False,
        arch=arch,
    )


def compile_norm(arch: str) -> Compiled:
    """The launch that reads every gradient for their norm."""
    return compile_for(
        _partial_norms,
        example((8, COLUMNS.value), torch.int64),
        example((64, 2), torch.int32),
        example((PARTS, 2), torch.float64),
        64,
        KINDS=1,
        BLOCK=BLOCK,
        num_warps=4,
        arch=arch,
    )


def compile_prepare(arch: str) -> Compiled:
    """The launch that makes a step's constants on the device, with everything it can be given."""
    number, flag = example((1,)), example((1,), torch.int32)
    return compile_for(
        _prepare,
        example((8, COLUMNS.value), torch.int64),
        example((8, len(HYPERPARAMETERS)), torch.float64),
        example((8, CONSTANTS.value)),
        example((PARTS, 2), torch.float64),
        PARTS,
        1.0,
        number,
        number,
        number,
        flag,
        flag,
        BLOCK=128,
        num_warps=4,
        arch=arch,
    )

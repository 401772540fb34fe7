"""What the compiler makes of the attention kernels: no spills in a loop, tensor cores, wide loads.

A sample; ``python -m kernels report`` compiles every shipped configuration for every architecture.
"""

import re

import pytest
import torch
from tested_compiler import machine_code

from kernels.flash_attention.call import EVERYWHERE
from kernels.flash_attention.scores import Options
from kernels.flash_attention.tiles import view
from kernels.lab import compile_for
from kernels.lab.compiler import example
from kernels.verification.attention import (
    DTYPES,
    KERNELS,
    OPTIONS,
    compile_attention,
    example_options,
)

CORES = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma"}
SAMPLE = [
    ("forward", "fp16", 64, "sm_80"),
    ("forward", "fp16", 64, "sm_90"),
    ("forward", "bf16", 128, "sm_100"),
    ("forward", "bf16", 64, "gfx942"),
    ("dq", "bf16", 64, "sm_80"),
    ("dq", "fp16", 128, "sm_90"),
    ("dkv", "fp16", 64, "sm_80"),
    ("dkv", "bf16", 64, "sm_90"),
    ("dkv", "fp16", 64, "sm_100"),
]


@machine_code
@pytest.mark.parametrize(("kernel", "dtype", "d", "arch"), SAMPLE)
def test_compiled(kernel: str, dtype: str, d: int, arch: str) -> None:
    compiled = compile_attention(kernel, DTYPES[dtype], d, arch)
    assert compiled.registers > 0 and compiled.blocks_per_multiprocessor >= 1
    assert compiled.spills_in_loop == 0
    assert compiled.tensor_core.startswith(CORES[arch])
    if arch != "gfx942":
        rows = {32} if kernel == "dkv" else set()  # LSE and delta, one number a query
        assert set(compiled.bulk_loads) - rows <= {0, 128}, "a narrow load in the main loop"
    # The loop over full tiles does the same products as the one over edges, with less around them.
    full, edges = sorted(compiled.main_loops, key=lambda loop: len(loop.body))[:2]
    assert full.mix["mma"] == edges.mix["mma"] > 0 and len(full.body) < len(edges.body)


@pytest.mark.parametrize("kernel", ["forward", "dq", "dkv"])
def test_every_option_compiles_and_keeps_its_tensor_cores(kernel: str) -> None:
    options = example_options(*OPTIONS)
    compiled = compile_attention(kernel, torch.float16, 64, "sm_80", options=options)
    assert compiled.tensor_core.startswith("HMMA") and compiled.blocks_per_multiprocessor >= 1
    assert compiled.spills_in_loop == 0


def test_fp32_keeps_full_precision() -> None:
    """No tf32 anywhere: fp32 means 24 bits."""
    compiled = compile_attention("forward", torch.float32, 64, "sm_80")
    assert "tf32" not in compiled.ptx and compiled.opcodes("mma").total() == 0
    assert compiled.spills_in_loop == 0


def forward_ttir(m: int, n: int, heads: int, group: int, scale: float, left: int) -> str:
    q, row = view(example((2, 4, 1024, 64), torch.float16)), example((2, 4, 1024))
    options = Options(*[None] * len(Options._fields))
    numbers = (scale, m, n, heads, group, left, 0)
    blocks = {"D": 64, "BLOCK_D": 64, "BLOCK_M": 64, "BLOCK_N": 64, "NEGATE": False}
    arguments = (q, q, q, q, row, None, options, None, *numbers)
    return compile_for(KERNELS["forward"], *arguments, **blocks).ttir


def test_one_binary_serves_every_length_head_count_and_window() -> None:
    first = forward_ttir(1024, 1024, 4, 2, 0.125, EVERYWHERE)
    assert forward_ttir(1, 17, 1, 1, 1.0, 6) == first


@pytest.mark.parametrize("kernel", ["forward", "dq", "dkv"])
def test_where_a_row_begins_takes_64_bits(kernel: str) -> None:
    """Every address that is computed once a tile; the interpreter's tensors that lie far apart
    (``test_attention_offsets.py``) cannot reach the offsets of the LSE."""
    ttir = compile_attention(kernel, torch.float16, 64, "sm_80").ttir
    widths = re.findall(r"tt\.addptr %\S+, %\S+ : !tt\.ptr<f\d+>, (i\d+)", ttir)
    assert len(widths) >= 6 and set(widths) == {"i64"}

"""The machine code of AdamW, for every way of storing: no spills, wide loads and stores."""

import functools

import pytest
from tested_compiler import machine_code

from kernels.verification.adamw_machine import (
    VARIANTS,
    compile_adamw,
    compile_norm,
    compile_prepare,
)

code = functools.cache(compile_adamw)


@machine_code
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize(("dtype", "variant"), VARIANTS)
def test_machine_code(dtype: str, variant: str, arch: str) -> None:
    """No register spills, and a full piece moves in 128-bit loads and stores.

    A thread takes 2 x 128 bits of an fp32 tensor and 1 x of a 16-bit one; of the 8-bit codes 64.
    Where fp32 has 8-bit moments there are twice the threads, so 1 x 128 of fp32 and 32 of codes.
    """
    kinds, skips = VARIANTS[dtype, variant]
    compiled = code(arch, kinds, skips)
    assert compiled.stack_bytes == 0 and compiled.instruction_mix["local"] == 0
    codes = compiled.opcodes("global")
    wide = {(0,): (8, 6), (1,): (7, 7), (2,): (7, 7), (3,): (6, 5), (0, 1, 2): (22, 20)}
    wide |= {(0, 4): (6, 4), (1, 5): (10, 10), (3, 7): (8, 6)}
    assert (codes["LDG.E.128"], codes["STG.E.128"]) == wide[kinds]
    for name in ("fma.rn.f32", "sqrt.rn.f32", "div.rn.f32"):
        assert name in compiled.ptx


@machine_code
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
def test_machine_code_of_the_helpers(arch: str) -> None:
    norm, prepare = compile_norm(arch), compile_prepare(arch)
    assert norm.stack_bytes == prepare.stack_bytes == 0
    assert norm.opcodes("global")["LDG.E.128"] == 2 and "sqrt.rn.f64" in prepare.ptx


def test_machine_code_for_amd() -> None:
    codes = compile_adamw("gfx942").opcodes("global")  # 64 threads a warp: half as many a thread
    assert codes["global_load_dwordx4"] >= 4 and codes["global_store_dwordx4"] == 3
    for kinds in ((3,), (0, 4)):
        assert compile_adamw("gfx942", kinds).stack_bytes == 0


def test_a_model_of_one_dtype_pays_nothing_for_the_others() -> None:
    """Only the kinds that occur are compiled: a branch each, none of whose code is shared."""
    alone = len(code("sm_90", (0,), False).instructions)
    mixed = len(code("sm_90", (0, 1, 2), False).instructions)
    assert mixed > 2.5 * alone

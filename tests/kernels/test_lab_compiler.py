"""compile_for: the launcher's own specialisation, and machine code that is read correctly."""

import math

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import ARCHITECTURES, compile_for
from kernels.lab.compiler import example
from kernels.lab.occupancy import MACHINES, blocks_per_multiprocessor, occupancy

TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")


@triton.jit
def _add(x, y, out, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a = tl.load(x + i, mask=i < n)
    tl.store(out + i, a + tl.load(y + i, mask=i < n), mask=i < n)


@triton.jit
def _matmul(a, b, out, K, stride, scale, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, K, DEPTH):
        x = tl.load(a + i[:, None] * stride + start + k[None, :])
        y = tl.load(b + i[None, :] * stride + start + k[:, None])
        acc = tl.dot(x, y, acc)
    acc = tl.exp2(acc * scale)
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)


def matmul(arch: str, block: int = 64, dtype: torch.dtype = torch.bfloat16, **options: int):
    a = example((block, 128), dtype)
    out = example((block, block))
    return compile_for(
        _matmul, a, a, out, 128, 128, 0.5, BLOCK=block, DEPTH=32, arch=arch, **options
    )


TENSOR_CORES = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma_f32"}


@pytest.mark.parametrize("arch", TARGETS)
def test_a_matrix_product_uses_tensor_cores_in_its_loop(arch: str) -> None:
    compiled = matmul(arch)
    (loop,) = compiled.main_loops
    assert loop.mix["mma"] > 0
    assert all(op.startswith(TENSOR_CORES[arch]) for op in compiled.opcodes("mma"))
    assert 16 < compiled.registers <= 255
    assert compiled.shared_bytes > 0
    assert compiled.stack_bytes == compiled.spills_in_loop == 0
    assert compiled.instruction_mix["exp2"] == 64 * 64 // (compiled.num_warps * _lanes(arch))
    assert sum(compiled.instruction_mix.values()) == len(compiled.instructions)
    assert 0 < compiled.occupancy <= 1


def _lanes(arch: str) -> int:
    return MACHINES[arch].warp_size


@pytest.mark.parametrize("arch", ["sm_80", "gfx942"])
def test_a_kernel_with_too_much_state_spills_in_its_loop(arch: str) -> None:
    """A 64 x 64 accumulator on one warp, with too few registers allowed."""
    limit = {"maxnreg": 64} if arch == "sm_80" else {"waves_per_eu": 8}
    compiled = matmul(arch, num_warps=1, num_stages=1, **limit)
    assert compiled.spills_in_loop > 0 and compiled.stack_bytes > 0
    assert compiled.main_loops[0].mix["local"] > 0


def test_specialisation_is_the_launchers() -> None:
    """Divisible by 16: four 128-bit loads. Not divisible: scalar ones. The int 1: a constant."""
    x = example((1024,))
    wide = compile_for(_add, x, x, x, 1024, BLOCK=1024, arch="sm_90")
    assert wide.opcodes("global") == {"LDG.E.128": 4, "STG.E.128": 2}
    assert compile_for(_add, x, x, x, 1000, BLOCK=1024).opcodes("global")["LDG.E.128"] == 0
    odd = torch.empty(1025)[1:]
    assert compile_for(_add, odd, x, x, 1024, BLOCK=1024).opcodes("global")["LDG.E.128"] == 2
    assert "%n: i32" in wide.ttir
    assert "%n" not in compile_for(_add, x, x, x, 1, BLOCK=1024).ttir


def test_texts_hold_no_positions() -> None:
    """Line numbers and cell names change from one session to the next; what is printed must not."""
    x = example((1024,))
    compiled = compile_for(_add, x, x, x, 1024, BLOCK=1024, arch="sm_90")
    for text in (compiled.ttir, compiled.ttgir, compiled.ptx, compiled.sass):
        assert "loc(" not in text and "test_lab_compiler" not in text
        assert len(text.splitlines()) > 5
    assert "tt.load" in compiled.ttir and "#blocked" in compiled.ttgir
    assert ".visible .entry _add" in compiled.ptx and "ld.global" in compiled.ptx
    assert "LDG.E.128" in compiled.sass and "EXIT" in compiled.sass
    with pytest.raises(AttributeError, match=r"sm_90 has no amdgcn; it has .*ttgir, llir, ptx"):
        _ = compiled.amdgcn
    amd = compile_for(_add, x, x, x, 1024, BLOCK=1024, arch="gfx942")
    assert "_load_dwordx4" in amd.amdgcn and "s_endpgm" in amd.sass


def test_a_report_is_a_few_lines() -> None:
    compiled = matmul("sm_80")
    lines = compiled.report().splitlines()
    assert lines[0] == "_matmul on sm_80, 4 warps"
    assert f"{compiled.registers} registers" in lines[1] and "0 spills in loops" in lines[1]
    assert lines[-1].strip().startswith("loop") and "mma 16" in lines[-1]
    assert len(lines) == 4 and repr(compiled).startswith("Compiled(_matmul for sm_80")


@triton.jit
def _multiply_add(x, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(x + i, a * a + a)


def test_options_reach_the_compiler() -> None:
    x = example((1024,))
    assert compile_for(_add, x, x, x, 1024, BLOCK=1024, num_warps=8).num_warps == 8
    assert matmul("sm_80", num_stages=1).shared_bytes < matmul("sm_80", num_stages=4).shared_bytes
    assert compile_for(_multiply_add, x, BLOCK=1024).opcodes("fp32")["FFMA"] == 8
    apart = compile_for(_multiply_add, x, BLOCK=1024, enable_fp_fusion=False).opcodes("fp32")
    assert apart == {"FMUL": 8, "FADD": 8}


def test_input_that_does_not_fit() -> None:
    x = example((16,))
    with pytest.raises(ValueError, match="arch: unknown 'sm_9'; known: sm_80"):
        compile_for(_add, x, x, x, 16, BLOCK=16, arch="sm_9")
    with pytest.raises(TypeError, match=r"kernel _add.*missing 1 .* argument: 'BLOCK'"):
        compile_for(_add, x, x, x, 16)
    with pytest.raises(TypeError, match="expected a @triton"):
        compile_for(print)
    with pytest.raises(KeyError, match="SPEED"):
        compile_for(_add, x, x, x, 16, BLOCK=16, SPEED=2)
    assert set(TARGETS) <= set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("arch", "warps", "registers", "shared", "blocks"),
    [
        # NVIDIA's occupancy calculator: 64K registers, in units of 256 a warp, 4 warps at a time.
        ("sm_80", 4, 32, 0, 16),
        ("sm_80", 4, 255, 0, 2),
        ("sm_80", 8, 128, 0, 2),
        ("sm_80", 1, 16, 0, 32),
        ("sm_80", 4, 64, 48 * 1024, 3),
        ("sm_80", 4, 64, 163 * 1024, 1),
        ("sm_80", 4, 64, 164 * 1024, 0),
        ("sm_90", 4, 168, 64 * 1024, 3),
        ("sm_86", 4, 40, 0, 12),
        # CDNA3: 512 vector registers a lane and SIMD, in units of 8; 8 waves a SIMD at most.
        ("gfx942", 4, 64, 0, 8),
        ("gfx942", 4, 128, 0, 4),
        ("gfx942", 4, 256, 0, 2),
        ("gfx942", 4, 32, 32 * 1024, 2),
    ],
)
def test_occupancy(arch: str, warps: int, registers: int, shared: int, blocks: int) -> None:
    assert blocks_per_multiprocessor(arch, warps, registers, shared) == blocks
    share = occupancy(arch, warps, registers, shared)
    assert math.isclose(share, blocks * warps / MACHINES[arch].max_warps)

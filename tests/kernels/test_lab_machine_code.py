"""What opcodes say, which loop is the main one, and the numbers that are read off it."""

from collections import Counter

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import Compiled, compile_for, example, gcn, machine_code, sass
from kernels.lab.control_flow import Instruction, Loop


def one(opcode: str, operands: str = "", predicate: str = "") -> Instruction:
    kind = gcn.classify(opcode) if opcode[0].islower() else sass.classify(opcode)
    return Instruction(0, opcode, operands, kind, predicate)


@pytest.mark.parametrize(
    ("opcode", "flops"),
    [
        ("HMMA.16816.F32", 2 * 16 * 8 * 16),
        ("HMMA.16816.F32.BF16", 2 * 16 * 8 * 16),
        ("HMMA.1688.F32.TF32", 2 * 16 * 8 * 8),
        ("HMMA.1684.F32.TF32", 2 * 16 * 8 * 4),
        ("IMMA.16832.S8.S8", 2 * 16 * 8 * 32),
        ("HGMMA.64x64x16.F32", 2 * 64 * 64 * 16 // 4),  # four warps share it
        ("HGMMA.64x128x16.F32.BF16", 2 * 64 * 128 * 16 // 4),
        ("v_mfma_f32_32x32x8_f16", 2 * 32 * 32 * 8),
        ("v_mfma_f32_16x16x16_bf16", 2 * 16**3),
        ("v_mfma_f32_4x4x4_16b_f16", 2 * 4**3 * 16),
        ("UTCHMMA", 0),
        ("FFMA", 0),
    ],
)
def test_flops_of_matrix_products(opcode: str, flops: int) -> None:
    assert machine_code.mma_flops(one(opcode)) == flops


@pytest.mark.parametrize(
    ("opcode", "bits", "loads", "waits"),
    [
        ("LDG.E.128", 128, True, True),
        ("LDG.E.64", 64, True, True),
        ("LDG.E", 32, True, True),
        ("LDG.E.U16", 16, True, True),
        ("LDG.E.U8", 8, True, True),
        ("LDG.E.128.CONSTANT", 128, True, True),
        ("LDGSTS.E.BYPASS.128", 128, True, False),
        ("UTMALDG.2D", 0, True, False),
        ("LDGDEPBAR", 32, False, True),
        ("STG.E.128", 128, False, True),
        ("LDS.128", 128, False, True),
        ("global_load_dwordx4", 128, True, True),
        ("global_load_dwordx3", 96, True, True),
        ("buffer_load_dword", 32, True, True),
        ("global_load_ushort", 16, True, True),
        ("global_load_lds_dwordx4", 128, True, False),
        ("global_store_dwordx2", 64, False, True),
    ],
)
def test_widths_and_directions(opcode: str, bits: int, loads: bool, waits: bool) -> None:
    instruction = one(opcode)
    assert machine_code.bits(opcode) == bits
    assert machine_code.is_load(instruction) is loads
    assert machine_code.is_asynchronous(instruction) is not waits


def test_bulk_is_what_carries_a_tenth_of_the_bytes() -> None:
    """Eight wide loads beside one narrow one (a row of statistics); tiles always count."""
    assert machine_code.bulk(Counter({128: 8, 32: 2})) == {128: 8}
    assert machine_code.bulk(Counter({128: 8, 32: 4})) == {128: 8, 32: 4}
    assert machine_code.bulk(Counter({0: 2, 32: 1})) == {0: 2, 32: 1}
    assert machine_code.bulk(Counter()) == {}


def loop(header: int, kinds: str) -> Loop:
    names = {"m": "HMMA.16816.F32", "x": "FFMA", "g": "LDG.E.128", "n": "LDG.E"}
    return Loop(header, tuple(one(names[k]) for k in kinds))


def test_the_leanest_loop() -> None:
    unmasked, masked = loop(500, "mmxxg"), loop(100, "mmxxxxg")
    assert machine_code.leanest([masked, unmasked]) is unmasked
    assert machine_code.leanest([unmasked, masked]) is unmasked
    twice = loop(0, "mmmmxxxg")  # unrolled: fewer instructions a product, more in all
    assert machine_code.leanest([unmasked, twice]) is twice
    assert machine_code.leanest([loop(8, "mx"), loop(4, "mx")]) == loop(4, "mx")
    full, tail = loop(50, "gxxxx"), loop(0, "nnnnxxxx")
    assert machine_code.leanest([tail, full]) is full
    fills = loop(0, "gggggg")  # brings the first tiles and computes nothing
    assert machine_code.leanest([fills, full]) is full and machine_code.leanest([fills]) is fills
    assert machine_code.leanest([]) is None


def test_dots_of_nested_loops() -> None:
    a, b = "tensor<128x64xf16> * tensor<64x32xf16> -> tensor<128x32xf32>", "..."
    ttir = f"""
    %x = scf.for %i = %c0 to %n step %c1 iter_args(%acc = %z) -> (tensor<f32>) {{
      %y = scf.for %j = %c0 to %n step %c1 {{
        %d = tt.dot %p, %q, %acc : {a}
        scf.if %c {{
          %e = tt.dot %p, %q, %acc : {a}
        }} else {{
          %f = arith.addf {b}
        }}
      }}
      %o = tt.dot %p, %q, %acc : {a}
    }}
    %w = scf.while (%k = %c0) : (i32) -> i32 {{
      scf.condition(%c) %k : i32
    }} do {{
      %g = tt.dot %p, %q, %acc : tensor<2x16x16xf16> * tensor<2x16x8xf16> -> tensor<2x16x8xf32>
    }}
    %h = tt.dot %p, %q, %acc : {a}
    """
    step = 2 * 128 * 64 * 32
    assert machine_code.dots_of_loops(ttir) == [2 * step, 2 * 2 * 16 * 16 * 8]
    assert machine_code.dots_of_loops("") == []


# ---- real code


@triton.jit
def _masked_first(a, b, out, K, FULL, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    """A masked loop, then an unmasked one: the order in memory says nothing."""
    i = tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(FULL, K, DEPTH):
        inside = start + k < K
        x = tl.load(a + i[:, None] * 128 + start + k[None, :], mask=inside[None, :], other=0.0)
        y = tl.load(b + i[None, :] * 128 + start + k[:, None], mask=inside[:, None], other=0.0)
        s = tl.dot(x, y)
        acc += tl.where((start + i)[None, :] < K, tl.exp2(s), 0.0)
    for start in range(0, FULL, DEPTH):
        x = tl.load(a + i[:, None] * 128 + start + k[None, :])
        y = tl.load(b + i[None, :] * 128 + start + k[:, None])
        acc += tl.exp2(tl.dot(x, y))
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)


@pytest.fixture(scope="module")
def compiled() -> dict[str, Compiled]:
    a, out = example((64, 128), torch.float16), example((64, 64))
    archs = ("sm_80", "sm_90", "sm_100", "gfx942")
    return {
        arch: compile_for(_masked_first, a, a, out, 100, 96, BLOCK=64, DEPTH=32, arch=arch)
        for arch in archs
    }


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_the_main_loop_is_the_unmasked_one(compiled: dict[str, Compiled], arch: str) -> None:
    kernel = compiled[arch]
    assert len(kernel.main_loops) == 2 and kernel.main_loop is not None
    masked = max(kernel.main_loops, key=lambda loop: len(loop.body))
    assert len(kernel.main_loop.body) < len(masked.body) and kernel.core is kernel.main_loop.body
    assert kernel.main_loop.spills == 0
    step = 2 * 64 * 64 * 32
    assert kernel.step_flops >= step == kernel.useful_flops
    assert kernel.step_flops == step or arch == "gfx942"
    others = len(kernel.core) - kernel.main_loop.mix["mma"]
    assert kernel.instructions_per_score(64 * 64) == others * kernel.threads / 64**2
    assert kernel.flops_per_instruction == kernel.step_flops / kernel.num_warps / len(kernel.core)
    name = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma"}[arch]
    assert kernel.tensor_core == name
    assert kernel.barriers > 0 and kernel.bulk_loads.keys() == {128}
    assert (kernel.asynchronous_copies.total() > 0) == arch.startswith("sm_")


@triton.jit
def _scale(table, x, out, n, BLOCK: tl.constexpr):
    """A full block and a masked tail; two single values beside them."""
    start = tl.program_id(0) * BLOCK
    i = start + tl.arange(0, BLOCK)
    gain = tl.load(table) + tl.load(table + 1)
    if start + BLOCK <= n:
        tl.store(out + i, tl.load(x + i) * gain)
    else:
        tl.store(out + i, tl.load(x + i, mask=i < n) * gain, mask=i < n)


def test_without_a_loop_the_bulk_is_the_full_block() -> None:
    x = example((4096,))
    kernel = compile_for(_scale, x, x, x, 4001, BLOCK=1024, arch="sm_90")
    assert kernel.main_loop is None and kernel.core == kernel.instructions
    assert machine_code.load_widths(kernel.instructions)[32] >= 8  # the tail, and two values
    assert kernel.bulk_loads == {128: 2}
    assert kernel.step_flops == kernel.flops_per_instruction == 0 and kernel.tensor_core == ""
    assert kernel.asynchronous_copies == {}
    assert compile_for(_scale, x, x, x, 9, BLOCK=1024, arch="gfx942").bulk_loads == {128: 1}
    narrow = compile_for(_scale, x, torch.empty(4097)[1:], x, 4001, BLOCK=1024, arch="sm_90")
    assert narrow.bulk_loads == {32: 8}


@triton.jit
def _sum_all(x, out, n, BLOCK: tl.constexpr):
    """Full blocks and the tail in one loop."""
    i = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, n, BLOCK):
        if start + BLOCK <= n:
            total += tl.load(x + start + i)
        else:
            total += tl.load(x + start + i, mask=start + i < n, other=0.0)
    tl.store(out + i, total)


def test_a_tail_in_the_same_loop_is_not_bulk() -> None:
    x = example((4096,))
    kernel = compile_for(_sum_all, x, x, 4001, BLOCK=1024, arch="sm_90")
    assert kernel.main_loop is not None
    assert machine_code.load_widths(kernel.core)[32] >= 8 and kernel.bulk_loads == {128: 2}


def test_what_a_program_loads_in_blocks() -> None:
    full = "%a = tt.load %p evictionPolicy = evict_last : tensor<1024x!tt.ptr<f32>>"
    tail = "%b = tt.load %p, %m, %z : tensor<2x8x!tt.ptr<bf16>>"
    value = "%c = tt.load %p : !tt.ptr<i64>"
    count = machine_code.loaded_by_blocks
    assert count("\n".join([full, tail, value, full])) == 2 * 1024 * 32
    assert count("\n".join([tail, value])) == 16 * 16 and count(value) == 0


def test_the_widest_that_suffice() -> None:
    widths = Counter({128: 2, 64: 5, 32: 9})
    assert machine_code.widest(widths, 256) == {128: 2}
    assert machine_code.widest(widths, 257) == {128: 2, 64: 1}
    assert machine_code.widest(widths, 0) == {}
    assert machine_code.widest(Counter({0: 3, 32: 9}), 64) == {0: 3, 32: 2}

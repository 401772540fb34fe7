"""Rooflines and brackets against numbers computed by hand, and against what is published."""

import math

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import (
    GPUS,
    Compiled,
    bracket,
    check,
    compile_for,
    example,
    executed,
    interpret,
    roofline,
    sass,
)
from kernels.lab.bounds import Bracket, price
from kernels.lab.control_flow import Instruction
from kernels.lab.occupancy import MACHINES


@pytest.mark.parametrize("arch", GPUS)
def test_the_data_sheets_agree_with_themselves(arch: str) -> None:
    """Peak = multiprocessors · rate · clock; fp32 may be quoted at a clock 9 % higher."""
    gpu = GPUS[arch]
    assert math.isclose(
        gpu.multiprocessors * gpu.tensor * gpu.clock, gpu.flops["fp16"], rel_tol=0.005
    )
    vector = gpu.multiprocessors * 2 * gpu.lanes["fp32"] * gpu.clock
    assert vector * 0.995 <= gpu.flops["fp32"] <= vector * 1.09
    assert gpu.flops["bf16"] == gpu.flops["fp16"] and gpu.flops["tf32"] < gpu.flops["fp16"]
    assert arch in MACHINES


def test_a_roofline_by_hand() -> None:
    """AdamW on 100 million parameters: 2.8 GB at 3.35 TB/s; attention by its FLOPs."""
    step = roofline(28 * 10**8, 15 * 10**8, arch="sm_90", dtype="fp32", name="AdamW")
    assert math.isclose(step.seconds, 2.8e9 / 3.35e12) and step.limit == "memory"
    assert math.isclose(step.intensity, 15 / 28)
    assert math.isclose(step.attainable, 3.35e12 * 15 / 28)
    attention = roofline(4 * 10**6, 4 * 10**9, arch="sm_90")
    assert attention.limit == "compute" and attention.intensity == 1000
    assert math.isclose(attention.seconds, 4e9 / 989.4e12)
    assert math.isclose(attention.ridge, 989.4 / 3.35)
    assert attention.attainable == attention.gpu.flops["fp16"]
    text = step.report()
    assert text.startswith("AdamW on H100, fp32: bound 835.8 us by memory (2,800,000,000 B")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"arch": "sm_75"}, "arch: no data sheet for 'sm_75'; known: sm_80"),
        ({"dtype": "fp8"}, "dtype: unknown 'fp8'; known: fp16, bf16, tf32, fp32"),
        ({"bytes": 0}, "bytes, flops: expected more than zero bytes, .*got 0 and 0"),
        ({"bytes": math.nan}, "bytes, flops: expected .* finite, got nan and 0"),
        ({"flops": math.inf}, "bytes, flops: expected .* finite, got 1 and inf"),
    ],
)
def test_wrong_input_is_one_line(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        roofline(**{"bytes": 1, **options})
    assert "\n" not in str(caught.value)


@triton.jit
def _product(a, b, out, K, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    rows = tl.program_id(0) * BLOCK + i
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for k in range(0, K, BLOCK):
        x = tl.load(a + rows[:, None] * K + k + i[None, :])
        y = tl.load(b + (k + i[:, None]) * BLOCK + i[None, :])
        acc = tl.dot(x, y, acc)
    tl.store(out + rows[:, None] * BLOCK + i[None, :], acc)


def test_what_a_kernel_moves_beside_what_it_has_to_move() -> None:
    """Two programs read b twice."""
    a, b = torch.ones(32, 64, dtype=torch.float16), torch.ones(64, 16, dtype=torch.float16)
    out = torch.empty(32, 16)
    with check() as report:
        interpret(_product)[(2,)](a, b, out, 64, BLOCK=16)
    done = executed(report, arch="sm_80")
    needed = roofline(2 * (32 * 64 + 64 * 16) + 4 * 32 * 16, 2 * 32 * 16 * 64, arch="sm_80")
    assert done.flops == needed.flops and done.bytes - needed.bytes == 2 * 64 * 16
    assert done.name == "_product" and done.seconds > needed.seconds


# ---- prices and brackets


def one(opcode: str, n: int = 0, target: int | None = None) -> Instruction:
    return Instruction(
        n, opcode, "", sass.classify(opcode), "P0" if target is not None else "", target
    )


@pytest.mark.parametrize(
    ("opcode", "arch", "pipe", "cycles"),
    [
        ("HMMA.16816.F32", "sm_80", "tensor", 4096 / 2048),
        ("HGMMA.64x64x16.F32", "sm_90", "tensor", 32768 / 4096),
        ("MUFU.EX2", "sm_80", "exp2", 2),
        ("MUFU.RCP", "sm_90", "exp2", 2),
        ("FFMA", "sm_80", "fp32", 0.5),
        ("FFMA", "sm_90", "fp32", 0.25),
        ("FFMA2", "sm_100", "fp32", 0.5),
        ("FMNMX", "sm_90", "integer", 0.5),
        ("IADD3", "sm_90", "integer", 0.5),
        ("F2FP.F16.F32.PACK_AB", "sm_80", "convert", 0.5),
        ("SHFL.BFLY", "sm_90", "shuffle", 1),
        ("LDS.128", "sm_90", "shared", 4),
        ("LDS", "sm_90", "shared", 1),
        ("LDSM.16.MT88.4", "sm_80", "shared", 4),
        ("LDSM.16.M88", "sm_80", "shared", 1),
        ("STS.64", "sm_80", "shared", 2),
        ("LDTM.x64", "sm_100", "", 0),
        ("LDG.E.128", "sm_90", "", 0),
        ("BAR.SYNC", "sm_90", "", 0),
        ("BRA", "sm_90", "", 0),
    ],
)
def test_prices_by_hand(opcode: str, arch: str, pipe: str, cycles: float) -> None:
    """32 threads over the results a clock that NVIDIA's table of throughputs gives."""
    assert price(one(opcode), GPUS[arch]) == (pipe, cycles)


def synthetic(body: list[str], arch: str = "sm_80", warps: int = 4) -> Compiled:
    """A kernel that is one loop."""
    lines = [one(opcode, 16 * n) for n, opcode in enumerate(body)]
    end = one("BRA", 16 * len(body), 0)
    return Compiled("k", arch, warps, 64, 0, 0, (*lines, end, one("EXIT", end.address + 16)), {})


def test_a_bracket_by_hand() -> None:
    """64 products, 96 FFMA, 32 exp2 and the jump on four warps of an A100."""
    found = bracket(synthetic(["HMMA.16816.F32"] * 64 + ["FFMA"] * 96 + ["MUFU.EX2"] * 32))
    assert found.cycles == {
        "tensor": 64 * 4 * 2,
        "fp32": 96 * 4 / 2,
        "exp2": 32 * 4 * 2,
        "issue": 193 * 4 / 4,
    }
    assert (found.limit, found.ideal, found.serial) == ("tensor", 512, 512 + 192 + 256)
    assert found.flops == 64 * 4 * 4096
    assert math.isclose(found.tflops(found.ideal), 108 * 1.41e9 * 2048 / 1e12)
    text = found.report()
    assert text.startswith("bound on A100: 512 (ideal) to 960 (serial) cycles a step")
    assert "busiest: tensor" in text and "\n" not in text


def test_issue_can_be_the_limit_and_slow_dtypes_cost_more() -> None:
    waits = bracket(synthetic(["HMMA.16816.F32"] + ["LDG.E"] * 60))
    assert waits.limit == "issue" and waits.ideal == waits.serial == 62
    body = ["HMMA.16816.F32"] * 8
    half, slow = (bracket(synthetic(body), dtype=d).cycles["tensor"] for d in ("bf16", "tf32"))
    assert slow == 2 * half == 2 * 8 * 4 * 2


def test_what_has_no_bracket() -> None:
    straight = Compiled("k", "sm_80", 4, 64, 0, 0, (one("FFMA"), one("EXIT", 16)), {})
    with pytest.raises(ValueError, match="k has no main loop"):
        bracket(straight)
    with pytest.raises(ValueError, match="dtype: unknown 'fp64'"):
        bracket(synthetic(["FFMA", "LDG.E"]), dtype="fp64")
    with pytest.raises(ValueError, match="no data sheet for 'sm_86'"):
        bracket(synthetic(["HMMA.16816.F32"], arch="sm_86"))


# FlashAttention-2 (arXiv 2307.08691), section 4: forward on an A100 reaches 50 to 73 % of the peak
# of 312 TFLOP/s. A loop with its instructions at D = 64, 128 x 64 tiles, four warps.
FLASH_ATTENTION_2 = (0.50 * 312, 0.73 * 312)
LOOP = {
    "HMMA.16816.F32": 128,
    "MUFU.EX2": 68,
    "FFMA": 208,
    "FMNMX": 72,
    "IADD3": 87,
    "F2FP.F16.F32.PACK_AB": 32,
    "LDSM.16.M88.4": 40,
    "SHFL.BFLY": 16,
    "LDGSTS.E.BYPASS.128": 8,
    "BAR.SYNC": 2,
}


def test_published_speeds_lie_in_the_bracket() -> None:
    """Within the -17 % to +34 % by which brackets of published kernels have been off."""
    found = bracket(synthetic([opcode for opcode, n in LOOP.items() for _ in range(n)]))
    slow, fast = found.tflops(found.serial), found.tflops(found.ideal)
    assert slow < fast <= found.gpu.flops["fp16"] / 1e12 * 1.001
    for published in FLASH_ATTENTION_2:
        assert slow / 1.34 <= published <= fast * 1.34
    assert found.limit == "tensor"


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_a_real_loop_has_a_bracket(arch: str) -> None:
    a, out = example((64, 128), torch.float16), example((64, 64))
    compiled = compile_for(_product, a, a, out, 128, BLOCK=64, arch=arch)
    found: Bracket = bracket(compiled)
    assert 0 < found.ideal <= found.serial and found.flops == 2 * 64**3
    assert found.cycles["tensor"] >= 2 * 64**3 / found.gpu.tensor
    assert found.tflops(found.ideal) <= found.gpu.flops["fp16"] / 1e12 * 1.003


def test_what_several_warps_do_alike_counts_once() -> None:
    """Eight warps on a tile of one matrix instruction each: AMD's all compute the same."""
    a, out = example((32, 128), torch.float16), example((32, 32))
    compiled = compile_for(_product, a, a, out, 128, BLOCK=32, arch="gfx942", num_warps=8)
    assert compiled.step_flops > compiled.useful_flops == 2 * 32**3
    found = bracket(compiled)
    assert found.flops == 2 * 32**3 and found.cycles["tensor"] > found.flops / found.gpu.tensor

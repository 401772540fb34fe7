"""The machine code of the ladder: what the reasons say about it, and no spill inside a loop."""

import pytest
import torch

from kernels.lab.compiler import Compiled, example
from kernels.ladder import adamw, attention, compile_launches, matmul, softmax, vector_add

ARCHITECTURES = ("sm_80", "sm_90")
HALF, FLOAT = torch.float16, torch.float32


def loads(code: Compiled) -> dict[str, int]:
    """The loads from global memory, asynchronous copies included, by opcode."""
    return {op: n for op, n in code.opcodes("global").items() if op.startswith("LDG")}


def executed(code: Compiled) -> int:
    return sum(instruction.opcode != "NOP" for instruction in code.instructions)


def one(function, *args, **kwargs) -> Compiled:
    (code,) = compile_launches(function, *args, **kwargs)
    return code


def healthy(code: Compiled) -> bool:
    return code.blocks_per_multiprocessor > 0 and code.spills_in_loop == 0


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_width_of_the_loads_of_an_addition(arch: str) -> None:
    """One number a load; 128 bits only where n is divisible by 16; 128 bits in all full blocks."""
    n, ragged = example((4096,)), example((4099,))
    assert loads(one(vector_add.v1, n, n, arch=arch)) == {"LDG.E": 2}
    assert loads(one(vector_add.v2, n, n, arch=arch)) == {"LDG.E.128": 4}
    assert loads(one(vector_add.v2, ragged, ragged, arch=arch)) == {"LDG.E": 16}
    for version in (vector_add.v3, vector_add.v4):
        assert loads(one(version, n, n, arch=arch)) == {"LDG.E.128": 8}
        code = one(version, ragged, ragged, arch=arch)
        assert loads(code) == {"LDG.E.128": 4, "LDG.E": 16} and healthy(code)
    (loop,) = one(vector_add.v4, ragged, ragged, arch=arch).main_loops
    assert {i.opcode for i in loop.body if i.opcode.startswith("LDG")} == {"LDG.E.128"}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_instructions_of_a_softmax(arch: str) -> None:
    """exp2 and one reciprocal save a quarter; several short rows a program save another half."""
    for dtype in (FLOAT, HALF):
        long, short = example((64, 1024), dtype), example((4096, 64), dtype)
        for version in (softmax.v1, softmax.v2):
            assert healthy(one(version, long, arch=arch))
        v3, v4 = one(softmax.v3, long, arch=arch), one(softmax.v4, long, arch=arch)
        assert v3.instruction_mix["exp2"] == v4.instruction_mix["exp2"] == 16  # one an element
        assert executed(v4) < 0.8 * executed(v3)
        narrow, wide = one(softmax.v4, short, arch=arch), one(softmax.v5, short, arch=arch)
        # 2 elements a thread against 16
        assert executed(wide) / 16 < 0.6 * executed(narrow) / 2
        assert all(".128" in opcode for opcode in loads(wide))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_matmul_climbs_to_asynchronous_copies(arch: str) -> None:
    a = example((1024, 1024), HALF)
    v1, v3 = one(matmul.v1, a, a, arch=arch), one(matmul.v3, a, a, arch=arch)
    v6 = one(matmul.v6, a, a, example((1024,), HALF), activation="silu", arch=arch)
    assert v1.instruction_mix["mma"] == 0 < v3.instruction_mix["mma"]
    copies = [i for loop in v6.main_loops for i in loop.body if i.opcode.startswith("LDGSTS")]
    assert copies and not [op for op in loads(v3) if op.startswith("LDGSTS")]
    assert all(i.opcode.endswith(".128") for i in copies)
    assert healthy(v1) and healthy(v3) and healthy(v6)
    assert any("GMMA" in i.opcode for i in v6.instructions) == (arch == "sm_90")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("version", [matmul.v2, matmul.v5])
def test_a_matmul_of_fp32_does_not_spill(version, arch: str) -> None:
    a = example((1024, 1024))
    assert healthy(one(version, a, a, arch=arch))


def extra_work(code: Compiled, threads: int, scores: int) -> float:
    """Instructions a score in the loop without masks, tensor cores left out."""
    loop = min(code.main_loops, key=lambda loop: len(loop.body))
    return sum(i.kind != "mma" for i in loop.body) * threads / scores


def test_attention_needs_fewer_instructions_a_score() -> None:
    """Measured on sm_80 with D = 64: 15.5, then 11.3 (exp2), then 8.6 (no masks, one fma)."""
    q = example((1, 2, 1024, 64), HALF)
    v3, v4, v5 = (
        extra_work(one(f, q, q, q, arch="sm_80"), 128, 64 * 64)
        for f in (attention.v3, attention.v4, attention.v5)
    )
    assert v4 < 0.8 * v3 and v5 < 0.85 * v4 and v5 < 9


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "d"), [(HALF, 128), (FLOAT, 128)])
def test_attention_does_not_spill(dtype: torch.dtype, d: int, arch: str) -> None:
    q, few = example((1, 2, 1024, d), dtype), example((1, 2, 64, d), dtype)
    assert healthy(one(attention.v2, few, few, few, arch=arch))
    for version in (attention.v3, attention.v5):
        assert healthy(one(version, q, q, q, arch=arch))
    assert all(map(healthy, compile_launches(attention.v1, q, q, q, arch=arch)))


def test_adamw_needs_a_promise_for_wide_loads_from_a_table() -> None:
    """Tensors that are arguments are known to be aligned; addresses in a table are not."""
    lists = [[torch.zeros(4096)] for _ in range(4)]
    hyper = {"step": 1, "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
    v2, v3, v4 = (one(f, *lists, **hyper, arch="sm_90") for f in (adamw.v2, adamw.v3, adamw.v4))
    assert set(loads(v2)) == set(loads(v3)) == {"LDG.E.128"}
    assert "LDG.E.128" not in loads(v4)
    assert len(compile_launches(adamw.v1, *lists, **hyper, arch="sm_90")) == 5

"""``python -m kernels bench``: bounds without a GPU; the timing path with a stand-in for one."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
import triton.testing

from kernels.__main__ import main
from kernels.lab import Compiled, bracket, compile_for, example, roofline
from kernels.verification import bench
from kernels.verification.bench import OPERATIONS, bounds, format_bounds, format_timings, measure
from kernels.verification.outcome import Shipped
from kernels.verification.verify import KERNELS

CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("causal", [False, True])
def test_attention_and_its_rivals_compute_the_same(causal: bool) -> None:
    runs = bench.attention(1, 2, 70, 16, causal=causal).build(CPU)
    assert list(runs) == ["kernels", "sdpa", "flex"]
    ours, *others = (run() for run in runs.values())
    for other in others:
        torch.testing.assert_close(ours, other, rtol=2e-3, atol=2e-3)


def test_the_backward_pass_alone() -> None:
    """Flex-attention has no backward pass on a CPU; SDPA has."""
    operation = bench.attention(1, 2, 70, 16, backward=True)
    assert operation.flops * 2 == 5 * bench.attention(1, 2, 70, 16).flops
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.attention.flex_attention.flex_attention", _plain)
        runs = operation.build(CPU)
    ours, theirs, _ = (run() for run in runs.values())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-2)


def _plain(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_mask: Any) -> torch.Tensor:
    return torch.softmax(q @ k.mT, -1) @ v


def test_adamw_and_its_rivals_take_the_same_step() -> None:
    runs = bench.adamw(2, 33).build(CPU)
    assert list(runs) == ["kernels", "torch fused", "torch foreach"]
    ours, *others = ([p.detach().clone() for p in stepped(run)] for run in runs.values())
    assert not torch.equal(ours[0], torch.ones(33))
    for other in others:
        torch.testing.assert_close(ours, other, rtol=1e-6, atol=0)


def stepped(step: Callable[[], Any]) -> list[torch.Tensor]:
    """The parameters after one step of the optimizer that the method belongs to."""
    step()
    optimizer = getattr(step, "__self__", None) or step.__wrapped__.__self__
    return optimizer.param_groups[0]["params"]


def test_the_rival_of_decoding_computes_the_same() -> None:
    operation = bench.decode(2, 4, 2, 40, 16)
    runs = operation.build(torch.device("cpu"))
    ours, theirs = (runs[name]() for name in ("kernels", "sdpa"))
    assert ours.shape == (2, 4, 1, 16) and (ours - theirs).abs().max() < 2e-3
    assert operation.bytes == 2 * (2 * 2 * 40 * 16) * 2 and operation.flops == 4 * 2 * 4 * 40 * 16


def test_bytes_and_flops_of_the_operations() -> None:
    full, causal = (bench.attention(2, 3, 100, 64, causal=c) for c in (False, True))
    assert full.flops == 4 * 2 * 3 * 100 * 100 * 64
    assert causal.flops == 4 * 2 * 3 * (100 * 101 // 2) * 64
    assert full.bytes == causal.bytes == 4 * (2 * 3 * 100 * 64) * 2
    assert bench.adamw(3, 1000).bytes == 28 * 3000
    assert len({(o.kernel, o.case) for o in OPERATIONS}) == len(OPERATIONS)


# ---- a stand-in for a GPU


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times by name of implementation; the operations are built on the CPU."""
    times = {"kernels": 2.0, "rival": 3.0}

    def do_bench(run: Callable[[], Any], *, return_mode: str) -> float:
        assert return_mode == "median"
        return times[run()]

    def build(device: torch.device) -> bench.Runs:
        assert device.type == "cuda"
        return {name: partial(str, name) for name in times}

    small = replace(OPERATIONS[0], build=build, bytes=4 * 10**9, flops=10**12, case="small")
    monkeypatch.setattr(bench, "OPERATIONS", [small, replace(small, kernel="adamw")])
    monkeypatch.setattr(triton.testing, "do_bench", do_bench)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Stand-in")
    return times


def test_timings_are_medians_and_ratios(gpu: dict[str, float]) -> None:
    ours, rival, *others = measure()
    assert (ours.implementation, ours.milliseconds, ours.ratio) == ("kernels", 2.0, 1.0)
    assert (rival.implementation, rival.milliseconds, rival.ratio) == ("rival", 3.0, 1.5)
    assert math.isclose(ours.teraflops, 1 / 2e-3) and math.isclose(ours.gigabytes, 4 / 2e-3)
    assert [t.kernel for t in others] == ["adamw", "adamw"]
    assert [t.kernel for t in measure(["adamw"])] == ["adamw", "adamw"]
    lines = format_timings([ours, rival]).splitlines()
    assert lines[1].split()[-4:] == ["2.000", "1.00", "500.0", "2,000"] and len(lines) == 3


def test_the_command_on_a_gpu(gpu: dict[str, float], capsys: pytest.CaptureFixture) -> None:
    assert main(["bench", "attention"]) == 0
    out, err = capsys.readouterr()
    assert "medians on Stand-in" in out and "bound" not in out and err == ""
    assert main(["bench", "attention", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["gpu"] == "Stand-in" and [t["ratio"] for t in data["timings"]] == [1.0, 1.5]


# ---- none


def test_every_operation_finds_its_configuration() -> None:
    for operation in OPERATIONS:
        found = bench.configuration(operation)
        assert (found is None) == (operation.shipped == "")
        assert found is None or found.kernel.startswith(operation.kernel)


@triton.jit
def _product(a, out, K, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for k in range(0, K, BLOCK):
        x = tl.load(a + i[:, None] * 256 + k + i[None, :])
        acc = tl.dot(x, x, acc)
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)


def compile_product(arch: str) -> Compiled:
    a, out = example((64, 256), torch.float16), example((64, 64))
    return compile_for(_product, a, out, 256, BLOCK=64, arch=arch)


def test_bounds_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    shipped = [
        Shipped("attention dq", "fp16", "D=64", compile_for),  # not the one, so never compiled
        Shipped("attention forward", "fp16", "D=64", compile_product),
    ]
    family = SimpleNamespace(shipped=lambda quick: shipped)
    monkeypatch.setitem(KERNELS, "attention", (family, ()))
    chosen = [bench.attention(4, 16, 1024, 64), bench.adamw(2, 2**20)]
    monkeypatch.setattr(bench, "OPERATIONS", chosen)
    monkeypatch.setattr(bench, "GPUS", {"sm_90": bench.GPUS["sm_90"]})
    attention, adamw = bounds()
    roof = roofline(chosen[0].bytes, chosen[0].flops, arch="sm_90")
    assert attention.milliseconds == roof.seconds * 1e3 and attention.gpu == "H100"
    loop = bracket(compile_product("sm_90"))
    assert attention.busiest == loop.limit and 0 < attention.ideal <= attention.serial
    assert math.isclose(attention.ideal, chosen[0].flops / loop.tflops(loop.ideal) / 1e9)
    assert math.isclose(adamw.milliseconds, 28 * 2**21 / 3.35e12 * 1e3)
    assert (adamw.limit, adamw.busiest, adamw.ideal) == ("memory", "", 0)
    table = format_bounds([attention, adamw])
    assert max(map(len, table.splitlines())) <= 120 and table.splitlines()[2].split()[-2:] == [
        "-",
        "-",
    ]
    assert main(["bench"]) == 0
    out, err = capsys.readouterr()
    assert "no GPU: nothing was measured" in out.splitlines()[-1] and err == ""
    assert "roofline (bound)" in out and "main loop (bound)" in out
    assert main(["bench", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["gpu"] is None and len(data["bounds"]) == 2

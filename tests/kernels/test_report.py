"""``python -m kernels report``: rows from real code, targets, the table, JSON and exit codes."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from tested_compiler import machine_code

import kernels
from kernels.__main__ import main
from kernels.lab import Compiled, compile_for, example
from kernels.verification import report as report_module
from kernels.verification import targets as targets_module
from kernels.verification import verify as verify_module
from kernels.verification.outcome import Shipped
from kernels.verification.report import ReportRow, format_report, report, report_json
from kernels.verification.targets import (
    Target,
    adamw_targets,
    attention_targets,
    format_targets,
    machine_targets,
    number_targets,
    tile_targets,
)


@triton.jit
def _product(a, b, out, K, BLOCK: tl.constexpr, DEPTH: tl.constexpr):
    i = tl.arange(0, BLOCK)
    k = tl.arange(0, DEPTH)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, K, DEPTH):
        x = tl.load(a + i[:, None] * 128 + start + k[None, :])
        y = tl.load(b + i[None, :] * 128 + start + k[:, None])
        acc = tl.dot(x, y, acc)
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)


@triton.jit
def _copy(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i))


def compile_product(arch: str, **options: int) -> Compiled:
    a, out = example((64, 128), torch.float16), example((64, 64))
    return compile_for(_product, a, a, out, 128, BLOCK=64, DEPTH=32, arch=arch, **options)


def compile_copy(arch: str, offset: int = 0) -> Compiled:
    x = torch.empty(1025)[offset:]
    return compile_for(_copy, x, example((1024,)), BLOCK=1024, arch=arch)


SHIPPED = [
    Shipped("product", "fp16", "D=64", compile_product, scores={"sm_80": 64 * 64}),
    Shipped("product", "fp32", "copy", compile_copy, tensor_cores=False, scores=1024),
    Shipped("product", "fp16", "few registers", partial(compile_product, num_warps=1, maxnreg=64)),
    Shipped("product", "fp32", "misaligned", partial(compile_copy, offset=1), tensor_cores=False),
]


@pytest.fixture(scope="module")
def rows() -> list[ReportRow]:
    family = SimpleNamespace(shipped=lambda quick: SHIPPED[:2] if quick else SHIPPED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(verify_module.KERNELS, "product", (family, ()))
        return report(["product"], ["sm_80", "sm_90"])


def test_a_row_says_what_the_code_does(rows: list[ReportRow]) -> None:
    assert [(r.variant, r.arch) for r in rows] == [
        (one.variant, arch) for one in SHIPPED for arch in ("sm_80", "sm_90")
    ]
    product, elsewhere, copy, *_ = rows
    compiled = compile_product("sm_80")
    assert product.registers == compiled.registers and product.spills_in_loop == 0
    assert product.scores == compiled.instructions_per_score(64 * 64) and elsewhere.scores == 0
    assert product.flops_per_instruction == compiled.flops_per_instruction > 0
    assert product.tensor_core == "HMMA" and product.asynchronous > 0 and product.barriers > 0
    assert product.widths == (128,) and 0 < product.ideal <= product.serial
    assert product.limit in ("tensor", "shared", "issue", "fp32", "integer")
    assert (copy.widths, copy.limit, copy.ideal, copy.scores) == ((128,), "memory", 0, 0)
    spilled, misaligned = rows[4], rows[6]
    assert spilled.spills_in_loop > 0 and misaligned.widths == (32,)


def test_the_table_fits_in_120_columns(rows: list[ReportRow]) -> None:
    long = replace(rows[0], kernel="attention", variant="forward D=128 descriptors causal ragged")
    table = format_report([*rows, replace(long, arch="gfx942", tensor_core="UTCHMMA")])
    lines = table.splitlines()
    assert len(lines) == len(rows) + 2 and max(map(len, lines)) <= 120
    assert lines[0].split()[:5] == ["kernel", "dtype", "variant", "arch", "reg"]
    assert "…" in lines[-1] and lines[1].split()[7] == "128"
    assert "128/32" in format_report([replace(rows[0], widths=(128, 64, 32))])
    assert "tile/32" in format_report([replace(rows[0], widths=(0, 32)[::1])])
    assert max(map(len, report_module.NOTE.splitlines())) <= 120


def test_json_holds_every_field(rows: list[ReportRow]) -> None:
    (row, *_) = json.loads(json.dumps(report_json(rows)))
    assert row["widths"] == [128] and row["kernel"] == "product" and row["serial"] > 0


# ---- targets


def test_a_target() -> None:
    assert Target("x", 8.2, "<=", 8.2).met and not Target("x", 8.2001, "<=", 8.2).met
    assert Target("x", 1170, ">=", 1170).met and not Target("x", 1169, ">=", 1170).met
    assert Target("x", 28, "=", 28).met and not Target("x", 28.07, "=", 28).met
    assert not Target("x", float("nan"), "<=", 1).met
    text = format_targets([Target("a", 8.2034, "<=", 8.2), Target("b", 0, "=", 0)])
    assert text.splitlines()[1].split() == ["a", "8.203", "<=", "8.2", "MISSED"]
    assert text.splitlines()[2].split() == ["b", "0", "=", "0", "met"] and "missed by" not in text
    many = format_targets([Target("c", 4, "=", 0, ("p", "q", "r", "s"))])
    assert many.splitlines()[3:] == ["missed by", "  c:", "    p", "    q", "    r, … (4 in all)"]


def found(rows: list[ReportRow]) -> dict[str, Target]:
    return {target.name: target for target in machine_targets(rows)}


def test_targets_of_all_rows(rows: list[ReportRow]) -> None:
    good = found(rows[:4])
    assert all(target.met for target in good.values()) and len(good) == 2
    spills, narrow = found(rows).values()
    assert spills.value == sum(r.spills_in_loop for r in rows) > 0 and not spills.met
    assert narrow.value == 2 and not narrow.met  # the misaligned copy, on both
    assert narrow.missed_by == tuple(f"product fp32 misaligned {a}" for a in ("sm_80", "sm_90"))
    assert spills.missed_by[0] == "product fp16 few registers sm_80"
    mixed = replace(rows[2], widths=(128, 32))
    waiting = [found([replace(mixed, asynchronous=n)])[narrow.name].value for n in (0, 4)]
    assert waiting == [1, 0]
    amd = [replace(r, arch="gfx942") for r in rows[6:]]
    assert [t.name for t in machine_targets(amd)] == [spills.name]


def test_registered_limits_of_attention(rows: list[ReportRow]) -> None:
    base = replace(rows[0], kernel="attention forward", scores=8.3, flops_per_instruction=1200.0)
    forward = replace(base, variant="D=64")
    name = "attention forward fp16 D=64 sm_80, as shipped: x/score"
    assert found([forward])[name] == Target(name, 8.3, "<=", 8.2)
    better = replace(forward, scores=8.0, variant="D=64 descriptors")
    assert found([forward, better])[name].met
    others = [
        replace(base, variant="D=64", dtype="bf16"),
        replace(base, variant="D=64", arch="gfx942"),
        replace(base, kernel="attention dq", variant="D=64"),
        replace(base, kernel="matmul forward", variant="D=64"),
        replace(base, variant="D=640"),
        replace(base, variant="D=64", scores=0.0),
        replace(base, variant="D=64 softcap"),
    ]
    assert name not in found(others)
    part = "attention dq fp16 D=64 sm_80: FLOP/instruction"
    rich = replace(others[2], variant="D=64 bias", flops_per_instruction=1300.0)
    assert found([*others, rich])[part] == Target(part, 1200.0, ">=", 1170)
    sizes = [("dq", 64), ("dkv", 64), ("dq", 128), ("dkv", 128)]
    hopper = replace(base, arch="sm_90")
    both = found([replace(hopper, kernel=f"attention {p}", variant=f"D={d}") for p, d in sizes])
    assert not both["attention dq fp16 D=64 sm_90: FLOP/instruction"].met  # 1,200 of 1,414
    assert both["attention dkv fp16 D=64 sm_90: FLOP/instruction"].met


@machine_code
def test_the_forward_kernel_in_the_tiles_of_the_limits() -> None:
    """Measured: 7.64 and 11.06 on sm_80, 7.62 and 10.31 on sm_90."""
    targets = tile_targets()
    assert len(targets) == 4 and all(t.met for t in targets)
    assert targets[0].name == "attention forward fp16 D=64 128x64 w4 sm_80: x/score"
    assert all(t.value > 4.5 + 1 for t in targets)  # what no kernel can do without
    assert tile_targets(["adamw"]) == [] and tile_targets(archs=["gfx942"]) == []


def test_attention_moves_and_computes_what_its_tiles_need() -> None:
    moved, flops = attention_targets(length=256)
    assert moved.met and 1 <= moved.value <= 1.02
    assert flops.met and 1 < flops.value <= flops.limit <= 1.5
    assert (moved.relation, moved.limit, flops.relation) == ("<=", 1.02, "<=")


def test_a_wasteful_attention_misses_its_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not causal at all: all keys are loaded and multiplied."""
    real = kernels.attention
    monkeypatch.setattr(kernels, "attention", lambda q, k, v, causal: real(q, k, v))
    moved, flops = attention_targets(length=512)
    assert not moved.met and not flops.met


def test_adamw_moves_28_bytes_in_one_launch() -> None:
    found = adamw_targets()
    assert [(t.value, t.relation, t.limit) for t in found] == [(28, "=", 28), (1, "=", 1)]


def test_number_targets_of_the_named_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("adamw", "attention"):
        one = [Target(name, 0, "=", 0)]
        monkeypatch.setattr(targets_module, f"{name}_targets", lambda one=one: one)
    assert [t.name for t in number_targets()] == ["attention", "adamw"]
    assert [t.name for t in number_targets(["adamw"])] == ["adamw"]


# ---- the command


@pytest.fixture
def shown(rows: list[ReportRow], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The rows that the command gets, all of them good."""
    given = list(rows[:4])
    monkeypatch.setattr(report_module, "report", lambda *args, **kwargs: given)
    monkeypatch.setattr(targets_module, "number_targets", lambda names: [Target("t", 1, "=", 1)])
    monkeypatch.setattr(targets_module, "tile_targets", lambda names, archs: [])
    return given


def test_the_command_prints_table_and_targets(
    shown: list[Any], capsys: pytest.CaptureFixture
) -> None:
    assert main(["report"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("kernel ") and "\ntarget " in out and err == ""
    assert "every target is met" in out.splitlines()[-1]
    assert max(map(len, out.splitlines())) <= 120


def test_a_missed_target_is_exit_code_1(shown: list[Any], capsys: pytest.CaptureFixture) -> None:
    shown[0] = replace(shown[0], spills_in_loop=7)
    assert main(["report"]) == 1
    out = capsys.readouterr().out
    assert "MISSED" in out and "1 of 3 targets MISSED" in out.splitlines()[-1]
    assert main(["report", "--json"]) == 1
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["ok"] is False and len(out.splitlines()) == 1 and err == ""
    assert [t["met"] for t in data["targets"]] == [False, True, True] and len(data["rows"]) == 4

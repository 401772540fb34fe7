"""Two versions of a kernel side by side, from a file and from notebook cells."""

import linecache

import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import Compiled, compare_sass, compile_for, example

CELL = """@triton.jit
def {name}(a, out, K, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK, BLOCK], tl.float32)
    for k in range(0, K, BLOCK):
        x = tl.load(a + i[:, None] * 256 + k + i[None, :])
        acc += {work}
    tl.store(out + i[:, None] * BLOCK + i[None, :], acc)
"""


def cell(name: str, work: str) -> Compiled:
    """A kernel as a notebook defines it."""
    source, file = CELL.format(name=name, work=work), f"<cell {name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace = {"triton": triton, "tl": tl, "__name__": "cell"}
    exec(compile(source, file, "exec"), namespace)
    a, out = example((32, 256), torch.float16), example((32, 32))
    return compile_for(namespace[name], a, out, 256, BLOCK=32, arch="sm_80")


@pytest.fixture(scope="module")
def versions() -> tuple[Compiled, Compiled]:
    return cell("v1", "tl.exp(tl.dot(x, x))"), cell("v2", "tl.exp2(tl.dot(x, x))")


def test_two_versions(versions: tuple[Compiled, Compiled]) -> None:
    text = compare_sass(*versions)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100 and all(line == line.rstrip() for line in lines)
    assert lines[0].split() == "v1 on sm_80, 4 warps v2 on sm_80, 4 warps".split()
    counts = {line.split()[0]: line.split()[1:] for line in lines[3:] if line.startswith("  ")}
    left, right = (kernel.main_loop.mix for kernel in versions)
    assert counts["mma"] == [str(left["mma"]), str(right["mma"])]
    assert left["fp32"] > right["fp32"]  # exp multiplies by log2(e) first
    assert counts["fp32"] == [
        str(left["fp32"]), str(right["fp32"]), f"{right['fp32'] - left['fp32']:+}"
    ]  # fmt: skip
    all_left, all_right = (len(kernel.core) for kernel in versions)
    assert counts["all"][:2] == [str(all_left), str(all_right)]


def columns(text: str, width: int = 100) -> tuple[list[str], list[str], list[str]]:
    half = (width - 3) // 2
    rows = text.split("\n\n", 2)[2].splitlines()
    cut = [(r[:half].rstrip(), r[half : half + 3].ljust(3), r[half + 3 :]) for r in rows]
    left, marks, right = zip(*cut, strict=True)
    return list(left), list(marks), list(right)


def test_with_all_context_each_side_is_its_loop(versions: tuple[Compiled, Compiled]) -> None:
    left, marks, right = columns(compare_sass(*versions, context=None))
    for side, kernel in ((left, versions[0]), (right, versions[1])):
        opcodes = [line.split()[1 if line.startswith("@") else 0] for line in side if line]
        assert opcodes == [i.opcode for i in kernel.core]
    for a, mark, b in zip(left, marks, right, strict=True):
        assert {" | ": bool(a and b), " < ": not b, " > ": not a, "   ": bool(a and b)}[mark]
    assert " < " in marks or " | " in marks


def test_equal_runs_are_cut_short(versions: tuple[Compiled, Compiled]) -> None:
    whole = compare_sass(versions[0], versions[0])
    left, marks, _ = columns(whole)
    assert left == [f"    ... {len(versions[0].core)} equal ..."] and set(marks) == {"   "}
    cut = compare_sass(*versions, context=1)
    full = compare_sass(*versions, context=None)
    assert "equal ..." in cut and len(cut.splitlines()) < len(full.splitlines())
    skipped = sum(int(n.split()[1]) for n in columns(cut)[0] if "equal ..." in n)
    shown = sum("equal ..." not in n for n in columns(cut)[0])
    assert skipped + shown == len(columns(full)[0])


def test_narrow_lines_and_kernels_without_a_loop(versions: tuple[Compiled, Compiled]) -> None:
    text = compare_sass(*versions, width=60)
    assert max(map(len, text.splitlines())) <= 60 and "…" in text
    with pytest.raises(ValueError, match="width: expected at least 60 characters, got 40"):
        compare_sass(*versions, width=40)
    with pytest.raises(TypeError, match=r"^b: expected a compiled kernel, .*got int$"):
        compare_sass(versions[0], 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^a: expected a compiled kernel"):
        compare_sass(1, 2)  # type: ignore[arg-type]
    x = example((1024,))
    plain = compile_for(_copy, x, x, BLOCK=1024, arch="sm_80")
    assert "no loop, whole kernel" in compare_sass(plain, versions[0])


@triton.jit
def _copy(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i))

"""The interpreter computes what a GPU computes, and leaves no trace of itself."""

import linecache
import math
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.lab import compile_for, interpret
from kernels.lab.floats import bf16_to_f32, f32_to_bf16, fma, to_tf32


@triton.jit
def _copy(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty))


@triton.jit
def _copy_cut(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i).to(out.dtype.element_ty, fp_downcast_rounding="rtz"))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Equal bit for bit, where any NaN equals any NaN."""
    ints = {2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
    return bool(((a.view(ints) == b.view(ints)) | (a.isnan() & b.isnan())).all())


# ---- bf16


def test_every_bf16_pattern_widens_exactly() -> None:
    x = torch.arange(65536, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    out = torch.empty(65536)
    interpret(_copy)[(1,)](x, out, BLOCK=65536)
    assert same(out, x.float())
    back = torch.empty(65536, dtype=torch.bfloat16)
    interpret(_copy)[(1,)](out, back, BLOCK=65536)
    assert same(back, x)


@pytest.mark.parametrize("low", [0x0000, 0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_fp32_rounds_to_bf16_as_in_pytorch(low: int) -> None:
    """All upper halves, with lower halves around the tie: to nearest, ties to even."""
    bits = (np.arange(65536, dtype=np.uint32) << 16) | np.uint32(low)
    x = torch.from_numpy(bits.view(np.float32))
    out = torch.empty(65536, dtype=torch.bfloat16)
    interpret(_copy)[(1,)](x, out, BLOCK=65536)
    assert same(out, x.to(torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cutting_off_toward_zero(dtype: torch.dtype) -> None:
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0)) * 100
    out = torch.empty(4096, dtype=dtype)
    interpret(_copy_cut)[(1,)](x, out, BLOCK=4096)
    assert (out.float().abs() <= x.abs()).all()
    assert ((out.float() - x).abs() < torch.finfo(dtype).eps * x.abs()).all()


@triton.jit
def _arithmetic(x, y, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    b = tl.load(y + i)
    row = out + i
    tl.store(row, a + b)
    tl.store(row + BLOCK, a - b)
    tl.store(row + 2 * BLOCK, a * b)
    tl.store(row + 3 * BLOCK, (a / b).to(a.dtype))
    tl.store(row + 4 * BLOCK, tl.where((a < b) & (b > 0), a, -b))
    tl.store(row + 5 * BLOCK, tl.maximum(a, b))
    tl.store(row + 6 * BLOCK, tl.abs(a))
    tl.store(row + 7 * BLOCK, tl.clamp(a, -1.0, 1.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_arithmetic_rounds_once_as_in_pytorch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(512, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty(8, 512, dtype=dtype)
    interpret(_arithmetic)[(1,)](a, b, out, BLOCK=512)
    chosen = torch.where((a < b) & (b > 0), a, -b)
    expected = [a + b, a - b, a * b, a / b, chosen, torch.maximum(a, b), a.abs(), a.clamp(-1, 1)]
    for row, want in zip(out, expected, strict=True):
        assert same(row, want)


@triton.jit
def _matmul(a, b, out, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, PRECISION: tl.constexpr):
    m = tl.arange(0, M)
    n = tl.arange(0, N)
    k = tl.arange(0, K)
    x = tl.load(a + m[:, None] * K + k[None, :])
    y = tl.load(b + k[:, None] * N + n[None, :])
    tl.store(out + m[:, None] * N + n[None, :], tl.dot(x, y, input_precision=PRECISION))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dot_sums_in_fp32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    a = torch.randn(16, 64, generator=generator).to(dtype)
    b = torch.randn(64, 32, generator=generator).to(dtype)
    out = torch.empty(16, 32)
    interpret(_matmul)[(1,)](a, b, out, M=16, N=32, K=64, PRECISION="ieee")
    size = a.double().abs() @ b.double().abs()
    assert (
        (out - a.double() @ b.double()).abs() <= 4 * torch.finfo(torch.float32).eps * size
    ).all()


def test_fp32_dot_in_tf32_has_ten_bits() -> None:
    """Without input_precision="ieee" an NVIDIA GPU keeps 10 bits; the interpreter shows it."""
    generator = torch.Generator().manual_seed(3)
    a, b = torch.randn(16, 16, generator=generator), torch.randn(16, 16, generator=generator)
    out = torch.empty(16, 16)
    interpret(_matmul)[(1,)](a, b, out, M=16, N=16, K=16, PRECISION=None)
    rounded = [torch.from_numpy(to_tf32(t.numpy())).double() for t in (a, b)]
    torch.testing.assert_close(out.double(), rounded[0] @ rounded[1], rtol=1e-5, atol=1e-6)
    size = a.double().abs() @ b.double().abs()
    error = ((out - a.double() @ b.double()).abs() / size).max()
    assert 2**-16 < error < 2**-10


def test_dot_refuses_what_tensor_cores_do_not_take() -> None:
    a, b = torch.zeros(16, 8, dtype=torch.float16), torch.zeros(8, 16, dtype=torch.float16)
    with pytest.raises(AssertionError, match="K >= 16"):
        interpret(_matmul)[(1,)](a, b, torch.empty(16, 16), M=16, N=16, K=8, PRECISION="ieee")


@triton.jit
def _reductions(x, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    i = tl.arange(0, ROWS)
    j = tl.arange(0, COLUMNS)
    block = tl.load(x + i[:, None] * COLUMNS + j[None, :])
    tl.store(out + i, tl.sum(block, 1).to(tl.float32))
    tl.store(out + ROWS + i, tl.max(block, 1).to(tl.float32))
    tl.store(out + 2 * ROWS + i, block.min(axis=1).to(tl.float32))
    tl.store(out + 3 * ROWS + i, tl.argmax(block, 1).to(tl.float32))
    total = tl.sum(tl.sum(block.to(tl.float32), 0), 0)
    tl.store(out + 4 * ROWS, total)
    best, where = tl.max(tl.max(block, 0), 0, return_indices=True)
    tl.store(out + 4 * ROWS + 1, best.to(tl.float32))
    tl.store(out + 4 * ROWS + 2, where.to(tl.float32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_reductions(dtype: torch.dtype) -> None:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(4)).to(dtype)
    out = torch.empty(35)
    interpret(_reductions)[(1,)](x, out, ROWS=8, COLUMNS=64)
    exact = x.double().sum(1)
    # log2(64) = 6 levels of a tree, each rounding by half an ulp of at most sum|x|
    assert ((out[:8] - exact).abs() <= 3 * torch.finfo(dtype).eps * x.double().abs().sum(1)).all()
    assert torch.equal(out[8:16], x.float().amax(1))
    assert torch.equal(out[16:24], x.float().amin(1))
    assert torch.equal(out[24:32].long(), x.argmax(1))
    torch.testing.assert_close(out[32].double(), x.double().sum(), rtol=1e-5, atol=1e-5)
    assert out[33] == x.max() and out[34] == x.amax(0).argmax()


def test_a_bf16_sum_loses_what_a_bf16_accumulator_loses() -> None:
    """256 + 0.5 sixty-three times: a sum kept in bf16 cannot hold it, an fp32 sum can."""
    x = torch.full((8, 64), 0.5, dtype=torch.bfloat16)
    x[:, 0] = 256.0
    out = torch.empty(35)
    interpret(_reductions)[(1,)](x, out, ROWS=8, COLUMNS=64)
    assert (out[:8] != 287.5).all() and out[32] == 8 * 287.5


# ---- NaN, fused multiply-add, undefined lanes


@triton.jit
def _nan_rules(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + i)
    tl.store(out, tl.max(a, 0))
    tl.store(out + 1, tl.min(a, 0))
    zero = tl.zeros([BLOCK], tl.float32)
    tl.store(out + 2 + i, tl.maximum(a, zero))
    tl.store(out + 2 + BLOCK + i, tl.maximum(a, zero, propagate_nan=tl.PropagateNan.ALL))


@pytest.mark.filterwarnings("error")
def test_nan_loses_a_maximum_unless_asked_for() -> None:
    """As ``max.f32`` and ``max.NaN.f32`` do; the first is what ``tl.max`` compiles to."""
    x = torch.tensor([1.0, torch.nan, -3.0, torch.nan])
    out = torch.empty(10)
    interpret(_nan_rules)[(1,)](x, out, BLOCK=4)
    assert out[:2].tolist() == [1.0, -3.0]
    assert out[2:6].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert out[6:].isnan().tolist() == [False, True, False, True]
    ptx = compile_for(_nan_rules, x, out, BLOCK=4, num_warps=1).ptx
    assert "max.f32" in ptx and "max.NaN.f32" in ptx


@triton.jit
def _fused(x, y, z, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.fma(tl.load(x + i), tl.load(y + i), tl.load(z + i)))


def test_fma_rounds_once() -> None:
    """Against exact rational arithmetic, on numbers chosen so that rounding twice is wrong."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((2, 2000)).astype(np.float32)
    z = (-x * y * (1 + rng.integers(-2, 3, 2000) * 2.0**-24)).astype(np.float32)  # cancels
    # 64 ± a trifle, added to a number whose neighbour is 128 away: a tie but for the trifle,
    # which is too small to be seen in fp64.
    e = 2.0**-11
    ties = [
        (sign * 8 * (1 + e), 8 * (1 - e + e * e if above else 1 - e), sign * (2.0**30 + 128 * odd))
        for sign in (1, -1)
        for above in (True, False)
        for odd in (0, 1)
    ]
    ties += [(8 * (1 + 2.0**-18), 8 * (1 - 2.0**-18), sign * (2.0**30 + 128)) for sign in (1, -1)]
    columns = np.array(ties, np.float32).T
    x, y, z = (np.append(v, column) for v, column in zip((x, y, z), columns, strict=True))
    n = 2048
    x, y, z = (np.resize(v, n) for v in (x, y, z))
    out = torch.empty(n)
    interpret(_fused)[(1,)](*map(torch.from_numpy, (x, y, z)), out, BLOCK=n)
    for a, b, c, got in zip(x, y, z, out.numpy(), strict=True):
        exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
        error = abs(Fraction(float(got)) - exact)
        for toward in (np.float32(np.inf), np.float32(-np.inf)):
            other = Fraction(float(np.nextafter(got, toward)))
            assert error <= abs(other - exact), (a, b, c)
    twice = (x.astype(np.float64) * y + z).astype(np.float32)
    assert (out.numpy() != twice).sum() >= 3, "the inputs do not tell one rounding from two"


def test_tf32_has_ten_bits_and_rounds_ties_away() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(7)).numpy()
    got = to_tf32(x)
    assert (got.view(np.uint32) & 0x1FFF == 0).all()
    assert (np.abs(got - x) <= 2.0**-11 * np.abs(x)).all()
    one = np.array([1 + 2.0**-11, -1 - 2.0**-11, 1 + 2.0**-12, np.inf, np.nan], np.float32)
    want = np.array([1 + 2.0**-10, -1 - 2.0**-10, 1, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(to_tf32(one), want)


@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan, 0.0, -0.0, 1e38])
def test_fma_of_special_values(special: float) -> None:
    x = np.array([special, 1.0, special, 2.0], np.float32)
    y = np.array([1.0, special, special, 3.0], np.float32)
    z = np.array([1.0, 1.0, -special, special], np.float32)
    with np.errstate(all="ignore"):
        wide = (x.astype(np.float64) * y + z).astype(np.float32)
        np.testing.assert_array_equal(fma(x, y, z), wide)


def test_rounding_helpers_keep_shapes() -> None:
    for shape in [(), (1,), (2, 3)]:
        x = np.full(shape, 1.5, np.float32)
        assert f32_to_bf16(x).shape == shape and bf16_to_f32(f32_to_bf16(x)).shape == shape
        assert fma(x, x, x).shape == shape and (fma(x, x, x) == 3.75).all()


@triton.jit
def _masked_sum(x, out, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out, tl.sum(tl.load(x + i, mask=i < n), 0))
    tl.store(out + 1, tl.sum(tl.load(x + i, mask=i < n, other=0.0), 0))
    tl.store(out + 2, tl.load(x, mask=n > 100, other=0.0))


def test_a_lane_masked_off_without_other_is_undefined() -> None:
    """Triton leaves its value open, so a sum over it must not look right by luck."""
    out = torch.empty(3)
    interpret(_masked_sum)[(1,)](torch.ones(5), out, 5, BLOCK=8)
    assert out[0].isnan() and out[1] == 5 and out[2] == 0


# ---- arguments


@triton.jit
def _arguments(out, eps, flag, n, nothing, pair, SCALE: tl.constexpr = 2.0):
    if nothing is None:
        tl.store(out, eps.to(tl.float32) * SCALE)
    if flag:
        tl.store(out + 1, n + 0.0)
    tl.store(out + 2, tl.load(pair[0]) + pair[1])


def test_arguments_arrive_as_on_a_gpu() -> None:
    out = torch.zeros(3)
    interpret(_arguments)[(1,)](out, 1e-8, True, 7, None, (torch.tensor([4.0]), 0.5), num_warps=8)
    assert torch.equal(out, torch.tensor([2e-8, 7.0, 4.5]))


@triton.jit
def _fill(out, n, BLOCK: tl.constexpr, VALUE: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, VALUE, mask=i < n)


_tuned = triton.autotune([triton.Config({"BLOCK": 8}), triton.Config({"BLOCK": 16})], key=["n"])(
    triton.heuristics({"VALUE": lambda args: args["n"] * 2})(_fill)
)


def test_autotune_takes_the_first_configuration_and_heuristics_apply() -> None:
    out = torch.zeros(20)
    interpret(_tuned)[lambda meta: (triton.cdiv(meta["n"], meta["BLOCK"]),)](out, 20)
    assert (out == 40).all()
    assert compile_for(_tuned, out, 20).registers > 0


@pytest.mark.parametrize(
    ("grid", "args", "options", "error", "match"),
    [
        ((1,), (), {}, TypeError, "_fill.*missing a required argument: 'out'"),
        ((1,), (None, 4), {"BLOCK": 4, "VALUE": 1, "SPEED": 3}, TypeError, "SPEED"),
        ((1, 1, 1, 1), (None, 4), {"BLOCK": 4, "VALUE": 1}, ValueError, "grid"),
        ("4", (None, 4), {"BLOCK": 4, "VALUE": 1}, TypeError, "^grid: expected .*, got '4'$"),
        ((2.5,), (None, 4), {"BLOCK": 4, "VALUE": 1}, TypeError, r"got \(2.5,\)$"),
        (None, (None, 4), {"BLOCK": 4, "VALUE": 1}, TypeError, "one to three integers.*got None"),
        ((1, 70000), (None, 4), {"BLOCK": 4, "VALUE": 1}, ValueError, "at most 65535"),
    ],
)
def test_a_launch_that_does_not_fit(
    grid: Any, args: tuple, options: dict, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        interpret(_fill)[grid](*args, **options)


def test_only_kernels_and_cpu_tensors() -> None:
    with pytest.raises(TypeError, match="expected a @triton"):
        interpret(len)
    with pytest.raises(TypeError, match=r"out: interpret\(\) takes CPU tensors, got one on meta"):
        interpret(_fill)[(1,)](torch.empty(4, device="meta"), 4, BLOCK=4, VALUE=1)
    assert repr(interpret(_fill)) == "interpret(_fill)"


# ---- the language around a kernel

GAIN = tl.constexpr(3.0)
PLAIN = 3.0


@triton.jit
def _twice(x):
    return x + x, x


@triton.jit
def _language_tour(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    double, _ = _twice(a)
    tl.store(out + i, double * GAIN)
    tl.store(out + N + i, tl.softmax(a))
    tl.store(out + 2 * N + i, tl.sort(a))
    tl.store(out + 3 * N + i, tl.cumsum(a, 0))
    acc = tl.zeros([N], tl.float32)
    for step in tl.static_range(3):
        acc += step
    count = 0
    while count < 4:
        count += 1
    tl.store(out + 4 * N + i, acc + count)
    tl.store(out + 5 * N + i, a.to(tl.float32).max(axis=0) + tl.cdiv(N, 5))


def test_helpers_standard_library_and_control_flow() -> None:
    x = torch.randn(16, generator=torch.Generator().manual_seed(6))
    out = torch.empty(6, 16)
    interpret(_language_tour)[(1,)](x, out, N=16)
    expected = [6 * x, x.softmax(0), x.sort().values, x.cumsum(0), torch.full((16,), 7.0)]
    expected.append(torch.full((16,), float(x.max()) + 4))
    torch.testing.assert_close(out, torch.stack(expected), rtol=1e-6, atol=1e-6)


@triton.jit
def _descriptor(desc, out, M: tl.constexpr, N: tl.constexpr):
    block = desc.load([8, 16])
    i = tl.arange(0, M)
    j = tl.arange(0, N)
    tl.store(out + i[:, None] * N + j[None, :], block)


def test_tensor_descriptors() -> None:
    x = torch.arange(12 * 32, dtype=torch.float32).reshape(12, 32)
    out = torch.empty(8, 16)
    interpret(_descriptor)[(1,)](TensorDescriptor.from_tensor(x, [8, 16]), out, M=8, N=16)
    assert torch.equal(out[:4], x[8:, 16:]) and (out[4:] == 0).all()


@triton.jit
def _reads_plain(out):
    tl.store(out, PLAIN)


@triton.jit
def _reads_numpy(out):
    tl.store(out, np.pi)


@triton.jit
def _branches_on_a_block(x, N: tl.constexpr):
    i = tl.arange(0, N)
    if i < 3:
        tl.store(x + i, 0.0)


@triton.jit
def _lies(x):
    tl.store(tl.multiple_of(x + 1, 16), 0.0)


def test_what_a_compiler_would_refuse_is_refused() -> None:
    x = torch.zeros(4)
    with pytest.raises(NameError, match=r"reads PLAIN.*PLAIN = tl.constexpr"):
        interpret(_reads_plain)[(1,)](x)
    with pytest.raises(TypeError, match="no single truth value") as caught:
        interpret(_branches_on_a_block)[(1,)](x, N=4)
    assert (
        "program (0, 0, 0) of interpreted kernel _branches_on_a_block" in caught.value.__notes__[0]
    )
    with pytest.raises(ValueError, match="not a multiple of 16"):
        interpret(_lies)[(1,)](x)


def test_no_names_leak_into_the_kernels_module() -> None:
    """Triton's interpreter writes np, ast, math, ... into it, where they hide a missing import."""
    namespace = {"triton": triton, "tl": tl, "__name__": "cell"}
    kernel = define("leaky", "    tl.store(out, np.pi)\n", namespace)
    before = set(namespace)
    with pytest.raises(NameError, match="np"):
        interpret(kernel)[(1,)](torch.zeros(1))
    assert set(namespace) == before


def define(name: str, body: str, namespace: dict) -> object:
    """A kernel from a string, entered in linecache as a notebook enters its cells."""
    source = f"@triton.jit\ndef {name}(out):\n{body}"
    file = f"<cell {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), namespace)
    return namespace[name]


def test_a_kernel_from_a_cell_and_a_helper_redefined_in_a_later_cell() -> None:
    namespace = {"triton": triton, "tl": tl, "__name__": "cell"}
    define("helper", "    return out + 1.0\n", namespace)
    kernel = define("cell_kernel", "    tl.store(out, helper(tl.load(out)))\n", namespace)
    out = torch.zeros(1)
    interpret(kernel)[(1,)](out)
    assert out.item() == 1
    define("helper", "    return out + 10.0\n", namespace)
    interpret(kernel)[(1,)](out)
    assert out.item() == 11
    assert "add.f32" in compile_for(kernel, out, num_warps=1).ptx


def test_an_error_points_at_the_line_of_the_kernel() -> None:
    with pytest.raises(TypeError) as caught:
        interpret(_branches_on_a_block)[(1,)](torch.zeros(4), N=4)
    frames = [e for e in caught.traceback if e.name == "_branches_on_a_block"]
    source = linecache.getline(str(frames[0].path), frames[0].lineno + 1)
    assert source.strip() == "if i < 3:"


def test_a_kernel_in_a_closure() -> None:
    gain = tl.constexpr(4.0)

    @triton.jit
    def scale(out):
        tl.store(out, tl.load(out) * gain)

    out = torch.ones(1)
    interpret(scale)[(1,)](out)
    assert out.item() == 4


UNCHANGED = """
import sys
sys.path.insert(0, {folder!r})
import torch, triton.language as tl
import test_lab_interpreter as cases  # defines the kernels and launches nothing
from triton.runtime import interpreter as stock
from triton.runtime.jit import JITFunction

owners = (tl, tl.core, tl.math, tl.tensor, tl.dtype, JITFunction, stock)
before = [dict(vars(owner)) for owner in owners]
cases.interpret(cases._language_tour)[(1,)](torch.zeros(16), torch.empty(6, 16), N=16)
try:
    cases.interpret(cases._branches_on_a_block)[(1,)](torch.zeros(4), N=4)
except TypeError:
    print("raised")
for owner, old in zip(owners, before, strict=True):
    new = dict(vars(owner))
    changed = {{k for k in new.keys() | old.keys() if new.get(k) is not old.get(k)}}
    if changed - {{"__annotations__"}}:
        print(owner, changed)
"""


def test_triton_is_as_it_was_afterwards() -> None:
    """In a fresh Python, because an earlier test may have changed what is compared with."""
    code = UNCHANGED.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "raised\n", done.stdout + done.stderr
    assert "TRITON_INTERPRET" not in os.environ


def test_threads_take_turns() -> None:
    outs = [torch.zeros(64) for _ in range(4)]

    def work(value: int) -> None:
        for _ in range(3):
            interpret(_fill)[(8,)](outs[value], 64, BLOCK=8, VALUE=value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [out.unique().tolist() for out in outs] == [[0], [1], [2], [3]]


@triton.jit
def _squares(out, n, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    i = n + tl.arange(0, BLOCK)
    if WIDE:
        i = i.to(tl.int64)
    tl.store(out + tl.arange(0, BLOCK), i * i)


def test_integers_that_overflow_are_found() -> None:
    out = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(OverflowError, match="int32 overflows in mul: a GPU would wrap around"):
        interpret(_squares)[(1,)](out, 46338, BLOCK=4, WIDE=False)  # 46341² is over 2³¹
    interpret(_squares)[(1,)](out, 46337, BLOCK=4, WIDE=False)
    interpret(_squares)[(1,)](out, 46338, BLOCK=4, WIDE=True)
    assert out.tolist() == [i * i for i in range(46338, 46342)]

"""How kernels get arguments, branch, loop and use descriptors, interpreted and compiled."""

from typing import NamedTuple

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.lab import OutOfBoundsError, RaceError, check, compile_for, interpret
from kernels.lab.compiler import example


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- tuples and NamedTuples as arguments


class Matrix(NamedTuple):
    """A matrix as one argument."""

    ptr: torch.Tensor
    strides: tuple[int, int]
    scale: float


@triton.jit
def _address(m, i, j):
    return m.ptr + i[:, None] * m.strides[0] + j[None, :] * m.strides[1]


@triton.jit
def _scaled_copy(a, out, sizes, M: tl.constexpr, N: tl.constexpr):
    rows, columns = sizes
    i = tl.arange(0, M)
    j = tl.arange(0, N)
    inside = (i < rows)[:, None] & (j < columns)[None, :]
    x = tl.load(_address(a, i, j), mask=inside)
    o_ptr, o_strides, gain = out
    where = o_ptr + i[:, None] * o_strides[0] + j[None, :] * o_strides[1]
    tl.store(where, x * a.scale + gain, mask=inside)


_unspecialised = triton.jit(do_not_specialize=["sizes"])(_scaled_copy.fn)


@pytest.mark.parametrize("kernel", [_scaled_copy, _unspecialised], ids=["plain", "unspecialised"])
def test_tuples_and_named_tuples_nested(kernel: object) -> None:
    """Strides as a tuple, inside a NamedTuple and inside a plain tuple; transposed and not."""
    x, out = normal(7, 13).T, torch.zeros(13, 8)[:, :7]
    with check() as report:
        interpret(kernel)[(1,)](
            Matrix(x, x.stride(), 2.0), (out, out.stride(), 0.5), tuple(x.shape), M=16, N=8
        )
    assert torch.equal(out, x * 2.0 + 0.5)
    assert {k: (t.loaded, t.stored) for k, t in report.traffic.items()} == {
        "a.ptr": (4 * 91, 0),
        "out[0]": (0, 4 * 91),
    }


@pytest.mark.parametrize("kernel", [_scaled_copy, _unspecialised], ids=["plain", "unspecialised"])
def test_tuples_compile(kernel: object) -> None:
    x = example((16, 64))
    compiled = compile_for(
        kernel, Matrix(x, (64, 1), 2.0), (x, (64, 1), 0.5), (16, 64), M=16, N=64, arch="sm_90"
    )
    assert compiled.registers > 0 and compiled.opcodes("global")["LDG.E.128"] > 0


def test_an_argument_in_a_named_tuple_is_named_by_its_field() -> None:
    x = normal(4, 4)
    with pytest.raises(OutOfBoundsError, match=r"argument 'a\.ptr' \(16 elements\)"):
        interpret(_scaled_copy)[(1,)](
            Matrix(x, (4, 1), 1.0), (x.clone(), (4, 1), 0.0), (5, 4), M=8, N=4
        )


@triton.jit
def _optional(x, extra, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    if extra.bias is not None:
        a += tl.load(extra.bias + i)
    if extra.sizes is None:
        a *= 2.0
    tl.store(out + i, a)


class Extra(NamedTuple):
    bias: torch.Tensor | None
    sizes: tuple[int, ...] | None


@pytest.mark.parametrize("given", [False, True])
def test_none_inside_a_named_tuple(given: bool) -> None:
    x, out = normal(8), torch.empty(8)
    extra = Extra(normal(8, seed=1) if given else None, (3,) if given else None)
    interpret(_optional)[(1,)](x, extra, out, N=8)
    assert torch.equal(out, x + extra.bias if given else x * 2)
    assert compile_for(_optional, x, extra, out, N=8).registers > 0


# ---- leaving early, while, helpers that return tuples


@triton.jit
def _leave_early(x, out, n, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    if start >= n:
        return
    i = start + tl.arange(0, BLOCK)
    low, high = _bounds(tl.load(x + i, mask=i < n, other=0.0))
    if low == high:
        tl.store(out + tl.program_id(0), -1.0)
        return
    tl.store(out + tl.program_id(0), high - low)


@triton.jit
def _bounds(a):
    return tl.min(a, 0), tl.max(a, 0)


def test_a_kernel_may_return_early() -> None:
    x, out = normal(16), torch.full((4,), 9.0)
    x[8:] = 3.0
    with check() as report:
        interpret(_leave_early)[(4,)](x, out, 16, BLOCK=8)
    assert out.tolist() == [float(x[:8].max() - x[:8].min()), -1.0, 9.0, 9.0]
    assert report.loaded == 64 and report.stored == 8
    assert compile_for(_leave_early, x, out, 16, BLOCK=8).registers > 0


@triton.jit
def _collatz(x, out):
    n = tl.load(x + tl.program_id(0))
    steps = 0
    while n != 1 and steps < 200:
        n = tl.where(n % 2 == 0, n // 2, 3 * n + 1)
        steps += 1
    tl.store(out + tl.program_id(0), steps)


def test_while_runs_on_values_from_memory() -> None:
    x, out = torch.tensor([1, 6, 27], dtype=torch.int32), torch.zeros(3, dtype=torch.int32)
    interpret(_collatz)[(3,)](x, out)
    assert out.tolist() == [0, 8, 111]


@triton.jit
def _ranges(x, out, n, N: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, n, BLOCK, num_stages=3, flatten=True):
        total += tl.load(x + start + i)
    for start in tl.range(n - BLOCK, -1, -BLOCK, warp_specialize=False, loop_unroll_factor=2):
        total += 10.0 * tl.load(x + start + i)
    for step in tl.static_range(0, N, BLOCK):
        total += step
    tl.debug_barrier()
    tl.store(out + i, total)


def test_ranges_of_every_kind() -> None:
    x, out = normal(64), torch.empty(16)
    interpret(_ranges)[(1,)](x, out, 64, N=64, BLOCK=16)
    torch.testing.assert_close(out, 11 * x.view(4, 16).sum(0) + 96, rtol=1e-5, atol=1e-5)


# ---- tensor descriptors


@triton.jit
def _shift_tiles(x, out, M, N, BLOCK: tl.constexpr):
    source = tl.make_tensor_descriptor(x, [M, N], [N, 1], [BLOCK, BLOCK])
    target = tl.make_tensor_descriptor(out, [M, N], [N, 1], [BLOCK, BLOCK])
    row = tl.program_id(0) * BLOCK
    column = tl.program_id(1) * BLOCK
    target.store([row, column], source.load([row, column]) * 2.0)


def test_descriptors_made_in_the_kernel() -> None:
    """Ragged on both sides: what sticks out reads as zero, is not written and not counted."""
    x, out = normal(21, 36), torch.zeros(21, 36)
    with check() as report:
        interpret(_shift_tiles)[(2, 3)](x, out, 21, 36, BLOCK=16)
    assert torch.equal(out, 2 * x)
    assert report.ok and (report.loaded, report.stored) == (4 * 21 * 36, 4 * 21 * 36)


def test_a_descriptor_that_claims_too_much_is_out_of_bounds() -> None:
    x, out = normal(20, 16), torch.zeros(32, 16)
    with pytest.raises(OutOfBoundsError, match=r"load.*argument 'x' \(320 elements\)"):
        interpret(_shift_tiles)[(2, 1)](x, out, 32, 16, BLOCK=16)


@triton.jit
def _through_descriptors(source, target, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK
    target.store([row, 0], source.load([row, 0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_host_descriptors_are_counted_and_raced(dtype: torch.dtype) -> None:
    x, out = normal(40, 32).to(dtype), torch.zeros(40, 32, dtype=dtype)
    tiles = [TensorDescriptor.from_tensor(t, [16, 32]) for t in (x, out)]
    with check() as report:
        interpret(_through_descriptors)[(3,)](*tiles, BLOCK=16)
    size = 40 * 32 * dtype.itemsize
    assert torch.equal(out, x)
    assert {k: (t.loaded, t.stored) for k, t in report.traffic.items()} == {
        "source": (size, 0),
        "target": (0, size),
    }
    with check(), pytest.raises(RaceError, match="target"):
        interpret(_through_descriptors)[(3,)](*tiles, BLOCK=8)


class Tiles(NamedTuple):
    x: TensorDescriptor
    y: TensorDescriptor


@triton.jit
def _add_tiles(tiles, out, BLOCK: tl.constexpr):
    row = tl.program_id(0) * BLOCK
    out.store([row, 0], tiles.x.load([row, 0]) + tiles.y.load([row, 0]))


def test_descriptors_in_a_named_tuple() -> None:
    x, y, out = normal(20, 16), normal(20, 16, seed=1), torch.zeros(20, 16)
    d = [TensorDescriptor.from_tensor(t, [16, 16]) for t in (x, y, out)]
    with check() as report:
        interpret(_add_tiles)[(2,)](Tiles(d[0], d[1]), d[2], BLOCK=16)
    assert torch.equal(out, x + y) and set(report.traffic) == {"tiles.x", "tiles.y", "out"}
    lying = TensorDescriptor(x, [32, 16], [16, 1], [16, 16])
    with pytest.raises(OutOfBoundsError, match=r"192 of 256 lanes.*'tiles\.x' \(320 elements\)"):
        interpret(_add_tiles)[(2,)](Tiles(lying, d[1]), d[2], BLOCK=16)


@pytest.mark.parametrize("kernel", [_through_descriptors, _shift_tiles], ids=["host", "device"])
def test_a_descriptor_stays_in_its_own_tensor(kernel: object) -> None:
    """Behind x lies y, which the launch may touch as well, but not through x."""
    both = normal(32, 16)
    x, y = both[:16], both[16:]
    args = (x, y, 32, 16)
    if kernel is _through_descriptors:
        args = tuple(TensorDescriptor(t, [32, 16], [16, 1], [16, 16]) for t in (x, y))
    with pytest.raises(OutOfBoundsError, match=r"load by program \(1, 0, 0\).*(x|source)'"):
        interpret(kernel)[(2,)](*args, BLOCK=16)

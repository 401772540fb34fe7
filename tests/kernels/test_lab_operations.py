"""Operations on blocks, interpreted: random numbers, shapes, scans, sorting, atomics."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from kernels.lab import check, interpret


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ---- random numbers


@triton.jit
def _random(out, words, seed, offset, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.rand(seed, offset + i))
    tl.store(out + N + i, tl.randn(seed, offset + i))
    a, b, c, d = tl.randint4x(seed, offset + i)
    tl.store(words + i, a)
    tl.store(words + N + i, b)
    tl.store(words + 2 * N + i, c)
    tl.store(words + 3 * N + i, d)
    zero = i * 0
    p, _, _, _ = tl.philox(seed, offset + i, zero, zero, zero)
    tl.store(words + 4 * N + i, p)


def philox(seed: int, counter: np.ndarray) -> np.ndarray:
    """Philox 4x32 in 10 rounds (Salmon et al., "Parallel random numbers", SC 2011)."""
    c = [counter.astype(np.uint64), *(np.zeros(counter.shape, np.uint64) for _ in range(3))]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        low = np.uint64(0xFFFFFFFF)
        c = [
            (p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            p1 & low,
            (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            p0 & low,
        ]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c).astype(np.uint32)


@pytest.mark.parametrize("seed", [0, 7, 2**31 - 1, 2**40 + 3])
@pytest.mark.filterwarnings("error")
def test_philox_is_the_published_generator(seed: int) -> None:
    out, words = torch.empty(2, 256), torch.empty(5, 256, dtype=torch.int32)
    interpret(_random)[(1,)](out, words, seed, 1000, N=256)
    want = philox(seed, np.arange(1000, 1256))
    np.testing.assert_array_equal(words[:4].numpy().view(np.uint32), want)
    np.testing.assert_array_equal(words[4].numpy().view(np.uint32), want[0])
    signed = want[0].view(np.int32)
    uniform = np.where(signed < 0, -signed - 1, signed).astype(np.float32)
    np.testing.assert_array_equal(out[0].numpy(), uniform * np.float32(4.6566127342e-10))
    assert out[0].min() >= 0 and out[0].max() < 1 and abs(out[0].mean() - 0.5) < 0.06
    assert abs(out[1].mean()) < 0.25 and abs(out[1].std() - 1) < 0.15


# ---- shapes


@triton.jit
def _shapes(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    pairs = tl.join(a, -a)  # (N, 2)
    tl.store(out + 2 * i[:, None] + tl.arange(0, 2)[None, :], pairs)
    first, second = tl.split(pairs)
    tl.store(out + 2 * N + i, first - second)
    cube = tl.permute(tl.reshape(a, (2, 4, N // 8)), (2, 0, 1))
    tl.store(out + 3 * N + i, tl.reshape(cube, (N,)))
    tl.store(
        out + 4 * N + 2 * i[:, None] + tl.arange(0, 2)[None, :], tl.interleave(a, -a).reshape(N, 2)
    )
    tl.store(out + 6 * N + i, tl.ravel(tl.trans(tl.reshape(a, (N // 4, 4)))))
    tl.store(out + 7 * N + i, tl.gather(a, (i * 5) % N, 0))
    tl.store(out + 8 * N + i, tl.flip(a, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_join_split_permute(dtype: torch.dtype) -> None:
    x = normal(32).to(dtype)
    out = torch.empty(9, 32, dtype=dtype)
    interpret(_shapes)[(1,)](x, out, N=32)
    pairs = torch.stack([x, -x], 1).flatten()
    want = [*pairs.view(2, 32), 2 * x, x.view(2, 4, 4).permute(2, 0, 1).flatten()]
    want += [*pairs.view(2, 32), x.view(8, 4).T.flatten(), x[torch.arange(32) * 5 % 32]]
    assert torch.equal(out, torch.stack([*want, x.flip(0)]))


# ---- scans, sorting, counting


@triton.jit
def _last_nonzero(a, b):
    return tl.where(b == 0, a, b)


@triton.jit
def _linear(a_gain, a_value, b_gain, b_value):
    return a_gain * b_gain, a_value * b_gain + b_value


@triton.jit
def _scans(x, keys, out, M: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    a = tl.load(x + i)
    tl.store(out + i, tl.cumsum(a, 1))
    tl.store(out + M * N + i, tl.cumsum(a, 0, reverse=True))
    tl.store(out + 2 * M * N + i, tl.associative_scan(tl.load(keys + i), 1, _last_nonzero))
    _, state = tl.associative_scan((a * 0 + 0.5, a), 1, _linear)
    tl.store(out + 3 * M * N + i, state)
    tl.store(out + 4 * M * N + i, tl.sort(a, 1))
    tl.store(out + 5 * M * N + i, tl.sort(a, 1, descending=True))
    tl.store(out + 6 * M * N + i, tl.cumprod(a, 1))


def test_scans_and_sorting() -> None:
    x, keys = normal(4, 16), normal(4, 16, seed=1).clamp_min(0)
    out = torch.empty(7, 4, 16)
    interpret(_scans)[(1,)](x, keys, out, M=4, N=16)
    last, state, value, seen = torch.empty(4, 16), torch.empty(4, 16), x[:, 0] * 0, x[:, 0] * 0
    for j in range(16):
        seen = torch.where(keys[:, j] == 0, seen, keys[:, j])
        value = 0.5 * value + x[:, j]
        last[:, j], state[:, j] = seen, value
    want = [x.cumsum(1), x.flip(0).cumsum(0).flip(0), last, state, x.sort(1).values]
    want += [x.sort(1, descending=True).values, x.cumprod(1)]
    torch.testing.assert_close(out, torch.stack(want), rtol=1e-5, atol=1e-5)


@triton.jit
def _scan_16(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    tl.store(out + i, tl.sort(a))
    tl.store(out + N + i, tl.cumsum(a, 0))
    tl.store(out + 2 * N + i, tl.associative_scan(a, 0, _larger))
    tl.store(out + 3 * N, tl.reduce(a, 0, _larger))
    tl.store(out + 4 * N + i, tl.associative_scan(a, 0, tl.standard._sum_combine))
    few = tl.reshape(a, (N // 4, 4))
    place = tl.arange(0, N // 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    tl.store(out + 5 * N + place, tl.associative_scan(few, 1, tl.standard._prod_combine))


@triton.jit
def _larger(a, b):
    return tl.where(a < b, b, a)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scans_of_16_bit_numbers(dtype: torch.dtype) -> None:
    x = normal(64).to(dtype)
    out = torch.empty(6, 64, dtype=dtype)
    interpret(_scan_16)[(1,)](x, out, N=64)
    assert torch.equal(out[0], x.sort().values) and torch.equal(out[2], x.cummax(0).values)
    assert out[3, 0] == x.max()
    size = x.double().abs().cumsum(0)
    # each of at most 63 additions rounds by half an eps of a partial sum of at most sum|x|
    for total in (out[1], out[4]):  # tl.cumsum may add in fp32, the bare scan may not
        error = (total.double() - x.double().cumsum(0)).abs()
        assert (error <= 63 * torch.finfo(dtype).eps / 2 * size).all()
    product = x.double().view(16, 4).cumprod(1)
    error = (out[5].double().view(16, 4) - product).abs()
    # Three roundings; or half a step of fp16's smallest numbers, grown by at most two factors.
    assert (error <= 2 * torch.finfo(dtype).eps * product.abs() + 2e-6).all()


@triton.jit
def _count(x, out, N: tl.constexpr, BINS: tl.constexpr):
    a = tl.load(x + tl.arange(0, N))
    tl.store(out + tl.arange(0, BINS), tl.histogram(a, BINS))
    tl.store(out + BINS + tl.arange(0, BINS), tl.histogram(a, BINS, mask=a > 3))


def test_histogram() -> None:
    x = torch.randint(0, 8, (64,), generator=torch.Generator().manual_seed(2), dtype=torch.int32)
    out = torch.empty(2, 8, dtype=torch.int32)
    interpret(_count)[(1,)](x, out, N=64, BINS=8)
    counts = torch.bincount(x, minlength=8).int()
    assert torch.equal(out, torch.stack([counts, counts * (torch.arange(8) > 3)]))


# ---- atomics


@triton.jit
def _atomics(x, total, low, high, lock, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a = tl.load(x + tl.program_id(0) * BLOCK + i)
    tl.atomic_add(total + i % 4, a)
    tl.atomic_min(low, tl.min(a, 0))
    tl.atomic_max(high + i * 0, a)
    before = tl.atomic_cas(lock, tl.program_id(0), tl.program_id(0) + 1)
    tl.atomic_xchg(lock + 1, before)
    tl.atomic_or(lock + 2, 1 << tl.program_id(0))


def test_atomics() -> None:
    x, total = normal(4, 16), torch.zeros(4)
    low, high = torch.full((1,), torch.inf), torch.full((1,), -torch.inf)
    lock = torch.zeros(3, dtype=torch.int32)
    with check() as report:
        interpret(_atomics)[(4,)](x, total, low, high, lock, BLOCK=16)
    torch.testing.assert_close(total, x.reshape(-1, 4).sum(0))
    assert low.item() == x.min() and high.item() == x.max() and lock.tolist() == [4, 3, 15]
    assert report.ok and report.traffic["total"].stored == 4 * 64


@triton.jit
def _add_16(x, total, before, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    old = tl.atomic_add(total + i // 2, tl.load(x + i), mask=i != 3)
    tl.store(before + i, old, mask=i != 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_atomic_addition_of_16_bit_numbers(dtype: torch.dtype) -> None:
    """Two lanes an address, each addition rounded; lane 3 is masked off."""
    x, total = normal(8).to(dtype), torch.full((4,), 300.0, dtype=dtype)
    before = torch.full((8,), 300.0, dtype=dtype)
    with check() as report:
        interpret(_add_16)[(1,)](x, total, before, BLOCK=8)
    want = (300 + x[::2]) + torch.where(torch.arange(4) == 1, 0, x[1::2])
    assert torch.equal(total, want) and report.traffic["total"].stored == 7 * 2
    assert (before[::2] == 300).all() and torch.equal(before[5::2], 300 + x[4::2])


@triton.jit
def _exchange_16(x, out):
    tl.atomic_xchg(out, tl.load(x))


def test_what_is_not_modelled_is_refused_in_one_line() -> None:
    x = torch.ones(1, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="atomic_xchg does not support bf16"):
        interpret(_exchange_16)[(1,)](x, x.clone())
    with pytest.raises(TypeError, match=r"_wider: was given bf16 and returned fp32; it has to"):
        interpret(_scan_wider)[(1,)](x, x.clone())


@triton.jit
def _wider(a, b):
    return a.to(tl.float32) + b


@triton.jit
def _scan_wider(x, out):
    i = tl.arange(0, 2) * 0
    tl.store(out, tl.sum(tl.associative_scan(tl.load(x + i), 0, _wider), 0))


@triton.jit
def _reduce_pairs(x, out, M: tl.constexpr, N: tl.constexpr, AXIS: tl.constexpr):
    i = tl.arange(0, M)[:, None] * N + tl.arange(0, N)[None, :]
    a = tl.load(x + i)
    gain, value = tl.reduce((a, 2.0 * a), AXIS, _both)
    tl.store(out + tl.arange(0, gain.shape[0]), gain + value)


@triton.jit
def _both(a, b, c, d):
    return a + c, tl.maximum(b, d)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(4, 8), (8, 1)], ids=str)
def test_a_reduction_of_pairs(axis: int, shape: tuple[int, int]) -> None:
    x, out = normal(*shape), torch.empty(shape[1] if axis == 0 else shape[0])
    interpret(_reduce_pairs)[(1,)](x, out, M=shape[0], N=shape[1], AXIS=axis)
    torch.testing.assert_close(out, x.sum(axis) + 2 * x.amax(axis))

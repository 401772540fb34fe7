"""Dropout's random numbers: Philox against its authors' vectors, and the weights that it drops."""

import pytest
import torch
from attention_helpers import assert_close, both, draw, normal

import kernels
import kernels.flash_attention
from kernels import reference
from kernels.flash_attention.call import Problem, backward, forward
from kernels.flash_attention.layouts import Layout

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

# Known answers of Random123 (kat_vectors): rounds, counter, key, result.
KNOWN = [
    (7, (0, 0, 0, 0), (0, 0), "5f6fb709 0d893f64 4f121f81 4f730a48"),
    (10, (0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (10, (ONES,) * 4, (ONES, ONES), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (10, PI, (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("rounds", "counter", "key", "expected"), KNOWN)
def test_known_answers(
    rounds: int, counter: tuple[int, ...], key: tuple[int, int], expected: str
) -> None:
    c0, c1, c2, c3 = (torch.tensor([c]) for c in counter)
    found = reference.philox((c0, c1, c2, c3), key[0] | key[1] << 32, rounds)
    assert " ".join(f"{int(word):08x}" for word in found) == expected


def kept_by_kernel(
    batch: int, heads: int, m: int, n: int, p: float, seed: int, blocks: tuple[int, int]
) -> torch.Tensor:
    """The mask itself: equal scores and the identity as values give 1 / (n (1 − p)) or 0."""
    q, k, _ = draw(m, n, n, heads=heads, batch=batch)
    v = torch.eye(n).expand(batch, heads, n, n)
    problem = Problem(scale=0.0, dropout_p=p, seed=torch.tensor([seed]))
    out, _ = forward(q, k, v, problem, {"forward": Layout(*blocks, 4, 1)})
    expected = torch.tensor(1 / (n * (1 - p)))
    torch.testing.assert_close(out[out != 0], expected.expand_as(out[out != 0]))
    return out != 0


@pytest.mark.parametrize("seed", [0, 7, -1, 2**40 + 3, -(2**63), 2**63 - 1])
def test_the_kernel_drops_what_the_reference_drops(seed: int) -> None:
    shape = torch.Size((2, 3, 20, 40))
    kept = kept_by_kernel(*shape, 0.3, seed, (16, 32))
    assert torch.equal(kept, reference.dropout_keep(seed, shape, 0.3))


def test_the_same_weights_whatever_the_layout() -> None:
    """Tile sizes change with the machine; what a seed drops does not, forward and backward."""
    first, *others = [(16, 16), (32, 16), (16, 64)]
    kept = kept_by_kernel(1, 2, 40, 48, 0.5, 3, first)
    problem = Problem(scale=0.3, dropout_p=0.5, seed=torch.tensor([3]))
    q, k, v = draw(40, 48)
    dout = normal(1, 2, 40, 16)
    gradients = []
    for blocks in (first, *others):
        assert torch.equal(kept_by_kernel(1, 2, 40, 48, 0.5, 3, blocks), kept)
        layouts = dict.fromkeys(("forward", "dq", "dkv"), Layout(*blocks, 4, 1))
        out, lse = forward(q, k, v, problem, layouts)
        gradients.append(backward(dout, None, q, k, v, out, lse, problem, layouts)[:3])
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=0, atol=1e-5)


def test_rate_and_independence() -> None:
    """The share that is kept, and that rows, keys, heads, sequences and seeds agree by chance
    alone. The bounds are five standard deviations."""
    shape, p = (2, 4, 64, 64), 0.3
    kept = reference.dropout_keep(11, torch.Size(shape), p)
    another = reference.dropout_keep(12, torch.Size(shape), p)
    count = kept.numel()
    deviation = 5 * (p * (1 - p) / count) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < deviation
    agree = (1 - p) ** 2 + p**2  # of two independent draws
    pairs = {
        "rows": (kept[:, :, 1:], kept[:, :, :-1]),
        "keys": (kept[..., 1:], kept[..., :-1]),
        "keys of one call": (kept[..., 0::4], kept[..., 2::4]),
        "heads": (kept[:, 1:], kept[:, :-1]),
        "sequences": (kept[:1], kept[1:]),
        "transposed": (kept, kept.mT),
        "seeds": (kept, another),
    }
    for name, (a, b) in pairs.items():
        deviation = 5 * (agree * (1 - agree) / a.numel()) ** 0.5 * 2**0.5
        assert abs((a == b).double().mean() - agree) < deviation, name


def test_expectation() -> None:
    """Over many seeds the output is the one without dropout: 1 / (1 − p) makes up for the loss."""
    q, k, v = draw(4, 12, 8, heads=1)
    exact, _ = reference.attention(q.double(), k.double(), v.double())
    seeds = 400
    total = torch.zeros_like(exact)
    square = torch.zeros_like(exact)
    for seed in range(seeds):
        out, _ = reference.attention(
            q.double(), k.double(), v.double(), dropout_p=0.3, seed=seed
        )  # which test_the_kernel_drops_what_the_reference_drops ties to the kernels
        total, square = total + out, square + out**2
    mean = total / seeds
    deviation = ((square / seeds - mean**2) / seeds).sqrt()
    assert ((mean - exact).abs() < 5 * deviation).all()


def test_a_seed_is_a_number_or_a_tensor() -> None:
    q, k, v = draw()
    out = kernels.attention(q, k, v, dropout_p=0.5, seed=9)
    assert torch.equal(out, kernels.attention(q, k, v, dropout_p=0.5, seed=torch.tensor([9])))
    assert torch.equal(out, kernels.attention(q, k, v, dropout_p=0.5, seed=torch.tensor(9)))
    assert not torch.equal(out, kernels.attention(q, k, v, dropout_p=0.5, seed=10))


def test_no_seed_draws_from_pytorch() -> None:
    q, k, v = draw()
    torch.manual_seed(3)
    first, second = (kernels.attention(q, k, v, dropout_p=0.5) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(kernels.attention(q, k, v, dropout_p=0.5), first)
    state = torch.get_rng_state()
    kernels.attention(q, k, v)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("p", [1e-9, 0.999, 1 - 1e-9])
def test_hardly_and_nearly_everything_dropped(p: float) -> None:
    q, k, v = draw(9, 12, 8, grad=True)
    assert_close(both(q, k, v, dropout_p=p, seed=4, dout=normal(1, 2, 9, 8)))

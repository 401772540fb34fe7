"""bf16 and fp16 parameters: fp32 master weights, or stochastic rounding without them."""

import copy
from typing import Any

import pytest
import torch
from adamw_twins import assert_equal, parameters, set_gradients

import kernels
from kernels.adamw import Row, step_constants, update
from kernels.lab import check, interpret
from kernels.verification.adamw_bounds import ulp

HALF = [torch.bfloat16, torch.float16]
SHAPES = [(33,), (7, 5), (0,), (1030,)]


def master_twins(dtype: torch.dtype, **options: Any):
    """16-bit parameters under ours, and their fp32 values under PyTorch's AdamW."""
    mine = parameters(SHAPES, dtype=dtype)
    theirs = [torch.nn.Parameter(p.detach().float()) for p in mine]
    ours = kernels.AdamW(mine, lr=1e-3, **options)
    return mine, theirs, ours, torch.optim.AdamW(theirs, lr=1e-3, foreach=False, **options)


# ---- master weights


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_twenty_steps_are_those_of_fp32(dtype: torch.dtype) -> None:
    """The master weights and moments follow fp32 AdamW; the parameter is their rounded copy."""
    mine, theirs, ours, other = master_twins(dtype)
    for step in range(20):
        set_gradients(mine, theirs, step)
        ours.step()
        other.step()
        assert all(torch.equal(p, ours.state[p]["master"].to(dtype)) for p in mine)
    assert_equal(mine, theirs, ours, other, 20)


def test_small_updates_are_not_lost() -> None:
    """100 updates of 1e-4 of the weight: in bf16 alone, not one of them would arrive."""
    param = torch.nn.Parameter(torch.full((4,), 1.0, dtype=torch.bfloat16))
    ours = kernels.AdamW([param], lr=1e-4, weight_decay=0.0)
    for _ in range(100):
        param.grad = torch.ones_like(param)
        ours.step()
    assert torch.allclose(ours.state[param]["master"], torch.tensor(0.99), atol=2e-6)
    assert torch.equal(param, torch.full((4,), 0.99, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_state_saved_in_between_changes_nothing(dtype: torch.dtype) -> None:
    """Moments and master weights stay fp32: ``torch.optim`` would round them to 16 bits."""
    mine, theirs, ours, _ = master_twins(dtype)
    for step in range(10):
        set_gradients(mine, theirs, step)
        ours.step()
        if step == 5:  # into another optimiser over other tensors
            copies = [torch.nn.Parameter(p.detach().clone()) for p in mine]
            resumed = kernels.AdamW(copies, lr=1e-3)
            resumed.load_state_dict(copy.deepcopy(ours.state_dict()))
        if step > 5:
            for p, q in zip(mine, copies, strict=True):
                q.grad = p.grad.clone()
            resumed.step()
    for p, q in zip(mine, copies, strict=True):
        assert torch.equal(p, q)
        for name in ("step", "master", "exp_avg", "exp_avg_sq"):
            assert torch.equal(ours.state[p][name], resumed.state[q][name])
            assert ours.state[p][name].dtype == torch.float32


def test_from_pytorch_and_back() -> None:
    """PyTorch keeps 16-bit moments and no master: ours starts from those, and ends in them."""
    mine, theirs = (
        parameters(SHAPES, dtype=torch.bfloat16),
        parameters(SHAPES, dtype=torch.bfloat16),
    )
    other = torch.optim.AdamW(theirs, lr=1e-2)
    set_gradients(mine, theirs, 0)
    other.step()
    ours = kernels.AdamW(mine, lr=1e-2)
    for p, q in zip(mine, theirs, strict=True):
        p.data.copy_(q)
    ours.load_state_dict(other.state_dict())
    set_gradients(mine, theirs, 1)
    for p, q in zip(mine, theirs, strict=True):
        state = ours.state[p]
        assert torch.equal(state["master"], q.detach().float()) and state["step"] == 1
        assert torch.equal(state["exp_avg"], other.state[q]["exp_avg"].float())
        assert state["exp_avg"].dtype == torch.float32
    ours.step()
    other.load_state_dict(copy.deepcopy(ours.state_dict()))
    for p, q in zip(mine, theirs, strict=True):
        state = other.state[q]
        assert state["exp_avg"].dtype == torch.bfloat16 and state["step"] == 2
        assert torch.equal(state["exp_avg"], ours.state[p]["exp_avg"].bfloat16())
        q.data.copy_(p)
    other.step()
    # Back again, with the stale, rounded master that PyTorch carried along: the parameter counts.
    for p, q in zip(mine, theirs, strict=True):
        p.data.copy_(q)
    ours.load_state_dict(other.state_dict())
    for group in ours.param_groups:
        group["lr"] = group["weight_decay"] = 0.0
    ours.step()
    assert all(map(torch.equal, mine, theirs))


def test_a_parameter_that_somebody_changes() -> None:
    """Where it no longer is the rounded master, its new value counts; elsewhere the master."""
    param = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16))
    ours = kernels.AdamW([param], lr=1e-4, weight_decay=0.0)
    for _ in range(2):
        param.grad = torch.ones_like(param)
        ours.step()
    kept = ours.state[param]["master"].clone()
    with torch.no_grad():
        param[1] = 5.0
    ours.param_groups[0]["lr"] = 0.0
    ours.step()
    assert ours.state[param]["master"].tolist() == [kept[0].item(), 5.0, kept[2].item()]
    assert kept[0] != param[0].float(), "the case has a master that is not its parameter"


def test_a_write_through_data_is_undone() -> None:
    """The exception that the docstring names: nothing tells the optimiser of such a write."""
    param = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    ours = kernels.AdamW([param], lr=1e-4, weight_decay=0.0)
    for value in (1.0, 5.0):
        param.data[1] = value
        param.grad = torch.ones_like(param)
        ours.step()
    assert param.tolist() == [1.0, 1.0]


def test_fp16_overflows_as_fp16_does() -> None:
    param = torch.nn.Parameter(torch.tensor([65504.0, 1.0], dtype=torch.float16))
    param.grad = -torch.ones_like(param)
    kernels.AdamW([param], lr=100.0, weight_decay=0.0).step()
    assert param.tolist() == [torch.inf, 101.0]


# ---- stochastic rounding


def rounded(x: torch.Tensor, *, seed: int = 0, step: int = 1, number: int = 0) -> torch.Tensor:
    """fp32 values through the kernel's rounding: a decay and an update of nothing."""
    import triton
    import triton.language as tl

    from kernels.adamw.rounding import _stochastic_bf16

    @triton.jit
    def kernel(x, out, seed, number, step, BLOCK: tl.constexpr):
        start = tl.program_id(0).to(tl.int64) * BLOCK
        i = start + tl.arange(0, BLOCK)
        y = _stochastic_bf16(
            tl.load(x + i), start, tl.load(seed), tl.load(number), tl.load(step), BLOCK
        )
        tl.store(out + i, y)

    out = torch.empty(x.shape, dtype=torch.bfloat16)
    numbers = (torch.tensor([n]) for n in (seed, number, step))
    block = min(x.numel() & -x.numel(), 2**16)  # the largest power of two in it
    interpret(kernel)[(x.numel() // block,)](x, out, *numbers, BLOCK=block)
    return out


def test_what_bf16_has_is_never_changed() -> None:
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    out = rounded(every.float().contiguous())
    same = every.view(torch.int16) == out.view(torch.int16)
    assert bool((same | (every.isnan() & out.isnan())).all())


def test_special_values() -> None:
    bits = torch.tensor([0x7F800001, 0x7FFFFFFF, -1, 0x7F800000, -0x800000] * 64, dtype=torch.int32)
    x = bits.view(torch.float32)
    out = rounded(x).view(64, 5)
    assert out[:, :3].isnan().all()
    assert (out[:, 3] == torch.inf).all() and (out[:, 4] == -torch.inf).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_is_the_value(seed: int) -> None:
    """2¹⁵ draws of each of four values: the mean within 4 standard errors, none off by a step."""
    values = torch.tensor([1.0 + 1 / 1024, -3.14159, 1e-20, 65535.5])
    draws = 2**14
    x = values.repeat(draws)
    offsets = torch.cat(
        [((rounded(x, seed=seed, step=s).double() - x) / ulp(x.bfloat16().float(), bits=16))
         .view(draws, 4) for s in (1, 2)]
    )  # fmt: skip
    assert (offsets.abs() < 1).all()
    low = x[:4].abs().view(torch.int32) & 0xFFFF
    up = low.double() / 2**16
    error = (up * (1 - up) / len(offsets)).sqrt()
    assert (offsets.mean(0).abs() < 4 * error).all()


def test_every_number_has_its_own_bits() -> None:
    """Other seeds, steps, parameters and elements: independent; the same: the same bits."""
    x = torch.full((4096,), 1.0 + 1 / 256)  # halfway between two bf16 numbers
    first = rounded(x)
    assert torch.equal(first, rounded(x))
    for other in (rounded(x, seed=1), rounded(x, step=2), rounded(x, number=1), first.roll(1)):
        agree = (first == other).float().mean()
        assert abs(agree - 0.5) < 4 * 0.5 / 64
    high = rounded(x, seed=2**32)
    assert abs((first == high).float().mean() - 0.5) < 4 * 0.5 / 64


def test_the_bits_do_not_depend_on_the_launch() -> None:
    """Pieces of another size, another place in the table: the same parameter."""
    x = torch.randn(200, generator=torch.Generator().manual_seed(0)).bfloat16()
    constants = step_constants(3, 1e-2, (0.9, 0.999), 1e-8, 0.1)

    def run(block: int, before: int) -> torch.Tensor:
        rows = [
            Row(x.clone(), x.clone(), x.float(), x.float().abs(), constants, steps=3, number=n)
            for n in range(before + 1)
        ]
        update(rows[before:] if block == 32 else rows, block=block)
        return rows[before].param

    assert torch.equal(run(1024, 2), run(32, 2))
    assert not torch.equal(run(1024, 0), run(1024, 1))


def test_it_trains_where_rounding_to_nearest_does_not() -> None:
    """Updates of a tenth of a bf16 step: on average they arrive, with no master weights."""
    param = torch.nn.Parameter(torch.full((512,), 1.5, dtype=torch.bfloat16))
    ours = kernels.AdamW([param], lr=8e-4, weight_decay=0.0, stochastic_rounding=True)
    for _ in range(50):
        param.grad = torch.ones_like(param)
        ours.step()
    assert ours.state[param].keys() == {"step", "exp_avg", "exp_avg_sq"}
    error = 0.5 * 2**-7 * 50**0.5 / 512**0.5  # a draw's deviation is at most half a step, 2^-7
    assert abs(param.float().mean() - 1.46) < 4 * error < 0.01


@pytest.mark.parametrize("capturable", [False, True])
def test_resuming_gives_the_same_bits(capturable: bool) -> None:
    options = {"lr": 1e-2, "stochastic_rounding": True, "seed": 9, "capturable": capturable}

    def run(stop: bool) -> torch.Tensor:
        mine = parameters([(100,)], dtype=torch.bfloat16)
        ours = kernels.AdamW(mine, **options)
        for step in range(6):
            set_gradients(mine, mine, step)
            if stop and step == 3:
                saved = ours.state_dict()
                ours = kernels.AdamW(mine, **options)
                ours.load_state_dict(saved)
            ours.step()
        return mine[0].detach()

    assert torch.equal(run(False), run(True))


def test_fp32_parameters_are_not_rounded() -> None:
    mine = [*parameters([(50,)]), *parameters([(50,)], dtype=torch.bfloat16)]
    theirs = parameters([(50,)])
    ours = kernels.AdamW(mine, stochastic_rounding=True)
    set_gradients(mine, [*theirs, theirs[0]], 0)
    set_gradients(mine[:1], theirs, 0)
    with check() as report:
        ours.step()
    kernels.AdamW(theirs).step()
    assert torch.equal(mine[0], theirs[0]) and report.kernels == ["_adamw"]


def test_each_tensor_is_rounded_by_numbers_of_its_own() -> None:
    """Two equal tensors with equal gradients: the same draws would round them alike."""
    a, b = (torch.nn.Parameter(torch.ones(400, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = kernels.AdamW([a, b], lr=1e-3, stochastic_rounding=True)
    for p in (a, b):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not torch.equal(a, b) and a.unique().numel() == b.unique().numel() == 2

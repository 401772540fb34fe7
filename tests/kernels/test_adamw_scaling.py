"""Clipping, gradient scaling and skipped steps of kernels.AdamW, without waiting for the device."""

from typing import Any

import pytest
import torch
from adamw_twins import (
    parameters,
    same_bits,
    set_gradients,
    skips_what_it_finds_and_what_it_is_told,
    snapshot,
)

import kernels
from kernels.adamw.constants import step_constants
from kernels.adamw.table import Batch, Row
from kernels.lab import check
from kernels.verification.adamw_training import TrainingCase, cases, check_constants, check_training

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_verify_runs(dtype: torch.dtype) -> None:
    for case in cases(dtype, quick=dtype != torch.float32):
        outcome = check_training(case)
        assert outcome.passed, case


@pytest.mark.parametrize("seed", range(10, 12))
def test_all_features_together(seed: int) -> None:
    case = TrainingCase(
        (torch.float32, torch.bfloat16, torch.float16),
        max_grad_norm=0.3,
        skip_nonfinite=True,
        grad_scale=128.0,
        capturable=True,
        maximize=True,
        seed=seed,
    )
    assert check_training(case).passed


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e6, float("inf")])
def test_clipping_against_pytorch(max_norm: float) -> None:
    """The norm within 2 eps; then 10 steps as clip_grad_norm_ and AdamW take them."""
    shapes = [(33,), (7, 5), (2050,), (0,)]
    mine, theirs = parameters(shapes), parameters(shapes)
    ours = kernels.AdamW(mine, lr=1e-2, max_grad_norm=max_norm)
    other = torch.optim.AdamW(theirs, lr=1e-2, foreach=False)
    for step in range(10):
        set_gradients(mine, theirs, step)
        kept = [p.grad.clone() for p in mine]
        norm = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
        ours.step()
        other.step()
        torch.testing.assert_close(ours.grad_norm, norm, rtol=2**-22, atol=0)
        assert all(torch.equal(p.grad, g) for p, g in zip(mine, kept, strict=True))
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)


def test_the_norm_is_always_the_same_bits() -> None:
    """More pieces than parts would need a model of a million: a few parts do the same here."""
    from kernels.adamw import norm

    mine = parameters([(5000,), (3000,)])
    set_gradients(mine, mine, 0)
    ours = kernels.AdamW(mine, max_grad_norm=1.0)
    ours.step()
    first = ours.grad_norm.clone()
    ours.step()
    assert torch.equal(ours.grad_norm, first)
    exact = sum(float((p.grad.double() ** 2).sum()) for p in mine) ** 0.5
    for parts in (1, 3):
        with pytest.MonkeyPatch.context() as patch, check() as report:
            patch.setattr(norm, "PARTS", parts)
            ours.step()
        assert report.races == [] and abs(float(ours.grad_norm) / exact - 1) < 2**-22


def test_gradients_whose_squares_overflow() -> None:
    """As in PyTorch: the norm is infinite, the factor 0. Finite gradients are not skipped."""
    mine, theirs = parameters([(5,)]), parameters([(5,)])
    for p in (*mine, *theirs):
        p.grad = torch.full((5,), 1e30)
    ours = kernels.AdamW(mine, max_grad_norm=1.0, skip_nonfinite=True)
    ours.step()
    torch.nn.utils.clip_grad_norm_(theirs, 1.0, foreach=False)
    torch.optim.AdamW(theirs).step()
    assert torch.equal(mine[0], theirs[0]) and int(ours.skipped) == 0


@pytest.mark.parametrize(("bad", "where"), [(torch.nan, 0), (torch.inf, 1023), (-torch.inf, 1030)])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_step_with_inf_or_nan_changes_nothing(bad: float, dtype: torch.dtype, where: int) -> None:
    mine = [*parameters([(1031,)], dtype=dtype), *parameters([(4,)])]
    ours = kernels.AdamW(mine, skip_nonfinite=True)
    set_gradients(mine, mine, 0)
    ours.step()
    before = snapshot(ours)
    mine[0].grad[where] = bad
    for _ in range(2):
        ours.step()
    assert same_bits(before, snapshot(ours))
    assert int(ours.skipped) == 2 and ours.state[mine[0]]["step"] == 1
    set_gradients(mine, mine, 1)
    ours.step()
    assert not same_bits(before, snapshot(ours)) and ours.state[mine[1]]["step"] == 2


def test_the_first_step_can_be_skipped() -> None:
    mine = parameters([(4,)])
    before = mine[0].detach().clone()
    ours = kernels.AdamW(mine, skip_nonfinite=True)
    mine[0].grad = torch.full((4,), torch.nan)
    ours.step()
    assert torch.equal(mine[0], before) and ours.state[mine[0]]["step"] == 0
    mine[0].grad = torch.ones(4)
    ours.step()
    alone = parameters([(4,)])
    alone[0].grad = torch.ones(4)
    kernels.AdamW(alone).step()
    assert torch.equal(mine[0], alone[0])


def test_without_skipping_nan_arrives() -> None:
    mine = parameters([(4,), (4,)])
    set_gradients(mine, mine, 0)
    mine[0].grad[1] = torch.nan
    kernels.AdamW(mine).step()
    assert mine[0].isnan().tolist() == [False, True, False, False] and mine[1].isfinite().all()


@pytest.mark.parametrize("unscale", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_grad_scaler(unscale: bool, dtype: torch.dtype) -> None:
    """PyTorch's GradScaler drives ours as it does PyTorch's fused AdamW: steps, skips, scales."""
    mine, theirs = parameters([(40,), (3, 5)], dtype=dtype), parameters([(40,), (3, 5)])
    for p, q in zip(mine, theirs, strict=True):
        q.data.copy_(p)
    pair = kernels.AdamW(mine, lr=1e-2), torch.optim.AdamW(theirs, lr=1e-2, fused=True)
    scalers = [torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3) for _ in pair]
    for step in range(8):
        set_gradients(mine, theirs, step)
        for params, optimizer, scaler in zip((mine, theirs), pair, scalers, strict=True):
            scaler.scale(torch.zeros(()))  # PyTorch's way of saying that the scale is in use
            for p in params:
                p.grad *= scaler.get_scale()
            if step in (2, 5):
                params[1].grad[0, 0] = torch.inf
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
    assert scalers[0].get_scale() == scalers[1].get_scale() != 64.0
    assert int(pair[0].skipped) == 2
    for p, q in zip(mine, theirs, strict=True):
        a, b = pair[0].state[p], pair[1].state[q]
        assert float(a["step"]) == float(b["step"]) == 6
        torch.testing.assert_close(a["exp_avg"], b["exp_avg"], rtol=1e-5, atol=1e-9)
        weights = a.get("master", p).detach()
        torch.testing.assert_close(weights, q.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1024.0, torch.tensor(1024.0), torch.tensor([1024.0]).half()])
def test_grad_scale_by_hand(scale: Any) -> None:
    mine, theirs = parameters([(33,)]), parameters([(33,)])
    set_gradients(mine, theirs, 0)
    mine[0].grad *= 1024
    kernels.AdamW(mine).step(grad_scale=scale)
    kernels.AdamW(theirs).step()
    assert torch.equal(mine[0], theirs[0])


@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.0, 0.0), (0.5, 0.999999)])
@pytest.mark.parametrize("step", [1, 2, 17, 1000, 100_000, 2**24 - 2])
def test_constants_of_the_device_are_those_of_the_host(
    step: int, betas: tuple[float, float]
) -> None:
    """Both round a double to fp32 once; measured: the same bits in every case here."""
    group = {"lr": 3e-4, "betas": betas, "eps": 1e-8, "weight_decay": 0.1, "maximize": True}
    row = Row(*(torch.zeros(4) for _ in range(4)), step=torch.tensor(step - 1.0))
    found = Batch([row]).device_constants([group])[0]
    wanted = step_constants(step, *(group[k] for k in ("lr", "betas", "eps", "weight_decay")))
    assert torch.equal(found, torch.tensor([*wanted, -1.0, float(step)]))
    assert row.step == step


def test_a_sum_of_many_parts() -> None:
    assert check_constants()


@pytest.mark.parametrize(
    ("options", "launches"),
    [
        ({}, ["_adamw"]),
        ({"capturable": True}, ["_prepare", "_adamw"]),
        ({"max_grad_norm": 1.0}, ["_partial_norms", "_prepare", "_adamw"]),
        ({"skip_nonfinite": True}, ["_partial_norms", "_prepare", "_adamw"]),
    ],
    ids=str,
)
def test_launches_of_a_step(options: dict[str, Any], launches: list[str]) -> None:
    """However many tensors, dtypes and groups there are."""
    params = [*parameters(), *parameters([(9,)], dtype=torch.bfloat16)]
    params += parameters([(5,), (1500,)], dtype=torch.float16)
    ours = kernels.AdamW([{"params": params[::2]}, {"params": params[1::2], "lr": 0.1}], **options)
    set_gradients(params, params, 0)
    with check() as report:
        ours.step()
    assert report.kernels == launches


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """No value of a tensor is looked at, except a step count that lives on the host."""
    mine = parameters([(33,), (4,)])
    ours = kernels.AdamW(mine, lr=1e-2, capturable=True, max_grad_norm=1.0, skip_nonfinite=True)
    set_gradients(mine, mine, 0)
    ours.step()

    def waits(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("this would wait for the device")

    from kernels.adamw import table

    monkeypatch.setattr(table, "launch", lambda *args, **kwargs: None)
    for name in ("item", "tolist", "numpy", "__bool__", "__float__", "__int__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    ours.step(grad_scale=torch.ones(1))


def test_a_graph_needs_capturable(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels.adamw import optimizer

    monkeypatch.setattr(optimizer, "capturing", lambda: True)
    mine = parameters([(3,)])
    mine[0].grad = torch.ones(3)
    with pytest.raises(RuntimeError, match="needs an AdamW with capturable=True"):
        kernels.AdamW(mine).step()
    kernels.AdamW(mine, capturable=True).step()


def test_an_inf_is_found_beside_a_scaler_that_found_none() -> None:
    assert skips_what_it_finds_and_what_it_is_told()


def test_no_norm_where_nothing_asked_for_one() -> None:
    p = torch.nn.Parameter(torch.ones(4))
    p.grad = torch.ones(4)
    optimizer = kernels.AdamW([p], lr=1e-3, capturable=True)
    optimizer.step()
    assert optimizer.grad_norm is None

"""kernels.AdamW as a torch.optim.Optimizer: bit for bit where PyTorch's roundings are known."""

import copy
from typing import Any

import pytest
import torch
from adamw_twins import (
    assert_equal,
    copy_values,
    parameters,
    rates_in_tensors_are_those_of_their_groups,
    set_gradients,
    twins,
)

import kernels
from kernels.lab import check


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("capturable", [False, True])
def test_twenty_steps_with_groups(capturable: bool, maximize: bool) -> None:
    mine, theirs, ours, other = twins(maximize=maximize)
    for group in ours.param_groups:
        group["capturable"] = capturable
    for step in range(20 if capturable == maximize else 5):
        set_gradients(mine, theirs, step)
        with check() as report:
            ours.step()
        other.step()
        assert report.kernels == ["_prepare", "_adamw"][not capturable :], "one launch for all"
    assert_equal(mine, theirs, ours, other, 20)


def test_thirty_steps_of_constants_from_the_device() -> None:
    """1 - beta^t in fp64 on the device gives the same bits as on the host, or the next ones."""
    host, device = parameters([(64,)]), parameters([(64,)])
    options: dict[str, Any] = {"lr": 1e-3, "betas": (0.9, 0.9999)}
    pair = kernels.AdamW(host, **options), kernels.AdamW(device, capturable=True, **options)
    for step in range(30):
        set_gradients(host, device, step)
        for optimizer in pair:
            optimizer.step()
    for name in ("step", "exp_avg", "exp_avg_sq"):
        assert torch.equal(pair[0].state[host[0]][name], pair[1].state[device[0]][name])
    torch.testing.assert_close(host[0], device[0], rtol=1e-6, atol=0)


@pytest.mark.parametrize("direction", ["from torch", "to torch"])
@pytest.mark.parametrize("flags", [{}, {"capturable": True}, {"maximize": True}], ids=str)
def test_state_dict_goes_both_ways_in_mid_training(direction: str, flags: dict) -> None:
    mine, theirs, ours, _ = twins(**flags)
    flags = {k: v for k, v in flags.items() if k != "capturable"}  # torch's needs a GPU
    other = twins(**flags)[3]
    theirs = [p for group in other.param_groups for p in group["params"]]
    order = [p for group in ours.param_groups for p in group["params"]]
    mine = order
    for step in range(4):
        set_gradients(mine, theirs, step)
        (other if direction == "from torch" else ours).step()
    if direction == "from torch":
        copy_values(theirs, mine)
        ours.load_state_dict(copy.deepcopy(other.state_dict()))
    else:
        copy_values(mine, theirs)
        saved = copy.deepcopy(ours.state_dict())
        for group in saved["param_groups"]:
            group["capturable"] = False
        other.load_state_dict(saved)
    for step in range(4, 8):
        set_gradients(mine, theirs, step)
        ours.step()
        other.step()
    assert_equal(mine, theirs, ours, other, 20)
    assert ours.state_dict().keys() == other.state_dict().keys()
    for a, b in zip(ours.param_groups, other.param_groups, strict=True):
        assert a.keys() == b.keys()


def test_the_state_of_a_fused_optimiser_is_accepted() -> None:
    theirs = parameters([(5,)])
    other = torch.optim.AdamW(theirs, fused=True)
    theirs[0].grad = torch.ones(5)
    other.step()
    mine = parameters([(5,)])
    ours = kernels.AdamW(mine)
    ours.load_state_dict(other.state_dict())
    mine[0].grad = torch.ones(5)
    ours.step()
    assert ours.state[mine[0]]["step"] == 2 and ours.param_groups[0]["fused"] is None
    assert other.state[theirs[0]]["step"] == 1, "a loaded state is a copy"


def test_hooks_see_the_state_and_may_change_it() -> None:
    mine = parameters([(5,)])
    ours = kernels.AdamW(mine)
    set_gradients(mine, mine, 0)
    ours.step()
    saved = ours.state_dict()
    saved["state"][0]["exp_avg"] = torch.zeros(4)

    def mend(_: Any, given: dict[str, Any]) -> dict[str, Any]:
        state = {0: {**given["state"][0], "exp_avg": torch.ones(5)}}
        return {**given, "state": state}

    ours.register_load_state_dict_pre_hook(mend)
    ours.load_state_dict(saved)
    assert torch.equal(ours.state[mine[0]]["exp_avg"], torch.ones(5))


def test_flags_of_pytorch_are_taken() -> None:
    for flags in ({"foreach": True}, {"fused": True}, {"foreach": False}):
        mine, theirs = parameters([(5,)]), parameters([(5,)])
        ours = kernels.AdamW(mine, amsgrad=False, differentiable=False, **flags)
        other = torch.optim.AdamW(theirs, foreach=False)
        set_gradients(mine, theirs, 0)
        ours.step()
        other.step()
        assert_equal(mine, theirs, ours, other, 1)


@pytest.mark.parametrize(
    "options", [{}, {"max_grad_norm": 0.1}, {"skip_nonfinite": True}, {"capturable": True}], ids=str
)
def test_a_deep_copy_goes_on_alone(options: dict[str, Any]) -> None:
    mine = parameters([(40,), (7, 3)])
    ours = kernels.AdamW(mine, **options)
    set_gradients(mine, mine, 0)
    ours.step()
    before = [p.detach().clone() for p in mine]
    twin = copy.deepcopy(ours)
    copied = twin.param_groups[0]["params"]
    set_gradients(mine, copied, 1)
    twin.step()
    assert all(map(torch.equal, before, mine)), "the original does not move"
    ours.step()
    assert all(map(torch.equal, copied, mine))
    assert twin.state_dict()["state"].keys() == ours.state_dict()["state"].keys()


def test_a_state_dict_is_read_without_unpickling(tmp_path: Any) -> None:
    mine = [*parameters([(40,)]), *parameters([(9,)], dtype=torch.bfloat16)]
    ours = kernels.AdamW8bit(mine, min_8bit_size=20, capturable=True)
    set_gradients(mine, mine, 0)
    ours.step()
    torch.save(ours.state_dict(), tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    other = kernels.AdamW8bit(mine, min_8bit_size=20)
    other.load_state_dict(saved)
    for p in mine:
        assert ours.state[p].keys() == other.state[p].keys()
        for name, values in ours.state[p].items():
            assert torch.equal(values, other.state[p][name]), name


def test_learning_rate_schedulers() -> None:
    mine, theirs, ours, other = twins([(33,), (7,)])
    schedules = [
        torch.optim.lr_scheduler.OneCycleLR(o, 1e-2, total_steps=12, cycle_momentum=True)
        for o in (ours, other)
    ]
    for step in range(10):
        set_gradients(mine, theirs, step)
        ours.step()
        other.step()
        for schedule in schedules:
            schedule.step()
    assert ours.param_groups[0]["lr"] == other.param_groups[0]["lr"] != 1e-3
    assert_equal(mine, theirs, ours, other, 10)


@pytest.mark.parametrize("capturable", [False, True])
def test_a_learning_rate_in_a_tensor(capturable: bool) -> None:
    mine, theirs = parameters([(33,), (7,), (5,)]), parameters([(33,), (7,), (5,)])
    rate = torch.tensor(1e-2)
    groups = [{"params": mine[:2]}, {"params": mine[2:], "lr": 1e-3}]
    ours = kernels.AdamW(groups, lr=rate, capturable=capturable)
    groups = [{"params": theirs[:2]}, {"params": theirs[2:], "lr": 1e-3}]
    other = torch.optim.AdamW(groups, lr=float(rate), foreach=False)
    for step in range(4):
        rate.mul_(0.5)
        other.param_groups[0]["lr"] = float(rate)
        set_gradients(mine, theirs, step)
        ours.step()
        other.step()
    assert_equal(mine, theirs, ours, other, 4)


def test_a_learning_rate_in_a_tensor_for_each_group() -> None:
    assert rates_in_tensors_are_those_of_their_groups()


def test_training_a_model_by_closure() -> None:
    def train(optimizer_class: Any) -> list[float]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        x, y = torch.randn(16, 4), torch.randn(16, 1)
        optimizer = optimizer_class(model.parameters(), lr=1e-2)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            return loss

        return [optimizer.step(closure).item() for _ in range(15)]

    ours, theirs = train(kernels.AdamW), train(torch.optim.AdamW)
    assert ours[-1] < 0.9 * ours[0]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-5, atol=0)


@pytest.mark.parametrize("capturable", [False, True])
def test_parameters_without_gradient_are_left_alone(capturable: bool) -> None:
    mine = parameters([(4,), (4,)])
    before = [p.detach().clone() for p in mine]
    optimizer = kernels.AdamW(mine, capturable=capturable)
    optimizer.step()
    mine[1].grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(mine[0], before[0]) and mine[0] not in optimizer.state
    assert (mine[1] != before[1]).all() and optimizer.state[mine[1]]["step"] == 1


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "offset"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_dense_layout_and_alignment(layout: str, dtype: torch.dtype) -> None:
    """Tensors are updated in the order of memory, and addresses need not be divisible by 16."""
    shape = (2, 3, 4, 5)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    if layout == "transposed":
        data = values.transpose(0, 3).contiguous().transpose(0, 3)
    elif layout == "channels_last":
        data = values.contiguous(memory_format=torch.channels_last)
    else:
        data = torch.empty(values.numel() + 1, dtype=dtype)[1:].view(shape).copy_(values)
    mine, theirs = torch.nn.Parameter(data), torch.nn.Parameter(values.float())
    ours, other = kernels.AdamW([mine], lr=1e-2), torch.optim.AdamW([theirs], lr=1e-2)
    for step in range(3):
        if step == 2:  # a state that was saved from a tensor of another layout
            plain = kernels.AdamW([torch.nn.Parameter(values.clone())])
            plain.load_state_dict(ours.state_dict())
            ours.load_state_dict(plain.state_dict())
        set_gradients([mine], [theirs], step)
        ours.step()
        other.step()
    weights = ours.state[mine].get("master", mine)
    torch.testing.assert_close(weights.detach(), theirs.detach(), rtol=1e-6, atol=1e-7)
    assert mine.stride() == data.stride() and torch.equal(mine, weights.to(dtype))


def test_an_expanded_gradient() -> None:
    param = torch.nn.Parameter(torch.ones(6))
    param.grad = torch.tensor([2.0]).expand(6)
    kernels.AdamW([param], lr=0.5, weight_decay=0.0).step()
    torch.testing.assert_close(param.detach(), torch.full((6,), 0.5))


def test_autograd_notices_the_change_in_place() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    loss = (param * param).sum()
    param.grad = torch.ones(3)
    kernels.AdamW([param]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_devices_have_a_launch_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices, of which one plays the other: one norm, a launch of each kind for each."""
    from kernels.adamw import optimizer as home

    mine, theirs = parameters([(30,), (40,), (50,)]), parameters([(30,), (40,), (50,)])
    set_gradients(mine, theirs, 0)
    ours = kernels.AdamW(mine, lr=1e-2, max_grad_norm=1.0)
    whole = home.AdamW._batches

    def apart(self: Any, ready: Any, on_device: bool) -> Any:
        return [*whole(self, ready[:1], on_device), *whole(self, ready[1:], on_device)]

    monkeypatch.setattr(home.AdamW, "_batches", apart)
    with check() as report:
        ours.step()
    torch.nn.utils.clip_grad_norm_(theirs, 1.0)
    torch.optim.AdamW(theirs, lr=1e-2).step()
    assert report.kernels == ["_partial_norms"] * 2 + ["_prepare", "_adamw"] * 2
    for p, q in zip(mine, theirs, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-7)

"""kernels.AdamW against torch.optim.AdamW: bit for bit where PyTorch's roundings are known."""

import copy
from typing import Any

import pytest
import torch

import kernels
from kernels import reference
from kernels.adamw import BLOCK, Row, step_constants, update
from kernels.lab import check
from kernels.verification.adamw import AdamWCase, check_adamw, compile_adamw

SHAPES = [(1,), (1023,), (1024,), (1025,), (), (0,), (37, 5), (2, 3, 4)]

# PyTorch's vector code uses fused multiply-add only where the CPU has it.
FUSES = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def parameters(shapes: list[tuple[int, ...]] = SHAPES, seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def twins(shapes: list[tuple[int, ...]] = SHAPES, **options: Any):
    """The same parameters in this package's optimiser and in PyTorch's, in two groups."""
    mine, theirs = parameters(shapes), parameters(shapes)

    def groups(params: list[torch.nn.Parameter]) -> list[dict[str, Any]]:
        return [
            {"params": params[::2], "weight_decay": 0.1},
            {"params": params[1::2], "lr": 3e-3, "weight_decay": 0.0, "betas": (0.8, 0.95)},
        ]

    ours = kernels.AdamW(groups(mine), lr=1e-3, **options)
    return mine, theirs, ours, torch.optim.AdamW(groups(theirs), lr=1e-3, foreach=False, **options)


def set_gradients(mine: list, theirs: list, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for p, q in zip(mine, theirs, strict=True):
        size = 10.0 ** torch.randint(-6, 2, p.shape, generator=generator)
        p.grad = torch.randn(p.shape, generator=generator) * size
        q.grad = p.grad.clone()


def assert_equal(mine: list, theirs: list, ours: Any, other: Any, steps: int) -> None:
    """m and v bit for bit (on CPUs that fuse); p within 2·eps of what it is and what it went.

    Measured over 20 steps: m and v equal in every bit, p in 98.5 % of the elements and within
    0.8·eps·(|p| + 20 lr) in the rest (PyTorch's square root is not rounded to nearest).
    """
    for p, q in zip(mine, theirs, strict=True):
        if p not in ours.state:
            assert q not in other.state
            continue
        a, b = ours.state[p], other.state[q]
        assert a["step"] == b["step"]
        eps = torch.finfo(torch.float32).eps
        for name in ("exp_avg", "exp_avg_sq"):
            if FUSES:
                assert torch.equal(a[name], b[name]), name
            torch.testing.assert_close(a[name], b[name], rtol=10 * steps * eps, atol=0)
        bound = 2 * eps * (q.detach().abs() + steps * 3e-3)
        assert ((p - q).abs() <= bound).all()


# ---- one step, any state


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.4, 0.95), (0.0, 0.9)])
@pytest.mark.parametrize(("lr", "weight_decay", "eps"), [(1e-3, 0.0, 1e-8), (1e-1, 0.1, 1e-6)])
def test_each_step_against_pytorch(
    seed: int, betas: tuple[float, float], lr: float, weight_decay: float, eps: float
) -> None:
    outcome = check_adamw(
        AdamWCase(lr=lr, weight_decay=weight_decay, eps=eps, betas=betas, seed=seed, steps=4)
    )
    assert outcome.passed, outcome


def test_against_fp64() -> None:
    """A check that does not rest on PyTorch's roundings: within 4 half-ulp (measured: 1.9)."""
    generator = torch.Generator().manual_seed(0)
    p, g = torch.randn(2000, generator=generator), torch.randn(2000, generator=generator)
    m, v = 0.1 * torch.randn(2000, generator=generator), torch.rand(2000, generator=generator)
    options = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}
    exact = reference.adamw_step(*(t.double() for t in (p, g, m, v)), step=3, **options)
    update([Row(p, g, m, v, step_constants(3, **options))])
    for got, want in zip((p, m, v), exact, strict=True):
        size = want.abs() + 0.1 * g.abs()
        assert ((got - want).abs() <= 4 * torch.finfo(torch.float32).eps / 2 * size).all()


@pytest.mark.parametrize("n", [1, 3, 1023, 1024, 1025, 4096])
def test_exactly_28_bytes_a_parameter(n: int) -> None:
    p, g, m, v = (torch.zeros(n) for _ in range(4))
    with check() as report:
        update([Row(p, g, m, v, step_constants(1, 1e-3, (0.9, 0.999), 1e-8, 0.01))])
    moved = {name: (t.loaded, t.stored) for name, t in report.traffic.items()}
    assert moved.pop("param") == moved.pop("exp_avg") == moved.pop("exp_avg_sq") == (4 * n, 4 * n)
    assert moved.pop("grad") == (4 * n, 0)
    pieces = -(-n // BLOCK)
    assert moved == {
        "pieces": (8 * pieces, 0), "table": (40 * pieces, 0), "constants": (28 * pieces, 0)
    }  # fmt: skip


# ---- the optimiser


def test_twenty_steps_with_groups() -> None:
    mine, theirs, ours, other = twins()
    for step in range(20):
        set_gradients(mine, theirs, step)
        with check() as report:
            ours.step()
        other.step()
        assert report.kernels == ["_adamw"], "one launch for all tensors and groups"
    assert_equal(mine, theirs, ours, other, 20)


@pytest.mark.parametrize("direction", ["from torch", "to torch"])
def test_state_dict_goes_both_ways_in_mid_training(direction: str) -> None:
    mine, theirs, ours, other = twins()
    for step in range(10):
        set_gradients(mine, theirs, step)
        (other if direction == "from torch" else ours).step()
    if direction == "from torch":
        copy_values(theirs, mine)
        ours.load_state_dict(copy.deepcopy(other.state_dict()))
    else:
        copy_values(mine, theirs)
        other.load_state_dict(copy.deepcopy(ours.state_dict()))
    for step in range(10, 20):
        set_gradients(mine, theirs, step)
        ours.step()
        other.step()
    assert_equal(mine, theirs, ours, other, 20)
    assert ours.state_dict().keys() == other.state_dict().keys()
    for a, b in zip(ours.param_groups, other.param_groups, strict=True):
        assert a.keys() == b.keys()


def copy_values(source: list, target: list) -> None:
    with torch.no_grad():
        for a, b in zip(source, target, strict=True):
            b.copy_(a)


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


def test_parameters_without_gradient_are_left_alone() -> None:
    mine = parameters([(4,), (4,)])
    before = [p.detach().clone() for p in mine]
    optimizer = kernels.AdamW(mine)
    optimizer.step()
    mine[1].grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(mine[0], before[0]) and mine[0] not in optimizer.state
    assert (mine[1] != before[1]).all() and optimizer.state[mine[1]]["step"] == 1


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "offset"])
def test_any_dense_layout_and_alignment(layout: str) -> None:
    """Tensors are updated in the order of memory, and addresses need not be divisible by 16."""
    shape = (2, 3, 4, 5)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    if layout == "transposed":
        data = values.transpose(0, 3).contiguous().transpose(0, 3)
    elif layout == "channels_last":
        data = values.contiguous(memory_format=torch.channels_last)
    else:
        data = torch.empty(values.numel() + 1)[1:].view(shape).copy_(values)
    mine, theirs = torch.nn.Parameter(data), torch.nn.Parameter(values.clone())
    ours, other = kernels.AdamW([mine], lr=1e-2), torch.optim.AdamW([theirs], lr=1e-2)
    for step in range(3):
        grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        mine.grad, theirs.grad = grad.clone(), grad.clone()
        ours.step()
        other.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)
    assert mine.stride() == data.stride()


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


# ---- input that does not fit


def test_hyperparameters_out_of_range() -> None:
    for options, match in [
        ({"lr": -1.0}, "lr must not be negative, got -1.0"),
        ({"eps": -1e-8}, "eps must not be negative"),
        ({"weight_decay": float("nan")}, "weight_decay must not be negative, got nan"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\)"),
    ]:
        with pytest.raises(ValueError, match=rf"param_groups\[0\]: {match}"):
            kernels.AdamW(parameters([(2,)]), **options)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_parameters_that_are_not_fp32(dtype: torch.dtype) -> None:
    bad = torch.nn.Parameter(torch.zeros(3, dtype=dtype))
    with pytest.raises(TypeError, match=rf"param_groups\[0\]: parameter 1 is {dtype}; only"):
        kernels.AdamW([torch.nn.Parameter(torch.zeros(3)), bad])
    optimizer = kernels.AdamW(parameters([(2,)]))
    with pytest.raises(TypeError, match=r"param_groups\[1\]"):
        optimizer.add_param_group({"params": [bad]})
    assert len(optimizer.param_groups) == 1


def test_parameters_that_cannot_be_updated_in_place() -> None:
    strided = torch.nn.Parameter(torch.zeros(4, 6)[:, ::2])
    with pytest.raises(ValueError, match=r"shape \(4, 3\) is a strided view"):
        kernels.AdamW([strided])
    with pytest.raises(ValueError, match="is on meta"):
        kernels.AdamW([torch.nn.Parameter(torch.zeros(3, device="meta"))])


def test_a_sparse_gradient_is_refused_before_anything_changes() -> None:
    table = torch.nn.Embedding(5, 2, sparse=True)
    weight = torch.nn.Parameter(torch.ones(2))
    (table(torch.tensor([1])).sum() + weight.sum()).backward()
    optimizer = kernels.AdamW([weight, table.weight])
    with pytest.raises(ValueError, match=r"shape \(5, 2\) has a sparse gradient"):
        optimizer.step()
    assert torch.equal(weight, torch.ones(2)) and not optimizer.state


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), r"param_groups\[0\] lacks betas, eps"),
        (lambda p: torch.optim.Adam(p), "decoupled_weight_decay=False"),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "amsgrad=True"),
        (lambda p: torch.optim.AdamW(p, maximize=True), "maximize=True"),
        (lambda p: torch.optim.Adamax(p), "parameter 0 has step, exp_avg, exp_inf"),
    ],
)
def test_the_state_of_another_optimiser(make: Any, match: str) -> None:
    theirs = parameters([(3,)])
    theirs[0].grad = torch.ones(3)
    other = make(theirs)
    other.step()
    ours = kernels.AdamW(parameters([(3,)]))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match=match):
        ours.load_state_dict(other.state_dict())
    assert ours.state_dict() == before


# ---- machine code


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_compiled_for_every_architecture(arch: str) -> None:
    """A full piece moves in 128-bit loads and stores: 2 x 4 loads, 2 x 3 stores a thread."""
    compiled = compile_adamw(arch)
    assert compiled.registers > 0 and compiled.stack_bytes == compiled.spills_in_loop == 0
    codes = compiled.opcodes("global")
    if arch == "gfx942":  # 64 threads a warp: half as many a thread
        assert codes["global_load_dwordx4"] >= 4 and codes["global_store_dwordx4"] == 3
    else:
        assert codes["LDG.E.128"] == 8 and codes["STG.E.128"] == 6
        assert "fma.rn.f32" in compiled.ptx and "sqrt.rn.f32" in compiled.ptx
        assert "div.rn.f32" in compiled.ptx

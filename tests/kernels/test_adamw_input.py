"""Input that kernels.AdamW refuses, in one line, before anything has changed."""

import copy
from typing import Any

import pytest
import torch
from adamw_twins import parameters, same_bits, snapshot

import kernels

NAN, INF = float("nan"), float("inf")


def one_line(error: pytest.ExceptionInfo[Exception]) -> bool:
    return len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"lr": -1.0}, "lr must not be negative or infinite, got -1.0"),
        ({"lr": INF}, "lr must not be negative or infinite, got inf"),
        ({"lr": torch.tensor(NAN)}, "lr must not be negative or infinite, got nan"),
        ({"lr": torch.ones(2)}, r"lr must be a number, got \(2,\) tensor"),
        ({"eps": -1e-8}, "eps must not be negative"),
        ({"eps": torch.ones(1)}, "eps must be a number"),
        ({"weight_decay": NAN}, "weight_decay must not be negative or infinite, got nan"),
        ({"betas": (0.9, 1.0)}, r"betas must be two numbers in \[0, 1\)"),
        ({"betas": (NAN, 0.9)}, r"betas must be two numbers in \[0, 1\)"),
        ({"betas": (0.9,)}, r"betas must be two numbers in \[0, 1\)"),
        ({"amsgrad": True}, "amsgrad=True is not supported"),
        ({"differentiable": True}, "differentiable=True is not supported"),
    ],
    ids=str,
)
def test_hyperparameters(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=rf"param_groups\[0\]: {match}") as error:
        kernels.AdamW(parameters([(2,)]), **options)
    assert one_line(error)
    optimizer = kernels.AdamW(parameters([(2,)]))
    with pytest.raises(ValueError, match=rf"param_groups\[1\]: {match}"):
        optimizer.add_param_group({"params": parameters([(2,)]), **options})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_grad_norm": 0.0}, "max_grad_norm must be a number above 0, or None"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be .* got -1.0"),
        ({"max_grad_norm": NAN}, "max_grad_norm must be .* got nan"),
        ({"max_grad_norm": True}, "max_grad_norm must be .* got True"),
        ({"seed": -1}, "seed must be an integer from 0"),
        ({"seed": 0.5}, "seed must be an integer from 0"),
        ({"seed": 2**63}, "seed must be an integer from 0"),
    ],
    ids=str,
)
def test_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        kernels.AdamW(parameters([(2,)]), **options)
    assert one_line(error)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"block_size": 48}, "block_size must be a power of two from 32 to 1024, got 48"),
        ({"block_size": 0}, "block_size must be"),
        ({"block_size": 2048}, "block_size must be"),
        ({"min_8bit_size": -1}, "min_8bit_size must be a number of elements, got -1"),
        ({"min_8bit_size": 0.5}, "min_8bit_size must be a number of elements, got 0.5"),
    ],
    ids=str,
)
def test_options_of_8_bit(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        kernels.AdamW8bit(parameters([(2,)]), **options)
    assert one_line(error)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.float8_e4m3fn], ids=str)
def test_parameters_of_another_dtype(dtype: torch.dtype) -> None:
    bad = torch.nn.Parameter(torch.zeros(3).to(dtype))
    with pytest.raises(
        TypeError, match=rf"param_groups\[0\]: parameter 1 is {dtype}; use"
    ) as error:
        kernels.AdamW([torch.nn.Parameter(torch.zeros(3)), bad])
    assert one_line(error)
    optimizer = kernels.AdamW(parameters([(2,)]))
    with pytest.raises(TypeError, match=r"param_groups\[1\]"):
        optimizer.add_param_group({"params": [bad]})
    assert len(optimizer.param_groups) == 1


def test_integers_are_no_parameters() -> None:
    whole = torch.nn.Parameter(torch.zeros(3, dtype=torch.int64), requires_grad=False)
    with pytest.raises(TypeError, match=r"parameter 0 is torch\.int64; use"):
        kernels.AdamW([whole])


def test_stochastic_rounding_is_for_bf16() -> None:
    with pytest.raises(TypeError, match=r"parameter 0 is torch\.float16; stochastic_rounding"):
        kernels.AdamW(parameters([(3,)], dtype=torch.float16), stochastic_rounding=True)


def test_parameters_that_cannot_be_updated_in_place() -> None:
    for view in (torch.zeros(4, 6)[:, ::2], torch.zeros(4, 1).expand(4, 3)):
        with pytest.raises(ValueError, match=r"shape \(4, 3\) is a strided view"):
            kernels.AdamW([torch.nn.Parameter(view)])
    with pytest.raises(ValueError, match="is on meta"):
        kernels.AdamW([torch.nn.Parameter(torch.zeros(3, device="meta"))])
    with pytest.raises(ValueError, match=r"shape \(2, 2\) is sparse"):
        kernels.AdamW([torch.nn.Parameter(torch.eye(2).to_sparse())])


def with_state() -> tuple[torch.nn.Parameter, torch.nn.Parameter, kernels.AdamW]:
    """Two parameters, the second of which will get a bad gradient, after one step."""
    good, bad = parameters([(2,), (5, 2)])
    optimizer = kernels.AdamW([good, bad])
    good.grad, bad.grad = torch.ones(2), torch.ones(5, 2)
    optimizer.step()
    return good, bad, optimizer


class Pretended:
    """A parameter whose ``grad`` is what autograd would not let through."""

    def __init__(self, param: torch.Tensor, grad: torch.Tensor) -> None:
        self.__dict__.update(param=param, grad=grad)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.param, name)


@pytest.mark.parametrize(
    ("grad", "error", "match"),
    [
        (torch.eye(5, 2).to_sparse(), ValueError, r"shape \(5, 2\) is sparse"),
        (torch.ones(5, 2).double(), TypeError, "is torch.float64, expected torch.float32"),
        (torch.ones(2, 5), ValueError, r"has shape \(2, 5\); they must be equal"),
        (torch.ones(5, 2, device="meta"), ValueError, "is on meta, expected cpu"),
    ],
    ids=str,
)
def test_gradients(grad: torch.Tensor, error: Any, match: str) -> None:
    from kernels.adamw.groups import check_grad

    _, bad, _ = with_state()
    with pytest.raises(error, match=match) as found:
        check_grad(Pretended(bad, grad))  # type: ignore[arg-type]
    assert one_line(found)


def test_a_bad_gradient_is_refused_before_anything_changes() -> None:
    good, bad, optimizer = with_state()
    before = snapshot(optimizer)
    good.grad, bad.grad = torch.ones(2), torch.eye(5, 2).to_sparse()
    with pytest.raises(ValueError, match="is sparse"):
        optimizer.step()
    assert same_bits(before, snapshot(optimizer))
    bad.grad = None
    optimizer.param_groups[0]["lr"] = NAN  # a schedule gone wrong
    with pytest.raises(ValueError, match=r"param_groups\[0\]: lr must not be negative"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.max_grad_norm = NAN
    with pytest.raises(ValueError, match="max_grad_norm"):
        optimizer.step()
    optimizer.max_grad_norm = None
    for scale in (0.0, NAN, -1.0, torch.ones(2), torch.tensor(1)):
        with pytest.raises(ValueError, match="grad_scale must"):
            optimizer.step(grad_scale=scale)
    assert same_bits(before, snapshot(optimizer))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), r"param_groups\[0\] lacks betas, eps"),
        (lambda p: torch.optim.Adam(p), "decoupled_weight_decay=False"),
        (lambda p: torch.optim.Adam(p, amsgrad=True), "amsgrad=True"),
        (lambda p: torch.optim.AdamW(p, amsgrad=True), "amsgrad=True"),
        (lambda p: torch.optim.Adamax(p), "parameter 0 has step, exp_avg, exp_inf"),
    ],
    ids=["SGD", "Adam", "Adam amsgrad", "AdamW amsgrad", "Adamax"],
)
@pytest.mark.parametrize("kind", [kernels.AdamW, kernels.AdamW8bit])
def test_the_state_of_another_optimiser(kind: Any, make: Any, match: str) -> None:
    theirs = parameters([(3,)])
    theirs[0].grad = torch.ones(3)
    other = make(theirs)
    other.step()
    ours = kind(parameters([(3,)]))
    before = copy.deepcopy(ours.state_dict())
    with pytest.raises(ValueError, match=match) as error:
        ours.load_state_dict(other.state_dict())
    assert ours.state_dict() == before and one_line(error)


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("exp_avg", torch.zeros(4), r"exp_avg has shape \(4,\), expected \(3,\)"),
        ("exp_avg_sq", torch.zeros(3, 1), r"exp_avg_sq has shape \(3, 1\), expected \(3,\)"),
        ("step", torch.zeros(3), "step must be one number from 0"),
        ("step", torch.tensor(NAN), "step must be one number from 0"),
        ("step", -1, "step must be one number from 0"),
        ("exp_avg", [0.0, 0.0, 0.0], "exp_avg is a list; expected a tensor"),
        ("exp_avg", torch.zeros(3, dtype=torch.int64), "exp_avg is torch.int64; expected"),
    ],
    ids=str,
)
def test_a_state_that_does_not_fit(name: str, value: Any, match: str) -> None:
    mine = parameters([(3,)])
    mine[0].grad = torch.ones(3)
    ours = kernels.AdamW(mine)
    ours.step()
    saved = copy.deepcopy(ours.state_dict())
    saved["state"][0][name] = value
    before = snapshot(ours)
    with pytest.raises(ValueError, match=f"state_dict: parameter 0: {match}") as error:
        ours.load_state_dict(saved)
    assert same_bits(before, snapshot(ours)) and one_line(error)


@pytest.mark.parametrize("kind", [kernels.AdamW, kernels.AdamW8bit])
def test_a_state_in_8_bits_that_does_not_fit(kind: Any) -> None:
    mine = parameters([(300,)])
    mine[0].grad = torch.ones(300)
    ours = kernels.AdamW8bit(mine, min_8bit_size=0)
    ours.step()
    for change, match in (
        ({"exp_avg_scale": torch.zeros(3)}, r"exp_avg_scale has shape \(3,\), which does not fit"),
        (
            {"exp_avg_codes": torch.zeros(300)},
            r"exp_avg_codes is torch\.float32; expected torch\.uint8",
        ),
    ):
        saved = copy.deepcopy(ours.state_dict())
        saved["state"][0].update(change)
        with pytest.raises(ValueError, match=match) as error:
            kind(mine).load_state_dict(saved)
        assert one_line(error)
    saved = copy.deepcopy(ours.state_dict())
    del saved["param_groups"][0]["block_size"]
    with pytest.raises(ValueError, match="which does not fit block_size=None"):
        kind(mine).load_state_dict(saved)


def test_another_number_of_parameters() -> None:
    saved = kernels.AdamW(parameters([(3,), (3,)])).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size"):
        kernels.AdamW(parameters([(3,)])).load_state_dict(saved)
    for broken in ({}, {"state": {}}, {"param_groups": []}, [1]):
        with pytest.raises(
            ValueError, match="state_dict: expected a dict with state, param_groups"
        ):
            kernels.AdamW(parameters([(3,)])).load_state_dict(broken)


def _after_a_step(dtype: torch.dtype = torch.float32) -> tuple[torch.nn.Parameter, kernels.AdamW]:
    p = torch.nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = kernels.AdamW([p], lr=1e-3)
    p.grad = torch.ones_like(p)
    optimizer.step()
    return p, optimizer


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (torch.zeros(8)[::2], ValueError, "parameter 0 of shape .* is a strided view"),
        (torch.ones(4, dtype=torch.float64), TypeError, "parameter 0 is torch.float64"),
        (torch.ones(4, dtype=torch.bfloat16), TypeError, "was not at its first step"),
        (torch.ones(8), ValueError, r"parameter 0 has shape \(8,\), its state \(4,\)"),
    ],
    ids=["strided", "fp64", "bf16", "longer"],
)
def test_a_parameter_that_is_no_longer_what_it_was(
    data: torch.Tensor, error: type, message: str
) -> None:
    p, optimizer = _after_a_step()
    before = data.clone()
    p.grad = None
    p.data = data
    p.grad = torch.ones_like(p)
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(p, before)


def test_parameters_that_share_memory_are_refused() -> None:
    p = torch.nn.Parameter(torch.ones(40))
    with pytest.raises(ValueError, match="parameters 0 and 1 share memory"):
        kernels.AdamW([p, torch.nn.Parameter(p.detach()[20:])])
    flat = torch.ones(40)
    kernels.AdamW([torch.nn.Parameter(flat[:20]), torch.nn.Parameter(flat[20:])])

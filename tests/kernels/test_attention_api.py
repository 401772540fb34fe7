"""kernels.attention through autograd: gradients of everything that can have one."""

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from attention_helpers import assert_close, both, draw, normal
from torch.utils.checkpoint import checkpoint

import kernels
from kernels import reference
from kernels.verification.attention_cases import laid_out


@pytest.mark.parametrize("causal", [False, True])
def test_equal_to_pytorch(causal: bool) -> None:
    """Gradients too. PyTorch aligns is_causal to the start, which is the same for M = N."""
    mine, theirs = (draw(33, 33, heads=4, kv_heads=2, grad=True) for _ in range(2))
    out = kernels.attention(*mine, causal=causal)
    expected = F.scaled_dot_product_attention(*theirs, is_causal=causal, enable_gqa=True)
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)  # measured: 4e-7
    dout = normal(*out.shape)
    found, wanted = (
        torch.autograd.grad(out, mine, dout),
        torch.autograd.grad(expected, theirs, dout),
    )
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)  # measured: 1e-6


def test_equal_to_hugging_face() -> None:
    """The eager attention of a model with shared key heads and a causal mask."""
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    q, k, v = draw(20, 20, heads=4, kv_heads=2)
    module = torch.nn.Module()
    module.num_key_value_groups = 2
    mask = torch.full((20, 20), -torch.inf).triu(1)[None, None]
    expected, _ = llama.eager_attention_forward(module.eval(), q, k, v, mask, scaling=0.3)
    out = kernels.attention(q, k, v, causal=True, scale=0.3)
    torch.testing.assert_close(out.transpose(1, 2), expected, rtol=0, atol=2e-6)  # measured: 3e-7


BIASES = [(2, 4, 9, 21), (1, 4, 9, 21), (2, 1, 9, 21), (1, 1, 9, 21), (2, 1, 1, 21), (1, 4, 9, 1)]


@pytest.mark.parametrize("shape", [*BIASES, (1, 1, 1, 1)])
def test_gradients_of_everything(shape: tuple[int, ...]) -> None:
    """A bias of every broadcast form, sinks, the LSE, shared key heads."""
    q, k, v = draw(9, 21, 8, heads=4, kv_heads=2, batch=2, grad=True)
    bias, sinks = normal(*shape).requires_grad_(), normal(4).requires_grad_()
    dout, dlse = normal(2, 4, 9, 8, seed=3), normal(2, 4, 9, seed=4)
    pairs = both(q, k, v, bias=bias, sinks=sinks, causal=True, dout=dout, dlse=dlse)
    assert {"dq", "dk", "dv", "dbias", "dsinks"} <= pairs.keys()
    assert_close(pairs)


OPTIONS: dict[str, dict[str, Any]] = {
    "slopes of each sequence": {"alibi_slopes": torch.rand(2, 4)},
    "half-precision bias": {"bias": normal(1, 4, 9, 21).half()},
    "transposed bias": {"bias": normal(1, 4, 21, 9).mT},
    "expanded bias": {"bias": normal(1, 1, 9, 21).expand(2, 4, 9, 21)},
    "every second sink": {"sinks": normal(8)[::2]},
    "double sinks": {"sinks": normal(4).double()},
    "every second key of a mask": {"key_mask": normal(2, 42)[:, ::2] > -0.5},
    "softcap, window, negative scale": {"softcap": 1.5, "window": 5, "scale": -0.7},
    "no scale": {"scale": 0.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_however_they_lie_in_memory(name: str) -> None:
    q, k, v = draw(9, 21, 8, heads=4, kv_heads=2, batch=2, grad=True)
    assert_close(both(q, k, v, dout=normal(2, 4, 9, 8), causal=True, **OPTIONS[name]))


def test_boundaries_that_are_columns_of_a_table() -> None:
    q, k, v = draw(10, 12, 8, grad=True)
    table = torch.tensor([[0, 0], [4, 5], [10, 12]], dtype=torch.int32)
    packed = {"cu_seqlens_q": table[:, 0], "cu_seqlens_k": table[:, 1]}
    assert_close(both(q, k, v, dout=normal(1, 2, 10, 8), causal=True, **packed))


@pytest.mark.parametrize("layout", ["transposed", "expanded"])
def test_gradients_that_arrive_in_any_layout(layout: str) -> None:
    q, k, v = draw(9, 21, 8, batch=2, grad=True)
    dout, dlse = normal(2, 2, 9, 8), normal(2, 2, 9, seed=3)
    if layout == "transposed":
        dout, dlse = laid_out(dout, torch.float32, layout), dlse.mT.contiguous().mT
    else:
        dout, dlse = dout[:, :, :1, :1].expand_as(dout), dlse[:, :1, :1].expand_as(dlse)
    out, lse = kernels.attention(q, k, v, return_lse=True)
    found = torch.autograd.grad((out, lse), (q, k, v), (dout, dlse))
    exact = both(q, k, v, dout=dout, dlse=dlse)
    for name, gradient in zip(("dq", "dk", "dv"), found, strict=True):
        assert_close({name: (gradient, exact[name][1])})


def test_derivatives_by_differences() -> None:
    """The reference's slope along a direction, from two values in fp64, against the kernels'
    gradient: the one check that no formula of a gradient enters."""
    q, k, v = draw(9, 12, 8, grad=True)
    bias, sinks = normal(1, 2, 9, 12).requires_grad_(), normal(2).requires_grad_()
    options = {"causal": True, "softcap": 2.0, "dropout_p": 0.3, "seed": 5, "window": 6}
    dout, dlse = normal(1, 2, 9, 8, seed=2).double(), normal(1, 2, 9, seed=3).double()
    inputs = (q, k, v, bias, sinks)
    call = partial(kernels.attention, **options, return_lse=True)
    gradients = torch.autograd.grad(
        call(q, k, v, bias=bias, sinks=sinks), inputs, (dout.float(), dlse.float())
    )

    def value(tensors: list[torch.Tensor]) -> torch.Tensor:
        q, k, v, bias, sinks = tensors
        out, lse = reference.attention(q, k, v, bias=bias, sinks=sinks, **options)
        return (out * dout).sum() + (lse * dlse).sum()

    step = 1e-6
    for i, gradient in enumerate(gradients):
        for seed in range(3):
            direction = normal(*gradient.shape, seed=10 + seed).double()
            moved = [[t.detach().double() for t in inputs] for _ in range(2)]
            moved[0][i] = moved[0][i] + step * direction
            moved[1][i] = moved[1][i] - step * direction
            slope = (value(moved[0]) - value(moved[1])) / (2 * step)
            expected = (gradient.double() * direction).sum()
            torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-5)  # measured: 3e-6


@pytest.mark.parametrize("wanted", ["q", "k", "v", "bias", "sinks"])
def test_a_gradient_of_one_input_alone(wanted: str) -> None:
    q, k, v = draw(9, 12, 8)
    named = {"q": q, "k": k, "v": v, "bias": normal(1, 2, 9, 12), "sinks": normal(2)}
    named[wanted].requires_grad_()
    pairs = both(**named, dout=normal(1, 2, 9, 8))
    assert pairs.keys() == {"out", "lse", f"d{wanted}"}
    assert_close(pairs)


def test_the_lse_alone_in_the_loss() -> None:
    q, k, v = draw(9, 12, 8, grad=True)
    pairs = both(q, k, v, dlse=normal(1, 2, 9))
    assert_close(pairs)
    assert (pairs["dv"][0] == 0).all()


def test_no_gradient_wanted() -> None:
    q, k, v = draw(grad=True)
    with torch.no_grad():
        assert not kernels.attention(q, k, v).requires_grad
    assert not kernels.attention(*draw()).requires_grad


def test_inference_mode() -> None:
    with torch.inference_mode():
        q, k, v = draw(10, 12)
        cu_q, cu_k = (torch.tensor([0, 4, n], dtype=torch.int32) for n in (10, 12))
        slopes = torch.tensor([0.5, 0.25])
        options = {"cu_seqlens_q": cu_q, "cu_seqlens_k": cu_k, "alibi_slopes": slopes}
        out = kernels.attention(q, k, v, **options)
    torch.testing.assert_close(out.clone(), kernels.attention(q, k, v, **options).clone())


def test_a_second_derivative_is_refused() -> None:
    q, k, v = draw(9, 12, 8, grad=True)
    (first,) = torch.autograd.grad(kernels.attention(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="second derivatives are not computed"):
        torch.autograd.grad(first.sum(), q)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("dropout_p", [0.0, 0.4])
def test_checkpoint(use_reentrant: bool, dropout_p: float) -> None:
    """Computed again in the backward pass: a seed that is drawn, not given, is the same again."""

    def gradients(run: Any) -> tuple[torch.Tensor, ...]:
        q, k, v = draw(20, 24, grad=True)
        torch.manual_seed(7)
        return torch.autograd.grad((run(q, k, v) ** 2).sum(), (q, k, v))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return kernels.attention(2 * q, k, v, causal=True, dropout_p=dropout_p)

    def again(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return checkpoint(attend, q, k, v, use_reentrant=use_reentrant)

    if use_reentrant:  # whose gradients .backward() alone can take
        plain, redone = [], []
        for run, found in ((attend, plain), (again, redone)):
            tensors = draw(20, 24, grad=True)
            torch.manual_seed(7)
            (run(*tensors) ** 2).sum().backward()
            found += [t.grad for t in tensors]
    else:
        plain, redone = list(gradients(attend)), list(gradients(again))
    assert all(map(torch.equal, plain, redone))


def test_the_result_has_the_layout_of_q() -> None:
    """So that (B, T, H, D) viewed as (B, H, T, D) comes back without a copy; gradients too."""
    q, k, v = (laid_out(t, torch.float32, "transposed").requires_grad_() for t in draw(20, 20))
    out = kernels.attention(q, k, v)
    assert out.transpose(1, 2).is_contiguous()
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.transpose(1, 2).is_contiguous()
    expanded = q[:, :1].expand(1, 4, 20, 16)
    assert kernels.attention(expanded, k, v).is_contiguous()


def test_same_input_same_bits() -> None:
    def everything() -> list[torch.Tensor]:
        q, k, v = draw(33, 33, grad=True)
        bias, sinks = normal(1, 1, 33, 33).requires_grad_(), normal(2).requires_grad_()
        out = kernels.attention(q, k, v, bias=bias, sinks=sinks, dropout_p=0.2, seed=1)
        return [out, *torch.autograd.grad(out.sum(), (q, k, v, bias, sinks))]

    assert all(map(torch.equal, everything(), everything()))


def test_scale_zero_and_negative() -> None:
    q, k, v = draw(33, 20)
    uniform = v.double().mean(2, keepdim=True).expand(1, 2, 33, 16)
    out = kernels.attention(q, k, v, scale=0.0).double()
    torch.testing.assert_close(out, uniform, rtol=0, atol=1e-6)
    negative = kernels.attention(q, k, v, scale=-0.25)
    assert torch.equal(negative, kernels.attention(-q, k, v, scale=0.25))


def test_large_scores_do_not_overflow() -> None:
    """Scores of ±10,000: exp(s) alone is infinite; the maximum is subtracted first."""
    q, k, v = draw(20, 20, grad=True)
    out = kernels.attention(q * 100, k * 100, v, scale=1.0)
    exact, _ = reference.attention(q.double() * 100, k.double() * 100, v.double(), scale=1.0)
    assert (out - exact).abs().max() < 0.02
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (q, k, v)))


# ---- NaN and infinity


def test_nan_reaches_what_depends_on_it_and_nothing_else() -> None:
    q, k, v = draw(40, 40)
    clean = kernels.attention(q, k, v, causal=True)
    poisoned = q.clone()
    poisoned[0, 0, 5, 3] = torch.nan
    out = kernels.attention(poisoned, k, v, causal=True)
    assert out[0, 0, 5].isnan().all()
    rest = torch.ones(1, 2, 40, dtype=torch.bool)
    rest[0, 0, 5] = False
    assert torch.equal(out[rest], clean[rest])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_nan_and_infinity_in_a_key_reach_the_queries_that_see_it(bad: float) -> None:
    """An infinite key gives scores of ±inf: NaN where +inf, no weight where -inf, as in fp64."""
    q, k, v = draw(40, 40)
    clean = kernels.attention(q, k, v, causal=True)
    k[0, 1, 20, 2] = bad
    out = kernels.attention(q, k, v, causal=True)
    exact, _ = reference.attention(q.double(), k.double(), v.double(), causal=True)
    assert torch.equal(out.isnan(), exact.isnan()) and out[0, 1, 20:].isnan().any()
    assert torch.equal(out[0, 1, :20], clean[0, 1, :20]) and torch.equal(out[0, 0], clean[0, 0])


def test_memory_around_the_tensors_does_not_matter() -> None:
    """NaN before, after and between the rows of q, k and v; D = 24 is padded to 32 inside."""
    tensors = draw(33, 21, 24)
    want = kernels.attention(*tensors)
    got = kernels.attention(*(laid_out(t, t.dtype, "padded") for t in tensors))
    assert torch.equal(got, want)

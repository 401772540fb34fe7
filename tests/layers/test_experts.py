import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import (
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)

from minift.layers.experts import Experts, MixtureOfExperts, load_balancing_loss, route
from minift.layers.feed_forward import GatedFeedForward

SIZES = [(1, 1, 1, 1), (4, 2, 8, 12), (5, 5, 4, 4), (8, 1, 12, 4), (3, 2, 4, 8)]


def pair(experts, k, hidden, inner, act="silu"):
    """Ours and theirs with the same weights; theirs expert by expert, which takes all sizes."""
    torch.manual_seed(0)
    config = MixtralConfig(
        hidden_size=hidden, intermediate_size=inner, num_local_experts=experts, hidden_act=act,
        num_experts_per_tok=k, experts_implementation="eager",
    )  # fmt: skip
    theirs = MixtralSparseMoeBlock(config)
    ours = MixtureOfExperts(hidden, inner, act, experts, k)
    weights = (ours.router.weight, ours.experts.gate_up, ours.experts.down)
    others = (theirs.gate.weight, theirs.experts.gate_up_proj, theirs.experts.down_proj)
    with torch.no_grad():
        for mine, other in zip(weights, others, strict=True):
            other.copy_(mine.normal_())
    return ours, theirs, list(zip(weights, others, strict=True))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1), (3, 17)])
def test_as_theirs(sizes, shape):
    ours, theirs, weights = pair(*sizes)
    x = torch.randn(*shape, sizes[2])
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    (y, logits), wanted = ours(mine), theirs(other)
    assert logits.shape == (shape[0] * shape[1], sizes[0])
    assert torch.equal(y, wanted)
    y.sin().sum().backward()
    wanted.sin().sum().backward()
    for a, b in [(mine, other), *weights]:
        tolerance = 1e-6 * float(b.grad.abs().max()) + 2e-6
        assert float((a.grad - b.grad).abs().max()) <= tolerance


def test_all_experts_are_a_weighted_sum_of_networks():
    torch.manual_seed(0)
    experts, x = Experts(3, 4, 6, "gelu").double(), torch.randn(7, 4, dtype=torch.float64)
    with torch.no_grad():
        experts.gate_up.normal_(), experts.down.normal_()
    shares, chosen = route(torch.randn(7, 3, dtype=torch.float64), 3)
    assert shares.dtype == torch.float64
    wanted = torch.zeros(7, 4, dtype=torch.float64)
    for e in range(3):
        network = GatedFeedForward(4, 6, "gelu").double()
        network.gate.weight.data, network.up.weight.data = experts.gate_up.data[e].chunk(2)
        network.down.weight.data = experts.down.data[e]
        wanted += network(x) * shares[chosen == e][:, None]
    assert torch.allclose(experts(x, shares, chosen), wanted, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_route(k):
    torch.manual_seed(k)
    logits = torch.randn(11, 5)
    shares, chosen = route(logits.bfloat16(), k)
    assert shares.dtype == torch.float32 and shares.shape == chosen.shape == (11, k)
    assert torch.allclose(shares.sum(-1), torch.ones(11))
    shares, chosen = route(logits, k)
    for row in range(11):
        best = logits[row].sort(descending=True)
        assert torch.equal(chosen[row], best.indices[:k])
        # the softmax over the chosen alone is the same
        assert torch.allclose(shares[row], best.values[:k].softmax(0), atol=1e-6)


def test_unused_experts_have_no_gradient():
    ours, _, _ = pair(4, 1, 8, 12)
    y, logits = ours(torch.randn(1, 3, 8))
    y.sum().backward()
    used = set(logits.argmax(-1).tolist())
    for e in range(4):
        assert bool(ours.experts.down.grad[e].any()) == (e in used)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("experts", "k", "layers"), [(4, 2, 3), (5, 1, 1), (3, 3, 2)])
def test_balance_as_theirs(masked, experts, k, layers):
    torch.manual_seed(0)
    mask = (torch.rand(2, 6) > 0.4).long() if masked else None
    logits = [torch.randn(12, experts, requires_grad=True) for _ in range(layers)]
    again = [x.detach().clone().requires_grad_() for x in logits]
    mine = load_balancing_loss(logits, k, mask)
    wanted = load_balancing_loss_func(tuple(again), experts, k, mask)
    assert torch.allclose(mine, wanted, atol=1e-6)
    mine.backward()
    wanted.backward()
    for a, b in zip(logits, again, strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-7)


def test_balance_has_its_smallest_value_when_all_are_used_alike():
    even = torch.eye(4).repeat(5, 1) * 3
    assert float(load_balancing_loss([even], 1)) == pytest.approx(1.0)
    uneven = torch.tensor([[9.0, 0, 0, 0]]).repeat(20, 1)
    assert float(load_balancing_loss([uneven], 1)) == pytest.approx(4.0, abs=0.01)
    assert float(load_balancing_loss([uneven, even], 1)) < 4.0

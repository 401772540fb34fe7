"""The parts of the 2017 model: positions, smoothed labels, attention with its products."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

from minift.errors import InputError
from minift.layers.feed_forward import FeedForward
from minift.layers.loss import smoothed_cross_entropy
from minift.layers.multi_head import MultiHeadAttention
from minift.layers.sinusoidal import sinusoidal


@pytest.mark.parametrize("dim", [2, 6, 64])
def test_positions_equal_the_formula_and_marian(dim):
    places = torch.tensor([[0, 1, 2, 3], [9, 500, 4999, 7]])
    got = sinusoidal(places, dim)
    assert got.shape == (2, 4, dim) and got.dtype == torch.float32
    for row, column in ((0, 0), (0, 3), (1, 1), (1, 2)):
        for i in range(dim):
            angle = int(places[row, column]) / 10000 ** (2 * (i // 2) / dim)
            right = math.cos(angle) if i % 2 else math.sin(angle)
            assert float(got[row, column, i]) == pytest.approx(right, abs=1e-7)
    theirs = MarianSinusoidalPositionalEmbedding(500, dim)
    theirs.weight.data = theirs.create_weight()
    wanted = theirs((1, 500))
    ours = sinusoidal(torch.arange(500), dim)
    halves = torch.cat([ours[:, 0::2], ours[:, 1::2]], dim=1)  # all sines, then all cosines
    assert torch.equal(halves, wanted.float())


def test_a_step_turns_every_pair_by_the_same_angle():
    places = torch.arange(100)
    start, moved = (sinusoidal(places + s, 16).view(100, 8, 2) for s in (0, 5))  # pairs
    turn = 5 / 10000 ** (torch.arange(8) / 8)
    sin, cos = start[..., 0], start[..., 1]
    rotated = [sin * turn.cos() + cos * turn.sin(), cos * turn.cos() - sin * turn.sin()]
    assert float((torch.stack(rotated, -1) - moved).abs().max()) < 1e-6


@pytest.mark.parametrize("dim", [0, 7])
def test_positions_refuse_what_has_no_pairs(dim):
    with pytest.raises(InputError, match=f"dim: {dim}; right: an even number"):
        sinusoidal(torch.arange(3), dim)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 2), (4, 7), (3, 5, 11)])
def test_smoothed_loss_equals_pytorch(smoothing, shape):
    torch.manual_seed(sum(shape))
    logits = (3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    labels = torch.randint(0, shape[-1], shape[:-1])
    labels.view(-1)[1::3] = -100
    twin = logits.detach().clone().requires_grad_()
    loss = smoothed_cross_entropy(logits, labels, smoothing)
    flat = twin.flatten(0, -2), labels.flatten()
    wanted = F.cross_entropy(*flat, label_smoothing=smoothing)
    assert float((loss - wanted).detach().abs()) < 1e-14
    loss.backward()
    wanted.backward()
    assert float((logits.grad - twin.grad).abs().max()) < 1e-15


def test_smoothing_is_a_share():
    with pytest.raises(InputError, match=r"smoothing: 1.5; right: from 0 .* to 1"):
        smoothed_cross_entropy(torch.zeros(1, 3), torch.zeros(1, dtype=torch.int64), 1.5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("want", [True, False])
def test_multi_head_attention_equals_pytorch(bias, want):
    torch.manual_seed(0)
    ours = MultiHeadAttention(24, 3, qkv_bias=bias)
    theirs = nn.MultiheadAttention(24, 3, batch_first=True)
    parts = [ours.query, ours.key, ours.value]
    biases = torch.cat([part.bias for part in parts]) if bias else torch.zeros(72)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([part.weight for part in parts]),
            "in_proj_bias": biases,
            "out_proj.weight": ours.output.weight,
            "out_proj.bias": ours.output.bias,
        }
    )
    x, memory = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    real = torch.tensor([[1, 1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1, 1]]).bool()
    mine, maps = ours(x, ours.keys_values(memory), real[:, None, None], want)
    wanted, their_maps = theirs(x, memory, memory, ~real, average_attn_weights=False)
    assert float((mine - wanted).detach().abs().max()) < 1e-6
    assert (maps is not None) == want
    if want:
        assert float((maps - their_maps).detach().abs().max()) < 1e-6
    assert torch.equal(ours(x)[0], ours(x, ours.keys_values(x))[0])


def test_multi_head_attention_drops_weights_in_training_only():
    torch.manual_seed(0)
    layer, x = MultiHeadAttention(24, 3, dropout_p=0.5), torch.randn(2, 5, 24)
    for want in (True, False):
        assert not torch.equal(layer.train()(x, None, None, want)[0], layer(x, None, None, want)[0])
        assert torch.equal(layer.eval()(x, None, None, want)[0], layer(x, None, None, want)[0])


def test_feed_forward_drops_inside_only_when_asked():
    torch.manual_seed(0)
    layer, x = FeedForward(8, 50, "relu", 0.0, 0.5), torch.randn(3, 8)
    torch.manual_seed(1)
    got = layer(x)
    torch.manual_seed(1)
    assert torch.equal(got, layer.down(F.dropout(layer.up(x).relu(), 0.5)))
    assert torch.equal(layer.eval()(x), layer.down(layer.up(x).relu()))
    assert FeedForward(8, 50, "relu", 0.5).inner_dropout is None

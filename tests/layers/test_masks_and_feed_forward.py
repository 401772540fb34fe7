import pytest
import torch
from transformers.activations import ACT2FN

from minift.errors import InputError
from minift.layers.activation import ACTIVATIONS, activation
from minift.layers.feed_forward import FeedForward
from minift.layers.mask import causal_mask, padding_mask, position_ids


def test_padding_mask_is_none_without_padding():
    assert padding_mask(None) is None
    assert padding_mask(torch.ones(2, 3)) is None
    mask = padding_mask(torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert mask.dtype == torch.bool
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]


def test_causal_mask_is_aligned_to_the_end():
    assert causal_mask(3, 3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert causal_mask(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert causal_mask(1, 4).int().tolist() == [[1, 1, 1, 1]]


def test_a_window_leaves_the_last_keys():
    assert causal_mask(3, 3, window=2).int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    assert causal_mask(2, 4, window=2).int().tolist() == [[0, 1, 1, 0], [0, 0, 1, 1]]
    assert causal_mask(1, 4, window=1).int().tolist() == [[0, 0, 0, 1]]
    assert torch.equal(causal_mask(3, 5, window=5), causal_mask(3, 5))


def test_positions_are_counted_from_the_first_token():
    assert position_ids(None, 5, 5).tolist() == [[0, 1, 2, 3, 4]]
    assert position_ids(None, 5, 2).tolist() == [[3, 4]]
    rows = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0]])
    expected = [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 0, 0, 0, 0]]
    assert position_ids(padding_mask(rows), 5, 5).tolist() == expected
    assert position_ids(padding_mask(rows), 5, 2).tolist() == [row[3:] for row in expected]
    hole = torch.tensor([[0, 1, 0, 1, 1]])  # only tokens are counted
    assert position_ids(padding_mask(hole), 5, 5)[0, [1, 3, 4]].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name):
    x = torch.linspace(-9, 9, 1001)
    assert torch.equal(activation(name)(x), ACT2FN[name](x))


def test_an_unknown_activation_is_refused():
    with pytest.raises(InputError, match="activation function: unknown 'prelu'; known: gelu, "):
        activation("prelu")


def test_feed_forward_is_the_formula():
    torch.manual_seed(0)
    block = FeedForward(6, 10, "relu", dropout=0.0)
    x = torch.randn(2, 3, 6)
    w1, b1, w2, b2 = block.up.weight, block.up.bias, block.down.weight, block.down.bias
    wanted = (x @ w1.T + b1).clamp(min=0) @ w2.T + b2
    assert torch.allclose(block(x), wanted, atol=1e-6)
    dropped = FeedForward(6, 200, "relu", dropout=0.5)
    assert 0.4 < float((dropped(torch.randn(500, 6)) == 0).float().mean()) < 0.6

"""What 1-transformer/04_attention defines for teaching equals the library, on ragged shapes.

The definitions are taken from the notebook's source as they stand there. Each is broken here once,
in the ways that the lesson warns of, to see that the comparison would notice.
"""

import functools

import pytest
import torch
from torch import nn

from minift.course.lessons.notebooks import SOURCES, read_source
from minift.layers import attention as library
from minift.layers.mask import causal_mask, padding_mask
from minift.models.bert import BertAttention, BertConfig

LESSON = SOURCES / "1-transformer" / "04_attention.py"
# (B, H, M, N, D): one query, more keys than queries, a size of 1 in every place, odd sizes
SHAPES = [(1, 1, 1, 1, 1), (2, 1, 3, 3, 4), (1, 3, 1, 7, 5), (3, 2, 4, 9, 6), (2, 4, 33, 33, 16)]
# Two orders of summation differ by at most 1e-6 here, in outputs up to 3 and gradients up to 5.
TOLERANCE = {"rtol": 0, "atol": 4e-6}


@functools.cache
def cell(start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def defined(name, change=("", "")):
    """A function or class of the notebook, with one piece of its cells' text exchanged."""
    namespace = {"torch": torch, "Tensor": torch.Tensor, "nn": nn, "library": library}
    for start in ("def eager_attention", "class MultiHeadAttention"):
        exec(cell(start).replace(*change), namespace)
    return namespace[name]


def masks(b, m, n):
    """None, causal, and causal with the second half of the last text padded."""
    lengths = torch.full((b,), n)
    lengths[-1] = (n + 1) // 2
    padded = padding_mask((torch.arange(n)[None] < lengths[:, None]).long())
    causal = causal_mask(m, n)
    return [None, causal, causal if padded is None else causal & padded]


def results(attend, q, k, v, mask):
    """Output, weights, and the gradients of a fixed random projection of the output."""
    inputs = [t.clone().requires_grad_() for t in (q, k, v)]
    y, weights = attend(*inputs, mask=mask)
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    return [y, weights, *torch.autograd.grad((y * direction).sum(), inputs)]


def attention_cases():
    for seed, (b, h, m, n, d) in enumerate(SHAPES * 2):
        torch.manual_seed(seed)
        q, k, v = torch.randn(b, h, m, d), torch.randn(b, h, n, d), torch.randn(b, h, n, d)
        for mask in masks(b, m, n):
            yield q, k, v, mask


def same_attention(attend):
    return all(
        torch.allclose(mine, right, **TOLERANCE)
        for case in attention_cases()
        for mine, right in zip(
            results(attend, *case), results(library.eager_attention, *case), strict=True
        )
    )


def same_layer(layer_class):
    """Whether the notebook's layer is the part of the library's BERT layer that it stands for."""
    for seed, (b, h, m, _, d) in enumerate(SHAPES):
        torch.manual_seed(seed)
        config = BertConfig(hidden_size=h * d, num_attention_heads=h)
        right, mine = BertAttention(config).eval(), layer_class(h * d, h)
        for parameter in right.parameters():
            nn.init.normal_(parameter, std=0.5)
        unplaced = mine.load_state_dict(right.state_dict(), strict=False)
        assert unplaced.unexpected_keys == ["norm.weight", "norm.bias"]
        x = torch.randn(b, m, h * d)
        for mask in masks(b, m, m):
            expected = right(x, mask, False)[0]
            if not torch.allclose(right.norm(mine(x, mask) + x), expected, **TOLERANCE):
                return False
    return True


def test_attention_equals_the_librarys():
    assert same_attention(defined("eager_attention"))


def test_the_layer_equals_the_librarys():
    assert same_layer(defined("MultiHeadAttention"))


@pytest.mark.parametrize(
    "change",
    [
        (" / q.shape[-1] ** 0.5", ""),
        ("q.shape[-1] ** 0.5", "q.shape[-2] ** 0.5"),
        ("q.shape[-1] ** 0.5", "q.shape[-1]"),
        ("~mask", "mask"),
        ("s = s.masked_fill", "s.masked_fill"),
        ("s.softmax(dim=-1)", "s.softmax(dim=-2)"),
        ("weights @ v, weights", "weights @ v, s"),
    ],
)
def test_a_bug_in_the_attention_is_noticed(change):
    assert change[0] in cell("def eager_attention")
    assert not same_attention(defined("eager_attention", change))


@pytest.mark.parametrize(
    "change",
    [
        ("self.query(x), self.key(x)", "self.key(x), self.query(x)"),
        ("(part, self.heads) for", "(part, 1) for"),
        (
            "library.split_heads(part, self.heads)",
            "part.reshape(len(x), self.heads, len(x[0]), -1)",
        ),
        ("library.merge_heads(y)", "y.reshape(x.shape)"),
        ("k, v, mask=mask", "k, v"),
        ("self.output(library.merge_heads(y))", "library.merge_heads(y)"),
    ],
)
def test_a_bug_in_the_layer_is_noticed(change):
    assert change[0] in cell("class MultiHeadAttention")
    assert not same_layer(defined("MultiHeadAttention", change))

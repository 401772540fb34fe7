"""Answers to the exercises on the modern decoder and on experts, in other words than their own.

Right ones pass, however they are written; wrong ones are recognised by what they do.
"""

import pytest
import torch
import torch.nn.functional as F

from minift.course import examine
from minift.layers.rotary import Rope, rotate


def pairs_in_place(x, positions, base):
    d, out = x.shape[-1], torch.empty_like(x)
    for i in range(d // 2):
        angle = positions.float() * base ** (-2 * i / d)
        a, b = x[..., 2 * i].float(), x[..., 2 * i + 1].float()
        out[..., 2 * i] = a * angle.cos() - b * angle.sin()
        out[..., 2 * i + 1] = a * angle.sin() + b * angle.cos()
    return out


def pairs_through_the_library(x, positions, base):
    """The library turns halves: bring neighbours there, and back."""
    d = x.shape[-1]
    order = torch.arange(d).view(-1, 2).T.flatten()
    rope = Rope(head_dim=d, max_position_embeddings=64, rope_theta=base)
    rotation = rope.rotation(positions[None], torch.float32)
    turned = rotate(x[None].float()[..., order], rotation)[0]
    return turned[..., order.argsort()].to(x.dtype)


def groups_by_reshape(q, k, v):
    b, h, m, d = q.shape
    n, groups = k.shape[2], k.shape[1]
    scores = (q.view(b, groups, -1, m, d) @ k[:, :, None].transpose(-2, -1)) * d**-0.5
    hidden = torch.arange(n)[None] > torch.arange(n - m, n)[:, None]
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
    return (weights @ v[:, :, None]).reshape(b, h, m, d)


def count_matrix_by_matrix(vocab, width, inner, layers, heads, kv_heads, head_dim, tied):
    shapes = [(width, heads * head_dim)] * 2 + [(width, kv_heads * head_dim)] * 2
    shapes += [(width, inner)] * 3 + [(width, 1)] * 2
    once = vocab * width + width + (0 if tied else vocab * width)
    return once + layers * sum(rows * columns for rows, columns in shapes)


def mix_all_experts(x, router, up, down, k):
    """Every expert for every token, with shares that are mostly 0."""
    scores = x @ router.T
    least = scores.topk(k, dim=-1).values[:, -1:]
    shares = scores.masked_fill(scores < least, float("-inf")).softmax(-1)
    answers = torch.einsum("ecf,tef->tec", down, torch.einsum("efc,tc->tef", up, x).relu())
    return torch.einsum("te,tec->tc", shares, answers)


def capacity_by_sorting(chosen, capacity):
    flat = chosen.T.reshape(-1)
    order = flat.argsort(stable=True)
    same = flat[order]
    first = torch.searchsorted(same, same)
    served = torch.empty_like(flat, dtype=torch.bool)
    served[order] = torch.arange(len(flat)) - first < capacity
    return served.view(chosen.shape[1], chosen.shape[0]).T


def balance_by_weights(probabilities, real):
    weight = real.to(probabilities.dtype)[:, None] / real.sum()
    experts = probabilities.shape[1]
    f = (F.one_hot(probabilities.argmax(1), experts) * weight).sum(0)
    return (f * (probabilities * weight).sum(0)).sum() * experts


RIGHT = {
    "decoder.turn_pairs": [pairs_in_place, pairs_through_the_library],
    "decoder.mend_groups": [groups_by_reshape],
    "decoder.count_parameters": [count_matrix_by_matrix],
    "experts.mix_experts": [mix_all_experts],
    "experts.within_capacity": [capacity_by_sorting],
    "experts.mend_balance": [balance_by_weights],
}


@pytest.mark.parametrize(("name", "fn"), [(name, fn) for name, fns in RIGHT.items() for fn in fns])
def test_a_right_answer_passes_however_it_is_written(name, fn):
    outcome = examine(name, fn)
    assert outcome.state == "right", str(outcome)
    assert outcome.verified


def pairs_the_other_way(x, positions, base):
    return pairs_in_place(x, -positions, base)


def pairs_from_zero(x, positions, base):
    return pairs_in_place(x, torch.arange(x.shape[1]), base)


def groups_of_torch(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def mix_with_all_shares(x, router, up, down, k):
    shares = (x @ router.T).softmax(-1)
    dropped = shares < shares.topk(k, dim=-1).values[:, -1:]
    answers = torch.einsum("ecf,tef->tec", down, torch.einsum("efc,tc->tef", up, x).relu())
    return torch.einsum("te,tec->tc", shares.masked_fill(dropped, 0.0), answers)


def capacity_row_by_row(chosen, capacity):
    seen, rows = {}, []
    for row in chosen.tolist():
        rows.append([])
        for expert in row:
            seen[expert] = seen.get(expert, 0) + 1
            rows[-1].append(seen[expert] <= capacity)
    return torch.tensor(rows)


def balance_of_everything(probabilities, real):
    return balance_by_weights(probabilities, torch.ones_like(real))


@pytest.mark.parametrize(
    ("name", "fn", "part"),
    [
        ("decoder.turn_pairs", pairs_the_other_way, "turn the other way"),
        ("decoder.turn_pairs", pairs_from_zero, "counted from 0 whatever is given"),
        ("decoder.mend_groups", groups_of_torch, "upper left corner"),
        ("experts.mix_experts", mix_with_all_shares, "do not sum to 1"),
        ("experts.within_capacity", capacity_row_by_row, "token by token"),
        ("experts.mend_balance", balance_of_everything, "Padding counts"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_recognised_by_what_it_does(name, fn, part):
    outcome = examine(name, fn)
    assert outcome.state == "wrong"
    assert part in outcome.failure.mistake, str(outcome)

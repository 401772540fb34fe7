"""clinic.mend_attention: a decoder's attention with four bugs, none of which raises an error."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals, Gradient, keeps_dtype


def attended(b: int, h: int, kv: int, t: int, d: int, seed: int, angle: float = 1.0) -> Inputs:
    """Random q, k, v and the rotation of each position."""
    q, k, v = (normal(b, n, t, d, seed=seed + i) for i, n in enumerate((h, kv, kv)))
    frequencies = 10.0 ** -torch.arange(d // 2)
    angles = angle * torch.arange(t)[:, None] * frequencies  # (T, D/2)
    return {"q": q, "k": k, "v": v, "cos": angles.cos(), "sin": angles.sin()}


def one_token() -> Iterator[Inputs]:
    yield attended(1, 1, 1, 1, 2, seed=0)
    yield attended(2, 2, 2, 1, 4, seed=1)


def unrotated() -> Iterator[Inputs]:
    for seed, (h, t, d) in enumerate([(1, 2, 2), (2, 5, 4), (3, 7, 8)], 10):
        yield attended(1, h, h, t, d, seed, angle=0.0)


def rotated() -> Iterator[Inputs]:
    for seed, (b, h, t, d) in enumerate([(1, 1, 3, 4), (2, 2, 6, 8), (1, 3, 9, 6)], 20):
        yield attended(b, h, h, t, d, seed)


def grouped() -> Iterator[Inputs]:
    for seed, (h, kv, t, d) in enumerate([(4, 2, 3, 4), (6, 3, 5, 2), (8, 2, 7, 4)], 30):
        yield attended(1, h, kv, t, d, seed)
        yield attended(2, h, 1, t, d, seed + 60)


equals = Equals(
    "gives keys to neighbouring queries", grouped, "Queries 0 and 1 share key head 0, and so on."
)

exercise = Exercise(
    "clinic.mend_attention",
    "Debug: four bugs in a decoder's attention",
    properties=(
        Equals("is right for one token", one_token, "A single token sees itself: the result is v."),
        Equals("is right where nothing is rotated", unrotated, "The scale, or the mask."),
        Equals("rotates as Llama does", rotated, "Which two features make a pair?"),
        equals,
        keeps_dtype(equals, torch.float64),
        Gradient("has the right gradient", grouped, "Every value is used by several queries."),
    ),
    hints=(
        "The clinic's way: test the parts one at a time. Without rotation and with as many key as "
        "query heads there are two bugs: one in the scale, one in the mask.",
        "Llama rotates feature j together with feature j + D/2: `x.chunk(2, dim=-1)`. The stub "
        "takes neighbours and puts the results back in halves.",
        "With 4 query heads and 2 key heads, queries 0, 1 use key head 0 and queries 2, 3 use key "
        "head 1: `repeat_interleave`, where `repeat` gives 0, 1, 0, 1.",
    ),
)


@exercise.stub
def mend_attention(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Llama's attention: softmax(rotated q · rotated k / √D) v, causal, grouped heads.

    q: (B, H, T, D); k, v: (B, H_kv, T, D), H a multiple of H_kv; cos, sin: (T, D/2). Returns
    (B, H, T, D). There are four bugs in here. Find and mend them.
    """

    def rotate(x: Tensor) -> Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1)
    scores = rotate(q) @ rotate(k).transpose(-2, -1) / q.shape[-1]
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


@exercise.solution
def solution(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    def rotate(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = rotate(q) @ rotate(k).transpose(-2, -1) / q.shape[-1] ** 0.5
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


@exercise.reference
def from_transformers(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

    wide = [torch.cat([part, part], dim=-1)[None].double() for part in (cos, sin)]
    q, k = apply_rotary_pos_emb(q.double(), k.double(), *wide)
    group = q.shape[1] // k.shape[1]
    return torch.nn.functional.scaled_dot_product_attention(
        q, repeat_kv(k, group), repeat_kv(v.double(), group), is_causal=True
    )


exercise.slip(
    "neighbours_rotated",
    "x.chunk(2, dim=-1)",
    "(x[..., 0::2], x[..., 1::2])",
    "Neighbouring features are rotated as a pair; Llama's pairs are j and j + D/2.",
)
exercise.slip(
    "heads_in_turn",
    "k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)",
    "k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1)",
    "`repeat` gives the key heads out in turn, 0, 1, 0, 1; neighbours share one: "
    "`repeat_interleave`.",
)
exercise.slip(
    "divided_by_d",
    "q.shape[-1] ** 0.5",
    "q.shape[-1]",
    "The scores are divided by D; it has to be √D.",
)
exercise.slip(
    "sees_the_future",
    ".tril()",
    ".triu()",
    "Each query sees the future instead of the past: `triu` where `tril` is right.",
)
exercise.slip(
    "values_in_turn",
    "v.repeat_interleave(group, dim=1)",
    "v.repeat(1, group, 1, 1)",
    "The keys are given out in groups, the values still in turn: both need the same order.",
)
exercise.slip(
    "rotated_backwards",
    "first * cos - second * sin, second * cos + first * sin",
    "first * cos + second * sin, second * cos - first * sin",
    "The rotation goes backwards: the first half is x₁ cos − x₂ sin.",
)

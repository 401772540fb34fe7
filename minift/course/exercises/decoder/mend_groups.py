"""decoder.mend_groups: grouped-query attention with three bugs, each hidden by kind sizes."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals, Gradient


def of(h: int, kv: int, m: int, n: int, d: int, seed: int) -> Inputs:
    return {
        "q": normal(1, h, m, d, seed=seed),
        "k": normal(1, kv, n, d, seed=100 + seed),
        "v": normal(1, kv, n, d, seed=200 + seed),
    }


def one_kv_head() -> Iterator[Inputs]:
    yield of(1, 1, 2, 2, 4, 0)
    yield of(4, 1, 5, 5, 4, 1)


def groups() -> Iterator[Inputs]:
    yield of(4, 2, 2, 2, 4, 2)
    for seed, (h, kv, t) in enumerate([(6, 2, 3), (6, 3, 5), (8, 4, 7), (12, 3, 2)]):
        yield of(h, kv, t, t, 4, 3 + seed)


def wide() -> Iterator[Inputs]:
    for seed, d in enumerate((1, 8, 16, 5)):
        yield of(4, 2, 3, 3, d, 10 + seed)


def cached() -> Iterator[Inputs]:
    yield of(2, 1, 1, 3, 4, 20)
    for seed, (m, n) in enumerate([(2, 4), (1, 9), (3, 5), (5, 11)]):
        yield of(6, 3, m, n, 6, 21 + seed)


def all_of_them() -> Iterator[Inputs]:
    for cases in (groups, wide, cached):
        yield from cases()


exercise = Exercise(
    "decoder.mend_groups",
    "Debug: three bugs in grouped-query attention",
    properties=(
        Equals("is right for one head of keys", one_kv_head, "This held before: undo."),
        Equals("gives each group its own keys", groups, "Query heads 0 and 1 share key head 0."),
        Equals("scales by the head's own width", wide, "√D, D: the last dimension of q."),
        Equals("is right with cached keys", cached, "The queries are the last of all positions."),
        Gradient(
            "has the right gradient", all_of_them, "Some result does not depend on its input."
        ),
    ),
    hints=(
        "Change one thing at a time, and compare with what you expect: two heads of keys; another "
        "width than 4; more keys than queries. Each of them shows a bug.",
        "`repeat` writes 0 1 0 1, `repeat_interleave` writes 0 0 1 1. Which of them puts a head of "
        "keys beside the group of queries that it serves?",
        "`tril()` starts in the upper left corner; with N − M cached keys the diagonal has to move "
        "to the right: `tril(N − M)`.",
    ),
)


@exercise.stub
def mend_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention in which H / H_kv neighbouring query heads share one head of keys.

    q: (B, H, M, D); k, v: (B, H_kv, N, D), N >= M: the queries are the last M of N positions.
    Returns (B, H, M, D). This function has three bugs. Find and mend them.
    """
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)
    scores = q @ k.transpose(-2, -1) / 2
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~visible, float("-inf")).softmax(dim=-1) @ v


@exercise.solution
def solution(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    return scores.masked_fill(~visible, float("-inf")).softmax(dim=-1) @ v


@exercise.reference
def by_torch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    m, n = q.shape[2], k.shape[2]
    places = torch.arange(n)
    mask = places[None] <= places[n - m :, None]
    return F.scaled_dot_product_attention(
        q.double(), k.double(), v.double(), attn_mask=mask, enable_gqa=True
    )


exercise.slip(
    "tiled",
    "k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)",
    "k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)",
    "The heads of keys are tiled, 0 1 0 1: a group of neighbouring query heads needs 0 0 1 1.",
)
exercise.slip(
    "values_tiled",
    "v.repeat_interleave(times, dim=1)",
    "v.repeat(1, times, 1, 1)",
    "The keys are right, the values are still tiled: both go to the same groups.",
)
exercise.slip(
    "fixed_scale",
    "q.shape[-1] ** 0.5",
    "2",
    "The scale is still 2, which is √D for D = 4 only.",
)
exercise.slip(
    "scale_of_the_group",
    "q.shape[-1] ** 0.5",
    "(times * q.shape[-1]) ** 0.5",
    "D is the width of one head; how many share the keys does not matter.",
)
exercise.slip(
    "from_the_start",
    "tril(k.shape[2] - q.shape[2])",
    "tril()",
    "The mask starts in the upper left corner: with cached keys the new queries see too little.",
)
exercise.slip(
    "no_mask_when_cached",
    "tril(k.shape[2] - q.shape[2])",
    "tril(k.shape[2] if k.shape[2] > q.shape[2] else 0)",
    "With cached keys nothing is hidden: of several new queries each sees those behind it.",
)

"""attention.scores: how well each query matches each key."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, H, M, N, D): one query, more keys than queries, odd sizes, a size of 1 in every place
SHAPES = [(1, 1, 2, 3, 1), (2, 1, 1, 5, 4), (1, 3, 4, 2, 7), (2, 2, 5, 5, 16), (3, 2, 7, 9, 64)]


def cases() -> Iterator[Inputs]:
    yield {"q": counting(1, 1, 1, 4), "k": counting(1, 1, 2, 4, start=2)}
    for seed, (b, h, m, n, d) in enumerate(SHAPES * 3):
        q, k = normal(b, h, m, d, seed=seed), normal(b, h, n, d, seed=100 + seed)
        yield {"q": q, "k": strided(k) if seed % 2 else k}


equals = Equals(
    "equals q kᵀ / √D in fp64",
    cases,
    "Score (i, j) is the dot product of query i with key j, divided by √D.",
)

exercise = Exercise(
    "attention.scores",
    "Scaled dot-product scores",
    in_library=("kernels.reference.attention_scores",),
    properties=(
        equals,
        keeps_dtype(equals, torch.float64, torch.float16, torch.bfloat16),
        Gradient("has the right gradient", cases, "The gradient differs from that of q kᵀ / √D."),
    ),
    hints=(
        "A matrix product is many dot products at once: row i of the left with column j of the "
        "right. Which of the two has to be turned so that its columns are keys?",
        "`k.transpose(-2, -1)` exchanges the last two dimensions: (B, H, N, D) → (B, H, D, N).",
        "D is `q.shape[-1]`; divide the product by `D ** 0.5`.",
    ),
)


@exercise.stub
def scores(q: Tensor, k: Tensor) -> Tensor:
    """S[b, h, i, j] = q[b, h, i] · k[b, h, j] / √D.

    q: (B, H, M, D), k: (B, H, N, D), any float dtype. Returns (B, H, M, N) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


@exercise.reference
def in_double(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bhmd,bhnd->bhmn", q.double(), k.double()) / math.sqrt(q.shape[-1])


@exercise.mistake("The scores are not divided by √D: they grow with the head's width.")
def unscaled(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1)


@exercise.mistake("The scores are divided by D; the variance of a dot product asks for √D.")
def divided_by_d(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / q.shape[-1]


@exercise.mistake("D was taken from the wrong dimension: it is the last one, `q.shape[-1]`.")
def scaled_by_length(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / q.shape[-2] ** 0.5


@exercise.mistake("Rows and columns are exchanged: row i belongs to query i, not to key i.")
def keys_first(q: Tensor, k: Tensor) -> Tensor:
    return k @ q.transpose(-2, -1) / q.shape[-1] ** 0.5


@exercise.mistake("`.float()` made the result fp32; it has to come back in the dtype of q.")
def always_fp32(q: Tensor, k: Tensor) -> Tensor:
    return q.float() @ k.float().transpose(-2, -1) / q.shape[-1] ** 0.5

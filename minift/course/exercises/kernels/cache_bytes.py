"""kernels.cache_bytes: what one new token reads of the cache, predicted, then measured."""

from collections.abc import Iterator

import torch

from kernels.decoding import decode_attention
from kernels.lab import check as watch
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def of(
    layers: int, heads: int, kv_heads: int, d: int, length: int, dtype: torch.dtype = torch.float32
) -> Inputs:
    names = ("layers", "heads", "kv_heads", "head_dim", "length", "dtype")
    return dict(zip(names, (layers, heads, kv_heads, d, length, dtype), strict=True))


def one_head() -> Iterator[Inputs]:
    yield of(1, 1, 1, 16, 10)
    yield of(1, 1, 1, 16, 100)


def heads_and_layers() -> Iterator[Inputs]:
    yield of(1, 3, 3, 16, 20)
    yield of(4, 2, 2, 32, 33)


def dtypes() -> Iterator[Inputs]:
    yield of(2, 2, 2, 16, 17, torch.float16)
    yield of(2, 2, 2, 16, 17, torch.bfloat16)


def shared() -> Iterator[Inputs]:
    yield of(2, 4, 2, 16, 50)
    yield of(3, 8, 1, 24, 31, torch.float16)
    rng = draw(0)
    yield of(rng.randint(2, 4), 6, rng.choice((2, 3)), 8 * rng.randint(2, 6), rng.randint(9, 70))


exercise = Exercise(
    "kernels.cache_bytes",
    "What one new token reads of the cache",
    properties=(
        Equals("equals what is measured for one head", one_head, "Keys and values."),
        Equals("counts heads and layers", heads_and_layers, "Each layer has a cache."),
        Equals("counts in the dtype of the cache", dtypes, "16 bits are 2 bytes."),
        Equals("counts a shared head once", shared, "The cache holds kv_heads, not heads."),
    ),
    hints=(
        "A key is head_dim numbers, and so is a value. The new token looks at `length` of each, in "
        "every key head of every layer.",
        "dtype.itemsize is the number of bytes of one number.",
    ),
)


@exercise.stub
def cache_bytes(
    layers: int, heads: int, kv_heads: int, head_dim: int, length: int, dtype: torch.dtype
) -> int:
    """The bytes of keys and values that attention reads to generate one token of one text.

    `length` positions are in the cache. Query heads (`heads`) that share a key head are handled
    by one program, so that each key and value is read once.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    layers: int, heads: int, kv_heads: int, head_dim: int, length: int, dtype: torch.dtype
) -> int:
    return 2 * layers * kv_heads * length * head_dim * dtype.itemsize


@exercise.reference
def measured(
    layers: int, heads: int, kv_heads: int, head_dim: int, length: int, dtype: torch.dtype
) -> int:
    q = torch.zeros(1, heads, 1, head_dim, dtype=dtype)
    k, v = torch.zeros(2, 1, kv_heads, length, head_dim, dtype=dtype)
    with watch() as report:
        for _ in range(layers):
            decode_attention(q, k, v)
    return sum(report.traffic[name].loaded for name in ("k.ptr", "v.ptr"))


exercise.slip(
    "keys_only",
    "2 * layers",
    "layers",
    "Only keys (or only values) are counted: both are read.",
)
exercise.slip(
    "one_layer",
    "2 * layers * kv_heads",
    "2 * kv_heads",
    "Each layer has its own keys and values: times `layers`.",
)
exercise.slip(
    "query_heads",
    "layers * kv_heads",
    "layers * heads",
    "The cache holds key heads: query heads that share one read it once.",
)
exercise.slip(
    "four_bytes",
    "dtype.itemsize",
    "4",
    "Not every number has four bytes: dtype.itemsize.",
)
exercise.slip(
    "squared",
    "length * head_dim",
    "length * length * head_dim",
    "One token asks `length` keys once: nothing here grows with the square.",
)
exercise.slip(
    "scores_counted",
    "return 2 * layers * kv_heads * length * head_dim * dtype.itemsize",
    "return layers * length * (2 * kv_heads * head_dim * dtype.itemsize + 4 * heads)",
    "Scores are counted, too: they stay in registers.",
)
exercise.slip(
    "heads_of_a_group",
    "layers * kv_heads",
    "layers * (heads // kv_heads)",
    "heads // kv_heads query heads share one key head: the cache holds kv_heads of them.",
)

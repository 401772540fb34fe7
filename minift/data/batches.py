"""From examples of different lengths to padded batches that waste little."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from minift.errors import InputError

Batch = dict[str, Tensor]


def length_buckets(
    lengths: Sequence[int], batch_size: int, *, seed: int, pool: int = 20
) -> list[list[int]]:
    """Indices of examples by batch: shuffled, yet examples of like length stand together.

    Examples are shuffled, cut into pools of ``pool`` batches, sorted by length inside a pool and
    cut into batches, and the batches are shuffled. Every index occurs exactly once. Padding then
    costs little, and the order still differs from epoch to epoch (pass another seed).
    """
    if batch_size < 1:
        raise InputError(f"batch_size: given {batch_size}; right would be 1 or more")
    generator = random.Random(seed)
    order = generator.sample(range(len(lengths)), len(lengths))
    batches = []
    for start in range(0, len(order), pool * batch_size):
        near = sorted(order[start : start + pool * batch_size], key=lambda i: lengths[i])
        batches += [near[i : i + batch_size] for i in range(0, len(near), batch_size)]
    return generator.sample(batches, len(batches))


def pad(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    """Rows of integers as one ``(B, T)`` int64 tensor, padded on the right to the longest."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])

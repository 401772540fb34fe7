"""Batches: nothing lost, little padding, the same order for the same seed."""

import random

import pytest
import torch

from minift.data.batches import length_buckets, pad
from minift.errors import InputError


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 333])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_every_example_once(count, batch_size):
    lengths = [random.Random(count).randrange(1, 60) for _ in range(count)]
    batches = length_buckets(lengths, batch_size, seed=3)
    assert sorted(i for batch in batches for i in batch) == list(range(count))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert len(batches) == -(-count // batch_size)


def test_little_padding_and_another_order_each_seed():
    generator = random.Random(0)
    lengths = [generator.randrange(5, 100) for _ in range(2000)]
    batches = length_buckets(lengths, 16, seed=0)
    padded = sum(len(b) * max(lengths[i] for i in b) for b in batches)
    assert padded < 1.10 * sum(lengths)  # a plain shuffle pads to 1.8 times the sum
    assert batches == length_buckets(lengths, 16, seed=0)
    assert batches != length_buckets(lengths, 16, seed=1)
    means = [sum(lengths[i] for i in b) / len(b) for b in batches]
    assert means != sorted(means)


def test_pad():
    assert torch.equal(pad([[1], [2, 3], []], 9), torch.tensor([[1, 9], [2, 3], [9, 9]]))


def test_batch_size_zero():
    with pytest.raises(InputError, match="batch_size: given 0; right would be 1 or more"):
        length_buckets([1], 0, seed=0)

"""Offsets beyond 2**31 elements, forward and backward.

The tensors are virtual: their strides span up to 14 GB of addresses, of which a few pages exist.
"""

import resource

import pytest
import torch
from attention_offsets import BIAS_STRIDES, FAR_APART, far_apart, reach

import kernels.flash_attention


@pytest.mark.parametrize("what", FAR_APART)
def test_offsets_over_31_bits(what: str) -> None:
    shape, strides = FAR_APART[what]
    farthest = reach((1, 1, 5, 8), BIAS_STRIDES) if what == "bias" else reach(shape, strides)
    assert farthest > torch.iinfo(torch.int32).max
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert far_apart(kernels.flash_attention, what)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} kB of real memory"  # measured: 8,000

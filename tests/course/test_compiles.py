"""The property of a kernel that a GPU's compiler takes it, and that its numbers fit."""

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from minift.course.launch import Compiles
from minift.course.trial import Counterexample


@triton.jit
def doubled(x_ptr, BLOCK: tl.constexpr):
    """Loads all, adds up all, stores all: every lane's number is alive until the end."""
    i = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i)
    tl.store(x_ptr + i, x * tl.sum(x, 0))


@triton.jit
def refused(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), tl.arange(0, 3))


def compiles(block, spilled=0):
    def cases():
        constants = {"BLOCK": block, "num_warps": 1}
        yield {"args": (torch.empty(block),), "constants": constants}

    return Compiles("compiles", cases, "", spilled=spilled)


def test_what_fits_is_taken():
    assert compiles(1024).verify(None, doubled) == 1


def test_what_spills_is_not_unless_it_may():
    with pytest.raises(
        Counterexample, match="bytes of a thread's numbers go through local"
    ) as found:
        compiles(16384).verify(None, doubled)
    assert "registers" in found.value.mistake
    assert compiles(16384, spilled=100_000).verify(None, doubled) == 1


def test_what_the_compiler_refuses_is_said_in_its_words():
    with pytest.raises(Counterexample, match="power of 2"):
        compiles(4).verify(None, refused)

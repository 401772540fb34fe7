"""What 1-transformer/03_embeddings_and_positions computes by hand equals the library."""

import functools

import pytest
import torch

from minift.course.lessons.notebooks import SOURCES, read_source
from minift.layers.rotary import Rope, rotate
from minift.layers.sinusoidal import sinusoidal

LESSON = SOURCES / "1-transformer" / "03_embeddings_and_positions.py"


@functools.cache
def cell(start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def table(change=("", "")):
    """The notebook's table of sines and cosines: (64, 32)."""
    lines = cell("speed = 10000").split("print(")[0].replace(*change)
    namespace = {"torch": torch}
    exec(lines, namespace)
    return namespace["table"]


def same_table(mine):
    return torch.allclose(mine, sinusoidal(torch.arange(64), 32), rtol=0, atol=1e-5)


def turned(change=("", "")):
    """The notebook's turn of one pair."""
    namespace = {"torch": torch, "Tensor": torch.Tensor}
    exec(cell("def turned(").split("\n\n\n")[0].replace(*change), namespace)
    return namespace["turned"]


def same_turn(turn):
    """Whether it is the library's rotation of a head with one pair."""
    rope = Rope(head_dim=2, max_position_embeddings=64)
    for position in (0, 1, 5, 40):
        x = torch.randn(2, generator=torch.Generator().manual_seed(position))
        rotation = rope.rotation(torch.tensor([[position]]), x.dtype)
        right = rotate(x.view(1, 1, 1, 2), rotation).flatten()
        if not torch.allclose(turn(x, float(position)), right, atol=1e-5):
            return False
    return True


def test_the_table_equals_the_librarys():
    assert same_table(table())


def test_the_turn_equals_the_librarys():
    assert same_turn(turned())


@pytest.mark.parametrize(
    "change",
    [
        ("-torch.arange(0, 32, 2)", "-torch.arange(16)"),
        ("(t * speed).sin(), (t * speed).cos()", "(t * speed).cos(), (t * speed).sin()"),
        ("dim=-1).flatten(1)", "dim=1).flatten(1)"),
        ("torch.arange(64)", "torch.arange(1, 65)"),
    ],
)
def test_a_bug_in_the_table_is_noticed(change):
    assert change[0] in cell("speed = 10000")
    assert not same_table(table(change))


@pytest.mark.parametrize(
    "change",
    [("cos - x[1]", "cos + x[1]"), ("sin + x[1]", "sin - x[1]"), ("angle).sin()", "angle).cos()")],
)
def test_a_bug_in_the_turn_is_noticed(change):
    assert change[0] in cell("def turned(")
    assert not same_turn(turned(change))

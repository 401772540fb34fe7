"""Comparing one value with the right one."""

import math

import pytest
import torch

from minift.course.compare import difference
from minift.course.show import MAX_CHARACTERS, kind, show

EPS = torch.finfo(torch.float32).eps
NAN, INF = math.nan, math.inf


def aspect(got, right, **options):
    found = difference(got, right, **options)
    return found and found.aspect


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (torch.ones(3), torch.ones(3)),
        (torch.tensor([NAN, INF, -INF]), torch.tensor([NAN, INF, -INF])),
        (torch.tensor([], dtype=torch.float32), torch.tensor([], dtype=torch.float32)),
        (torch.tensor([True, False]), torch.tensor([True, False])),
        ([1, 2], [1, 2]),
        ([], []),
        (("a", 1, 2), ("a", 1, 2)),
        ((0.1 + 0.2, 1.0), (0.3, 1.0)),
        (1, 1.0),
        ("word", "word"),
        ({"a": torch.ones(1)}, {"a": torch.ones(1)}),
    ],
)
def test_equal_values_do_not_differ(got, right):
    assert difference(got, right) is None


@pytest.mark.parametrize(
    ("got", "right", "where"),
    [
        ([1.0], torch.ones(1), "type"),
        (torch.ones(2, 3), torch.ones(3, 2), "shape"),
        (torch.ones(1), torch.ones(()), "shape"),
        (torch.ones(2).double(), torch.ones(2), "dtype"),
        (torch.ones(2).long(), torch.ones(2).bool(), "dtype"),
        (torch.tensor([NAN]), torch.tensor([1.0]), "value"),
        (torch.tensor([1.0]), torch.tensor([NAN]), "value"),
        (torch.tensor([INF]), torch.tensor([-INF]), "value"),
        (torch.tensor([1e30]), torch.tensor([INF]), "value"),
        (torch.tensor([0.0]), torch.tensor([1e-30]), "value"),
        (torch.tensor([2]), torch.tensor([3]), "value"),
        ((1, 2), [1, 2], "type"),
        ([1], [1, 2], "length"),
        ([1, 2, 3], [1, 2], "length"),
        ([1, 3], [1, 2], "value"),
        ([("PER", 0, 1)], [("LOC", 0, 1)], "value"),
        ([["PER", 0, 1]], [("PER", 0, 1)], "type"),
        (True, 1, "type"),
        ("1", 1, "type"),
        (1.0 + 1e-8, 1.0, "value"),
        (NAN, 0.5, "value"),
        ("a", "b", "value"),
        (None, "", "value"),
        ({"a": 1}, {"a": 1, "b": 2}, "type"),
        ({"a": 2}, {"a": 1}, "value"),
    ],
)
def test_different_values_differ_in_the_aspect_named(got, right, where):
    assert aspect(got, right) == where


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_the_tolerance_counts_ulps_of_the_largest_value(scale):
    right = torch.tensor([1.0, 0.001, 0.0], dtype=torch.float64) * scale
    near = (right + 3 * EPS * scale).float()
    assert difference(near, right, ulps=4, dtype=torch.float32) is None
    assert aspect((right + 6 * EPS * scale).float(), right, ulps=4, dtype=torch.float32) == "value"


def test_a_zero_tensor_has_no_tolerance():
    assert aspect(torch.tensor([1e-30]), torch.tensor([0.0])) == "value"


def test_values_that_look_alike_say_how_far_apart_they_are():
    right = torch.tensor([0.5], dtype=torch.float64)
    assert difference(right + 1e-9, right).yours == "float64 (1,) [0.5], off by 1e-09"


def test_show_is_short_and_rounded():
    assert show(torch.tensor([[1.0, 1 / 3]])) == "float32 (1, 2) [[1, 0.3333]]"
    assert show(torch.tensor([True, False])) == "bool (2,) [1, 0]"
    assert show(torch.zeros(5, 5)) == "float32 (5, 5)"
    assert show({"a": 1, "b": "x"}) == "a = 1, b = 'x'"
    assert show(ValueError("no")) == "ValueError: no"
    assert show((torch.zeros(1), 2)) == "(float32 (1,) [0], 2)"
    assert show(2 / 3) == "0.6667"
    assert len(show(list(range(1000)))) <= MAX_CHARACTERS
    assert show("two\nlines") == "'two\\nlines'"


def test_kind_names_types_in_words():
    assert kind(torch.zeros(2, 3).half()) == "float16 tensor of shape (2, 3)"
    assert kind([1]) == "list"

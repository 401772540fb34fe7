"""What 1-transformer/11_generation defines for teaching does what it says, on small texts.

The definitions are taken from the notebook's source as they stand there. Each is broken here once
or twice, to see that the comparison would notice.
"""

import functools
import math

import pytest
import torch

from minift.course.lessons.notebooks import SOURCES, read_source
from minift.generation.cache import KVCache
from minift.generation.state import CausalState, DecodingState

LESSON = SOURCES / "1-transformer" / "11_generation.py"
TEXT = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(0))


@functools.cache
def cell(start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def defined(name, change=("", ""), **known):
    """A function or class of the notebook, with one piece of its cell's text exchanged."""
    start = f"class {name}" if name[0].isupper() else f"def {name}"
    whole = cell(start)
    assert change[0] in whole
    lines = whole[whole.index(start) :].replace(*change).splitlines()
    end = next((i for i, line in enumerate(lines[1:], 1) if line and line[0] != " "), len(lines))
    namespace = {"torch": torch, "Tensor": torch.Tensor, "KVCache": KVCache, **known}
    exec("\n".join(lines[:end]), namespace)
    return namespace[name]


def by_counting(context):
    """P(next word | up to three words), from the sentence in the notebook, in plain Python."""
    words = TEXT.tolist()
    p = [1 / 5] * 5
    for memory in range(len(context) + 1):
        last = context[len(context) - memory :]
        found = [words[i + memory] for i in range(200 - memory) if words[i : i + memory] == last]
        p = [(found.count(w) + 5 * p[w]) / (len(found) + 5) for w in range(5)]
    return p


def same_archive(change=("", "")):
    archive = defined("Archive", change)(TEXT, 5)
    texts = [[0], [1, 2], [3, 3, 4], [0, 1, 2, 3, 4], [2, 2, 2, 2]]
    return all(
        torch.allclose(
            archive.next_logits(torch.tensor([text]))[0].double().exp(),
            torch.tensor(by_counting(text[-3:]), dtype=torch.float64),
            atol=1e-6,
        )
        for text in texts
    )


def test_the_archive_counts():
    assert same_archive()
    p = defined("Archive")(TEXT, 5).next_logits(torch.tensor([[0, 1, 2], [4, 4, 4]])).exp().sum(1)
    assert torch.allclose(p, torch.ones(2), atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        ("row[-3:]", "row[-2:]"),
        ("self.text[len(context) :][found]", "self.text[: -len(context) or None][found]"),
        ("range(len(context) + 1)", "range(len(context))"),
        ("(count.sum() + 5)", "count.sum().clamp(min=1)"),
    ],
)
def test_a_bug_in_the_archive_is_noticed(change):
    assert not same_archive(change)


@pytest.mark.parametrize("name", ["Archive", "Table"])
def test_both_are_what_the_loop_asks_for(name):
    wanted = {key for key in vars(DecodingState) if not key.startswith("_")}
    assert wanted == {"next_logits", "reorder"}
    assert wanted <= vars(defined(name)).keys()
    assert wanted <= vars(CausalState).keys()


def test_surprise_is_in_bits():
    archive = defined("Archive")(TEXT, 5)
    ids = torch.tensor([0, 1, 2, 3, 4, 0])
    got = defined("surprise", archive=archive)(ids)
    for place, bits in enumerate(got.tolist(), start=3):
        p = by_counting(ids[place - 3 : place].tolist())[int(ids[place])]
        assert bits == pytest.approx(-math.log2(p), abs=1e-4)
    broken = defined("surprise", ("ids[i - 3 : i]", "ids[i - 2 : i + 1]"), archive=archive)(ids)
    assert not torch.allclose(broken, got, atol=1e-2)


def test_repeated_counts_runs_of_four():
    repeated = defined("repeated")
    assert repeated(torch.arange(10)) == 0.0
    assert repeated(torch.tensor([1, 2, 3, 4, 1, 2, 3, 4])) == pytest.approx(1 / 5)
    assert repeated(torch.zeros(9).long()) == pytest.approx(5 / 6)


def test_the_stuck_cache_follows_once():
    """Only the first change of rows, when prompts are copied; the beams' later ones are ignored."""
    cache = defined("Stuck")()
    k = torch.arange(3.0).view(3, 1, 1, 1)
    cache.update(0, k, k)
    cache.reorder(torch.tensor([0, 0, 1, 1, 2, 2]))
    assert cache._layers[0][0].flatten().tolist() == [0, 0, 1, 1, 2, 2]
    cache.reorder(torch.tensor([1, 0, 3, 3, 5, 4]))
    assert cache._layers[0][0].flatten().tolist() == [0, 0, 1, 1, 2, 2]

"""before.words_seen: predict how far a stack of convolutions looks back."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def one_layer() -> Iterator[Inputs]:
    for width in (1, 2, 3, 7):
        yield {"widths": [width], "gaps": [1]}


def without_gaps() -> Iterator[Inputs]:
    for widths in ([2, 2], [3, 3], [3, 5], [1, 4, 1], [2, 3, 4, 5], [3] * 6):
        yield {"widths": widths, "gaps": [1] * len(widths)}


def with_gaps() -> Iterator[Inputs]:
    yield {"widths": [3], "gaps": [2]}
    yield {"widths": [2, 2, 2, 2], "gaps": [1, 2, 4, 8]}
    for seed in range(12):
        rng = draw(seed)
        layers = rng.randint(1, 4)
        widths = [rng.randint(1, 5) for _ in range(layers)]
        yield {"widths": widths, "gaps": [rng.choice((1, 2, 3, 4, 8)) for _ in range(layers)]}


exercise = Exercise(
    "before.words_seen",
    "Predict: how far does a stack of convolutions look back?",
    properties=(
        Equals("one layer sees its window", one_layer, "The word itself is one of them."),
        Equals("layers on top of each other", without_gaps, "Each adds w − 1 words."),
        Equals("windows with gaps", with_gaps, "A window of w words has w − 1 gaps."),
    ),
    hints=(
        "Draw two layers of width 3 over seven words, and mark what the last place of the upper "
        "layer depends on.",
        "The oldest place that a layer looks at is (w − 1) · gap before. What does that place, one "
        "layer further down, look at?",
        "The steps back add up, layer by layer; the word itself is one more.",
    ),
)


@exercise.stub
def words_seen(widths: list[int], gaps: list[int]) -> int:
    """How many words back, itself included, the result for a word can depend on.

    Layer n is a convolution whose window has widths[n] places, gaps[n] apart: with width 3 and gap
    2 they are words t − 4, t − 2 and t. A place in between that is left out counts, too: the answer
    is the distance to the oldest word that matters, plus 1.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(widths: list[int], gaps: list[int]) -> int:
    return 1 + sum((width - 1) * gap for width, gap in zip(widths, gaps, strict=True))


@exercise.reference
def by_asking_a_network(widths: list[int], gaps: list[int]) -> int:
    """A stack with all weights 1: how far does a 1 at the first word spread?"""
    x = torch.zeros(1, 1, 200, dtype=torch.float64)
    x[..., 0] = 1
    for width, gap in zip(widths, gaps, strict=True):
        padded = F.pad(x, ((width - 1) * gap, 0))
        x = F.conv1d(padded, torch.ones(1, 1, width, dtype=torch.float64), dilation=gap)
    return int(x[0, 0].nonzero().max()) + 1


@exercise.mistake("The widths were multiplied: each layer adds steps back, it does not multiply.")
def product_of_widths(widths: list[int], gaps: list[int]) -> int:
    seen = 1
    for width, gap in zip(widths, gaps, strict=True):
        seen *= 1 + (width - 1) * gap
    return seen


exercise.slip(
    "sum_of_windows",
    "1 + sum((width - 1) * gap",
    "sum((1 + (width - 1) * gap)",
    "Each layer counted its own word again: windows overlap in one place.",
)
exercise.slip(
    "without_itself",
    "1 + sum(",
    "sum(",
    "The word itself is missing: a window of width 1 sees one word.",
)
exercise.slip(
    "no_gaps",
    "(width - 1) * gap",
    "(width - 1)",
    "The gaps are missing: w places that are d apart reach (w − 1) · d words back.",
)
exercise.slip(
    "gaps_of_the_whole_window",
    "(width - 1) * gap",
    "(width * gap - 1)",
    "A window of w places has w − 1 gaps between them: (w − 1) · d, not w · d − 1.",
)

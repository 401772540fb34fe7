"""bert.pair_input: two sentences become one input, with the token types that tell them apart."""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

CLS, SEP = 101, 102


def fitting() -> Iterator[Inputs]:
    yield {"first": [7, 8], "second": [9], "longest": 10}
    yield {"first": [7, 8], "second": [9], "longest": 6}
    for seed in range(3):
        yield _random(seed, 40)


def too_long() -> Iterator[Inputs]:
    yield {"first": [1, 2, 3, 4, 5], "second": [6, 7], "longest": 8}
    yield {"first": [6, 7], "second": [1, 2, 3, 4, 5], "longest": 8}


def both_too_long() -> Iterator[Inputs]:
    yield {"first": [1, 2, 3, 4], "second": [5, 6, 7, 8], "longest": 7}
    yield {"first": [1, 2, 3, 4, 5, 6], "second": [5, 6, 7, 8], "longest": 8}
    for seed in range(10):
        yield _random(10 + seed, 7 + seed)


def _random(seed: int, longest: int) -> Inputs:
    rng = draw(seed)
    first, second = ([rng.randint(200, 999) for _ in range(rng.randint(1, 15))] for _ in "ab")
    return {"first": first, "second": second, "longest": longest}


exercise = Exercise(
    "bert.pair_input",
    "Two sentences, one input",
    properties=(
        Equals("frames a pair that fits", fitting, "[CLS] first [SEP] second [SEP]."),
        Equals("shortens the longer one", too_long, "Take from the end of the longer one."),
        Equals(
            "shortens until it fits", both_too_long, "One token at a time: which is longer now?"
        ),
    ),
    hints=(
        "The framing takes three places. How many are left for the two sentences?",
        "`while len(first) + len(second) > room:` take the last token off the longer one, and off "
        "the second if both are equally long.",
        "Types: 0 for [CLS], the first sentence and its [SEP]; 1 for the second and its [SEP].",
    ),
)


@exercise.stub
def pair_input(first: list[int], second: list[int], longest: int) -> tuple[list[int], list[int]]:
    """[CLS] first [SEP] second [SEP] as ids, and the token type of each: 0 up to the first [SEP].

    [CLS] is 101, [SEP] is 102. At most `longest` tokens: while there are more, the longer sentence
    loses its last one; of two equally long ones, the second does. Returns (ids, types).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(first: list[int], second: list[int], longest: int) -> tuple[list[int], list[int]]:
    first, second = list(first), list(second)
    while len(first) + len(second) > longest - 3:
        longer = first if len(first) > len(second) else second
        longer.pop()
    ids = [101, *first, 102, *second, 102]
    return ids, [0] * (len(first) + 2) + [1] * (len(second) + 1)


@exercise.reference
def by_lengths(first: list[int], second: list[int], longest: int) -> tuple[list[int], list[int]]:
    room = longest - 3
    n, m = len(first), len(second)
    if n + m > room:
        half = room // 2
        if min(n, m) > half:  # both lose: the first one keeps the odd place
            n, m = room - half, half
        else:
            n, m = (n, room - n) if n < m else (room - m, m)
    types = [0, *([0] * n), 0, *([1] * m), 1]
    return [CLS, *first[:n], SEP, *second[:m], SEP], types


exercise.slip(
    "no_last_separator",
    "*second, 102]",
    "*second]",
    "The second sentence needs a [SEP] behind it, too.",
)
exercise.slip(
    "types_from_the_separator",
    "[0] * (len(first) + 2) + [1] * (len(second) + 1)",
    "[0] * (len(first) + 1) + [1] * (len(second) + 2)",
    "The first [SEP] still belongs to the first sentence: its type is 0.",
)
exercise.slip(
    "framing_not_counted",
    "longest - 3",
    "longest",
    "[CLS] and two [SEP] take three of the places.",
)
exercise.slip(
    "first_loses_at_a_tie",
    "if len(first) > len(second)",
    "if len(first) >= len(second)",
    "Of two equally long sentences the second loses a token.",
)
exercise.slip(
    "only_the_second",
    "first if len(first) > len(second) else second",
    "second",
    "Only the second sentence was shortened; the longer of the two loses a token.",
)


@exercise.mistake("The end was cut off, with its [SEP]: shorten the sentences, then frame them.")
def cut_at_the_end(
    first: list[int], second: list[int], longest: int
) -> tuple[list[int], list[int]]:
    ids = [101, *first, 102, *second, 102]
    types = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    return ids[:longest], types[:longest]

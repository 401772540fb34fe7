"""seq2seq.relative_bucket: into which of T5's buckets a distance falls."""

import math
from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def of(distance: int, buckets: int = 32, far: int = 128) -> Inputs:
    return {"distance": distance, "buckets": buckets, "far": far}


def behind() -> Iterator[Inputs]:
    yield of(0)
    yield from (of(-d) for d in range(1, 8))
    yield from (of(-d, 16, 20) for d in range(4))
    yield from (of(-d, 64, 300) for d in (3, 15))


def ahead() -> Iterator[Inputs]:
    yield from (of(d) for d in (1, -1, 2, -2, 3, 4, 5, 6, 7))
    yield from (of(d, 16, 20) for d in range(1, 4))
    yield from (of(d, 64, 300) for d in (1, 14, 15))


def exact_end() -> Iterator[Inputs]:
    for sign in (-1, 1):
        yield from (of(sign * d) for d in (8, 9, 11))
        yield of(sign * 4, 16, 20)
        yield of(sign * 16, 64, 300)


def coarse() -> Iterator[Inputs]:
    for d in (13, 20, 30, 40, 55, 100, 127):
        yield of(-d)
        yield of(d)
    rng = draw(0)
    for buckets, far in ((16, 20), (64, 300), (8, 50), (12, 33), (32, 128)):
        for _ in range(6):
            distance = rng.randint(buckets // 4, far - 1)
            if not _on_an_edge(distance, buckets, far):
                yield of(rng.choice((-1, 1)) * distance, buckets, far)


def beyond() -> Iterator[Inputs]:
    for buckets, far in ((32, 128), (16, 20), (8, 50)):
        for d in (far, far + 1, 10 * far):
            yield of(-d, buckets, far)
            yield of(d, buckets, far)


def _on_an_edge(distance: int, buckets: int, far: int) -> bool:
    """Where rounding decides between two buckets: no right answer is to depend on it."""
    exact = buckets // 4
    steps = math.log(distance / exact) / math.log(far / exact) * (buckets // 2 - exact)
    return distance > exact and abs(steps - round(steps)) < 1e-6


exercise = Exercise(
    "seq2seq.relative_bucket",
    "The bucket of a distance",
    properties=(
        Equals("gives near keys behind one bucket each", behind, "Bucket n for distance −n."),
        Equals("gives keys ahead the upper half", ahead, "buckets / 2 more than the same behind."),
        Equals("widens the buckets where it should", exact_end, "From distance buckets / 4 on."),
        Equals("widens them by the logarithm", coarse, "Equal factors of distance, equal steps."),
        Equals("has a last bucket", beyond, "From `far` on there is one bucket for all."),
    ),
    hints=(
        "Forget the sign first: n = |distance| and half of the buckets. The upper half comes in as "
        "a number that is added at the end.",
        "exact = half / 2 buckets are for n = 0, 1, …, exact − 1. For the others, ask which share "
        "of the way from exact to far is done, on a scale of logarithms: log(n / exact) / "
        "log(far / exact), from 0 to 1.",
        "exact + int(share · (half − exact)), and never more than half − 1.",
    ),
)


@exercise.stub
def relative_bucket(distance: int, buckets: int, far: int) -> int:
    """The bucket of a key that stands `distance` places after its query, in a T5 encoder.

    Half of the buckets are for keys at or before the query (distance <= 0), counted from 0, the
    other half for those after it. In each half, n = |distance| has a bucket of its own for
    n < buckets / 4 = exact. Up to n = far, the rest of the half grows with the logarithm: exact +
    the whole part of log(n / exact) / log(far / exact) · exact. The last bucket holds all beyond.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(distance: int, buckets: int, far: int) -> int:
    half = buckets // 2
    exact, n = half // 2, abs(distance)
    bucket = n
    if n >= exact:
        share = math.log(n / exact) / math.log(far / exact)
        bucket = min(exact + int(share * (half - exact)), half - 1)
    return bucket + half if distance > 0 else bucket


@exercise.reference
def in_whole_numbers(distance: int, buckets: int, far: int) -> int:
    half, n = buckets // 2, abs(distance)
    exact = half // 2
    steps = half - exact
    if n >= exact:
        # log(n / exact) / log(far / exact) ≥ k / steps, without a logarithm
        passed = (n**steps >= far**k * exact ** (steps - k) for k in range(1, steps))
        n = exact + sum(passed)
    return n + half * (distance > 0)


exercise.slip(
    "upper_half_behind",
    "distance > 0",
    "distance < 0",
    "The halves are exchanged: keys after the query get the upper half.",
)
exercise.slip(
    "zero_is_ahead",
    "distance > 0",
    "distance >= 0",
    "The query itself, distance 0, belongs to the lower half: bucket 0.",
)
exercise.slip(
    "sign_forgotten",
    "return bucket + half if distance > 0 else bucket",
    "return bucket",
    "Before and after share their buckets: an encoder has to tell them apart.",
)
exercise.slip(
    "all_exact",
    "exact, n = half // 2, abs(distance)",
    "exact, n = half - 1, abs(distance)",
    "Too many distances have a bucket of their own: exact is buckets / 4.",
)
exercise.slip(
    "quarter_forgotten",
    "half = buckets // 2",
    "half = buckets",
    "All buckets went to one direction: only half of them are for it.",
)
exercise.slip(
    "wrong_base",
    "math.log(far / exact)",
    "math.log(far)",
    "The share does not reach 1 at `far`: both logarithms are of numbers divided by exact.",
)
exercise.slip(
    "linear",
    "math.log(n / exact) / math.log(far / exact)",
    "(n - exact) / (far - exact)",
    "The buckets grow evenly: near distances then share one, which is what the logarithm is for.",
)
exercise.slip(
    "rounded",
    "int(share * (half - exact))",
    "round(share * (half - exact))",
    "The share was rounded: its whole part counts (`int`).",
)
exercise.slip(
    "no_last_bucket",
    "min(exact + int(share * (half - exact)), half - 1)",
    "exact + int(share * (half - exact))",
    "Far distances run out of their half: no bucket is beyond half − 1.",
)

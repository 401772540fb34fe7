"""kernels.causal_tiles: which tiles of keys a program needs, and which of them without a mask."""

from collections.abc import Iterator

import torch

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def cases(*sizes: tuple[int, int, int, int]) -> Iterator[Inputs]:
    """Every program of a call with M queries, N keys and tiles of block_m × block_n."""
    for m, n, block_m, block_n in sizes:
        for first in range(0, m, block_m):
            yield {"first": first, "block_m": block_m, "block_n": block_n, "M": m, "N": n}


def square() -> Iterator[Inputs]:
    yield from cases((8, 8, 2, 2), (16, 16, 4, 4))


def unequal() -> Iterator[Inputs]:
    yield from cases((16, 16, 4, 2), (16, 16, 2, 4), (24, 24, 8, 2))


def shifted() -> Iterator[Inputs]:
    yield from cases((4, 8, 2, 2), (1, 8, 4, 4), (8, 24, 4, 2), (6, 9, 2, 2))


def ragged() -> Iterator[Inputs]:
    yield from cases((7, 7, 2, 2), (5, 5, 4, 2), (1, 1, 4, 4), (13, 17, 4, 8), (33, 50, 16, 4))
    for seed in range(3):
        rng = draw(seed)
        m = rng.randint(3, 40)
        yield from cases((m, m + rng.randint(0, 20), rng.choice((2, 4, 8)), rng.choice((2, 4, 8))))


exercise = Exercise(
    "kernels.causal_tiles",
    "Full, partial and skipped tiles under a causal mask",
    properties=(
        Equals("counts in square tiles", square, "The last query sees most, the first least."),
        Equals("counts in tiles of any shape", unequal, "The diagonal may cross several tiles."),
        Equals("aligns the mask to the end when N > M", shifted, "Query i sees up to i + N - M."),
        Equals("counts when nothing divides evenly", ragged, "The last tile may be short."),
    ),
    hints=(
        "Query i sees the keys 0 … i + N - M, which are i + N - M + 1 of them.",
        "A tile is full when the first query of the program sees all of it: count whole tiles in "
        "first + 1 + N - M keys, rounding down.",
        "A tile is needed when the last query of the program sees some of it: round up. The last "
        "query is min(first + block_m, M) - 1.",
    ),
)


@exercise.stub
def causal_tiles(first: int, block_m: int, block_n: int, M: int, N: int) -> tuple[int, int]:
    """(full, end): tiles 0 … full-1 need no mask, full … end-1 need one, the rest is skipped.

    The program owns queries first … first + block_m - 1, as far as there are such (i < M).
    Query i sees key j when j <= i + N - M; M <= N. Tile t holds keys t·block_n to
    (t + 1)·block_n - 1, and is full only if all of them exist and every query sees them.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(first: int, block_m: int, block_n: int, M: int, N: int) -> tuple[int, int]:
    least = first + 1 + N - M
    most = min(first + block_m, M) + N - M
    return least // block_n, -(-most // block_n)


@exercise.reference
def by_looking(first: int, block_m: int, block_n: int, M: int, N: int) -> tuple[int, int]:
    i, j = torch.arange(first, min(first + block_m, M))[:, None], torch.arange(N)
    tiles = (j <= i + N - M).split(block_n, 1)
    full = [bool(tile.all()) and tile.shape[1] == block_n for tile in tiles]
    return sum(full), sum(bool(tile.any()) for tile in tiles)


exercise.slip(
    "diagonal_left_out",
    "first + 1 + N - M",
    "first + N - M",
    "Query i sees itself, too: i + 1 keys when M = N, not i.",
)
exercise.slip(
    "full_for_the_last_query",
    "least // block_n",
    "most // block_n",
    "Full for the last query is not full for the first: the first one sees least.",
)
exercise.slip(
    "not_shifted",
    "first + 1 + N - M",
    "first + 1",
    "Full tiles are counted as if M = N: query i sees N - M keys more.",
)
exercise.slip(
    "all_tiles",
    "-(-most // block_n)",
    "-(-N // block_n)",
    "Tiles that no query here sees are still walked over: stop at the last query's last key.",
)
exercise.slip(
    "end_rounded_down",
    "-(-most // block_n)",
    "most // block_n",
    "The last tile is needed even if only some of its keys are seen: round up.",
)
exercise.slip(
    "queries_past_the_end",
    "min(first + block_m, M) + N - M",
    "first + block_m + N - M",
    "Queries past the end are counted: the last one is M - 1.",
)
exercise.slip(
    "one_mask_tile",
    "return least // block_n, -(-most // block_n)",
    "return -(-most // block_n) - 1, -(-most // block_n)",
    "Not just the last tile needs a mask: with block_m > block_n the diagonal crosses several.",
)

FRACTIONS = "`/` gives fractions of tiles: a program walks over whole ones, so divide with `//`."
exercise.slip(
    "fractions_of_tiles",
    "least // block_n, -(-most // block_n)",
    "least / block_n, most / block_n",
    FRACTIONS,
)
exercise.slip("a_fraction_full", "least // block_n", "least / block_n", FRACTIONS)

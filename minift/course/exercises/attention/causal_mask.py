"""attention.causal_mask: which keys a query may see when some positions are cached."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def square() -> Iterator[Inputs]:
    for n in (2, 1, 3, 7, 64):
        yield {"queries": n, "keys": n}


def cached() -> Iterator[Inputs]:
    for m, n in ((2, 4), (1, 3), (3, 5), (1, 64), (5, 64), (63, 64)):
        yield {"queries": m, "keys": n}
    for seed in range(3):
        rng = draw(seed)
        n = rng.randint(5, 60)
        yield {"queries": rng.randint(1, n - 1), "keys": n}


exercise = Exercise(
    "attention.causal_mask",
    "The causal mask, with cached keys",
    in_library=("minift.layers.mask.causal_mask",),
    properties=(
        Equals(
            "each query sees itself and what came before it",
            square,
            "With as many queries as keys, row i is True up to and including column i.",
        ),
        Equals(
            "with cached keys, the queries are the last positions",
            cached,
            "Query i stands at position i + keys - queries among the keys.",
        ),
    ),
    hints=(
        "Begin with as many queries as keys: key j may be seen by query i when j ≤ i.",
        "With N keys and M queries the first N - M keys are older than every query. At which "
        "position among the keys does query i stand?",
        "`torch.ones(M, N, dtype=torch.bool).tril(diagonal)` keeps what lies on and below a "
        "diagonal; diagonal 0 starts in the upper left corner. Move it right by N - M.",
    ),
)


@exercise.stub
def causal_mask(queries: int, keys: int) -> Tensor:
    """True where a query may see a key: itself and everything before it.

    The queries are the last `queries` of `keys` positions (the earlier ones are in the cache), so
    queries <= keys. Returns a bool tensor of shape (queries, keys).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)


@exercise.reference
def one_at_a_time(queries: int, keys: int) -> Tensor:
    positions = range(keys)[keys - queries :]
    return torch.tensor([[key <= position for key in range(keys)] for position in positions])


@exercise.mistake(
    "The mask starts in the upper left corner, as `tril()` and PyTorch's `is_causal` do; with "
    "cached keys it has to end in the lower right one."
)
def aligned_to_the_start(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril()


@exercise.mistake("A query does not see itself: the diagonal belongs to the mask (≤, not <).")
def without_the_diagonal(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries - 1)


@exercise.mistake("True and False are exchanged: True is asked for where a key may be seen.")
def hidden_is_true(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)


@exercise.mistake("Each query sees the future instead of the past: `triu` where `tril` is right.")
def sees_the_future(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries)


@exercise.mistake("The mask is made of numbers; a bool tensor is asked for (`dtype=torch.bool`).")
def made_of_numbers(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys).tril(keys - queries)

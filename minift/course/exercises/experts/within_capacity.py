"""experts.within_capacity: which choices fit when each expert has room for a few tokens only."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def choices(tokens: int, k: int, experts: int, seed: int) -> Tensor:
    """Distinct experts in each row, the first ones far more often than the last."""
    rng = draw(seed)
    rows = []
    for _ in range(tokens):
        rows.append(sorted(range(experts), key=lambda e: rng.random() * (e + 1))[:k])
    return torch.tensor(rows)


def first_choices() -> Iterator[Inputs]:
    yield {"chosen": torch.tensor([[0], [0], [1], [0]]), "capacity": 2}
    for seed, (t, e, room) in enumerate([(5, 2, 1), (9, 3, 2), (20, 4, 5), (1, 1, 1)]):
        yield {"chosen": choices(t, 1, e, seed), "capacity": room}


def second_choices() -> Iterator[Inputs]:
    yield {"chosen": torch.tensor([[0, 1], [1, 0]]), "capacity": 1}
    yield {"chosen": torch.tensor([[2, 0], [2, 1], [0, 2]]), "capacity": 1}
    for seed, (t, k, e, room) in enumerate([(6, 2, 3, 2), (11, 3, 4, 3), (30, 2, 8, 4)]):
        yield {"chosen": choices(t, k, e, 10 + seed), "capacity": room}


def extremes() -> Iterator[Inputs]:
    yield {"chosen": torch.tensor([[0, 1], [1, 0]]), "capacity": 0}
    yield {"chosen": choices(7, 2, 3, 20), "capacity": 100}


exercise = Exercise(
    "experts.within_capacity",
    "Which choices an expert has room for",
    properties=(
        Equals(
            "gives the places to the first who come",
            first_choices,
            "Each expert takes `capacity` tokens, the earliest ones.",
        ),
        Equals(
            "serves all first choices before any second one",
            second_choices,
            "The order is: slot 0 of every token, then slot 1 of every token, and so on.",
        ),
        Equals("is right with no room and with plenty", extremes, "Nothing fits; all fit."),
    ),
    hints=(
        "Two loops will do: over the slots outside, over the tokens inside. What do you count on "
        "the way?",
        "Keep how many tokens each expert has, in a dictionary or list; a choice is kept while its "
        "expert has fewer than `capacity`.",
        "Without loops: lay the choices out slot by slot, `chosen.T.flatten()`, make them one-hot, "
        "and `cumsum(0)` counts how many came up to here.",
    ),
)


@exercise.stub
def within_capacity(chosen: Tensor, capacity: int) -> Tensor:
    """Which choices are served when each expert takes at most `capacity` of them.

    chosen: (T, k), the experts of each token, its best one first; whole numbers from 0 on. First
    choices come before second ones, and among those earlier tokens come first; a choice that is
    turned away takes no place. Returns a bool tensor (T, k): True where the choice is served.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(chosen: Tensor, capacity: int) -> Tensor:
    in_order = chosen.T.flatten()  # slot by slot: (k · T,)
    arrived = torch.nn.functional.one_hot(in_order).cumsum(0)  # (k · T, experts), oneself included
    number = arrived.gather(1, in_order[:, None]).squeeze(1)  # 1, 2, 3, … at one's expert
    return (number <= capacity).view(chosen.T.shape).T


@exercise.reference
def by_queues(chosen: Tensor, capacity: int) -> Tensor:
    held: dict[int, int] = {}
    served = torch.zeros(chosen.shape, dtype=torch.bool)
    for slot in range(chosen.shape[1]):
        for token in range(chosen.shape[0]):
            expert = int(chosen[token, slot])
            if held.get(expert, 0) < capacity:
                held[expert] = held.get(expert, 0) + 1
                served[token, slot] = True
    return served


@exercise.mistake(
    "The order is token by token: the second choice of an early token takes the place of the "
    "first choice of a later one."
)
def token_by_token(chosen: Tensor, capacity: int) -> Tensor:
    flat = chosen.flatten()
    arrived = torch.nn.functional.one_hot(flat).cumsum(0)
    return (arrived.gather(1, flat[:, None]) <= capacity).view(chosen.shape)


@exercise.mistake("One too few: an expert with room for c takes c, not c − 1 (≤, not <).")
def one_too_few(chosen: Tensor, capacity: int) -> Tensor:
    return by_queues(chosen, max(capacity - 1, 0))


@exercise.mistake("One too many: the token itself has to be counted before it is compared.")
def one_too_many(chosen: Tensor, capacity: int) -> Tensor:
    return by_queues(chosen, capacity + 1)


@exercise.mistake(
    "Each slot starts with empty experts: the places that first choices took are gone."
)
def a_room_for_each_slot(chosen: Tensor, capacity: int) -> Tensor:
    return torch.cat([by_queues(column[:, None], capacity) for column in chosen.T], dim=1)


@exercise.mistake("The latest tokens get the places; the earliest should.")
def the_last_ones(chosen: Tensor, capacity: int) -> Tensor:
    return by_queues(chosen.flip(0), capacity).flip(0)


@exercise.mistake("The capacity is that of one expert; here all of them share it.")
def one_room_for_all(chosen: Tensor, capacity: int) -> Tensor:
    places = torch.arange(chosen.numel()).view(chosen.T.shape).T
    return places < capacity


@exercise.mistake("Numbers came back; a bool tensor is asked for.")
def as_numbers(chosen: Tensor, capacity: int) -> Tensor:
    return solution(chosen, capacity).long()

"""generation.mend_writer: a greedy loop for a batch, with three bugs that one short text hides."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals

NAMES = ("table", "ids", "eos", "pad", "new_tokens")
# after 0 comes 1, then 2, then 3, then 0 again
ROUND = 5.0 * torch.eye(4).roll(1, 1)


def of(table: Tensor, ids: list[list[int]], eos: int, pad: int, new_tokens: int) -> Inputs:
    return dict(zip(NAMES, (table, torch.tensor(ids), eos, pad, new_tokens), strict=True))


def without_an_end() -> Iterator[Inputs]:
    yield of(ROUND, [[0]], -1, -1, 3)
    yield of(ROUND, [[2, 1], [1, 3]], -1, -1, 4)


def one_text_ends() -> Iterator[Inputs]:
    yield of(ROUND, [[0]], 2, 9, 5)
    yield of(ROUND, [[1, 3]], 3, 9, 8)
    yield of(ROUND, [[0]], 1, 9, 5)


def several_texts_end() -> Iterator[Inputs]:
    yield of(ROUND, [[0], [1]], 3, 9, 5)
    yield of(ROUND, [[0, 2], [3, 1], [1, 0]], 3, 9, 6)
    yield of(ROUND, [[0], [0]], 2, 9, 5)
    for seed in range(12):
        rng = draw(seed)
        size, length = rng.randint(3, 9), rng.randint(1, 4)
        ids = [[rng.randrange(size) for _ in range(length)] for _ in range(rng.randint(2, 5))]
        yield of(normal(size, size, seed=seed), ids, rng.randrange(size), size, rng.randint(1, 9))


def end_in_the_prompt() -> Iterator[Inputs]:
    yield of(ROUND, [[3, 0], [1, 3]], 3, 9, 5)
    yield of(ROUND, [[3]], 3, 9, 3)


exercise = Exercise(
    "generation.mend_writer",
    "Debug: a loop that writes a batch",
    properties=(
        Equals("writes when nothing ends", without_an_end, "This held before: undo."),
        Equals("one text stops after its EOS", one_text_ends, "EOS is written, then it ends."),
        Equals("every text of a batch goes its own way", several_texts_end, "Two bugs are here."),
        Equals("an EOS in a prompt ends nothing", end_in_the_prompt, "Only new tokens count."),
    ),
    hints=(
        "Let two texts end at different steps, by hand: what should the shorter one have in the "
        "columns after its EOS, and how long should the loop go on?",
        "A text that has ended stays ended, whatever is written into it afterwards.",
        "`running = running & (token != eos)`, and `token.where(running, pad)` before that.",
    ),
)


@exercise.stub
def mend_writer(table: Tensor, ids: Tensor, eos: int, pad: int, new_tokens: int) -> Tensor:
    """Continue each row of ids greedily; row i of table has the logits of what follows token i.

    table: (V, V); ids: (B, T), int64. After its EOS a text has only pad. The loop ends after
    new_tokens steps, or as soon as every text has ended. Returns (B, T + steps). This version has
    three bugs, none of which shows as long as nothing ends. Find and mend them.
    """
    for _ in range(new_tokens):
        running = ids[:, -1] != eos
        token = table[ids[:, -1].clamp(max=len(table) - 1)].argmax(dim=-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        if not running.all():
            break
    return ids


@exercise.solution
def solution(table: Tensor, ids: Tensor, eos: int, pad: int, new_tokens: int) -> Tensor:
    running = torch.ones(len(ids), dtype=torch.bool)
    for _ in range(new_tokens):
        token = table[ids[:, -1].clamp(max=len(table) - 1)].argmax(dim=-1)
        token = token.where(running, pad)
        ids = torch.cat([ids, token[:, None]], dim=1)
        running = running & (token != eos)
        if not running.any():
            break
    return ids


@exercise.reference
def row_by_row(table: Tensor, ids: Tensor, eos: int, pad: int, new_tokens: int) -> Tensor:
    rows = ids.tolist()
    for row in rows:
        for _ in range(new_tokens):
            row.append(int(table[row[-1]].double().argmax()))
            if row[-1] == eos:
                break
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])


exercise.slip(
    "without_padding",
    "token.where(running, pad)",
    "token",
    "A text goes on after its EOS: what has ended gets pad.",
)
exercise.slip(
    "ends_with_the_first",
    "running.any()",
    "running.all()",
    "The loop ends when the first text has ended: it has to go on until all have.",
)
exercise.slip(
    "ends_never",
    "not running.any()",
    "False",
    "The loop runs to the end, whatever happens: it stops when no text is running.",
)
exercise.slip(
    "wakes_up_again",
    "running & (token != eos)",
    "token != eos",
    "A text that has ended begins again after its pad: once ended, it stays ended.",
)
exercise.slip(
    "pads_the_end_itself",
    "token = token.where(running, pad)",
    "token = token.where(running & (token != eos), pad)",
    "The EOS itself became pad: it belongs to the text, and its end could not be seen without it.",
)
exercise.slip(
    "looks_into_the_prompt",
    "torch.ones(len(ids), dtype=torch.bool)",
    "~(ids == eos).any(dim=1)",
    "An EOS in the prompt ended the text before it began: only new tokens can end it.",
)

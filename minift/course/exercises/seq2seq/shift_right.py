"""seq2seq.shift_right: what the decoder reads while it learns to write the labels."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def of(rows: list[list[int]], start: int = 1, pad: int = 0) -> Inputs:
    return {"labels": torch.tensor(rows), "start": start, "pad": pad}


def whole() -> Iterator[Inputs]:
    yield of([[5, 6, 2]])
    yield of([[9]])
    yield of([[5, 6, 2], [7, 8, 2]])
    yield of([[4, 3, 4, 3, 2]], start=0)
    rng = draw(0)
    for b, t in ((1, 2), (3, 7), (4, 1), (2, 12)):
        rows = [[rng.randint(3, 50) for _ in range(t)] for _ in range(b)]
        yield of(rows, start=rng.randint(0, 2))


def ragged() -> Iterator[Inputs]:
    yield of([[5, 2, -100]])
    yield of([[5, 2, -100, -100], [6, 7, 8, 2]], start=3)
    rng = draw(1)
    for seed, (b, t) in enumerate([(2, 5), (3, 9), (5, 4)]):
        rows = []
        for _ in range(b):
            length = rng.randint(1, t)
            rows.append([rng.randint(3, 50) for _ in range(length)] + [-100] * (t - length))
        yield of(rows, start=seed, pad=seed % 2)


def holes() -> Iterator[Inputs]:
    yield of([[-100, 5, 2]])
    yield of([[5, -100, -100, 6, 2], [-100, -100, 7, 8, 9]], start=2, pad=4)


exercise = Exercise(
    "seq2seq.shift_right",
    "What the decoder reads",
    properties=(
        Equals("puts the start in front", whole, "The start, then all labels but the last."),
        Equals("reads padding for -100", ragged, "-100 is no id: an embedding has no row for it."),
        Equals("finds -100 anywhere", holes, "-100 may stand in any place, not only at the end."),
    ),
    hints=(
        "Write the two rows above each other: at place t the decoder reads what was right at "
        "place t − 1. What is there to read at place 0?",
        "`torch.cat` along the last dimension: a column of starts (`labels.new_full`), then the "
        "labels without their last column.",
        "`x.masked_fill(x == -100, pad)` replaces what the loss ignores.",
    ),
)


@exercise.stub
def shift_right(labels: Tensor, start: int, pad: int) -> Tensor:
    """What the decoder reads to predict the labels: start, then the labels, without the last.

    labels: (B, T) of torch.int64; -100 where the loss asks nothing: read `pad` there. Returns
    (B, T) of torch.int64.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(labels: Tensor, start: int, pad: int) -> Tensor:
    first = labels.new_full((len(labels), 1), start)
    read = torch.cat([first, labels[:, :-1]], dim=1)  # (B, T)
    return read.masked_fill(read == -100, pad)


@exercise.reference
def row_by_row(labels: Tensor, start: int, pad: int) -> Tensor:
    rows = []
    for row in labels.tolist():
        read = [start, *row][: len(row)]
        rows.append([pad if token == -100 else token for token in read])
    return torch.tensor(rows)


exercise.slip(
    "not_shifted",
    "torch.cat([first, labels[:, :-1]], dim=1)",
    "labels.clone()",
    "Nothing is shifted: the decoder reads the very token that it is to predict, and copies it.",
)
exercise.slip(
    "shifted_left",
    "torch.cat([first, labels[:, :-1]], dim=1)",
    "torch.cat([labels[:, 1:], first], dim=1)",
    "The labels moved to the left: the decoder reads the future.",
)
exercise.slip(
    "rolled",
    "torch.cat([first, labels[:, :-1]], dim=1)",
    "labels.roll(1, dims=1)",
    "`roll` brings the last label to the front; the start belongs there.",
)
exercise.slip(
    "one_longer",
    "labels[:, :-1]",
    "labels",
    "The last label is still there: nobody reads it, and the length is T + 1.",
)
exercise.slip(
    "starts_with_padding",
    "start)",
    "pad)",
    "The first place holds the padding; the start is another token in many models.",
)
exercise.slip(
    "ignored_kept",
    "read.masked_fill(read == -100, pad)",
    "read",
    "-100 is still there: only the loss knows it; an embedding has no row −100.",
)
exercise.slip(
    "ignored_to_zero",
    "read.masked_fill(read == -100, pad)",
    "read.clamp(min=0)",
    "-100 became 0, which is the padding of some models only: use `pad`.",
)
exercise.slip(
    "ignored_to_start",
    "read == -100, pad",
    "read == -100, start",
    "-100 became the start, as if a new text began there: use `pad`.",
)

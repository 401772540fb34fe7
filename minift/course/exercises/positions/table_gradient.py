"""positions.table_gradient: which rows of a table learn, and what they learn."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, seeded, strided
from minift.course.properties import Equals, keeps_dtype


def distinct() -> Iterator[Inputs]:
    grad = torch.tensor([[[1.0, 2], [3, 4]]])
    yield {"ids": torch.tensor([[2, 0]]), "grad": grad, "rows": 3}
    yield {"ids": torch.tensor([[4, 1, 3]]), "grad": normal(1, 3, 5, seed=1), "rows": 6}


def repeated() -> Iterator[Inputs]:
    yield {"ids": torch.tensor([[1, 1]]), "grad": torch.tensor([[[1.0, 2], [3, 4]]]), "rows": 3}
    for seed, (b, t, rows, c) in enumerate([(1, 4, 2, 3), (3, 5, 4, 1), (2, 9, 30, 6)]):
        generator = torch.Generator().manual_seed(seeded(seed))
        ids = torch.randint(0, rows, (b, t), generator=generator)
        grad = normal(b, t, c, seed=seed)
        yield {"ids": ids, "grad": strided(grad) if seed else grad, "rows": rows}


def by_hand() -> Iterator[Inputs]:
    yield {"ids": torch.tensor([[0, 1], [1, 0]]), "grad": counting(2, 2, 3), "rows": 2}


def everything() -> Iterator[Inputs]:
    for cases in (distinct, repeated, by_hand):
        yield from cases()


equals = Equals("adds up what comes back for the same id", repeated, "Add, do not overwrite.")

exercise = Exercise(
    "positions.table_gradient",
    "How a table learns",
    properties=(
        Equals("puts each row where its id points", distinct, "Row ids[b, t] gets grad[b, t]."),
        equals,
        Equals("adds up over the batch", by_hand, "All texts of the batch count."),
        keeps_dtype(equals, torch.float64),
    ),
    hints=(
        "The lookup is one-hot(ids) @ table. The gradient of A @ W with respect to W is Aᵀ @ grad.",
        "`torch.nn.functional.one_hot(ids, rows)` has the shape (B, T, rows) and whole numbers; "
        "bring it to grad's dtype, and flatten batch and tokens into one dimension.",
        "Without the large matrix: `torch.zeros(rows, C).index_add_(0, ids.flatten(), "
        "grad.flatten(0, 1))`.",
    ),
)


@exercise.stub
def table_gradient(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    """The gradient of a table of `rows` vectors, out of which the rows `ids` were looked up.

    ids: (B, T), int64; grad: (B, T, C), the gradient that comes back for each vector handed out.
    Returns (rows, C) of grad's dtype, zeros for rows that nobody asked for.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    one_hot = torch.nn.functional.one_hot(ids.flatten(), rows)  # (B·T, rows)
    return one_hot.to(grad.dtype).T @ grad.flatten(0, 1)


@exercise.reference
def by_autograd(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    table = torch.zeros(rows, grad.shape[-1], dtype=torch.float64, requires_grad=True)
    torch.nn.functional.embedding(ids, table).backward(grad.double())
    assert table.grad is not None
    return table.grad.to(grad.dtype)


@exercise.mistake("The last of several equal ids has overwritten the others: add them up.")
def overwritten(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    table = torch.zeros(rows, grad.shape[-1], dtype=grad.dtype)
    for place, row in zip(ids.flatten().tolist(), grad.flatten(0, 1), strict=True):
        table[place] = row
    return table


@exercise.mistake("The rows of equal ids were averaged: the gradient is their sum.")
def averaged(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    one_hot = torch.nn.functional.one_hot(ids.flatten(), rows).to(grad.dtype)
    counts = one_hot.sum(0).clamp(min=1)[:, None]
    return one_hot.T @ grad.flatten(0, 1) / counts


@exercise.mistake("Only the first text of the batch was counted.")
def first_text_only(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    return solution(ids[:1], grad[:1], rows)


@exercise.mistake("The rows are too few: the table has `rows` rows, whether asked for or not.")
def as_many_as_ids(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    return solution(ids, grad, int(ids.max()) + 1)

"""bert.mean_pool: one vector for a sentence, the mean of its words' vectors, of length 1."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient

LENGTHS = [[3], [2, 5, 1], [4, 4], [9, 1, 6, 2]]


def whole() -> Iterator[Inputs]:
    yield {"states": torch.tensor([[[3.0, 0], [3, 8]]]), "mask": torch.ones(1, 2).long()}
    yield {"states": normal(3, 4, 6, seed=1), "mask": torch.ones(3, 4).long()}


def padded() -> Iterator[Inputs]:
    mask = torch.tensor([[1, 1, 0]])
    yield {"states": torch.tensor([[[3.0, 0], [3, 8], [50, -50]]]), "mask": mask}
    for seed, lengths in enumerate(LENGTHS):
        longest = max(lengths)
        states = normal(len(lengths), longest, 5, seed=30 + seed)
        mask = (counting(longest, start=0)[None] < torch.tensor(lengths)[:, None]).long()
        yield {"states": strided(states) if seed % 2 else states, "mask": mask}
        yield {"states": states, "mask": mask.flip(1)}


def differentiable() -> Iterator[Inputs]:
    for cases in (whole, padded):
        yield from cases()


exercise = Exercise(
    "bert.mean_pool",
    "A vector for a sentence",
    properties=(
        Equals("is the mean, of length 1", whole, "The mean of the rows, divided by its length."),
        Equals("leaves padding out, on either side", padded, "Add up real tokens only; divide by "
               "their number."),
        Gradient("has the right gradient", differentiable, "Use tensor operations only.", ulps=64),
    ),
    hints=(
        "`mask[..., None]` has the shape (B, T, 1), and multiplies every number of a token.",
        "`(states * mask[..., None]).sum(1)` adds up the real tokens: (B, C). Their number is "
        "`mask.sum(1)`. Dividing by it changes the length only.",
        "The length of a vector is the root of the sum of its squares: `x.norm(dim=-1, "
        "keepdim=True)`.",
    ),
)  # fmt: skip


@exercise.stub
def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of each text's real tokens, divided by its own length √(Σ x²).

    states: (B, T, C), mask: (B, T), 1 for a token and 0 for padding, at least one 1 in a row.
    Returns (B, C), each row of length 1.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(states: Tensor, mask: Tensor) -> Tensor:
    total = (states * mask[..., None]).sum(dim=1)
    mean = total / mask.sum(dim=1, keepdim=True)
    return mean / mean.norm(dim=-1, keepdim=True)


@exercise.reference
def text_by_text(states: Tensor, mask: Tensor) -> Tensor:
    rows = [s.double()[m.bool()].mean(0) for s, m in zip(states, mask, strict=True)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


exercise.slip(
    "padding_in_the_mean",
    "(states * mask[..., None])",
    "states",
    "Padding was added up, too: multiply by the mask first.",
)
exercise.slip(
    "not_of_length_one",
    "    return mean / mean.norm(dim=-1, keepdim=True)",
    "    return mean",
    "The vectors are not of length 1: divide each by its length.",
)
exercise.slip(
    "length_of_the_batch",
    "mean.norm(dim=-1, keepdim=True)",
    "mean.norm()",
    "Divided by the length of the whole batch: each row has its own.",
)
exercise.slip(
    "sum_of_absolutes",
    "mean.norm(dim=-1, keepdim=True)",
    "mean.abs().sum(dim=-1, keepdim=True)",
    "Divided by the sum of the absolute values; the length is the root of the sum of squares.",
)


@exercise.mistake("That is the first token's vector ([CLS]); the mean of all real ones is asked.")
def first_token(states: Tensor, mask: Tensor) -> Tensor:
    first = states[:, 0]
    return first / first.norm(dim=-1, keepdim=True)


@exercise.mistake("Each token was brought to length 1 before the mean; norm the mean itself.")
def normed_too_early(states: Tensor, mask: Tensor) -> Tensor:
    states = states / states.norm(dim=-1, keepdim=True)
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)

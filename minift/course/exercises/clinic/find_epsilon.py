"""clinic.find_epsilon: read a norm's epsilon from what it did."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals


def normed(rows: int, width: int, scale: float, eps: float, seed: int) -> Inputs:
    """Numbers of some size, and what RMSNorm with this epsilon made of them."""
    x = normal(rows, width, seed=seed).double() * scale
    return {"x": x, "y": torch.nn.functional.rms_norm(x, (width,), eps=eps)}


def one_row() -> Iterator[Inputs]:
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    yield {"x": x, "y": x / 5.0}  # mean of squares 12.5, and 12.5 + 12.5 = 25
    yield normed(1, 8, 0.1, 1e-2, seed=0)


def usual() -> Iterator[Inputs]:
    for seed, (rows, width, scale, eps) in enumerate(
        [(3, 16, 0.01, 1e-5), (2, 4, 0.001, 1e-6), (5, 32, 0.05, 1e-3), (7, 3, 1.0, 0.5)]
    ):
        yield normed(rows, width, scale, eps, seed)
    for seed in range(3):
        rng = draw(seed)
        rows, width = rng.randint(2, 6), rng.randint(3, 40)
        yield normed(rows, width, 10.0 ** -rng.randint(1, 2), 10.0 ** -rng.randint(2, 4), 9 + seed)


def mixed() -> Iterator[Inputs]:
    for seed in (20, 21):
        parts = [normed(2, 6, scale, 1e-4, seed) for scale in (0.02, 0.005, 0.1)]
        yield {name: torch.cat([part[name] for part in parts]) for name in ("x", "y")}


exercise = Exercise(
    "clinic.find_epsilon",
    "Which epsilon has this norm?",
    properties=(
        Equals("solves one row for ε", one_row, "y = x / √(mean(x²) + ε), solved for ε."),
        Equals("finds the usual ones", usual, "Every row has the same ε."),
        Equals("is not misled by rows of different size", mixed, "Each row has its own mean(x²)."),
    ),
    hints=(
        "y = x / s with s = √(mean(x²) + ε), the same s for all numbers of a row.",
        "So s = x / y, and ε = s² − mean(x²). Which x of a row you divide makes no difference; "
        "the quotient of the norms of the two rows cannot divide by 0.",
        "`x.norm(dim=-1) / y.norm(dim=-1)` is s for each row. Every row gives the same ε: return "
        "their mean, as a float.",
    ),
)


@exercise.stub
def find_epsilon(x: Tensor, y: Tensor) -> float:
    """The ε of an RMSNorm without a gain: y = x / sqrt(mean(x²) + ε), row by row.

    x, y: (rows, width), float64. Returns a float.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, y: Tensor) -> float:
    s = x.norm(dim=-1) / y.norm(dim=-1)
    eps = s.square() - x.square().mean(dim=-1)
    return float(eps.mean())


@exercise.reference
def from_the_largest(x: Tensor, y: Tensor) -> float:
    """From one number of the first row."""
    place = int(x[0].abs().argmax())
    s = float(x[0, place]) / float(y[0, place])
    return s * s - sum(v * v for v in x[0].tolist()) / x.shape[1]


exercise.slip(
    "not_squared",
    "s.square() - x",
    "s - x",
    "x / y is the root; ε stands under it. Square first.",
)
exercise.slip(
    "sum_of_squares",
    "x.square().mean(dim=-1)",
    "x.square().sum(dim=-1)",
    "The squares are added up; the norm takes their mean.",
)
exercise.slip(
    "outside_the_root",
    "s.square() - x.square().mean(dim=-1)",
    "s - x.square().mean(dim=-1).sqrt()",
    "That is an ε outside the root, y = x / (√mean(x²) + ε); here it stands inside.",
)
exercise.slip(
    "variance",
    "x.square().mean(dim=-1)",
    "x.var(dim=-1, correction=0)",
    "That is the variance, with the mean taken off: LayerNorm does that, RMSNorm does not.",
)
exercise.slip(
    "wrong_way_round",
    "x.norm(dim=-1) / y.norm(dim=-1)",
    "y.norm(dim=-1) / x.norm(dim=-1)",
    "s is x / y, not y / x: the norm divides by it.",
)

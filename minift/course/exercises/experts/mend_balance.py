"""experts.mend_balance: a load-balancing loss with three bugs that no shape gives away."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw, normal
from minift.course.properties import Equals, Gradient


def of(tokens: int, experts: int, padded: int, seed: int) -> Inputs:
    mask = torch.arange(tokens) < tokens - padded
    return {"probabilities": (2 * normal(tokens, experts, seed=seed)).softmax(-1), "real": mask}


def four_experts() -> Iterator[Inputs]:
    yield {"probabilities": torch.eye(4) * 0.8 + 0.05, "real": torch.ones(4, dtype=torch.bool)}
    yield of(6, 4, 0, 1)


def other_numbers() -> Iterator[Inputs]:
    yield of(4, 2, 0, 2)
    for seed, (t, e) in enumerate([(9, 3), (5, 8), (30, 5), (1, 1)]):
        yield of(t, e, 0, 3 + seed)


def padded() -> Iterator[Inputs]:
    yield of(4, 2, 1, 20)
    for seed in range(4):
        rng = draw(seed)
        t = rng.randint(4, 30)
        yield of(t, rng.randint(2, 8), rng.randint(1, t - 2), 21 + seed)


def differentiable() -> Iterator[Inputs]:
    for cases in (four_experts, other_numbers, padded):
        yield from cases()


exercise = Exercise(
    "experts.mend_balance",
    "Debug: three bugs in a load-balancing loss",
    properties=(
        Equals("is right for four experts", four_experts, "This held before: undo."),
        Equals("takes the number of experts", other_numbers, "E is the last dimension."),
        Equals("leaves padding out, of both factors", padded, "Divide by the tokens that count."),
        Gradient(
            "pushes the probabilities down where many tokens go",
            differentiable,
            "f counts choices and has no gradient; P is a mean of probabilities and has one.",
        ),
    ),
    hints=(
        "Three questions: what if there are not four experts? What if some tokens are padding? "
        "And where does the gradient come from?",
        "Padding is to be left out of f and of P alike: `probabilities[real]` has only the tokens "
        "that count.",
        "A count of choices is a step function of the probabilities: it has no slope. The loss "
        "learns through P alone, so P must stay attached.",
    ),
)


@exercise.stub
def mend_balance(probabilities: Tensor, real: Tensor) -> Tensor:
    """The load-balancing loss of one layer, for one expert a token: E · Σ f_e · P_e.

    probabilities: (T, E), each token's probabilities of the experts; real: (T,) bool, False for
    padding, which does not count. f_e: the share of the tokens whose largest probability is that
    of e; P_e: the mean probability of e. Returns a scalar. There are three bugs. Mend them.
    """
    experts = probabilities.shape[-1]
    chosen = probabilities.argmax(dim=-1)
    f = torch.stack([(chosen == e).float().mean() for e in range(experts)])
    p = probabilities.detach().mean(dim=0)
    return 4 * (f * p).sum()


@exercise.solution
def solution(probabilities: Tensor, real: Tensor) -> Tensor:
    probabilities = probabilities[real]
    experts = probabilities.shape[-1]
    chosen = probabilities.argmax(dim=-1)
    f = torch.stack([(chosen == e).float().mean() for e in range(experts)])
    p = probabilities.mean(dim=0)
    return experts * (f * p).sum()


@exercise.reference
def in_double(probabilities: Tensor, real: Tensor) -> Tensor:
    kept = probabilities.double()[real]
    f = torch.nn.functional.one_hot(kept.argmax(-1), kept.shape[-1]).double().sum(0) / len(kept)
    return kept.shape[-1] * torch.dot(f, kept.sum(0) / len(kept))


exercise.slip(
    "four_of_them",
    "return experts *",
    "return 4 *",
    "The factor is still 4; it is the number of experts.",
)
exercise.slip(
    "no_factor",
    "return experts *",
    "return 1 *",
    "Without the factor E the loss of an even use is 1 / E instead of 1.",
)
exercise.slip(
    "padding_counts",
    "    probabilities = probabilities[real]\n",
    "",
    "Padding counts: its tokens are in f and in P.",
)
exercise.slip(
    "padding_in_the_mean",
    "p = probabilities.mean(dim=0)",
    "p = probabilities.sum(dim=0) / len(real)",
    "The sum leaves padding out, the number that it is divided by does not.",
)
exercise.slip(
    "no_gradient",
    "p = probabilities.mean(dim=0)",
    "p = probabilities.mean(dim=0).detach()",
    "P is cut off (`.detach()`): nothing would ever be learnt from this loss.",
)
exercise.slip(
    "counts_twice",
    "(f * p).sum()",
    "(f * f).sum() + 0 * p.sum()",
    "f · f measures the same unevenness but has no slope: one of the two has to be P.",
)

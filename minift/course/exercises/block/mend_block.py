"""block.mend_block: a pre-norm block with three bugs, none of which raises an error."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals

Step = Callable[[Tensor], Tensor]


def by_hand() -> Iterator[Inputs]:
    yield {"x": torch.tensor([[[1.0, 3.0]]]), "a": torch.eye(2), "f": torch.zeros(2, 2)}
    yield {"x": torch.tensor([[[1.0, 3.0]]]), "a": torch.zeros(2, 2), "f": torch.eye(2)}


def random() -> Iterator[Inputs]:
    for seed, (b, t, c) in enumerate([(1, 1, 3), (2, 4, 5), (3, 2, 8)]):
        a, f = (normal(c, c, seed=seed + n) for n in (10, 20))
        yield {"x": 2 * normal(b, t, c, seed=seed) + 1, "a": a, "f": f}


def run(fn: Any, x: Tensor, a: Tensor, f: Tensor) -> Any:
    """The learner's block around two small parts: products with ``a`` and ``f``."""
    # the second norm differs from the first, so that an exchange is seen
    return fn(x, lambda y: y @ a, lambda y: (y @ f).tanh(), _norm, lambda y: 2 * _norm(y))


def _norm(y: Tensor) -> Tensor:
    return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()


exercise = Exercise(
    "block.mend_block",
    "Debug: three bugs in a block",
    apply=run,
    properties=(
        Equals("is right with one of its two parts", by_hand, "Follow one of the two lines."),
        Equals("is right with both", random, "What does the second part read, and what is added?"),
    ),
    hints=(
        "The formula is two lines: x ← x + attention(norm_1(x)), then x ← x + "
        "feed_forward(norm_2(x)). Lay the code beside it.",
        "What is added to the stream is the part's output; what it is added to is the stream "
        "itself, not its norm.",
        "The second line starts from what the first one left, and it has a norm of its own.",
    ),
)


@exercise.stub
def mend_block(
    x: Tensor, attention: Step, feed_forward: Step, norm_1: Step, norm_2: Step
) -> Tensor:
    """A block of GPT-2: x + attention(norm_1(x)), and to that, feed_forward(norm_2(·)) is added.

    x: (B, T, C); the other four are functions (B, T, C) -> (B, T, C). Returns (B, T, C). This
    block has three bugs. Find and mend them.
    """
    normed = norm_1(x)
    after = normed + attention(normed)
    return after + feed_forward(norm_1(x))


@exercise.solution
def solution(x: Tensor, attention: Step, feed_forward: Step, norm_1: Step, norm_2: Step) -> Tensor:
    after = x + attention(norm_1(x))
    return after + feed_forward(norm_2(after))


@exercise.reference
def in_fp64(x: Tensor, a: Tensor, f: Tensor) -> Tensor:
    x, a, f = x.double(), a.double(), f.double()
    size = x.shape[-1:]
    x = x + torch.nn.functional.layer_norm(x, size) @ a
    return x + torch.tanh(2 * torch.nn.functional.layer_norm(x, size) @ f)


exercise.slip(
    "norm_in_the_stream",
    "after = x + attention(norm_1(x))",
    "after = norm_1(x) + attention(norm_1(x))",
    "The stream itself was normed: attention reads norm_1(x), but its output is added to x.",
)
exercise.slip(
    "same_norm_twice",
    "norm_2(after)",
    "norm_1(after)",
    "norm_1 is used twice: the second part has a norm of its own, with weights of its own.",
)
exercise.slip(
    "feed_forward_of_the_old_x",
    "norm_2(after)",
    "norm_2(x)",
    "The second part reads the old x: it has to read what attention has just written.",
)
exercise.slip(
    "no_second_residual",
    "return after + feed_forward",
    "return feed_forward",
    "The stream ends at the second part: its output is added, too.",
)
exercise.slip(
    "post_norm",
    "after = x + attention(norm_1(x))",
    "after = norm_1(x + attention(x))",
    "That is BERT's order (post-norm): in GPT-2 the norm stands before the part, inside the sum.",
)

"""block.mend_block: a pre-norm block with three bugs, none of which raises an error."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.properties import Equals


def by_hand() -> Iterator[Inputs]:
    x, one, nothing = torch.tensor([[[1.0, 3.0]]]), torch.eye(2), torch.zeros(2, 2)
    gains = {"gain_1": torch.ones(2), "gain_2": torch.tensor([2.0, 2.0])}
    yield {"x": x, "a": one, "f": nothing, **gains}
    yield {"x": x, "a": nothing, "f": one, **gains}


def random() -> Iterator[Inputs]:
    for seed, (b, t, c) in enumerate([(1, 1, 3), (2, 4, 5), (3, 2, 8)]):
        a, f = (normal(c, c, seed=seed + n) for n in (10, 20))
        gains = {f"gain_{n}": 1 + normal(c, seed=seed + 30 * n) for n in (1, 2)}
        yield {"x": 2 * normal(b, t, c, seed=seed) + 1, "a": a, "f": f, **gains}


exercise = Exercise(
    "block.mend_block",
    "Debug: three bugs in a block",
    properties=(
        Equals("is right with one of its two parts", by_hand, "Follow one of the two lines."),
        Equals("is right with both", random, "What does the second part read, and what is added?"),
    ),
    hints=(
        "The formula is two lines: x ← x + norm_1(x) a, then x ← x + tanh(norm_2(x) f). Lay the "
        "code beside it.",
        "What is added to the stream is the part's output; what it is added to is the stream "
        "itself, not its norm.",
        "The second line starts from what the first one left, and it has a norm of its own.",
    ),
)


@exercise.stub
def mend_block(x: Tensor, a: Tensor, f: Tensor, gain_1: Tensor, gain_2: Tensor) -> Tensor:
    """A block like GPT-2's: x + norm_1(x) a, and to that, tanh(norm_2(·) f) is added.

    x: (B, T, C). a, f: (C, C), a product each in the place of attention and feed-forward. norm_1
    and norm_2 are layer norms with the gains (C,) and no bias. Returns (B, T, C). This block has
    three bugs. Find and mend them.
    """
    size = x.shape[-1:]
    normed = F.layer_norm(x, size, gain_1)
    after = normed + normed @ a
    return after + torch.tanh(F.layer_norm(x, size, gain_1) @ f)


@exercise.solution
def solution(x: Tensor, a: Tensor, f: Tensor, gain_1: Tensor, gain_2: Tensor) -> Tensor:
    size = x.shape[-1:]
    after = x + F.layer_norm(x, size, gain_1) @ a
    return after + torch.tanh(F.layer_norm(after, size, gain_2) @ f)


@exercise.reference
def in_fp64(x: Tensor, a: Tensor, f: Tensor, gain_1: Tensor, gain_2: Tensor) -> Tensor:
    x, a, f, gain_1, gain_2 = (t.double() for t in (x, a, f, gain_1, gain_2))

    def norm(y: Tensor) -> Tensor:
        centred = y - y.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    x = x + (gain_1 * norm(x)) @ a
    return x + torch.tanh((gain_2 * norm(x)) @ f)


exercise.slip(
    "norm_in_the_stream",
    "after = x + F.layer_norm",
    "after = F.layer_norm(x, size, gain_1) + F.layer_norm",
    "The stream itself was normed: attention reads norm_1(x), but its output is added to x.",
)
exercise.slip(
    "same_norm_twice",
    "F.layer_norm(after, size, gain_2)",
    "F.layer_norm(after, size, gain_1)",
    "norm_1 is used twice: the second part has a norm of its own, with weights of its own.",
)
exercise.slip(
    "feed_forward_of_the_old_x",
    "F.layer_norm(after, size, gain_2)",
    "F.layer_norm(x, size, gain_2)",
    "The second part reads the old x: it has to read what attention has just written.",
)
exercise.slip(
    "no_second_residual",
    "return after + torch.tanh",
    "return torch.tanh",
    "The stream ends at the second part: its output is added, too.",
)
exercise.slip(
    "post_norm",
    "after = x + F.layer_norm(x, size, gain_1) @ a",
    "after = F.layer_norm(x + x @ a, size, gain_1)",
    "That is BERT's order (post-norm): in GPT-2 the norm stands before the part, inside the sum.",
)

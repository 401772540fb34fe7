"""block.gpt2_size: how many numbers a GPT-2 of given sizes has, before it is built."""

from collections.abc import Iterator

import torch

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def sizes(layers: int, width: int, inner: int, vocab: int, positions: int) -> Inputs:
    return {
        "layers": layers,
        "width": width,
        "inner": inner,
        "vocab": vocab,
        "positions": positions,
    }


def small() -> Iterator[Inputs]:
    yield sizes(1, 2, 8, 3, 5)
    yield sizes(2, 4, 12, 10, 7)


def deep() -> Iterator[Inputs]:
    yield sizes(3, 4, 16, 10, 8)
    for seed in range(6):
        rng = draw(seed)
        width = 4 * rng.randint(1, 40)
        yield sizes(rng.randint(2, 30), width, rng.randint(1, 600), rng.randint(2, 5000), 128)


def real() -> Iterator[Inputs]:
    for layers, width in ((12, 768), (24, 1024), (36, 1280), (48, 1600)):
        yield sizes(layers, width, 4 * width, 50257, 1024)


exercise = Exercise(
    "block.gpt2_size",
    "How large is a GPT-2?",
    properties=(
        Equals("is right for one layer and for two", small, "Two tables, a block, the last norm."),
        Equals("is right for several layers, any inner width", deep, "Only the block repeats."),
        Equals("gives the sizes of the four GPT-2s", real, "Count each of the parts again."),
    ),
    hints=(
        "Go through the model from below: two tables, then for each block a norm, attention, a "
        "norm, the feed-forward part, and at the end one norm. The head is the token table again.",
        "A linear layer from m to n features has m · n weights and n biases. A norm has C weights "
        "and C biases.",
        "Attention has a layer from C to 3 C and one from C to C; the feed-forward part one from C "
        "to the inner width and one back.",
    ),
)


@exercise.stub
def gpt2_size(layers: int, width: int, inner: int, vocab: int, positions: int) -> int:
    """The number of parameters of a GPT-2 with tied embeddings, weights and biases together.

    width: C, inner: the width inside the feed-forward part, vocab: tokens, positions: the most
    tokens in a text.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(layers: int, width: int, inner: int, vocab: int, positions: int) -> int:
    attention = width * 3 * width + 3 * width + width * width + width
    feed_forward = width * inner + inner + inner * width + width
    norm = 2 * width
    return (vocab + positions) * width + layers * (attention + feed_forward + 2 * norm) + norm


@exercise.reference
def as_built(layers: int, width: int, inner: int, vocab: int, positions: int) -> int:
    from transformers import GPT2Config, GPT2LMHeadModel

    counts = []
    for depth in (1, 2):  # a block is what the second one adds
        config = GPT2Config(
            n_layer=depth, n_embd=width, n_inner=inner, n_head=1, vocab_size=vocab,
            n_positions=positions, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        with torch.device("meta"):  # no memory
            counts.append(sum(p.numel() for p in GPT2LMHeadModel(config).parameters()))
    return counts[0] + (layers - 1) * (counts[1] - counts[0])


exercise.slip(
    "head_counted",
    "return (vocab + positions) * width",
    "return (2 * vocab + positions) * width",
    "The head was counted: it is the token table again, and has no numbers of its own.",
)
exercise.slip(
    "one_bias_for_three",
    "width * 3 * width + 3 * width",
    "width * 3 * width + width",
    "Queries, keys and values have a bias each: 3 C numbers, not C.",
)
exercise.slip(
    "no_biases_inside",
    "width * inner + inner + inner * width + width",
    "2 * width * inner",
    "The two layers of the feed-forward part have biases: inner and C numbers more.",
)
exercise.slip(
    "four_times",
    "width * inner + inner + inner * width + width",
    "8 * width * width + 5 * width",
    "The inner width is given; it need not be 4 C.",
)
exercise.slip(
    "last_norm_forgotten",
    "2 * norm) + norm",
    "2 * norm)",
    "One norm is missing: after the last block the stream is normed once more.",
)
exercise.slip(
    "no_positions",
    "(vocab + positions) * width",
    "vocab * width",
    "The table of positions is missing: C numbers for each of them.",
)

"""decoder.count_parameters: how large a Llama is, predicted, then counted in a real one."""

from collections.abc import Iterator

import torch

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

NAMES = ("vocab", "width", "inner", "layers", "heads", "kv_heads", "head_dim", "tied")


def of(*sizes: int, tied: bool) -> Inputs:
    return dict(zip(NAMES, (*sizes, tied), strict=True))


def no_groups() -> Iterator[Inputs]:
    yield of(10, 8, 12, 1, 2, 2, 4, tied=True)
    yield of(50, 24, 40, 3, 4, 4, 6, tied=True)


def heads_of_keys() -> Iterator[Inputs]:
    yield of(10, 8, 12, 1, 4, 2, 2, tied=True)
    yield of(50, 24, 64, 2, 6, 1, 4, tied=True)


def head_widths() -> Iterator[Inputs]:
    yield of(10, 8, 12, 1, 2, 1, 6, tied=True)
    yield of(30, 24, 20, 4, 3, 3, 16, tied=True)


def heads_of_words() -> Iterator[Inputs]:
    yield of(10, 8, 12, 1, 2, 2, 4, tied=False)
    rng = draw(0)
    for _ in range(3):
        kv, times = rng.randint(1, 3), rng.randint(1, 4)
        heads, d = kv * times, 2 * rng.randint(1, 8)
        sizes = (rng.randint(10, 99), heads * 2 * rng.randint(1, 6), rng.randint(3, 70))
        yield of(*sizes, rng.randint(1, 5), heads, kv, d, tied=rng.random() < 0.5)
    yield of(49152, 576, 1536, 30, 9, 3, 64, tied=True)  # SmolLM2-135M


exercise = Exercise(
    "decoder.count_parameters",
    "How many numbers a Llama is",
    properties=(
        Equals("is right where all heads are alike", no_groups, "Write down every matrix."),
        Equals("counts fewer heads of keys and values", heads_of_keys, "k and v are narrower."),
        Equals("takes the head's own width", head_widths, "heads · head_dim need not be width."),
        Equals("counts a head of its own", heads_of_words, "Untied: vocab · width once more."),
    ),
    hints=(
        "One layer: four matrices of attention, three of the feed-forward part, two norms. Then "
        "the token table, the last norm, and, where it is not tied, the head.",
        "q is width × (heads · head_dim), k and v are width × (kv_heads · head_dim), the output is "
        "as large as q. There are no biases.",
    ),
)


@exercise.stub
def count_parameters(
    vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int, head_dim: int,
    tied: bool,
) -> int:  # fmt: skip
    """The number of parameters of a Llama (no biases) with these sizes.

    `inner` is the inner width of the gated feed-forward part; `tied`: the token table is the head.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int, head_dim: int,
    tied: bool,
) -> int:  # fmt: skip
    attention = 2 * width * heads * head_dim + 2 * width * kv_heads * head_dim
    layer = attention + 3 * width * inner + 2 * width
    return layers * layer + vocab * width * (1 if tied else 2) + width


@exercise.reference
def counted(
    vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int, head_dim: int,
    tied: bool,
) -> int:  # fmt: skip
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
        tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in LlamaForCausalLM(config).parameters())


exercise.slip(
    "two_matrices",
    "3 * width * inner",
    "2 * width * inner",
    "The feed-forward part is gated: gate, up and down are three matrices.",
)
exercise.slip(
    "no_norms",
    "+ 2 * width\n",
    "\n",
    "Each layer has two norms of `width` factors.",
)
exercise.slip(
    "no_last_norm",
    "(1 if tied else 2) + width",
    "(1 if tied else 2)",
    "The norm before the head is missing: `width` factors.",
)
exercise.slip(
    "as_many_keys",
    "2 * width * kv_heads * head_dim",
    "2 * width * heads * head_dim",
    "k and v have kv_heads heads, fewer than q: that is what grouping saves.",
)
exercise.slip(
    "square_matrices",
    "2 * width * heads * head_dim",
    "2 * width * width",
    "q and the output are width × (heads · head_dim), which need not be a square.",
)
exercise.slip(
    "head_twice",
    "(1 if tied else 2)",
    "2",
    "A tied head is the token table itself: its numbers count once.",
)
exercise.slip(
    "head_never",
    "(1 if tied else 2)",
    "1",
    "An untied head is one more matrix of vocab × width.",
)

"""generation.written_products: what writing costs, with and without a cache."""

from collections.abc import Iterator

import torch
from torch.utils.flop_counter import FlopCounterMode

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals
from minift.generation.cache import KVCache
from minift.layers.attention import use_backend
from minift.models.gpt2 import GPT2Config, GPT2Model

NAMES = ("layers", "width", "prompt", "new", "cached")


def of(*values: int) -> Inputs:
    return dict(zip(NAMES, (*values[:4], bool(values[4])), strict=True))


def one_pass() -> Iterator[Inputs]:
    yield of(1, 4, 1, 1, 0)
    yield of(1, 8, 5, 1, 0)
    yield of(3, 8, 7, 1, 1)


def without() -> Iterator[Inputs]:
    yield of(1, 4, 1, 2, 0)
    yield of(2, 8, 5, 4, 0)


def with_cache() -> Iterator[Inputs]:
    yield of(1, 4, 1, 2, 1)
    yield of(1, 8, 5, 2, 1)
    yield of(2, 8, 5, 4, 1)


def any_sizes() -> Iterator[Inputs]:
    for seed in range(4):
        rng = draw(seed)
        sizes = (rng.randint(1, 4), 4 * rng.randint(1, 8), rng.randint(1, 20), rng.randint(2, 6))
        for cached in (0, 1):
            yield of(*sizes, cached)


exercise = Exercise(
    "generation.written_products",
    "Predict: what writing costs",
    properties=(
        Equals("counts one pass over the prompt", one_pass, "12 T C² + 2 T² C in each layer."),
        Equals("without a cache, every pass takes all tokens", without, "T, then T + 1, …"),
        Equals("with a cache, one token a pass", with_cache, "One query, all keys so far."),
        Equals("holds for other sizes", any_sizes, "A size is in the wrong place."),
    ),
    hints=(
        "A pass with M new tokens that look at N takes, in each layer, 12 · M · C² for the "
        "matrices and 2 · M · N · C for scores and blend.",
        "The pass over the prompt gives the first new token. The last new token goes through no "
        "pass at all. So how many passes are there?",
        "Without a cache M and N are prompt + i in pass number i. With one, M is 1 after that.",
    ),
)


@exercise.stub
def written_products(layers: int, width: int, prompt: int, new: int, cached: bool) -> int:
    """Multiplications in the layers of a GPT-2 that writes `new` tokens after `prompt` tokens.

    A layer has width C = `width`: four matrices C · C in the attention, and two C · 4C in the feed
    forward part. Scores and blend count for all pairs of a query and a key, hidden ones too.
    Embeddings, norms, softmax and the head are left out. `cached`: with a KV cache.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(layers: int, width: int, prompt: int, new: int, cached: bool) -> int:
    total = 0
    for i in range(new):
        seen = prompt + i
        asked = 1 if cached and i > 0 else seen
        total += layers * (12 * asked * width**2 + 2 * asked * seen * width)
    return total


@exercise.reference
@torch.no_grad()
def counted(layers: int, width: int, prompt: int, new: int, cached: bool) -> int:
    config = GPT2Config(vocab_size=3, n_positions=64, n_embd=width, n_layer=layers, n_head=2)
    model = GPT2Model(config).eval()
    cache = KVCache() if cached else None
    ids = torch.zeros(1, prompt, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, use_backend("eager"):
        for _ in range(new):
            model(ids, cache=cache)
            last = torch.zeros(1, 1, dtype=torch.long)
            ids = last if cached else torch.cat([ids, last], dim=1)
    return counter.get_total_flops() // 2  # PyTorch counts a multiplication and its addition


exercise.slip(
    "one_pass_more",
    "range(new)",
    "range(new + 1)",
    "One pass too many: the last new token is written and goes through no pass.",
)
exercise.slip(
    "prompt_for_nothing",
    "seen = prompt + i",
    "seen = prompt + i + 1",
    "The first pass takes the prompt alone: its result is the first new token.",
)
exercise.slip(
    "cache_without_keys",
    "2 * asked * seen * width",
    "2 * asked * asked * width",
    "With a cache the one query still looks at all keys so far: 2 · 1 · N · C.",
)
exercise.slip(
    "scores_of_all",
    "2 * asked * seen * width",
    "2 * seen * seen * width",
    "With a cache only the new token asks: its scores are one row of N, not N rows.",
)
exercise.slip(
    "prompt_one_by_one",
    "1 if cached and i > 0 else seen",
    "1 if cached else seen",
    "With a cache too the first pass takes the whole prompt: nothing of it is there yet.",
)
exercise.slip(
    "attention_only",
    "12 * asked",
    "4 * asked",
    "The feed forward part is missing: two matrices of C · 4C, 8 C² for each token.",
)
exercise.slip(
    "blend_missing",
    "2 * asked * seen * width",
    "asked * seen * width",
    "Scores or blend are missing: each takes M · N · C.",
)

"""before.text_conv: one matrix on every window of words, without a look at the future."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, T, C, F, w): all different where they can be, texts shorter than the window, a window of 1
SHAPES = [(1, 5, 2, 3, 2), (2, 7, 3, 4, 3), (3, 2, 4, 1, 5), (2, 6, 1, 5, 1), (1, 1, 3, 2, 4)]


def by_hand() -> Iterator[Inputs]:
    weight, bias = torch.tensor([[[1.0, 10.0, 100.0]]]), torch.zeros(1)
    yield {"x": counting(1, 4, 1), "weight": weight, "bias": bias}
    yield {"x": counting(1, 3, 1), "weight": torch.tensor([[[5.0]]]), "bias": torch.ones(1)}


def several() -> Iterator[Inputs]:
    for seed, (b, t, c, f, w) in enumerate(SHAPES * 2):
        x = normal(b, t, c, seed=seed)
        yield {
            "x": strided(x) if seed >= len(SHAPES) else x,
            "weight": normal(f, c, w, seed=100 + seed),
            "bias": normal(f, seed=200 + seed),
        }


equals = Equals(
    "equals Σ_k W[f, c, k] · x[t − w + 1 + k, c] + b[f], in fp64",
    several,
    "Write the windows of one text with a loop first, and compare.",
    ulps=64,
)

exercise = Exercise(
    "before.text_conv",
    "A convolution over text that never looks ahead",
    properties=(
        Equals("is right for one feature and one filter", by_hand, "Each window, once.", ulps=16),
        equals,
        keeps_dtype(equals, torch.float64, ulps=64),
        Gradient("has the right gradient", several, "Every window counts.", ulps=64),
    ),
    hints=(
        "The window of word t begins w − 1 words before it. Where there are none, it has zeros.",
        "`F.pad(x, (0, 0, w - 1, 0))` puts w − 1 zero rows before the first word (the pair for the "
        "last dimension comes first); `.unfold(1, w, 1)` then gives (B, T, C, w).",
        "A window and a filter both have C · w numbers: `windows.flatten(2) @ "
        "weight.flatten(1).T`, plus the bias.",
    ),
)


@exercise.stub
def text_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y[b, t, f] = Σ over c, k of weight[f, c, k] · x[b, t − w + 1 + k, c], + bias[f].

    x: (B, T, C), weight: (F, C, w), bias: (F,). The last place of a window is word t itself; words
    before the first are zeros. Returns (B, T, F) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    width = weight.shape[2]
    padded = F.pad(x, (0, 0, width - 1, 0))
    windows = padded.unfold(1, width, 1)
    return windows.flatten(2) @ weight.flatten(1).T + bias


@exercise.reference
def by_pytorch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    width = weight.shape[2]
    wide = F.conv1d(x.double().mT, weight.double(), bias.double(), padding=width - 1)
    return wide[..., : x.shape[1]].mT


exercise.slip(
    "looks_ahead",
    "(0, 0, width - 1, 0)",
    "(0, 0, 0, width - 1)",
    "The zeros stand behind the text: word t sees the w − 1 words after it. Put them before it.",
)
exercise.slip(
    "looks_both_ways",
    "(0, 0, width - 1, 0)",
    "(0, 0, (width - 1) // 2, width - 1 - (width - 1) // 2)",
    "The window stands with its middle on word t and sees half of its words after it: a language "
    "model would read the answer.",
)
exercise.slip(
    "turned_around",
    "weight.flatten(1)",
    "weight.flip(2).flatten(1)",
    "The filter is applied from back to front: place 0 of the weight belongs to the oldest word.",
)
exercise.slip(
    "pads_the_features",
    "(0, 0, width - 1, 0)",
    "(width - 1, 0, 0, 0)",
    "The zeros went to the features: F.pad counts from the last dimension, so the words' pair is "
    "the second.",
)
exercise.slip(
    "words_before_features",
    "windows.flatten(2)",
    "windows.transpose(2, 3).flatten(2)",
    "A window was laid flat as (w, C), a filter as (C, w): the numbers that meet do not belong "
    "together.",
)
exercise.slip("no_bias", " + bias", "", "The bias is missing: one number a filter, added last.")

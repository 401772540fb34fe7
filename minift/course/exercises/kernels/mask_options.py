"""kernels.mask_options: a mask of PyTorch's kind as options of the attention kernel."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.lab import check as watch
from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Part
from minift.course.properties import in_dtypes


def of(mask: Tensor | None, b: int, h: int, m: int, n: int, seed: int = 0) -> Inputs:
    q = normal(b, h, m, 16, seed=seed)
    k, v = normal(2, b, h, n, 16, seed=50 + seed)
    return {"q": q, "k": k, "v": v, "mask": mask}


def lengths(n: int, *real: int) -> Tensor:
    """Padding on the right: (B, 1, 1, N)."""
    return (torch.arange(n) < torch.tensor(real)[:, None])[:, None, None, :]


def no_mask() -> Iterator[Inputs]:
    yield of(None, 1, 1, 2, 3)


def padding() -> Iterator[Inputs]:
    yield of(lengths(4, 4, 2), 2, 1, 2, 4)
    yield of(lengths(20, 3, 20, 11), 3, 2, 5, 20, seed=1)


def same_for_all_texts() -> Iterator[Inputs]:
    yield of(lengths(5, 3), 2, 1, 2, 5, seed=2)
    yield of(lengths(7, 6)[0, 0, 0], 2, 2, 3, 7, seed=3)


def causal(m: int, n: int) -> Tensor:
    return torch.ones(m, n, dtype=torch.bool).tril(n - m)


def by_query() -> Iterator[Inputs]:
    yield of(causal(3, 3), 1, 1, 3, 3, seed=4)
    yield of(lengths(9, 9, 4) & causal(9, 9), 2, 2, 9, 9, seed=5)


def by_head() -> Iterator[Inputs]:
    each = torch.stack([torch.arange(6) < 2, torch.arange(6) >= 1])
    yield of(each[None, :, None, :], 1, 2, 3, 6, seed=6)


def run(fn: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """Attention with the learner's options, and how many bytes of mask it read."""
    options = fn(mask, q, k)
    with watch() as report:
        out = kernels.attention(q, k, v, **options)
    read = (t.loaded for name, t in report.traffic.items() if name.startswith("x."))
    return {"out": out, "cheap": sum(read) <= 4 * k.shape[0] * k.shape[2]}


exercise = Exercise(
    "kernels.mask_options",
    "A mask as options of the kernel",
    apply=run,
    properties=(
        Part("takes no mask", no_mask, "Nothing is hidden: no options."),
        Part("hides padding", padding, "True in the mask means: may be seen."),
        Part("does so with one flag a key", padding, "key_mask, not bias.", part="cheap"),
        Part("stretches a mask over all texts", same_for_all_texts, "key_mask is (B, N)."),
        Part("takes a mask that differs by query", by_query, "That is a bias of 0 and -inf."),
        Part("takes a mask that differs by head", by_head, "That is a bias, too."),
        Part(
            "keeps to the dtype: float16",
            in_dtypes(by_query, torch.float16),
            "The bias has the dtype of q.",
            ulps=2,
        ),
    ),
    hints=(
        "First make it four-dimensional, with ones in front: "
        "mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape)).",
        "If dimensions 1 and 2 are both 1, every head and every query see the same keys: "
        "{'key_mask': mask[:, 0, 0, :].expand(B, N)}.",
        "Otherwise {'bias': …}: zeros of q's dtype in the mask's shape, with -inf where the mask "
        "is False. It broadcasts by itself.",
    ),
)


@exercise.stub
def mask_options(mask: Tensor | None, q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """The keyword arguments that make kernels.attention hide what the mask hides.

    mask: bool, True where a key may be seen, broadcastable to (B, H, M, N), or None. q: (B, H, M,
    D); k: (B, H, N, D). A mask that is the same for all heads and queries becomes key_mask, bool
    (B, N): one flag a key. Any other becomes bias: 0 or -inf, in the dtype of q.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(mask: Tensor | None, q: Tensor, k: Tensor) -> dict[str, Tensor]:
    if mask is None:
        return {}
    mask = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    if mask.shape[1] == mask.shape[2] == 1:
        return {"key_mask": mask[:, 0, 0, :].expand(q.shape[0], k.shape[2])}
    bias = torch.zeros_like(mask, dtype=q.dtype)
    return {"bias": bias.masked_fill(~mask, -torch.inf)}


@exercise.reference
def by_pytorch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> dict[str, Any]:
    if mask is not None:
        mask = mask.expand(*q.shape[:3], k.shape[2])
    out = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), mask)
    return {"out": out.to(q.dtype), "cheap": True}


exercise.slip(
    "turned_round",
    "mask[:, 0, 0, :].expand",
    "~mask[:, 0, 0, :].expand",
    "The key mask is turned round: True means that a key may be seen, in both.",
)
exercise.slip(
    "always_a_bias",
    "mask.shape[1] == mask.shape[2] == 1",
    "False",
    "A mask that is the same for all queries became a bias: N flags do, not M × N numbers.",
)
exercise.slip(
    "bias_turned_round",
    "masked_fill(~mask",
    "masked_fill(mask",
    "The bias is turned round: -inf belongs where the mask is False.",
)
exercise.slip(
    "adds_minus_one",
    "-torch.inf",
    "-1.0",
    "-1 makes a hidden key less likely, it does not hide it: the score has to become -inf.",
)
exercise.slip(
    "first_query_for_all",
    "mask.shape[1] == mask.shape[2] == 1",
    "mask.shape[1] == 1",
    "The mask of the first query was taken for all: look at dimension 2 as well.",
)
exercise.slip(
    "first_head_for_all",
    "mask.shape[1] == mask.shape[2] == 1",
    "mask.shape[2] == 1",
    "The mask of the first head was taken for all: look at dimension 1 as well.",
)
exercise.slip(
    "not_stretched",
    "mask[:, 0, 0, :].expand(q.shape[0], k.shape[2])",
    "mask[:, 0, 0, :]",
    "A mask for all texts has one row: key_mask takes (B, N), so expand it.",
)

"""images.cut_patches: an image becomes a sequence of patches."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal, strided
from minift.course.properties import Equals, Gradient, keeps_dtype

# (B, R, height, width, p, q): oblong images and patches, one patch, one pixel a patch
SHAPES = [(2, 3, 6, 4, 2, 2), (1, 1, 6, 10, 3, 5), (3, 2, 4, 4, 4, 4), (1, 4, 2, 3, 1, 1)]
SHAPES += [(2, 1, 8, 6, 2, 3), (1, 3, 12, 8, 4, 2)]


def readable() -> Iterator[Inputs]:
    yield {"images": counting(1, 1, 4, 4, start=0), "patch": (2, 2)}
    yield {"images": counting(1, 1, 2, 6, start=0), "patch": (2, 3)}


def coloured() -> Iterator[Inputs]:
    yield {"images": counting(1, 2, 2, 4, start=0), "patch": (2, 2)}
    for seed, (b, r, height, width, p, q) in enumerate(SHAPES * 2):
        images = normal(b, r, height, width, seed=seed)
        yield {"images": strided(images) if seed >= len(SHAPES) else images, "patch": (p, q)}


equals = Equals(
    "keeps the pixels of a patch together: channel by channel, row by row",
    coloured,
    "Say for one pixel which patch it belongs to, and which place in it.",
)

exercise = Exercise(
    "images.cut_patches",
    "Cutting images into patches",
    properties=(
        Equals("reads the patches row by row", readable, "Compare with the figure."),
        equals,
        keeps_dtype(equals, torch.float64, torch.float16, torch.bfloat16),
        Gradient("has the right gradient", coloured, "Every pixel goes to exactly one place."),
    ),
    hints=(
        "The height is (rows of patches) · p, in this order: splitting it into two dimensions "
        "moves nothing. The width likewise.",
        "`images.unflatten(3, (-1, q)).unflatten(2, (-1, p))` is (B, R, rows, p, columns, q).",
        "What names a patch comes first, then what names a pixel in it: `.permute(0, 2, 4, 1, 3, "
        "5)`. Then flatten the last three dimensions into one, and the two before them.",
    ),
)


@exercise.stub
def cut_patches(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """The patches of each image, row by row, each laid out flat.

    images: (B, R, height, width) with R channels, patch: (p, q), which divide height and width.
    Returns (B, N, R·p·q) of the same dtype: N patches from left to right, then from top to bottom;
    in each the first channel row by row, then the next.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(images: Tensor, patch: tuple[int, int]) -> Tensor:
    p, q = patch
    cells = images.unflatten(3, (-1, q)).unflatten(2, (-1, p))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@exercise.reference
def by_unfold(images: Tensor, patch: tuple[int, int]) -> Tensor:
    return F.unfold(images.double(), patch, stride=patch).mT


@exercise.mistake(
    "The shape is right, the content is not: reshape cuts the pixels in the order in which they "
    "lie in memory, so a patch got whole rows of the image. Split height and width first."
)
def reshaped_at_once(images: Tensor, patch: tuple[int, int]) -> Tensor:
    b, r, height, width = images.shape
    p, q = patch
    return images.reshape(b, height // p * (width // q), r * p * q)


exercise.slip(
    "column_by_column",
    "(0, 2, 4, 1, 3, 5)",
    "(0, 4, 2, 1, 3, 5)",
    "The patches come column by column: first from left to right, then from top to bottom.",
)
exercise.slip(
    "patches_on_their_side",
    "(0, 2, 4, 1, 3, 5)",
    "(0, 2, 4, 1, 5, 3)",
    "Inside each patch rows and columns are exchanged: its pixels go row by row.",
)
exercise.slip(
    "colours_last",
    "(0, 2, 4, 1, 3, 5)",
    "(0, 2, 4, 3, 5, 1)",
    "The colours of each pixel stand together; asked is one channel after the other.",
)
exercise.slip(
    "every_qth_pixel",
    "images.unflatten(3, (-1, q)).unflatten(2, (-1, p))",
    "images.unflatten(3, (q, -1)).transpose(3, 4).unflatten(2, (p, -1)).transpose(2, 3)",
    "Height and width were split the other way round: a patch got every n-th pixel instead of "
    "neighbours. Rows of patches come first: (rows, p).",
)
exercise.slip(
    "p_and_q_exchanged",
    "p, q = patch",
    "q, p = patch",
    "p is the height of a patch and q its width; they are exchanged.",
)

"""kernels.matmul_intensity: FLOPs a byte of a tiled matrix product, predicted, then measured."""

from collections.abc import Iterator

import torch

from minift.course.exercise import Exercise, Inputs
from minift.course.exercises.kernels import matmul_tile
from minift.course.inputs import draw
from minift.course.properties import Equals


def of(m: int, n: int, k: int, tile: int, dtype: torch.dtype = torch.float16) -> Inputs:
    return {"M": m, "N": n, "K": k, "tile": tile, "dtype": dtype}


def one_tile() -> Iterator[Inputs]:
    yield of(16, 16, 32, 16)
    yield of(32, 32, 64, 32)


def several() -> Iterator[Inputs]:
    yield of(32, 32, 32, 16)
    yield of(64, 32, 48, 16)


def dtypes() -> Iterator[Inputs]:
    yield of(32, 48, 32, 16, torch.bfloat16)
    yield of(32, 48, 32, 16, torch.float32)


def ragged() -> Iterator[Inputs]:
    yield of(17, 16, 32, 16)
    yield of(40, 70, 33, 32)
    yield of(1, 100, 20, 16)
    rng = draw(0)
    yield of(rng.randint(17, 60), rng.randint(17, 60), rng.randint(17, 60), 16)


exercise = Exercise(
    "kernels.matmul_intensity",
    "FLOPs a byte of a tiled product",
    properties=(
        Equals("equals what is measured with one tile", one_tile, "2·M·N·K over all bytes."),
        Equals("counts what each tile loads again", several, "Each tile loads rows and columns."),
        Equals("counts in the dtype of the matrices", dtypes, "fp32 has 4 bytes."),
        Equals("counts tiles that stick out", ragged, "Rounded up; masked lanes load nothing."),
    ),
    hints=(
        "Work: every output is K products and K additions, so 2·M·N·K FLOPs.",
        "A column of tiles is ⌈N / tile⌉ tiles wide, and each of them loads all of its rows of a. "
        "So a is loaded ⌈N / tile⌉ times, and b ⌈M / tile⌉ times.",
        "bytes = (⌈N/tile⌉·M·K + ⌈M/tile⌉·K·N + M·N) · dtype.itemsize; -(-N // tile) rounds up.",
    ),
)


@exercise.stub
def matmul_intensity(M: int, N: int, K: int, tile: int, dtype: torch.dtype) -> float:
    """FLOPs a byte of c = a · b with a: (M, K), b: (K, N), all of one dtype.

    A program makes tile × tile outputs and loads, for them, its rows of a and its columns of b
    once. It stores its outputs once. Rows and columns that do not exist are masked. A product
    with its addition is 2 FLOPs; only those of outputs that exist count.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(M: int, N: int, K: int, tile: int, dtype: torch.dtype) -> float:
    down, across = -(-M // tile), -(-N // tile)
    moved = across * M * K + down * K * N + M * N
    return 2 * M * N * K / (moved * dtype.itemsize)


@exercise.reference
def measured(M: int, N: int, K: int, tile: int, dtype: torch.dtype) -> float:
    a, b = torch.zeros(M, K, dtype=dtype), torch.zeros(K, N, dtype=dtype)
    found = matmul_tile.run(matmul_tile.solution, a, b, (tile, tile, 16))
    return 2 * M * N * K / found["bytes"]


exercise.slip(
    "each_matrix_once",
    "across * M * K + down * K * N",
    "M * K + K * N",
    "Each matrix is counted once: that is the least, and every tile loads its part again.",
)
exercise.slip(
    "outputs_forgotten",
    " + M * N\n",
    "\n",
    "The outputs are missing: they are stored, once.",
)
exercise.slip(
    "tiles_exchanged",
    "across * M * K + down * K * N",
    "down * M * K + across * K * N",
    "a is loaded once for each tile *across*, because all of those need its rows; b the other way.",
)
exercise.slip(
    "one_flop",
    "return 2 * M",
    "return M",
    "A product with its addition is two FLOPs.",
)
exercise.slip(
    "numbers_for_bytes",
    "(moved * dtype.itemsize)",
    "moved",
    "That is FLOPs a number: a number has dtype.itemsize bytes.",
)
exercise.slip(
    "two_bytes",
    "dtype.itemsize",
    "2",
    "Not every number has two bytes: dtype.itemsize.",
)
exercise.slip(
    "rounded_down",
    "-(-M // tile), -(-N // tile)",
    "max(M // tile, 1), max(N // tile, 1)",
    "A tile that sticks out is a tile: round up.",
)
exercise.slip(
    "not_rounded",
    "-(-M // tile), -(-N // tile)",
    "M / tile, N / tile",
    "There are no parts of a tile: round up.",
)

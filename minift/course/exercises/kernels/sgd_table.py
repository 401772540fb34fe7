"""kernels.sgd_table: one launch for many tensors, found through a table of addresses."""

# mypy: disable-error-code="no-untyped-def"

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, normal
from minift.course.launch import Compiles, Part, Table, launch

LR = 0.5


def of(*lengths: int, block: int) -> Inputs:
    return {"lengths": list(lengths), "block": block}


def one_piece() -> Iterator[Inputs]:
    yield of(4, block=4)


def one_tensor() -> Iterator[Inputs]:
    yield of(8, block=4)
    yield of(64, block=16)


def several() -> Iterator[Inputs]:
    yield of(4, 4, block=4)
    yield of(8, 4, 16, block=4)


def ragged() -> Iterator[Inputs]:
    yield of(3, block=4)
    yield of(5, 1, 4, 10, block=4)
    yield of(33, 100, 16, block=16)


def tensors(lengths: list[int], block: int) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and gradients; behind each lies memory that belongs to nobody."""
    ps, gs = [], []
    for i, n in enumerate(lengths):
        room = torch.full((2, n + 2 * block), float("nan"))
        p, g = room[0, :n], room[1, :n]
        ps.append(p.copy_(counting(n, start=100 * (i + 1))))
        gs.append(g.copy_(normal(n, seed=i)))
    return ps, gs


def run(kernel: Any, lengths: list[int], block: int) -> dict[str, Any]:
    """Every parameter after one launch; lanes that were outside; bytes of p and g an element."""
    ps, gs = tensors(lengths, block)
    table = Table([[p, g, len(p)] for p, g in zip(ps, gs, strict=True)])
    pieces = [(i, j) for i, n in enumerate(lengths) for j in range(triton.cdiv(n, block))]
    places = torch.tensor(pieces, dtype=torch.int32)
    memory = {"p": ps, "g": gs}
    report = launch(
        kernel, len(pieces), table, places, LR, memory=memory, strict=False, BLOCK=block
    )
    moved = sum(report.traffic[name].loaded + report.traffic[name].stored for name in memory)
    outside = len(report.out_of_bounds) + len(report.races)
    return {"p": torch.cat(ps), "outside": outside, "bytes": moved / sum(lengths)}


def real() -> Iterator[Inputs]:
    table, pieces = torch.empty(4, 3, dtype=torch.int64), torch.empty(9, 2, dtype=torch.int32)
    yield {"args": (table, pieces, LR), "constants": {"BLOCK": 1024}}


exercise = Exercise(
    "kernels.sgd_table",
    "Many tensors in one launch",
    apply=run,
    properties=(
        Part("updates a tensor of one piece", one_piece, "p - lr·g.", part="p"),
        Part("updates every piece of a tensor", one_tensor, "Piece j begins at j·BLOCK.", part="p"),
        Part("finds its row of the table", several, "A row has three numbers.", part="p"),
        Part("leaves nothing out when pieces are ragged", ragged, "See the mask.", part="p"),
        Part(
            "touches only elements of its tensor (0 accesses outside)",
            ragged,
            "The last piece of a tensor needs a mask.",
            part="outside",
        ),
        Part("moves 12 bytes a parameter", ragged, "Something moves twice.", part="bytes"),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "Two loads tell the program what it is to do: `tl.load(pieces + 2 * pid)` is the tensor, "
        "the number behind it which block.",
        "The row of the tensor begins at `table + 3 * tensor`. A load from there gives an int64; "
        "`.to(tl.pointer_type(tl.float32))` makes it a pointer.",
        "From there on it is vector addition: i = block * BLOCK + tl.arange(0, BLOCK), and the "
        "mask i < n with n = tl.load(row + 2).",
    ),
)


@exercise.stub
@triton.jit
def sgd_table(table, pieces, lr, BLOCK: tl.constexpr):
    """p ← p - lr·g for all tensors of a model in one launch; fp32, each as one row of numbers.

    table: int64 (tensors, 3), row after row: address of p, address of g, number of elements.
    pieces: int32 (programs, 2): program k updates block pieces[k, 1] of tensor pieces[k, 0].
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(table, pieces, lr, BLOCK: tl.constexpr):
    piece = pieces + 2 * tl.program_id(0)
    row = table + 3 * tl.load(piece)
    p_ptr = tl.load(row).to(tl.pointer_type(tl.float32))
    g_ptr = tl.load(row + 1).to(tl.pointer_type(tl.float32))
    n = tl.load(row + 2)
    i = tl.load(piece + 1) * BLOCK + tl.arange(0, BLOCK)
    p = tl.load(p_ptr + i, mask=i < n)
    g = tl.load(g_ptr + i, mask=i < n)
    tl.store(p_ptr + i, p - lr * g, mask=i < n)


@exercise.reference
def one_by_one(lengths: list[int], block: int) -> dict[str, Any]:
    ps, gs = tensors(lengths, block)
    parameters = [torch.nn.Parameter(p) for p in ps]
    for parameter, g in zip(parameters, gs, strict=True):
        parameter.grad = g
    torch.optim.SGD(parameters, LR).step()
    return {"p": torch.cat([p.detach() for p in parameters]), "outside": 0, "bytes": 12.0}


exercise.slip(
    "no_mask",
    "n = tl.load(row + 2)",
    "n = tl.load(row + 2) + BLOCK",
    "The last piece of a tensor goes past its end: mask the lanes with i < n.",
)
exercise.slip(
    "first_block_only",
    "tl.load(piece + 1) * BLOCK + tl.arange(0, BLOCK)",
    "tl.arange(0, BLOCK)",
    "Every program updates the first block of its tensor: begin at block·BLOCK.",
)
exercise.slip(
    "block_not_multiplied",
    "tl.load(piece + 1) * BLOCK + tl",
    "tl.load(piece + 1) + tl",
    "Block j begins at element j·BLOCK, not at element j.",
)
exercise.slip(
    "program_for_tensor",
    "3 * tl.load(piece)",
    "3 * tl.program_id(0)",
    "The number of the program was taken for that of the tensor: pieces says which it is.",
)
exercise.slip(
    "program_for_block",
    "tl.load(piece + 1) * BLOCK + tl",
    "tl.program_id(0) * BLOCK + tl",
    "The number of the program was taken for that of the block: it counts over all tensors.",
)
exercise.slip(
    "row_of_one",
    "table + 3 * tl.load(piece)",
    "table + tl.load(piece)",
    "A row of the table has three numbers: row k begins at table + 3·k.",
)
exercise.slip(
    "gradient_overwritten",
    "tl.store(p_ptr + i, p - lr * g",
    "tl.store(g_ptr + i, p - lr * g",
    "The result was stored where the gradient was: it belongs to p.",
)
exercise.slip(
    "uphill",
    "p - lr * g",
    "p + lr * g",
    "The step goes uphill: p - lr·g.",
)

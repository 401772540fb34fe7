"""kernels.flash_dv: the gradient of the values, by programs that own keys."""

# mypy: disable-error-code="no-untyped-def"

import math
from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Compiles, Part, launch
from minift.course.properties import in_dtypes

Shape = tuple[int, int, int]  # M, N, D
LN_2 = math.log(2)


def of(*shapes: Shape, tile: tuple[int, int] = (16, 16)) -> Iterator[Inputs]:
    for seed, (m, n, d) in enumerate(shapes):
        q, k, dout = (normal(r, d, seed=9 * seed + i) for i, r in enumerate((m, n, m)))
        yield {"q": q, "k": k, "dout": dout, "tile": tile}


def one_tile() -> Iterator[Inputs]:
    yield from of((16, 16, 16))


def several_queries() -> Iterator[Inputs]:
    yield from of((48, 32, 16))


def several_keys() -> Iterator[Inputs]:
    yield from of((16, 48, 16), (32, 64, 32))
    yield from of((64, 32, 16), tile=(16, 32))


def ragged() -> Iterator[Inputs]:
    yield from of((20, 16, 16), (16, 5, 16), (1, 1, 16), (33, 20, 32))


def run(kernel: Any, q: Tensor, k: Tensor, dout: Tensor, tile: tuple[int, int]) -> dict[str, Any]:
    """Launch a program for each tile of keys, into a dv full of NaN."""
    (m, d), n = q.shape, k.shape[0]
    dv = torch.full_like(k, float("nan"))
    lse = ((q.double() @ k.double().T / d**0.5).logsumexp(1) / LN_2).float()
    blocks: dict[str, Any] = {"D": d, "BLOCK_M": tile[0], "BLOCK_N": tile[1]}
    args = (q, k, dout, lse, dv, d**-0.5 / LN_2, m, n)
    moved = launch(kernel, triton.cdiv(n, tile[1]), *args, **blocks)
    return {"dv": dv, "bytes": float(moved.loaded + moved.stored)}


def real() -> Iterator[Inputs]:
    x = torch.empty(100, 64, dtype=torch.float16)
    blocks = {"D": 64, "BLOCK_M": 32, "BLOCK_N": 64}
    yield {"args": (x, x, x, torch.empty(100), x, 0.18, 100, 100), "constants": blocks}


exercise = Exercise(
    "kernels.flash_dv",
    "dv: programs that own keys and walk over queries",
    apply=run,
    properties=(
        Part("gives dv for one tile", one_tile, "dv = pᵀ dout, p = 2^(s - lse).", part="dv"),
        Part("walks over several tiles of queries", several_queries, "Add them up.", part="dv"),
        Part("makes every tile of keys", several_keys, "Which keys are whose?", part="dv"),
        Part("gives dv when nothing divides evenly", ragged, "Mask queries, too.", part="dv"),
        Part(
            "gives dv in float16 and bfloat16",
            in_dtypes(several_keys, torch.float16, torch.bfloat16),
            "Something besides the tensors and p was rounded to 16 bits.",
            part="dv",
            ulps=2,
        ),
        Part(
            "reads k once, q, dout and lse once a program, writes dv once",
            several_keys,
            "Something is read or written twice.",
            part="bytes",
        ),
        Compiles("compiles for a GPU (sm_90)", real, "The compiler takes less than Python does."),
    ),
    hints=(
        "It is the forward pass with the roles exchanged: the program's keys are "
        "tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), and the loop goes over queries.",
        "Make the scores transposed, (BLOCK_N, BLOCK_M): s = tl.dot(k, tl.trans(q)) * scale, and "
        "p = tl.exp2(s - lse[None, :]).",
        "dv = tl.dot(p.to(dout.dtype), dout, dv). Queries that do not exist: dout = 0 (other=0.0) "
        "takes care of them, as long as lse is masked, too.",
    ),
)


@exercise.stub
@triton.jit
def flash_dv(
    q_ptr, k_ptr, dout_ptr, lse_ptr, dv_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dv = pᵀ dout for one head, with p = 2^(scale · q kᵀ - lse) made again.

    q, dout: (M, D); k, dv: (N, D); row after row; fp32, fp16 or bf16, sums in fp32. lse: (M,)
    fp32, in base 2. Program p owns keys p·BLOCK_N to (p + 1)·BLOCK_N - 1 and walks over all
    queries, BLOCK_M at a time.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
@triton.jit
def solution(
    q_ptr, k_ptr, dout_ptr, lse_ptr, dv_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    keys = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, D)[None, :]
    k = tl.load(k_ptr + keys[:, None] * D + d, mask=(keys < N)[:, None], other=0.0)
    dv = tl.zeros([BLOCK_N, D], tl.float32)
    for start in range(0, M, BLOCK_M):
        rows = start + tl.arange(0, BLOCK_M)
        tile = rows[:, None] * D + d
        q = tl.load(q_ptr + tile, mask=(rows < M)[:, None], other=0.0)
        dout = tl.load(dout_ptr + tile, mask=(rows < M)[:, None], other=0.0)
        lse = tl.load(lse_ptr + rows, mask=rows < M, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision="ieee") * scale
        p = tl.exp2(s - lse[None, :])
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")
    tl.store(dv_ptr + keys[:, None] * D + d, dv, mask=(keys < N)[:, None])


@exercise.reference
def in_fp64(q: Tensor, k: Tensor, dout: Tensor, tile: tuple[int, int]) -> dict[str, Any]:
    (m, d), n = q.shape, k.shape[0]
    weights = (q.double() @ k.double().T / d**0.5).softmax(1)
    programs = triton.cdiv(n, tile[1])
    moved = (2 * n + programs * 2 * m) * d * q.element_size() + programs * 4 * m
    return {"dv": (weights.T @ dout.double()).to(q.dtype), "bytes": float(moved)}


exercise.slip(
    "lse_forgotten",
    "tl.exp2(s - lse[None, :])",
    "tl.exp2(s)",
    "These are exponentials, not weights: take the lse of the query off first.",
)
exercise.slip(
    "lse_of_the_key",
    "lse[None, :]",
    "lse[:, None]",
    "The lse belongs to the query, and queries run along the second axis here: lse[None, :].",
)
exercise.slip(
    "base_e",
    "tl.exp2(s - lse[None, :])",
    "tl.exp(s - lse[None, :])",
    "These weights are powers of e, but scale and lse are in base 2: tl.exp2.",
)
exercise.slip(
    "last_tile_only",
    "dout, dv, input",
    "dout, input",
    "Each tile of queries replaces what was there: add to dv, tl.dot(p, dout, dv).",
)
exercise.slip(
    "only_the_first_queries",
    "range(0, M, BLOCK_M)",
    "range(0, BLOCK_M, BLOCK_M)",
    "Only the first tile of queries is used: loop from 0 to M in steps of BLOCK_M.",
)
exercise.slip(
    "always_the_first_keys",
    "tl.program_id(0) * BLOCK_N + ",
    "",
    "Every program works on the first keys: they lack `tl.program_id(0) * BLOCK_N`.",
)
exercise.slip(
    "as_many_queries_as_keys",
    "range(0, M, BLOCK_M)",
    "range(0, N, BLOCK_M)",
    "The loop ends at N: it goes over the queries, of which there are M.",
)
exercise.slip(
    "lse_not_masked",
    "tl.load(lse_ptr + rows, mask=rows < M, other=0.0)",
    "tl.load(lse_ptr + rows)",
    "The load of lse has no mask: in the last tile it goes past the end.",
)
exercise.slip(
    "store_not_masked",
    "d, dv, mask=(keys < N)[:, None])",
    "d, dv)",
    "The store has no mask: in the last program it goes past the end.",
)

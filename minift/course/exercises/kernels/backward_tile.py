"""kernels.backward_tile: what one tile of scores adds to the gradients of q, k and v."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import normal
from minift.course.launch import Part
from minift.course.properties import in_dtypes

Shape = tuple[int, int, int]  # M, N, D


def of(*shapes: Shape, tile: tuple[int, int]) -> Iterator[Inputs]:
    for seed, (m, n, d) in enumerate(shapes):
        q, k, v, dout = (normal(r, d, seed=9 * seed + i) for i, r in enumerate((m, n, n, m)))
        yield {"q": q, "k": k, "v": v, "dout": dout, "tile": tile}


def one_tile() -> Iterator[Inputs]:
    yield from of((1, 2, 1), (2, 3, 4), (5, 4, 3), tile=(8, 8))


def several() -> Iterator[Inputs]:
    yield from of((4, 4, 4), (5, 7, 3), (1, 9, 2), (6, 2, 8), (20, 33, 16), tile=(4, 2))


def run(
    fn: Any, q: Tensor, k: Tensor, v: Tensor, dout: Tensor, tile: tuple[int, int]
) -> dict[str, Any]:
    """All tiles, each added where its queries and keys stand."""
    scale = q.shape[1] ** -0.5
    scores = q.double() @ k.double().T * scale
    lse = scores.logsumexp(1)
    delta = (scores.softmax(1) @ v.double() * dout.double()).sum(1)
    lse, delta = lse.to(q.dtype), delta.to(q.dtype)
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i in torch.arange(len(q)).split(tile[0]):
        for j in torch.arange(len(k)).split(tile[1]):
            added = fn(q[i], k[j], v[j], dout[i], lse[i], delta[i], scale)
            for grad, rows, part in zip((dq, dk, dv), (i, j, j), added, strict=True):
                grad[rows] += part
    return {"dq": dq, "dk": dk, "dv": dv}


exercise = Exercise(
    "kernels.backward_tile",
    "One tile of the backward pass",
    apply=run,
    properties=(
        Part("gives dv for one tile", one_tile, "o = p v, so dv = pᵀ dout.", part="dv"),
        Part("gives dv for many tiles", several, "p is relative to the LSE.", part="dv"),
        Part("gives dq", several, "dq = scale · ds k, ds = p · (dp - delta).", part="dq", ulps=64),
        Part("gives dk", several, "dk = scale · dsᵀ q.", part="dk", ulps=64),
        Part(
            "keeps the dtype: float64",
            in_dtypes(several, torch.float64),
            "A step went through another dtype.",
            part="dk",
            ulps=64,
        ),
    ),
    hints=(
        "The weights again: p = torch.exp(q @ k.T * scale - lse[:, None]). The LSE is that of the "
        "whole row of scores, so no sum is needed here.",
        "dp = dout @ v.T, as o = p v. Then the softmax: ds = p * (dp - delta[:, None]).",
        "s = scale · q kᵀ, so dq = scale * ds @ k and dk = scale * ds.T @ q; and dv = p.T @ dout.",
    ),
)


@exercise.stub
def backward_tile(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, lse: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What a tile of M queries and N keys adds to (dq, dk, dv).

    q, dout: (M, D); k, v: (N, D). lse: (M,), log Σ exp(scale · q·k) over all keys of the
    query, natural logarithm; delta: (M,), Σ_d out · dout of the query.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, lse: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    p = torch.exp(q @ k.T * scale - lse[:, None])
    dp = dout @ v.T
    ds = p * (dp - delta[:, None])
    return scale * ds @ k, scale * ds.T @ q, p.T @ dout


@exercise.reference
def by_autograd(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, tile: tuple[int, int]
) -> dict[str, Any]:
    given = [t.double().requires_grad_() for t in (q, k, v)]
    out = (given[0] @ given[1].T / q.shape[1] ** 0.5).softmax(1) @ given[2]
    grads = torch.autograd.grad(out, given, dout.double())
    return {name: g.to(q.dtype) for name, g in zip(("dq", "dk", "dv"), grads, strict=True)}


exercise.slip(
    "delta_dropped",
    "p * (dp - delta[:, None])",
    "p * dp",
    "delta is missing: a weight that rises makes the others of its row fall, ds = p (dp - delta).",
)
exercise.slip(
    "delta_added",
    "dp - delta[:, None]",
    "dp + delta[:, None]",
    "delta has the wrong sign: ds = p (dp - delta).",
)
exercise.slip(
    "softmax_of_the_tile",
    "torch.exp(q @ k.T * scale - lse[:, None])",
    "torch.softmax(q @ k.T * scale, 1)",
    "That is a softmax over the keys of this tile alone: the lse knows the sum over all keys.",
)
exercise.slip(
    "delta_of_the_tile",
    "dp - delta[:, None]",
    "dp - (p * dp).sum(1, keepdim=True)",
    "That delta is a sum over the keys of this tile alone: it goes over all keys, and is given.",
)
exercise.slip(
    "lse_forgotten",
    "q @ k.T * scale - lse[:, None]",
    "q @ k.T * scale",
    "These are exponentials, not weights: take the lse off first.",
)
exercise.slip(
    "scale_forgotten_in_the_scores",
    "q @ k.T * scale - lse",
    "q @ k.T - lse",
    "The scores lack the scale: s = scale · q kᵀ.",
)
exercise.slip(
    "scale_forgotten_in_dq",
    "scale * ds @ k",
    "ds @ k",
    "dq lacks the scale: s = scale · q kᵀ, so its derivative has it, too.",
)
exercise.slip(
    "scale_forgotten_in_dk",
    "scale * ds.T @ q",
    "ds.T @ q",
    "dk lacks the scale: s = scale · q kᵀ, so its derivative has it, too.",
)
exercise.slip(
    "ds_for_p",
    "p.T @ dout",
    "ds.T @ dout",
    "dv is made of the weights, not of the gradients of the scores: pᵀ dout.",
)

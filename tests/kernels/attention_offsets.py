"""Tensors whose elements lie more than 2**31 apart, in memory that costs nothing until touched."""

import mmap
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from attention_helpers import draw, normal

NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux, which Python names from 3.13 on
Options = dict[str, torch.Tensor]


def virtual(values: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """``values`` in memory with these strides. Only the pages that hold an element exist."""
    size = 1 + reach(values.shape, strides)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    memory = mmap.mmap(-1, size * values.itemsize, flags=flags)
    storage = torch.frombuffer(memory, dtype=values.dtype)
    return storage.as_strided(values.shape, strides).copy_(values)


def reach(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """The offset of the last element from the first, in elements."""
    return sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


# What makes an offset pass 2**31 elements: (shape of q, k and v; strides).
FAR_APART = {
    "batches": ((3, 1, 5, 8), (3 * 2**29, 64, 8, 1)),
    "heads": ((1, 3, 5, 8), (64, 3 * 2**29, 8, 1)),
    "rows": ((1, 1, 300, 8), (8, 8, 2**23, 1)),
    "rows of a tile": ((1, 1, 40, 8), (8, 8, 2**27 + 2**26, 1)),
    "columns": ((1, 1, 5, 16), (1, 1, 1, 2**28)),
    "bias": ((1, 1, 5, 8), (40, 40, 8, 1)),  # and what follows
}
BIAS_STRIDES = (1, 1, 2**29 + 2**27, 2**28 + 2**27)


def far_apart(package: ModuleType, what: str) -> bool:
    """Whether all results are the same bits as those from tensors that lie close together."""
    (b, h, t, d), strides = FAR_APART[what]
    # Of many rows only k and v have them: one tile of queries walks over all.
    near = draw(min(t, 5), t, d, heads=h, batch=b, dtype=torch.float16)
    far = [virtual(x, strides) for x in near]
    options: Options = {}
    if what == "bias":
        options = {"bias": normal(1, 1, 5, t), "key_mask": normal(1, t) > -1}
    mine = _everything(package, *near, None, **options)
    if options:
        mask = virtual(options["key_mask"], (1, 2**30))
        options = {"bias": virtual(options["bias"], BIAS_STRIDES), "key_mask": mask}
    return all(map(torch.equal, mine, _everything(package, *far, strides, **options)))


def _everything(
    package: ModuleType,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    strides: tuple[int, ...] | None,
    **options: torch.Tensor,
) -> list[torch.Tensor]:
    """Output, LSE and gradients; with ``strides``, the kernels' own tensors have them too."""
    layouts: Any = dict.fromkeys(
        ("forward", "dq", "dkv", "dbias"), package.layouts.Layout(16, 16, 4, 1)
    )
    problem = package.call.Problem(scale=0.3, **options)
    dout = normal(*q.shape).to(q.dtype)

    def empty_like(x: torch.Tensor) -> torch.Tensor:
        return virtual(torch.zeros(x.shape, dtype=x.dtype), strides or x.contiguous().stride())

    with mock.patch.object(torch, "empty_like", empty_like):
        out, lse = package.call.forward(q, k, v, problem, layouts)
        dq, dk, dv, *_ = package.call.backward(dout, None, q, k, v, out, lse, problem, layouts)
    return [out, lse, dq, dk, dv]

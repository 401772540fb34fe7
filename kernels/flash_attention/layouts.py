"""How each kernel is laid out on each machine: one table of tile sizes, warps and stages.

The layouts were chosen from the compiled code, with no GPU: of those whose loops keep everything in
registers, the one with the fewest instructions a score, two stages or more where there is a choice
(``python -m kernels report`` prints both). On a real GPU ``with kernels.autotune():`` times every
layout of the table for the sizes at hand and keeps the fastest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import torch
import triton


class Layout(NamedTuple):
    """How one program is laid out."""

    block_m: int  # queries a program, or a step of the dK and dV kernel
    block_n: int  # keys a step, or a program of the dK and dV kernel
    num_warps: int
    num_stages: int  # tiles in flight

    def options(self) -> dict[str, int]:
        """As the arguments of a launch."""
        names = ("BLOCK_M", "BLOCK_N", "num_warps", "num_stages")
        return dict(zip(names, self, strict=True))


L = Layout
# kernel -> (bytes an element, head dim rounded up to a power of two) -> layouts on
#   sm_80 (and other GPUs of its instruction set: sm_86, sm_89, sm_120), sm_90, sm_100
LAYOUTS: dict[str, dict[tuple[int, int], tuple[Layout, Layout, Layout]]] = {
    "forward": {
        (2, 16): 3 * (L(128, 64, 4, 3),),
        (2, 32): 3 * (L(128, 64, 4, 3),),
        (2, 64): 3 * (L(128, 64, 4, 3),),
        (2, 128): 3 * (L(128, 64, 8, 2),),
        (2, 256): 3 * (L(64, 32, 4, 2),),
        (4, 16): 3 * (L(64, 32, 4, 2),),
        (4, 32): 3 * (L(64, 32, 4, 2),),
        (4, 64): 3 * (L(64, 32, 8, 2),),
        (4, 128): 3 * (L(32, 16, 4, 2),),
        (4, 256): 3 * (L(32, 16, 8, 2),),
    },
}
for _name in ("dq", "dkv", "dbias", "decode"):
    LAYOUTS[_name] = LAYOUTS["forward"]
# The same where a score is more than scale · q·k: soft-cap, ALiBi, bias, key mask, dropout.
RICH_LAYOUTS = LAYOUTS
MACHINES = ("sm_80", "sm_90", "sm_100")

_autotuning: ContextVar[bool] = ContextVar("kernels.autotune", default=False)


def block_d(d: int) -> int:
    """The head dim as the kernels see it: a power of two, 16 or more."""
    return max(16, 1 << (d - 1).bit_length())


def machine_of(device: torch.device) -> str:
    """The column of the table for a device; the CPU interprets what sm_80 would run."""
    if device.type != "cuda" or torch.version.hip:
        return "sm_80"
    major, _ = torch.cuda.get_device_capability(device)
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def layout_for(
    kernel: str, q: torch.Tensor, *, rich: bool = False, machine: str | None = None
) -> Layout:
    """The layout for this dtype, head dim and machine (by default, that of ``q``)."""
    machine = machine or machine_of(q.device)
    table = RICH_LAYOUTS if rich else LAYOUTS
    row = table[kernel][q.element_size(), block_d(q.shape[-1])]
    return row[MACHINES.index(machine)]


@contextmanager
def autotune() -> Iterator[None]:
    """Inside, attention times every layout of the table on the GPU for each new pair of lengths,
    and keeps the fastest. Packed sequences keep to the table."""
    token = _autotuning.set(True)
    try:
        yield
    finally:
        _autotuning.reset(token)


def is_autotuning() -> bool:
    return _autotuning.get()


def autotuned(name: str, kernel: Any, q: torch.Tensor, *, rich: bool) -> Any:
    """The kernel under ``triton.autotune`` with the layouts of this dtype and head dim."""
    return _autotuned(name, kernel, q.element_size(), block_d(q.shape[-1]), rich)


@cache
def _autotuned(name: str, kernel: Any, size: int, width: int, rich: bool) -> Any:
    rows = [*RICH_LAYOUTS[name][size, width], *(() if rich else LAYOUTS[name][size, width])]
    configs = [
        triton.Config(
            {"BLOCK_M": layout.block_m, "BLOCK_N": layout.block_n},
            num_warps=layout.num_warps,
            num_stages=layout.num_stages,
        )
        for layout in dict.fromkeys(rows)
    ]
    return triton.autotune(configs, key=["M", "N"])(kernel)

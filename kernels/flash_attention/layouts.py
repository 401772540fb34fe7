"""How each kernel is laid out on each machine: the one table of tile sizes, warps and stages."""

from typing import NamedTuple

import torch


class Layout(NamedTuple):
    """How one program is laid out."""

    block_m: int  # queries a program, or a step of the dK and dV kernel
    block_n: int  # keys a step, or a program of the dK and dV kernel
    num_warps: int
    num_stages: int  # tiles in flight


# kernel -> (bytes an element, head dim rounded up to a power of two) -> layout
LAYOUTS = {
    "forward": {
        (2, 16): Layout(128, 64, 4, 3),
        (2, 32): Layout(128, 64, 4, 3),
        (2, 64): Layout(128, 64, 4, 3),
        (2, 128): Layout(128, 64, 8, 2),
        (2, 256): Layout(64, 32, 4, 2),
        (4, 16): Layout(64, 32, 4, 2),
        (4, 32): Layout(64, 32, 4, 2),
        (4, 64): Layout(64, 32, 8, 2),
        (4, 128): Layout(32, 16, 4, 2),
        (4, 256): Layout(32, 16, 8, 2),
    },
}
LAYOUTS["dq"] = {**LAYOUTS["forward"]}
LAYOUTS["dkv"] = {**LAYOUTS["forward"]}
LAYOUTS["dbias"] = {**LAYOUTS["forward"]}
LAYOUTS["decode"] = {key: layout._replace(block_m=16) for key, layout in LAYOUTS["forward"].items()}


def block_d(d: int) -> int:
    """The head dim as the kernels see it: a power of two, 16 or more."""
    return max(16, 1 << (d - 1).bit_length())


def layout_for(kernel: str, q: torch.Tensor) -> Layout:
    """The layout for this dtype and head dim."""
    return LAYOUTS[kernel][q.element_size(), block_d(q.shape[-1])]

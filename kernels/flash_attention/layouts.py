"""How each kernel is laid out on each machine: one table of tile sizes, warps and stages.

The layouts were chosen from the compiled code, with no GPU: of those whose loops keep everything in
registers (with each option alone) and that have two tiles in flight where there is a choice, the
one with the fewest instructions a score (``python -m kernels report`` prints both). On a real GPU
``with kernels.autotune():`` times the layouts of a row and keeps the fastest.

With all options at once nothing is promised, but measured: in fp16 with head dims 64 and 128, on
sm_80, sm_90 and sm_100, the loops of forward, dq and dkv still have no local-memory operation, with
up to 255 registers. With a bias dkv reads it 16 bits at a time, its scores being transposed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
import triton

# kernel, bytes an element, head dim rounded up to a power of two; then, for each machine, the tile
# (queries x keys), warps and stages. The column sm_80 serves its whole instruction set (sm_86,
# sm_89 and sm_120 too), so its tiles fit into the 99 KB of shared memory that the smallest have.
MACHINES = ("sm_80", "sm_90", "sm_100", "gfx942")
TABLE = """
forward  2   16  128x128 w8 s2   128x128 w8 s2   128x128 w8 s2   128x64 w4 s2
forward  2   32  128x128 w8 s2   128x128 w8 s3   128x64 w4 s2    128x64 w4 s2
forward  2   64  128x128 w8 s2   128x128 w8 s3   128x128 w8 s2   128x64 w4 s2
forward  2  128  128x64 w8 s2    128x128 w8 s2   128x128 w8 s2   128x64 w4 s2
forward  2  256  64x32 w8 s2     128x64 w8 s2    128x64 w8 s2    128x64 w4 s2
forward  4   16  64x32 w8 s2     64x32 w8 s2     64x32 w8 s2     64x32 w4 s1
forward  4   32  64x32 w8 s2     64x32 w8 s2     64x32 w8 s2     64x32 w4 s1
forward  4   64  64x32 w8 s2     64x32 w8 s2     64x32 w8 s2     64x32 w4 s1
forward  4  128  64x32 w8 s2     32x16 w8 s2     32x16 w8 s2     64x32 w4 s1
forward  4  256  32x16 w4 s2     32x16 w8 s2     32x16 w8 s2     64x32 w4 s1
dq       2   16  128x64 w4 s2    128x64 w4 s2    128x64 w4 s2    128x64 w4 s1
dq       2   32  128x32 w4 s2    128x64 w4 s2    128x64 w4 s2    128x64 w4 s1
dq       2   64  128x32 w4 s2    64x64 w4 s2     128x64 w4 s2    128x64 w4 s1
dq       2  128  128x32 w8 s2    128x64 w8 s2    128x64 w4 s2    128x64 w4 s1
dq       2  256  64x32 w8 s1     64x32 w8 s2     64x64 w8 s2     128x32 w4 s1
dq       4   16  64x32 w8 s1     64x32 w8 s1     64x32 w8 s1     64x32 w4 s1
dq       4   32  64x32 w8 s1     64x32 w8 s1     64x32 w8 s1     64x32 w4 s1
dq       4   64  32x32 w8 s1     32x32 w8 s1     32x32 w8 s1     64x32 w4 s1
dq       4  128  16x16 w8 s1     16x16 w8 s1     16x16 w8 s1     64x32 w4 s1
dq       4  256  16x16 w8 s1     16x16 w8 s1     16x16 w8 s1     32x16 w4 s1
dkv      2   16  64x64 w4 s2     64x64 w4 s2     32x128 w4 s2    64x64 w4 s1
dkv      2   32  32x128 w4 s2    64x64 w4 s2     32x128 w4 s2    64x64 w4 s1
dkv      2   64  32x128 w8 s2    32x64 w4 s2     32x128 w4 s1    64x64 w4 s1
dkv      2  128  64x64 w8 s2     32x128 w8 s1    64x64 w8 s1     64x64 w4 s1
dkv      2  256  32x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x64 w4 s1
dkv      4   16  32x64 w8 s1     32x64 w8 s1     32x64 w8 s1     32x64 w4 s1
dkv      4   32  32x64 w8 s1     32x64 w8 s1     32x64 w8 s1     32x64 w4 s1
dkv      4   64  32x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x64 w4 s1
dkv      4  128  16x16 w8 s1     16x16 w8 s1     16x16 w8 s1     32x64 w4 s1
dkv      4  256  16x16 w8 s1     16x16 w8 s1     16x16 w8 s1     16x32 w4 s1
dbias    2   16  64x32 w4 s1     64x32 w4 s1     64x32 w4 s1     64x64 w4 s1
dbias    2   32  64x32 w4 s1     64x32 w4 s1     64x32 w4 s1     64x64 w4 s1
dbias    2   64  64x32 w4 s1     64x32 w4 s1     64x32 w4 s1     64x64 w4 s1
dbias    2  128  32x32 w4 s1     64x32 w4 s1     64x32 w4 s1     64x64 w4 s1
dbias    2  256  16x32 w4 s1     16x16 w4 s1     16x32 w8 s1     64x64 w4 s1
dbias    4   16  16x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x32 w4 s1
dbias    4   32  16x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x32 w4 s1
dbias    4   64  16x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x32 w4 s1
dbias    4  128  32x32 w8 s1     32x32 w8 s1     32x32 w8 s1     32x32 w4 s1
dbias    4  256  32x32 w8 s1     16x16 w8 s1     16x16 w8 s1     32x32 w4 s1
decode   2   16  16x128 w4 s3    16x128 w4 s3    16x128 w4 s3    16x128 w4 s2
decode   2   32  16x128 w4 s3    16x128 w4 s3    16x128 w4 s3    16x128 w4 s2
decode   2   64  16x128 w4 s3    16x128 w4 s3    16x128 w4 s3    16x128 w4 s2
decode   2  128  16x64 w4 s2     16x128 w4 s3    16x128 w4 s3    16x128 w4 s2
decode   2  256  16x32 w4 s2     16x64 w4 s3     16x64 w4 s3     16x64 w4 s2
decode   4   16  16x32 w4 s2     16x32 w4 s2     16x32 w4 s2     16x32 w4 s1
decode   4   32  16x32 w4 s2     16x32 w4 s2     16x32 w4 s2     16x32 w4 s1
decode   4   64  16x32 w4 s2     16x32 w4 s2     16x32 w4 s2     16x32 w4 s1
decode   4  128  16x32 w4 s2     16x16 w4 s2     16x16 w4 s2     16x32 w4 s1
decode   4  256  16x32 w4 s2     16x16 w4 s2     16x16 w4 s2     16x32 w4 s1
"""
# Where a score is more than scale · q·k under a band (soft-cap, ALiBi, bias, key mask, dropout)
# fewer registers are free. What has no row here takes its row above.
RICH_TABLE = """
forward  2   16  128x64 w8 s2    128x64 w8 s2    128x64 w8 s2    128x64 w4 s2
forward  2   32  128x64 w8 s2    128x64 w8 s2    128x64 w8 s2    128x64 w4 s2
forward  2   64  128x64 w8 s2    128x64 w8 s2    128x64 w8 s2    128x64 w4 s2
forward  2  128  64x64 w8 s2     128x64 w8 s2    128x64 w8 s2    128x64 w4 s2
forward  2  256  32x32 w4 s2     32x32 w4 s2     64x64 w8 s2     128x64 w4 s2
dq       2   16  128x32 w8 s2    128x32 w8 s2    128x32 w8 s2    128x64 w4 s1
dq       2   32  128x32 w8 s2    128x32 w8 s2    128x32 w8 s2    128x64 w4 s1
dq       2   64  128x32 w8 s2    128x32 w8 s2    128x32 w8 s2    128x64 w4 s1
dq       2  128  128x32 w8 s2    128x32 w8 s2    128x32 w8 s2    128x64 w4 s1
dq       2  256  64x32 w8 s1     128x32 w8 s2    128x32 w8 s2    128x32 w4 s1
dkv      2   16  32x64 w4 s2     32x64 w4 s2     32x64 w4 s2     64x64 w4 s1
dkv      2   32  32x64 w4 s2     32x64 w4 s2     32x64 w4 s2     64x64 w4 s1
dkv      2   64  16x64 w4 s1     32x64 w4 s1     32x64 w4 s1     64x64 w4 s1
dkv      2  128  32x64 w8 s1     16x64 w8 s1     64x64 w8 s1     64x64 w4 s1
"""


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


Rows = dict[tuple[str, int, int], dict[str, Layout]]


def _rows(table: str) -> Rows:
    rows = {}
    for line in table.strip().splitlines():
        kernel, size, width, *words = line.split()
        cells = [words[i : i + 3] for i in range(0, len(words), 3)]
        layouts = [
            Layout(*map(int, [*tile.split("x"), warps[1:], stages[1:]]))
            for tile, warps, stages in cells
        ]
        rows[kernel, int(size), int(width)] = dict(zip(MACHINES, layouts, strict=True))
    return rows


LAYOUTS = _rows(TABLE)
RICH_LAYOUTS = {**LAYOUTS, **_rows(RICH_TABLE)}

_autotuning = 0  # how many blocks of autotune() are open, in whatever thread: autograd has its own


def block_d(d: int) -> int:
    """The head dim as the kernels see it: a power of two, 16 or more."""
    return max(16, 1 << (d - 1).bit_length())


def machine_of(device: torch.device) -> str:
    """The column of the table for a device; the CPU interprets what sm_80 would run."""
    if device.type != "cuda":
        return "sm_80"
    if torch.version.hip:
        return "gfx942"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        raise ValueError(
            f"{device}: compute capability {major}.{minor}; the kernels need 8.0 or newer"
        )
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def row_of_table(
    kernel: str, dtype: torch.dtype, d: int, *, rich: bool = False
) -> dict[str, Layout]:
    """The layouts of a kernel by machine."""
    return (RICH_LAYOUTS if rich else LAYOUTS)[kernel, dtype.itemsize, block_d(d)]


def layout_for(kernel: str, q: torch.Tensor, *, rich: bool = False) -> Layout:
    """The layout for the dtype, head dim and machine of ``q``."""
    return row_of_table(kernel, q.dtype, q.shape[-1], rich=rich)[machine_of(q.device)]


@contextmanager
def autotune() -> Iterator[None]:
    """Inside, attention times every layout of the table's row on the GPU for each new set of
    sizes, and keeps the fastest. Packed sequences keep to the table."""
    global _autotuning
    _autotuning += 1
    try:
        yield
    finally:
        _autotuning -= 1


def is_autotuning() -> bool:
    """Whether this runs inside :func:`autotune`."""
    return _autotuning > 0


def autotuned(name: str, kernel: Any, q: torch.Tensor, *, rich: bool) -> Any:
    """The kernel under ``triton.autotune`` with the layouts of its row."""
    return _autotuned(name, kernel, q.dtype, block_d(q.shape[-1]), rich)


@cache
def _autotuned(name: str, kernel: Any, dtype: torch.dtype, width: int, rich: bool) -> Any:
    layouts = [*row_of_table(name, dtype, width, rich=rich).values()]
    if not rich:
        layouts += row_of_table(name, dtype, width, rich=True).values()
    configs = [
        triton.Config(
            {"BLOCK_M": layout.block_m, "BLOCK_N": layout.block_n},
            num_warps=layout.num_warps,
            num_stages=layout.num_stages,
        )
        for layout in dict.fromkeys(layouts)
    ]
    return triton.autotune(configs, key=["M", "N", "H", "GROUP", "right", "D"])(kernel)

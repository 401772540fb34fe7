"""A laboratory for Triton kernels that needs no GPU.

from kernels.lab import check, compile_for, interpret

with check() as report:                            # bounds, races, bytes moved
    interpret(kernel)[grid](x, y, out, n, BLOCK=32)  # on CPU tensors, in this process
print(report.report())

print(compile_for(kernel, x, y, out, n, BLOCK=32, arch="sm_90").report())

Two versions side by side: ``compare_sass(compile_for(v1, ...), compile_for(v2, ...))``. Bounds:
``roofline(bytes, flops)`` and ``bracket(compiled)``. Pictures of a trace are in
``kernels.lab.drawing``, which needs matplotlib.
"""

import kernels

kernels.require_triton("kernels.lab")

from kernels.lab.bounds import Bracket, Roofline, bracket, executed, roofline  # noqa: E402
from kernels.lab.comparison import compare_sass  # noqa: E402
from kernels.lab.compiler import ARCHITECTURES, Compiled, compile_for, example  # noqa: E402
from kernels.lab.gpus import GPUS  # noqa: E402
from kernels.lab.interpreter import interpret  # noqa: E402
from kernels.lab.memory import Access, OutOfBoundsError, RaceError, Report, check  # noqa: E402
from kernels.lab.tiles import Tile, tiles  # noqa: E402

__all__ = [
    "ARCHITECTURES",
    "GPUS",
    "Access",
    "Bracket",
    "Compiled",
    "OutOfBoundsError",
    "RaceError",
    "Report",
    "Roofline",
    "Tile",
    "bracket",
    "check",
    "compare_sass",
    "compile_for",
    "example",
    "executed",
    "interpret",
    "roofline",
    "tiles",
]

"""A laboratory for Triton kernels that needs no GPU.

from kernels.lab import check, compile_for, interpret

with check() as report:                            # bounds, races, bytes moved
    interpret(kernel)[grid](x, y, out, n, BLOCK=32)  # on CPU tensors, in this process
print(report.report())

print(compile_for(kernel, x, y, out, n, BLOCK=32, arch="sm_90").report())
"""

import kernels

kernels.require_triton("kernels.lab")

from kernels.lab.compiler import ARCHITECTURES, Compiled, compile_for  # noqa: E402
from kernels.lab.interpreter import interpret  # noqa: E402
from kernels.lab.memory import Access, OutOfBoundsError, RaceError, Report, check  # noqa: E402

__all__ = [
    "ARCHITECTURES",
    "Access",
    "Compiled",
    "OutOfBoundsError",
    "RaceError",
    "Report",
    "check",
    "compile_for",
    "interpret",
]

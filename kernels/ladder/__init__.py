"""The teaching ladder: five operations, each climbed from the first idea to the one that is used.

    from kernels.ladder import rungs, softmax

    for rung in rungs("softmax"):
        print(rung.version, rung.reason)
    softmax.v3(x)

Each version is one small kernel, or one line of change, with one reason why it exists. They are
for reading: ``kernels.attention`` and ``kernels.AdamW`` are for use, and nothing in ``minift``
imports this package. Every version is tested like any other kernel.
"""

from importlib import import_module

import kernels

kernels.require_triton("kernels.ladder")

from kernels.ladder.rung import Rung, compile_launches  # noqa: E402

__all__ = ["OPERATIONS", "Rung", "compile_launches", "rungs"]

OPERATIONS = ("vector_add", "softmax", "matmul", "attention", "adamw")


def rungs(operation: str) -> list[Rung]:
    """The versions of an operation, lowest first; ``ValueError`` for one that is not known."""
    if operation not in OPERATIONS:
        raise ValueError(f"operation: unknown {operation!r}; known: {', '.join(OPERATIONS)}")
    found: list[Rung] = import_module(f"kernels.ladder.{operation}").RUNGS
    return found

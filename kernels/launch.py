"""One place decides where a kernel runs: on the GPU that holds the tensors, or interpreted."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.lab.interpreter import interpret


def launch(
    kernel: Any,
    grid: Any,
    *args: Any,
    memory: dict[str, list[torch.Tensor]] | None = None,
    **constexprs: Any,
) -> None:
    """Launch ``kernel`` where its first tensor lives.

    CPU tensors run in the corrected interpreter, in this process; any other device launches the
    compiled kernel. ``memory`` names the tensors that are reached only through an address table
    (see :class:`kernels.lab.interpret`). A product and a sum may become one instruction unless
    ``enable_fp_fusion=False`` says otherwise: Triton's own default differs between versions.
    """
    constexprs.setdefault("enable_fp_fusion", True)
    device = next(_tensors(args)).device
    if device.type == "cpu":
        interpret(kernel, memory=memory)[grid](*args, **constexprs)
        return
    with torch.cuda.device(device):  # Triton launches on the current device
        kernel[grid](*args, **constexprs)


def _tensors(args: Iterable[Any]) -> Iterator[torch.Tensor]:
    """The tensors among the arguments, those in tuples too."""
    for arg in args:
        if isinstance(arg, torch.Tensor):
            yield arg
        elif isinstance(arg, tuple):
            yield from _tensors(arg)
        elif isinstance(arg, TensorDescriptor):
            yield arg.base

"""Triton kernels that a learner can read and an engineer can lift into other work.

``attention``, ``decode_attention``, ``AdamW`` and ``AdamW8bit`` take PyTorch tensors. On CUDA
tensors they launch on the GPU (``with autotune():`` times the layouts there); on CPU tensors they
run in the corrected interpreter of :mod:`kernels.lab`, in the same process, with no environment
variable set. ``import kernels`` itself needs neither PyTorch nor Triton: the names
are imported on first use.
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.adamw import AdamW, AdamW8bit
    from kernels.decoding import decode_attention
    from kernels.flash_attention import attention
    from kernels.flash_attention.layouts import autotune

__all__ = ["AdamW", "AdamW8bit", "attention", "autotune", "decode_attention"]

_HOME = {
    "attention": "kernels.flash_attention",
    "autotune": "kernels.flash_attention.layouts",
    "decode_attention": "kernels.decoding",
    "AdamW": "kernels.adamw",
    "AdamW8bit": "kernels.adamw",
}


def require_triton(wanted_by: str) -> None:
    """Raise ``ImportError``, in one line that says what to do, if Triton cannot be used."""
    if find_spec("triton") is None:
        raise ImportError(
            f"{wanted_by} needs Triton, which is not installed: it exists for Linux "
            "(pip install triton), so use a Linux machine, WSL on Windows, or Colab"
        )
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y"):
        raise ImportError(
            f"{wanted_by} runs CPU tensors in its own interpreter: unset the environment variable "
            "TRITON_INTERPRET and start Python again"
        )


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kernels' has no attribute {name!r}")
    require_triton(f"kernels.{name}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

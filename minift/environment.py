"""What must hold of the Python environment before anything heavy is imported.

This project's ``kernels`` package has the import name of another package: the loader of the
Hugging Face Hub's kernels (``pip install kernels``). If that is installed too, one of them hides
the other, and ``transformers``, which looks for it by name, fails on import with an error that
names neither.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

from minift.errors import InputError


def check_environment() -> None:
    """Make sure that ``import kernels`` gives this project's package; imports nothing itself.

    Raises:
        InputError: the Hub's ``kernels`` is installed; another package or folder named
            ``kernels`` is found first; or none is found.
    """
    hub = _hub_version()
    if hub is not None:
        raise InputError(
            f"kernels: the Hugging Face Hub's package of this name (version {hub}) is installed "
            "and hides minift's own; remove it: pip uninstall kernels && pip install -e ."
        )
    ours = Path(__file__).resolve().parent.parent / "kernels"
    found = _location()
    if found is None:
        raise InputError(
            f"kernels: minift's own package is not found, it belongs at {ours}; "
            "install minift again: pip install -e ."
        )
    if found != ours:
        raise InputError(
            f"kernels: {found} hides minift's own package of this name; "
            "start Python from another folder, or rename that one"
        )


def _hub_version() -> str | None:
    """The version of the installed distribution named kernels; ours is named minift."""
    try:
        return importlib.metadata.version("kernels")
    except importlib.metadata.PackageNotFoundError:
        return None


def _location() -> Path | None:
    """The folder that ``import kernels`` would use, or has used."""
    try:
        spec = importlib.util.find_spec("kernels")
    except ValueError:  # a module put into sys.modules by hand
        spec = None
    if spec is None or not spec.submodule_search_locations:
        return None if spec is None or spec.origin is None else Path(spec.origin).resolve()
    return Path(next(iter(spec.submodule_search_locations))).resolve()

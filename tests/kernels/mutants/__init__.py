"""One-line bugs, each of which some check has to find: what a check is worth.

One module a kernel family holds ``PACKAGE`` (a module or package under ``kernels``), ``MUTANTS``
(name -> :class:`Mutant`) and ``survives(package) -> bool``, which runs the family's checks on a
copy of it (``survives(package, file)``: those that look at one file). ``test_mutants.py`` runs a
sample; ``pytest -m mutants`` runs all and prints the table.
"""

import importlib
import importlib.util
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import kernels
from kernels.lab import OutOfBoundsError, RaceError


class Mutant(NamedTuple):
    """A bug: in ``file`` of the package (or the module's own file), ``old`` became ``new``.

    ``old`` is there exactly once, so that one place is wrong and not several.
    """

    file: str
    old: str
    new: str


@contextmanager
def mutated(package: str, mutant: Mutant, folder: Path) -> Iterator[ModuleType]:
    """A copy of ``kernels.<package>`` with the bug, imported under the real name until the end.

    A package's copy has an empty ``__init__``: its files are reached as attributes, and what
    ``__init__`` registers (operators of PyTorch) stays that of the real one.
    """
    name = f"kernels.{package}"
    source = Path(kernels.__file__).with_name(package)
    if source.is_dir():
        copy = folder / package
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "__init__.py").write_text("")
        path, entry = copy / mutant.file, copy / "__init__.py"
    else:
        path = entry = folder / f"{package}.py"
        path.write_text(source.with_suffix(".py").read_text())
    text = path.read_text()
    found = text.count(mutant.old)
    assert found == 1, f"{mutant.file}: expected {mutant.old!r} once, found it {found} times"
    path.write_text(text.replace(mutant.old, mutant.new))

    mine = {n: m for n, m in sys.modules.items() if n == name or n.startswith(f"{name}.")}
    attribute = vars(kernels).get(package)
    for n in mine:
        del sys.modules[n]
    try:
        search = [str(entry.parent)] if source.is_dir() else None
        spec = importlib.util.spec_from_file_location(
            name, entry, submodule_search_locations=search
        )
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        for file in sorted(entry.parent.glob("*.py")) if source.is_dir() else ():
            if file.stem not in ("__init__", "operators"):
                importlib.import_module(f"{name}.{file.stem}")
        yield module
    finally:
        for n in [n for n in sys.modules if n == name or n.startswith(f"{name}.")]:
            del sys.modules[n]
        sys.modules.update(mine)
        if attribute is not None:
            setattr(kernels, package, attribute)


def killed(survives: Callable[[ModuleType], bool], package: ModuleType) -> bool:
    """Whether the checks notice: one does not pass, or one raises a finding.

    Findings are an access out of bounds, a race, an assertion, and what else the laboratory says
    about numbers (int32 overflows, a promised alignment is not there). Any other exception is
    passed on: code that does not run at all proves nothing about the checks.
    """
    try:
        return not survives(package)
    except (AssertionError, OutOfBoundsError, RaceError):
        return True
    except (OverflowError, ValueError) as error:
        if _raised_in(error).startswith("kernels.lab."):
            return True
        raise


def _raised_in(error: Exception) -> str:
    """The module that raised it."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", ""))

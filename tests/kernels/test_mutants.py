"""The checks are worth what they catch: one-line bugs in the kernels, each of which must be found.

The default run takes a sample of each family's bugs; ``pytest -m mutants`` takes all of them and
ends with the kill table.
"""

import importlib
import inspect
import pkgutil
from functools import partial
from pathlib import Path
from types import ModuleType

import mutants
import pytest

import kernels

FAMILIES: dict[str, ModuleType] = {
    info.name: importlib.import_module(f"mutants.{info.name}")
    for info in pkgutil.iter_modules(mutants.__path__)
}
SAMPLE = 5  # bugs of each family in the default run, spread over its list
ALL = [(family, bug) for family, module in FAMILIES.items() for bug in module.MUTANTS]


def _sampled(family: str, bug: str) -> bool:
    bugs = list(FAMILIES[family].MUTANTS)
    return bugs.index(bug) % max(1, len(bugs) // SAMPLE) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_kernels_themselves_survive(family: str) -> None:
    module = FAMILIES[family]
    assert module.survives(importlib.import_module(f"kernels.{module.PACKAGE}"))


@pytest.mark.parametrize(
    ("family", "bug"), [pair for pair in ALL if _sampled(*pair)], ids=lambda name: name
)
def test_a_sample_is_killed(family: str, bug: str, tmp_path: Path) -> None:
    kill(family, bug, tmp_path)


@pytest.mark.mutants
@pytest.mark.parametrize(("family", "bug"), ALL, ids=lambda name: name)
def test_every_mutant_is_killed(family: str, bug: str, tmp_path: Path) -> None:
    kill(family, bug, tmp_path)


MADE_UP = {
    "a name that is not there": ("tl.sum(g * g)", "tl.sum(g * gg)", NameError, "gg"),
    "blocks that do not fit": (
        "tl.sum(g * g)", "tl.sum(g * tl.arange(0, 2))", ValueError, "incompatible"
    ),
    "another number of arguments": ("    partials,", "    partials, more,", TypeError, "missing"),
    "in several places": ("tl.load", "tl.store", AssertionError, r"once, found it \d+ times"),
    "nowhere": ("tl.lode", "tl.load", AssertionError, "once, found it 0 times"),
}  # fmt: skip


@pytest.mark.parametrize("bug", MADE_UP)
def test_code_that_does_not_run_is_not_killed(
    bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a bug that is not one change in one place."""
    old, new, error, words = MADE_UP[bug]
    monkeypatch.setitem(FAMILIES["adamw"].MUTANTS, bug, mutants.Mutant("norm.py", old, new))
    with pytest.raises(error, match=words):
        kill("adamw", bug, tmp_path)


def kill(family: str, bug: str, folder: Path) -> None:
    module = FAMILIES[family]
    before = vars(kernels).get(module.PACKAGE)
    mutant = module.MUTANTS[bug]
    by_file = "file" in inspect.signature(module.survives).parameters
    survives = partial(module.survives, file=mutant.file) if by_file else module.survives
    with mutants.mutated(module.PACKAGE, mutant, folder) as package:
        assert mutants.killed(survives, package), f"{family}: {bug!r} survives"
    assert vars(kernels).get(module.PACKAGE) is before

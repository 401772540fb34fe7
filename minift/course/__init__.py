"""The course: exercises that check themselves, and the machinery of the notebooks.

    from minift.course import check, hint, solution

Notebooks, tests and the command line use this package; the library itself never does. The names
are imported on first use: :mod:`minift.course.environment` has to come before PyTorch.

    exercise.py, registry.py    what an exercise is made of; exercises by name
    inputs.py, properties.py, launch.py
                                what checks are made of: inputs, what has to hold, kernels watched
    checking.py                 one check, from the function to the sentence; it uses attempt.py
                                (is there one?), borrowed.py (whose is it?), trial.py (one run),
                                compare.py, diagnosis.py (the likely mistake), show.py (values in
                                words) and printed.py
    help.py, progress_file.py, progress_report.py, plan.py
                                hints; what was done, and what comes next
    audit.py, submission.py     do the checks check? a learner's own file
    figures.py, environment.py  what notebooks draw with, and where they run
    patients.py                 the broken models of the clinic
    exercises/                  one file an exercise, by part
    lessons/, edition/, grading/, site/
                                notebooks; what is handed out; a class; the course as a site
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minift.course.checking import CheckFailed, Outcome, check, examine
    from minift.course.help import hint, solution
    from minift.course.progress_report import progress
    from minift.course.registry import find, names

__all__ = [
    "CheckFailed",
    "Outcome",
    "check",
    "examine",
    "find",
    "hint",
    "names",
    "progress",
    "solution",
]

_HOME = {
    "CheckFailed": "checking",
    "Outcome": "checking",
    "check": "checking",
    "examine": "checking",
    "find": "registry",
    "hint": "help",
    "names": "registry",
    "progress": "progress_report",
    "solution": "help",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minift.course' has no attribute {name!r}")
    return getattr(import_module(f"minift.course.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

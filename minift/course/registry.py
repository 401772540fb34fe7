"""Exercises by name: one file each under ``exercises/PART/TOPIC.py``, imported when asked for."""

from importlib import import_module
from pathlib import Path

from minift.course.exercise import Exercise
from minift.errors import InputError, one_of

FOLDER = Path(__file__).parent / "exercises"


def names() -> list[str]:
    """The names of all exercises, in alphabetical order; nothing is imported for it."""
    files = FOLDER.glob("*/*.py")
    return sorted(f"{f.parent.name}.{f.stem}" for f in files if not f.stem.startswith("_"))


def find(name: str) -> Exercise:
    """The exercise called ``name``.

    Raises:
        InputError: there is no such exercise (the nearest name is suggested), or it needs a
            package that is not installed.
    """
    if name not in (known := names()):
        raise one_of("exercise", name, known)
    try:
        module = import_module(f"minift.course.exercises.{name}")
    except ImportError as error:
        if (error.name or "").startswith("minift"):
            raise
        raise InputError(f"exercise {name}: cannot be checked here: {error}") from None
    exercise: Exercise = module.exercise
    return exercise

"""Exercises by name: one file each under ``exercises/PART/TOPIC.py``, imported when asked for."""

import difflib
from importlib import import_module
from pathlib import Path

from minift.course.exercise import Exercise
from minift.errors import InputError, one_of

FOLDER = Path(__file__).parent / "exercises"


def names() -> list[str]:
    """The names of all exercises, in alphabetical order; nothing is imported for it.

    Raises:
        InputError: two of them have one topic: a learner's function could not be told apart.
    """
    files = FOLDER.glob("*/*.py")
    known = sorted(f"{f.parent.name}.{f.stem}" for f in files if not f.stem.startswith("_"))
    by_topic: dict[str, str] = {}
    for name in known:
        other = by_topic.setdefault(name.partition(".")[2], name)
        if other != name:
            raise InputError(
                f"exercises {other} and {name}: both ask for a function of that name; right would "
                "be a topic that no other part has"
            )
    return known


def find(name: str) -> Exercise:
    """The exercise called ``name``.

    Raises:
        InputError: there is no such exercise (the nearest name is suggested), it needs a package
            that is not installed, or its file holds no exercise of that name.
    """
    if name not in (known := names()):
        topics = {known_name.partition(".")[2]: known_name for known_name in known}
        near = difflib.get_close_matches(name, [*known, *topics], n=1)
        raise one_of("exercise", name, known, [topics.get(n, n) for n in near])
    try:
        module = import_module(f"minift.course.exercises.{name}")
    except ImportError as error:
        if (error.name or "").startswith("minift"):
            raise
        raise InputError(f"exercise {name}: cannot be checked here: {error}") from None
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"exercise {name}: its file cannot be loaded ({reason})") from error
    exercise = getattr(module, "exercise", None)
    if not isinstance(exercise, Exercise) or exercise.name != name:
        found = f"is called {exercise.name}" if isinstance(exercise, Exercise) else "is missing"
        raise InputError(
            f"exercise {name}: the `exercise` of its file {found}; right would be the file's place"
        )
    return exercise

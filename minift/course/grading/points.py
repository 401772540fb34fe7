"""What exercises are worth in a class: a teacher's file in place of the exercises' own points."""

import tomllib
from pathlib import Path
from typing import Any

from minift.course.registry import find
from minift.errors import InputError
from minift.files import read_text

MAX_POINTS = 1e6


def read_points(path: Path | None) -> dict[str, float]:
    """Points by exercise, from TOML lines such as ``"attention.scores" = 2``; none without a file.

    Raises:
        InputError: it is no TOML, names no exercise, or gives something else than a number from 0.
    """
    if path is None:
        return {}
    try:
        found = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(
            f'{path}: not TOML ({error}); right would be lines such as "attention.scores" = 2'
        ) from None
    flat = {name: value for entry in found.items() for name, value in _flat(*entry)}
    for name, value in flat.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and 0 <= value <= MAX_POINTS):
            raise InputError(
                f"{path}: points of {name}: {value!r}; right would be a number from 0 on"
            )
    return {find(name).name: value for name, value in flat.items()}


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """``attention.scores = 2``, without quotes, is a table in a table."""
    if isinstance(value, dict):
        return [(f"{name}.{topic}", inner) for topic, inner in value.items()]
    return [(name, value)]

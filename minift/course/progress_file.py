"""What a learner has done, kept in their own folder: attempts, right answers, hints seen.

One small JSON file. ``check`` and ``hint`` write it; a failure to do so is told in one line and
never stands between the learner and the result of a check.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from minift.errors import InputError
from minift.files import write_json

VERSION = 1
PATIENCE = 2.0  # seconds to wait for another notebook that is writing

_told: set[str] = set()


@dataclass(frozen=True)
class Deed:
    """What is recorded of one exercise.

    Attributes:
        right: whether an answer was right once; a later wrong one does not take it away.
        attempts: how many answers were checked, up to and including the first right one.
        hints: the most hints that were seen.
    """

    right: bool = False
    attempts: int = 0
    hints: int = 0


def place() -> Path | None:
    """The file, in ``MINIFT_PROGRESS`` or the platform's folder for a user's data.

    None where that variable names the null device: tests and builds record nothing.
    """
    given = os.environ.get("MINIFT_PROGRESS")
    if given == os.devnull:
        return None
    if given:
        return Path(given).expanduser().absolute() / "progress.json"
    from platformdirs import user_data_path

    return user_data_path("minift", appauthor=False) / "progress.json"


def read() -> dict[str, Deed]:
    """What is recorded, by exercise; empty when nothing is.

    Raises:
        InputError: the file is not what this module writes, or cannot be read.
    """
    path = place()
    if path is None or not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): _deed(entry) for name, entry in stored["exercises"].items()}
    except OSError as error:
        raise InputError(f"progress: {path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"progress: {path} is not a record of progress; right would be the JSON that check "
            "writes; delete it or move it away to begin again"
        ) from None


def checked(exercise: str, right: bool) -> None:
    """Record that an answer was checked."""
    _record(exercise, lambda d: d if d.right else Deed(right, d.attempts + 1, d.hints))


def hinted(exercise: str, step: int) -> None:
    """Record that hint number ``step`` was seen."""
    _record(exercise, lambda d: Deed(d.right, d.attempts, max(d.hints, step)))


def _record(exercise: str, change: Callable[[Deed], Deed]) -> None:
    """Change one entry under a lock; what goes wrong is told once and then let be."""
    path = place()
    if path is None:
        return
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=PATIENCE):
            _update(path, exercise, change)
    except (OSError, Timeout) as error:
        reason = getattr(error, "strerror", None) or "another program holds its lock"
        _tell(f"progress: not recorded in {path.parent} ({reason}); the check itself is valid")


def _update(path: Path, exercise: str, change: Callable[[Deed], Deed]) -> None:
    try:
        deeds = read()
    except InputError:
        deeds, aside = {}, _aside(path)
        os.replace(path, aside)
        _tell(
            f"progress: {path} was no record of progress; it is {aside.name} now, a new one begins"
        )
    before = deeds.get(exercise, Deed())
    if (after := change(before)) != before:
        entries = {name: asdict(deed) for name, deed in sorted({**deeds, exercise: after}.items())}
        write_json(path, {"version": VERSION, "exercises": entries})


def _aside(path: Path) -> Path:
    """A name beside ``path`` that nothing has yet."""
    number = 1
    while (free := path.with_name(f"{path.stem}.unreadable-{number}{path.suffix}")).exists():
        number += 1
    return free


def _deed(entry: dict[str, Any]) -> Deed:
    right, attempts, hints = entry["right"], entry["attempts"], entry["hints"]
    if not (isinstance(right, bool) and type(attempts) is type(hints) is int):
        raise TypeError(f"a record of progress with {entry}")
    return Deed(right, attempts, hints)


def _tell(message: str) -> None:
    if message not in _told:
        _told.add(message)
        with suppress(OSError):
            print(message)

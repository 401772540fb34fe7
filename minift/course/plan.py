"""The order of the course: which notebook asks for which exercise."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from minift.course.registry import names

FOLDER = Path(__file__).parents[2] / "notebooks"

_COMMENT = re.compile(r"^#.*$", flags=re.M)  # also the text cells of a source
CHECK = re.compile(r"\bcheck\(\s*[\"']([\w.]+)[\"']")


@dataclass(frozen=True)
class Stage:
    """A notebook, ``PART/NAME`` (where there is none: the exercises' part), and what it asks."""

    name: str
    exercises: tuple[str, ...]

    @property
    def part(self) -> str:
        """The folder of the notebook; one without a folder is a part of its own."""
        return self.name.partition("/")[0]


def course(folder: Path | None = None) -> list[Stage]:
    """The notebooks in the order of the course, each with its exercises in the order of asking.

    Where the notebooks' sources are, they are asked: a notebook may not be built yet. Exercises
    that no notebook asks for come last, under their own part; so do all of them where the package
    is installed without notebooks. No exercise is imported for it.
    """
    known, stages = names(), []
    for place, asked in _asked(folder or FOLDER):
        mine = tuple(name for name in asked if name in known)
        known = [name for name in known if name not in mine]
        if mine:
            stages.append(Stage(place, mine))
    parts = dict.fromkeys(name.partition(".")[0] for name in known)
    rest = {part: tuple(n for n in known if n.partition(".")[0] == part) for part in parts}
    return [*stages, *(Stage(part, exercises) for part, exercises in rest.items())]


def checks(path: Path) -> list[str]:
    """The exercises that a notebook or its source checks, each once; none if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        code = _cells(text) if path.suffix == ".ipynb" else _COMMENT.sub("", text)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return list(dict.fromkeys(CHECK.findall(code)))


def _asked(folder: Path) -> list[tuple[str, list[str]]]:
    """Each notebook's place with what it asks; hidden folders left out."""
    sources = folder / "_source"
    base, pattern = (sources, "*.py") if sources.is_dir() else (folder, "*.ipynb")
    places = {path.relative_to(base).with_suffix(""): path for path in base.rglob(pattern)}
    shown = sorted(p for p in places if not any(part[0] in "._" for part in p.parts))
    return [(place.as_posix(), checks(places[place])) for place in shown]


def _cells(text: str) -> str:
    cells = json.loads(text)["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")

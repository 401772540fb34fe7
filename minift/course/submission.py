"""The functions in a learner's file or notebook, examined in a process of their own.

The child process runs the whole file with a time limit and examines every function that is
defined in it under an exercise's name: ``causal_mask`` answers ``attention.causal_mask``. It keeps
a crash or an endless loop away from the caller. It is no sandbox: the file runs with the rights
of whoever calls.
"""

import ast
import contextlib
import json
import linecache
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minift.course.environment import steady
from minift.course.grading.sources import broken_cells, pieces
from minift.errors import InputError

TIME_LIMIT = 120.0  # seconds


def examine_file(
    path: Path, time_limit: float = TIME_LIMIT, remarks: list[str] | None = None
) -> list[dict[str, Any]]:
    """One entry for each exercise answered in a ``.py`` or ``.ipynb`` file.

    Args:
        remarks: is given a line for each cell that is no Python; the others are examined.

    Returns:
        Entries ``{"exercise", "state", "verified", "message"}``, in alphabetical order.

    Raises:
        InputError: the file cannot be read, is no Python or notebook, answers no exercise, ran
            longer than ``time_limit`` seconds, or ended its process.
    """
    broken = broken_cells(path.resolve())  # what cannot be read is reported here
    pieces(path.resolve())
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.json"
        _run_child(path, answers, time_limit)
        report = json.loads(answers.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = report["found"]
    if not found and report["problems"]:
        raise InputError(f"{path}: no answer found; {report['problems'][0]}")
    if not found:
        raise InputError(
            f"{path}: no function here has the name of an exercise; right would be a function "
            "named like one of: python -m minift course list"
        )
    if remarks is not None:
        remarks += [f"{path.name}, {line}" for line in broken]
    return found


def _run_child(path: Path, answers: Path, time_limit: float) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "minift.course.submission", str(path), str(answers)],
        env=steady(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = child.wait(time_limit)
    except subprocess.TimeoutExpired:
        raise InputError(f"{path}: no answer in {time_limit:g} s; an endless loop?") from None
    finally:
        _end(child)
    if not answers.exists():
        raise InputError(f"{path}: running it ended the process ({_ending(code)})")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and, where the system has process groups, whatever it started."""
    if child.poll() is None or os.name == "posix":
        with contextlib.suppress(OSError):
            if os.name == "posix":
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()
    child.wait()


def _ending(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


# ---- in the child


def _main(path: Path, answers: Path) -> None:
    found = []
    functions, problems = _answers(path)
    for name, fn in sorted(functions.items()):
        from minift.course.checking import examine  # with PyTorch, which an empty file is spared

        outcome = examine(name, fn)
        entry = {"exercise": name, "state": outcome.state, "message": str(outcome)}
        found.append({**entry, "verified": list(outcome.verified)})
    temporary = answers.with_suffix(".part")
    temporary.write_text(json.dumps({"found": found, "problems": problems}), encoding="utf-8")
    os.replace(temporary, answers)


def _answers(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The last function of each exercise's name that the file itself defines, and what failed.

    Statements run one by one: one that fails leaves the others to be examined.
    """
    from minift.course.exercise import plain
    from minift.course.registry import names

    wanted = {name.rpartition(".")[2]: name for name in names()}
    shell = {"get_ipython": _NoShell, "display": lambda *_, **__: None}
    namespace: dict[str, Any] = {"__name__": "__submission__", **shell}
    found: dict[str, Any] = {}
    problems: list[str] = []
    for number, (place, text) in enumerate(_placed(path), 1):
        where = "" if path.suffix == ".py" else f"cell {number}, "
        try:
            statements = ast.parse(text).body
        except SyntaxError as error:
            problems.append(f"{where}line {error.lineno}: not Python ({error.msg})")
            continue
        for statement in statements:
            try:
                exec(compile(ast.Module([statement], []), place, "exec"), namespace)
            except BaseException as error:  # SystemExit, too
                said = f"{type(error).__name__}: {error}".splitlines()[0]
                problems.append(f"{where}line {statement.lineno} raised {said}")
        for topic in wanted.keys() & namespace.keys():
            fn = namespace[topic]
            if getattr(getattr(plain(fn), "__code__", None), "co_filename", "") == place:
                found[wanted[topic]] = fn
    return found, problems


class _NoShell:
    """What magics are sent to, in a process without a notebook: nothing happens."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def _placed(path: Path) -> Iterator[tuple[str, str]]:
    """Each piece with a file name under which ``inspect`` finds its source, as Triton needs."""
    from IPython.core.inputtransformer2 import TransformerManager

    for number, text in enumerate(pieces(path.resolve())):
        if path.suffix == ".ipynb":
            text = TransformerManager().transform_cell(text)
        place = f"<{path.name} {number}>"
        linecache.cache[place] = (len(text), None, text.splitlines(keepends=True), place)
        yield place, text


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))

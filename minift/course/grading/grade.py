"""Submissions in, results out: in parallel, each exercise of each student in a process of its own.

A student's work is a file (``.py`` or ``.ipynb``) or a folder of such files. Whatever is in it, the
run goes on: what cannot be read or run costs its exercise, or its student, the points.
"""

import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from minift.course.grading.isolation import Limits, why_not
from minift.course.grading.sources import SUFFIXES, Answer, answers
from minift.course.registry import find, names
from minift.errors import InputError

MAX_FILES = 100  # of one student
MESSAGE = 4_000  # characters of a message that are kept


@dataclass(frozen=True)
class Result:
    """One exercise of one student.

    Attributes:
        state: "right", "wrong" or "not attempted".
        points: what it earns: all of ``out_of`` or nothing.
        message: what the student is told, several lines.
        mistake: the likely mistake alone, for statistics; may be empty.
        file: where the answer was found; empty when there is none.
    """

    exercise: str
    state: str
    points: float
    out_of: float
    message: str
    mistake: str = ""
    verified: tuple[str, ...] = ()
    file: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Work:
    """What one student handed in.

    Attributes:
        student: the name of the file or folder.
        files: the notebooks and Python files, in alphabetical order.
        remarks: what could not be read, a line each.
    """

    student: str
    files: tuple[Path, ...]
    remarks: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()

    @property
    def points(self) -> float:
        """The sum over all exercises."""
        return sum(r.points for r in self.results)

    @property
    def out_of(self) -> float:
        """What could be reached."""
        return sum(r.out_of for r in self.results)


@dataclass(frozen=True)
class Assignment:
    """What is graded, and how.

    Attributes:
        exercises: points by name.
        salt: makes the inputs of the second check others than those that everybody has.
    """

    exercises: Mapping[str, float]
    limits: Limits = field(default_factory=Limits)
    salt: int = field(default_factory=lambda: 1 + secrets.randbelow(1 << 20))


def assignment(
    chosen: Sequence[str] = (),
    points: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
) -> Assignment:
    """The exercises (all, or the chosen names and parts) with their points.

    Raises:
        InputError: there is no such exercise or part, or points are no number from 0 on.
    """
    known = names()
    wanted = [n for c in chosen for n in _named(c, known)] if chosen else known
    worth = {name: find(name).points for name in dict.fromkeys(wanted)}
    for name, value in (points or {}).items():
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e6:
            raise InputError(f"points of {name}: {value!r}; right would be a number such as 2")
        if find(name).name in worth:
            worth[name] = value
    return Assignment(worth, limits or Limits())


def _named(chosen: str, known: list[str]) -> list[str]:
    """One exercise, or all of a part."""
    part = [name for name in known if name.partition(".")[0] == chosen]
    return part or [find(chosen).name]


def collect(paths: Iterable[Path]) -> list[Work]:
    """The work of every student, in alphabetical order.

    A path that is a file is one student; of a folder every entry is one, a file or a folder.

    Raises:
        InputError: a path is not there, holds no work, or two students have one name.
    """
    found = [work for path in paths for work in _students(Path(path))]
    seen: dict[str, Work] = {}
    for work in found:
        if work.student in seen:
            raise InputError(
                f"WORK: two submissions are called {work.student}; right would be one name each"
            )
        seen[work.student] = work
    return sorted(found, key=lambda work: work.student)


def _students(path: Path) -> list[Work]:
    if not path.exists() and not path.is_symlink():
        raise InputError(f"WORK: {path}: no such file or folder")
    if not path.is_dir():
        return [Work(path.stem, (path,))]
    entries = [e for e in sorted(path.iterdir()) if not e.name.startswith((".", "__"))]
    work = [_student(e) for e in entries if e.is_dir() or e.suffix in SUFFIXES]
    if not work:
        raise InputError(
            f"WORK: {path}: no submission in it; right would be .py or .ipynb files, or a folder "
            "for each student"
        )
    return work


def _student(entry: Path) -> Work:
    if entry.is_symlink():
        remark = f"{entry.name}: a symbolic link; right would be the work itself"
        return Work(entry.name if entry.is_dir() else entry.stem, (), (remark,))
    if not entry.is_dir():
        return Work(entry.stem, (entry,))
    files = []
    for folder, folders, inside in os.walk(entry):  # does not follow links
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__")))
        files += [Path(folder) / f for f in sorted(inside) if Path(f).suffix in SUFFIXES]
    if len(files) > MAX_FILES:
        return Work(entry.name, (), (f"{len(files)} files; at most {MAX_FILES} are read",))
    return Work(entry.name, tuple(files), () if files else ("no .py or .ipynb file",))


def grade(
    work: Sequence[Work], task: Assignment, jobs: int | None = None
) -> Iterator[tuple[int, Work]]:
    """Each student's work with its results, and its place in ``work``, as they get ready.

    Raises:
        InputError: this system cannot isolate code.
    """
    if reason := why_not():
        raise InputError(
            f"grade: other people's code cannot be isolated here ({reason}); right would be Linux "
            "with user namespaces; your own file: python -m minift course check FILE"
        )
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(work)))
    context = get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_begin) as pool:
        waiting = {pool.submit(_grade_one, w, task): i for i, w in enumerate(work)}
        for done in as_completed(waiting):
            place = waiting[done]
            try:
                yield place, done.result()
            except Exception as error:  # of ours: said as such, and nobody else's work is lost
                yield place, failed(work[place], task, f"grading failed: {error!r}")


def failed(work: Work, task: Assignment, why: str) -> Work:
    """The work with no points, for a reason that is no answer's fault."""
    lost = [Result(n, "wrong", 0.0, worth, why) for n, worth in task.exercises.items()]
    return replace(work, results=tuple(lost))


# ---- in the processes that grade

_nursery: Any = None


def _begin() -> None:
    """Once in each process: PyTorch with one thread, and the process that sessions come from."""
    import atexit

    from minift.course.environment import make_steady
    from minift.course.grading.remote import Nursery

    global _nursery
    make_steady()
    _nursery = Nursery()
    atexit.register(_nursery.__exit__)


def _grade_one(work: Work, task: Assignment) -> Work:
    functions = {name.rpartition(".")[2]: name for name in task.exercises}
    found: dict[str, tuple[Path, Answer]] = {}
    remarks = list(work.remarks)
    for path in work.files:
        try:
            for function, answer in answers(path, set(functions)).items():
                found[functions[function]] = path, answer
        except InputError as error:
            remarks.append(str(error).replace(str(path), path.name))
    if work.files and not found and not remarks:
        remarks.append(_nothing_here(work, task))
    results = [
        _result(name, worth, *found[name], task)
        if name in found
        else Result(name, "not attempted", 0.0, worth, f"{name}: no answer was handed in")
        for name, worth in task.exercises.items()
    ]
    return replace(work, remarks=tuple(remarks), results=tuple(results))


def _nothing_here(work: Work, task: Assignment) -> str:
    """Work without an answer: is it for another assignment?"""
    every = {name.rpartition(".")[2]: name for name in names()}
    others = {every[f] for path in work.files for f in answers(path, set(every))}
    if others:
        return f"this is work for {', '.join(sorted(others))}, which is not graded here"
    wanted = ", ".join(name.rpartition(".")[2] for name in task.exercises)
    return f"no function has the name of an exercise; right would be one of: {wanted}"


def _result(name: str, worth: float, path: Path, answer: Answer, task: Assignment) -> Result:
    start = time.perf_counter()
    state, message, mistake, verified = _judge(name, answer, task)
    return Result(
        exercise=name,
        state=state,
        points=worth if state == "right" else 0.0,
        out_of=worth,
        message=message[:MESSAGE],
        mistake=mistake,
        verified=verified,
        file=path.name,
        seconds=round(time.perf_counter() - start, 2),
    )


def _judge(name: str, answer: Answer, task: Assignment) -> tuple[str, str, str, tuple[str, ...]]:
    """State, message, likely mistake and the properties that hold."""
    from minift.course.grading.remote import SessionEnded

    limits = task.limits
    if answer.jit:
        from minift.course.grading.vetting import vetted

        source, objection = vetted(answer.source)
        if objection:
            said = f"{name}: wrong\n  a kernel may name its own variables, triton and tl only"
            return "wrong", f"{said}; found {objection}", "not only Triton", ()
        answer, limits = replace(answer, source=source), replace(limits, programs=True)
    try:
        return _examined(name, answer, limits, task.salt)
    except SessionEnded as error:
        return "wrong", f"{name}: wrong\n  {error}", str(error), ()
    except Exception as error:  # what came back broke a comparison: nobody's right answer does
        said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return "wrong", f"{name}: wrong\n  the result cannot be judged ({said})", "", ()


def _examined(
    name: str, answer: Answer, limits: Limits, salt: int
) -> tuple[str, str, str, tuple[str, ...]]:
    """On the inputs that everybody has, for messages that can be looked into; then on others."""
    from minift.course.checking import examine
    from minift.course.inputs import salted

    with _nursery.session(answer, limits) as fn:
        outcome = examine(name, fn)
        if outcome.state == "right":
            with salted(salt):
                again = examine(name, fn)
            if again.state != "right":
                said = f"{name}: wrong\n  right on the inputs of the course, not on others\n"
                return "wrong", f"{said}{again}", "right on known inputs only", ()
    mistake = outcome.failure.mistake if outcome.failure else ""
    return outcome.state, str(outcome), mistake, outcome.verified


def as_json(work: Work) -> dict[str, Any]:
    """The work as plain values, without the places of files."""
    return {
        "student": work.student,
        "points": work.points,
        "out_of": work.out_of,
        "remarks": list(work.remarks),
        "exercises": [asdict(r) | {"verified": list(r.verified)} for r in work.results],
    }

"""Submissions in, results out: in parallel, each exercise of each student in a process of its own.

Whatever is in a student's work, the run goes on: what cannot be read or run costs its exercise, or
its student, the points.
"""

import ast
import os
import re
import resource
import secrets
import signal
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from minift.course.grading.isolation import Limits, die_with_parent, why_not
from minift.course.grading.sources import Answer, answers, broken_cells
from minift.course.grading.work import MESSAGE, Result, Work, collect, printable
from minift.course.registry import find, names
from minift.errors import InputError

__all__ = ["Assignment", "assignment", "collect", "failed", "grade"]

READING = 30.0  # seconds that finding the answers in one student's work may take
JUDGING = 90.0  # seconds beyond the student's own for starting a process and comparing
MEMORY = 4 << 30  # bytes that comparing may take beyond what Python and PyTorch do


NO_LIBRARY = (
    "\n  note     an answer cannot import minift or kernels while it is graded: write it out"
)
_OURS = re.compile(r"^\s*(from|import) (minift|kernels)\b", flags=re.M)


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
    points: Mapping[str, float] | None = None,
    limits: Limits | None = None,
) -> Assignment:
    """The exercises (all, or the chosen names and parts) with their points.

    Raises:
        InputError: there is no such exercise or part.
    """
    known = names()
    wanted = [n for c in chosen for n in _named(c, known)] if chosen else known
    worth = {name: find(name).points for name in dict.fromkeys(wanted)}
    worth |= {name: value for name, value in (points or {}).items() if name in worth}
    return Assignment(worth, limits or Limits())


def _named(chosen: str, known: list[str]) -> list[str]:
    """One exercise, or all of a part."""
    part = [name for name in known if name.partition(".")[0] == chosen]
    return part or [find(chosen).name]


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
    left = dict(enumerate(work))
    while left:
        for place in (yield from _in_parallel(left, task, jobs or os.cpu_count() or 1)):
            yield from _in_parallel(one := {place: left.pop(place)}, task, 1)
            if one:
                yield place, failed(one[place], task, "judging it ended the process that grades")


def _in_parallel(
    left: dict[int, Work], task: Assignment, jobs: int
) -> Generator[tuple[int, Work], None, list[int]]:
    """Each work with its results, taken out of ``left``.

    Should one of the grading processes die, the places at work by then are returned: any of them
    may be the reason.
    """
    context, queue = get_context("spawn"), iter(list(left.items()))
    running: dict[Future[Work], int] = {}
    jobs, me = min(jobs, len(left)), os.getpid()
    with ProcessPoolExecutor(jobs, context, initializer=_begin, initargs=(me,)) as pool:
        while True:
            with suppress(BrokenProcessPool):  # the results below say so, too
                for place, work in islice(queue, jobs - len(running)):
                    running[pool.submit(_grade_one, work, task)] = place
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    found = future.result()
                except BrokenProcessPool:
                    return sorted(running.values())
                except Exception as error:  # of ours: said as such, and nobody else's work is lost
                    found = failed(left[running[future]], task, f"grading failed: {error!r}")
                place = running.pop(future)
                del left[place]
                yield place, found
            if not left:
                return []


def failed(work: Work, task: Assignment, why: str) -> Work:
    """The work with no points, for a reason that is no answer's fault."""
    lost = [Result(n, "wrong", 0.0, worth, why) for n, worth in task.exercises.items()]
    return replace(work, results=tuple(lost))


# ---- in the processes that grade

_nursery: Any = None


def _begin(parent: int) -> None:
    """Once in each process: PyTorch with one thread, and the process that sessions come from."""
    import atexit

    from minift.course.environment import make_steady
    from minift.course.grading.remote import Nursery

    global _nursery
    die_with_parent()
    if os.getppid() != parent:  # it has died before that
        os._exit(1)
    make_steady()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    space = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (space, hard))
    _nursery = Nursery()
    atexit.register(_nursery.__exit__)


class _TooSlow(BaseException):
    """The time is over; nothing may take it for an error of the learner's."""


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise ``_TooSlow`` inside when time is over, and again should that have got lost."""

    def over(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _grade_one(work: Work, task: Assignment) -> Work:
    functions = {name.rpartition(".")[2]: name for name in task.exercises}
    found: dict[str, tuple[Path, Answer]] = {}
    remarks = list(work.remarks)
    try:
        with _within(READING):
            for path in work.files:
                found |= {functions[f]: a for f, a in _read(path, set(functions), remarks).items()}
            if work.files and not found and not remarks:
                remarks.append(_nothing_here(work, task))
    except _TooSlow:
        remarks.append(f"reading it took more than {READING:g} s; what is left was not looked at")
    results = [
        _result(name, worth, *found[name], task)
        if name in found
        else Result(name, "not attempted", 0.0, worth, f"{name}: no answer was handed in")
        for name, worth in task.exercises.items()
    ]
    return replace(work, remarks=tuple(map(printable, remarks)), results=tuple(results))


def _read(path: Path, functions: set[str], remarks: list[str]) -> dict[str, tuple[Path, Answer]]:
    """The answers in one file; what is wrong with it is added to the remarks."""
    try:
        found = answers(path, functions)
        remarks += [f"{path.name}, {line}" for line in broken_cells(path)]
        return {name: (path, answer) for name, answer in found.items()}
    except InputError as error:
        remarks.append(str(error).replace(str(path), path.name))
        return {}


def _nothing_here(work: Work, task: Assignment) -> str:
    """Work without an answer: is it for another assignment?"""
    every = {name.rpartition(".")[2]: name for name in names()}
    found = [(f, a) for path in work.files for f, a in answers(path, set(every)).items()]
    others = {every[f] for f, answer in found if isinstance(answer.definition, ast.FunctionDef)}
    if others:
        return f"this is work for {', '.join(sorted(others))}, which is not graded here"
    wanted = ", ".join(name.rpartition(".")[2] for name in task.exercises)
    return f"no function has the name of an exercise; right would be one of: {wanted}"


def _result(name: str, worth: float, path: Path, answer: Answer, task: Assignment) -> Result:
    start = time.perf_counter()
    try:
        with _within(task.limits.seconds + JUDGING):
            state, message, mistake, verified = _judge(name, answer, task)
    except _TooSlow:
        said = "judging its results took too long"
        state, message, mistake, verified = "wrong", f"{name}: wrong\n  {said}", said, ()
    return Result(
        exercise=name,
        state=state,
        points=worth if state == "right" else 0.0,
        out_of=worth,
        message=printable(message, most=MESSAGE),
        mistake=printable(mistake),
        verified=verified,
        file=printable(path.name),
        seconds=round(time.perf_counter() - start, 2),
    )


def _judge(name: str, answer: Answer, task: Assignment) -> tuple[str, str, str, tuple[str, ...]]:
    """State, message, likely mistake and the properties that hold."""
    from minift.course.attempt import is_stub
    from minift.course.checking import Outcome
    from minift.course.grading.remote import NoSession, SessionEnded

    if is_stub(find(name), answer):
        return "not attempted", str(Outcome(name, "not attempted")), "", ()
    if answer.jit:
        from minift.course.grading.vetting import vetted

        source, objection = vetted(answer.source)
        if objection:
            said = f"{name}: wrong\n  a kernel may name its own variables, triton and tl only"
            return "wrong", f"{said}; found {objection}", "not only Triton", ()
        answer = replace(answer, source=source)
    try:
        return _examined(name, answer, task)
    except SessionEnded as error:
        return "wrong", f"{name}: wrong\n  {error}", str(error), ()
    except NoSession:
        raise
    except Exception as error:  # what came back broke a comparison: nobody's right answer does
        said = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return "wrong", f"{name}: wrong\n  the result cannot be judged ({said})", "", ()


def _examined(name: str, answer: Answer, task: Assignment) -> tuple[str, str, str, tuple[str, ...]]:
    """On the inputs that everybody has, for messages that can be looked into; then on others."""
    from minift.course.checking import examine
    from minift.course.inputs import salted

    with _nursery.session(answer, task.limits) as fn:
        outcome = examine(name, fn)
        if outcome.state == "right":
            with salted(task.salt):
                again = examine(name, fn)
            if again.state != "right":
                said = f"{name}: wrong\n  right on the inputs of the course, not on others\n"
                return "wrong", f"{said}{again}", "right on known inputs only", ()
    failure = outcome.failure
    mistake = (failure.mistake or f"not true: {failure.claim}") if failure else ""
    note = NO_LIBRARY if outcome.state == "wrong" and _OURS.search(answer.source) else ""
    return outcome.state, f"{outcome}{note}", mistake, outcome.verified

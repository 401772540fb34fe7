"""What an isolated process can see and do, and what is left when one of the others dies."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import minift
from minift.course.grading import grade, isolation
from minift.course.grading.isolation import Limits, why_not
from minift.course.grading.remote import Nursery
from minift.course.grading.sources import answers
from minift.course.grading.work import collect

isolated = pytest.mark.skipif(why_not() is not None, reason=f"no isolation here: {why_not()}")
RIGHT = "return torch.ones(queries, keys).bool().tril(keys - queries)"
DEF = f"def causal_mask(queries, keys):\n    {RIGHT}\n"


@pytest.mark.parametrize("where", ["prefix", "base_prefix"])
def test_a_project_around_python_is_not_visible(tmp_path, monkeypatch, where):
    """``python -m venv .`` in the project's folder, or the project under ``/usr/src``."""
    for name in ("bin", "lib", "minift", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(isolation.sys, where, str(tmp_path))
    seen = isolation._visible()
    assert f"{tmp_path}/lib" in seen and f"{tmp_path}/bin" in seen
    hidden = (tmp_path, tmp_path / "minift", tmp_path / "work", Path("/usr/src/x"), Path("/srv/x"))
    assert not [p for p in hidden if any(p.is_relative_to(s) for s in seen)]


def test_a_project_among_packages_is_hidden(tmp_path, monkeypatch):
    packages = tmp_path / "site-packages"
    for name in ("minift", "kernels", "other"):
        (packages / name).mkdir(parents=True)
    monkeypatch.setattr(isolation.sys, "path", [str(packages)])
    assert isolation._hidden("") == sorted(
        {f"{packages}/minift", f"{packages}/kernels", *_of_the_project()}
    )


def _of_the_project():
    project = Path(minift.__file__).parents[1].resolve()
    parts = ("minift", "kernels", "notebooks", "tests", ".git")
    return {str(project / p) for p in parts if (project / p).is_dir()}


PROBE = """
import ctypes, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
PROJECT = {project!r}

def many_files():
    for i in range(20_000):
        os.close(os.open(f"/tmp/{{i}}", os.O_CREAT))

def finds():
    if os.listdir(PROJECT + "/minift"):
        return True
    raise OSError

TRIES = {{
    "a thread": lambda: threading.Thread(target=print).start(),
    "a fork": os.fork,
    "a program": lambda: os.posix_spawn("/bin/true", ["true"], {{}}),
    "a socket": socket.socket,
    "the project": finds,
    "the class": lambda: open({secret!r}),
    "the users": lambda: open("/etc/passwd"),
    "writing into Python": lambda: open(os.__file__, "a"),
    "20,000 files": many_files,
    "a large file": lambda: open("/tmp/x", "wb").write(bytes(1 << 25)),
    "new namespaces": lambda: os.unshare(0x10000000) if hasattr(os, "unshare") else check(
        libc.unshare(0x10000000)),
    "shared memory": lambda: check(libc.shmget(0, 1 << 20, 0o1600)),
    "a queue": lambda: check(libc.msgget(0, 0o1600)),
    "a file in memory": lambda: os.memfd_create("x"),
    "a mount": lambda: check(libc.mount(b"x", b"/tmp", b"tmpfs", 0, None)),
    "more memory": lambda: bytearray(3 << 30),
}}

def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno())

def causal_mask(queries, keys):
    done = []
    for name, attempt in TRIES.items():
        try:
            attempt()
            done.append(name)
        except (OSError, RuntimeError, MemoryError):
            pass
    return done
"""


@isolated
def test_what_an_isolated_process_can_do(tmp_path):
    path = tmp_path / "mine.py"
    secret = Path.cwd() / "grades.csv"
    project = str(Path(minift.__file__).parents[1])
    path.write_text(PROBE.format(project=project, secret=str(secret)))
    answer = answers(path, {"causal_mask"})["causal_mask"]
    with Nursery() as nursery, nursery.session(answer, Limits(seconds=60)) as fn:
        assert fn(2, 3) == []


@isolated
def test_a_nursery_that_died_is_replaced(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"import torch\n{DEF}")
    answer = answers(path, {"causal_mask"})["causal_mask"]
    with Nursery() as nursery:
        for _ in range(2):
            with nursery.session(answer, Limits(seconds=60)) as fn:
                assert fn(1, 2).tolist() == [[True, True]]
            process, _ = nursery._started[False]
            process.kill()
            process.wait()


@isolated
def test_a_grading_process_that_dies_costs_nobody_the_points(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.py").write_text(f"import torch\n{DEF}")
    task = grade.assignment(["attention.causal_mask"], limits=Limits(seconds=60))
    states = []
    for _, work in grade.grade(collect([tmp_path]), task, jobs=1):
        states.append(work.results[0].state)
        if len(states) == 1:
            for process in multiprocessing.active_children():
                process.kill()
    assert states == ["right"] * 2


@isolated
def test_nothing_outlives_a_killed_grader(tmp_path):
    (tmp_path / "x.py").write_text("def causal_mask(m, n):\n    while True: pass\n")
    mark = str(tmp_path)  # on the path of every process: nothing else of ours is handed on
    path = os.pathsep.join([mark, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "minift", "course", "grade", str(tmp_path)]
    grader = subprocess.Popen(
        [*command, "--exercises", "attention.causal_mask", "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": path},
    )
    _until(lambda: len(_with(mark)) >= 6)  # it, its helpers, a nursery, two for the endless loop
    grader.kill()
    grader.wait()
    _until(lambda: not _with(mark))
    assert not (tmp_path / "out").exists()


def _with(mark: str) -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found += [path] if mark.encode() in path.read_bytes() else []
    return found


def _until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)

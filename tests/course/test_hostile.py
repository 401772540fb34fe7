"""Hostile submissions: no points for that exercise, within the limits, and the run goes on."""

import os
import time
from pathlib import Path

import pytest
from hostile import HOSTILE, KERNELS

import minift
from minift.course import examine, find
from minift.course.grading.grade import assignment, grade
from minift.course.grading.isolation import Limits, why_not
from minift.course.grading.work import Work, collect
from minift.course.inputs import salted

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no isolation here: {why_not()}")
PROJECT = Path(minift.__file__).parents[1]
MARK = "MINIFT_TEST_STARTED_BY"
LIMIT = 8.0  # seconds that an exercise may take: an honest kernel needs 2 on a busy machine
EXERCISES = ("attention.causal_mask", "attention.scores", "kernels.vector_add")
HONEST = "import torch\nimport math\nfrom torch import Tensor\n"
KERNEL = "import triton\nimport triton.language as tl\n"


def table_of_scores() -> str:
    """A function that knows the right scores of every published input, by dtype and sum."""
    exercise = find("attention.scores")
    rows = {}
    for prop in exercise.properties:
        for inputs in prop.cases():
            q, k = inputs["q"], inputs["k"]
            key = f"{q.dtype} {float(q.double().sum()) + float(k.double().sum()):.6f}"
            rows[key] = exercise.oracle(q, k).double().tolist()
    return (
        f"TABLE = {rows!r}\n"
        "def scores(q, k):\n"
        "    total = float(q.double().sum()) + float(k.double().sum())\n"
        "    known = TABLE[f'{q.dtype} {total:.6f}']\n"
        "    return Known.apply(q, k, torch.tensor(known, dtype=torch.float64).to(q.dtype))\n"
        "class Known(torch.autograd.Function):\n"
        "    @staticmethod\n"
        "    def forward(ctx, q, k, right):\n"
        "        ctx.save_for_backward(q, k)\n"
        "        return right.clone()\n"
        "    @staticmethod\n"
        "    def backward(ctx, g):\n"
        "        q, k = ctx.saved_tensors\n"
        "        g = g / q.shape[-1] ** 0.5\n"
        "        return g @ k, g.mT @ q, None\n"
    )


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> tuple[dict[str, Work], float]:
    folder = tmp_path_factory.mktemp("class")
    table = table_of_scores()
    for name, source in HOSTILE.items():
        text = source.replace("{solution}", str(PROJECT)).replace("{table}", table)
        (folder / f"{name.replace('/', '_')}.py").write_text(text)
    solution = find("kernels.vector_add").solution_source()
    head, _, body = solution.partition(":\n")
    for name, (before, inside) in KERNELS.items():
        (folder / f"{name}.py").write_text(f"{KERNEL}{before}{head}:\n{inside}{body}")
    right = "".join(find(n).solution_source() for n in EXERCISES)
    (folder / "honest.py").write_text(HONEST + KERNEL + right)
    (folder / "zz honest too.py").write_text(HONEST + KERNEL + right)
    (folder / "a link.py").symlink_to(folder / "honest.py")
    os.mkfifo(folder / "a pipe.py")
    os.environ["MINIFT_TEST_SECRET"] = "hunter2"
    work = collect([folder])
    start = time.monotonic()
    task = assignment(EXERCISES, limits=Limits(seconds=LIMIT))
    os.environ[MARK] = str(os.getpid())  # all that is started from here on has it
    try:
        found = dict(grade(work, task))
    finally:
        del os.environ[MARK]
    return {w.student: w for w in found.values()}, time.monotonic() - start


@pytest.mark.parametrize("name", [*HOSTILE, *KERNELS, "a link", "a pipe"])
def test_no_points(graded, name):
    work = graded[0][name.replace("/", "_")]
    assert work.points == 0 and work.out_of == 3
    assert {r.state for r in work.results} <= {"wrong", "not attempted"}
    assert any(r.state == "wrong" and r.message for r in work.results) or work.remarks
    assert all(r.seconds < 42 for r in work.results)  # start of a process included


@pytest.mark.parametrize("student", ["honest", "zz honest too"])
def test_the_run_goes_on(graded, student):
    assert [r.state for r in graded[0][student].results] == ["right"] * 3


def test_the_table_is_right_on_what_everybody_has(graded):
    """Else that submission would prove nothing."""
    message = graded[0]["a table of the usual answers"].results[1].message
    assert "right on the inputs of the course, not on others" in message
    exercise = find("attention.scores")
    space: dict = {}
    exec("import torch\n" + table_of_scores(), space)
    assert examine("attention.scores", space["scores"]).state == "right"
    with salted(7):
        assert examine("attention.scores", space["scores"]).state == "wrong"
        assert examine("attention.scores", exercise.answer).state == "right"


def test_nothing_of_the_environment_comes_back(graded):
    told = [r.message for work in graded[0].values() for r in work.results]
    assert not [m for m in told if "hunter2" in m]
    looked = graded[0]["tells the teacher's environment"].results[0].message
    assert "raised ValueError" in looked and "=" in looked  # it read an environment, and sent it
    assert "secret NoneFalse" in graded[0]["looks for a secret"].results[0].message


def test_nothing_is_left_behind(graded):
    mark = f"{MARK}={os.getpid()}".encode()
    processes = [p for p in Path("/proc").glob("[0-9]*") if mark in _bytes(p / "environ")]
    commands = [_bytes(p / "cmdline") for p in processes]
    assert [c for c in commands if b"resource_tracker" not in c] == []  # that one stays with us
    assert not [name for name in os.listdir("/tmp") if name.startswith("grades.")]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""

"""The course for nbgrader: what it holds, and that nbgrader takes it and gives the same points."""

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest

from minift.__main__ import main
from minift.course import find, names
from minift.course.edition.nbgrader import export, solved
from minift.course.grading.grade import assignment, collect, grade
from minift.course.grading.isolation import why_not
from minift.course.lessons.notebooks import notebook_of, source_of

FIRST, SECOND = "00_start_here", "1-transformer/04_attention"
NAME = "1-transformer-04_attention"
EXERCISES = ["attention.scores", "attention.causal_mask", "attention.softmax"]
EXERCISES += ["attention.split_heads"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "new"
    export(folder, [FIRST, SECOND], {"attention.softmax": 3})
    return folder


def cells_of(folder, name=NAME):
    path = folder / "source" / name / f"{name}.ipynb"
    nbformat.validate(nbformat.read(path, 4))
    return json.loads(path.read_text())["cells"]


def marks_of(cell):
    return cell["metadata"].get("nbgrader", {})


def test_every_exercise_has_a_solution_and_a_locked_cell_with_its_points(course):
    cells = cells_of(course)
    worth = {
        marks_of(c)["grade_id"]: marks_of(c)["points"] for c in cells if marks_of(c).get("grade")
    }
    assert worth == {f"points-{n.replace('.', '-')}": 3 if "softmax" in n else 1 for n in EXERCISES}
    solutions = {marks_of(c)["grade_id"] for c in cells if marks_of(c).get("solution")}
    assert solutions == {n.replace(".", "-") for n in EXERCISES}
    ids = [marks_of(c)["grade_id"] for c in cells if marks_of(c)]
    assert len(ids) == len(set(ids))
    for cell in cells:
        if marks_of(cell).get("grade"):
            assert marks_of(cell)["locked"] and "required=True" in "".join(cell["source"])


def test_the_marked_solution_is_the_right_one_and_hidden_elsewhere(course):
    cells = cells_of(course)
    for name in EXERCISES:
        exercise = find(name)
        (cell,) = [c for c in cells if marks_of(c).get("grade_id") == name.replace(".", "-")]
        text = "".join(cell["source"])
        assert text.count("### BEGIN SOLUTION") == text.count("### END SOLUTION") == 1
        assert "NotImplementedError" not in text
        mine = ast.parse(text).body[0].body[1:]
        theirs = ast.parse(exercise.solution_source()).body[0].body
        assert [ast.dump(s) for s in mine] == [ast.dump(s) for s in theirs]
    assert not [c for c in cells if "One right answer" in "".join(c["source"])]
    assert not [c for c in cells if c.get("outputs")]


def test_a_stub_in_a_longer_cell():
    stub = "X = 1\n\n\ndef f(a):\n    '''Doc.'''\n    raise NotImplementedError  # here\n\n\nY = 2"
    answer = "def f(a):\n    b = a\n\n    return b\n"
    text = solved(stub, "f", answer)
    assert text.splitlines()[-1] == "Y = 2" and "raise" not in text
    space: dict = {}
    exec(text, space)
    assert space["f"](3) == 3


def test_all_notebooks_and_code_to_be_mended(tmp_path):
    """The command without arguments; a seeded bug is handed out, not a solution to be cleared."""
    assert main(["course", "export-nbgrader", str(tmp_path / "all")]) == 0
    worth = [
        marks_of(c)
        for p in (tmp_path / "all/source").iterdir()
        for c in cells_of(tmp_path / "all", p.name)
    ]
    assert {m["grade_id"].removeprefix("points-") for m in worth if m.get("grade")} == {
        name.replace(".", "-") for name in names()
    }
    mended = {
        "block-mend_block", "clinic-mend_attention", "decoder-mend_groups", "experts-mend_balance",
        "generation-mend_writer", "images-class_map", "kernels-dropout_gradient",
        "kernels-mend_softmax", "seq2seq-mend_cross", "tokens-mend_chat",
    }  # fmt: skip
    solved_cells = {m["grade_id"] for m in worth if m.get("solution")}
    assert solved_cells == {n.replace(".", "-") for n in names()} - mended
    (cell,) = [
        c for c in cells_of(tmp_path / "all", "2-kernels-02_softmax")
        if find("kernels.mend_softmax").stub_source().strip() in "".join(c["source"])
    ]  # fmt: skip
    assert not marks_of(cell)


def test_twice_the_same_bytes(course, tmp_path):
    export(tmp_path / "again", [FIRST, SECOND], {"attention.softmax": 3})
    for path in sorted(p for p in course.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(course)).read_bytes()


def test_wrong_input(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "points").write_text('"attention.scores" = "two"')
    for arguments, said in {
        (str(tmp_path / "full"),): "is not empty",
        (str(tmp_path / "new"), "no_such_notebook"): "no source of that name",
        (str(tmp_path / "new"), FIRST, "--points", str(tmp_path / "points")): "points of",
    }.items():
        assert main(["course", "export-nbgrader", *arguments]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not find_spec("nbgrader"), reason="nbgrader is not installed")
@pytest.mark.skipif(why_not() is not None, reason="no isolation here")
def test_nbgrader_runs_it_unchanged_and_gives_our_points(course, tmp_path):
    folder = shutil.copytree(course, tmp_path / "course")

    # it starts programs that were installed beside it
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

    def nbgrader(*words):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", *words], cwd=folder, capture_output=True, text=True,
            env={**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]

    nbgrader("generate_assignment", NAME)
    released = (folder / "release" / NAME / f"{NAME}.ipynb").read_text()
    assert "BEGIN SOLUTION" not in released
    stub = "raise NotImplementedError  # your code goes here"
    work = {
        "right": (folder / "source" / NAME / f"{NAME}.ipynb").read_text(),
        "stub": released,
        "one wrong": released.replace(stub, "return q @ k.mT", 1),
    }
    for student, text in work.items():
        place = folder / "submitted" / student / NAME
        place.mkdir(parents=True)
        (place / f"{NAME}.ipynb").write_text(text)
    nbgrader("autograde", NAME)
    nbgrader("generate_feedback", NAME)
    nbgrader("export", "--to", "grades.csv")
    rows = [line.split(",") for line in (folder / "grades.csv").read_text().splitlines()]
    table = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    theirs = {row["student_id"]: float(row["raw_score"]) for row in table}
    students = collect([folder / "submitted"])
    task = assignment(["attention"], {"attention.softmax": 3})
    ours = {done.student: done.points for _, done in grade(students, task)}
    assert theirs == ours == {"right": 6.0, "stub": 0.0, "one wrong": 0.0}
    assert (folder / "feedback" / "right" / NAME / f"{NAME}.html").exists()


def test_the_notebooks_are_those_of_the_course(course):
    stored = json.loads(notebook_of(source_of(SECOND)).read_text())
    kept = [c for c in cells_of(course) if not marks_of(c).get("grade")]
    assert len(kept) == len(stored["cells"])

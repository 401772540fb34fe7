"""``python -m minift course``: list, audit, build."""

import json
import subprocess
import sys

import pytest

from minift.__main__ import main
from minift.course import find, names
from minift.course.exercise import Mistake


def test_list(capsys):
    assert main(["course", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == names()
    assert main(["course", "list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["exercises"]
    assert [e["exercise"] for e in entries] == names()
    assert entries[0]["function"] == "causal_mask"


def test_list_needs_no_triton(capsys, monkeypatch):
    for module in [m for m in sys.modules if m.startswith("minift.course.exercises.kernels")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("kernels.find_spec", lambda name: None)
    assert main(["course", "list"]) == 0
    kernels = [x for x in capsys.readouterr().out.splitlines() if x.startswith("kernels.")]
    assert kernels
    assert all("needs Triton" in line for line in kernels)


def test_audit_of_one_exercise(capsys):
    assert main(["course", "audit", "ner.f1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"1 exercise, {3 + len(find('ner.f1').mistakes)} answers, 0 judged wrongly"
    assert main(["course", "audit", "ner.f1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slipped"] == 0
    assert {row["state"] for row in report["answers"]} == {"not attempted", "right", "wrong"}


@pytest.mark.parametrize("slip", ["a right answer among the wrong ones", "another sentence"])
def test_audit_fails_when_something_slips(capsys, monkeypatch, slip):
    exercise = find("ner.f1")
    fn = exercise.answer if "right" in slip else exercise.mistakes[0].fn
    monkeypatch.setattr(exercise, "mistakes", [*exercise.mistakes, Mistake("slips", fn, slip)])
    assert main(["course", "audit", "ner.f1"]) == 1
    assert "SLIPPED" in capsys.readouterr().out


@pytest.mark.parametrize(("part", "other"), [("start", "answer"), ("answer", "start")])
def test_audit_fails_when_a_stub_is_right_or_a_solution_is_none(monkeypatch, part, other):
    exercise = find("ner.f1")
    monkeypatch.setattr(exercise, part, getattr(exercise, other))
    assert main(["course", "audit", "ner.f1"]) == 1


def test_audit_fails_when_an_exercise_has_too_few_wrong_answers(capsys, monkeypatch):
    exercise = find("ner.f1")
    monkeypatch.setattr(exercise, "mistakes", exercise.mistakes[:2])
    assert main(["course", "audit", "ner.f1"]) == 1
    assert "fewer than 3 wrong answers" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "ner.f2"], "did you mean 'ner.f1'?"),
        (["build", "99_nothing"], "no source of that name; known: 00_start_here"),
        (["publish"], "invalid choice: 'publish'"),
        (["check", "x.py", "--time-limit", "0"], "--time-limit: 0 is not a number of seconds"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(capsys, arguments, message):
    try:
        code = main(["course", *arguments])
    except SystemExit as stopped:  # argparse
        code = stopped.code
    printed = capsys.readouterr()
    assert code == 2
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_help_and_imports_are_fast():
    """Neither the command's help nor ``make_steady`` loads PyTorch."""
    code = (
        "import sys, minift.course, minift.commands.course\n"
        "from minift.course.environment import make_steady\n"
        "make_steady()\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr

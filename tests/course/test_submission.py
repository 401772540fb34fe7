"""A learner's file or notebook, examined in a process of its own."""

import json
import time

import pytest

from minift.__main__ import main
from minift.course import find
from minift.course.submission import examine_file
from minift.errors import InputError

HEAD = "import torch\nfrom torch import Tensor\nfrom collections import Counter\n"
HEAD += "from itertools import pairwise\n"
RIGHT = HEAD + find("start.next_word").solution_source()
WRONG = "def causal_mask(m, n):\n    import torch\n    return torch.ones(m, n).bool().tril()\n"


def cell(source, kind="code"):
    return {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}}


def notebook(*sources):
    return json.dumps({"cells": [cell(s) for s in sources] + [cell("# text", "markdown")]})


def test_a_python_file(tmp_path):
    path = tmp_path / "mine.py"
    imported = "from minift.data.bio import entities\n"  # nobody's answer to ner.entities
    path.write_text(RIGHT + WRONG + imported + find("attention.softmax").stub_source())
    found = examine_file(path)
    assert [(e["exercise"], e["state"]) for e in found] == [
        ("attention.causal_mask", "wrong"),
        ("attention.softmax", "not attempted"),
        ("start.next_word", "right"),
    ]
    assert "upper left corner" in found[0]["message"]
    assert len(found[2]["verified"]) == 4


def test_a_notebook(tmp_path):
    """Magics, cells that fail, checks that raise, a kernel, a name that is used again."""
    path = tmp_path / "mine.ipynb"
    check = "from minift.course import check\ncheck('attention.causal_mask', causal_mask)"
    kernel = find("kernels.vector_add").solution_source()
    softmax = find("attention.softmax")
    sources = ["1 / 0", "def broken(:", WRONG, check]
    sources += ["%matplotlib inline\nx = !ls\ndisplay(x)\n" + RIGHT]
    sources += [softmax.solution_source(), softmax.stub_source(), "softmax = 3"]
    sources += ["import triton\nimport triton.language as tl\n" + kernel]
    path.write_text(notebook(*sources))
    assert {entry["exercise"]: entry["state"] for entry in examine_file(path)} == {
        "attention.causal_mask": "wrong",
        "attention.softmax": "not attempted",
        "kernels.vector_add": "right",
        "start.next_word": "right",
    }


def test_a_statement_that_fails_leaves_the_others(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import no_such_module\nimport sys\nsys.exit(3)\n" + RIGHT)
    assert [(e["exercise"], e["state"]) for e in examine_file(path)] == [
        ("start.next_word", "right")
    ]


def test_an_endless_loop_is_ended_with_what_it_started(tmp_path):
    path = tmp_path / "mine.py"
    mark = tmp_path / "alive"
    sleeper = f"import time; time.sleep(4); open({str(mark)!r}, 'w')"
    path.write_text(
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {sleeper!r}])\n"
        "while True:\n    pass\n"
    )
    start = time.monotonic()
    with pytest.raises(InputError, match="no answer in 2 s; an endless loop"):
        examine_file(path, time_limit=2)
    assert time.monotonic() - start < 10
    time.sleep(max(0.0, start + 5 - time.monotonic()))
    assert not mark.exists()


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("import os\nos._exit(0)\n", "exit code 0"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
    ],
)
def test_a_process_that_ends_early(tmp_path, text, ending):
    path = tmp_path / "mine.py"
    path.write_text("def scores(q, k):\n    return q\n" + text)
    with pytest.raises(InputError, match=rf"running it ended the process \({ending}\)"):
        examine_file(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mine.txt", "x", "right would be a Python file"),
        ("mine.ipynb", "{not json", "not a notebook"),
        ("mine.ipynb", "[1, 2]", "not a notebook"),
        ("mine.ipynb", '{"cells": [{"source": []}]}', "not a notebook"),
        ("mine.py", "", "the file is empty"),
        ("mine.py", "x = 1\n", "no function here has the name of an exercise"),
        (
            "mine.py",
            "def scores(:\n",
            "mine.py: no answer found; line 1: not Python (invalid syntax)",
        ),
        (
            "mine.py",
            "\nimport no_such_module\n",
            "line 2 raised ModuleNotFoundError: No module named",
        ),
        ("mine.py", "raise SystemExit(3)\n", "line 1 raised SystemExit: 3"),
        ("mine.ipynb", notebook("x = 1", "def scores(:"), "cell 2, line 1: not Python"),
        ("missing.py", None, "no such file"),
    ],
)
def test_what_cannot_be_examined_has_one_clear_line(tmp_path, capsys, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    assert main(["course", "check", str(tmp_path / name)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1


def test_the_command_says_what_the_check_says(tmp_path, capsys, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(RIGHT + WRONG)
    entries = examine_file(path)
    monkeypatch.setattr("minift.course.submission.examine_file", lambda *_: entries)
    assert main(["course", "check", str(path)]) == 1
    printed = capsys.readouterr().out
    assert "attention.causal_mask: wrong" in printed
    assert "start.next_word: right" in printed
    assert main(["course", "check", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"exercises": entries, "remarks": []}
    entries = entries[1:]
    assert main(["course", "check", str(path)]) == 0

"""What is cut out of a file, let through as a kernel, written about students, said to teachers."""

import ast
import csv
import io
import json
import os
import subprocess
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from minift.__main__ import main
from minift.course.grading import feedback, grade, isolation
from minift.course.grading.points import read_points
from minift.course.grading.sources import answers
from minift.course.grading.vetting import vetted
from minift.course.grading.work import Result, Work, collect
from minift.course.plan import FOLDER, checks
from minift.course.registry import find, names
from minift.course.submission import examine_file
from minift.errors import InputError

# ---- what a function needs

RIGHT = "return torch.ones(queries, keys).bool().tril(keys - queries)"
DEF = f"def causal_mask(queries, keys):\n    {RIGHT}\n"
CUT = {
    "a helper's helper": ("def a(x): return b(x)\ndef b(x): return C\nC = 1\n", "a(0)", {"C = 1"}),
    "star imports": ("from torch import *\n", "ones(1)", {"from torch import *"}),
    "the future": ("from __future__ import annotations\n", "0", {"from __future__"}),
    "a table that is filled": ("T = []\nT.append(1)\nT += [2]\n", "T", {"T.append(1)", "T += [2]"}),
    "an attribute": ("class A: pass\nA.x = 1\n", "A.x", {"class A", "A.x = 1"}),
    "a guarded import": ("try: import x\nexcept ImportError: x = 0\n", "x", {"except ImportError"}),
}


@pytest.mark.parametrize("name", CUT)
def test_what_a_function_needs_is_kept(tmp_path, name):
    before, uses, kept = CUT[name]
    path = tmp_path / "mine.py"
    path.write_text(f"{before}z = train()\nz.plot()\ndef f(q):\n    return {uses}\n")
    source = answers(path, {"f"})["f"].source
    assert "z" not in {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
    assert all(text in source for text in kept)


@pytest.mark.parametrize(
    "answer",
    [
        "def f(n, BLOCK):\n    i = n\n    return [j for j in range(i)], BLOCK",
        "def f(x, n=7, *BLOCK, **i):\n    def inside(j):\n        return n + j\n    return inside",
        "f = lambda n, BLOCK, i=0, j=0: n + BLOCK + i + j",
        "class n:\n    pass\ndef f(BLOCK, i):\n    for j in BLOCK:\n        i += j",
    ],
)
def test_a_function_s_own_variables_are_not_the_lesson_s(tmp_path, answer):
    path = tmp_path / "mine.py"
    path.write_text(f"n, BLOCK = train()\ni = j = train()\n{answer}\n")
    assert "train" not in answers(path, {"f"})["f"].source


@pytest.mark.parametrize(
    "answer",
    [
        "def f(x):\n    return n",
        "def f(x, y=n):\n    n = 1",
        "def f(x):\n    global n\n    n = n + 1",
        "def f(x):\n    return [x for x in n]",
        "def f(x):\n    def g():\n        return n\n    return g",
        "class A:\n    n = n\ndef f(x):\n    return A",
        "@n\ndef f(x):\n    n = 1",
        "f = lambda x: n",
    ],
)
def test_what_it_takes_from_outside_is(tmp_path, answer):
    path = tmp_path / "mine.py"
    path.write_text(f"n = 3\n{answer}\n")
    assert "n = 3" in answers(path, {"f"})["f"].source


def solved_lessons():
    """Every notebook with the solutions in place of the stubs, and its exercises."""
    for path in sorted(FOLDER.rglob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        notebook, asked = json.loads(text), checks(path)
        if not asked or path.name.startswith("."):
            continue
        for cell in notebook["cells"]:
            for name in asked:
                stub = find(name).stub_source().strip()
                source = "".join(cell["source"])
                if cell["cell_type"] == "code" and stub in source:
                    cell["source"] = source.replace(stub, find(name).solution_source().strip())
        yield path, notebook, asked


def test_kernels_of_every_lesson_are_let_through_as_they_stand_there(tmp_path):
    kernels = 0
    for path, notebook, asked in solved_lessons():
        (tmp_path / path.name).write_text(json.dumps(notebook))
        found = answers(tmp_path / path.name, {name.partition(".")[2] for name in asked})
        assert len(found) == len(asked), path.name
        for answer in found.values():
            if answer.jit:
                assert vetted(answer.source)[1] is None, (path.name, answer.function)
                kernels += 1
    assert kernels >= 10


@pytest.mark.skipif(isolation.why_not() is not None, reason="no isolation here")
def test_lessons_handed_in_whole(tmp_path):
    chosen = {"01_first_kernel", "02_softmax", "02_tokens", "04_attention", "01_ner", "13_clinic"}
    lessons = [(p, n, asked) for p, n, asked in solved_lessons() if p.stem in chosen]
    assert len(lessons) == len(chosen)
    wanted = [name for _, _, asked in lessons for name in asked]
    for path, notebook, _ in lessons:
        (tmp_path / f"{path.stem}.ipynb").write_text(json.dumps(notebook))
        (tmp_path / f"untouched {path.name}").write_bytes(path.read_bytes())
    found = dict(grade.grade(collect([tmp_path]), grade.assignment(wanted)))
    work = {w.student: w for w in found.values()}
    for path, _, asked in lessons:
        done = {r.exercise: r.state for r in work[path.stem].results}
        assert {n for n, state in done.items() if state == "right"} == set(asked), path.stem
        assert {r.state for r in work[f"untouched {path.stem}"].results} == {"not attempted"}


def test_a_cell_that_is_no_python_is_said(tmp_path, capsys):
    cell = "def softmax(scores):\n    return scores.softmax(-1"
    (tmp_path / "a.ipynb").write_text(cells(DEF, "!ls\n%timeit 1", cell, "x = (\u0000"))
    line = "a.ipynb, code cell 3, line 2: not Python ('(' was never closed)"
    null = "a.ipynb, code cell 4: not Python (source code string cannot contain null bytes)"
    if isolation.why_not() is None:
        task = grade.assignment(["attention.softmax"])
        ((_, work),) = grade.grade(collect([tmp_path]), task)
        assert work.remarks == (line, null)
    (tmp_path / "a.ipynb").write_text(cells("import torch\n" + DEF, cell.replace("3", "2")))
    assert main(["course", "check", str(tmp_path / "a.ipynb")]) == 1
    said = capsys.readouterr().out
    assert "attention.causal_mask: right" in said
    assert "a.ipynb, code cell 2, line 2: not Python" in said


@pytest.mark.skipif(isolation.why_not() is not None, reason="no isolation here")
def test_values_called_like_an_exercise_and_exits_inside(tmp_path):
    right = find("attention.softmax").solution_source()
    (tmp_path / "value.py").write_text(
        f"import torch\nfrom torch import Tensor\nscores = 3\n{right}"
    )
    (tmp_path / "exit.py").write_text("import sys\ndef scores(q, k):\n    sys.exit()\n")
    task = grade.assignment(["attention.scores", "attention.softmax"])
    work = {w.student: w for w in dict(grade.grade(collect([tmp_path]), task)).values()}
    assert [r.state for r in work["value"].results] == ["not attempted", "right"]
    assert "raised SystemExit" in work["exit"].results[0].message
    (tmp_path / "both.py").write_text(f"import torch, sys\nfrom torch import Tensor\n{right}"
                                      "def scores(q, k):\n    sys.exit()\n")  # fmt: skip
    states = {e["exercise"]: e["state"] for e in examine_file(tmp_path / "both.py")}
    assert states == {"attention.scores": "wrong", "attention.softmax": "right"}


def test_a_wrong_signature_is_a_mistake_of_the_class(tmp_path):
    if isolation.why_not() is None:
        (tmp_path / "a.py").write_text("def scores(q):\n    return q\n")
        ((_, work),) = grade.grade(collect([tmp_path]), grade.assignment(["attention.scores"]))
        assert work.results[0].mistake == "not true: takes the agreed arguments"


def test_long_chains_take_linear_time(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("".join(f"a{i} = a{i + 1}\n" for i in range(8000)) + "def f():\n    a0\n")
    start = time.process_time()
    assert answers(path, {"f"})["f"].source.count("\n\n") == 8000
    assert time.process_time() - start < 20  # it was minutes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n" * 300_000, "characters of code; at most"),
        ("def f():\n    return " + "+".join("1" * 2000), "nested too deeply"),
        ("-" * 10**5 + "1", "nested too deeply"),
        ("x = 1\0", "null bytes"),
    ],
    ids=["long", "deep expression", "deep", "null"],
)
def test_what_cannot_be_read_has_its_line(tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        answers(path, {"f"})


def cells(*sources):
    made = [{"cell_type": "code", "source": s} for s in sources]
    return json.dumps({"cells": made})


def test_notebooks(tmp_path):
    path = tmp_path / "mine.ipynb"
    path.write_text(cells("%%time\ndef f():\n    return 1", "def g(:", "!ls\n%timeit 1\nx = 2"))
    assert "return 1" in answers(path, {"f"})["f"].source
    for bad in ("[" * 10**5, "{}", '{"cells": 3}', '{"cells": [{"cell_type": "code"}]}'):
        path.write_text(bad)
        with pytest.raises(InputError, match="not a notebook"):
            answers(path, {"f"})


# ---- kernels

HEAD = "import triton\nimport triton.language as tl\nimport math\n"
JIT = f"{HEAD}@triton.jit\n"
LET_THROUGH = {
    "constants": f"{HEAD}C = tl.constexpr(math.log2(math.e))\nD: tl.constexpr = 2\n"
    "@triton.jit\ndef k(x_ptr, N: tl.constexpr = 4):\n    x = C * D\n",
    "a helper": f"{HEAD}@triton.jit\ndef h(x):\n    return x.to(tl.float32)\n"
    "@triton.jit()\ndef k(x_ptr):\n    y = h(tl.load(x_ptr)).sum(0)\n",
    "loops": f"{JIT}def k(x_ptr, n):\n    i = 0\n    while i < n:\n        i += 1\n"
    "    for j in tl.range(0, n):\n        tl.store(x_ptr + j, tl.math.exp2(1.0))\n",
    "the pointer's type": f"{JIT}def k(x_ptr):\n    y = (1.0).to(x_ptr.dtype.element_ty)\n",
    "other imports": f"import torch, os\nfrom torch import *\n{JIT}def k(x_ptr):\n    pass\n",
}
REFUSED = {
    "comprehension": f"{JIT}def k(x):\n    [0 for eval in (0,)]\n    eval('1')\n",
    "generator": f"{JIT}def k(x):\n    tuple(eval for eval in (0,))\n",
    "constant": f"{HEAD}X = ([0 for eval in (0,)], eval('1'))\n{JIT}def k(x):\n    X\n",
    "default": f"{JIT}def k(x, eval=eval('1')):\n    pass\n",
    "keyword default": f"{JIT}def k(x, *, eval=eval('1')):\n    pass\n",
    "annotation": f"{JIT}def k(eval: eval('1')):\n    pass\n",
    "annotated constant": f"{HEAD}eval: eval('1') = 1\n{JIT}def k(x):\n    pass\n",
    "returns": f"{JIT}def k(eval) -> eval('1'):\n    pass\n",
    "decorator": f"{HEAD}@triton.jit(repr=eval('1'))\ndef k(eval):\n    pass\n",
    "nested function": f"{JIT}def k(x):\n    def g(eval):\n        pass\n    eval('1')\n",
    "lambda": f"{JIT}def k(x):\n    (lambda: 0)()\n",
    "private": f"{JIT}def k(x):\n    x.__class__\n",
    "dunder": f"{JIT}def k(__builtins__):\n    __builtins__['eval']\n",
    "handle": f"{JIT}def k(x):\n    f'{{x.handle}}'\n",
    "tl by another name": f"{JIT}def k(x, tl):\n    tl.load(x)\n",
    "tl as a kernel": f"{HEAD}@triton.jit\ndef tl():\n    pass\n{JIT}def k(x):\n    pass\n",
    "modules of tl": f"{JIT}def k(x):\n    tl.core.load\n",
    "tensor": f"{JIT}def k(x):\n    tl.tensor(x, 1)\n",
    "assembler": f"{JIT}def k(x):\n    tl.inline_asm_elementwise('', '', [x], x, True, 1)\n",
    "new attribute": f"{JIT}def k(x):\n    tl.load = 1\n",
    "new constant of Python's": f"{HEAD}__builtins__ = 1\n{JIT}def k(x):\n    pass\n",
    "plain function": f"{HEAD}def h(x):\n    return x\n@triton.jit\ndef k(x):\n    h(x)\n",
    "statement": f"{HEAD}print(1)\n@triton.jit\ndef k(x):\n    pass\n",
    "built-in": f"{JIT}def k(x):\n    open('x')\n",
    "format": f"{JIT}def k(x):\n    '{{0.handle}}'.format(x)\n",
}


@pytest.mark.parametrize("name", LET_THROUGH)
def test_kernels_that_are_let_through(name):
    assert vetted(LET_THROUGH[name])[1] is None


@pytest.mark.parametrize("name", REFUSED)
def test_kernels_that_are_more_than_triton(name):
    assert vetted(REFUSED[name])[1]


def test_every_solution_is_let_through():
    kernels = [s for s in (find(n).solution_source() for n in names()) if "@triton.jit" in s]
    assert len(kernels) >= 10
    assert [vetted(HEAD + source)[1] for source in kernels] == [None] * len(kernels)


# ---- what is written

NASTY = 'a"<script>&\x1b[31m\x00\ud800\n=1+1'


def graded(student, message="m", mistake=""):
    result = Result("attention.scores", "wrong", 0.0, 1.0, message, mistake)
    return Work(student, (), ("=remark",), (result,))


@pytest.mark.parametrize("student", ["=1+1", "+1", "-1", "@x", "\t=1", "\n=1", "  =1"])
def test_no_cell_is_a_formula(student):
    rows = list(csv.reader(io.StringIO(feedback.as_csv([graded(student)]))))
    assert rows[1][0] == f"'{student}" and rows[1][-1] == "'=remark"


def test_xml_and_html_hold_whatever_was_said():
    work = graded(NASTY.replace("\ud800", ""), NASTY, NASTY)
    case = ET.fromstring(feedback.as_junit([work])).find(".//failure")
    assert case is not None and "<script>" in str(case.text) and "\x1b" not in str(case.text)
    page = feedback.page(work)
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_pages_have_names_that_are_files_names_and_differ(tmp_path):
    students = ["../x", "..", ".", "a/b", "a\nb", "a b", "A B", "字" * 83, "x" * 250, ""]
    feedback.write(tmp_path, [graded(s) for s in students], {})
    pages = sorted(p.name for p in (tmp_path / "feedback").iterdir())
    assert len({p.lower() for p in pages}) == len(students)
    assert all(len(p.encode()) < 130 and not p.startswith(".") for p in pages)
    assert len(list(csv.reader((tmp_path / "grades.csv").open()))) == 1 + len(students)


def test_names_of_students_are_printable(tmp_path):
    for name in (b"a\n\x1b[31m.py", b"bad\xff.py"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(DEF)
    assert [w.student for w in collect([tmp_path])] == ["a??[31m", "bad?"]


def test_folders_in_folders_without_end(tmp_path):
    os.makedirs(tmp_path / "class" / "one")
    here = os.getcwd()
    os.chdir(tmp_path / "class" / "one")
    try:
        for _ in range(1200):  # deeper than Python may recurse
            os.mkdir("a")
            os.chdir("a")
    finally:
        os.chdir(here)
    try:
        assert collect([tmp_path / "class"])[0].remarks == ("no .py or .ipynb file",)
    finally:  # shutil.rmtree recurses, too: pytest could not clean up
        subprocess.run(["rm", "-rf", str(tmp_path / "class")], check=True)


# ---- bad input on the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/none"], "no such file or folder"),
        (["{tmp}"], "no submission in it"),
        (["{tmp}/x.py", "--jobs", "0"], "--jobs"),
        (["{tmp}/x.py", "--time-limit", "nan"], "--time-limit"),
        (["{tmp}/x.py", "--memory", "-1"], "--memory"),
        (["{tmp}/x.py", "--exercises", "attention.causal_mas"], "causal_mask"),
        (["{tmp}/x.py", "--out", "{tmp}"], "not empty"),
        (["{tmp}/x.py", "{tmp}/more/x.py"], "two submissions are called x"),
    ],
    ids=["missing", "empty", "jobs", "time", "memory", "exercise", "out", "twice"],
)
def test_bad_input_has_one_line(tmp_path, capsys, arguments, message):
    if message != "no submission in it":
        (tmp_path / "x.py").write_text(DEF)
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "x.py").write_text(DEF)
    given = [a.replace("{tmp}", str(tmp_path)) for a in arguments]
    assert main(["course", "grade", *given]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_a_system_that_cannot_isolate_has_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "x.py").write_text(DEF)
    failing = subprocess.CompletedProcess([], 1, "", "Trace\nOSError: [Errno 1] unshare: no\n")
    monkeypatch.setattr(isolation.subprocess, "run", lambda *_, **__: failing)
    monkeypatch.setattr(grade, "why_not", isolation.why_not.__wrapped__)
    assert main(["course", "grade", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "cannot be isolated here (OSError: [Errno 1] unshare: no)" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("text", ["[]", '{"students": [{}]}', '{"students": 3}', "x"])
def test_a_report_of_something_else_has_one_line(tmp_path, capsys, text):
    (tmp_path / "grades.json").write_text(text)
    assert main(["course", "report", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_work_that_could_not_be_read_has_failed_in_junit():
    result = Result("attention.scores", "not attempted", 0.0, 1.0, "no answer was handed in")
    unread = Work("a", (), ("x.py: not Python",), (result,))
    suite = ET.fromstring(feedback.as_junit([unread])).find("testsuite")
    assert suite is not None and suite.get("failures") == "1" and suite.get("skipped") == "0"
    failure = suite.find(".//failure")
    assert failure is not None and failure.get("message") == "x.py: not Python"
    for message in ("", "\n\nsaid"):
        text = feedback.as_junit([graded("a", message)])
        assert f'message="{message.strip() or "wrong"}"' in text
    read = Work("a", (), (), (result,))
    suite = ET.fromstring(feedback.as_junit([read])).find("testsuite")
    assert suite is not None and suite.get("failures") == "0" and suite.get("skipped") == "1"


@pytest.mark.skipif(isolation.why_not() is not None, reason="no isolation here")
def test_the_library_is_not_there_and_the_student_is_told(tmp_path):
    text = "from minift.layers import mask\n\n\ndef causal_mask(queries, keys):\n"
    (tmp_path / "a.py").write_text(text + "    return mask.causal_mask(queries, keys)\n")
    task = grade.assignment(["attention.causal_mask"])
    ((_, work),) = grade.grade(grade.collect([tmp_path]), task)
    assert work.points == 0
    assert "cannot import minift or kernels while it is graded" in work.results[0].message


@pytest.mark.parametrize("value", ["-3", "nan", "true", '"two"'])
def test_points_are_numbers_from_0(tmp_path, value):
    path = tmp_path / "points.toml"
    path.write_text(f'"attention.scores" = {value}\n')
    with pytest.raises(
        InputError, match=r"points\.toml: points of attention\.scores: .* from 0 on"
    ):
        read_points(path)

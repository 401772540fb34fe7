"""The students' edition: the same verdicts as here, and no answer anywhere in it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from minift.__main__ import main
from minift.course import examine, find, hint, names
from minift.course.diagnosis import fails
from minift.course.edition import release as releasing
from minift.course.edition.release import ROOT, release, without_answers
from minift.course.edition.stripped import stripped
from minift.course.exercise import source
from minift.course.registry import FOLDER
from minift.course.submission import examine_file
from minift.errors import InputError

SAMPLE = ["attention.softmax", "kernels.silu_mul", "ner.entities", "start.next_word"]

# Runs in the students' edition, on answers from the teacher's files.
CHILD = """
import importlib.util, json, sys
import minift
from minift.course import examine, find, solution
from minift.errors import InputError

home, exercises, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert minift.__file__.startswith(home), minift.__file__

def outcome(name, fn):
    found = examine(name, fn)
    said = found.failure.mistake if found.failure else ""
    return {"state": found.state, "said": said, "text": str(found)}

rows = {}
for name, chosen in asked.items():
    place = exercises + "/" + name.replace(".", "/") + ".py"
    spec = importlib.util.spec_from_file_location("teachers_" + name.replace(".", "_"), place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.exercise
    rows[name] = {m.name: outcome(name, m.fn) for m in theirs.mistakes if m.name in chosen}
    ours = find(name)
    rows[name]["given"] = [ours.stub_source(), ours.title, ours.hints]
    rows[name]["given"].append([prop.claim for prop in ours.properties])
    rows[name]["stub"] = outcome(name, find(name).start)
    rows[name]["teacher's stub"] = outcome(name, theirs.start)
    rows[name]["solution"] = outcome(name, theirs.answer)
    try:
        rows[name]["source"] = {"text": solution(name)}
    except InputError as error:
        rows[name]["source"] = {"text": str(error)}
    assert find(name).oracle is find(name).answer is None and not find(name).mistakes
print(json.dumps(rows))
"""


def child(folder: Path, asked: dict[str, list[str]]) -> dict[str, Any]:
    """What the edition in ``folder`` says of the stub, the solution and the chosen mistakes."""
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(FOLDER), json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def few_of(name: str) -> list[str]:
    """The mistakes that are recorded by default: all, two or none; ``-m released`` takes all."""
    found = [mistake.name for mistake in find(name).mistakes]
    if name in SAMPLE:
        return found
    return [found[0], found[-1]] if name in names()[::4] else []


@pytest.fixture(scope="module")
def edition(tmp_path_factory) -> Path:
    """All exercises, with few of their mistakes: that takes a fifth of the time."""
    folder = tmp_path_factory.mktemp("release") / "students"
    with pytest.MonkeyPatch.context() as patch:
        for exercise in map(find, names()):
            few = [m for m in exercise.mistakes if m.name in few_of(exercise.name)]
            patch.setattr(exercise, "mistakes", few)
        release(folder)
    return folder


@pytest.fixture(scope="module")
def said(edition):
    return child(edition, {name: few_of(name) for name in names()})


@pytest.mark.parametrize("name", names())
def test_the_edition_judges_as_the_teachers_does(said, name):
    rows = said[name]
    assert rows["stub"]["state"] == rows["teacher's stub"]["state"] == "not attempted"
    claims = [prop.claim for prop in find(name).properties]
    given = [find(name).stub_source(), find(name).title, list(find(name).hints), claims]
    assert rows["given"] == given
    assert rows["solution"]["text"].startswith(f"{name}: right"), rows["solution"]["text"]
    for mistake in find(name).mistakes:
        if mistake.name in few_of(name):
            assert rows[mistake.name]["state"] == "wrong"
            assert rows[mistake.name]["said"] == mistake.sentence


@pytest.mark.parametrize("name", SAMPLE)
def test_the_edition_says_word_for_word_what_the_teachers_does(said, name):
    exercise = find(name)
    assert said[name]["solution"]["text"] == str(examine(name, exercise.answer))
    for mistake in exercise.mistakes:
        assert said[name][mistake.name]["text"] == str(examine(name, mistake.fn))


@pytest.mark.parametrize("name", SAMPLE)
def test_a_wrong_answer_is_recorded_where_it_fails_and_nowhere_else(edition, name):
    place = Path("minift/course/exercises", *name.split(".")).with_suffix(".json")
    entries = json.loads((edition / place).read_text(encoding="utf-8"))["properties"]
    exercise = find(name)
    for prop, entry in zip(exercise.properties, entries, strict=True):
        compiles = entry["kind"] == "launch.Compiles"  # whose own words say more
        failing = [m for m in exercise.mistakes if not compiles and fails(exercise, prop, m.fn)]
        assert [sentence for sentence, _ in entry["wrong"]] == [m.sentence for m in failing]


def test_solution_answers_in_one_line(said):
    for name in names():
        line = said[name]["source"]["text"]
        assert line == f"exercise {name}: this edition of the course has no solutions"


# ---- no answer anywhere


def normal(text: str) -> str:
    return " ".join(text.split())


def lines(text: str) -> set[str]:
    found = (normal(line.partition("  #")[0]) for line in text.splitlines())
    return {line for line in found if len(line) > 25}


def strings(value) -> list[str]:
    """Every text in JSON, a notebook's lines put together again."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ["".join(value), *value]
    items = [*value.items()] if isinstance(value, dict) else value
    return [s for item in items for s in strings(item)] if isinstance(items, (list, tuple)) else []


def library() -> dict[Path, bytes]:
    """The public code: everything but the exercises."""
    files = [p for package in ("minift", "kernels") for p in (ROOT / package).rglob("*.py")]
    public = [p for p in files if not p.is_relative_to(FOLDER) or p.name == "__init__.py"]
    return {p.relative_to(ROOT): p.read_bytes() for p in public}


def hidden(hints: bool = True) -> dict[str, str]:
    """The lines of all solutions, mistakes and oracles that are nowhere public: line to owner.

    Public are the library, the text of the notebooks (whose sources hold no solution), and the
    exercise's stub, the function that runs its answers, and its hints: the last of them may give
    a line away.
    """
    public = {line for data in library().values() for line in lines(data.decode())}
    for path in (ROOT / "notebooks/_source").rglob("*.py"):
        public |= lines(re.sub("^# ", "", path.read_text(encoding="utf-8"), flags=re.M))
    found = {}
    for exercise in map(find, names()):
        own = [exercise.stub_source(), source(exercise.apply), *(exercise.hints if hints else ())]
        answers = [exercise.answer, exercise.oracle, *(m.fn for m in exercise.mistakes)]
        for line in set().union(*(lines(source(fn)) for fn in answers)) - public:
            if line not in normal("\n".join(own)):
                found[line] = exercise.name
    return found


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    found = hidden()
    assert len(found) > 8 * len(names()), "hardly anything to look for"
    assert set(found.values()) == set(names())
    return found


def texts(folder: Path) -> dict[Path, str]:
    """What can be read in a folder, but for the library's own unchanged files."""
    public, found = library(), {}
    for path in (p for p in folder.rglob("*") if p.is_file()):
        place, data = path.relative_to(folder), path.read_bytes()
        if public.get(place) != data:
            text = data.decode("utf-8", errors="ignore")
            if path.suffix in (".json", ".ipynb"):
                text = "\n".join(strings(json.loads(text)))
            found[place] = normal(text)
    return found


def leaks(folder: Path, secrets: dict[str, str]) -> list[tuple[str, str, str]]:
    read = texts(folder)
    return [
        (str(place), owner, line)
        for place, text in read.items()
        for line, owner in secrets.items()
        if line in text
    ]


def test_no_line_of_an_answer_is_in_the_edition(edition, secrets):
    found = leaks(edition, secrets)
    assert not found, "\n".join(map(" | ".join, found))


def test_without_hints_not_even_those_lines_are_there(tmp_path):
    for name in names():
        path = tmp_path / f"{name}.py"
        path.write_text(stripped(find(name), FOLDER / f"{name.replace('.', '/')}.py", hints=False))
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        notebook = without_answers(json.loads(path.read_text(encoding="utf-8")), hints=False)
        (tmp_path / path.name).write_text(json.dumps(notebook))
    found = leaks(tmp_path, hidden(hints=False))
    assert not found, "\n".join(map(" | ".join, found))


@pytest.mark.parametrize("place", ["notebooks/1-transformer/04_attention.ipynb", "README.md"])
def test_a_line_of_an_answer_would_be_found(edition, secrets, tmp_path, place):
    answer = find("attention.softmax").solution_source()
    text = json.dumps({"cells": [{"source": answer.splitlines(True)}]})
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(text if place.endswith("ipynb") else answer, encoding="utf-8")
    assert leaks(tmp_path, secrets)


def test_only_what_a_student_needs_is_there(edition):
    top = {path.name for path in edition.iterdir()}
    packages = {"minift", "kernels", "notebooks"}
    assert top == packages | {"README.md", "requirements.txt", "pyproject.toml", "LICENSE"}
    inside = [path.relative_to(edition) for path in edition.rglob("*")]
    unwanted = {"tests", "_source", "__pycache__", ".git", ".ipynb_checkpoints"}
    assert not [path for path in inside if unwanted & set(path.parts) or path.suffix == ".pyc"]
    for path in edition.joinpath("minift/course/exercises").glob("*/*.py"):
        code = path.read_text(encoding="utf-8")
        for word in ("@exercise.solution", "exercise.reference", ".mistake(", ".slip(", "Equals("):
            assert word not in code, (path, word)


def test_notebooks_keep_their_outputs_and_stubs(edition):
    places = sorted(p.relative_to(ROOT) for p in (ROOT / "notebooks").rglob("*.ipynb"))
    written = sorted(p.relative_to(edition) for p in (edition / "notebooks").rglob("*.ipynb"))
    assert written == [p for p in places if not any(q.startswith((".", "_")) for q in p.parts)]
    for place in written:
        ours, theirs = (nbformat.read(root / place, as_version=4) for root in (ROOT, edition))
        nbformat.validate(theirs)
        code = [[c for c in n.cells if c.cell_type == "code"] for n in (ours, theirs)]
        assert code[0] == code[1]
        prose = "".join(c.source for c in theirs.cells)
        assert "<summary>One right answer" not in prose
        assert prose.count("<details>") == prose.count("</details>")


# ---- the folder


def test_the_same_course_gives_the_same_bytes(edition, tmp_path, capsys):
    few = ["ner", "start.next_word", "attention.softmax", "kernels.silu_mul"]
    assert main(["course", "release", str(tmp_path / "a"), "--only", *few, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    wanted = [n for n in names() if n in few or n.startswith("ner.")]
    assert report["exercises"] == wanted and len(wanted) > len(few)
    whole = ["notebooks/00_start_here.ipynb", "notebooks/3-finetuning/01_ner.ipynb"]
    assert report["notebooks"] == whole
    assert "notebooks/1-transformer/04_attention.ipynb" in report["left_out"]
    release(tmp_path / "b", few)
    a, b = ({p.relative_to(t): p.read_bytes() for p in t.rglob("*") if p.is_file()}
            for t in (tmp_path / "a", tmp_path / "b"))  # fmt: skip
    assert a == b
    assert (report["files"], report["bytes"]) == (len(a), sum(map(len, a.values())))
    absent = {Path("minift/course/exercises/kernels/row_max.py"), Path("notebooks/2-kernels")}
    assert not [p for p in a if p in absent or absent & set(p.parents)]
    for name in SAMPLE:  # whose mistakes were all recorded
        place = Path("minift/course/exercises", *name.split(".")).with_suffix(".json")
        assert a[place] == (edition / place).read_bytes()


def test_without_hints(tmp_path, monkeypatch, capsys):
    release(tmp_path / "a", ["start.next_word"], hints=False)
    file = tmp_path / "a/minift/course/exercises/start/next_word.py"
    text = file.read_text(encoding="utf-8")
    notebook = (tmp_path / "a/notebooks/00_start_here.ipynb").read_text(encoding="utf-8")
    for given in find("start.next_word").hints:
        assert given not in text and given not in notebook
    namespace = {"__file__": str(file)}
    exec(compile(text, str(file), "exec"), namespace)
    monkeypatch.setattr("minift.course.help.find", lambda name: namespace["exercise"])
    hint("start.next_word")
    assert "no hints" in capsys.readouterr().out


@pytest.mark.parametrize("failing", ["record", "stripped", "_write_notebooks", "_readme"])
def test_the_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch, failing):
    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(releasing, failing, fail)
    with pytest.raises(OSError, match="full"):
        release(tmp_path / "a", ["start.next_word"])
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    assert main(["course", "release", str(tmp_path / "full")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match=r"unknown 'attention.softmaxx'.*mean 'attention.softmax'"):
        release(tmp_path / "a", ["attention.softmaxx"])
    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="has no solutions"),
    ):
        patch.setattr(find("start.next_word"), "answer", None)
        release(tmp_path / "a", ["start"])
    monkeypatch.setattr(releasing, "ROOT", tmp_path)
    with pytest.raises(InputError, match=r"notebooks is not beside the package .* a checkout"):
        release(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_exercises_without_their_notebook_have_a_file_to_start_from(tmp_path):
    few = ["attention.softmax", "kernels.mend_softmax", "ner.entities"]
    report = release(tmp_path / "a", few)
    assert report["notebooks"] == []
    readme = (tmp_path / "a/README.md").read_text(encoding="utf-8")
    assert "jupyter lab answers.py" in readme and "course check answers.py" in readme
    text = (tmp_path / "a/answers.py").read_text(encoding="utf-8")
    for name in few:
        assert find(name).stub_source().strip() in text
    found = examine_file(tmp_path / "a/answers.py")
    assert {entry["exercise"]: entry["state"] for entry in found} == {
        "attention.softmax": "not attempted",
        "kernels.mend_softmax": "not attempted",  # the code to mend, as it was handed out
        "ner.entities": "not attempted",
    }
    release(tmp_path / "b", ["ner"])
    assert not (tmp_path / "b/answers.py").exists()


@pytest.mark.parametrize("action", ["site", "build", "export-nbgrader"])
def test_what_needs_the_sources_says_so(action, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("minift.course.lessons.notebooks.SOURCES", tmp_path / "notebooks/_source")
    target = [] if action == "build" else [str(tmp_path / "new")]
    assert main(["course", action, *target]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no notebooks/_source here; right would be a checkout" in said
    assert not (tmp_path / "new").exists()


# ---- everything, on request


@pytest.mark.released
def test_every_mistake_of_every_exercise(tmp_path, secrets):
    """With ``-m released``; two minutes."""
    release(tmp_path / "all")
    found = child(tmp_path / "all", {n: [m.name for m in find(n).mistakes] for n in names()})
    for name in names():
        for mistake in find(name).mistakes:
            assert found[name][mistake.name]["said"] == mistake.sentence
            assert found[name][mistake.name]["text"] == str(examine(name, mistake.fn))
    assert leaks(tmp_path / "all", secrets) == []

"""``progress``: what is recorded, where, and that recording never comes before the result."""

import json
import os
import subprocess
import sys
import threading

import matplotlib.pyplot as plt
import pytest

from minift.__main__ import main
from minift.course import check, find, hint, names, progress, progress_file
from minift.course.environment import STEADY
from minift.course.plan import Stage, checks, course
from minift.course.progress_file import Deed, place, read
from minift.course.progress_report import Progress, draw
from minift.errors import InputError

SCORES = "attention.scores"


def scores(q, k):
    """A wrong answer under the exercise's own name."""
    return q @ k.mT


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A learner's own folder, and nothing told yet."""
    monkeypatch.setenv("MINIFT_PROGRESS", str(tmp_path / "mine"))
    monkeypatch.setattr(progress_file, "_told", set())
    monkeypatch.setattr("minift.course.help._given", {})
    return tmp_path / "mine"


@pytest.fixture
def agg():
    with plt.rc_context({"backend": "agg"}):
        plt.switch_backend("agg")
        yield
        plt.close("all")


def wrong(fn=scores):
    with pytest.raises(AssertionError):
        check(SCORES, fn)


def test_attempts_hints_and_a_right_answer_are_recorded(folder, capsys):
    assert read() == {}
    wrong()
    wrong()
    assert read() == {SCORES: Deed(right=False, attempts=2, hints=0)}
    for _ in range(4):  # three hints, and the first once more
        hint(SCORES)
    check(SCORES, find(SCORES).answer)
    assert read() == {SCORES: Deed(right=True, attempts=3, hints=3)}
    stored = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    assert stored["version"] == 1
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".lock") == ["progress.json"]


def test_what_is_right_stays_right(folder, capsys):
    check(SCORES, find(SCORES).answer)
    wrong()
    assert read() == {SCORES: Deed(right=True, attempts=1, hints=0)}


def test_demonstrations_stubs_and_test_suites_are_no_attempts(folder, capsys):
    wrong(lambda q, k: q)
    check(SCORES, find(SCORES).start)
    check(SCORES, find(SCORES).answer, required=True)
    assert not folder.exists()


def test_tests_notebooks_and_builds_record_nothing(monkeypatch, capsys):
    assert os.environ["MINIFT_PROGRESS"] == STEADY["MINIFT_PROGRESS"] == os.devnull
    assert place() is None
    check(SCORES, find(SCORES).answer)
    assert read() == {}


def test_without_a_folder_of_ones_choice_it_is_the_users_data_folder(monkeypatch):
    platformdirs = pytest.importorskip("platformdirs")
    monkeypatch.delenv("MINIFT_PROGRESS")
    expected = platformdirs.user_data_path("minift", appauthor=False) / "progress.json"
    assert place() == expected


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"exercises": []}', '{"exercises": {"a.b": {"right": 1}}}', "\x00\x01",
     '{"exercises": {"a.b": {"right": true, "attempts": "2", "hints": 0}}}'],
    ids=["empty", "cut", "list", "number", "other", "short", "binary", "text"],
)  # fmt: skip
def test_a_malformed_record_is_kept_aside_and_told_in_one_line(folder, capsys, text):
    folder.mkdir()
    (folder / "progress.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not a record of progress; right would be"):
        progress()
    for number in (1, 2):
        (folder / "progress.json").write_text(text, encoding="utf-8")
        check(SCORES, find(SCORES).answer)
        assert read() == {SCORES: Deed(right=True, attempts=1, hints=0)}
        kept = folder / f"progress.unreadable-{number}.json"
        assert kept.read_text(encoding="utf-8") == text
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("progress: ") for line in printed) == 2
    assert printed.count(f"{SCORES}: right") == 2


@pytest.mark.parametrize("kind", ["a file in the way", "no right to write"])
def test_where_nothing_can_be_written_the_check_still_works(folder, capsys, monkeypatch, kind):
    if "file" in kind:
        folder.write_text("not a folder")
    else:  # permissions do not stop every user, so the system's answer is given here

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(progress_file, "write_json", refuse)
    for _ in range(3):
        check(SCORES, find(SCORES).answer)
    wrong()
    printed = capsys.readouterr().out.splitlines()
    told = [line for line in printed if line.startswith("progress: ")]
    assert len(told) == 1
    assert told[0].startswith(f"progress: not recorded in {folder} (")
    assert told[0].endswith("; the check itself is valid")
    assert printed.count(f"{SCORES}: right") == 3


def test_a_lock_that_is_not_given_back_ends_the_wait(folder, capsys, monkeypatch):
    filelock = pytest.importorskip("filelock")
    monkeypatch.setattr(progress_file, "PATIENCE", 0.05)
    folder.mkdir()
    with filelock.FileLock(folder / "progress.json.lock"):
        check(SCORES, find(SCORES).answer)
    printed = capsys.readouterr().out
    assert "another program holds its lock" in printed
    assert f"{SCORES}: right" in printed


def test_notebooks_that_write_at_the_same_time_lose_nothing(folder):
    code = "import sys\nfrom minift.course.progress_file import checked\n"
    code += "for i in range(20): checked(f'{sys.argv[1]}.{i}', True)"
    children = [subprocess.Popen([sys.executable, "-c", code, part]) for part in "abc"]
    threads = [threading.Thread(target=progress_file.checked, args=(f"t.{i}", True)) for i in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(read()) == 3 * 20 + 3


# ---- what is shown


STAGES = (Stage("00_start", ("a.one",)), Stage("1-part/01_x", ("b.two", "b.three")))


def test_the_text_says_what_is_done_and_what_comes_next():
    deeds = {"a.one": Deed(right=True, attempts=1), "b.two": Deed(attempts=2, hints=1)}
    assert str(Progress(STAGES, deeds)) == (
        "00_start: 1 of 1\n"
        "1-part: 0 of 2\n"
        "  1-part/01_x  [............] 0 of 2\n"
        "all: 1 of 3\n"
        "Next: b.two, in 1-part/01_x (so far 2 attempts, 1 hint)"
    )
    deeds = {name: Deed(right=True, attempts=1) for name in ("a.one", "b.two", "b.three")}
    assert str(Progress(STAGES, deeds)).endswith("Next: nothing is left. All exercises are right.")
    deeds.pop("b.two")
    assert "[######......] 1 of 2" in str(Progress(STAGES, deeds))


def test_the_figure_has_a_bar_for_each_notebook(agg):
    fig = draw(Progress(STAGES, {"b.two": Deed(right=True)}))
    everything, done = fig.axes[0].containers
    assert [bar.get_width() for bar in everything] == [1, 2]
    assert [bar.get_width() for bar in done] == [0, 1]
    colours = [bar.get_facecolor() for bar in done]
    assert colours[0] != colours[1]  # one colour a part
    assert (
        fig.axes[0].get_title(loc="left") + fig.axes[0].get_title() == "Your progress, next: a.one"
    )
    deeds = {name: Deed(right=True) for name in ("a.one", "b.two", "b.three")}
    fig = draw(Progress(STAGES, deeds))
    assert "Your progress, all done" in (fig.axes[0].get_title(loc="left"), fig.axes[0].get_title())


def test_progress_draws_and_prints(folder, capsys, agg):
    check("start.next_word", find("start.next_word").answer)
    capsys.readouterr()
    progress()
    printed = capsys.readouterr().out
    assert printed.startswith("00_start_here: 1 of 1\n")
    assert f"all: 1 of {len(names())}\nNext: " in printed
    assert "Plot 'Your progress, next: before." in printed
    assert "': x is 'exercises that are right', y is 'notebook'" in printed
    assert len(plt.get_fignums()) == 1


def test_every_exercise_has_its_place_in_the_course():
    stages = course()
    assert sorted(name for stage in stages for name in stage.exercises) == names()
    assert stages[0] == Stage("00_start_here", ("start.next_word",))
    order = [stage.name for stage in stages]
    assert order == sorted(order)


def test_without_notebooks_exercises_are_listed_by_their_own_part(tmp_path):
    parts = {name.partition(".")[0] for name in names()}
    assert [stage.name for stage in course(tmp_path)] == sorted(parts)
    (tmp_path / "x.ipynb").write_text("no notebook")
    assert checks(tmp_path / "x.ipynb") == []
    asking = {"cells": [{"cell_type": "code", "source": [f'check("{SCORES}",\n', "f)"]}]}
    for hidden in (".ipynb_checkpoints", "_source"):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / "y.ipynb").write_text(json.dumps(asking))
        assert checks(tmp_path / hidden / "y.ipynb") == [SCORES]
    (tmp_path / "_source").rename(tmp_path / ".source")
    assert [stage.part for stage in course(tmp_path)] == sorted(parts)


def test_sources_are_asked_before_notebooks_and_text_is_no_question(tmp_path):
    asking = {"cells": [{"cell_type": "code", "source": f'check("{SCORES}", f)'}]}
    (tmp_path / "1-part").mkdir()
    (tmp_path / "1-part" / "01_a.ipynb").write_text(json.dumps(asking))
    assert course(tmp_path)[0] == Stage("1-part/01_a", (SCORES,))
    (tmp_path / "_source" / "1-part").mkdir(parents=True)
    text = (
        '# %% [markdown]\n# Call `check("ner.f1", f1)`.\n\n# %%\ncheck("ner.entities", entities)\n'
    )
    (tmp_path / "_source" / "1-part" / "02_b.py").write_text(text)
    assert course(tmp_path)[0] == Stage("1-part/02_b", ("ner.entities",))


def test_command(folder, capsys):
    assert main(["course", "progress"]) == 0
    assert capsys.readouterr().out.endswith("Next: start.next_word, in 00_start_here\n")
    check("start.next_word", find("start.next_word").answer)
    capsys.readouterr()
    assert main(["course", "progress", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["right"], report["total"]) == (1, len(names()))
    assert report["next"] not in (None, "start.next_word")
    assert report["file"] == str(folder / "progress.json")
    first = report["exercises"][0]
    assert first == {
        "exercise": "start.next_word", "notebook": "00_start_here",
        "right": True, "attempts": 1, "hints": 0,
    }  # fmt: skip
    (folder / "progress.json").write_text("{")
    assert main(["course", "progress"]) == 2
    assert "is not a record of progress" in capsys.readouterr().err

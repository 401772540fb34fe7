"""Three notebooks in JupyterLab, in a browser: they run, and an exercise is solved by typing.

Pictures go into the test's temporary folder, or into the one that ``MINIFT_SCREENSHOTS`` names.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytest.importorskip("playwright", reason="no playwright (requirements.txt has it)")
pytest.importorskip("triton", reason="one of the lessons is about Triton, which is for Linux only")

from lab_notebook import body, opened, problems
from lab_server import CHROMIUM, chromium, jupyter_lab
from playwright.sync_api import BrowserContext

from minift.course.exercise import source
from minift.course.lessons.notebooks import FOLDER
from minift.course.registry import find

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH (Debian calls it chromium)"),
]

LESSONS = [
    ("00_start_here", "start.next_word", "ignores_the_word"),
    ("1-transformer/04_attention", "attention.causal_mask", "aligned_to_the_start"),
    ("2-kernels/01_first_kernel", "kernels.vector_add", "no_mask"),
]
PYTHON = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
BROKEN = [
    new_code_cell("1 / 0", metadata={"tags": ["raises-exception"]}),
    new_code_cell("print('the run goes on')"),
    new_code_cell("{}['missing']"),
    new_code_cell("print('never reached')"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scratch = tmp_path_factory.mktemp("lab")
    folder = scratch / "notebooks"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("_source", ".*", "__pycache__"))
    nbformat.write(new_notebook(cells=BROKEN, metadata=PYTHON), folder / "broken.ipynb")
    with jupyter_lab(folder, scratch) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("MINIFT_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(("lesson", "name", "mistake"), LESSONS, ids=[row[0] for row in LESSONS])
def test_a_lesson_runs_and_an_exercise_is_solved_by_typing(
    lab: str, browser: BrowserContext, pictures: Path, lesson: str, name: str, mistake: str
) -> None:
    exercise = find(name)
    (wrong,) = (m for m in exercise.mistakes if m.name == mistake)
    with opened(browser, lab, f"{lesson}.ipynb") as notebook:
        notebook.run_all()
        notebook.photograph(pictures, Path(lesson).name)
        assert problems(notebook.cells()) == []

        stub = notebook.find(f"def {exercise.function}(")
        check = notebook.find(f'check("{name}", {exercise.function})')
        assert f"{name}: not attempted" in notebook.text(check)

        notebook.type_body(stub, body(source(wrong.fn)))
        assert notebook.run(stub) == ""
        verdict = notebook.run(check)
        notebook.snapshot(stub, pictures / f"{name}-wrong.png")
        assert f"{name}: wrong" in verdict
        assert wrong.sentence in " ".join(verdict.split())

        notebook.type_body(stub, body(source(exercise.answer)))
        assert notebook.run(stub) == ""
        verdict = notebook.run(check)
        notebook.snapshot(stub, pictures / f"{name}-right.png")
        assert f"{name}: right" in verdict

        assert notebook.outside == []


def test_a_broken_cell_is_found(lab: str, browser: BrowserContext) -> None:
    with opened(browser, lab, "broken.ipynb") as notebook:
        notebook.run_all()
        found = problems(notebook.cells())
    assert found == ["cell 3 raised KeyError: 'missing'", "cell 4 was not run"]


def test_a_failure_carries_what_the_browser_said(lab: str, browser: BrowserContext) -> None:
    with (
        pytest.raises(AssertionError) as caught,
        opened(browser, lab, "broken.ipynb") as notebook,
    ):
        notebook.ask("console.error('a script is missing')")
        raise AssertionError
    assert "a script is missing" in caught.value.__notes__[0]

"""Building notebooks: the same bytes twice, nothing half-written, refusal when a cell fails."""

import json

import nbformat
import pytest

from minift.course import find
from minift.course.lessons import notebooks
from minift.course.lessons.notebooks import build, folded_help, read_source, source_of
from minift.errors import InputError

SOURCE = """# %% [markdown]
# # A title
#
# {{ help attention.scores }}

# %%
import os, sys
import matplotlib.pyplot as plt
from tqdm.auto import tqdm
from minift.course.figures import use_style

use_style()
print(os.environ["OMP_NUM_THREADS"], os.environ["HF_HUB_OFFLINE"])
total = sum(i for i in tqdm(range(3)))

# %%
fig, ax = plt.subplots()
ax.plot([1, 2, 3])
print(sys.executable == EXECUTABLE)

# %% tags=["raises-exception"]
1 / 0

# %%
total
"""


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A source that stands where sources stand, in a course of its own."""
    import sys

    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    monkeypatch.setattr(notebooks, "SOURCES", tmp_path / "_source")
    path = tmp_path / "_source" / "1-part" / "01_lesson.py"
    path.parent.mkdir(parents=True)
    path.write_text(SOURCE.replace("EXECUTABLE", repr(sys.executable)), encoding="utf-8")
    return path


def texts(notebook):
    return ["".join(o.get("text", "") for o in c.get("outputs", [])) for c in notebook.cells]


def test_two_builds_give_the_same_bytes(source, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the kernel has one thread all the same
    monkeypatch.delenv("HF_HUB_OFFLINE")
    target = notebooks.notebook_of(source)
    assert target == tmp_path / "1-part" / "01_lesson.ipynb"
    build(source, target)
    first = target.read_bytes()
    build(source, target)
    assert target.read_bytes() == first

    stored = nbformat.read(target, 4)
    nbformat.validate(stored)
    code = [c for c in stored.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == [1, 2, 3, 4]
    assert texts(stored)[1].startswith("1 1\n")
    assert texts(stored)[2] == "True\n"
    error = code[2].outputs[0]
    assert error.traceback == ["ZeroDivisionError: division by zero"]
    assert stored.metadata.language_info == {"name": "python"}
    raw = json.loads(first)
    assert not any(c["metadata"].get("execution") for c in raw["cells"])
    assert "widgets" not in raw["metadata"]
    assert b"widget-view" not in first
    image = next(o.data["image/png"] for o in code[1].outputs if "data" in o)
    assert len(image) < 40_000
    assert [p.name for p in tmp_path.rglob("*.ipynb*")] == ["01_lesson.ipynb"]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            "x = 1\n1 / 0",
            r"01_lesson\.py: cell 2 \('x = 1'\) raised ZeroDivisionError",
        ),
        ("import os\nos._exit(1)", "killed the kernel"),
    ],
)
def test_a_failing_cell_is_refused_and_the_old_notebook_stays(source, cell, message):
    source.write_text(f"# %% [markdown]\n# # T\n\n# %%\n{cell}\n", encoding="utf-8")
    target = notebooks.notebook_of(source)
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(InputError, match=message):
        build(source, target)
    assert [p.read_text() for p in target.parent.iterdir()] == ["old"]


def test_a_cell_without_end_is_refused(source, monkeypatch):
    monkeypatch.setattr(notebooks, "CELL_TIMEOUT", 1)
    source.write_text("# %%\nimport time\ntime.sleep(60)\n", encoding="utf-8")
    with pytest.raises(InputError, match="a cell ran longer than 1 s"):
        build(source, notebooks.notebook_of(source))
    assert not notebooks.notebook_of(source).exists()


def test_help_is_filled_in_and_ids_follow_the_content(source):
    before = read_source(source)
    assert folded_help("attention.scores") in before.cells[0].source
    assert find("attention.scores").solution_source() in before.cells[0].source
    assert before.cells[0].source.count("<details>") == 4
    source.write_text(
        "# %% [markdown]\n# New.\n\n" + source.read_text(encoding="utf-8"), encoding="utf-8"
    )
    after = read_source(source)
    assert [c.id for c in after.cells[1:]] == [c.id for c in before.cells]
    source.write_text("# %%\n1\n\n# %%\n1\n", encoding="utf-8")
    assert len({c.id for c in read_source(source).cells}) == 2


def test_a_source_is_found_by_each_of_its_names(source, tmp_path):
    target = notebooks.notebook_of(source)
    for name in (source, target, "1-part/01_lesson", "1-part/01_lesson.ipynb"):
        assert source_of(name) == source
    with pytest.raises(InputError, match="no source of that name; known: 1-part/01_lesson"):
        source_of("01_lesson")


def test_an_unknown_exercise_in_a_source_is_named(source):
    source.write_text("# %% [markdown]\n# {{ help attention.scored }}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"did you mean 'attention\.scores'"):
        read_source(source)

"""Every notebook of the course has what a lesson has, and is what its source says.

That its cells still print what is stored is tested by nbval on the notebook itself.
"""

import pytest

from minift.course.anatomy import problems
from minift.course.notebooks import FOLDER, all_sources, notebook_of

SOURCES = all_sources()


def test_there_are_notebooks():
    assert SOURCES[0].stem == "00_start_here"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook(source):
    assert problems(source) == []


def test_every_notebook_has_a_source():
    notebooks = {p for p in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert notebooks == {notebook_of(source) for source in SOURCES}

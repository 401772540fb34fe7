"""Every notebook of the course has what a lesson has, and is what its source says.

That its cells still print what is stored is tested by nbval on the notebook itself.
"""

import re
from pathlib import Path

import pytest

from minift.course.lessons import overview
from minift.course.lessons.anatomy import problems
from minift.course.lessons.copies import defined_twice
from minift.course.lessons.notebooks import FOLDER, all_sources, notebook_of, read_source
from minift.errors import InputError

SOURCES = all_sources()


def test_there_are_notebooks():
    assert SOURCES[0].stem == "00_start_here"


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_notebook(source):
    assert problems(source) == []


def test_every_notebook_has_a_source():
    notebooks = {p for p in FOLDER.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert notebooks == {notebook_of(source) for source in SOURCES}


def test_nothing_is_defined_twice():
    lessons = ((path.stem, read_source(path).cells) for path in SOURCES)
    assert list(defined_twice(lessons)) == []


def test_what_is_simplified_has_a_test_of_its_own():
    """A cell tagged ``simplifies:…`` is held against the library by a lesson's test file."""
    tests = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*lesson*.py")]
    simplified = [
        (source.stem, tag.rpartition(".")[2])
        for source in SOURCES
        for cell in read_source(source).cells
        for tag in cell.metadata.get("tags", [])
        if tag.startswith("simplifies:")
    ]
    assert simplified
    for lesson, function in simplified:
        tested = [t for t in tests if lesson in t and re.search(rf"defined\(.*\b{function}\b", t)]
        assert tested, f"{lesson}: no tests/notebooks/test_*lesson*.py compares {function}"


# ---- README's table


def test_the_readme_has_the_table_of_notebooks():
    text = overview.README.read_text(encoding="utf-8")
    assert text == overview.refreshed(text), (
        "README.md: its table of notebooks is not that of the sources; right: "
        'python -c "from minift.course.lessons.overview import refresh; refresh()"'
    )


def test_a_row_has_title_what_it_is_about_and_minutes():
    lines = overview.table().splitlines()
    assert len(lines) == 2 + len(SOURCES)
    assert lines[2] == (
        "| [00 Start here](notebooks/00_start_here.ipynb) | A language model scores what could "
        "come next; the smallest one counts pairs of words. | 20 min |"
    )
    assert lines[6] == (
        "| [1-transformer/04 Attention](notebooks/1-transformer/04_attention.ipynb) | "
        "from one dot product to a layer of a real model | 90 min |"
    )
    for line in lines[2:]:
        _, link, sentence, minutes, _ = re.split(r"(?<!\\)\|", line)
        assert (FOLDER.parent / re.search(r"\]\((.*)\)", link)[1]).exists()
        assert re.search(r"\w{4}", sentence), line
        assert re.fullmatch(r" \d+ min ", minutes)


def test_a_readme_is_refreshed_and_then_left_alone(tmp_path):
    path = tmp_path / "README.md"
    assert not overview.refresh(path)
    path.write_text(f"# A\n{overview.BEGIN}\nold\n{overview.END}\nZ\n", encoding="utf-8")
    assert overview.refresh(path)
    text = path.read_text(encoding="utf-8")
    assert text == f"# A\n{overview.BEGIN}\n{overview.table()}\n{overview.END}\nZ\n"
    assert not overview.refresh(path)
    path.write_text("# A\n", encoding="utf-8")
    with pytest.raises(InputError, match="no place for the table of notebooks"):
        overview.refresh(path)

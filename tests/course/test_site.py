"""The static site: complete, the same twice, whole or not at all, no other host."""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

for package in ("sphinx", "myst_nb", "sphinx_book_theme", "latex2mathml", "ziamath"):
    pytest.importorskip(package, reason=f"no {package} (requirements.txt has it)")

from fontTools.ttLib import TTFont
from sphinx.search.en import SearchEnglish

from minift.__main__ import main
from minift.course import site
from minift.course.lessons.notebooks import FOLDER
from minift.course.lessons.outputs import pictures
from minift.course.site.font import ROOT, forms
from minift.course.site.inspection import problems, read
from minift.course.site.pages import all_pages, describe_figures, index
from minift.course.site.rendering import mathml
from minift.errors import InputError

# MyST-NB and the theme use what Sphinx 11 will remove; pyproject.toml keeps Sphinx below 10.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated. Check CHANGES for Sphinx")

PAGES = {page.name: page.path for page in all_pages()}
CODE = re.compile(r"```.*?```|`[^`]*`", flags=re.S)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "site"
    site.build(folder)
    return folder


def markdown(name):
    """The prose of a notebook, without code."""
    cells = nbformat.read(PAGES[name], 4).cells
    return CODE.sub("", "\n\n".join(c.source for c in cells if c.cell_type == "markdown"))


def page_of(built, name):
    return (built / f"{name}.html").read_text(encoding="utf-8")


def everything(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_notebook_has_its_page_in_the_order_of_the_course(built):
    stored = {p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.ipynb")}
    assert set(PAGES) == {name for name in stored if ".ipynb_checkpoints" not in name}
    order = ["index", *sorted(PAGES)]
    for before, behind in pairwise(order):
        assert neighbour(built, before, "right-next") == built / f"{behind}.html"
        assert neighbour(built, behind, "left-prev") == built / f"{before}.html"


def neighbour(built, name, kind):
    (address,) = re.findall(rf'<a class="{kind}"\s+href="([^"]+)"', page_of(built, name))
    return (built / f"{name}.html").parent.joinpath(address).resolve()


def test_the_index_is_made_from_the_readme(built):
    page = page_of(built, "index")
    assert "A course you can run." in page
    links = read(built / "index.html").links
    assert all(f"{name}.html" in links for name in PAGES)


def test_a_built_site_has_no_problems(built):
    assert problems(built) == []


FAULTS = [
    ('<img src="a.png">', "an image without alternative text: a.png"),
    ('<img src="a.png" alt=" ">', "an image without alternative text: a.png"),
    ('<script src="https://host/a.js"></script>', "loads from another host: https://host/a.js"),
    ('<link rel="stylesheet" href="//host/a.css">', "loads from another host: //host/a.css"),
    ('<a href="b.html">b</a>', "a link leads nowhere: b.html"),
    ('<a href="#there">b</a>', "a link leads to no place on the page: #there"),
    ("<h3>x</h3>", "a heading of level 3 stands below one of level 1"),
    ("<h1>x</h1>", "2 headings of the first level; 1 is right"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[row[0] for row in FAULTS])
def test_each_fault_of_a_page_is_found(tmp_path, fault, message):
    page = "<article><h1>t</h1><img src='a.png' alt='a'>{}</article><a href='https://host'>h</a>"
    (tmp_path / "a.png").touch()
    (tmp_path / "a.html").write_text(page.format(""))
    assert problems(tmp_path) == []
    (tmp_path / "a.html").write_text(page.format(fault))
    assert f"a.html: {message}" in problems(tmp_path)


@pytest.mark.parametrize(
    "load", ["url(https://host/f.woff)", "url('//host/f')", '@import "//host/a"']
)
def test_a_style_that_loads_from_another_host_is_found(tmp_path, load):
    (tmp_path / "a.css").write_text("p { background: url(data:image/png;base64,aGk=) }")
    assert problems(tmp_path) == []
    (tmp_path / "a.css").write_text(load)
    assert "another host" in problems(tmp_path)[0]


@pytest.mark.parametrize("name", PAGES)
def test_figures_carry_their_captions(built, name):
    cells = nbformat.read(PAGES[name], 4).cells
    wanted = []
    for cell, behind in pairwise(cells):
        if cell.cell_type == "code" and pictures(cell):
            caption = " ".join(behind.source.split("*")[1].replace("`", "").split())
            wanted += [caption] * len(pictures(cell))
    shown = [image["alt"] for image in read(built / f"{name}.html").images]
    assert wanted
    assert shown == wanted


def figure(words="", behind="Text."):
    png = new_output("display_data", data={"image/png": "aGk="})
    printed = new_output("stream", name="stdout", text=f"1\n{words}2\n")
    cells = [new_code_cell("plot()", outputs=[printed, png]), new_markdown_cell(behind)]
    return new_notebook(cells=cells)


def test_a_figure_without_a_caption_has_the_description_as_its_text():
    notebook = figure("Plot 'A <B>': x is 'a'\n  line: 3 points\n")
    describe_figures(notebook, "lesson")
    cell = notebook.cells[0]
    assert cell.metadata["mystnb"]["image"]["alt"] == "Plot 'A <B>': x is 'a' line: 3 points"
    assert cell.outputs[0].text == "1\n2\n"
    assert "&lt;B&gt;" in cell.outputs[-1].data["text/html"]


def test_a_figure_without_any_text_is_refused():
    with pytest.raises(InputError, match=r"lesson: the figure of cell .* no alternative text"):
        describe_figures(figure(), "lesson")


@pytest.mark.parametrize("name", PAGES)
def test_formulas_are_mathml(built, name):
    formulas = re.findall(r"\$\$.*?\$\$|\$[^$]+\$", markdown(name), flags=re.S)
    page = page_of(built, name)
    blocks = sum(formula.startswith("$$") for formula in formulas)
    assert page.count('display="block"') == blocks
    assert page.count('display="inline"') == len(formulas) - blocks


def test_formulas_are_set_as_latex_sets_them():
    assert "<mi>softmax</mi>" in mathml(r"\text{softmax}", "inline")
    assert '<mi mathvariant="normal">T</mi>' in mathml(r"\text{T}", "inline")
    assert "<mi>BLOCK_M</mi>" in mathml(r"\text{BLOCK\_M}", "inline")
    assert "<mo>" not in mathml(r"\infty", "inline")
    assert "<mn>&#x1D7D9;</mn>" in mathml(r"\mathbb{1}[i = j]", "inline")
    assert '<mo lspace="0.167em" rspace="0.167em">ln</mo>' in mathml(r"w \ln w", "inline")
    assert '<mo lspace="0" rspace="0">max</mo>' in mathml(r"a = \max(b)", "inline")


def test_the_font_has_every_character_of_the_formulas_and_roots_of_one_width(built):
    font = TTFont(built / "_static/math.ttf")
    shown = "".join(
        re.sub(r"<[^>]+>", "", formula)
        for name in PAGES
        for formula in re.findall(r"<math.*?</math>", page_of(built, name), flags=re.S)
    )
    letters = {c for c in html.unescape(shown) if not c.isspace()}
    assert len(letters) > 40
    assert letters - {chr(code) for code in font.getBestCmap()} == set()
    root = font.getBestCmap()[ROOT]
    larger = forms(font, root)
    assert len(larger) == 6
    assert {font["hmtx"][name][0] for name in larger} == {font["hmtx"][root][0]}


@pytest.mark.parametrize("formula", [r"\nosuchcommand x", r"\mathbb{2}"])
def test_a_formula_that_browsers_would_not_show_is_refused(formula):
    with pytest.raises(ValueError, match="cannot be shown"):
        mathml(formula, "inline")


@pytest.mark.parametrize("name", PAGES)
def test_hints_are_folded_and_code_is_highlighted(built, name):
    page = page_of(built, name)
    folds = markdown(name).count("<details><summary>")
    assert page.count("<details><summary>") >= folds
    assert page.count("<details") == page.count("</details>")
    assert "<details open" not in page
    assert '<span class="kn">import</span>' in page


@pytest.mark.parametrize("name", PAGES)
def test_the_words_of_a_notebook_are_found(built, name):
    text = (built / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    number, language = found["docnames"].index(name), SearchEnglish({})
    prose = re.sub(r"<[^>]+>|\$\$.*?\$\$|\$[^$]+\$|\([^)]*ipynb\)", " ", markdown(name), flags=re.S)
    words = {word.lower() for word in re.findall(r"\b[a-zA-Z]{5,}\b", prose)} - language.stopwords
    lost = []
    for word in sorted(words):
        stem = language.stem(word)
        if stem in language.stopwords:
            continue
        places = [found[kind].get(stem, []) for kind in ("terms", "titleterms")]
        if number not in [n for p in places for n in ([p] if isinstance(p, int) else p)]:
            lost.append(word)
    assert len(words) > 100
    assert lost == []


def test_the_download_is_the_stored_notebook(built):
    for name, path in PAGES.items():
        assert (built / f"_sources/{name}.ipynb").read_bytes() == path.read_bytes()


def test_two_builds_are_the_same_and_the_second_replaces_the_first(built, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(built, folder)
    first = everything(folder)
    command = [sys.executable, "-m", "minift", "course", "site", str(folder), "--json"]
    seeded = {**os.environ, "PYTHONHASHSEED": "1"}  # another order in every set
    report = json.loads(subprocess.run(command, env=seeded, check=True, capture_output=True).stdout)
    assert everything(folder) == first
    assert list(tmp_path.iterdir()) == [folder]
    assert report["pages"] == list(PAGES)
    assert report["bytes"] == sum(map(len, first.values()))
    assert not [path for path, data in first.items() if str(tmp_path.parent).encode() in data]


def test_a_site_that_somebody_changed_is_not_replaced(built, tmp_path):
    folder = tmp_path / "site"
    shutil.copytree(built, folder)
    (folder / "CNAME").write_text("minift.example")
    before = everything(folder)
    with pytest.raises(InputError, match="not empty"):
        site.build(folder)
    assert everything(folder) == before


BROKEN = [
    ("[there](nowhere.md)", "nowhere.md"),
    ("![](https://host/a.png)", "an image without alternative text"),
    ('<img src="site.css">', "an image without alternative text"),
    (r"$\nosuchcommand$", "cannot be shown"),
    ("#### Too deep", "eader level increase"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_fault_leaves_nothing_behind(tmp_path, monkeypatch, text, message):
    before = index([])
    monkeypatch.setattr("minift.course.site.pages.index", lambda pages: f"{before}\n\n{text}\n")
    monkeypatch.setattr("minift.course.site.pages.all_pages", list)
    with pytest.raises(InputError, match=message):
        site.build(tmp_path / "site")
    assert list(tmp_path.iterdir()) == []


def test_a_readme_without_the_section_is_refused():
    with pytest.raises(InputError, match="no section '## The notebooks'"):
        index([], "# minift\n\n## Commands\n")


def test_command_line(tmp_path, capsys, monkeypatch):
    report = {"site": "x", "pages": ["a", "b"], "images": 3, "bytes": 2_500_000}
    monkeypatch.setattr(site, "build", lambda folder: report)
    assert main(["course", "site", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("index.html: 2 notebooks, 3 figures, 2.5 MB\n")
    assert main(["course", "site", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_missing_packages_are_named_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(site, "PACKAGES", {"json": "json", "no_such_module": "no-such"})
    assert main(["course", "site", str(tmp_path / "site")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.endswith("the site needs packages that are missing: pip install no-such")
    assert "\n" not in error
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("kind", ["a file", "a folder with a file", "a folder without a parent"])
def test_a_place_that_is_taken_is_refused(tmp_path, kind):
    folder = Path(tmp_path / "there")
    if kind == "a file":
        folder.write_text("mine")
    elif kind == "a folder with a file":
        folder.mkdir()
        (folder / "site.json").write_text('{"files": {}}')
        (folder / "mine").write_text("mine")
    else:
        folder = folder / "missing" / "site"
    before = everything(tmp_path)
    with pytest.raises(InputError, match="DIR: "):
        site.build(folder)
    assert everything(tmp_path) == before

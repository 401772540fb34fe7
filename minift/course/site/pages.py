"""The sources of the pages: the notebooks with described figures, and an index from the README."""

import html
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_output

from minift.course.lessons import notebooks, outputs
from minift.errors import InputError
from minift.files import read_text

README = notebooks.FOLDER.parent / "README.md"

_CAPTION = re.compile(r"\*(Figure \d+\. [^*]+)\*")
_DESCRIPTION = re.compile(r"^Plot\b.*\n(?:  .*\n)*", flags=re.M)


@dataclass(frozen=True)
class Page:
    """A stored notebook and its name on the site, such as ``2-kernels/02_softmax``."""

    path: Path
    name: str


def all_pages() -> list[Page]:
    """The stored notebooks in the order of the course; InputError when there are none."""
    paths = [notebooks.notebook_of(source) for source in notebooks.all_sources()]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path.name}: not built yet; right: python -m minift course build")
    places = [path.relative_to(notebooks.FOLDER).with_suffix("").as_posix() for path in paths]
    return [Page(path, place) for path, place in zip(paths, places, strict=True)]


def write_sources(pages: Sequence[Page], folder: Path) -> None:
    """Write what Sphinx reads: ``index.md`` and a notebook a page."""
    folder.mkdir()
    (folder / "index.md").write_text(index(pages), encoding="utf-8")
    for page in pages:
        notebook = nbformat.read(page.path, 4)
        describe_figures(notebook, page.name)
        target = folder / f"{page.name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def copy_notebooks(pages: Sequence[Page], folder: Path) -> None:
    """Put the notebooks as they are stored behind the download buttons."""
    for page in pages:
        shutil.copyfile(page.path, folder / f"{page.name}.ipynb")


def index(pages: Sequence[Page], readme: str | None = None) -> str:
    """The start of the README, its section on the notebooks, and the table of contents."""
    start, *sections = re.split(r"^(?=## )", readme or read_text(README), flags=re.M)
    listed = [part for part in sections if part.startswith("## The notebooks\n")]
    if not listed:
        raise InputError("README.md: no section '## The notebooks', from which the index is made")
    known = {f"{page.name}.ipynb" for page in pages}
    table = re.sub(
        r"\[([^]]*)\]\(notebooks/([^)]+)\)",
        lambda match: f"[{match[1]}]({match[2]})" if match[2] in known else match[1],
        listed[0],
    )
    table = re.sub(r"(?<=\d) min\b", "\N{NO-BREAK SPACE}min", table)
    return "\n".join([start, table, *_contents(pages)])


def _contents(pages: Sequence[Page]) -> Iterator[str]:
    """One table of contents a part, such as ``Part 2: kernels``; shown in the side bar only."""
    for part, members in groupby(pages, lambda page: page.name.rpartition("/")[0]):
        number, _, topic = part.partition("-")
        caption = [f":caption: 'Part {number}: {topic}'"] if part else []
        yield "\n".join(["", "```{toctree}", ":hidden:", *caption, ""])
        yield "\n".join([*(page.name for page in members), "```"])


def describe_figures(notebook: NotebookNode, name: str) -> None:
    """Give every figure its alternative text, and fold its description in words below it.

    The alternative text is the caption at the start of the next cell, or else the description
    that the cell prints (:func:`minift.course.figures.describe`).

    Raises:
        InputError: a figure has neither.
    """
    following = [*notebook.cells[1:], None]
    for cell, behind in zip(notebook.cells, following, strict=True):
        if cell.cell_type != "code" or not outputs.pictures(cell):
            continue
        words = "".join(_DESCRIPTION.findall(outputs.text(cell)))
        caption = _CAPTION.match(behind.source) if behind else None
        alt = re.sub(r"[`$]", "", caption[1]) if caption else words
        if not alt.strip():
            raise InputError(
                f"{name}: the figure of cell [{cell.execution_count}] has no alternative text;"
                " right: *Figure 1. A sentence.* at the start of the next cell"
            )
        cell.metadata["mystnb"] = {"image": {"alt": " ".join(alt.split())}}
        _fold(cell, words)


def _fold(cell: NotebookNode, words: str) -> None:
    """Move the description of a figure from the printed text to a fold behind the figure."""
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = _DESCRIPTION.sub("", output.text)
    cell.outputs = [o for o in cell.outputs if o.output_type != "stream" or o.text.strip()]
    if words:
        fold = "<details><summary>The figure in words</summary><pre>{}</pre></details>"
        data = {"text/html": fold.format(html.escape(words.rstrip()))}
        cell.outputs.append(new_output("display_data", data=data))

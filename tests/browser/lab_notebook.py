"""A notebook in JupyterLab, used as a learner uses it: run cells, type an answer, look.

with opened(browser, lab, "1-transformer/04_attention.ipynb") as notebook:
    notebook.run_all()
    notebook.type_body(notebook.find("def scores"), ["    return q @ k.mT"])
"""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

from lab_server import DEADLINE, TOKEN
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request

# JupyterLab is asked rather than the page where the page cannot say whether a kernel is done.
SCRIPT = """async given => {
  const late = new Promise((_, reject) => setTimeout(reject, DEADLINE, new Error("too late")));
  const work = async () => {
    const app = window.jupyterapp;
    await app.restored;
    const panel = app.shell.currentWidget, cells = panel.content.widgets;
    const session = panel.sessionContext;
    WORK
  };
  return await Promise.race([work(), late]);
}""".replace("DEADLINE", str(1000 * DEADLINE))
RAN = """([index, before]) => {
  const panel = window.jupyterapp.shell.currentWidget, cell = panel.content.widgets[index].model;
  return cell.executionCount > before && panel.sessionContext.kernelDisplayStatus === "idle";
}"""

HEIGHTS = """view => {
  const end = [...view.querySelectorAll(".jp-Cell")].at(-1).getBoundingClientRect().bottom;
  return [view.clientHeight, view.scrollTop + end - view.getBoundingClientRect().top];
}"""


@contextmanager
def opened(browser: BrowserContext, lab: str, name: str) -> Iterator["LabNotebook"]:
    """A notebook in a tab of its own with its kernel ready; the kernel ends with the block.

    An error inside the block carries what the browser's console said.
    """
    page = browser.new_page()
    notebook = LabNotebook(page, lab)
    try:
        page.goto(f"{lab}lab/tree/{name}?token={TOKEN}&reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        notebook.ask("await session.ready; await session.session.kernel.info")
        yield notebook
        notebook.ask("await session.shutdown()")
    except BaseException as error:
        error.add_note("\n".join(["the browser's console:", *(notebook.console or ["(nothing)"])]))
        raise
    finally:
        page.close()


class LabNotebook:
    """The notebook in front.

    Attributes:
        page: the tab.
        console: the errors on the browser's console.
        outside: the addresses beyond the server that the page asked for.
    """

    def __init__(self, page: Page, lab: str) -> None:
        self.page = page
        self.console: list[str] = []
        self.outside: list[str] = []
        self._own = (lab, lab.replace("http", "ws", 1), "data:", "blob:")
        page.on("pageerror", lambda error: self.console.append(str(error)))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.console.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith(self._own):
            self.outside.append(request.url)

    def ask(self, work: str, given: Any = None) -> Any:
        """What JupyterLab answers; ``work`` sees ``app``, ``cells``, ``session`` and ``given``."""
        return self.page.evaluate(SCRIPT.replace("WORK", work), given)

    def cells(self) -> list[dict[str, Any]]:
        """The cells with their outputs as they are now, as in an ``.ipynb`` file."""
        found: list[dict[str, Any]] = self.ask("return cells.map(cell => cell.model.toJSON())")
        return found

    def find(self, text: str) -> int:
        """The index of the only code cell that contains ``text``."""
        cells = enumerate(self.cells())
        (index,) = (i for i, c in cells if c["cell_type"] == "code" and text in c["source"])
        return index

    def run_all(self) -> None:
        """Clear all outputs, then run all cells; returns when the last one is done."""
        for command in ("clear-all-cell-outputs", "run-all-cells"):
            self.ask("await app.commands.execute(given)", f"notebook:{command}")
        # The command returns at the first error, announced or not; the kernel answers in turn.
        self.ask("await session.session.kernel.requestKernelInfo()")

    def run(self, index: int) -> str:
        """Run one cell with Ctrl+Enter; returns the text that then stands below it."""
        before = self.ask("return cells[given].model.executionCount ?? 0", index)
        self.editor(index).press("Control+Enter")
        self.page.wait_for_function(RAN, arg=[index, before])
        return self.text(index)

    def text(self, index: int) -> str:
        """The text that stands below a cell."""
        return "\n".join(self._cell(index).locator(".jp-OutputArea-output").all_inner_texts())

    def editor(self, index: int) -> Locator:
        """Where a cell's source is typed."""
        return self._cell(index).locator(".cm-content")

    def _cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def type_body(self, index: int, lines: list[str]) -> None:
        """Replace what follows the docstring of a cell's function, key by key."""
        text = self.cells()[index]["source"]
        old, keyboard = body(text), self.page.keyboard
        self.editor(index).click()
        for key in ("Control+End", *["Shift+ArrowUp"] * (len(old) - 1), "Shift+End", "Shift+Home"):
            keyboard.press(key)  # Home stops behind the indentation
        keyboard.type(lines[0].lstrip())
        for line in lines[1:]:
            keyboard.press("Enter")
            keyboard.press("Shift+Home")  # over the indentation that the editor put there
            keyboard.type(line)
        typed = self.cells()[index]["source"].splitlines()
        assert typed == [*text.splitlines()[: -len(old)], *lines]

    def photograph(self, folder: Path, name: str) -> None:
        """Pictures of the whole notebook from top to bottom, one window each."""
        view = self.page.locator(".jp-Notebook .jp-WindowedPanel-outer")
        window, height = view.evaluate(HEIGHTS)
        for number, top in enumerate(range(0, ceil(height), window), 1):
            view.evaluate("(view, top) => view.scrollTo({top, behavior: 'instant'})", top)
            self.page.screenshot(path=folder / f"{name}-{number:02}.png")

    def snapshot(self, index: int, file: Path) -> None:
        """A picture of the window with a cell at its top."""
        self._cell(index).evaluate("cell => cell.scrollIntoView({behavior: 'instant'})")
        self.page.screenshot(path=file)


def body(text: str) -> list[str]:
    """The lines of the function in a source text, from below its docstring to the end."""
    function = next(n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef))
    first = function.body[ast.get_docstring(function) is not None]
    return text.splitlines()[first.lineno - 1 :]


def problems(cells: list[dict[str, Any]]) -> list[str]:
    """The code cells that did not run, or raised an error that no tag announces."""
    found = []
    for number, cell in enumerate(cells, 1):
        if cell["cell_type"] != "code":
            continue
        if cell["execution_count"] is None:
            found.append(f"cell {number} was not run")
        if "raises-exception" not in cell["metadata"].get("tags", []):
            errors = [o for o in cell["outputs"] if o["output_type"] == "error"]
            found += [f"cell {number} raised {e['ename']}: {e['evalue']}" for e in errors]
    return found

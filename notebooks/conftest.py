"""Notebooks under pytest: their stored outputs are compared with what their cells print now.

Plain ``pytest`` does it (pyproject.toml switches nbval on), from any folder. Kernels have no
network, and each notebook ends with an item of its own that holds it to the time and memory that
it states.
"""

import time
from pathlib import Path

import pytest

from minift.course.environment import fetch_assets, make_steady
from minift.course.lessons import budget

make_steady()  # the kernels are children of this process

try:
    from nbval.kernel import RunningKernel
    from nbval.plugin import IPyNbCell, IPyNbFile
except ImportError:  # without nbval there are no notebooks to run
    RunningKernel = None

CUT = "__import__('minift.course.lessons.offline').course.lessons.offline.cut_network()"


def execute_cell_input(self, cell_input, allow_stdin=None):
    """Run a cell as JupyterLab does. nbval leaves the history out, and with it `_` and `;`."""
    return self.kc.execute(
        cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
    )


class BudgetItem(pytest.Item):
    """The last item of a notebook: were its cells within the time and memory that it states?"""

    def runtest(self):
        """Fail with one line that names what is stated and what was measured."""
        name = str(self.path.relative_to(Path(__file__).parent).with_suffix(""))
        stated = budget.stated_in(self.path)
        kernel = self.parent.kernel
        process = kernel.km.provisioner.pid if kernel.is_alive() else None
        peak = process and budget.peak_memory(process)
        spent = budget.Spent(getattr(self.parent, "seconds", 0.0), peak)
        self.user_properties.append(("budget", [name, _plain(stated), _plain(spent)]))
        if stated and (message := budget.overdrawn(name, stated, spent)):
            pytest.fail(message, pytrace=False)

    def reportinfo(self):
        """How the item is called in reports."""
        return self.path, 0, f"{self.path.name}::budget"


def _plain(value):
    """What crosses from a worker to the process that reports."""
    return value and list(vars(value).values())


if RunningKernel is not None:
    _init, _collect, _run = RunningKernel.__init__, IPyNbFile.collect, IPyNbCell.runtest

    def start(self, *args, **kwargs):
        """A kernel without a network."""
        _init(self, *args, **kwargs)
        self.await_reply(self.kc.execute(CUT, silent=True), timeout=60)

    def collect(self):
        """A notebook's cells, then its budget."""
        yield from _collect(self)
        yield BudgetItem.from_parent(self, name="budget")

    def run(self):
        """A cell, with its time added to the notebook's."""
        begin = time.perf_counter()
        try:
            _run(self)
        finally:
            self.parent.seconds = getattr(self.parent, "seconds", 0.0) + time.perf_counter() - begin

    RunningKernel.execute_cell_input, RunningKernel.__init__ = execute_cell_input, start
    IPyNbFile.collect, IPyNbCell.runtest = collect, run


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the assets once, and name the sanitiser by its place, from whatever folder."""
    if not hasattr(config, "workerinput"):
        fetch_assets()
    if getattr(config.option, "nbval_sanitize_with", "no nbval") is None:
        config.option.nbval_sanitize_with = str(Path(__file__).with_name("sanitize.cfg"))


def pytest_terminal_summary(terminalreporter) -> None:
    """What each notebook states and took."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    rows = [
        (name, stated and budget.Budget(*stated), budget.Spent(*spent))
        for report in reports
        if getattr(report, "when", "") == "call"
        for kind, value in report.user_properties
        if kind == "budget"
        for name, stated, spent in [value]
    ]
    if rows:
        terminalreporter.section("notebooks: time and memory")
        terminalreporter.write_line("\n".join(budget.table(rows)))

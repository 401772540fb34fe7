"""Notebooks under pytest: their stored outputs are compared with what their cells print now.

Plain ``pytest`` does it (pyproject.toml switches nbval on), from any folder.
"""

from pathlib import Path

import pytest

from minift.course.environment import fetch_assets, make_steady

make_steady()  # the kernels are children of this process

try:
    from nbval.kernel import RunningKernel
except ImportError:  # without nbval there are no notebooks to run
    RunningKernel = None


def execute_cell_input(self, cell_input, allow_stdin=None):
    """Run a cell as JupyterLab does. nbval leaves the history out, and with it `_` and `;`."""
    return self.kc.execute(
        cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
    )


if RunningKernel is not None:
    RunningKernel.execute_cell_input = execute_cell_input


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the assets once, and name the sanitiser by its place, from whatever folder."""
    if not hasattr(config, "workerinput"):
        fetch_assets()
    if getattr(config.option, "nbval_sanitize_with", "no nbval") is None:
        config.option.nbval_sanitize_with = str(Path(__file__).with_name("sanitize.cfg"))

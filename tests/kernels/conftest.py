"""The kernels need Triton, which exists for Linux; elsewhere their tests are left out."""

from collections import Counter
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]


ON_REQUEST = {
    "mutants": "every seeded bug, and the kill table; run with -m mutants",
    "shipped": "every shipped configuration, compiled; run with -m shipped",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in ON_REQUEST.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long lists run only when they are asked for."""
    asleep = [name for name in ON_REQUEST if name not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, asleep))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not any(map(item.get_closest_marker, asleep))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """After ``-m mutants``: for each family, how many bugs were found, and those that were not."""
    tally: Counter[tuple[str, str]] = Counter()
    alive = []
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            if "test_every_mutant_is_killed[" in report.nodeid and report.when == "call":
                family, _, bug = report.nodeid.partition("[")[2].rstrip("]").partition("-")
                tally[family, outcome] += 1
                if outcome != "passed":
                    alive.append(f"{family}: {bug}")
    if not tally:
        return
    terminalreporter.section("mutants")
    for family in sorted({family for family, _ in tally}):
        killed = tally[family, "passed"]
        total = sum(n for (name, _), n in tally.items() if name == family)
        terminalreporter.line(f"{family:<24} {killed:>3} of {total:>3} killed")
    for line in alive:
        terminalreporter.line(f"ALIVE  {line}")

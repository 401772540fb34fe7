"""The kernels need Triton, which exists for Linux; elsewhere their tests are left out."""

from collections import Counter
from importlib.util import find_spec

import pytest

collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]


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

"""Before any test module imports PyTorch: one BLAS thread, no downloads, for children too."""

import pytest

from minift.course.environment import fetch_assets, make_steady

make_steady()


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the assets once, in the process that starts the others."""
    if not hasattr(config, "workerinput"):
        fetch_assets()

"""What takes minutes runs only when it is asked for."""

import pytest

ON_REQUEST = {
    "released": "every seeded mistake in the students' edition; run with -m released",
}


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in ON_REQUEST.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long tests run only when they are asked for."""
    asleep = [name for name in ON_REQUEST if name not in config.option.markexpr]
    left_out = [item for item in items if any(map(item.get_closest_marker, asleep))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not any(map(item.get_closest_marker, asleep))]

"""The Hub's package ``kernels`` has our package's name: noticed, and said in one line."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minift.environment import check_environment
from minift.errors import InputError

CHECK = """
from minift.environment import check_environment
from minift.errors import InputError
try:
    check_environment()
except InputError as error:
    print(error)
import sys
assert not {"torch", "transformers", "triton", "kernels"} & sys.modules.keys()
"""


def message_with(folder: Path) -> str:
    """What the check says to a fresh Python that is started in ``folder``."""
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", CHECK],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_this_environment_is_fine(tmp_path: Path) -> None:
    check_environment()
    assert message_with(tmp_path) == ""


def test_the_hubs_package_is_noticed(tmp_path: Path) -> None:
    info = tmp_path / "kernels-0.18.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kernels\nVersion: 0.18.3\n")
    said = message_with(tmp_path)  # its metadata alone: our package may come first on the path
    assert "Hub's package" in said and "0.18.3" in said and "pip uninstall kernels" in said
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("raise SystemExit('imported')\n")
    assert message_with(tmp_path) == said and "\n" not in said


@pytest.mark.parametrize("kind", ["package", "folder", "module"])
def test_another_kernels_that_comes_first(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("kernels.py" if kind == "module" else "kernels")
    if kind == "module":
        path.write_text("raise SystemExit('imported')\n")
    else:
        path.mkdir()
    if kind == "package":
        (path / "__init__.py").write_text("raise SystemExit('imported')\n")
    said = message_with(tmp_path)
    # A folder without __init__.py loses to our package, wherever it stands on the path.
    assert said == "" if kind == "folder" else f"{path} hides minift's own package" in said


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="kernels: minift's own package is not found"):
        check_environment()


def test_transformers_does_not_take_our_kernels_for_the_hubs() -> None:
    """transformers treats any importable ``kernels`` as the Hub's if its version is in a range.

    For the version it asks for the distribution of that name, and failing that for the one that
    holds the package: minift. A minift version inside the range (0.18.2 up to 0.19 for
    transformers 5.23) would make it import names from our package that are not there.
    """
    transformers = pytest.importorskip("transformers.utils.import_utils")
    assert not transformers.is_kernels_available()
    low = transformers.version.parse(transformers.KERNELS_MIN_VERSION)
    high = transformers.version.parse(transformers.KERNELS_MAX_VERSION)
    ours = transformers.version.parse(importlib.metadata.version("minift"))
    assert not low <= ours < high

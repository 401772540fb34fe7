"""GGUF files, llama.cpp's format: an ordinary checkpoint and a tokenizer out of one file.

``reader`` opens the file, ``dequantize`` turns its blocks into numbers, ``config``, ``weights`` and
``tokenizer`` say the same things as Hugging Face's files do. Hugging Face's counterpart:
``from_pretrained(folder, gguf_file=…)``.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from minift.errors import InputError
from minift.models.gguf.config import config_of
from minift.models.gguf.reader import GGUF, read_gguf
from minift.models.gguf.weights import tensors_of

__all__ = ["GGUF", "gguf_file", "read_gguf", "read_gguf_config", "read_gguf_tensors"]


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that ``path`` is, or that a folder without ``config.json`` holds.

    Raises:
        InputError: the folder holds several.
    """
    if not path.is_dir():
        return path if path.suffix == ".gguf" else None
    if (path / "config.json").exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:3]) + ", …" * (len(files) > 3)
        raise InputError(f"{path}: holds {len(files)} GGUF files ({names}); right: name one")
    return files[0] if files else None


def read_gguf_config(path: Path) -> dict[str, Any]:
    """The content of a ``config.json``, from a GGUF file's metadata."""
    return config_of(read_gguf(path))


def read_gguf_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a GGUF file in float32, by Hugging Face's names and in their layout."""
    file = read_gguf(path)
    return tensors_of(file, config_of(file))

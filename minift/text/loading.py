"""One door to every tokenizer: ``load_tokenizer(name_or_path)``."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from minift.errors import InputError
from minift.text.bpe_reader import is_bpe_folder, read_bpe
from minift.text.char_files import is_char_folder, read_char
from minift.text.tokenizer import Tokenizer
from minift.text.wordpiece_reader import is_ours, read_wordpiece

# Assets that hold a tokenizer's files.
NAMED = ("minilm", "gpt2-bpe", "smollm2")
FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


def load_tokenizer(name_or_path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer of an asset (``"minilm"``) or of a folder (``AutoTokenizer.from_pretrained``).

    Three pipelines give tokenizers of this package: BERT's (``WordPieceTokenizer``), that of GPT-2
    and SmolLM2 (``BPETokenizer``) and characters (``CharTokenizer``). Any other gives a
    ``HuggingFaceTokenizer``. A GGUF file has its tokenizer in it.

    Raises:
        InputError: no such asset or folder; no tokenizer files in it; files that are malformed.
    """
    folder = _folder(name_or_path)
    if not any((folder / name).exists() for name in FILES):
        return _from_gguf(folder)
    if is_bpe_folder(folder):
        return read_bpe(folder)
    if is_char_folder(folder):
        return read_char(folder)
    if is_ours(folder):
        return read_wordpiece(folder)
    from minift.text.huggingface import HuggingFaceTokenizer

    return HuggingFaceTokenizer.load(folder)


def _from_gguf(path: Path) -> Tokenizer:
    """The tokenizer in a GGUF file, or in a folder that holds one and nothing else of a model."""
    from minift.models.gguf import gguf_file
    from minift.models.gguf.tokenizer import write_tokenizer

    file = gguf_file(path)
    if file is None:
        raise InputError(f"{path}: no tokenizer; right would be tokenizer.json or vocab.txt in it")
    with TemporaryDirectory() as folder:
        write_tokenizer(file, Path(folder))
        try:
            return load_tokenizer(folder)
        except InputError as error:
            raise InputError(str(error).replace(folder, str(file))) from None


def _folder(name_or_path: str | os.PathLike[str]) -> Path:
    folder = Path(name_or_path)
    if folder.is_dir() or folder.suffix == ".gguf":
        return folder
    if str(name_or_path) in NAMED:
        from minift.assets import fetch

        return fetch(str(name_or_path))
    if folder.is_file():
        raise InputError(f"{folder}: a file; right would be the folder that it is in")
    raise InputError(
        f"{folder}: no such folder, nor an asset with a tokenizer ({', '.join(NAMED)})"
    )

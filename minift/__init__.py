"""minift: transformers and fine-tuning from scratch, equal to Hugging Face at every step.

The names below are the public contract. They are imported on first use, so that
``import minift`` alone is fast and needs neither torch nor Triton.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from minift.environment import check_environment
from minift.errors import InputError

if TYPE_CHECKING:
    from minift.models.loading import from_hf, load, save, to_hf
    from minift.text.loading import load_tokenizer

__version__ = "0.1.0"
__all__ = ["InputError", "from_hf", "load", "load_tokenizer", "save", "to_hf"]

_HOME = {
    "load": "minift.models.loading",
    "save": "minift.models.loading",
    "from_hf": "minift.models.loading",
    "to_hf": "minift.models.loading",
    "load_tokenizer": "minift.text.loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'minift' has no attribute {name!r}")
    check_environment()
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])

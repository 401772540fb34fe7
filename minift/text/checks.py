"""What no tokenizer can take, said in one line."""

import operator
import re
from collections.abc import Iterable

from minift.errors import InputError


def check_ids(ids: object) -> list[int]:
    """The ids as Python's numbers.

    Raises:
        InputError: not a list of whole numbers.
    """
    items = ids.tolist() if hasattr(ids, "tolist") else ids
    if not isinstance(items, Iterable) or isinstance(items, str | bytes):
        raise InputError(f"ids: {type(ids).__name__} given; right would be a list of ids")
    try:
        return [operator.index(item) for item in items]
    except TypeError:
        raise InputError(f"ids: {items!r:.60} given; right would be whole numbers") from None


_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(text: object) -> None:
    """Refuse what is not a text.

    Raises:
        InputError: not a str, or a str with half of a surrogate pair in it.
    """
    if not isinstance(text, str):
        raise InputError(f"text: {type(text).__name__} given; right would be a str")
    if not text.isascii() and (bad := _SURROGATE.search(text)):
        raise InputError(
            f"text: character {bad.start()} is U+{ord(bad[0]):04X}, half of a surrogate pair; "
            "right would be text decoded with errors='replace'"
        )

"""What no tokenizer can take, said in one line."""

import re

from minift.errors import InputError

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

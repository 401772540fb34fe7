"""Lines of standard input, one text each."""

import sys
from collections.abc import Iterator

from minift.errors import InputError
from minift.files import decode_text


def lines_of_input() -> Iterator[tuple[str, str]]:
    """Each line without its end, and what to call it in a message.

    Raises:
        InputError: standard input is closed, or a line is not UTF-8.
    """
    number = 0
    try:
        for number, line in enumerate(sys.stdin.buffer, start=1):
            name = f"standard input, line {number}"
            yield decode_text(line, name).rstrip("\r\n"), name
    except (OSError, AttributeError):  # closed by the caller: Python then has no stdin at all
        raise InputError("standard input: is closed; right would be text, a line each") from None

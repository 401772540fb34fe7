"""What a learner's function prints while it is checked: kept short, shown once."""

import io

MAX_LINES = 8
MAX_CHARACTERS = 600


class Printed(io.TextIOBase):
    """A stream that keeps the beginning of what is written to it and counts the lines.

    A check calls a function some hundred times; the first lines, from the smallest input, are
    those that a learner wants to see.
    """

    def __init__(self) -> None:
        self._start, self._lines = "", 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Take some text in."""
        self._start += text[: max(0, MAX_CHARACTERS - len(self._start))]
        self._lines += text.count("\n")
        return len(text)

    def __bool__(self) -> bool:
        return bool(self._start.strip())

    def __str__(self) -> str:
        """The first lines under a heading, and how many there were; empty if nothing came."""
        if not self:
            return ""
        shown = self._start.splitlines()[:MAX_LINES]
        more = self._lines - len(shown)
        tail = [f"  … and {more} more line{'s' * (more != 1)}"] if more > 0 else []
        return "\n".join(["printed while it was checked:", *(f"  {s}" for s in shown), *tail])

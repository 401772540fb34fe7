"""The one error type that means "what you gave is wrong"; on the command line, exit code 2."""

MANY = 20  # known values that are still listed one by one


class InputError(ValueError):
    """Something the user gave is wrong.

    The message is one line that names the argument or file, what was given, and what would be
    right. The command line prints it after ``minift: error:`` without a traceback and exits with
    code 2; in Python it is an ordinary ``ValueError``.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(str(message).split()))


def one_of(
    name: str,
    given: object,
    known: list[str] | tuple[str, ...],
    near: list[str] | None = None,
) -> InputError:
    """The error for a value outside a closed set, with the nearest known value as a suggestion.

    ``near`` is that value, where the caller knows better than the letters say; empty: none.
    """
    import difflib

    near = difflib.get_close_matches(str(given), known, n=1) if near is None else near
    hint = f"; did you mean {near[0]!r}?" if near else ""
    if len(known) > MANY:  # a line that long would hide the suggestion
        few = f"{len(known)} are known: {', '.join(known[:3])} …"
        return InputError(f"{name}: unknown {given!r}{hint or ';'} {few}")
    return InputError(f"{name}: unknown {given!r}; known: {', '.join(known)}{hint}")

"""Entities marked in a sentence: for the terminal, and for a page."""

import html
import os
import sys
import zlib
from collections.abc import Sequence
from typing import Any

_PALETTE = ("#0072b2", "#d55e00", "#007a5e", "#a8457e", "#8a6d00", "#3b5fc0", "#b3333b", "#4d7a1f")
_ANSI = (34, 33, 32, 35, 36, 94, 31, 92)

Entities = Sequence[dict[str, Any]]


def terminal(text: str, entities: Entities, colour: bool | None = None) -> str:
    """The text with ``value [TYPE]`` in the type's colour; plain where colour is not wanted."""
    colour = wants_colour() if colour is None else colour

    def mark(value: str, type_: str) -> str:
        if not colour:
            return f"[{value}]({type_})"
        return f"\x1b[1;{_ANSI[_slot(type_)]}m{value}\x1b[0m\x1b[2m [{type_}]\x1b[0m"

    return "".join(mark(v, t) if t else v for v, t in _pieces(text, entities))


def page(text: str, entities: Entities) -> str:
    """The text as HTML with a coloured mark around each entity."""

    def mark(value: str, type_: str) -> str:
        shade = _PALETTE[_slot(type_)]
        style = f"background:{shade}1f;border-color:{shade}"
        return (
            f'<mark style="{style}">{html.escape(value)}'
            f'<small style="color:{shade}">{html.escape(type_)}</small></mark>'
        )

    return "".join(mark(v, t) if t else html.escape(v) for v, t in _pieces(text, entities))


def wants_colour() -> bool:
    """Whether standard output is a terminal and the user has not set ``NO_COLOR``."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _pieces(text: str, entities: Entities) -> list[tuple[str, str]]:
    """The text in pieces, in order, each with its entity type or an empty string."""
    pieces, position = [], 0
    for entity in entities:
        pieces.append((text[position : entity["start"]], ""))
        pieces.append((text[entity["start"] : entity["end"]], entity["type"]))
        position = entity["end"]
    return [*pieces, (text[position:], "")]


def _slot(type_: str) -> int:
    return zlib.crc32(type_.encode()) % len(_PALETTE)

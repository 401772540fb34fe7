"""BIO tags: one tag a word, ``B-TYPE`` starts an entity, ``I-TYPE`` continues it, ``O`` is outside.

Source: Ramshaw & Marcus 1995, in the variant IOB2 where every entity starts with B-.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Entity(NamedTuple):
    """One entity: its type and the half-open range of words ``[start, end)`` it covers."""

    type: str
    start: int
    end: int


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that a tag sequence marks.

    A model may predict ``I-X`` where nothing of type X is open; as in the CoNLL scoring script,
    it then starts an entity. Files are held to the strict rule instead (:func:`problem`).
    """
    found: list[Entity] = []
    type_, start = None, 0
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        if type_ is not None and (prefix != "I" or name != type_):
            found.append(Entity(type_, start, position))
            type_ = None
        if type_ is None and prefix != "O":
            type_, start = name, position
    return found


def tags_of(spans: Iterable[Entity], length: int) -> list[str]:
    """The tag sequence of non-overlapping entities: the inverse of :func:`entities`."""
    tags = ["O"] * length
    for type_, start, end in spans:
        tags[start:end] = [f"B-{type_}"] + [f"I-{type_}"] * (end - start - 1)
    return tags


def problem(tag: str, previous: str) -> str | None:
    """What is wrong with ``tag`` after ``previous`` under strict BIO, or None."""
    prefix, dash, name = tag.partition("-")
    if tag != "O" and (prefix not in ("B", "I") or not dash or not name):
        return f"{tag!r} is not a BIO tag; right would be O, B-TYPE or I-TYPE"
    if prefix == "I" and previous not in (f"B-{name}", f"I-{name}"):
        return f"{tag} without a B-{name} before it; an entity starts with B-"
    return None


def tag_list(types: Iterable[str]) -> list[str]:
    """All tags over the given entity types, ``O`` first: the label set of a tagger."""
    return ["O", *(f"{prefix}-{name}" for name in sorted(set(types)) for prefix in "BI")]

"""Personal data in text (PII): labelled sentences made from human-written templates.

The sentences' forms are real: 210 templates that people wrote, ``My name is {{person}}``, from
the asset ``presidio-templates``. The values are made: names, addresses and numbers from ``faker``
and from the lists beside the templates. No sentence is about a real person.

Train, validation and test sentences come from **different templates**, so that a score on the
test split tells how a model does on forms that it has never seen. Values may repeat across
splits, as first names do in the world.
"""

import math
import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from minift import assets
from minift.data.bio import Entity, tags_of
from minift.data.conll import Sentence
from minift.data.pii_values import VALUES, Values
from minift.data.words import split_words

_SLOT = re.compile(r"\{\{?(\w+)\}?\}")
_ADDRESS_PARTS = {
    "address", "building_number", "street_name", "secondary_address", "city", "country",
    "state_abbr", "zipcode", "postcode",
}  # fmt: skip
_PLACES = {"city", "country"}


class Slot(NamedTuple):
    """A place to fill: the kind of value and the entity type that it is labelled with."""

    kind: str
    type: str


@dataclass(frozen=True)
class Template:
    """A sentence's form: literal text and slots in turn.

    ``key`` is its words without the slots. Two templates with the same key, ``We moved here from
    {{city}}`` and ``We moved here from {{country}}``, are one form: a split never parts them.
    """

    parts: tuple[str | Slot, ...]
    key: str

    @property
    def types(self) -> frozenset[str]:
        """The entity types that a filling of this template holds."""
        return frozenset(part.type for part in self.parts if isinstance(part, Slot))


@dataclass(frozen=True)
class Splits:
    """Sentences of three splits that share no template; ``types`` are all entity types, sorted."""

    train: list[Sentence]
    valid: list[Sentence]
    test: list[Sentence]
    types: list[str]


def load_splits(
    fillings: int = 8,
    *,
    per_type: int = 48,
    valid_fillings: int = 5,
    test_fillings: int = 10,
    seed: int = 0,
) -> Splits:
    """The PII data set, the same for the same arguments.

    Args:
        fillings: sentences made from each training template, at least.
        per_type: training sentences that hold a given entity type, at least; the templates of a
            rare type are filled more often, so that its many possible values are seen.
        valid_fillings, test_fillings: sentences from each template of the other two splits.
        seed: of the values; which template is in which split does not depend on it.
    """
    groups = split_templates(load_templates())
    values = Values(seed)
    often = Counter(type_ for template in groups["train"] for type_ in template.types)

    def count(split: str, template: Template) -> int:
        if split != "train":
            return valid_fillings if split == "valid" else test_fillings
        return max([fillings, *(math.ceil(per_type / often[t]) for t in template.types)])

    made = {
        split: [fill(t, values) for t in group for _ in range(count(split, t))]
        for split, group in groups.items()
    }
    types = sorted({type_ for group in groups.values() for t in group for type_ in t.types})
    return Splits(made["train"], made["valid"], made["test"], types)


@cache
def load_templates() -> tuple[Template, ...]:
    """The templates of the asset, in the file's order."""
    path = assets.fetch("presidio-templates") / "templates.txt"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(parse_template(line) for line in lines if line.strip())


def parse_template(line: str) -> Template:
    r"""A template from its line; ``\n`` in it stands for a new line.

    Parts of one postal address that follow each other with nothing but spaces and punctuation
    between them become one ADDRESS, as the value of ``{{address}}`` is.
    """
    pieces = _SLOT.split(line.replace("\\n", "\n").replace("\\,", ","))  # text, slot, text, …
    texts, kinds = pieces[::2], pieces[1::2]
    parts: list[str | Slot] = [texts[0]]
    for position, kind in enumerate(kinds):
        parts += [Slot(kind, _type(position, kinds, texts)), texts[position + 1]]
    words = " ".join(re.findall(r"[a-z']+|\d", " ".join(texts).lower()))
    return Template(tuple(parts), words)


def _type(position: int, kinds: list[str], texts: list[str]) -> str:
    kind = kinds[position]
    if kind not in _ADDRESS_PARTS:
        return VALUES[kind].type
    joined = (position > 0 and _joins(kinds, texts, position)) or (
        position + 1 < len(kinds) and _joins(kinds, texts, position + 1)
    )
    return "LOCATION" if kind in _PLACES and not joined else "ADDRESS"


def _joins(kinds: list[str], texts: list[str], position: int) -> bool:
    """Whether slot ``position`` continues the address that the slot before it is part of."""
    both = {kinds[position - 1], kinds[position]} <= _ADDRESS_PARTS - {"address"}
    return both and not re.search(r"\w", texts[position])


def fill(template: Template, values: Values) -> Sentence:
    """A labelled sentence: the template with a fresh value in each slot."""
    text, spans = "", []
    for part in template.parts:
        piece = part if isinstance(part, str) else values.draw(part.kind)
        if isinstance(part, Slot):
            spans.append((part.type, len(text), len(text) + len(piece)))
        text += piece
    return label_words(text, _merge_addresses(text, spans))


def _merge_addresses(text: str, spans: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    merged: list[tuple[str, int, int]] = []
    for type_, start, end in spans:
        before = merged[-1] if merged else ("", 0, 0)
        if type_ == before[0] == "ADDRESS" and not re.search(r"\w", text[before[2] : start]):
            merged[-1] = (type_, before[1], end)
        else:
            merged.append((type_, start, end))
    return merged


def label_words(text: str, spans: list[tuple[str, int, int]]) -> Sentence:
    """Words of ``text`` with BIO tags from character spans ``(type, start, end)``.

    A word belongs to the span that it overlaps.
    """
    words = split_words(text)
    found = []
    for type_, start, end in spans:
        inside = [i for i, word in enumerate(words) if word.start < end and word.end > start]
        if inside:
            found.append(Entity(type_, inside[0], inside[-1] + 1))
    tags = tags_of(found, len(words))
    return Sentence(tuple(word.text for word in words), tuple(tags))


def split_templates(templates: tuple[Template, ...]) -> dict[str, list[Template]]:
    """Templates by split: a fifth for test, a tenth for validation, the rest for training.

    The rarest entity types are dealt out first, so that every type is in training, every type
    with two or more templates is in test too, and every type with three or more is in all splits.
    """
    groups: dict[str, list[Template]] = defaultdict(list)
    for template in templates:
        groups[template.key].append(template)
    keys = random.Random(0).sample(sorted(groups), len(groups))
    holders: dict[str, list[str]] = defaultdict(list)  # entity type -> keys of templates with it
    for key in keys:
        for type_ in set().union(*(t.types for t in groups[key])):
            holders[type_].append(key)
    chosen: dict[str, str] = {}  # key -> split
    for type_ in sorted(holders, key=lambda name: (len(holders[name]), name)):
        for name in ("train", "test", "valid")[: len(holders[type_])]:
            free = [key for key in holders[type_] if key not in chosen]
            if free and name not in [chosen.get(key) for key in holders[type_]]:
                chosen[free[0]] = name
    for name, share in (("test", 5), ("valid", 10)):
        missing = len(keys) // share - sum(split == name for split in chosen.values())
        free = [key for key in keys if key not in chosen]
        chosen.update(dict.fromkeys(free[: max(0, missing)], name))
    splits: dict[str, list[Template]] = {"train": [], "valid": [], "test": []}
    for key in keys:
        splits[chosen.get(key, "train")] += groups[key]
    return splits

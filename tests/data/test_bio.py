"""BIO tags against an independent reading of the rules, over all short tag sequences."""

import itertools

import pytest

from minift.data.bio import Entity, entities, problem, tag_list, tags_of

TAGS = ["O", "B-A", "I-A", "B-B", "I-B"]


def by_hand(tags):
    """Entities by asking of each position whether one starts and whether one ends there."""

    def kind(i):
        return tags[i][2:] if 0 <= i < len(tags) and tags[i] != "O" else None

    def starts(i):
        return kind(i) is not None and (tags[i][0] == "B" or kind(i - 1) != kind(i))

    found = []
    for i in range(len(tags)):
        if starts(i):
            end = i + 1
            while end < len(tags) and kind(end) == kind(i) and not starts(end):
                end += 1
            found.append(Entity(kind(i), i, end))
    return found


@pytest.mark.parametrize("length", range(6))
def test_entities_of_every_sequence(length):
    for tags in itertools.product(TAGS, repeat=length):
        assert entities(tags) == by_hand(tags), tags


def test_tags_of_is_the_inverse_on_strict_sequences():
    checked = 0
    for tags in itertools.product(TAGS, repeat=5):
        if all(
            problem(tag, before) is None
            for before, tag in zip(("O", *tags[:-1]), tags, strict=True)
        ):
            assert tags_of(entities(tags), 5) == list(tags)
            checked += 1
    assert checked > 500


@pytest.mark.parametrize(
    ("tag", "previous", "part"),
    [
        ("I-PER", "O", "without a B-PER"),
        ("I-PER", "B-LOC", "without a B-PER"),
        ("PER", "O", "not a BIO tag"),
        ("B-", "O", "not a BIO tag"),
        ("E-PER", "I-PER", "not a BIO tag"),
        ("o", "O", "not a BIO tag"),
    ],
)
def test_problem(tag, previous, part):
    assert part in problem(tag, previous)


def test_tag_list():
    assert tag_list(["PER", "LOC", "PER"]) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]

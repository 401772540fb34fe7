"""The embedded PII data: splits by template, labels that mark exactly the filled-in values."""

import re

import pytest

from minift.data import pii
from minift.data.bio import entities, problem
from minift.data.pii_values import VALUES, Values
from minift.data.words import split_words


@pytest.fixture(scope="module")
def splits():
    return pii.load_splits()


def test_no_template_is_in_two_splits():
    groups = pii.split_templates(pii.load_templates())
    keys = {name: {t.key for t in group} for name, group in groups.items()}
    assert not keys["train"] & keys["test"]
    assert not keys["train"] & keys["valid"]
    assert not keys["valid"] & keys["test"]
    assert sum(len(group) for group in groups.values()) == len(pii.load_templates()) == 210
    assert len(groups["test"]) >= 39
    assert len(groups["valid"]) >= 20


def test_no_sentence_form_is_shared(splits):
    """The words outside entities are a sentence's form: none of test's is in train."""

    def form(sentence):
        pairs = zip(sentence.words, sentence.tags, strict=True)
        words = " ".join(w.lower() if t == "O" else "_" for w, t in pairs)
        return re.sub(r"(_ )+_|_", "_", words)

    def is_long(text):  # "_" alone, an address block say, is no form that could be learned by heart
        return len(text.split()) >= 3

    train = {form(s) for s in splits.train}
    shared = {f for f in map(form, splits.test) if f in train and is_long(f)}
    assert not shared


def test_types_and_coverage(splits):
    assert len(splits.types) == 17
    present = {
        name: {e.type for s in getattr(splits, name) for e in entities(s.tags)}
        for name in ("train", "valid", "test")
    }
    assert present["train"] == set(splits.types)
    assert len(present["test"]) >= 16
    assert present["test"] >= {"PERSON", "ADDRESS", "SSN", "IP", "IBAN", "JOB"}


def test_rare_types_are_filled_more_often():
    count = {
        n: sum("B-SSN" in s.tags for s in pii.load_splits(2, per_type=n).train) for n in (1, 30)
    }
    assert count == {1: 2, 30: 30}


def test_tags_are_strict_bio_and_never_empty(splits):
    for sentence in [*splits.train, *splits.valid, *splits.test]:
        assert len(sentence.words) == len(sentence.tags) > 0
        for tag, previous in zip(sentence.tags, ("O", *sentence.tags[:-1]), strict=True):
            assert problem(tag, previous) is None


def test_same_seed_same_data_and_other_seed_other_values(splits):
    assert pii.load_splits() == splits
    assert pii.load_splits(seed=1).test != splits.test


def test_labels_mark_exactly_the_values():
    values = Values(0)
    template = pii.parse_template("Call {{name}}, {{age}} y/o, at {{phone_number}}.")
    for _ in range(50):
        sentence = pii.fill(template, values)
        found = [" ".join(sentence.words[e.start : e.end]) for e in entities(sentence.tags)]
        kinds = [e.type for e in entities(sentence.tags)]
        assert kinds == ["PERSON", "AGE", "PHONE"]
        outside = [w for w, t in zip(sentence.words, sentence.tags, strict=True) if t == "O"]
        assert outside == ["Call", ",", "y/o", ",", "at", "."]
        assert found[1].replace(" ", "").replace(".", "").isdigit()


def test_parts_of_an_address_become_one_entity():
    line = r"{{name}}\n{{building_number}} {{street_name}}\n{{city}}, {{zipcode}} is in {{city}}."
    sentence = pii.fill(pii.parse_template(line), Values(1))
    assert [e.type for e in entities(sentence.tags)] == ["PERSON", "ADDRESS", "LOCATION"]


def test_every_kind_of_value():
    values = Values(2)
    for kind in VALUES:
        drawn = [values.draw(kind) for _ in range(40)]
        assert all(split_words(value) for value in drawn), kind
        assert len(set(drawn)) > 3 or kind.startswith("prefix"), kind
    used = {
        part.kind for t in pii.load_templates() for part in t.parts if isinstance(part, pii.Slot)
    }
    assert used <= set(VALUES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Anna's e-mail: a.b@c.org!", ["Anna", "'s", "e-mail", ":", "a.b@c.org", "!"]),
        ("don't", ["don't"]),
        ("(07700) 900 123", ["(", "07700", ")", "900", "123"]),
        ("10.0.0.1 3.50 1/2/2020", ["10.0.0.1", "3.50", "1/2/2020"]),
        (" \n\t", []),
        ("naïve 日本", ["naïve", "日本"]),
    ],
)
def test_split_words(text, words):
    found = split_words(text)
    assert [word.text for word in found] == words
    assert all(text[word.start : word.end] == word.text for word in found)

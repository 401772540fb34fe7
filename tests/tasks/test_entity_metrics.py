"""Entity scores against nervaluate, word scores against counting by hand, and the baselines."""

import random

import pytest
from nervaluate import Evaluator

from minift.data.bio import tag_list
from minift.data.conll import Sentence
from minift.tasks.entity_baselines import Dictionary, majority
from minift.tasks.entity_metrics import Score, score_entities

TAGS = tag_list(["LOC", "ORG", "PER"])


def random_tags(generator, length, strict):
    tags, before = [], "O"
    for _ in range(length):
        choices = [t for t in TAGS if not strict or t[0] != "I" or before[2:] == t[2:]]
        before = generator.choice(choices)
        tags.append(before)
    return tags


def noisy(generator, tags):
    return [t if generator.random() < 0.7 else generator.choice(TAGS) for t in tags]


@pytest.mark.parametrize("seed", range(30))
def test_equals_nervaluate_strict(seed):
    generator = random.Random(seed)
    lengths = [generator.randrange(1, 25) for _ in range(generator.randrange(1, 12))]
    gold = [random_tags(generator, n, strict=True) for n in lengths]
    guess = [noisy(generator, tags) for tags in gold]
    # nervaluate drops a predicted I- that continues nothing; write it as the B- that it means
    fixed = [
        [
            f"B-{t[2:]}" if t[0] == "I" and p[2:] != t[2:] else t
            for t, p in zip(s, ["O", *s[:-1]], strict=True)
        ]
        for s in guess
    ]
    report = score_entities(gold, guess)
    theirs = Evaluator(gold, fixed, tags=["LOC", "ORG", "PER"], loader="list").evaluate()
    overall = theirs["overall"]["strict"]
    assert report.micro.true_positives == overall.correct
    assert report.micro.precision == pytest.approx(overall.precision)
    assert report.micro.recall == pytest.approx(overall.recall)
    assert report.micro.f1 == pytest.approx(overall.f1)
    for name, score in report.by_type.items():
        found = theirs["entities"][name]["strict"]
        assert (score.precision, score.recall) == pytest.approx((found.precision, found.recall))


def test_words_and_confusion_by_hand():
    report = score_entities(
        [["B-PER", "I-PER", "O", "B-LOC"], ["O"]], [["B-PER", "B-PER", "O", "O"], ["B-ORG"]]
    )
    assert report.confusion == {
        ("PER", "PER"): 2, ("O", "O"): 1, ("LOC", "O"): 1, ("O", "ORG"): 1
    }  # fmt: skip
    assert report.words_by_type["PER"] == Score(2, 2, 2)
    assert report.by_type["PER"] == Score(0, 2, 1)
    assert report.word_accuracy == 3 / 5
    assert report.by_type["ORG"].recall == 0.0
    assert report.macro_f1 == 0.0
    assert "all entities" in report.format()


def test_nothing_to_find():
    report = score_entities([["O", "O"]], [["O", "O"]])
    assert (report.micro.f1, report.micro.precision, report.word_accuracy) == (0.0, 0.0, 1.0)


def test_different_lengths_are_refused():
    with pytest.raises(ValueError):
        score_entities([["O"]], [["O", "O"]])
    with pytest.raises(ValueError):
        score_entities([["O"]], [])


def sentence(text, tags):
    return Sentence(tuple(text.split()), tuple(tags.split()))


def test_baselines():
    train = [
        sentence("New York is big", "B-LOC I-LOC O O"),
        sentence("Will will meet Will", "B-PER O O B-PER"),
        sentence("new big york", "O O O"),
    ]
    dictionary = Dictionary(train)
    assert dictionary.tag(["I", "met", "Will", "in", "NEW", "YORK", "new"]) == [
        "O", "O", "B-PER", "O", "B-LOC", "I-LOC", "O"
    ]  # fmt: skip
    assert dictionary.tag([]) == []
    assert majority(train, train)[1] == ["O"] * 4

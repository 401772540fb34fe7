"""ner.f1: precision, recall and F1 of whole entities."""

import random
from collections.abc import Iterator
from fractions import Fraction

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

Entity = tuple[str, int, int]


def single() -> Iterator[Inputs]:
    gold: list[Entity] = [("PER", 0, 2), ("LOC", 4, 5)]
    yield {"gold": [gold], "predicted": [gold]}
    yield {"gold": [gold], "predicted": [[("PER", 0, 2), ("LOC", 3, 5), ("ORG", 6, 7)]]}
    yield {"gold": [gold], "predicted": [[("LOC", 0, 2)]]}


def several() -> Iterator[Inputs]:
    first: list[Entity] = [("PER", 0, 1)]
    yield {"gold": [first, first], "predicted": [first, [("PER", 1, 2)]]}
    yield {"gold": [first, []], "predicted": [[], first]}
    for seed in range(30):
        rng = draw(seed)
        gold = [_sentence(rng) for _ in range(rng.randint(2, 6))]
        # keep about half of the gold entities, so that every count differs from every other
        guess = [[e for e in s if rng.random() < 0.5] + _sentence(rng)[:1] for s in gold]
        yield {"gold": gold, "predicted": [sorted(set(s)) for s in guess]}


def nothing() -> Iterator[Inputs]:
    some: list[Entity] = [("PER", 0, 1)]
    yield {"gold": [some], "predicted": [[]]}
    yield {"gold": [[]], "predicted": [some]}
    yield {"gold": [[]], "predicted": [[]]}
    yield {"gold": [], "predicted": []}


def _sentence(rng: random.Random) -> list[Entity]:
    starts = sorted(rng.sample(range(12), rng.randint(0, 4)))
    return [(rng.choice(("PER", "LOC")), start, start + 1) for start in starts]


exercise = Exercise(
    "ner.f1",
    "Precision, recall and F1 of entities",
    properties=(
        Equals("counts an entity only when type, start and end are right", single, "Compare all."),
        Equals("pools the counts of all sentences", several, "Count first, divide once."),
        Equals("gives 0 where there is nothing to divide by", nothing, "0 / 0 counts as 0."),
    ),
    hints=(
        "Three counts over all sentences are enough: right ones, predicted ones, gold ones.",
        "The right ones of a sentence are `set(gold) & set(predicted)`; a sentence's entities must "
        "not meet those of another sentence.",
        "precision = right / predicted, recall = right / gold, F1 = 2PR / (P + R); each is 0.0 "
        "when its denominator is 0.",
    ),
)


@exercise.stub
def f1(
    gold: list[list[tuple[str, int, int]]], predicted: list[list[tuple[str, int, int]]]
) -> tuple[float, float, float]:
    """(precision, recall, F1) of predicted entities, over all sentences together.

    gold, predicted: for each sentence its entities (type, start, end), none twice. An entity is
    right if the same type, start and end stand in the gold entities of the same sentence. A
    quotient with denominator 0 is 0.0.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    gold: list[list[tuple[str, int, int]]], predicted: list[list[tuple[str, int, int]]]
) -> tuple[float, float, float]:
    right = sum(len(set(g) & set(p)) for g, p in zip(gold, predicted, strict=True))
    guessed, known = sum(map(len, predicted)), sum(map(len, gold))
    precision = right / guessed if guessed else 0.0
    recall = right / known if known else 0.0
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


@exercise.reference
def in_fractions(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    known = {(i, *entity) for i, sentence in enumerate(gold) for entity in sentence}
    guessed = {(i, *entity) for i, sentence in enumerate(predicted) for entity in sentence}
    right, wrong, missed = len(known & guessed), len(guessed - known), len(known - guessed)
    pairs = (
        (right, right + wrong),
        (right, right + missed),
        (2 * right, 2 * right + wrong + missed),
    )
    precision, recall, score = (float(Fraction(a, b)) if b else 0.0 for a, b in pairs)
    return precision, recall, score


def _flat(sentences: list[list[Entity]]) -> list[list[Entity]]:
    return [[entity for sentence in sentences for entity in sentence]]


@exercise.mistake("The mean over sentences was taken: pool the counts first, then divide once.")
def mean_of_sentences(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    each = [solution([g], [p]) for g, p in zip(gold, predicted, strict=True)] or [(0.0, 0.0, 0.0)]
    precision, recall, score = (sum(column) / len(each) for column in zip(*each, strict=True))
    return precision, recall, score


@exercise.mistake("Sentences were thrown together: an entity of one matched that of another.")
def forgets_sentences(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    known, guessed = set(_flat(gold)[0]), set(_flat(predicted)[0])
    return solution([list(known)], [list(guessed)])


@exercise.mistake("The type was not compared: the right words under a wrong type are wrong.")
def ignores_the_type(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    def bare(sentences: list[list[Entity]]) -> list[list[Entity]]:
        return [[("", start, end) for _, start, end in sentence] for sentence in sentences]

    return solution(bare(gold), bare(predicted))


@exercise.mistake("Precision and recall are exchanged: precision divides by what was predicted.")
def exchanged(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    return solution(predicted, gold)


@exercise.mistake("F1 is the harmonic mean 2PR / (P + R), not the plain mean (P + R) / 2.")
def plain_mean(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    precision, recall, _ = solution(gold, predicted)
    return precision, recall, (precision + recall) / 2


@exercise.mistake("With nothing predicted or nothing to find, a denominator is 0: return 0.0.")
def divides_by_zero(
    gold: list[list[Entity]], predicted: list[list[Entity]]
) -> tuple[float, float, float]:
    right = sum(len(set(g) & set(p)) for g, p in zip(gold, predicted, strict=True))
    precision, recall = right / sum(map(len, predicted)), right / sum(map(len, gold))
    return precision, recall, 2 * precision * recall / (precision + recall)

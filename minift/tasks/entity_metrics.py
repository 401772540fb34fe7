"""Scores of a tagger: entities found exactly, and labels word by word.

An entity counts as found only if its type, first word and last word are all right (CoNLL-2003).
The same rule is ``strict`` in the libraries ``seqeval`` and ``nervaluate``.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from minift.data.bio import entities

Tags = Sequence[str]


@dataclass(frozen=True)
class Score:
    r"""Counts of one type; precision :math:`P = tp/(tp+fp)`, recall :math:`R = tp/(tp+fn)`,
    :math:`F_1 = 2PR/(P+R)`; each is 0 where its denominator is 0."""

    true_positives: int
    predicted: int
    gold: int

    @property
    def precision(self) -> float:
        return self.true_positives / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.true_positives / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        total = self.predicted + self.gold
        return 2 * self.true_positives / total if total else 0.0

    def to_dict(self) -> dict[str, float]:
        rounded = {name: getattr(self, name) for name in ("precision", "recall", "f1")}
        return {**asdict(self), **rounded}


@dataclass(frozen=True)
class Report:
    """Scores by entity type, over all types together (micro average), and word by word.

    ``confusion[gold, predicted]`` counts words by their types without B- and I-; words whose two
    labels are both O are counted too.
    """

    by_type: dict[str, Score]
    micro: Score
    words_by_type: dict[str, Score]
    word_accuracy: float
    confusion: Counter[tuple[str, str]] = field(repr=False)

    @property
    def macro_f1(self) -> float:
        """The mean F1 over the types that occur in the gold labels."""
        scores = [score.f1 for score in self.by_type.values() if score.gold]
        return sum(scores) / len(scores) if scores else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for metrics.json."""
        return {
            "f1": self.micro.f1,
            "precision": self.micro.precision,
            "recall": self.micro.recall,
            "macro_f1": self.macro_f1,
            "word_accuracy": self.word_accuracy,
            "entities": {name: score.to_dict() for name, score in self.by_type.items()},
            "words": {name: score.to_dict() for name, score in self.words_by_type.items()},
        }

    def format(self) -> str:
        """The report as a table of text."""
        head = f"{'type':<16}{'precision':>10}{'recall':>8}{'F1':>8}{'gold':>7}{'words F1':>10}"
        rows = [
            f"{name:<16}{s.precision:>10.3f}{s.recall:>8.3f}{s.f1:>8.3f}{s.gold:>7}"
            f"{self.words_by_type[name].f1:>10.3f}"
            for name, s in self.by_type.items()
        ]
        m = self.micro
        last = f"{'all entities':<16}{m.precision:>10.3f}{m.recall:>8.3f}{m.f1:>8.3f}{m.gold:>7}"
        return "\n".join(
            [head, *rows, last, f"words labelled right: {self.word_accuracy:.3f} (O included)"]
        )


def score_entities(gold: Iterable[Tags], predicted: Iterable[Tags]) -> Report:
    """Compare predicted with gold tags, sentence by sentence.

    Raises:
        ValueError: the two have different numbers of sentences or words.
    """
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    known: Counter[str] = Counter()
    confusion: Counter[tuple[str, str]] = Counter()
    for true_tags, tags in zip(gold, predicted, strict=True):
        true, found = set(entities(true_tags)), set(entities(tags))
        right.update(e.type for e in true & found)
        guessed.update(e.type for e in found)
        known.update(e.type for e in true)
        pairs = zip(true_tags, tags, strict=True)
        confusion.update((_type(a), _type(b)) for a, b in pairs)
    types = sorted(set(known) | set(guessed))
    by_type = {t: Score(right[t], guessed[t], known[t]) for t in types}
    micro = Score(right.total(), guessed.total(), known.total())
    words = {t: _word_score(t, confusion) for t in types}
    correct = sum(n for (a, b), n in confusion.items() if a == b)
    return Report(by_type, micro, words, correct / max(1, confusion.total()), confusion)


def _type(tag: str) -> str:
    return tag.partition("-")[2] or tag


def _word_score(name: str, confusion: Counter[tuple[str, str]]) -> Score:
    predicted = sum(n for (_, b), n in confusion.items() if b == name)
    gold = sum(n for (a, _), n in confusion.items() if a == name)
    return Score(confusion[name, name], predicted, gold)

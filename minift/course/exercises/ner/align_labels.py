"""ner.align_labels: one label a word becomes one label a word piece."""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def pieces(lengths: list[int]) -> list[int | None]:
    """[CLS], then word w as often as it has pieces, then [SEP]."""
    return [None, *(word for word, n in enumerate(lengths) for _ in range(n)), None]


def whole() -> Iterator[Inputs]:
    yield {"labels": [3, 0], "word_ids": pieces([1, 1])}
    yield {"labels": [0, 7, 8], "word_ids": pieces([1, 3, 2])}
    yield {"labels": [5, 5, 5], "word_ids": pieces([2, 2, 1])}
    for seed in range(20):
        rng = draw(seed)
        lengths = [rng.randint(1, 4) for _ in range(rng.randint(1, 12))]
        labels = [rng.randint(0, 20) for _ in lengths]
        yield {"labels": labels, "word_ids": [*pieces(lengths), *[None] * rng.randint(0, 5)]}


def cut() -> Iterator[Inputs]:
    yield {"labels": [3, 4, 5], "word_ids": [None, 0, 1, 1, None]}
    yield {"labels": [9] * 6, "word_ids": [None, 0, 0, None]}


def dropped() -> Iterator[Inputs]:
    yield {"labels": [3, 4, 5], "word_ids": [None, 0, 2, None]}
    yield {"labels": [1, 2, 3, 4], "word_ids": [None, 1, 1, 3, None]}


exercise = Exercise(
    "ner.align_labels",
    "Labels of words, labels of word pieces",
    in_library=("minift.tasks.token_classification.align",),
    properties=(
        Equals(
            "labels the first piece of each word, -100 on the rest",
            whole,
            "Compare each piece's word with the word of the piece before it.",
        ),
        Equals("works when the sentence was cut short", cut, "There are more labels than words."),
        Equals("works when a word has no piece", dropped, "The word's number finds its label."),
    ),
    hints=(
        "Walk over word_ids: what comes out is one number for each of them.",
        "Three cases: None (a special token), the same word as the piece before, a new word.",
        "For a new word the label is `labels[word]`; in the other two cases it is -100, which "
        "cross-entropy ignores.",
    ),
)


@exercise.stub
def align_labels(labels: list[int], word_ids: list[int | None]) -> list[int]:
    """One label for each word piece.

    labels: the label of each word. word_ids: for each piece the number of its word, None for
    [CLS], [SEP] and padding. The first piece of a word gets the word's label; everything else
    gets -100. A cut-off sentence has words without pieces; so may a word in the middle.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(labels: list[int], word_ids: list[int | None]) -> list[int]:
    aligned, previous = [], None
    for word in word_ids:
        aligned.append(-100 if word is None or word == previous else labels[word])
        previous = word
    return aligned


@exercise.reference
def by_first_place(labels: list[int], word_ids: list[int | None]) -> list[int]:
    aligned = [-100] * len(word_ids)
    for word in {word for word in word_ids if word is not None}:
        aligned[word_ids.index(word)] = labels[word]
    return aligned


@exercise.mistake(
    "Every piece got its word's label. The loss would count long words several times; only the "
    "first piece is labelled."
)
def every_piece(labels: list[int], word_ids: list[int | None]) -> list[int]:
    return [-100 if word is None else labels[word] for word in word_ids]


@exercise.mistake(
    "Pieces were compared by label, not by word: two neighbouring words may have the same label."
)
def compares_labels(labels: list[int], word_ids: list[int | None]) -> list[int]:
    aligned, previous = [], None
    for word in word_ids:
        label = None if word is None else labels[word]
        aligned.append(-100 if label is None or label == previous else label)
        previous = label
    return aligned


@exercise.mistake("Special tokens got a label: where word_ids is None, -100 is right.")
def labels_special_tokens(labels: list[int], word_ids: list[int | None]) -> list[int]:
    solved = solution(labels, word_ids)
    return [0 if word is None else label for word, label in zip(word_ids, solved, strict=True)]


@exercise.mistake("The last piece of each word was labelled; the first is asked for.")
def last_piece(labels: list[int], word_ids: list[int | None]) -> list[int]:
    following = [*word_ids[1:], None]
    pairs = zip(word_ids, following, strict=True)
    return [-100 if w is None or w == after else labels[w] for w, after in pairs]


@exercise.mistake("New words were counted (`next`, a counter): a word without pieces shifts all.")
def counts_words(labels: list[int], word_ids: list[int | None]) -> list[int]:
    remaining, aligned, previous = iter(labels), [], None
    for word in word_ids:
        aligned.append(-100 if word is None or word == previous else next(remaining))
        previous = word
    return aligned


@exercise.mistake("Padding with 0 trains the model on it: 0 is a label (mostly O), -100 is not.")
def zeros_for_the_rest(labels: list[int], word_ids: list[int | None]) -> list[int]:
    return [max(0, label) for label in solution(labels, word_ids)]

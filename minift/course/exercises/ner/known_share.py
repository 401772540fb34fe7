"""ner.known_share: how much of a test set does the training set give away?"""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals
from minift.data.bio import entities

Sentence = tuple[list[str], list[str]]
WORDS = {"PER": ("Ada", "Grace Hopper", "Alan Turing"), "LOC": ("Rome", "New York"), "O": ("in",)}
FORMS = ("<PER> lives in <LOC>", "<PER> left", "we met <PER> in <LOC>", "nobody left", "<LOC> is")


def sentence(text: str, *spans: tuple[str, int, int]) -> Sentence:
    """Words and tags, from the entities (type, start, end)."""
    words = text.split()
    tags = ["O"] * len(words)
    for kind, start, end in spans:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return words, tags


def filled(form: str, seed: int) -> Sentence:
    """A form with random entities in its places."""
    rng, words, tags = draw(seed), list[str](), list[str]()
    for word in form.split():
        kind = word.strip("<>") if word[0] == "<" else "O"
        new = rng.choice(WORDS[kind]).split() if kind != "O" else [word]
        words += new
        first, rest = ("O", "O") if kind == "O" else (f"B-{kind}", f"I-{kind}")
        tags += [first, *[rest] * (len(new) - 1)]
    return words, tags


ADA, GRACE = sentence("Ada left", ("PER", 0, 1)), sentence("Grace left", ("PER", 0, 1))
HOPPER = sentence("Grace Hopper left", ("PER", 0, 2))


def same_length() -> Iterator[Inputs]:
    yield {"train": [ADA], "test": [GRACE]}
    yield {"train": [ADA], "test": [GRACE, sentence("Grace came", ("PER", 0, 1))]}


def of_several_words() -> Iterator[Inputs]:
    yield {"train": [ADA], "test": [HOPPER]}
    yield {"train": [ADA], "test": [GRACE, HOPPER]}
    two = sentence("Ada Grace left", ("PER", 0, 1), ("PER", 1, 2))
    yield {"train": [HOPPER], "test": [two]}
    yield {"train": [two], "test": [HOPPER, ADA, two]}


def types() -> Iterator[Inputs]:
    yield {"train": [ADA], "test": [sentence("Rome left", ("LOC", 0, 1))]}
    yield {"train": [ADA], "test": [sentence("Ada left")]}


def repeated() -> Iterator[Inputs]:
    yield {"train": [ADA], "test": [GRACE, GRACE, sentence("no entity here")]}
    yield {"train": [sentence("no entity here")] * 3, "test": [sentence("no entity here"), ADA]}
    for seed in range(8):
        rng = draw(seed)
        train = [filled(rng.choice(FORMS[:4]), 10 * seed + i) for i in range(rng.randint(1, 5))]
        test = [filled(rng.choice(FORMS), 99 * seed + i) for i in range(rng.randint(1, 7))]
        yield {"train": train, "test": test}


def empty() -> Iterator[Inputs]:
    yield {"train": [], "test": [ADA]}
    yield {"train": [ADA], "test": []}


exercise = Exercise(
    "ner.known_share",
    "Measure: sentences that training gives away",
    properties=(
        Equals("finds a form in spite of another name in it", same_length, "Names do not count."),
        Equals("an entity is one place, however many words", of_several_words, "One <PER>."),
        Equals("forms with other types are others", types, "<PER> left is not <LOC> left."),
        Equals("counts every test sentence", repeated, "A share of sentences, not of forms."),
        Equals("an empty side gives 0", empty, "Nothing is given away, or nothing is asked."),
    ),
    hints=(
        "Write the form of one sentence first: its words, with the type in place of each entity.",
        "Go through words and tags together: O keeps the word, B-PER becomes <PER>, and I-PER "
        "adds nothing.",
        "Then `known = {form(s) for s in train}`, and the share of test sentences whose form is "
        "in it.",
    ),
)


@exercise.stub
def known_share(
    train: list[tuple[list[str], list[str]]], test: list[tuple[list[str], list[str]]]
) -> float:
    """The share of test sentences whose form occurs in training, from 0.0 to 1.0.

    A sentence is (words, tags), with tags O, B-TYPE and I-TYPE, every entity beginning with B-.
    Its form is the words, with <TYPE> in the place of each whole entity. No test sentence: 0.0.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    train: list[tuple[list[str], list[str]]], test: list[tuple[list[str], list[str]]]
) -> float:
    def form(words: list[str], tags: list[str]) -> tuple[str, ...]:
        pairs = [(w, t) for w, t in zip(words, tags, strict=True) if not t.startswith("I-")]
        return tuple(word if tag == "O" else f"<{tag[2:]}>" for word, tag in pairs)

    known = {form(*s) for s in train}
    return sum(form(*s) in known for s in test) / len(test) if test else 0.0


@exercise.reference
def by_spans(train: list[Sentence], test: list[Sentence]) -> float:
    counts = [any(_skeleton(*t) == _skeleton(*s) for t in train) for s in test]
    return counts.count(True) / max(1, len(counts))


def _skeleton(words: list[str], tags: list[str]) -> list[tuple[str, bool]]:
    parts = [(word, False) for word in words]
    for kind, start, end in reversed(entities(tags)):
        parts[start:end] = [(kind, True)]
    return parts


exercise.slip(
    "a_place_for_every_word",
    'if not t.startswith("I-")',
    "",
    "Each word of an entity got a place of its own: Ada and Grace Hopper both fill one <PER>.",
)
exercise.slip(
    "names_count",
    'word if tag == "O" else f"<{tag[2:]}>"',
    "word",
    "The entities' words were compared, too: then only the same names in the same form are known.",
)
exercise.slip(
    "one_place_for_all_types",
    'f"<{tag[2:]}>"',
    '"<ENTITY>"',
    "The type was lost: a person's place and a town's are different forms.",
)
exercise.slip(
    "share_of_forms",
    "sum(form(*s) in known for s in test) / len(test)",
    "len({form(*s) for s in test} & known) / len({form(*s) for s in test})",
    "That is the share of different forms: a sentence counts as often as the test set has it.",
)
exercise.slip(
    "share_of_training",
    "sum(form(*s) in known for s in test) / len(test)",
    "sum(form(*s) in {form(*t) for t in test} for s in train) / max(1, len(train))",
    "That is how much of training comes up in the test; asked is how much of the test was known.",
)
exercise.slip(
    "what_is_new",
    "form(*s) in known",
    "form(*s) not in known",
    "That is the share of forms that are new: one minus what is asked for.",
)

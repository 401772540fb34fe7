"""ner.entities: from BIO tags to spans."""

from collections.abc import Iterator

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import bio_tags
from minift.course.properties import Equals

Entity = tuple[str, int, int]


def single() -> Iterator[Inputs]:
    yield {"tags": ["O", "B-PER", "I-PER", "O"]}
    yield {"tags": ["B-LOC", "O", "B-PER", "O"]}
    yield {"tags": []}
    yield {"tags": ["O", "O"]}


def neighbours() -> Iterator[Inputs]:
    yield {"tags": ["B-PER", "B-PER", "O"]}
    yield {"tags": ["B-PER", "I-PER", "B-LOC", "O"]}


def last() -> Iterator[Inputs]:
    yield {"tags": ["O", "B-PER"]}
    yield {"tags": ["B-LOC", "I-LOC", "I-LOC"]}


def unopened() -> Iterator[Inputs]:
    yield {"tags": ["O", "I-PER", "O"]}
    yield {"tags": ["B-PER", "I-LOC", "O"]}
    yield {"tags": ["O", "I-PER", "I-PER", "I-LOC", "I-PER"]}


def mixed() -> Iterator[Inputs]:
    for seed in range(60):
        yield {"tags": bio_tags(seed % 15, ("PER", "LOC", "CREDIT-CARD"), seed)}


exercise = Exercise(
    "ner.entities",
    "From tags to entities",
    in_library=("minift.data.bio.entities",),
    properties=(
        Equals("finds entities with O around them", single, "B- starts, I- continues, O ends."),
        Equals("separates neighbours", neighbours, "A B- ends the entity before it."),
        Equals("finds an entity at the end", last, "The end of the sentence ends an entity too."),
        Equals("starts an entity at an I- with nothing to continue", unopened, "See the contract."),
        Equals("holds for random tags, types with a dash too", mixed, "Split at the first dash."),
    ),
    hints=(
        "Walk over the tags and keep one thing in mind: the entity that is open, if any (its type "
        "and where it began).",
        "An open entity of type X goes on only at the tag I-X. At any other tag it ends, before "
        "that tag.",
        "After that, if nothing is open and the tag is not O, an entity begins here. One more 'O' "
        "appended to the tags closes the last entity.",
    ),
)


@exercise.stub
def entities(tags: list[str]) -> list[tuple[str, int, int]]:
    """The entities that BIO tags mark, as (type, start, end), end exclusive, in order.

    B-X starts an entity of type X, I-X continues one, O is outside. A model may predict an I-X
    with no entity of type X to continue: it then starts one (the rule of the CoNLL script).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(tags: list[str]) -> list[tuple[str, int, int]]:
    found, kind, start = [], None, 0
    for position, tag in enumerate([*tags, "O"]):
        if kind is not None and tag != f"I-{kind}":
            found.append((kind, start, position))
            kind = None
        if kind is None and tag != "O":
            kind, start = tag[2:], position
    return found


@exercise.reference
def by_definition(tags: list[str]) -> list[Entity]:
    padded = ["O", *tags, "O"]
    types = [tag[2:] for tag in padded]
    starts = [
        i
        for i in range(1, len(padded))
        if padded[i][0] == "B" or (padded[i][0] == "I" and types[i] != types[i - 1])
    ]
    ends = [
        min(j for j in range(i + 1, len(padded)) if padded[j] != f"I-{types[i]}") for i in starts
    ]
    return [(types[i], i - 1, j - 1) for i, j in zip(starts, ends, strict=True)]


@exercise.mistake("The entity at the end of the sentence is lost: close what is still open.")
def loses_the_last(tags: list[str]) -> list[Entity]:
    return [entity for entity in solution(tags) if entity[2] < len(tags)]


@exercise.mistake("Neighbouring entities of one type became one: a B- always starts a new entity.")
def merges_neighbours(tags: list[str]) -> list[Entity]:
    return solution([tag.replace("B-", "I-", 1) for tag in tags])


@exercise.mistake("The end is one word too early: it is exclusive, the word after the last one.")
def inclusive_ends(tags: list[str]) -> list[Entity]:
    return [(kind, start, end - 1) for kind, start, end in solution(tags)]


@exercise.mistake("An I- with nothing to continue was dropped; here it starts an entity.")
def drops_unopened(tags: list[str]) -> list[Entity]:
    return [entity for entity in solution(tags) if tags[entity[1]][0] == "B"]


@exercise.mistake("The type of an I- was not looked at: I-LOC does not continue a PER.")
def ignores_the_type(tags: list[str]) -> list[Entity]:
    found, start = [], None
    for position, tag in enumerate([*tags, "O"]):
        if start is not None and tag[0] != "I":
            found.append((tags[start][2:], start, position))
            start = None
        if start is None and tag != "O":
            start = position
    return found


@exercise.mistake("`split('-')` breaks a type with a dash in it: split at the first dash only.")
def splits_every_dash(tags: list[str]) -> list[Entity]:
    return [(kind.split("-")[-1], start, end) for kind, start, end in solution(tags)]

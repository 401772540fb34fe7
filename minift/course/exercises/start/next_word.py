"""start.next_word: the smallest language model, one look back."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def plain() -> Iterator[Inputs]:
    yield {"words": ["a", "b", "a", "b", "a", "c"], "word": "a"}
    yield {"words": ["the", "cat", "saw", "the", "dog", "and", "the", "dog"], "word": "the"}
    for seed in range(20):
        words = draw(seed).choices("abcd", weights=(5, 3, 2, 1), k=40)
        followers = Counter(b for a, b in pairwise(words) if a == "a")
        (_, most), *others = followers.most_common()
        if not others or most > others[0][1]:
            yield {"words": words, "word": "a"}


def ties() -> Iterator[Inputs]:
    yield {"words": ["a", "c", "a", "b"], "word": "a"}
    yield {"words": ["x", "a", "x", "b", "x", "b", "x", "a"], "word": "x"}


def ends() -> Iterator[Inputs]:
    yield {"words": ["a", "b"], "word": "b"}
    yield {"words": ["a", "b"], "word": "z"}
    yield {"words": [], "word": "a"}


exercise = Exercise(
    "start.next_word",
    "A language model in a few lines",
    properties=(
        Equals("gives the word that followed most often", plain, "Count every follower once."),
        Equals("gives the earliest of equally frequent ones", ties, "Ties go to the earliest."),
        Equals("gives '' for a word that nothing follows", ends, "Nothing follows: return ''."),
    ),
    hints=(
        "`itertools.pairwise(words)` gives every word together with the one after it.",
        "`collections.Counter` counts; its `most_common(1)` keeps the order of first appearance "
        "among equals.",
        "When the counter is empty there is nothing to return but ''.",
    ),
)


@exercise.stub
def next_word(words: list[str], word: str) -> str:
    """The word that most often comes right after `word` in the text `words`.

    Among equally frequent ones the earliest in the text; '' if nothing ever follows `word`.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(words: list[str], word: str) -> str:
    followers = Counter(b for a, b in pairwise(words) if a == word)
    return followers.most_common(1)[0][0] if followers else ""


@exercise.reference
def by_definition(words: list[str], word: str) -> str:
    places = [i + 1 for i in range(len(words) - 1) if words[i] == word]
    found = [words[i] for i in places]
    return max(found, key=lambda w: (found.count(w), -found.index(w)), default="")


@exercise.mistake("The word before was counted, not the word after.")
def looks_back(words: list[str], word: str) -> str:
    before = Counter(a for a, b in pairwise(words) if b == word)
    return before.most_common(1)[0][0] if before else ""


@exercise.mistake("This is the most frequent word of the whole text: it ignores `word`.")
def ignores_the_word(words: list[str], word: str) -> str:
    return Counter(words).most_common(1)[0][0] if words else ""


@exercise.mistake("The last word has no follower: `words[i + 1]` runs past the end of the list.")
def runs_past_the_end(words: list[str], word: str) -> str:
    followers = Counter(words[i + 1] for i in range(len(words)) if words[i] == word)
    return followers.most_common(1)[0][0] if followers else ""


@exercise.mistake("Among equals the latest was taken; the earliest is asked for.")
def latest_of_equals(words: list[str], word: str) -> str:
    followers = Counter(b for a, b in pairwise(words) if a == word)
    return max(reversed(followers), key=followers.__getitem__, default="")


@exercise.mistake("A word that nothing follows has no most common follower: handle it first.")
def forgets_the_empty_case(words: list[str], word: str) -> str:
    followers = Counter(b for a, b in pairwise(words) if a == word)
    return followers.most_common(1)[0][0]

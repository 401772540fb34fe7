"""tokens.merge_once: one step of learning a vocabulary."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals


def clear() -> Iterator[Inputs]:
    yield {"words": [list("low"), list("lot"), list("let")]}
    yield {"words": [["Ġ", "t", "he"], ["Ġ", "t", "o"], ["t", "a"], ["Ġ", "t", "o"]]}


def borders() -> Iterator[Inputs]:
    yield {"words": [list("xy"), list("xy"), ["a"], ["b"], ["a"], ["b"], ["a"], ["b"]]}
    yield {"words": [list("xy"), list("zxy"), list("zxy"), list("z"), list("z")]}


def repeats() -> Iterator[Inputs]:
    yield {"words": [list("bananan")]}
    yield {"words": [list("aaa"), list("aaaa"), list("a")]}
    yield {"words": [list("haahaaa"), list("aab")]}


def ties() -> Iterator[Inputs]:
    yield {"words": [list("zy"), list("ab")]}
    yield {"words": [list("my"), list("ab"), list("zz")]}
    yield {"words": [list("cb"), list("ad"), list("bc")]}
    yield {"words": [list("cb"), list("ca"), list("ab"), list("aab")]}


def nothing() -> Iterator[Inputs]:
    yield {"words": [["a"], [], ["bc"]]}
    yield {"words": []}


def mixed() -> Iterator[Inputs]:
    for seed in range(40):
        rng = draw(seed)
        tokens = ["a", "b", "c", "ab", "bc"][: rng.randint(2, 5)]
        lengths = [rng.randint(0, 9) for _ in range(rng.randint(1, 12))]
        yield {"words": [rng.choices(tokens, k=length) for length in lengths]}


exercise = Exercise(
    "tokens.merge_once",
    "One step of learning",
    properties=(
        Equals("merges the most frequent pair in every word", clear, "Count over all words."),
        Equals("counts no pair across two words", borders, "A pair lies inside one word."),
        Equals("merges every occurrence, from the left", repeats, "aaa becomes aa, a."),
        Equals("breaks ties by the alphabet", ties, "Of equally frequent pairs, the smallest."),
        Equals("leaves words without a pair alone", nothing, "Nothing to merge: as it was."),
        Equals("holds for random words", mixed, "Compare with the contract once more."),
    ),
    hints=(
        "`itertools.pairwise(word)` gives the neighbours in one word; a `Counter` over all words "
        "counts them.",
        "`min(counts, key=lambda pair: (-counts[pair], pair))` is the most frequent pair and, "
        "among equals, the first in the alphabet.",
        "Walk through a word with an index: at the pair, append the merged token and go on by two; "
        "anywhere else append the token and go on by one.",
    ),
)


@exercise.stub
def merge_once(words: list[list[str]]) -> list[list[str]]:
    """The words after the most frequent pair of neighbours has become one token everywhere.

    words: lists of tokens. Pairs are counted inside words. Of equally frequent pairs, the one that
    is first in the alphabet (the smaller tuple). Occurrences are merged from the left and do not
    overlap. Without any pair the words stay as they are.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(words: list[list[str]]) -> list[list[str]]:
    counts = Counter(pair for word in words for pair in pairwise(word))
    best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
    merged = []
    for word in words:
        new, i = [], 0
        while i < len(word):
            step = 2 if tuple(word[i : i + 2]) == best else 1
            new.append("".join(word[i : i + step]))
            i += step
        merged.append(new)
    return merged


@exercise.reference
def by_definition(words: list[list[str]]) -> list[list[str]]:
    pairs = [(word[i], word[i + 1]) for word in words for i in range(len(word) - 1)]
    if not pairs:
        return words
    most = max(pairs.count(pair) for pair in pairs)
    left, right = sorted(pair for pair in pairs if pairs.count(pair) == most)[0]
    return [_merged(word, left, right) for word in words]


def _merged(word: list[str], left: str, right: str) -> list[str]:
    for i in range(len(word) - 1):
        if word[i] == left and word[i + 1] == right:
            return [*word[:i], left + right, *_merged(word[i + 2 :], left, right)]
    return word


exercise.slip(
    "across_words",
    "Counter(pair for word in words for pair in pairwise(word))",
    "Counter(pairwise([token for word in words for token in word]))",
    "The end of one word and the beginning of the next were counted as a pair.",
)
exercise.slip(
    "largest_of_equals",
    "min(counts, key=lambda pair: (-counts[pair], pair), default=None)",
    "max(counts, key=lambda pair: (counts[pair], pair), default=None)",
    "Among equally frequent pairs the last in the alphabet was taken; the first is asked for.",
)
exercise.slip(
    "first_seen_of_equals",
    "min(counts, key=lambda pair: (-counts[pair], pair), default=None)",
    "max(counts, key=lambda pair: counts[pair], default=None)",
    "Among equally frequent pairs the one met first was taken; the alphabet is to decide.",
)
exercise.slip(
    "no_default",
    ", default=None)",
    ")",
    "Without any pair there is no most frequent one: `min` of nothing raises.",
)
exercise.slip(
    "overlapping",
    "i += step",
    "i += 1",
    "A merged token used up two: go on behind both, or the second comes again.",
)


@exercise.mistake("Only the first occurrence in each word was merged: go on to its end.")
def first_occurrence_only(words: list[list[str]]) -> list[list[str]]:
    counts = Counter(pair for word in words for pair in pairwise(word))
    best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
    merged = []
    for word in words:
        places = [i for i, pair in enumerate(pairwise(word)) if pair == best][:1]
        merged.append(list(word))
        for i in places:
            merged[-1][i : i + 2] = ["".join(word[i : i + 2])]
    return merged


@exercise.mistake("Each word merged a pair of its own: one pair is chosen for all of them.")
def each_word_its_own(words: list[list[str]]) -> list[list[str]]:
    return [solution([word])[0] for word in words]

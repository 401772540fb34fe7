"""tokens.apply_merges: a word into tokens, by the order in which the merges were learnt."""

from collections.abc import Iterator
from itertools import pairwise

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import draw
from minift.course.properties import Equals

Ranks = dict[tuple[str, str], int]


def ranked(*merges: str) -> Ranks:
    """``"a b"``, ``"ab c"`` → their ranks 0, 1, …"""
    parts = [merge.split() for merge in merges]
    return {(left, right): rank for rank, (left, right) in enumerate(parts)}


LOW = ranked("l o", "lo w", "e r", "low er")


def simple() -> Iterator[Inputs]:
    yield {"word": "low", "ranks": LOW}
    yield {"word": "lower", "ranks": LOW}
    yield {"word": "slower", "ranks": LOW}


def order() -> Iterator[Inputs]:
    yield {"word": "abc", "ranks": ranked("b c", "a b")}
    yield {"word": "abc", "ranks": ranked("a b", "b c")}
    yield {"word": "abc", "ranks": ranked("b c", "a bc", "a b")}
    yield {"word": "there", "ranks": ranked("h e", "r e", "t h", "he re", "th e")}


def again() -> Iterator[Inputs]:
    yield {"word": "lolo", "ranks": LOW}
    yield {"word": "lowlow", "ranks": LOW}
    yield {"word": "aaaaa", "ranks": ranked("a a", "aa aa")}
    yield {"word": "abab", "ranks": ranked("a b", "ab ab")}


def unmerged() -> Iterator[Inputs]:
    yield {"word": "xyz", "ranks": LOW}
    yield {"word": "", "ranks": LOW}
    yield {"word": "a", "ranks": {}}


def learnt() -> Iterator[Inputs]:
    for seed in range(40):
        rng = draw(seed)
        tokens, merges = list("abc"), dict[tuple[str, str], int]()
        for _ in range(rng.randint(0, 12)):
            pair = (rng.choice(tokens), rng.choice(tokens))
            if pair[0] + pair[1] not in tokens:
                merges[pair] = len(merges)
                tokens.append(pair[0] + pair[1])
        yield {"word": "".join(rng.choices("abc", k=rng.randint(0, 14))), "ranks": merges}


exercise = Exercise(
    "tokens.apply_merges",
    "A word into tokens",
    properties=(
        Equals("merges what was learnt", simple, "Start from single characters."),
        Equals("the merge that was learnt first comes first", order, "Look for the lowest rank."),
        Equals("merges again and again, from the left", again, "Until no neighbours have a rank."),
        Equals("leaves the rest as characters", unmerged, "No rank: no merge."),
        Equals("holds for random merges", learnt, "Compare with the contract once more."),
    ),
    hints=(
        "Begin with `tokens = list(word)`. Each step merges two neighbours; stop when none of them "
        "has a rank.",
        "`ranks.get(pair, infinity)` makes pairs without a rank last; `min` over the positions "
        "finds the best, and the leftmost of equals.",
        "`tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]` merges at position i.",
    ),
)


@exercise.stub
def apply_merges(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """The tokens of a word: characters, of which neighbours are merged as long as it goes.

    ranks: pair of tokens -> the number of the merge, 0 for the one that was learnt first. At each
    step the pair with the lowest rank is merged; of several such pairs, the leftmost.
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    tokens = list(word)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in ranks]
        if not found:
            return tokens
        _, i = min(found)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]


@exercise.reference
def one_rule_after_the_other(word: str, ranks: Ranks) -> list[str]:
    tokens = list(word)
    for left, right in sorted(ranks, key=lambda pair: ranks[pair]):
        result: list[str] = []
        for token in tokens:
            if result and result[-1] == left and token == right:
                result[-1] = left + right
            else:
                result.append(token)
        tokens = result
    return tokens


exercise.slip(
    "leftmost_first",
    "_, i = min(found)",
    "i = found[0][1]",
    "The leftmost pair was merged, whatever its rank: the order of learning decides.",
)
exercise.slip(
    "latest_first",
    "min(found)",
    "max(found)",
    "The merge that was learnt last came first: the lowest rank is wanted.",
)


@exercise.mistake(
    "The longest piece that is a token was cut off from the left. That is how WordPiece works; BPE "
    "merges pairs by rank."
)
def longest_piece(word: str, ranks: Ranks) -> list[str]:
    known = {left + right for left, right in ranks}
    tokens, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        end = next(e for e in ends if word[start:e] in known or e == start + 1)
        tokens.append(word[start:end])
        start = end
    return tokens


@exercise.mistake("Only one merge was made: repeat until no two neighbours have a rank.")
def one_step(word: str, ranks: Ranks) -> list[str]:
    tokens = list(word)
    found = [(ranks[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in ranks]
    for _, i in sorted(found)[:1]:
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


@exercise.mistake("Each merge was made in one place only, although the word has its pair again.")
def each_rule_once(word: str, ranks: Ranks) -> list[str]:
    tokens = list(word)
    for left, right in sorted(ranks, key=lambda pair: ranks[pair]):
        for i, pair in enumerate(pairwise(tokens)):
            if pair == (left, right):
                tokens[i : i + 2] = [left + right]
                break
    return tokens

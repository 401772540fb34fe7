"""What a tagger must beat: taggers that read no context."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from minift.data.bio import Entity, entities, tags_of
from minift.data.conll import Sentence


def majority(train: Sequence[Sentence], sentences: Sequence[Sentence]) -> list[list[str]]:
    """Every word gets the tag that is most frequent in training (``O``, as a rule)."""
    counts = Counter(tag for sentence in train for tag in sentence.tags)
    tag = counts.most_common(1)[0][0]
    return [[tag] * len(sentence.words) for sentence in sentences]


class Dictionary:
    """Looks up what it saw labelled in training; the longest match from the left wins.

    A word sequence that had several labels keeps the most frequent one, ``O`` included: a word
    that is mostly no entity is not marked.
    """

    def __init__(self, train: Sequence[Sentence]) -> None:
        votes: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sentence in train:
            for type_, start, end in entities(sentence.tags):
                votes[_key(sentence.words[start:end])][type_] += 1
            for word, tag in zip(sentence.words, sentence.tags, strict=True):
                if tag == "O":
                    votes[_key([word])]["O"] += 1
        chosen = {words: counts.most_common(1)[0][0] for words, counts in votes.items()}
        self.types = {words: type_ for words, type_ in chosen.items() if type_ != "O"}
        self.longest = max((len(words) for words in self.types), default=1)

    def tag(self, words: Sequence[str]) -> list[str]:
        """BIO tags of one sentence."""
        found, position = [], 0
        while position < len(words):
            match = self._match(words, position)
            if match:
                found.append(match)
            position = match.end if match else position + 1
        return tags_of(found, len(words))

    def _match(self, words: Sequence[str], start: int) -> Entity | None:
        for end in range(min(len(words), start + self.longest), start, -1):
            type_ = self.types.get(_key(words[start:end]))
            if type_:
                return Entity(type_, start, end)
        return None


def _key(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word.lower() for word in words)

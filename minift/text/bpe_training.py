"""Learning the merges: again and again the most frequent pair of neighbours becomes a token.

Sennrich et al. (2016), section 3.2. Hugging Face: ``tokenizers.trainers.BpeTrainer`` with
``initial_alphabet=ByteLevel.alphabet()``, which learns the same merges from the same text.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

from minift.errors import InputError
from minift.text.added_tokens import AddedToken
from minift.text.bpe_split import Splitter
from minift.text.bpe_tokenizer import BPEConfig, BPETokenizer
from minift.text.byte_level import ALPHABET, to_characters
from minift.text.checks import check_text

Pair = tuple[int, int]


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special_tokens: Sequence[str] = ("<|endoftext|>",),
    min_frequency: int = 0,
    split_digits: bool = False,
) -> BPETokenizer:
    """A byte-level BPE tokenizer learnt from texts.

    Ids: the special tokens, the 256 bytes, then one token a merge.

    Args:
        texts: what to learn from; a merge never crosses the end of a text.
        vocab_size: at most this many tokens; fewer, if no pair is left to merge.
        special_tokens: stand outside the merges; the first is the end-of-text token.
        min_frequency: a pair must occur so often to be merged.
        split_digits: no merge joins digits.

    Raises:
        InputError: no room for the special tokens and the 256 bytes; a text that is none.
    """
    if isinstance(texts, str):
        raise InputError("texts: a str given; right would be a list or an iterator of texts")
    symbols = list(dict.fromkeys([*special_tokens, *ALPHABET]))
    if type(vocab_size) is not int or vocab_size < len(symbols):
        raise InputError(f"vocab_size: {vocab_size!r}; right would be {len(symbols)} or more")
    vocab = {token: id_ for id_, token in enumerate(symbols)}
    merges = learn_merges(count_words(texts, split_digits), vocab, vocab_size, min_frequency)
    end = special_tokens[0] if special_tokens else None
    config = BPEConfig(
        split_digits=split_digits,
        bos_token=end,
        eos_token=end,
        unk_token=end,
        added_tokens=tuple(AddedToken(token, vocab[token]) for token in special_tokens),
    )
    return BPETokenizer(vocab, merges, config)


def count_words(texts: Iterable[str], split_digits: bool = False) -> Counter[str]:
    """How often each word occurs; words are written in the characters of ``byte_level``."""
    split = Splitter(split_digits)
    words: Counter[str] = Counter()
    for text in texts:
        check_text(text)
        words.update(split(text))
    return Counter({to_characters(word): count for word, count in words.items()})


def learn_merges(
    words: Counter[str], vocab: dict[str, int], vocab_size: int, min_frequency: int = 0
) -> list[tuple[str, str]]:
    """The merges in the order in which they are learnt; ``vocab`` grows by their tokens.

    Of equally frequent pairs, the one with the smaller ids comes first. A merge can give a token
    that is there already (a special one); it keeps its id.
    """
    tokens = sorted(vocab, key=lambda token: vocab[token])
    merges: list[tuple[str, str]] = []
    counts = PairCounts([[vocab[c] for c in word] for word in words], list(words.values()))
    for left, right in counts.most_frequent(max(1, min_frequency)):
        if len(tokens) >= vocab_size:
            break
        merged = tokens[left] + tokens[right]
        if merged not in vocab:
            vocab[merged] = len(tokens)
            tokens.append(merged)
        merges.append((tokens[left], tokens[right]))
        counts.merge((left, right), vocab[merged])
    return merges


class PairCounts:
    """Words as lists of ids, and how often each pair of neighbours occurs in them.

    Counting everything again after each merge would take hours. A merge changes only the words
    that hold its pair, and in them only the pairs beside it, so for every pair the words that may
    hold it are remembered, and the candidates wait in a heap. An entry whose count is no longer
    right when its turn comes goes back with the right one.
    """

    def __init__(self, words: list[list[int]], frequencies: list[int]) -> None:
        self._words, self._frequencies = words, frequencies
        self._counts: Counter[Pair] = Counter()
        holders: dict[Pair, set[int]] = defaultdict(set)
        for i, word in enumerate(words):
            for pair in pairwise(word):
                self._counts[pair] += frequencies[i]
                holders[pair].add(i)
        self._queue = [(-self._counts[pair], pair, list(held)) for pair, held in holders.items()]
        heapify(self._queue)
        self._holders: list[int] = []

    def most_frequent(self, at_least: int) -> Iterator[Pair]:
        """The most frequent pair, again and again; the caller merges each before the next."""
        while self._queue:
            count, pair, self._holders = heappop(self._queue)
            if -count != self._counts[pair]:
                heappush(self._queue, (-self._counts[pair], pair, self._holders))
                continue
            if -count < at_least:
                return
            yield pair

    def merge(self, pair: Pair, merged: int) -> None:
        """Replace the pair that ``most_frequent`` gave last by one id, in all its words."""
        holders: dict[Pair, set[int]] = defaultdict(set)
        for i in self._holders:
            self._words[i], changes = merge_pair(self._words[i], pair, merged)
            for changed, by in changes:
                self._counts[changed] += by * self._frequencies[i]
                if by > 0:
                    holders[changed].add(i)
        for new, held in holders.items():
            heappush(self._queue, (-self._counts[new], new, list(held)))


def merge_pair(
    word: list[int], pair: Pair, merged: int
) -> tuple[list[int], list[tuple[Pair, int]]]:
    """The word with every ``pair`` replaced, from the left, and how the counts beside it change."""
    left, right = pair
    result: list[int] = []
    changes: list[tuple[Pair, int]] = []
    i, last = 0, len(word) - 1
    while i <= last:
        if word[i] != left or i == last or word[i + 1] != right:
            result.append(word[i])
            i += 1
            continue
        if result:
            changes += [((result[-1], left), -1), ((result[-1], merged), 1)]
        if i + 2 <= last:
            changes += [((right, word[i + 2]), -1), ((merged, word[i + 2]), 1)]
        result.append(merged)
        i += 2
    return result, changes

"""Byte-pair encoding: neighbours are merged, the pair that was learnt first before all others.

Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units" (2016), section 3.2.
Hugging Face: ``tokenizers.models.BPE``.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import pairwise

from minift.errors import InputError

GONE = -1  # in the place of a token that was merged into the one before it


class BPE:
    """The merge rules of a vocabulary, applied to the ids of one word.

    Args:
        vocab: token → id.
        merges: pairs of tokens, in the order in which they were learnt.

    Raises:
        InputError: a merge of tokens, or to a token, that the vocabulary lacks.
    """

    def __init__(self, vocab: dict[str, int], merges: Iterable[tuple[str, str]]) -> None:
        self.rules: dict[tuple[int, int], tuple[int, int]] = {}  # pair of ids → (rank, merged id)
        for rank, (left, right) in enumerate(merges):
            try:
                pair = vocab[left], vocab[right]
                self.rules[pair] = rank, vocab[left + right]
            except KeyError as missing:
                raise InputError(
                    f"merge {rank + 1}, {left} {right}: the vocabulary lacks {missing}"
                ) from None

    def __call__(self, ids: Iterable[int]) -> list[int]:
        """Merge until no two neighbours are a pair of the rules; of equal ranks, leftmost first.

        The candidates wait in a heap, so n ids take O(n log n) steps. A merge leaves candidates
        behind whose tokens are gone; they are recognised when their turn comes.
        """
        ids = list(ids)
        n = len(ids)
        before, after = list(range(-1, n - 1)), list(range(1, n + 1))  # neighbours still there
        rules = self.rules
        queue = [(*rules[p], i) for i, p in enumerate(pairwise(ids)) if p in rules]
        heapify(queue)
        while queue:
            _, merged, left = heappop(queue)
            right = after[left]
            if right == n or rules.get((ids[left], ids[right]), (0, GONE))[1] != merged:
                continue
            ids[left], ids[right] = merged, GONE
            follower = after[left] = after[right]
            if follower < n:
                before[follower] = left
                if rule := rules.get((merged, ids[follower])):
                    heappush(queue, (*rule, left))
            if (previous := before[left]) >= 0 and (rule := rules.get((ids[previous], merged))):
                heappush(queue, (*rule, previous))
        return [id_ for id_ in ids if id_ != GONE]

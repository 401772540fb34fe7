"""bert.mask_words: what BERT has to guess, and what it sees instead."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.course.exercise import Exercise, Inputs
from minift.course.inputs import counting, seeded
from minift.course.properties import Equals

MASK, VOCAB = 103, 1000


def hidden() -> Iterator[Inputs]:
    ids = counting(1, 4, start=201).long()
    zeros = torch.zeros(1, 4).long()
    yield _inputs(ids, ids > 0, torch.tensor([[10, 50, 14, 15]]), zeros, zeros + 7)
    yield _inputs(ids, ids > 0, torch.tensor([[0, 90, 20, 13]]), zeros, zeros + 7)


def special() -> Iterator[Inputs]:
    ids = torch.tensor([[101, 205, 206, 102, 0, 0]])
    words = torch.tensor([[0, 1, 1, 0, 0, 0]]).bool()
    zeros = torch.zeros(1, 6).long()
    yield _inputs(ids, words, zeros, zeros, zeros + 7)


def fates() -> Iterator[Inputs]:
    ids = counting(1, 6, start=201).long()
    fate = torch.tensor([[0, 79, 80, 89, 90, 99]])
    yield _inputs(ids, ids > 0, torch.zeros(1, 6).long(), fate, counting(1, 6, start=7).long())


def random() -> Iterator[Inputs]:
    for seed, (b, t) in enumerate([(1, 9), (3, 50), (4, 33)]):
        generator = torch.Generator().manual_seed(seeded(seed))
        ids, other = torch.randint(104, VOCAB, (2, b, t), generator=generator)
        choice, fate, odd = torch.randint(100, (3, b, t), generator=generator)
        yield _inputs(ids, odd < 90, choice, fate, other)


def _inputs(ids: Tensor, words: Tensor, choice: Tensor, fate: Tensor, other: Tensor) -> Inputs:
    return {"ids": ids, "words": words, "choice": choice, "fate": fate, "other": other}


exercise = Exercise(
    "bert.mask_words",
    "Hiding words",
    properties=(
        Equals("hides where choice is below 15", hidden, "Below 15, not up to it."),
        Equals("never hides a special token", special, "`words` is False for [CLS], [SEP], [PAD]."),
        Equals(
            "decides by fate what is seen", fates, "Below 80: [MASK]; below 90: other; else id."
        ),
        Equals("is right on random batches", random, "Labels keep the word, whatever is seen."),
    ),
    hints=(
        "First one mask of True and False: `guess = words & (choice < 15)`.",
        "`torch.where(guess, ids, -100)` are the labels: the word where it has to be guessed.",
        "Then the ids: start from `ids`, put 103 where `guess & (fate < 80)`, and `other` where "
        "guess holds and fate is from 80 to 89.",
    ),
)


@exercise.stub
def mask_words(
    ids: Tensor, words: Tensor, choice: Tensor, fate: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """What BERT sees, and what it has to guess (the labels).

    A word has to be guessed where `words` is True and `choice` is below 15. There BERT sees
    [MASK] (103) if `fate` is below 80, the random token `other` if it is from 80 to 89, and the
    word itself otherwise. Labels: the word where it has to be guessed, -100 elsewhere.
    All five: (B, T); words is bool, the others int64, choice and fate from 0 to 99. Returns
    (seen, labels), new tensors of shape (B, T).
    """
    raise NotImplementedError  # your code goes here


@exercise.solution
def solution(
    ids: Tensor, words: Tensor, choice: Tensor, fate: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    guess = words & (choice < 15)
    labels = torch.where(guess, ids, -100)
    seen = torch.where(guess & (fate < 90), other, ids)
    seen = torch.where(guess & (fate < 80), 103, seen)
    return seen, labels


@exercise.reference
def one_at_a_time(
    ids: Tensor, words: Tensor, choice: Tensor, fate: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    seen, labels = ids.clone(), torch.full_like(ids, -100)
    for place in words.nonzero().tolist():
        b, t = place
        if choice[b, t] >= 15:
            continue
        labels[b, t] = ids[b, t]
        if fate[b, t] < 80:
            seen[b, t] = MASK
        elif fate[b, t] < 90:
            seen[b, t] = other[b, t]
    return seen, labels


exercise.slip(
    "labels_of_what_is_seen",
    "    return seen, labels",
    "    return seen, torch.where(guess, seen, -100)",
    "The labels are what BERT sees there; they have to be the words that were hidden.",
)
exercise.slip(
    "everything_is_a_label",
    "labels = torch.where(guess, ids, -100)",
    "labels = ids",
    "Every word has a label: only those that have to be guessed count, the others are -100.",
)
exercise.slip(
    "only_masks_are_guessed",
    "torch.where(guess, ids, -100)",
    "torch.where(guess & (fate < 80), ids, -100)",
    "Only words under a [MASK] have a label; the other two tenths have to be guessed, too.",
)
exercise.slip(
    "special_tokens_too",
    "words & (choice < 15)",
    "choice < 0.15",
    "[CLS], [SEP] or padding was hidden: only where `words` is True.",
)
exercise.slip(
    "always_a_mask",
    "guess & (fate < 80), 103, seen",
    "guess, 103, seen",
    "Every hidden word became [MASK]; a tenth becomes another token, and a tenth stays.",
)
exercise.slip(
    "other_and_same_exchanged",
    "guess & (fate < 90), other",
    "guess & (fate >= 90), other",
    "Other token and unchanged word are exchanged: `other` is for 80 to 89.",
)

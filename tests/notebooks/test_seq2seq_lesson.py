"""What 1-transformer/09_encoder_decoder defines for itself is what it says, and its exercises'
oracles are right.

The definitions are taken from the notebook's source as they stand there. Each is broken here once,
to see that the test would notice.
"""

import functools
import itertools
import random

import pytest
import torch
from transformers.models.bart.modeling_bart import shift_tokens_right
from transformers.models.t5.modeling_t5 import T5Attention

from minift.course import find
from minift.course.inputs import normal
from minift.course.lessons.notebooks import SOURCES, read_source
from minift.layers.attention import attention
from minift.layers.mask import padding_mask
from minift.layers.relative import RelativeBias
from minift.models.transformer import Transformer, TransformerConfig

LESSON = SOURCES / "1-transformer" / "09_encoder_decoder.py"
STARTS = ("MONTHS =", "def in_words", "def as_source", "SPECIAL =", "def dates", "def origin")


@functools.cache
def cells():
    return [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]


def lesson(old="", new=""):
    """The names that the notebook's cells on the task define, with one piece of text exchanged."""
    names = {"torch": torch, "nn": torch.nn, "random": random, "Tensor": torch.Tensor}
    text = "\n".join(next(c for c in cells() if start in c) for start in STARTS)
    assert old in text
    exec(text.replace(old, new), names)
    return names


def is_unambiguous(names):
    """No two dates have one source, in whatever form."""
    years = [*range(1910, 2000), *range(2010, 2100)]
    seen = {}
    for y, m, d, form in itertools.product(years, (3, 5), range(1, 29), range(3)):
        words = tuple(names["as_source"](y, m, d, form))
        if seen.setdefault(words, (y, m, d)) != (y, m, d):
            return False
    return len(seen) == len(years) * 2 * 28 * 3


def keeps_unseen_dates_apart(names):
    pools = [
        {target for _, target in names["dates"](400, random.Random(0), unseen)}
        for unseen in (False, True)
    ]
    return not pools[0] & pools[1] and min(map(len, pools)) > 350


def batches_end_with_2(names):
    pairs = [(["march", "on"], "1-2"), (["the"], "19-0"), (["in", "of", "five"], "7")]
    ids, mask, labels = names["batch"](pairs)
    id_of = names["id_of"]
    wanted = [[id_of[c] for c in t] + [2] + [-100] * (4 - len(t)) for _, t in pairs]
    read = [[id_of[w] for w in s] + [0] * (3 - len(s)) for s, _ in pairs]
    lengths = [len(s) for s, _ in pairs]
    return labels.tolist() == wanted and ids.tolist() == read and mask.sum(1).tolist() == lengths


def origins_say_the_digit(names):
    """The word that a digit is said to come from is the one with that value."""
    words = names["MONTHS"].split(), names["FIRST"].split()
    for source, target in names["dates"](300, random.Random(0)):
        month, day, year = (source[names["origin"](source, place)] for place in (6, 9, 3))
        ones = [*names["ONES"].split()]
        value = ones.index(year) + 1 if year in ones else 0
        if words[0].index(month) + 1 != int(target[5:7]):
            return False
        if (words[1].index(day) + 1) % 10 != int(target[9]) or value % 10 != int(target[3]):
            return False
    return True


CHECKS = {
    is_unambiguous: ("m, d = MONTHS.split()[month - 1], in_words(day, FIRST)",
                     "m, d = MONTHS.split()[month - 1], in_words(day, FIRST)[-1:]"),
    keeps_unseen_dates_apart: ("== unseen", ">= unseen"),
    batches_end_with_2: ("padding_value=-100", "padding_value=0"),
    origins_say_the_digit: ("source.index(\"on\") - 1", "source.index(\"on\")"),
}  # fmt: skip


@pytest.mark.parametrize("holds", CHECKS)
def test_the_task_is_what_the_notebook_says(holds):
    assert holds(lesson())
    old, new = CHECKS[holds]
    try:
        assert not holds(lesson(old, new))
    except ValueError:  # a word that says nothing of the kind
        assert holds is origins_say_the_digit


def test_buckets_are_hugging_faces_and_the_librarys():
    exercise = find("seq2seq.relative_bucket")
    for buckets, far in ((32, 128), (16, 20), (8, 50), (12, 33)):
        distances = torch.arange(-200, 201)
        theirs = T5Attention._relative_position_bucket(distances, True, buckets, far)
        ours = RelativeBias(buckets, far, 1, bidirectional=True).buckets(distances)
        assert torch.equal(ours, theirs)
        for answer in (exercise.oracle, exercise.answer):
            assert [answer(d, buckets, far) for d in distances.tolist()] == theirs.tolist()


@pytest.mark.parametrize("pad", [0, 3])
def test_the_shift_is_hugging_faces_and_the_librarys(pad):
    labels = torch.tensor([[5, 7, 2, -100], [-100, 6, 2, -100], [4, 4, 4, 2]])
    wanted = find("seq2seq.shift_right").oracle(labels, 1, pad)
    assert torch.equal(wanted, shift_tokens_right(labels, pad, 1))
    ours = Transformer(TransformerConfig(9, 4, 1, 1, 1, 4, pad_token_id=pad))
    assert torch.equal(wanted, ours.shifted(labels))


def test_cross_attention_is_the_librarys():
    q, k, v = normal(3, 4, 6, seed=0), normal(3, 5, 6, seed=1), normal(3, 5, 6, seed=2)
    real = torch.arange(5) < torch.tensor([[5], [1], [3]])
    wanted = find("seq2seq.mend_cross").oracle(q, k, v, real)
    heads = (x[:, None] for x in (q, k, v))
    ours = attention(*heads, mask=padding_mask(real.long()))[:, 0]
    assert torch.allclose(ours.double(), wanted, rtol=0, atol=2e-6)

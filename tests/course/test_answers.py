"""Answers written here, apart from the exercises: right ones pass, wrong ones are recognised.

The audit proves that each seeded wrong answer is caught. These prove that a learner who makes the
same mistake in other words is told the same, and that no right answer is refused.
"""

import math

import pytest
import torch

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from minift.course import examine
from minift.course.exercise import plain

INF = float("inf")


# ---- right answers in other words


def scores_einsum(q, k):
    return torch.einsum("bhmd,bhnd->bhmn", q, k) / math.sqrt(q.shape[-1])


def scores_scaled_first(query, key):
    return (query * query.size(-1) ** -0.5) @ key.mT


def scores_in_loops(q, k):
    rows = [(q[:, :, i : i + 1] * k).sum(-1) for i in range(q.shape[2])]
    return torch.stack(rows, dim=2) / q.shape[-1] ** 0.5


def mask_by_positions(queries, keys):
    return torch.arange(keys)[None] <= torch.arange(keys - queries, keys)[:, None]


def mask_cut_from_the_square(m, n):
    return torch.tril(torch.ones(n, n)).bool()[n - m :]


def softmax_of_torch(scores):
    dead = (scores == -INF).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(dead, 0.0), -1).masked_fill(dead, 0.0)


def softmax_by_logsumexp(scores):
    total = torch.logsumexp(scores, -1, keepdim=True)
    return torch.exp(scores - total.masked_fill(total == -INF, 0.0))


def softmax_clamped(scores):
    largest = scores.max(-1, keepdim=True).values.clamp(min=torch.finfo(scores.dtype).min)
    weights = torch.exp(scores - largest)
    return weights / weights.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def heads_by_view(x, num_heads):
    batch, length, width = x.shape
    return x.view(batch, length, num_heads, width // num_heads).permute(0, 2, 1, 3)


def heads_by_chunks(x, num_heads):
    return torch.stack(torch.chunk(x, num_heads, dim=2), dim=1)


def labels_by_a_set(labels, word_ids):
    seen = {None}
    return [-100 if w in seen or seen.add(w) else labels[w] for w in word_ids]


def labels_by_index(labels, word_ids):
    return [
        labels[w] if w is not None and i == word_ids.index(w) else -100
        for i, w in enumerate(word_ids)
    ]


def entities_backwards(tags):
    found, end = [], len(tags)
    for i in range(len(tags) - 1, -1, -1):
        kind = tags[i][2:]
        opens = i == 0 or tags[i][0] == "B" or tags[i - 1][2:] != kind
        if tags[i] != "O" and opens:
            found.append((kind, i, end))
        if tags[i] == "O" or opens:
            end = i
    return found[::-1]


def f1_by_counting(gold, predicted):
    hits = misses = extras = 0
    for g, p in zip(gold, predicted, strict=True):
        hits += sum(entity in g for entity in p)
        extras += sum(entity not in g for entity in p)
        misses += sum(entity not in p for entity in g)
    precision = hits / max(1, hits + extras)
    recall = hits / max(1, hits + misses)
    return precision, recall, 2 * hits / max(1, 2 * hits + extras + misses)


def next_by_dictionary(words, word):
    counts = {}
    for i in range(len(words) - 1):
        if words[i] == word:
            counts[words[i + 1]] = counts.get(words[i + 1], 0) + 1
    return max(counts, key=counts.get) if counts else ""


@triton.jit
def add_with_branch(a, b, c, size, BLOCK: tl.constexpr):
    start = tl.program_id(axis=0) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= size:
        tl.store(c + i, tl.load(a + i) + tl.load(b + i))
    else:
        inside = i < size
        x, y = tl.load(a + i, mask=inside, other=0.0), tl.load(b + i, mask=inside, other=0.0)
        tl.store(c + i, x + y, mask=inside)


@triton.jit
def adamw_reordered(
    p_ptr, g_ptr, m_ptr, v_ptr, n, lr, b1, b2, eps, decay, c1, c2, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < n
    g = tl.load(g_ptr + i, mask=inside, other=0.0)
    m = tl.load(m_ptr + i, mask=inside, other=0.0)
    v = tl.load(v_ptr + i, mask=inside, other=0.0)
    m += (1 - b1) * (g - m)
    v += (1 - b2) * (g * g - v)
    tl.store(m_ptr + i, m, mask=inside)
    tl.store(v_ptr + i, v, mask=inside)
    p = tl.load(p_ptr + i, mask=inside, other=0.0) * (1 - lr * decay)
    tl.store(p_ptr + i, p - (lr / c1) * m / (tl.sqrt(v) / tl.sqrt(c2) + eps), mask=inside)


def named(value):
    """A test id that is the same in every worker process."""
    return value if isinstance(value, str) else plain(value).__name__


RIGHT = {
    "attention.scores": [scores_einsum, scores_scaled_first, scores_in_loops],
    "attention.causal_mask": [mask_by_positions, mask_cut_from_the_square],
    "attention.softmax": [softmax_of_torch, softmax_clamped],
    "attention.split_heads": [heads_by_view, heads_by_chunks],
    "ner.align_labels": [labels_by_a_set, labels_by_index],
    "ner.entities": [entities_backwards],
    "ner.f1": [f1_by_counting],
    "start.next_word": [next_by_dictionary],
    "kernels.vector_add": [add_with_branch],
    "kernels.adamw_step": [adamw_reordered],
}


@pytest.mark.parametrize(
    ("name", "fn"), [(name, fn) for name, fns in RIGHT.items() for fn in fns], ids=named
)
def test_a_right_answer_passes_however_it_is_written(name, fn):
    outcome = examine(name, fn)
    assert outcome.state == "right", str(outcome)
    assert outcome.verified


# ---- wrong answers in other words, and a part of the sentence that each is to be told


def scores_without_scale(a, b):
    return torch.matmul(a, b.mT)


def scores_over_heads(q, k):
    return torch.matmul(q, k.mT) / q.shape[1] ** 0.5


def mask_of_pytorch(m, n):
    return torch.arange(n)[None, :] <= torch.arange(m)[:, None]


def mask_hiding_oneself(m, n):
    return torch.arange(n)[None, :] < torch.arange(n - m, n)[:, None]


def mask_inverted(m, n):
    return ~mask_by_positions(m, n)


def mask_of_floats(m, n):
    return mask_by_positions(m, n).float()


def softmax_naive(scores):
    return torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)


def softmax_pytorch(scores):
    return torch.softmax(scores, dim=-1)


def softmax_of_columns(scores):
    return softmax_of_torch(scores.transpose(0, -1)).transpose(0, -1)


def softmax_hiding_nan(scores):
    return torch.softmax(scores, dim=-1).nan_to_num(0.0)


def softmax_in_place(scores):
    scores -= scores.amax(-1, keepdim=True).clamp(min=-3e38)
    return scores.exp() / scores.exp().sum(-1, keepdim=True).clamp(min=1e-30)


def heads_reshaped(x, num_heads):
    b, t, c = x.shape
    return x.contiguous().view(b, num_heads, t, c // num_heads)


def heads_left_behind(x, num_heads):
    return torch.stack(x.chunk(num_heads, dim=-1), dim=2)


def labels_repeated(labels, word_ids):
    return [labels[w] if w is not None else -100 for w in word_ids]


def labels_zeroed(labels, word_ids):
    return [0 if x == -100 else x for x in labels_by_index(labels, word_ids)]


def entities_unclosed(tags):
    found, kind, start = [], "", 0
    for i, tag in enumerate(tags):
        if kind and tag != "I-" + kind:
            found.append((kind, start, i))
            kind = ""
        if not kind and tag != "O":
            kind, start = tag[2:], i
    return found


def entities_strict(tags):
    return [e for e in entities_backwards(tags) if tags[e[1]].startswith("B-")]


def entities_reversed(tags):
    return entities_backwards(tags)[::-1]


def f1_averaged(gold, predicted):
    rows = [f1_by_counting([g], [p]) for g, p in zip(gold, predicted, strict=True)]
    return tuple(sum(r[i] for r in rows) / max(1, len(rows)) for i in range(3))


def f1_arithmetic(gold, predicted):
    p, r, _ = f1_by_counting(gold, predicted)
    return p, r, (p + r) / 2


def f1_crashing(gold, predicted):
    hits = sum(len(set(g) & set(p)) for g, p in zip(gold, predicted, strict=True))
    p, r = hits / sum(len(x) for x in predicted), hits / sum(len(x) for x in gold)
    return p, r, 2 / (1 / p + 1 / r)


def looked_back(words, word):
    before = [words[i - 1] for i in range(1, len(words)) if words[i] == word]
    return max(before, key=before.count) if before else ""


def next_overrunning(words, word):
    found = []
    for i, w in enumerate(words):
        if w == word:
            found.append(words[i + 1])
    return max(found, key=found.count) if found else ""


@triton.jit
def add_unmasked(a, b, c, size, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(c + i, tl.load(a + i) + tl.load(b + i))


@triton.jit
def add_in_one_place(a, b, c, size, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(c + i, tl.load(a + i, i < size) + tl.load(b + i, i < size), i < size)


@triton.jit
def add_reading_twice(a, b, c, size, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(a + i, i < size) + tl.load(b + i, i < size)
    tl.store(c + i, first + 0.0 * tl.load(a + i, i < size), i < size)


@triton.jit
def add_not_compiled(a, b, c, size, BLOCK: tl.constexpr):
    pointers = {"a": a, "b": b}
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(pointers["a"] + i, i < size) + tl.load(pointers["b"] + i, i < size)
    tl.store(c + i, total, i < size)


@triton.jit
def add_skipping_zeros(a, b, c, size, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.load(a + i, i < size) + tl.load(b + i, i < size)
    tl.store(c + i, total, (i < size) & (total != 0))


def add_undecorated(a, b, c, size, BLOCK):
    c[:size] = a + b


WRONG = [
    ("attention.scores", scores_without_scale, "not divided by √D"),
    ("attention.scores", scores_over_heads, "divided by √D"),
    ("attention.causal_mask", mask_of_pytorch, "upper left corner"),
    ("attention.causal_mask", mask_hiding_oneself, "does not see itself"),
    ("attention.causal_mask", mask_inverted, "exchanged"),
    ("attention.causal_mask", mask_of_floats, "bool tensor is asked for"),
    ("attention.softmax", softmax_naive, "overflow"),
    ("attention.softmax", softmax_pytorch, "fully masked row gives NaN"),
    ("attention.softmax", softmax_of_columns, "wrong dimension"),
    ("attention.softmax", softmax_hiding_nan, "NaN"),
    ("attention.softmax", softmax_by_logsumexp, "NaN"),  # in the gradient of a masked row
    ("attention.softmax", softmax_in_place, "in place"),
    ("attention.split_heads", heads_reshaped, "mixes tokens"),
    ("attention.split_heads", heads_left_behind, "exchanged"),
    ("ner.align_labels", labels_repeated, "Every piece"),
    ("ner.align_labels", labels_zeroed, "Padding with 0"),
    ("ner.entities", entities_unclosed, "end of the sentence is lost"),
    ("ner.entities", entities_strict, "nothing to continue was dropped"),
    ("ner.entities", entities_reversed, "O ends"),
    ("ner.f1", f1_averaged, "mean over sentences"),
    ("ner.f1", f1_arithmetic, "harmonic mean"),
    ("ner.f1", f1_crashing, "denominator is 0"),
    ("start.next_word", looked_back, "before was counted"),
    ("start.next_word", next_overrunning, "past the end"),
    ("kernels.vector_add", add_unmasked, "has no mask"),
    ("kernels.vector_add", add_in_one_place, "pid * BLOCK"),
    ("kernels.vector_add", add_reading_twice, "read or written twice"),
    ("kernels.vector_add", add_skipping_zeros, "Mask the lanes"),
    ("kernels.vector_add", add_not_compiled, "compiler takes less"),
    ("kernels.vector_add", add_undecorated, "@triton.jit"),
]


@pytest.mark.parametrize(("name", "fn", "part"), WRONG, ids=named)
def test_a_wrong_answer_is_recognised_by_what_it_does(name, fn, part):
    outcome = examine(name, fn)
    assert outcome.state == "wrong"
    assert part in outcome.failure.mistake, str(outcome)


def test_a_wrong_answer_never_seen_before_gets_the_property_and_a_small_input():
    outcome = examine("attention.causal_mask", lambda m, n: torch.zeros(m, n, dtype=torch.bool))
    failure = outcome.failure
    assert failure.claim == "each query sees itself and what came before it"
    assert failure.given == "queries = 2, keys = 2"
    assert (failure.right, failure.yours) == (
        "bool (2, 2) [[1, 0], [1, 1]]",
        "bool (2, 2) [[0, 0], [0, 0]]",
    )
    assert failure.mistake.startswith("With as many queries as keys")

"""The oracles of the exercises against Hugging Face, PyTorch, nervaluate and this library.

An exercise's reference is small enough to be wrong. Here each is held against the real thing.
"""

import random

import pytest
import torch

from minift.course import find
from minift.course.inputs import bio_tags, normal


def oracle(name):
    return find(name).oracle


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 7), (3, 3), (4, 9)])
def test_causal_mask_is_hugging_faces(m, n):
    from transformers import GPT2Config
    from transformers.cache_utils import DynamicCache
    from transformers.masking_utils import create_causal_mask

    config = GPT2Config(n_layer=1, n_head=1, n_embd=4)
    config._attn_implementation = "eager"
    cache = DynamicCache()
    if n > m:
        cache.update(torch.zeros(1, 1, n - m, 4), torch.zeros(1, 1, n - m, 4), 0)
    theirs = create_causal_mask(
        config=config,
        inputs_embeds=torch.zeros(1, m, 4),
        attention_mask=torch.ones(1, n, dtype=torch.long),
        past_key_values=cache,
    )
    assert torch.equal(oracle("attention.causal_mask")(m, n), theirs[0, 0] == 0)


def test_causal_mask_is_the_librarys():
    from minift.layers.mask import causal_mask

    for m, n in [(1, 1), (2, 5), (5, 5), (1, 9)]:
        assert torch.equal(oracle("attention.causal_mask")(m, n), causal_mask(m, n))


def test_scores_mask_and_softmax_together_are_pytorchs_attention():
    q, k, v = (normal(2, 3, 5, 8, seed=seed).double() for seed in range(3))
    scores = oracle("attention.scores")(q, k)
    hidden = ~oracle("attention.causal_mask")(5, 5)
    weights = oracle("attention.softmax")(scores.masked_fill(hidden, -torch.inf))
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(weights @ v, theirs, rtol=0, atol=1e-14)  # measured: 2.3e-16


def test_split_heads_is_what_hugging_faces_bert_does():
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertSelfAttention

    config = BertConfig(hidden_size=12, num_attention_heads=3)
    config._attn_implementation = "eager"
    layer = BertSelfAttention(config).eval()
    with torch.no_grad():
        for part in (layer.query, layer.key, layer.value):
            part.weight.copy_(torch.eye(12))
            part.bias.zero_()
        x = normal(2, 5, 12, seed=0)
        theirs = layer(x)[1]  # attention weights (B, H, T, T)
    heads = oracle("attention.split_heads")(x, 3)
    ours = oracle("attention.softmax")(oracle("attention.scores")(heads, heads))
    # measured: 2.4e-7 (fp32 against fp64); heads interleaved instead of split: 0.9
    assert torch.allclose(ours, theirs.double(), rtol=0, atol=1e-6)


def test_align_labels_is_the_librarys_and_uses_a_real_tokenizers_word_ids():
    from tokenizers import BertWordPieceTokenizer

    from minift.tasks.token_classification import align

    vocabulary = [
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[PAD]",
        "[MASK]",
        "play",
        "##ing",
        "##er",
        "chess",
        "a",
    ]
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(vocabulary)})
    encoding = tokenizer.encode(["a", "player", "playing", "\u200b", "chess"], is_pretokenized=True)
    word_ids, labels = encoding.word_ids, [3, 1, 2, 9, 4]
    assert word_ids == [None, 0, 1, 1, 2, 2, 4, None]
    assert oracle("ner.align_labels")(labels, word_ids) == [-100, 3, 1, -100, 2, -100, 4, -100]
    assert align(labels, word_ids) == oracle("ner.align_labels")(labels, word_ids)


@pytest.mark.parametrize("seed", range(50))
def test_entities_are_the_librarys(seed):
    from minift.data.bio import entities

    tags = bio_tags(seed % 12, ("PER", "LOC", "A-B"), seed)
    assert oracle("ner.entities")(tags) == [tuple(entity) for entity in entities(tags)]


def valid_tags(rng, length):
    tags = []
    while len(tags) < length:
        kind = rng.choice(["", "", "PER", "LOC"])
        tags += [f"B-{kind}"] + [f"I-{kind}"] * rng.randint(0, 2) if kind else ["O"]
    return tags[:length]


def test_entities_and_f1_are_nervaluates():
    from nervaluate import Evaluator

    rng = random.Random(0)
    gold = [valid_tags(rng, 12) for _ in range(40)]
    guess = [[t if rng.random() < 0.8 else "O" for t in tags] for tags in gold]
    guess = [valid_tags(rng, 12) if i % 5 == 0 else tags for i, tags in enumerate(guess)]
    guess = [repaired(tags) for tags in guess]
    spans = oracle("ner.entities")
    mine = oracle("ner.f1")([spans(t) for t in gold], [spans(t) for t in guess])
    theirs = Evaluator(gold, guess, tags=["PER", "LOC"], loader="list").evaluate()["overall"][
        "strict"
    ]
    assert mine == pytest.approx((theirs.precision, theirs.recall, theirs.f1), abs=1e-12)
    assert 0.3 < mine[2] < 0.95


def repaired(tags):
    """Every I- that continues nothing made a B-, so that no convention is left to choose."""
    pairs = zip(tags, ["O", *tags], strict=False)
    return [f"B-{t[2:]}" if t[0] == "I" and before[2:] != t[2:] else t for t, before in pairs]


def test_f1_is_the_librarys():
    from minift.tasks.entity_metrics import score_entities

    gold = [bio_tags(9, ("PER", "LOC"), seed) for seed in range(30)]
    guess = [bio_tags(9, ("PER", "LOC"), seed % 40) for seed in range(100, 130)]
    guess[::2] = gold[::2]
    score = score_entities(gold, guess).micro
    spans = oracle("ner.entities")
    mine = oracle("ner.f1")([spans(t) for t in gold], [spans(t) for t in guess])
    assert mine == pytest.approx((score.precision, score.recall, score.f1), abs=1e-12)

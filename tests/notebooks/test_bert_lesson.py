"""What 1-transformer/06_bert defines for teaching does what BERT's paper and the library say."""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.lessons.notebooks import SOURCES, read_source

LESSON = SOURCES / "1-transformer" / "06_bert.py"


@functools.cache
def cell(start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def hide(change=("", "")):
    """The notebook's masking, with one piece of its text exchanged."""
    namespace = {"torch": torch, "F": F, "Tensor": Tensor}
    exec(cell("def hide(").replace(*change), namespace)
    return namespace["hide"]


def follows_the_rule(hide):
    """Shares within four standard deviations, and labels where and only where they belong."""
    for seed in range(3):
        ids = torch.arange(1000, 6000).repeat(20, 1)
        words = ids % 7 != 0
        seen, labels = hide(ids, words, 103, 900, seed)
        guess = labels != -100
        total, masked = int(guess.sum()), seen[guess] == 103
        same, other = seen[guess] == ids[guess], seen[guess] < 900
        shares = {0.8: masked, 0.1: same}
        if not torch.equal(labels[guess], ids[guess]) or bool((guess & ~words).any()):
            return False
        if not torch.equal(seen[~guess], ids[~guess]) or not bool((masked | same | other).all()):
            return False
        spread = (0.15 * 0.85 / int(words.sum())) ** 0.5
        if abs(total / int(words.sum()) - 0.15) > 4 * spread:
            return False
        for share, found in shares.items():
            spread = (share * (1 - share) / total) ** 0.5
            if abs(float(found.float().mean()) - share) > 4 * spread:
                return False
    return True


def test_hiding_follows_the_rule():
    assert follows_the_rule(hide())


@pytest.mark.parametrize(
    "change",
    [
        ("is_word & (dice[0] < 0.15)", "dice[0] < 0.15"),
        ("dice[0] < 0.15", "dice[0] < 0.16"),
        ("dice[1] < 0.8", "dice[1] < 0.9"),
        ("torch.where(dice[1] < 0.9, other, ids)", "other"),
        ("torch.where(guess, ids, -100)", "torch.where(guess, changed, -100)"),
        ("torch.where(guess, ids, -100)", "ids"),
        ("torch.where(guess, changed, ids)", "changed"),
        ("dice[1] < 0.8", "dice[0] < 0.8"),
    ],
)
def test_a_bug_in_the_hiding_is_noticed(change):
    assert change[0] in cell("def hide(")
    assert not follows_the_rule(hide(change))


def test_the_causal_mask_of_the_last_section_reaches_the_model():
    """The lesson breaks the library's own attention: the name that it exchanges is the one used."""
    from minift.models import bert

    assert "bert.attention = lambda" in cell("bert.attention = lambda")
    config = bert.BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2
    )
    model, ids, kept = bert.BertModel(config).eval(), torch.tensor([[1, 2, 3]]), bert.attention
    before = model(ids).last_hidden_state
    try:
        bert.attention = lambda q, k, v, **options: kept(q, k, v, causal=True, **options)
        after = model(ids).last_hidden_state
    finally:
        bert.attention = kept
    assert torch.allclose(after[:, -1], before[:, -1], atol=1e-6)  # it saw everything anyway
    assert not torch.allclose(after[:, 0], before[:, 0], atol=1e-6)

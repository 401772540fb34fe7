# %% [markdown]
# # Start here
#
# This is a course that you run. You build a transformer from nothing, line by line; you write the
# GPU kernels that make it fast; you fine-tune real models with both. At every step something
# checks your work: against Hugging Face, against PyTorch, against exact arithmetic. A laptop
# without a GPU is enough for all of it.
#
# You should be able to program in Python. Everything else is explained when it is needed.

# %% [markdown]
# **After this notebook you will be able to**
#
# - write a function, check it, and read what the check says;
# - ask for a hint, and look up a solution when you are stuck;
# - say what a language model does, and what attention adds to it;
# - find your way through the other notebooks.
#
# *20 minutes to read; 15 seconds to run on two CPU cores, with 1 GB of memory. Nothing is
# downloaded.*

# %% [markdown]
# ## Is everything here?
#
# Run each cell with Shift+Enter, from top to bottom. The first one asks for the packages of the
# course. Each line should say `yes`; one that does not says what to do.

# %%
from minift.course.environment import ready

ready()

# %% [markdown]
# ## The smallest language model
#
# A language model answers one question: *given the text so far, what comes next?* The smallest one
# looks at a single word and answers with the word that followed it most often. Here is the text
# that it learns from.

# %%
TEXT = """
the cat sat on the mat . the dog saw the cat . the cat sat on the dog .
the dog ran to the mouse . the mouse ran to the cat . the cat ran home .
"""
words = TEXT.split()
len(words), len(set(words))

# %% [markdown]
# Counting is all the learning there is. In the table below, the row is a word and the column is the
# word right after it. `table[i, j]` says how often word `j` followed word `i`.

# %%
from collections import Counter
from itertools import pairwise

import torch

vocabulary = list(dict.fromkeys(words))
table = torch.zeros(len(vocabulary), len(vocabulary))
for word, follower in pairwise(words):
    table[vocabulary.index(word), vocabulary.index(follower)] += 1

# %%
import matplotlib.pyplot as plt

from minift.course.figures import describe, heatmap, use_style

use_style()
fig, ax = plt.subplots(figsize=(5.2, 4.6))
heatmap(ax, table, rows=vocabulary, columns=vocabulary, numbers=".0f")
ax.set(xlabel="the next word", ylabel="this word", title="Who follows whom")
ax.tick_params(axis="x", rotation=45)
print(describe(fig))

# %% [markdown]
# *Figure 1. After "the", the model has seen a cat more often than anything else.*
#
# (The lines above a figure say in words what it shows, for screen readers and for the tests of this
# course.)
#
# To write text, begin with a word, take the column with the largest count in its row, and go on
# from there.


# %%
def from_table(words: list[str], word: str) -> str:
    return vocabulary[int(table[vocabulary.index(word)].argmax())]


# %%
def babble(step, word: str, length: int = 12) -> str:
    text = [word]
    while len(text) < length:
        text.append(step(words, text[-1]))
    return " ".join(text)


babble(from_table, "the")

# %% [markdown]
# It goes round in circles. The model looks back one word and no further: at "the" it cannot know
# whether a cat has just been mentioned. A transformer looks at *all* the words before, and decides
# for each of them how much it matters. That is called attention, and it is where the course begins.
#
# ## Your first exercise
#
# First it is your turn. Write the same model without the table: count the words that come after
# `word` in the list `words`, and return the most frequent one. The docstring says what is wanted in
# the special cases. Replace the last line with your own.


# %%
def next_word(words: list[str], word: str) -> str:
    """The word that most often comes right after `word` in the text `words`.

    Among equally frequent ones the earliest in the text; '' if nothing ever follows `word`.
    """
    raise NotImplementedError  # your code goes here


# %% [markdown]
# `check` runs your function on many inputs, small ones first, and compares it with a reference. As
# long as you have written nothing, it says so and nothing else happens: you can run a whole
# notebook first and do the exercises afterwards.

# %%
from minift.course import check

check("start.next_word", next_word)

# %% [markdown]
# {{ help start.next_word }}

# %% [markdown]
# Open the lines above for hints, one at a time, and for one right answer. In a cell,
# `hint("start.next_word")` prints the next hint and `solution("start.next_word")` shows the answer.
# Looking costs nothing. But an answer that you have found yourself stays with you.
#
# Once your function is right, put it to work: `babble(next_word, "mouse")`.
#
# `check` remembers on your computer, and nowhere else, which exercises are done. `progress()` shows
# it and names the one that comes next. (Shown here: nothing done yet.)

# %%
from minift.course import progress

progress()

# %% [markdown]
# *Figure 2. Each notebook's exercises; those that are right are coloured.*
#
# ## What a wrong answer looks like
#
# This function returns the most frequent word of the whole text. Read what the check has to say:
# the property that does not hold, an input small enough to follow by hand, what is right, what came
# out, and the likely mistake.


# %%
def favourite_word(words: list[str], word: str) -> str:
    return Counter(words).most_common(1)[0][0] if words else ""


# %% tags=["raises-exception"]
check("start.next_word", favourite_word)

# %% [markdown]
# The check does not search your text for mistakes. It knows the wrong answers that people really
# give, and recognises yours by what it *does*. A wrong answer that it has never seen still gets the
# failing input.
#
# ## Equal to the real thing
#
# Checks for functions are one half of the course's honesty. The other half: every model in it is
# held against its counterpart in Hugging Face's `transformers`. Here is a tiny GPT-2 of theirs, its
# weights drawn at random, and ours, written from scratch in `minift/models/gpt2.py`.

# %%
from transformers import GPT2Config, GPT2LMHeadModel

import minift

torch.manual_seed(0)
sizes = {"vocab_size": len(vocabulary), "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
theirs = GPT2LMHeadModel(config).eval()
ours = minift.from_hf(theirs).eval()

# %%
ids = torch.tensor([[vocabulary.index(word) for word in words[:11]]])
with torch.no_grad():
    difference = (ours(ids).logits - theirs(ids).logits).abs().max()
print("logits:", tuple(ours(ids).logits.shape), " equal to 5 decimals:", bool(difference < 5e-6))

# %% [markdown]
# Eleven words went in; for each of them, out came one score (a *logit*) for every word that could
# be next. Our count table did the same with a row of counts. The difference is what the row may
# depend on. This is where each word of our sentence looks, in the first head of the first layer.

# %%
with torch.no_grad():
    weights = ours(ids, output_attentions=True).attentions[0][0, 0]
fig, ax = plt.subplots(figsize=(4.8, 4.2))
heatmap(ax, weights, rows=words[:11], columns=words[:11])
ax.set(xlabel="the word looked at", ylabel="the word that looks", title="Attention, untrained")
ax.tick_params(axis="x", rotation=45)
print(describe(fig))

# %% [markdown]
# *Figure 3. Each word spreads its attention over itself and all the words before it, never over the
# words to come.*
#
# The weights are random, so the attention is spread almost evenly. Training is what makes it
# choose. In the first notebook you write this picture yourself, from a single dot product up.
#
# ## GPU kernels without a GPU
#
# The second part of the course is about the programs that a GPU runs, written in Triton. You do not
# need a GPU to learn it: the course has an interpreter that runs a kernel on the CPU and watches
# every memory access. (Triton exists for Linux only. On other systems the next two cells say so;
# go on to the map.)
#
# This kernel doubles the numbers in `x`. Many copies of it run at once, each on its own block of
# four.

# %%
import triton
import triton.language as tl

from kernels.lab import check as watch
from kernels.lab import interpret


@triton.jit
def double(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n)
    tl.store(out_ptr + offsets, 2 * x, mask=offsets < n)


# %%
x = torch.arange(10, dtype=torch.float32)
out = torch.empty_like(x)
with watch() as report:
    interpret(double)[(3,)](x, out, 10, BLOCK=4)
print(out.int().tolist(), f"read {report.loaded} bytes, wrote {report.stored}")

# %% [markdown]
# Ten numbers of four bytes each were read and ten were written: not one byte more. Now an `n` that
# is too large by two. A GPU would read the neighbour's memory and say nothing. Here it is caught.

# %% tags=["raises-exception"]
interpret(double)[(3,)](x, out, 12, BLOCK=4)

# %% [markdown]
# ## The map
#
# Text becomes numbers, numbers become batches, a model turns them into a loss, and the loss into
# better weights. The library's folders follow that path, and so do the notebooks.
#
# | notebook | what you write | held against |
# | --- | --- | --- |
# | [Before attention](1-transformer/01_before_attention.ipynb) | a window, a memory | PyTorch |
# | [Tokens](1-transformer/02_tokens.ipynb) | byte pairs, streaming | GPT-2's tokenizer |
# | [Positions](1-transformer/03_embeddings_and_positions.ipynb) | sines, rotations | Hugging Face |
# | [Attention](1-transformer/04_attention.ipynb) | scores, mask, softmax, heads | Hugging Face |
# | [GPT-2](1-transformer/05_block_and_gpt2.ipynb) | norms, the block | Hugging Face |
# | [BERT](1-transformer/06_bert.ipynb) | masked words, pooling | Hugging Face |
# | [Modern decoders](1-transformer/07_modern_decoder.ipynb) | RMS norm, rotary heads | SmolLM2 |
# | [Experts](1-transformer/08_mixture_of_experts.ipynb) | routing, balance | Mixtral |
# | [Encoder-decoder](1-transformer/09_encoder_decoder.ipynb) | the shift, buckets | T5 |
# | [Images](1-transformer/10_images.ipynb) | patches, a class token | ViT |
# | [Generation](1-transformer/11_generation.ipynb) | sampling, beams, the cache | Hugging Face |
# | [Looking inside](1-transformer/12_looking_inside.ipynb) | rollout, patching | exact sums |
# | [The clinic](1-transformer/13_clinic.ipynb) | the bug in a broken model | Hugging Face |
# | [First kernel](2-kernels/01_first_kernel.ipynb) | vector addition, AdamW | PyTorch |
# | [Softmax](2-kernels/02_softmax.ipynb) | reductions, a softmax for long rows | PyTorch |
# | [Matmul](2-kernels/03_matmul.ipynb) | a tiled product, an order of tiles | PyTorch |
# | [Flash attention](2-kernels/04_flash_forward.ipynb) | the online softmax, causal tiles | fp64 |
# | [Its gradient](2-kernels/05_flash_backward.ipynb) | delta, dS, dV, by tiles | fp64 |
# | [AdamW](2-kernels/06_adamw.ipynb) | one launch for a whole model | PyTorch |
# | [Performance](2-kernels/07_performance.ipynb) | intensity, occupancy, spills | the machine code |
# | [Plug in](2-kernels/08_plug_in.ipynb) | the choice of a backend, masks | PyTorch's loss curve |
# | [Finding names](3-finetuning/01_ner.ipynb) | labels, entities, F1 | Hugging Face's training |
#
# Outside the notebooks, `python -m minift demo` shows the whole job on real weights: it fine-tunes
# a model to find names, addresses and card numbers in text.

# %% [markdown]
# ## Summary
#
# - A language model scores what could come next; the smallest one counts pairs of words.
# - `check` says not attempted, right, or wrong with the likely mistake; hints and solutions are
#   folded below each exercise.
# - Models are equal to Hugging Face's, and kernels run on your CPU with every access watched.
#
# **Next:** [what came before attention](1-transformer/01_before_attention.ipynb).

# %% [markdown]
# # The clinic: find the bug in a broken model
#
# In [Looking inside](12_looking_inside.ipynb) you read the numbers between a text and a result. Now
# you read them to find out what is *wrong*. Here come models that run, train and print numbers that
# look like any others. Each has one mistake of one line. You will find it, name it, and mend it.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say how far two models may differ, from rounding alone;
# - record every module of two models, and find the first one that differs;
# - test a suspicion on recorded numbers, instead of believing it;
# - use `minift compare` on your own models, forwards and backwards;
# - say which bugs no comparison finds.
#
# *80 minutes with the exercises; 15 seconds to run on two CPU cores, with 1.2 GB of memory.*

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

import minift
from minift.compare import compare, diagnose, draw
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.course.patients import PATIENTS, admit, batch, reference
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel

use_style()
transformers.logging.set_verbosity_error()

# %% [markdown]
# ## 1. Why not just look at the loss?
#
# Because it falls. A network is a very forgiving thing: it learns *around* a mistake. Two small
# GPT-2s, the same weights at the start, the same data. In the second one, the scores of attention
# are not divided by √D.


# %%
def learning_curve(broken: bool) -> list[float]:
    """The loss of 70 steps on texts that say six letters twice; only the repetition counts."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 12, "n_positions": 12, "n_embd": 32, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)).eval()
    for layer in model.transformer.layers if broken else []:
        layer.attention.scale = 1.0
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for step in range(70):
        first = torch.rand(32, 12, generator=torch.Generator().manual_seed(step)).argsort(-1)[:, :6]
        ids = first.repeat(1, 2)  # (32, 12)
        loss = model(ids, labels=ids.masked_fill(torch.arange(12) < 6, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


curves = {"as it should be": learning_curve(False), "with a bug": learning_curve(True)}

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.9))
for name, losses in curves.items():
    ax.plot([round(loss, 1) for loss in losses], label=name)
ax.set(xlabel="step", ylabel="loss", title="Which one is broken?", ylim=(0, None))
ax.legend()
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 1. Both curves fall to nothing; nobody would stop the second run.*
#
# Both learn. If you only had the second curve, would you suspect anything? Nothing raises an error
# either: every shape is right. What shows the mistake is a **reference**, a model known to be right,
# on the same weights and the same input.
#
# ## 2. How far may they differ?
#
# Two right programs need not give the same bits. Sums are taken in another order, and each addition
# rounds. So before asking whether a difference is a bug, ask how large a difference *without* a bug
# is. Hugging Face has two ways of computing attention, "eager" and "sdpa". Both are right. Their
# difference, on this very input, is the **noise floor**.

# %%
theirs = reference("BertModel")  # a small BERT of transformers, with random weights
ids, mask = batch()  # three texts of 14, 5 and 9 tokens
real = mask == 1
states = {}
for kind in ("eager", "sdpa"):
    theirs.set_attn_implementation(kind)
    states[kind] = theirs(ids, attention_mask=mask).last_hidden_state[real].detach()
floor = (states["eager"] - states["sdpa"]).abs().max().item()
print("noise floor between 1e-8 and 1e-5:", 1e-8 < floor < 1e-5)

# %% [markdown]
# A few units in the seventh digit. Now the first patient, Anna, a BERT of ours. Her weights were
# copied from that very model. How far is she from it, in noise floors?

# %%
anna = admit("anna")
output = anna.ours(anna.ids, anna.mask).last_hidden_state[real]
distance = (output - states["sdpa"]).abs().max().item()
print("more than 10,000 noise floors:", distance > 10_000 * floor)
print(
    "shape is right:",
    output.shape == states["sdpa"].shape,
    " finite:",
    bool(output.isfinite().all()),
)

# %% [markdown]
# Anna is ill, without doubt. But where? The difference is at the *end*. A mistake anywhere before
# spreads to everything behind it.
#
# ## 3. Record every module
#
# PyTorch calls a **hook** each time a module has run: a function that gets the module, its inputs
# and its output. One line a module, and we have the whole history of a run. The names differ
# between the two models, but there is a table for them: the one that is used for loading weights.

# %%
for mine, other in list(minift.models.loading.hf_names(anna.ours).items())[21:29:2]:
    print(f"{mine:<38}{other}")

# %%
Record = dict[str, Tensor]


def record(model: nn.Module, names: list[str], **inputs: Tensor) -> Record:
    """What each of these modules gives in one run, real tokens only: name → (tokens, …)."""
    seen, handles = {}, []

    def keep(name: str):
        return lambda module, args, out: seen.update({name: out[real].detach()})

    for name in names:
        handles.append(model.get_submodule(name).register_forward_hook(keep(name)))
    model(**inputs)
    for handle in handles:
        handle.remove()
    return seen


# %%
table = {
    a.rpartition(".")[0]: b.rpartition(".")[0]
    for a, b in minift.models.loading.hf_names(anna.ours).items()
    if a.startswith("layers")
}
given = {"input_ids": anna.ids, "attention_mask": anna.mask}
mine = record(anna.ours, list(table), **given)
right = record(anna.theirs, list(table.values()), **given)
print(len(mine), "modules recorded, such as", *list(mine)[:2])

# %%
apart = [(mine[a] - right[b]).abs().max().item() for a, b in table.items()]
fig, ax = plt.subplots(figsize=(7.4, 5.4))
ax.barh(range(len(apart)), [max(x, 1e-8) for x in apart])
ax.set_xscale("log")
ax.set_xlim(1e-9, None)
ax.set_yticks(range(len(table)), list(table))
ax.invert_yaxis()
ax.axvline(2e-5, color="C6", linestyle=":", label="a generous limit for rounding")
ax.set(xlabel="largest difference", ylabel="module, in order", title="Anna against her reference")
ax.legend()
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 2. Everything is right down to the values of the second layer; from the product behind its
# attention on, nothing is.*
#
# The bars are 0 (drawn at $10^{-8}$) as far as `layers.1.attention.value`. Then they jump. Behind
# the jump all modules differ, but most of them are **innocent**: they got wrong numbers and did the
# right thing with them. Only the *first* one matters, not the worst.
#
# ### Exercise 1: the first difference
#
# Write the search, so that it does not miss anything. Mind NaN: what is `NaN > limit`?


# %%
def first_difference(ours: Tensor, theirs: Tensor, limits: Tensor) -> int:
    """The first site where |ours - theirs| is anywhere above the site's limit; -1: nowhere.

    ours, theirs: (S, N), the numbers at S sites in the order of computation. limits: (S,). What is
    NaN in ours is a difference.
    """
    raise NotImplementedError  # your code goes here


# %%
check("clinic.first_difference", first_difference)

# %% [markdown]
# {{ help clinic.first_difference }}
#
# ### Is it the module, or what it was given?
#
# One more question for `layers.1.attention.output`. Its *output* differs. Did its *input* differ
# already? Between the values and this product lies attention, which is a function and no module: no
# hook sees it. But it shows in what the product is given.


# %%
def what_enters(model: nn.Module, name: str) -> Tensor:
    """What a module is given, real tokens only."""
    seen = []
    module = model.get_submodule(name)
    handle = module.register_forward_pre_hook(lambda module, args: seen.append(args[0][real]))
    model(**given)
    handle.remove()
    return seen[0].detach()


name = "layers.1.attention.output"
into_ours, x = what_enters(anna.ours, name), what_enters(anna.theirs, table[name])
print("inputs equal:", torch.allclose(into_ours, x, rtol=0, atol=2e-5))

# %% [markdown]
# The input is right and the output wrong. So the product itself is to blame: its weight, its bias,
# or how it multiplies.
#
# ## 4. A suspicion is tested
#
# A doctor who has an idea orders a test. So do we, and it costs one line: *if* the mistake is what
# I think, then the recorded right input must give exactly **our wrong output**. Four suspicions
# about a product:

# %%
good, wrong = anna.theirs.get_submodule(table[name]), mine[name]
suspicions = {
    "the bias is missing": F.linear(x, good.weight),
    "the bias counts twice": F.linear(x, good.weight, 2 * good.bias),
    "the weight is transposed": F.linear(x, good.weight.T, good.bias),
    "bfloat16": F.linear(x.bfloat16(), good.weight.bfloat16(), good.bias.bfloat16()).float(),
}
for suspicion, value in suspicions.items():
    print(f"{suspicion:<26}{torch.allclose(value, wrong, rtol=0, atol=2e-5)}")

# %% [markdown]
# That is a proof, not a guess: with a transposed weight, and only with that, the right model gives
# Anna's numbers to the last digit. It is a classic. GPT-2's files store (in, out), everybody else
# (out, in), and for a *square* matrix no shape complains. Mending her is one line:

# %%
with torch.no_grad():
    weight = anna.ours.layers[1].attention.output.weight
    weight.copy_(weight.T.clone())
print("healthy:", compare(anna.ours, anna.theirs, anna.ids, anna.mask).ok)

# %% [markdown]
# ## 5. The instrument
#
# `minift.compare.diagnose` does what you just did: hooks on both models, names from the table, the
# noise floor measured for each module, inputs and outputs. Then it tries dozens of mistakes
# that people make on the recorded numbers. Next patient: Bruno, another BERT.

# %%
bruno = admit("bruno")
diagnosis = diagnose(bruno.ours, bruno.theirs, bruno.ids, bruno.mask)
print(diagnosis.verdict())

# %%
fig = draw(diagnosis)
fig.set_size_inches(8.4, 3.4)
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 3. Layer 0 is the first one beyond the limit; backwards, the error reaches everything.*
#
# Blue is the forward direction: right until the first layer. Orange is the gradient: wrong
# everywhere, since it comes from the end. So for a mistake in the forward direction look at blue;
# orange alone matters when blue is clean.
#
# "Between `up` and `down`" lies the activation, again a function and no module. "Reproduces it"
# means what it meant above: theirs with this mistake gives our numbers.

# %%
bruno.ours.layers[0].feed_forward.act = F.gelu
print(diagnose(bruno.ours, bruno.theirs, bruno.ids, bruno.mask).verdict())

# %% [markdown]
# On the command line the same instrument compares a folder with what Hugging Face makes of it, or
# with another folder: `python -m minift compare FOLDER --against OTHER`.
#
# ### Clara and David
#
# Two GPT-2s. What would you suspect of each verdict, and which line mends it? Think before you read
# on.

# %%
clara, david = admit("clara"), admit("david")
for patient in (clara, david):
    print(diagnose(patient.ours, patient.theirs, patient.ids, patient.mask).verdict())

# %% [markdown]
# Clara divides by D instead of √D, in one layer. David's layer adds the *normed* stream to the
# result of attention, where GPT-2 adds the stream itself: the norm sits on the wrong side of the
# branch.

# %%
clara.ours.transformer.layers[2].attention.scale = 8**-0.5
del david.ours.transformer.layers[1].forward  # it had another one put over its own
for patient in (clara, david):
    print(diagnose(patient.ours, patient.theirs, patient.ids, patient.mask).ok)

# %% [markdown]
# ## 6. When weights come from elsewhere
#
# Emma is a Llama. Her file came from another program, and the program that wrote it keeps the rows
# of each head in another **order**. Llama's rotary positions rotate feature j together with feature
# j + D/2. Others rotate neighbours, 2j with 2j + 1. Both work, if the rows of the weights of queries
# and keys stand in the order that goes with it. GGUF files, for instance, have the second one.

# %%
emma = admit("emma")
print(diagnose(emma.ours, emma.theirs, emma.ids, emma.mask).verdict())

# %%
good = emma.theirs.model.layers[0].self_attn.k_proj.weight.detach()[:8]  # the first head, D = 8
bad = emma.ours.model.layers[0].attention.k.weight.detach()[:8]
match = (good[:, None] == bad[None]).all(-1)  # (8, 8): which row of ours is which of theirs
fig, ax = plt.subplots(figsize=(3.8, 3.5))
heatmap(ax, match, rows=range(8), columns=range(8), numbers=".0f")
ax.set(xlabel="row in Emma", ylabel="row in the reference", title="Where did each row go?")
print(describe(fig))

# %% [markdown]
# *Figure 4. The rows of the first half went to the even places, those of the second half to the odd
# ones.*
#
# Put them back: the rows of one head as four pairs (4, 2), turned to (2, 4).

# %%
with torch.no_grad():
    weight = emma.ours.model.layers[0].attention.k.weight  # (H_kv · D, C)
    pairs = weight.view(2, 4, 2, 32)  # (H_kv, D/2, pair, C)
    weight.copy_(pairs.transpose(1, 2).reshape(weight.shape))
print("healthy:", diagnose(emma.ours, emma.theirs, emma.ids, emma.mask).ok)

# %% [markdown]
# ### Exercise 2: which epsilon?
#
# A norm divides by √(mean(x²) + ε). The wrong ε is a quiet mistake: it matters where x is small,
# and hardly elsewhere. If you have what went into a norm and what came out, you can *compute* its
# ε. Solve for it.


# %%
def find_epsilon(x: Tensor, y: Tensor) -> float:
    """The ε of an RMSNorm without a gain: y = x / sqrt(mean(x²) + ε), row by row.

    x, y: (rows, width), float64. Returns a float.
    """
    raise NotImplementedError  # your code goes here


# %%
check("clinic.find_epsilon", find_epsilon)

# %% [markdown]
# {{ help clinic.find_epsilon }}
#
# ## 7. Right forwards, wrong backwards
#
# The nastiest patients give the right answer. Hugo's outputs are his reference's, to the last
# digit. Would you let him train?

# %%
hugo = admit("hugo")
forward_only = compare(hugo.ours, hugo.theirs, hugo.ids, hugo.mask, gradients=False)
print("outputs as they should be:", forward_only.ok)
diagnosis = diagnose(hugo.ours, hugo.theirs, hugo.ids, hugo.mask)
print(diagnosis.verdict())

# %%
fig = draw(diagnosis)
fig.set_size_inches(8.4, 3.4)
print(describe(fig).splitlines()[0])

# %% [markdown]
# *Figure 5. Forwards every layer is right; backwards everything before layer 2 is wrong.*
#
# Gradients run from the bottom of the figure to the top. Layer 2 is right, layer 1 is the first that
# is not. In it, somebody wrote `.detach()` where the feed-forward network gets its input (to "save
# memory", perhaps). The network learns, and what lies before it never hears what the network would
# have needed. Such a model trains, and stays a little worse than it should, for ever.

# %%
del hugo.ours.transformer.layers[1].forward
print(diagnose(hugo.ours, hugo.theirs, hugo.ids, hugo.mask).verdict())

# %% [markdown]
# ## 8. Your turn
#
# ### Exercise 3: mend an attention
#
# A decoder's attention with **four** bugs. It runs, and its shapes are right. Find them the way of
# this notebook: one part at a time, against what you know.


# %%
def mend_attention(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Llama's attention: softmax(rotated q · rotated k / √D) v, causal, grouped heads.

    q: (B, H, T, D); k, v: (B, H_kv, T, D), H a multiple of H_kv; cos, sin: (T, D/2). Returns
    (B, H, T, D). There are four bugs in here. Find and mend them.
    """

    def rotate(x: Tensor) -> Tensor:
        first, second = x[..., 0::2], x[..., 1::2]
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    group = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, group, 1, 1), v.repeat(1, group, 1, 1)
    scores = rotate(q) @ rotate(k).transpose(-2, -1) / q.shape[-1]
    seen = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


# %%
check("clinic.mend_attention", mend_attention)

# %% [markdown]
# {{ help clinic.mend_attention }}
#
# ### Two more patients
#
# Felix and Greta are waiting. `admit("felix")` and `admit("greta")` bring them in; `diagnose` tells
# you where it hurts. Write the line that mends each of them, and ask again.

# %%
felix, greta = admit("felix"), admit("greta")
# your lines go here
for patient in (felix, greta):
    print("healthy:", diagnose(patient.ours, patient.theirs, patient.ids, patient.mask).ok)

# %% [markdown]
# <details><summary>What was wrong with them</summary>
#
# Felix, a Llama, takes the mean off in one norm, as LayerNorm does; RMSNorm does not. Greta, a
# BERT, counts positions from 1. Both had another `forward` put over their own:
#
#     del felix.ours.model.layers[2].norm_2.forward
#     del greta.ours.embeddings.forward
#
# </details>
#
# ## 9. The whole ward
#
# All eight as they came in, side by side. For each patient and each third of the model: is the
# forward direction beyond the limit?

# %%
rows = []
for name in PATIENTS:
    patient = admit(name)
    found = diagnose(patient.ours, patient.theirs, patient.ids, patient.mask, gradients=False)
    layers = [v[0] for k, v in found.layers().items() if k.split(".")[-1] in ("0", "1", "2")]
    rows.append([float(value > 4) for value in layers])
fig, ax = plt.subplots(figsize=(4.6, 4.0))
heatmap(ax, rows, rows=list(PATIENTS), columns=range(3), numbers=".0f")
ax.set(xlabel="layer", ylabel="patient", title="Beyond the limit (1)")
print(describe(fig))

# %% [markdown]
# *Figure 6. Once a layer is wrong, all layers behind it are; Hugo is right forwards.*
#
# Each row is a staircase: the first 1 is where to look, and the others follow from it.
#
# ### What no comparison finds
#
# Break the *reference* in the same way, and everything is equal again.

# %%
both = admit("felix")
twin = admit("felix")
print("two broken twins are equal:", diagnose(both.ours, twin.ours, both.ids, both.mask).ok)

# %% [markdown]
# A comparison says "the same", never "right". So choose a reference that does not share your
# mistakes: other people's code, another formula, higher precision. And some mistakes are in neither
# model: labels shifted by one, a test set that was trained on, a tokenizer that does not belong to
# the weights. For those, ask for properties: which results may move when one token changes? What
# loss has a model that guesses? Should it be able to learn ten examples by heart?
#
# ## Summary
#
# - Measure the noise first. A difference is a bug when rounding cannot explain it.
# - The first module that differs is to blame, not the worst; look at its input and its output, and
#   when all outputs are right, go backwards.
# - Test suspicions on recorded numbers: a mistake that reproduces the wrong numbers is proved.
#
# **Next:** your models are right; now make them fast, with
# [your first GPU kernel](../2-kernels/01_first_kernel.ipynb).

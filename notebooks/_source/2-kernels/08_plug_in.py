# %% [markdown]
# # Plugging the kernels in: the same loss curve
#
# You have written attention, forward and backward, and AdamW, and you can read
# [what limits them](07_performance.ipynb). What is a kernel worth that passes
# its own tests? It has to work inside a model, in training, in generation, with padding and
# dropout. In this notebook a GPT-2 runs on our kernels and on PyTorch's, from the same start, over
# the same batches. The two must take the same way down.
#
# You need no GPU: kernels run on your CPU. The model is tiny, because an interpreted kernel is
# thousands of times slower than a real one. **Where there is no Triton** (macOS, Windows): open
# this notebook on a Linux machine, in WSL, or in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - choose in one place who computes attention, and see which kernels a training step launches;
# - compare two implementations by logits, by gradients and by a training run, and say how close
#   they can be expected to come;
# - hand a mask to a kernel in its cheapest form;
# - generate with a key/value cache, and predict what a token reads of it;
# - say what changes on a GPU.
#
# *60 minutes with the exercises; 30 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import inspect
from dataclasses import replace
from unittest import mock

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from kernels.decoding import decode_attention
from kernels.lab import check as watch
from minift.course import check
from minift.course.figures import describe, use_style
from minift.layers.attention import attention, use_backend
from minift.models.gpt2 import GPT2Attention, GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. One place that chooses
#
# Every model of the library calls one function, `attention(q, k, v, mask=…, causal=…)`. Behind it
# are three backends:
#
# - `"triton"`: our kernels;
# - `"torch"`: PyTorch's fused `scaled_dot_product_attention`;
# - `"eager"`: the formula, line by line.
#
# On a GPU it takes the kernels, elsewhere PyTorch, and `use_backend` forces one. No model knows
# which it was.

# %%
q, k, v = torch.randn(3, 2, 2, 21, 16)
right = attention(q, k, v, causal=True, backend="torch")
for backend in ("triton", "eager"):
    out = attention(q, k, v, causal=True, backend=backend)
    print(backend, "equals torch:", torch.allclose(out, right, atol=1e-6))

# %% [markdown]
# This is what stands in the model: queries, keys and values from one product, then that one call.

# %%
print(inspect.getsource(GPT2Attention.forward))

# %% [markdown]
# ### Exercise 1: choose
#
# Write the choice. A rule that looks trivial has corners: what if somebody forces the kernels for
# tensors that they cannot take?


# %%
def choose_backend(
    device: str, dtype: torch.dtype, head_dim: int, has_triton: bool, forced: str | None
) -> str:
    """Who computes attention: "triton", "torch" or "eager".

    The kernels ("triton") take float32, float16 and bfloat16 and head sizes of 8 to 256, if
    Triton is installed. They are chosen on "cuda"; elsewhere they would be interpreted, so "torch"
    is. `forced`, if not None, is obeyed, on any device: ValueError if it is "triton" and they
    cannot take it. "torch" and "eager" take everything.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.choose_backend", choose_backend)

# %% [markdown]
# {{ help kernels.choose_backend }}
#
# ## 2. A model
#
# A GPT-2 with two layers of two heads, for a counting rhyme of 27 words, all different.

# %%
RHYME = """one two buckle my shoe three four knock at the door five six pick up sticks seven eight
lay them straight nine ten a big fat hen"""
words = RHYME.split()
ids = torch.arange(len(words))[None]  # every word is its own number

# %%
sizes = {"vocab_size": len(words), "n_positions": 48, "n_embd": 32, "n_layer": 2, "n_head": 2}
no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
config = GPT2Config(**sizes, **no_dropout, bos_token_id=None, eos_token_id=None)

# %%
model = GPT2LMHeadModel(config)
with torch.no_grad():
    logits = {}
    for backend in ("triton", "torch", "eager"):
        with use_backend(backend):
            logits[backend] = model(ids).logits
print({name: torch.allclose(t, logits["torch"], atol=1e-6) for name, t in logits.items()})

# %% [markdown]
# What does a training step launch? The record of the interpreter knows.

# %%
optimiser = kernels.AdamW(model.parameters(), lr=1e-3)
with watch() as report, use_backend("triton"):
    model(ids, labels=ids).loss.backward()
    optimiser.step()

# %%
names = [name.strip("_") for name in report.kernels]
print(f"{len(names)} launches:", *names)

# %%
fig, ax = plt.subplots(figsize=(6.8, 2.4))
kinds = list(dict.fromkeys(names))
for number, name in enumerate(names, 1):
    ax.scatter(number, name, marker="s", s=300, color=f"C{kinds.index(name)}")
ax.set(xlabel="launch", ylabel="kernel", title="One training step, two layers")
ax.set(xticks=range(1, len(names) + 1))
ax.margins(y=0.2)
ax.invert_yaxis()
print(describe(fig))

# %% [markdown]
# *Figure 1. Forward once a layer, then backward three kernels a layer, and one launch of AdamW for
# all parameters.*
#
# The rest (embeddings, linear layers, norms, the loss) is PyTorch's. A real program profiles
# first and replaces what takes the time.
#
# ## 3. Gradients
#
# Equal logits are half of it. Every parameter gets a gradient, and those of the first layer have
# come through everything. We compare all of them, and first ask how far PyTorch's own two ways
# differ: that is the **noise floor**, what another order of roundings does. Nobody can ask a
# kernel to come closer.


# %%
def gradients(backend: str) -> dict[str, Tensor]:
    model.zero_grad()
    with use_backend(backend):
        model(ids, labels=ids).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


# %%
right = gradients("torch")
largest = max(grad.abs().max() for grad in right.values())
for backend in ("eager", "triton"):
    off = [(mine - right[name]).abs().max() / largest for name, mine in gradients(backend).items()]
    print(f"{backend}: {len(off)} parameters, all within a millionth:", bool(max(off) < 1e-6))

# %% [markdown]
# ## 4. The same way down
#
# Now train: 24 steps, the same start, the same batches. Attention and optimiser are either ours
# or PyTorch's.


# %%
def learn(backend, optimiser_class, change=lambda model: None, steps=24):
    """A model trained on the rhyme, and its losses."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    change(model)
    optimiser = optimiser_class(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        with use_backend(backend):
            loss = model(ids, labels=ids).loss
            loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return model, torch.tensor(losses)


# %%
theirs, right = learn("torch", torch.optim.AdamW)
ours, losses = learn("triton", kernels.AdamW)
_, eager = learn("eager", torch.optim.AdamW)
print("first and last loss:", [round(loss, 2) for loss in (losses[0].item(), losses[-1].item())])
print("kernels differ by less than 0.00001:", bool((losses - right).abs().max() < 1e-5))
print("eager differs by less than 0.00001: ", bool((eager - right).abs().max() < 1e-5))

# %%
fig, ax = plt.subplots()
ax.plot(right, label="PyTorch", linewidth=6, alpha=0.4)
ax.plot(losses, label="our kernels")
ax.set(xlabel="step", ylabel="loss", title="A tiny GPT-2 learns a rhyme")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. With our attention and our AdamW the model takes the same way down as with PyTorch's.*
#
# The kernels are as close to PyTorch as PyTorch's own formula is. On a longer run the two would
# part: each step feeds its roundings into the next, and training amplifies them. So a curve is
# compared over few steps, and closely.
#
# ### How much does a curve prove?
#
# Less than it seems. We plant two bugs. One multiplies the scale of the scores by 1.02. The other
# lets every query see one key of the future.


# %%
def scaled(model):
    for layer in model.transformer.layers:
        layer.attention.scale *= 1.02


def looks_ahead(q, k, v, scale, **options):
    seen = torch.ones(q.shape[2], k.shape[2]).tril(1) > 0  # 1: one above the diagonal
    return F.scaled_dot_product_attention(q, k, v, seen, scale=scale)


# %%
_, wrong_scale = learn("torch", torch.optim.AdamW, scaled)
with mock.patch("minift.models.gpt2.attention", looks_ahead):
    _, cheating = learn("torch", torch.optim.AdamW)

# %%
last = {"right": right, "scale × 1.02": wrong_scale, "looks ahead": cheating}
print("last losses:", {name: round(curve[-1].item(), 2) for name, curve in last.items()})

# %%
curves = {"our kernels": losses, "eager": eager}
curves |= {"scale × 1.02": wrong_scale, "looks ahead": cheating}

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.2))
for name, curve in curves.items():
    style = "--" if name == "eager" else "-"
    ax.plot((curve - right).abs().clamp(min=1e-5), style, label=name)
ax.set(xlabel="step", ylabel="difference from PyTorch's loss", yscale="log", ylim=(5e-6, 3))
ax.set_title("What a difference of curves shows")
ax.legend(ncols=2)
print(describe(fig))

# %% [markdown]
# *Figure 3. Beside the noise, drawn at 0.00001, both bugs show within ten steps, though a scale that
# is off by 2 % hides in it now and then; in the curve itself it cannot be seen at all.*
#
# A model with a wrong scale learns around it. Its loss ends within 0.001 of the right one, and
# nobody would notice in a plot. The model that looks ahead even learns **better**, since it is
# shown the answer, and will fail when it has to write. So:
#
# - a loss that falls proves next to nothing;
# - a loss that is lower than it should be is a reason to worry;
# - the difference to a reference, at the same start and on the same data, tells a bug from
#   rounding.
#
# With dropout this comparison is not possible: PyTorch draws other random numbers than our kernels
# do. Switch it off, and test dropout by itself, as in
# [flash attention, backward](05_flash_backward.ipynb).
#
# ## 5. Padding
#
# Texts in a batch differ in length, and the shorter ones are filled up. The mask that hides the
# filling is, in PyTorch, a boolean tensor that broadcasts to (B, H, M, N). A kernel could take it
# like that, and would then read a flag for each **score**. But padding hides keys, the same ones
# from every query: a flag for each **key** is enough.

# %%
q, k, v = torch.randn(3, 2, 2, 16, 16)
real = torch.arange(16) < torch.tensor([[16], [9]])  # (B, N): the second text has 9 words
bias = torch.zeros(2, 1, 16, 16).masked_fill(~real[:, None, None, :], -torch.inf)
right = F.scaled_dot_product_attention(q, k, v, real[:, None, None, :])

# %%
for name, options in {"key_mask": {"key_mask": real}, "bias": {"bias": bias}}.items():
    with watch() as report:
        out = kernels.attention(q, k, v, **options)
    read = report.traffic[f"x.{name}.ptr"].loaded
    print(f"{name}: {read} bytes of it; right: {torch.allclose(out, right, atol=1e-6)}")

# %% [markdown]
# ### Exercise 2: the cheapest form


# %%
def mask_options(mask: Tensor | None, q: Tensor, k: Tensor) -> dict[str, Tensor]:
    """The keyword arguments that make kernels.attention hide what the mask hides.

    mask: bool, True where a key may be seen, broadcastable to (B, H, M, N), or None. q: (B, H, M,
    D); k: (B, H, N, D). A mask that is the same for all heads and queries becomes key_mask, bool
    (B, N): one flag a key. Any other becomes bias: 0 or -inf, in the dtype of q.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.mask_options", mask_options)

# %% [markdown]
# {{ help kernels.mask_options }}
#
# The library does the same between its models and the kernels. So a padded batch gives the same
# loss as with PyTorch:

# %%
batch = ids.repeat(2, 1)
padding = (torch.arange(27) < torch.tensor([[27], [20]])).long()
labels = batch.masked_fill(padding == 0, -100)

# %%
found = {}
for backend in ("triton", "torch"):
    with use_backend(backend):
        found[backend] = ours(batch, padding, labels=labels).loss.item()
print("equal:", abs(found["triton"] - found["torch"]) < 1e-6)

# %% [markdown]
# ## 6. Writing
#
# The trained model has learnt the rhyme. When it writes, it computes one query at a time; keys and
# values of the words before are in a cache.

# %%
with use_backend("triton"), watch() as report:
    written = ours.generate(ids[:, :3], max_new_tokens=12)[0]
print(" ".join(words[i] for i in written))
print(f"{report.kernels.count('_forward')} launches of forward for 12 words and 2 layers")

# %% [markdown]
# Two layers, once for the prompt of three words and once for each word but the last. A query that
# is alone gives a GPU little to do: one program a head. The library has a kernel for
# that, which splits the keys among programs and merges the parts (exercise 4 of
# [flash attention, forward](04_flash_forward.ipynb)). We plug it into the model with one line:


# %%
def decoding(q, k, v, scale, **options):
    return decode_attention(q, k, v, scale=scale, shares=2)


# %%
with mock.patch("minift.models.gpt2.attention", decoding), watch() as report:
    again = ours.generate(ids[:, :3], max_new_tokens=12)[0]
print("the same words:", torch.equal(again, written))
print("kernels:", *dict.fromkeys(report.kernels))

# %% [markdown]
# ### What a word costs
#
# Each new word reads all keys and values before it, in every layer, for a handful of FLOPs a
# number. So on the roofline generation lies far down the slope, and the bytes of the cache decide.
#
# ### Exercise 3: predict, then measure
#
# The check measures with the real kernel.


# %%
def cache_bytes(
    layers: int, heads: int, kv_heads: int, head_dim: int, length: int, dtype: torch.dtype
) -> int:
    """The bytes of keys and values that attention reads to generate one token of one text.

    `length` positions are in the cache. Query heads (`heads`) that share a key head are handled
    by one program, so that each key and value is read once.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.cache_bytes", cache_bytes)

# %% [markdown]
# {{ help kernels.cache_bytes }}


# %%
def read_a_token(heads: int, kv_heads: int, length: int, dtype: torch.dtype) -> int:
    """Measured, for one layer with heads of 16 numbers."""
    q = torch.randn(1, heads, 1, 16).to(dtype)
    k, v = torch.randn(2, 1, kv_heads, length, 16).to(dtype)
    with watch() as report:
        decode_attention(q, k, v)
    return report.traffic["k.ptr"].loaded + report.traffic["v.ptr"].loaded


# %%
lengths = (32, 64, 128, 256)
settings = {"4 heads, fp32": (4, 4, torch.float32), "4 heads, fp16": (4, 4, torch.float16)}
settings["4 heads that share one, fp16"] = (4, 1, torch.float16)

# %%
fig, ax = plt.subplots()
for name, (heads, kv_heads, dtype) in settings.items():
    read = [read_a_token(heads, kv_heads, n, dtype) // 1024 for n in lengths]
    ax.plot(lengths, read, marker="o", label=name)
ax.set(xlabel="words in the cache", ylabel="kB read, one layer", title="What a word reads")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. A straight line, not a square: 16 bits halve it, and four heads that share their keys
# divide it by four.*
#
# ## 7. Checkpointing
#
# What a layer keeps for its backward pass adds up over the layers. `checkpoint` keeps only the
# input of a layer and computes it again when its gradients are due. For that the forward pass has
# to give the same result twice, dropout included: PyTorch restores its generator, and our seed is
# drawn from it.

# %%
layer = GPT2LMHeadModel(replace(config, attn_pdrop=0.2)).transformer.layers[0]


def layer_gradient(again: bool) -> tuple[Tensor, list[str]]:
    """The gradient of the layer's input, with or without computing the layer again."""
    torch.manual_seed(1)
    x = torch.randn(1, 27, 32, requires_grad=True)
    call = (layer, x, None, None, False)
    with watch() as report, use_backend("triton"):
        y, _ = checkpoint(*call, use_reentrant=False) if again else layer(*call[1:])
        y.square().sum().backward()
    return x.grad, report.kernels


# %%
(kept, few), (made_again, more) = layer_gradient(False), layer_gradient(True)
print("without:", *few)
print("with:   ", *more)
print("the same bits:", torch.equal(kept, made_again))

# %% [markdown]
# One more launch of forward, and the same bits, with dropout on.
#
# ## 8. On a GPU
#
# What would you change to train this on a GPU? `model.cuda()`, and that is all. The tensors are on
# the GPU, so `attention` takes the kernels by itself, and `kernels.launch` starts them there
# instead of interpreting them. A few things are worth knowing:
#
# - **The first call compiles.** It takes seconds; the result is cached on disk.
# - **16 bits.** Tensor cores want fp16 or bf16: `torch.autocast("cuda", torch.bfloat16)`, or
#   bf16 parameters with `kernels.AdamW`, which then keeps fp32 copies of them. Expect differences
#   of a percent between two right programs, and compare in fp32 first.
# - **Sizes.** Our 27 words would not fill one of 132 multiprocessors. Gains begin with thousands
#   of positions; `python -m kernels bench` measures them, against PyTorch's own kernels.
# - **Nothing here is a speed.** An interpreter shows what is computed, touched and moved. How long
#   it takes, only a GPU can tell.
# - **Compiling the model.** `torch.compile` and `torch.export` follow a model operation by
#   operation, and cannot look into a kernel. So `kernels.attention` is registered as an operation
#   of PyTorch's, with a rule for its gradient. Exported, a layer has it as one node:


# %%
class Attention(torch.nn.Module):
    def forward(self, q, k, v):
        return kernels.attention(q, k, v, causal=True)


exported = torch.export.export(Attention(), tuple(torch.randn(3, 1, 2, 20, 16)))
nodes = [str(node.target) for node in exported.graph.nodes if node.op == "call_function"]
print("operations of the kernels:", sum(name.startswith("kernels.") for name in nodes))

# %% [markdown]
# ## Summary
#
# - One function chooses who computes attention, and no model knows. Two implementations are
#   compared by logits, by every gradient, and by a short training run against the noise floor.
#   A loss that falls proves little.
# - A mask goes to the kernel in its cheapest form. A generated word reads the whole cache; 16 bits
#   and shared heads make it smaller. Checkpointing works because the kernels give the same bits
#   twice.
#
# **The whole part.** You began with ten numbers in blocks of four. Since then: masks and races;
# bytes and the roofline; reductions and a softmax that runs along a row; tiles, tensor cores and
# machine code; attention that stores no scores, and its gradients that make them again; an
# optimiser in one launch; and a model that runs on all of it, to the same loss. The three
# questions are the same for any kernel: what has to move, who owns what, and what is rounding?
#
# **Next:** train the rhyme with `attn_pdrop=0.1` on both backends and compare ten seeds each: are
# the mean curves equal? Then use a real model for a real task: [finding
# names](../3-finetuning/01_ner.ipynb).

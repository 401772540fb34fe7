# %% [markdown]
# # Flash attention, forward: scores that are never stored
#
# In [matrix products](03_matmul.ipynb) you kept tensor cores busy, in [softmax](02_softmax.ipynb)
# you ran along a row once with a maximum and a sum that are mended. Attention is two products with
# a softmax in between. Written as three kernels, it spends its time on moving scores to memory and
# back. Written as one, it moves none. That kernel is called **flash attention** (Dao et al. 2022),
# and here you write it.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - count what attention moves, and say why it grows with the square of the length or does not;
# - carry a weighted sum of values along a row of scores, tile by tile;
# - write flash attention as one kernel, and say which program touches which keys;
# - skip the tiles that a causal mask hides, and mask only those that need it;
# - merge attention over two sets of keys into attention over both;
# - tell a wrong kernel from a rounded one.
#
# *90 minutes with the exercises; 25 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import inspect
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from kernels.lab import check as watch
from kernels.lab import example, roofline
from kernels.lab.drawing import draw_pairs, draw_steps
from kernels.ladder import attention, compile_launches, rungs
from minift.course import check
from minift.course.figures import describe, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. What attention moves
#
# Each query asks all keys, and gets a weighted mean of their values:
#
# $$s = \frac{q k^T}{\sqrt D} \qquad p = \text{softmax}(s) \qquad o = p\,v$$
#
# With M queries, N keys and vectors of D numbers, q is (M, D), k and v are (N, D), and the scores
# s are (M, N). Here is one query with four keys. The exponentials of its scores are 1, 2, 4 and 1,
# so the weights are eighths.

# %%
s = torch.tensor([1.0, 2.0, 4.0, 1.0]).log()
v = torch.tensor([8.0, 0.0, 4.0, 8.0])
p = s.exp() / s.exp().sum()
print((8 * p).round(decimals=3).tolist(), "eighths; output", round((p @ v).item(), 3))

# %% [markdown]
# (8 + 16 + 8) / 8 = 4. A model does this for every query of every head.
#
# The library has a ladder for attention: six versions, each with one reason. The first does what
# the formula says, with a kernel for each of its three parts. What passes between them goes
# through memory.

# %%
for rung in rungs("attention"):
    print(rung.version, rung.reason)

# %%
q, k, v = torch.randn(3, 1, 1, 64, 16)  # (batch, heads, T, D) each
with watch() as report:
    out = attention.v1(q, k, v)
print(report.report())

# %%
print(
    "equal to PyTorch's:", torch.allclose(out, F.scaled_dot_product_attention(q, k, v), atol=1e-6)
)

# %% [markdown]
# The names of the tensors are those of the three kernels. `s_ptr` is where the first stores the
# scores. The second, a softmax, reads them (`x_ptr`) and stores weights (`out_ptr`). The third
# reads the weights (`p_ptr`). 64 · 64 scores of 4 bytes are 16,384 bytes, and they move four
# times. How does that grow with the length?

# %%
lengths = (16, 32, 64, 128, 256)
moved = {"scores and weights": [], "q, k, v, out": []}
for T in lengths:
    q, k, v = torch.randn(3, 1, 1, T, 16)
    with watch() as report:
        attention.v1(q, k, v)
    scores = [report.traffic[name] for name in ("s_ptr", "x_ptr", "out_ptr", "p_ptr")]
    moved["scores and weights"].append(sum(t.loaded + t.stored for t in scores))
    moved["q, k, v, out"].append(4 * q.nbytes)

# %%
fig, ax = plt.subplots()
for name, counts in moved.items():
    ax.plot(lengths, counts, marker="o", label=name)
ax.set(xlabel="length T", ylabel="bytes of one head", title="What three launches move")
ax.set(xscale="log", yscale="log", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 1. The tensors grow with T, the scores with its square: at T = 256 they are 94 % of
# both.*
#
# What is that on a GPU? Take a real size: T = 4096, D = 64, fp16, one head. Both ways do the same
# FLOPs, 4 · T · T · D (two products, and 2 for each multiplication with its addition).

# %%
T, D = 4096, 64
flops, tensors, scores = 4 * T * T * D, 4 * T * D * 2, 4 * T * T * 4
for name, moved in {"three launches": tensors + scores, "no scores": tensors}.items():
    bound = roofline(moved, flops, arch="sm_90", name=name)
    print(f"{name}: {bound.intensity:.0f} FLOP a byte, limit {bound.limit}", end=", ")
    print(f"at least {bound.seconds * 1e6:.0f} microseconds")

# %% [markdown]
# More than eighteen times as long, for bytes that nobody asked for. (These are bounds, not
# measurements.) The scores are made from q and k, used once, and forgotten. They need not be in
# memory at all, if one program can make them, use them, and go on. The obstacle is the softmax: it
# wants the whole row before the first weight is known.
#
# ## 2. A weighted mean, tile by tile
#
# You know the way out from [softmax](02_softmax.ipynb): keep the highest score so far and the sum
# relative to it, and mend the sum when a higher score comes. The output is a sum too, the sum of
# weights times values. So it can be mended by the same factor. The division waits until the end.
#
# $$\text{higher} = \max(\text{high}, \max_j s_j) \qquad
# p_j = 2^{s_j - \text{higher}} \qquad \text{rescale} = 2^{\text{high} - \text{higher}}$$
#
# $$\text{total} \leftarrow \text{total} \cdot \text{rescale} + \textstyle\sum_j p_j \qquad
# \text{acc} \leftarrow \text{acc} \cdot \text{rescale} + \textstyle\sum_j p_j v_j$$
#
# The base is 2 because a GPU has an instruction for $2^x$ and none for $e^x$. Since
# $e^s = 2^{s \log_2 e}$, it is enough to have log₂(e) in the scale of the scores, and there is a
# multiplication by a scale anyway. Four keys, in tiles of two:

# %%
s, v = torch.tensor([0.0, 1.0, 3.0, 2.0]), torch.tensor([15.0, 0.0, 15.0, 30.0])
high, total, acc = -math.inf, 0.0, 0.0

# %%
for scores, values in zip(s.split(2), v.split(2), strict=True):
    higher = max(high, scores.max().item())
    p, rescale = torch.exp2(scores - higher), 2 ** (high - higher)
    total, acc = total * rescale + p.sum().item(), acc * rescale + (p @ values).item()
    high = higher
    print(f"weights {p.tolist()}, rescale {rescale}: total {total}, acc {acc}")
print("output:", acc / total, " at once:", (torch.exp2(s) @ v / torch.exp2(s).sum()).item())

# %% [markdown]
# After the first tile the weights are relative to $2^1$. The second brings a score of 3, so what
# was there shrinks to a quarter. Nothing is approximated: both ways give 17.
#
# ### Exercise 1: one tile of keys
#
# In PyTorch first, for M queries at once. Mind rows that have seen nothing but −∞ so far: the
# trap of −∞ − (−∞), from the softmax notebook.


# %%
def flash_step(
    high: Tensor, total: Tensor, acc: Tensor, scores: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The state (high, total, acc) after one more tile of keys, in base 2.

    high: (M,), the highest score so far, -inf before the first; total: (M,), Σ 2^(s - high);
    acc: (M, D), Σ 2^(s - high) · v. The tile: scores (M, N), v (N, D). Scores may be -inf.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.flash_step", flash_step)

# %% [markdown]
# {{ help kernels.flash_step }}
#
# Around that step goes a loop over tiles, and that is the whole algorithm. Here it is in PyTorch,
# with three switches for breaking it later on.

# %%
LOG2_E = math.log2(math.e)


def by_tiles(q, k, v, block, causal=False, mended=True, ahead=0, log2_e=LOG2_E):
    """Attention of q: (M, D) over k, v: (N, D), `block` keys at a time."""
    (M, D), N = q.shape, len(k)
    high, total, acc = torch.full((M,), -math.inf), torch.zeros(M), torch.zeros(M, D)
    last = torch.arange(M) + N - M + ahead if causal else torch.full((M,), N)
    for start in range(0, N, block):
        keys = torch.arange(start, min(start + block, N))
        s = q @ k[keys].T * (D**-0.5 * log2_e)
        s = s.masked_fill(keys > last[:, None], -math.inf)
        higher = torch.maximum(high, s.amax(1))
        p = torch.exp2(s - higher[:, None])
        rescale = torch.exp2(high - higher) if mended else torch.ones(M)
        total = total * rescale + p.sum(1)
        acc = acc * rescale[:, None] + p @ v[keys]
        high = higher
    return acc / total[:, None]


# %%
q, k, v = torch.randn(3, 100, 32)
right = F.scaled_dot_product_attention(q, k, v)
for block in (1, 16, 33, 100):
    print("keys a step:", block, torch.allclose(by_tiles(q, k, v, block), right, atol=1e-6))

# %% [markdown]
# ## 3. One kernel
#
# On a GPU, a program owns BLOCK_M queries of one head. It loads them once and walks over the keys.
# Rung v3 of the ladder does that. We watch program 1 of four at work:

# %%
q, k, v = torch.randn(3, 1, 1, 64, 16)
with watch(trace=True) as report:
    attention.v3(q, k, v, tile=(16, 16))
fig = draw_steps(report, {"q_ptr": q, "k_ptr": k, "o_ptr": q}, program=(1, 0, 0))
for ax in fig.axes:
    ax.set(xlabel="column", ylabel=ax.get_ylabel() or "row")
print(describe(fig))

# %% [markdown]
# *Figure 2. Program 1 reads its 16 queries once and the keys tile after tile (the values
# likewise), and writes its 16 rows of output at the end.*
#
# No tensor of scores appears: a tile of 16 × 16 of them lives in registers for the length of one
# step.
#
# **Predict first.** T = 64, D = 16, fp32, and 16 queries a program. A matrix has 4,096 bytes. How
# many bytes of q, of k, and of out move? Then run the cell.

# %%
for name, t in report.traffic.items():
    print(f"{name}: loaded {t.loaded}, stored {t.stored}")

# %% [markdown]
# q and out move once. k and v move once for each program, so four times. Larger tiles of queries
# mean fewer programs and less traffic; and what several programs read at about the same time
# mostly comes from the cache.
#
# ### Exercise 2: flash attention
#
# One head, any number of queries and keys. Two things are new against exercise 1. The products
# are `tl.dot`, with `tl.trans(k)` for kᵀ, and the weights are cast to the type of v, because
# tensor cores want both sides in 16 bits. And keys that do not exist must not count: a masked load
# gives them zeros, so their score would be 0, which is not nothing. (For fp32, give `tl.dot`
# `input_precision="ieee"`: otherwise a GPU rounds its operands to 10 binary digits.)


# %%
@triton.jit
def flash_forward(
    q_ptr, k_ptr, v_ptr, out_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """out = softmax(q kᵀ / √D) v for one head. q, out: (M, D); k, v: (N, D), row after row.

    fp32, fp16 or bf16; sums in fp32. scale is log₂(e) / √D, so that scores come out in base 2.
    Program p owns queries p·BLOCK_M to (p + 1)·BLOCK_M - 1 and walks over all keys, BLOCK_N at a
    time. D is a power of two, 16 or more.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.flash_forward", flash_forward)

# %% [markdown]
# {{ help kernels.flash_forward }}
#
# ## 4. Causal: half of the work
#
# A language model may not look ahead. Query i sees the keys up to its own place; if there are more
# keys than queries (a text that goes on from a cache), the queries are the last M of the N places:
#
# $$j \le i + N - M$$
#
# Masking is easy: set the hidden scores to −∞. But half of all tiles are hidden altogether. They
# are not masked, they are not visited. Rung v5 does that:

# %%
q, k, v = torch.randn(3, 1, 1, 96, 16)
with watch(trace=True) as report:
    attention.v5(q, k, v, causal=True, tile=(32, 16))
fig = draw_pairs(report, {"q_ptr": q}, {"k_ptr": k})
fig.axes[0].set(xlabel="key", ylabel="query")
print(describe(fig))

# %% [markdown]
# *Figure 3. Which program makes which tile of scores, in its order; the pale part is made by
# nobody.*
#
# Program 1 owns queries 32 to 63. All of them see the keys of its first two tiles: no mask needed
# there. The diagonal goes through tiles 3 and 4. So v5 has two loops around one step, one without
# a mask and one with:

# %%
print(inspect.getsource(attention._step.fn))

# %% [markdown]
# `MASK` is a `tl.constexpr`, so the compiler makes two versions of the step. The first has no
# comparison in it, and on long texts nearly all tiles go through it.
#
# ### Exercise 3: which tiles?


# %%
def causal_tiles(first: int, block_m: int, block_n: int, M: int, N: int) -> tuple[int, int]:
    """(full, end): tiles 0 … full-1 need no mask, full … end-1 need one, the rest is skipped.

    The program owns queries first … first + block_m - 1, as far as there are such (i < M).
    Query i sees key j when j <= i + N - M; M <= N. Tile t holds keys t·block_n to
    (t + 1)·block_n - 1, and is full only if all of them exist and every query sees them.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.causal_tiles", causal_tiles)

# %% [markdown]
# {{ help kernels.causal_tiles }}
#
# How much work is left? The interpreter counts the FLOPs of all products. Needed are
# 4 · D for each score that somebody sees, T · (T + 1) / 2 of them.

# %%
for T in (32, 64, 128, 256):
    q, k, v = torch.randn(3, 1, 1, T, 16)
    with watch() as report:
        attention.v5(q, k, v, causal=True, tile=(16, 16))
    needed = 4 * 16 * T * (T + 1) // 2
    print(f"T = {T:>3}: {report.dot_flops / needed:.2f} times the needed FLOPs")

# %% [markdown]
# The excess is the upper half of the tiles on the diagonal. Its share is BLOCK / T, and goes away
# as texts grow.
#
# ## 5. The ladder
#
# The versions side by side, for T = 64 and D = 16 in fp32: what do they move, and how many scores
# go to memory? v2 holds all keys at once, and in fp32 64 of them are the most that it can.

# %%
q, k, v = torch.randn(3, 1, 1, 64, 16)
right = F.scaled_dot_product_attention(q, k, v)
for rung in rungs("attention")[:5]:
    with watch() as report:
        out = rung.function(q, k, v)
    stored = report.traffic["s_ptr"].stored // 4 if "s_ptr" in report.traffic else 0
    equal = torch.allclose(out, right, atol=1e-6)
    total = report.loaded + report.stored
    print(f"{rung.version}: {len(report.kernels)} launches, {total:>6} bytes", end="; ")
    print(f"{stored:>4} scores stored; right: {equal}")

# %% [markdown]
# v6 is the library's `kernels.attention`. It also stores one number a query for the backward pass:

# %%
with watch() as report:
    out = kernels.attention(q, k, v)
print("right:", torch.allclose(out, right, atol=1e-6))
print({name: t.stored for name, t in report.traffic.items() if t.stored}, "bytes stored")

# %%
lengths = (32, 64, 128, 256)
moved = {"v1": [], "v3, 16 queries a program": [], "v3, 64 queries a program": []}
for T in lengths:
    q, k, v = torch.randn(3, 1, 1, T, 16)
    for name, counts in moved.items():
        with watch() as report:
            attention.v1(q, k, v) if name == "v1" else attention.v3(
                q, k, v, tile=(int(name[4:6]), 32)
            )
        counts.append((report.loaded + report.stored) / (4 * q.nbytes))

# %%
fig, ax = plt.subplots()
for name, times in moved.items():
    ax.plot(lengths, times, marker="o", label=name)
ax.axhline(1, color="gray", linestyle="--", label="each tensor once")
ax.set(
    xlabel="length T", ylabel="times q, k, v, out", title="Traffic against length (fp32, D = 16)"
)
ax.set(xscale="log", yscale="log", xticks=lengths, xticklabels=lengths)
ax.set(yticks=[1, 3, 10, 30], yticklabels=[1, 3, 10, 30])
ax.minorticks_off()
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. Bytes in units of the four tensors: v3 reads k and v once for each program, and a
# program with four times the queries means a quarter as many programs.*
#
# v3 still grows with T, because every program reads all keys. But it does so T / BLOCK_M times,
# not T times, and with 128 queries a program (what v6 takes in 16 bits) arithmetic is the limit.
#
# ### What a score costs
#
# When arithmetic is the limit, instructions count. Products run on tensor cores; everything else
# (scale, mask, maximum, exponential, sum) is done by ordinary threads, for each single score. We
# compile v3 to v5 for an H100, with tiles of 64 × 64, and count instructions a score, without those
# of the tensor cores.

# %%
from kernels.flash_attention.layouts import Layout
from kernels.verification.attention import compile_attention

x = example((1, 4, 1024, 64), torch.float16)
codes = {}
for version in (attention.v3, attention.v4, attention.v5):
    (codes[version.__name__],) = compile_launches(version, x, x, x, arch="sm_90")
price = {name: round(code.instructions_per_score(64 * 64)) for name, code in codes.items()}
print(price, "tensor cores:", {code.tensor_core for code in codes.values()})

# %% [markdown]
# `exp2` instead of `exp` saves four, as the price list of the first notebook says. No mask in the
# main loop saves three more. And v6 on an A100 and an H100? A `Layout` is how a program is laid
# out: 128 queries, 64 keys a step, 4 warps, 3 tiles in flight. `spills` are registers that did not
# fit and go to memory in the middle of the loop.

# %%
for arch in ("sm_80", "sm_90"):
    code = compile_attention("forward", torch.float16, 64, arch, layout=Layout(128, 64, 4, 3))
    price[f"v6 {arch}"] = round(code.instructions_per_score(128 * 64))
    print(f"{arch}: {code.spills_in_loop} spills, {code.tensor_core}", end=", ")
    print("nearly all of the 255 registers in use:", 200 < code.registers <= 255)

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.8))
bars = ax.bar(list(price), list(price.values()))
ax.bar_label(bars)
ax.axhline(4.5 + 64 / 64, color="black", linestyle="--", label="floor")
ax.legend()
ax.set(
    xlabel="version",
    ylabel="instructions a score",
    title="What a score costs (fp16, D = 64)",
    ylim=(0, 18),
)
print(describe(fig))

# %% [markdown]
# *Figure 5. From v3 to v6 the price of a score is halved; scale, maximum, exponential and sum
# alone make the floor.*
#
# The floor is about 4.5 for the work on each score, and D / BLOCK_N for mending acc. Anything
# above it is worth a look at the machine code.
#
# ## 6. Heads that share keys
#
# Many models have fewer key heads than query heads (grouped-query attention, GQA): Llama 3 has 32
# and 8. The cache of keys is then a quarter of the size. In the kernel it is one line: query head
# h reads key head `h // GROUP`, with GROUP = H / H_kv.

# %%
q, k, v = torch.randn(2, 4, 40, 16), *torch.randn(2, 2, 2, 40, 16)
right = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
print("h // GROUP:", torch.allclose(kernels.attention(q, k, v, causal=True), right, atol=1e-6))

# %%
mixed = F.scaled_dot_product_attention(
    q, k.repeat(1, 2, 1, 1), v.repeat(1, 2, 1, 1), is_causal=True
)
print("h % H_kv:  ", torch.allclose(mixed, right, atol=1e-6))

# %% [markdown]
# `h % H_kv` also gives each query head a key head, without any complaint, and a model that was
# trained with the other one talks nonsense.
#
# ## 7. Two parts make a whole
#
# When a model writes, there is **one** query and a long cache of keys. One query is one program a
# head, and most of a GPU idles. So the keys are split: several programs take a share each, and the
# partial results are merged. That needs one more number from each part, the logarithm of its sum
# of exponentials, the **LSE**. (It is also what the backward pass needs. `kernels.attention` gives
# it with `return_lse=True`.)
#
# ### Exercise 4: merging two parts


# %%
def merge_parts(
    out_1: Tensor, lse_1: Tensor, out_2: Tensor, lse_2: Tensor
) -> tuple[Tensor, Tensor]:
    """(out, lse) over all keys, from two attentions of the same queries over different keys.

    out: (M, D); lse: (M,) = log Σ exp(score), natural logarithm. A query that sees none of the
    keys of a part has out = 0 and lse = -inf there, and so has the result if it sees none at all.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.merge_parts", merge_parts)

# %% [markdown]
# {{ help kernels.merge_parts }}
#
# The library's kernel for this is `decode_attention`: one launch for the shares, one that merges.
# The number of shares changes nothing but the last digits.

# %%
from kernels.decoding import decode_attention

# %%
q, k, v = torch.randn(1, 2, 1, 16), *torch.randn(2, 1, 2, 600, 16)
right = F.scaled_dot_product_attention(q, k, v)
for shares in (1, 2, 4):
    out = decode_attention(q, k, v, shares=shares)
    print(f"shares: {shares:>2}, right:", torch.allclose(out, right, atol=1e-6))

# %% [markdown]
# ## 8. Wrong, or rounded?
#
# So far we asked whether two results differ by less than a millionth. Where does such a number
# come from? Many tests of attention take 0.01, and that is far too much. Let us break `by_tiles`
# in three ways and look:
#
# - the values are not mended when the maximum rises;
# - the causal mask is off by one, so that a query sees one key of the future;
# - log₂(e) is taken as 1.44 instead of 1.4427.
#
# The reference is computed in fp64. What can rounding in fp32 explain? A score of size S, in base
# 2, is off by a few eps · S · log₂(e), and so is the weight, as a share of itself. Then the output
# is off by that share of C, the same weighted mean taken over absolute values. With eps = 2⁻²³:
#
# $$|\text{error}| \;\le\; 4\,\text{eps}\,(1 + \max|S| \cdot \log_2 e) \cdot C$$

# %%
q, k, v = 0.3 * torch.randn(3, 64, 16)
exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)
C = F.scaled_dot_product_attention(q.double(), k.double(), v.double().abs(), is_causal=True)
sizes = (q.abs() @ k.abs().T / 4).tril().amax(1, keepdim=True)  # √16 = 4
bound = 4 * 2**-23 * (1 + sizes * LOG2_E) * C

ways = {"right": {}, "not mended": {"mended": False}, "mask off by one": {"ahead": 1}}
ways["log₂(e) = 1.44"] = {"log2_e": 1.44}

# %%
errors = {}
for name, change in ways.items():
    errors[name] = (by_tiles(q, k, v, 16, causal=True, **change) - exact).abs()
ours = kernels.attention(*(t[None, None] for t in (q, k, v)), causal=True)[0, 0]
errors["kernels.attention"] = (ours - exact).abs()
for name, error in errors.items():
    passes = f"{bool(error.max() < 0.01)!s:<5} {bool((error <= bound).all())}"
    print(f"{name:<18} within 0.01, within the bound: {passes}")

# %% [markdown]
# A tolerance of 0.01 lets two of the three bugs through. The bound catches all three, and has room
# for what is merely rounded.

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.4))
for name in ("not mended", "mask off by one", "log₂(e) = 1.44"):
    ax.plot(torch.maximum(errors[name], bound).amax(1), label=name)
ax.plot(bound.amax(1), color="black", linestyle="--", label="bound")
ax.axhline(0.01, color="gray", linestyle=":", label="0.01")
ax.set(xlabel="query", ylabel="largest error", title="Three bugs", yscale="log")
ax.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, -0.55))
print(describe(fig))

# %% [markdown]
# *Figure 6. The error of each query: what rounding cannot explain lies above the dashed line
# and what it can is drawn on it.*
#
# Each bug has its own shape. Forgetting to mend shows only in rows whose maximum rises after the
# first tile of 16 keys.
# The mask that is off by one does most harm to the first queries, which see few keys, and none to
# the last, which has no future. A test on the last row alone would pass it. So the library's tests
# look at every element, in fp32, against this bound, over ragged shapes; and each of these bugs is
# put into the kernels once, to see that a test fails.
#
# In 16 bits the same bound holds with the rounding of weights and output added to it. fp32 is
# where logic is tested, 16 bits is where precision is.

# %%
for dtype in (torch.float16, torch.bfloat16):
    q, k, v = torch.randn(3, 1, 2, 100, 32).to(dtype)
    exact = F.scaled_dot_product_attention(*(t.double() for t in (q, k, v)), is_causal=True)
    error = (kernels.attention(q, k, v, causal=True) - exact).norm() / exact.norm()
    print(dtype, "error below half a rounding:", bool(error <= 0.5 * torch.finfo(dtype).eps))

# %% [markdown]
# ## Summary
#
# - Attention in three kernels moves its scores four times, and their number grows with T². In one
#   kernel they never leave the registers: a highest score, a sum and a weighted sum of values run
#   along the keys, and are mended when the maximum rises.
# - A program owns queries and walks over keys. Under a causal mask it skips the tiles that nobody
#   sees, and only those on the diagonal are masked. Base 2 and a main loop without a mask halve
#   the price of a score.
# - Partial results merge by their LSE. A bound that is computed, not guessed, tells a bug from a
#   rounding.
#
# **Next:** what does `causal_tiles` become with a sliding window, where query i sees only the last
# W keys? Then run it all backwards: [flash attention, backward](05_flash_backward.ipynb).

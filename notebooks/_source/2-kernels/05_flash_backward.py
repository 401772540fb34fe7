# %% [markdown]
# # Flash attention, backward: scores that are made again
#
# In [flash attention, forward](04_flash_forward.ipynb) no score was ever stored. Training needs
# gradients, and the usual way to get them through a softmax is to keep its result. That result is
# what we just got rid of. So the backward pass makes the scores **again**, tile by tile, from q
# and k. It does more arithmetic than a backward pass that remembers, and is faster for it.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - work out the gradient of a softmax by hand, and of attention in five lines;
# - say what has to be kept for the backward pass, and what is cheaper to make again;
# - split the work among three kernels so that each number has one owner, and say why the result
#   is then the same in every run;
# - get the same random numbers forward and backward without storing any;
# - find a bug in a gradient.
#
# *90 minutes with the exercises; 25 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")


import matplotlib.pyplot as plt
import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import reference
from kernels.lab import check as watch
from kernels.lab.drawing import draw_programs
from minift.course import check
from minift.course.figures import describe, heatmap, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. Backwards through a softmax
#
# One query has three keys, with weights ½, ¼ and ¼. From behind comes the gradient of the loss
# with respect to each weight, `dp`: if the first weight grew by a little, the loss would grow by 4
# times that. What is the gradient with respect to the scores?
#
# A score that rises makes its own weight rise and the others fall, because the sum of the weights
# stays 1. In numbers:
#
# $$\frac{\partial p_j}{\partial s_i} = p_j\,(\mathbb{1}[i = j] - p_i)$$

# %%
p = torch.tensor([0.5, 0.25, 0.25])
change = torch.diag(p) - p[:, None] * p
print((16 * change).tolist(), "sixteenths")

# %%
fig, ax = plt.subplots(figsize=(3.6, 2.9))
names = ["0", "1", "2"]
heatmap(ax, 16 * change, rows=names, columns=names, numbers=".0f")
ax.set(xlabel="score", ylabel="weight", title="Sixteenths a unit of score")
print(describe(fig))

# %% [markdown]
# *Figure 1. How much a weight changes when a score rises: its own one up, the others down, and
# each column adds up to zero.*
#
# To go backwards, multiply by that matrix. It need not be built, because it has a short form:
#
# $$ds_j = p_j\,(dp_j - \delta) \qquad \delta = \sum_i p_i\, dp_i$$
#
# δ (delta) is the mean of dp under the weights. A score should rise if its weight pulls harder
# than the mean.

# %%
dp = torch.tensor([4.0, 0.0, 8.0])
delta = (p * dp).sum()
ds = p * (dp - delta)
print(f"delta {delta:.0f}, ds {ds.tolist()}")
print("the same as with the matrix:", torch.equal(change @ dp, ds))

# %%
scores = p.log().requires_grad_()
(scores.softmax(0) * dp).sum().backward()
print("the same as autograd's:", torch.allclose(scores.grad, ds, atol=1e-6))

# %% [markdown]
# Delta is 2 + 0 + 2 = 4. The first key pulls just as hard as the mean, so its score stays. The
# second pulls less, the third more.
#
# ## 2. Backwards through attention
#
# Forward there are two products and a softmax:
#
# $$s = \text{scale} \cdot q k^T \qquad p = \text{softmax}(s) \qquad o = p\,v$$
#
# Each product has two gradients, and each of them is a product again. From the last line to the
# first, with $do$ the gradient that comes in:
#
# $$dv = p^T do \qquad dp = do\, v^T \qquad ds = p \circ (dp - \delta) \qquad
# dq = \text{scale} \cdot ds\, k \qquad dk = \text{scale} \cdot ds^T q$$
#
# (∘ is element by element.) Three queries, three keys:

# %%
q, k, v, do = torch.randn(4, 3, 2).double()
q, k, v = (t.requires_grad_() for t in (q, k, v))
scale = 2**-0.5
p = (scale * q @ k.T).softmax(1)
(p @ v).backward(do)

# %%
with torch.no_grad():
    dv = p.T @ do
    dp = do @ v.T
    ds = p * (dp - (p * dp).sum(1, keepdim=True))
    dq, dk = scale * ds @ k, scale * ds.T @ q
print([torch.allclose(mine, t.grad) for mine, t in ((dq, q), (dk, k), (dv, v))])

# %% [markdown]
# ## 3. What has to be kept
#
# Look at what those lines need: q, k, v, do, which are small, and p, which has M × N numbers.
# PyTorch keeps p. Let us count what autograd holds between forward and backward: a hook sees every
# tensor that is saved.


# %%
def bytes_kept(function, *inputs) -> int:
    """What autograd keeps of a call for its backward pass."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t), lambda t: t
    ):
        function(*inputs)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def by_formula(q, k, v):
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


# %%
lengths = (16, 32, 64, 128, 256)
kept = {"the formula": [], "kernels.attention": []}
for T in lengths:
    q, k, v = (torch.randn(1, 1, T, 16, requires_grad=True) for _ in range(3))
    kept["the formula"].append(bytes_kept(by_formula, q, k, v))
    kept["kernels.attention"].append(bytes_kept(kernels.attention, q, k, v))
print({name: [count // 1024 for count in counts] for name, counts in kept.items()}, "kB")

# %%
fig, ax = plt.subplots()
for name, counts in kept.items():
    ax.plot(lengths, counts, marker="o", label=name)
ax.set(xlabel="length T", ylabel="bytes kept, one head", title="Between forward and backward")
ax.set(xscale="log", yscale="log", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. The formula keeps its weights, and their number grows with the square of the length;
# the kernels keep four tensors and one number a query.*
#
# At T = 4096 with 32 heads and 32 layers, the weights of one text would take 64 GB in fp32. This,
# more than time, is what limited the length of texts before flash attention.
#
# The one number a query is the **LSE**, the logarithm of its sum of exponentials. With it, a
# weight can be made again from one score, without looking at the rest of its row:
#
# $$p_{ij} = \frac{e^{s_{ij}}}{\sum_j e^{s_{ij}}} = e^{s_{ij} - \text{lse}_i}$$

# %%
q, k, v = torch.randn(3, 1, 1, 40, 16)
out, lse = kernels.attention(q, k, v, return_lse=True)
scores = q @ k.mT / 4
tile = torch.exp(scores[..., 16:32, 8:24] - lse[..., 16:32, None])
right = scores.softmax(-1)[..., 16:32, 8:24]
print("a tile of weights, made again:", torch.allclose(tile, right, atol=1e-6))

# %% [markdown]
# ## 4. Delta without the weights
#
# Delta is a sum over a whole row, too: Σ p · dp over all keys. Here the same trick does not help,
# but there is a better one. Write dp out, and exchange the two sums:
#
# $$\delta_i = \sum_j p_{ij} \sum_d do_{id}\, v_{jd} = \sum_d do_{id} \sum_j p_{ij} v_{jd}
# = \sum_d do_{id}\, o_{id}$$
#
# The inner sum on the right is the output. So delta is output times gradient, added up over D
# numbers, and no score is needed. A small kernel does it before the others start.

# %%
do = torch.randn_like(out)
p = scores.softmax(-1)
dp = do @ v.mT
print("equal:", torch.allclose((p * dp).sum(-1), (do * out).sum(-1), atol=1e-5))

# %% [markdown]
# ### Exercise 1: delta


# %%
@triton.jit
def flash_delta(out_ptr, dout_ptr, delta_ptr, M, D, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr):
    """delta[i] = Σ_d out[i, d] · dout[i, d], in fp32.

    out, dout: (M, D), row after row; fp32, fp16 or bf16. delta: (M,) fp32. Program p owns rows
    p·BLOCK_M to (p + 1)·BLOCK_M - 1. BLOCK_D >= D is a power of two.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.flash_delta", flash_delta)

# %% [markdown]
# {{ help kernels.flash_delta }}
#
# ## 5. Tile by tile
#
# With LSE and delta at hand, a tile of queries and a tile of keys are all that is needed for what
# these add to the gradients.
#
# ### Exercise 2: one tile


# %%
def backward_tile(
    q: Tensor, k: Tensor, v: Tensor, dout: Tensor, lse: Tensor, delta: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What a tile of M queries and N keys adds to (dq, dk, dv).

    q, dout: (M, D); k, v: (N, D). lse: (M,), log Σ exp(scale · q·k) over all keys of the
    query, natural logarithm; delta: (M,), Σ_d out · dout of the query.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.backward_tile", backward_tile)

# %% [markdown]
# {{ help kernels.backward_tile }}
#
# The whole backward pass in PyTorch is a loop over tiles. We add a causal mask, and switches for
# breaking it later on.


# %%
def gradients(q, k, v, out, lse, dout, block, causal=False, use_delta=True, log2_e=1.0):
    """dq, dk, dv for q: (M, D), k, v: (N, D), `block` queries and keys at a time."""
    scale, shift = q.shape[1] ** -0.5, len(k) - len(q)
    delta = (out * dout).sum(1, keepdim=True) if use_delta else 0.0
    dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for i in torch.arange(len(q)).split(block):
        for j in torch.arange(len(k)).split(block):
            p = torch.exp((scale * q[i] @ k[j].T - lse[i, None]) * log2_e)
            if causal:
                p = p.masked_fill(j > i[:, None] + shift, 0.0)
            dv[j] += p.T @ dout[i]
            ds = p * (dout[i] @ v[j].T - (delta[i] if use_delta else 0.0))
            dq[i] += scale * ds @ k[j]
            dk[j] += scale * ds.T @ q[i]
    return dq, dk, dv


# %%
def largest_error(mine, right) -> float:
    """In units of the largest number of the right gradient."""
    pairs = zip(mine, right, strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


q, k, v, do = torch.randn(4, 50, 16)
exact = [t.double().requires_grad_() for t in (q, k, v)]
out, lse = reference.attention(*(t[None, None] for t in exact), causal=True)
right = torch.autograd.grad(out, exact, do.double()[None, None])
out, lse = (t.detach().float()[0, 0] for t in (out, lse))
for block in (1, 16, 50):
    mine = gradients(q, k, v, out, lse, do, block, causal=True)
    print(f"tiles of {block}: right within 0.00001:", largest_error(mine, right) < 1e-5)

# %% [markdown]
# ## 6. Who owns what
#
# On a GPU the tiles are spread over programs, and here is the difficulty. A tile adds to dq of its
# queries **and** to dk and dv of its keys. Give a program queries, as forward, and it owns dq, but
# dk and dv are added to by every program. Two programs that add to one number at the same time
# race.
#
# One way out are atomic additions. The other is to do the work twice, with different owners:
#
# - **delta**: owns rows of the output;
# - **dq**: owns queries, walks over keys, as forward;
# - **dkv**: owns keys, walks over queries.
#
# Both big kernels make the scores again. Who writes what in `kernels.attention`?

# %%
q, k, v = (torch.randn(1, 1, 192, 16, requires_grad=True) for _ in range(3))
out = kernels.attention(q, k, v, causal=True)
with watch(trace=True) as report:
    out.sum().backward()
print(report.kernels, "races:", len(report.races))

# %%
written = {"delta_ptr": torch.empty(192, 1), "dq.ptr": q, "dk.ptr": k, "dv.ptr": v}
fig = draw_programs(report, written, kind="store")
for ax in fig.axes:
    ax.set(xlabel="column", ylabel="row")
print(describe(fig))

# %% [markdown]
# *Figure 3. Each row of delta, dq, dk and dv is written by one program (the numbers start anew in
# each kernel).*
#
# The programs of dq begin at the end: under a causal mask, the last queries have the most keys to
# walk over, and the longest work should not start last.
#
# What does it cost? Count products. Forward has two (scores and output). dq has three: scores, dp,
# dq. dkv has four: scores, dp, dv, dk. Remembering the weights would save two of the seven. They
# are made again in registers instead of loaded from memory, and on the roofline that is a bargain.

# %%
q, k, v = (torch.randn(1, 1, 128, 16, requires_grad=True) for _ in range(3))
with watch() as forward:
    out = kernels.attention(q, k, v)
with watch() as backward:
    out.sum().backward()
print("products forward 2, backward", 2 * backward.dot_flops / forward.dot_flops)

# %% [markdown]
# ### Why not atomics?
#
# They are right, up to rounding. But programs come in any order, and additions in another order
# round differently. We add up the same 64 numbers in 2,000 orders, in fp16 and in fp32:

# %%
numbers = torch.randint(-300, 300, (64,)) / 100
orders = torch.stack([torch.randperm(64) for _ in range(2000)])
off = {}
for dtype in (torch.float16, torch.float32):
    x = numbers.to(dtype)
    total = torch.zeros(2000, dtype=dtype)
    for column in orders.T:
        total = total + x[column]
    off[dtype] = (total.double() - x.double().sum()) / torch.finfo(dtype).eps
    print(f"{dtype}: {len(total.unique())} different sums")

# %%
fig, axes = plt.subplots(1, 2, figsize=(7.2, 2.8), sharey=True)
for ax, (dtype, error) in zip(axes, off.items(), strict=True):
    ax.hist(error, bins=15)
    ax.set(xlabel="error, in eps", ylabel="orders", title=str(dtype).removeprefix("torch."))
print(describe(fig))

# %% [markdown]
# *Figure 4. The same 64 numbers, added in 2,000 orders: many results, most of them a little off.*
#
# With atomics the gradient depends on which program happened to come first. Train twice with the
# same seed, and the two runs part. Nobody can then say whether a change made a difference, or
# reproduce the step at which a loss exploded.
#
# With owners, a number depends on one program alone, and the order of its additions is written in
# the code. The interpreter runs programs one after the other, so it would not show a difference.
# But we can take the other programs away: compute each of four heads in a call of its own.


# %%
def all_gradients(q, k, v) -> list[Tensor]:
    given = [t.clone().requires_grad_() for t in (q, k, v)]
    out = kernels.attention(*given, causal=True)
    return torch.autograd.grad(out.square().sum(), given)


# %%
tensors = torch.randn(3, 1, 4, 70, 16)
together = all_gradients(*tensors)
for head in range(4):
    alone = all_gradients(*tensors[:, :, head : head + 1])
    same = [torch.equal(a, b[:, head : head + 1]) for a, b in zip(alone, together, strict=True)]
    print(f"head {head} alone, the same bits of dq, dk, dv:", same)

# %% [markdown]
# ### Exercise 3: programs that own keys
#
# Write the dv part of dkv: scores again, weights, and pᵀ · do added up over all queries. If the
# scores are made transposed, (BLOCK_N, BLOCK_M) = k qᵀ, the weights come out just as the product
# wants them. LSE and scale are in base 2.


# %%
@triton.jit
def flash_dv(
    q_ptr, k_ptr, dout_ptr, lse_ptr, dv_ptr, scale, M, N,
    D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dv = pᵀ dout for one head, with p = 2^(scale · q kᵀ - lse) made again.

    q, dout: (M, D); k, dv: (N, D); row after row; fp32, fp16 or bf16, sums in fp32. lse: (M,)
    fp32, in base 2. Program p owns keys p·BLOCK_N to (p + 1)·BLOCK_N - 1 and walks over all
    queries, BLOCK_M at a time.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.flash_dv", flash_dv)

# %% [markdown]
# {{ help kernels.flash_dv }}
#
# ## 7. Three traps
#
# **A query that saw nothing.** With a causal mask and more queries than keys, the first queries
# see no key. Their sum of exponentials is 0 and their LSE is −∞. Backward, p = exp(s − lse) would
# be exp(+∞) for each of their scores. The kernels read an LSE of −∞ as +∞, so that these weights
# are exp(−∞) = 0.

# %%
q = torch.randn(1, 1, 5, 16, requires_grad=True)
k, v = (torch.randn(1, 1, 3, 16, requires_grad=True) for _ in range(2))
out, lse = kernels.attention(q, k, v, causal=True, return_lse=True)
out.sum().backward()
print(
    "lse of the first two:", lse[0, 0, :2].tolist(), "their dq:", q.grad[0, 0, :2].unique().tolist()
)
print("all gradients finite:", all(bool(t.grad.isfinite().all()) for t in (q, k, v)))

# %% [markdown]
# **Heads that share keys.** With grouped-query attention, a key head is read by GROUP query heads,
# so its gradient is the sum over them. In dkv that is a loop over the group around the loop over
# queries: still one owner. Which heads? The same as forward, `h // GROUP`:

# %%
q = torch.randn(1, 4, 30, 16, requires_grad=True)
k, v = (torch.randn(1, 2, 30, 16, requires_grad=True) for _ in range(2))
dk = torch.autograd.grad(kernels.attention(q, k, v).square().sum(), k)[0]
wide = k.repeat_interleave(2, 1).detach().requires_grad_()  # one key head for each query head
out = kernels.attention(q, wide, v.repeat_interleave(2, 1))
each = torch.autograd.grad(out.square().sum(), wide)[0]

# %%
print("heads 0, 1 and heads 2, 3:", torch.allclose(dk, each.unflatten(1, (2, 2)).sum(2), atol=1e-5))
print("heads 0, 2 and heads 1, 3:", torch.allclose(dk, each.unflatten(1, (2, 2)).sum(1), atol=1e-5))

# %% [markdown]
# **Dropout.** In training, some weights are set to zero at random, and the backward pass has to
# drop the very same ones. Storing which would be a matrix of M × N again. So the random bits must
# be made again, too, by another kernel, in another order of tiles. An ordinary generator, which
# goes from one number to the next, cannot do that.
#
# A **counter-based** generator can: its bits are a function of a seed and of a counter, here of
# the position (key, query, head, batch). The kernels use Philox (Salmon et al. 2011), which
# multiplies and mixes the counter seven times. Whoever asks for the bits of a position gets the
# same ones.
#
# With v the identity matrix, the output **is** the matrix of dropped weights. We look at which are
# zero:

# %%
q, k = torch.randn(2, 1, 1, 32, 32)
identity = torch.eye(32)[None, None]
met = kernels.attention(q, k, identity, dropout_p=0.25, seed=7)[0, 0]
keep = reference.dropout_keep(7, torch.Size((1, 1, 32, 32)), 0.25)[0, 0]
print("the same as in plain PyTorch:", torch.equal(met != 0, keep))
print(f"dropped: {(met == 0).sum().item()} of {met.numel()}")

# %%
fig, ax = plt.subplots(figsize=(4.0, 3.4))
heatmap(ax, met != 0)
ax.set(xlabel="key", ylabel="query", title="Weights that dropout keeps (seed 7)")
print(describe(fig))

# %% [markdown]
# *Figure 5. Dark weights are kept, a quarter is dropped; forward and backward make this pattern
# each for itself, from the seed.*
#
# And the gradient? The kept weights are divided by 1 − rate, so that their sum stays the same on
# average. Against autograd in fp64, with the same pattern:

# %%
tensors = [torch.randn(1, 2, 45, 16, requires_grad=True) for _ in range(3)]
exact = [t.detach().double().requires_grad_() for t in tensors]
out = kernels.attention(*tensors, causal=True, dropout_p=0.2, seed=3)
right, _ = reference.attention(*exact, causal=True, dropout_p=0.2, seed=3)
mine = torch.autograd.grad(out.square().sum(), tensors)
right = torch.autograd.grad(right.square().sum(), exact)
print("right within 0.00001:", largest_error(mine, right) < 1e-5)

# %% [markdown]
# ### Exercise 4: find the bug
#
# This backward pass through dropout looks right. It even is, as long as nothing is dropped. There
# is one bug in it. Work out by hand what it should give for p = (½, ¼, ¼), with the third weight
# dropped, then mend it.


# %%
def dropout_gradient(p: Tensor, dp: Tensor, keep: Tensor, rate: float) -> Tensor:
    """The gradient of the scores, where scores → softmax → p → dropout → met; dp is that of met.

    met = p · keep / (1 - rate). p, dp: (M, N); keep: (M, N) bool. There is one bug in it.
    """
    met = p * keep / (1 - rate)
    dp = dp * keep / (1 - rate)
    delta = (met * dp).sum(1, keepdim=True)
    return p * (dp - delta)


# %%
check("kernels.dropout_gradient", dropout_gradient)

# %% [markdown]
# {{ help kernels.dropout_gradient }}
#
# ## 8. Wrong, or rounded?
#
# A wrong gradient is hard to see: the loss still falls, only worse. The usual test, `gradcheck`,
# compares with differences of the function at two nearby points, and needs fp64 for that. Our
# kernels have fp32 at most. So we compare with the exact gradient instead: autograd through the
# formula, in fp64. Once more we break the loop over tiles:

# %%
q, k, v, do = torch.randn(4, 50, 16)
exact = [t.double().requires_grad_() for t in (q, k, v)]
out, lse = reference.attention(*(t[None, None] for t in exact), causal=True)
right = torch.autograd.grad(out, exact, do.double()[None, None])
out, lse = (t.detach().float()[0, 0] for t in (out, lse))

# %%
ways = {"right": {}, "no delta": {"use_delta": False}, "no mask": {"causal": False}}
ways["bases mixed by 1 %"] = {"log2_e": 1.01}
found = {}
for name, change in ways.items():
    mine = gradients(q, k, v, out, lse, do, 16, **{"causal": True, **change})
    found[name] = [max(largest_error([a], [b]), 1e-5) for a, b in zip(mine, right, strict=True)]
    print(f"{name}: dq, dk, dv right within 0.00001:", [error <= 1e-5 for error in found[name]])

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.0))
for number, (name, errors) in enumerate(found.items()):
    ax.bar([place + 0.2 * number for place in range(3)], errors, width=0.18, label=name)
ax.set(xlabel="gradient", ylabel="error, relative", title="Three bugs", yscale="log")
ax.set(xticks=[0.3, 1.3, 2.3], xticklabels=["dq", "dk", "dv"], ylim=(5e-6, 3e3))
ax.legend(ncols=4, loc="upper center")
print(describe(fig))

# %% [markdown]
# *Figure 6. Without delta, dv stays right and dq and dk do not: a bug shows where its number is
# used (errors below 0.00001 are drawn there).*
#
# Read the picture as a map. dv is made of p alone, so if dv is right, the weights are. dq and dk
# need ds as well. If all three are wrong, look at p; if only dq and dk are, look at dp, delta, ds.
#
# ## 9. The machine code
#
# The backward kernels hold more in registers than forward does: two accumulators in dkv, and two
# tiles of scores. When registers run out, numbers spill to memory in the middle of the loop, and
# the code is slow without being wrong. We compile both for an A100 and an H100 and look:

# %%
from kernels.flash_attention.layouts import Layout
from kernels.verification.attention import compile_attention

layouts = {"dq": Layout(128, 64, 8, 2), "dkv": Layout(32, 128, 8, 2)}
for name, layout in layouts.items():
    for arch in ("sm_80", "sm_90"):
        code = compile_attention(name, torch.float16, 64, arch, layout=layout)
        print(f"{name} {arch}: {code.spills_in_loop} spills in the loop, {code.tensor_core}")

# %% [markdown]
# ## Summary
#
# - A score rises if its weight pulls harder than the mean: ds = p ∘ (dp − δ). Delta is output
#   times gradient, so it needs no weights; the LSE turns one score into one weight. Nothing of
#   size M × N is kept.
# - Three kernels, each with its own owners: nobody races, nothing is atomic, and the same input
#   gives the same bits. That costs two more products, in a place where arithmetic is cheap.
# - Random numbers come from position and seed, so each kernel can make them for itself.
# - Compare with an exact gradient, and read which of dq, dk and dv is wrong.
#
# **Next:** extend your `flash_dv` to dk: what else does it have to load? Then leave attention for
# the other half of training: [AdamW](06_adamw.ipynb).

# %% [markdown]
# # Softmax: when lanes have to talk
#
# In [the first kernel](01_first_kernel.ipynb) every lane minded its own element. Softmax is
# different: each result needs the maximum and the sum of its whole row, so the lanes of a program
# have to exchange numbers. That is called a **reduction**, and it is in everything from here on:
# norms, losses, attention.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - add up or compare the lanes of a program, and say how a GPU does it;
# - write a softmax that neither overflows nor trips over masked lanes;
# - compute maximum and sum of a row of any length in one pass, which is the heart of flash
#   attention;
# - climb a ladder of five softmax kernels, and say for each rung what it saves: bytes,
#   instructions, or idle threads.
#
# *75 minutes with the exercises; 20 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import inspect
import itertools

import matplotlib.pyplot as plt
import torch
import triton
import triton.language as tl

from kernels.lab import GPUS, compile_for, example, interpret
from kernels.lab import check as watch
from kernels.ladder import compile_launches, rungs, softmax
from minift.course import check
from minift.course.figures import describe, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. Many numbers become one
#
# A CPU adds up a list from front to back. A thousand lanes cannot do that: each addition would
# wait for the one before. Instead, half of the lanes add the number of a partner, then half of
# those, and so on. Eight numbers take three rounds, a thousand take ten.

# %%
x = torch.arange(1, 9)
rounds = [x]
while len(x) > 1:
    x = x[: len(x) // 2] + x[len(x) // 2 :]
    rounds.append(x)
    print(x.tolist())

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.0))
for depth, (above, below) in enumerate(itertools.pairwise(rounds)):
    for lane in range(len(above)):
        ax.plot([lane, lane % len(below)], [depth, depth + 1], color="#bbbbbb", zorder=0)
for depth, numbers in enumerate(rounds):
    ax.scatter(range(len(numbers)), [depth] * len(numbers), s=420, color="C0")
    for lane, number in enumerate(numbers.tolist()):
        ax.text(lane, depth, number, ha="center", va="center", color="white")
ax.set(xlabel="lane", ylabel="round", title="Eight numbers added in three rounds")
ax.set(xticks=range(8), yticks=range(4), ylim=(3.5, -0.5))
ax.grid(False)
print(describe(fig))

# %% [markdown]
# *Figure 1. A tree of additions: in each round, half as many lanes hold the sums of pairs.*
#
# In a kernel, `tl.sum(x, 0)` is this tree, and `tl.max(x, 0)` the same with a comparison. (The 0
# names the axis. A block may have two.)
#
# The order changes the last digits, because each addition rounds. Mostly the tree is even better
# than front to back: its numbers stay of equal size. Here are 4096 times 0.1, in bf16.

# %%
x = torch.full((4096,), 0.1).bfloat16()
front_to_back = torch.tensor(0).bfloat16()
for number in x:
    front_to_back += number
print(f"exact {x.double().sum():.0f}, front to back {front_to_back:.0f}")

# %%
tree = x
while len(tree) > 1:
    tree = tree[: len(tree) // 2] + tree[len(tree) // 2 :]
print(f"tree {tree.item():.0f}")

# %% [markdown]
# Front to back, the sum stops at 32. The numbers of bf16 lie 0.25 apart there, and 0.1 is less
# than half of that. The tree happens to be exact here, because all numbers are equal. Do not rely
# on it: **add up in fp32**, whatever the inputs are.
#
# Here is a kernel that adds up rows. One program takes one row, and a row has to fit in a block.
# A matrix lies in memory row after row, so row r begins at r · n.


# %%
@triton.jit
def sum_rows(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + j, mask=j < n, other=0.0).to(tl.float32)
    tl.store(out_ptr + row, tl.sum(x, 0))


# %%
x = torch.randn(5, 100).bfloat16()
out = torch.full((5,), float("nan"))
with watch() as report:
    interpret(sum_rows)[(5,)](x, out, 100, BLOCK=128)
print("equal to PyTorch's:", torch.allclose(out, x.float().sum(1), rtol=1e-5))
print("bytes read:", report.loaded, " written:", report.stored)

# %% [markdown]
# `other=0.0` is the number that changes nothing in a sum. What changes nothing in a maximum? Not
# 0: of (−3, −1, −2), and a masked lane with 0, the maximum would be 0.
#
# A row may also be longer than a block. Then the program walks over it, and there are two ways to
# combine blocks. Reduce each block to one number at once; or keep BLOCK running results, one for
# each lane, and reduce them at the very end. The second has one tree instead of many.
#
# ### Exercise 1: the maximum of every row


# %%
@triton.jit
def row_max(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r] = max(x[r, 0], …, x[r, n-1]), where r is the number of the program.

    x: (rows, n), row after row in memory; fp32, fp16 or bf16. n may be larger than BLOCK.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.row_max", row_max)

# %% [markdown]
# {{ help kernels.row_max }}
#
# ## 2. How threads exchange numbers
#
# A block of 1024 numbers lies in the registers of many threads, and a thread cannot look into the
# registers of another. So what does the tree become in machine code? We compile `sum_rows` for an
# H100, once with one warp (32 threads, 32 numbers each), once with four.

# %%
x = example((64, 1024))
for warps in (1, 4):
    code = compile_for(sum_rows, x, x, 1024, BLOCK=1024, num_warps=warps, arch="sm_90")
    print(
        f"{32 * warps:>3} threads:",
        {kind: code.instruction_mix[kind] for kind in ("shuffle", "shared")},
    )
    for instruction in code.instructions:
        if instruction.kind in ("shuffle", "shared", "sync"):
            print("  ", instruction.predicate.ljust(4), instruction.opcode, instruction.operands)

# %% [markdown]
# **One warp.** Each thread first adds up its own 32 numbers, which needs no exchange. Then come
# five `SHFL.BFLY` (shuffle, butterfly): each thread hands a register to the thread whose number
# differs in one bit, 16, 8, 4, 2 and 1. That is the tree of Figure 1, with 32 lanes and five
# rounds. At the end every thread has the sum.
#
# **Four warps.** A shuffle does not leave its warp. So the four sums go through **shared memory**,
# a small fast memory of the multiprocessor: `STS` stores, `LDS` loads. `BAR.SYNC` is a barrier:
# every thread waits there until all have come. Two more shuffles add up the four.
#
# A reduction over a small block in one warp needs no barrier. Keep that in mind for rung five.
#
# ## 3. Softmax
#
# Softmax turns a row of scores into weights that are positive and add up to 1:
#
# $$\text{softmax}(x)_j = \frac{e^{x_j}}{\sum_i e^{x_i}}$$
#
# For scores whose exponentials are 1, 2, 4 and 1, the weights are eighths. And a number added to
# all scores changes nothing: it becomes the same factor above and below.

# %%
x = torch.tensor([1.0, 2.0, 4.0, 1.0]).log()
p = x.exp() / x.exp().sum()
print((8 * p).tolist(), "eighths")
print("the same with 7 added:", torch.allclose((x + 7).exp() / (x + 7).exp().sum(), p))

# %% [markdown]
# The formula is right, and useless as it stands. fp32 ends at about 3.4 · 10³⁸, and that is not
# far for an exponential.

# %%
fig, ax = plt.subplots()
scores = torch.linspace(-20, 110, 400)
for dtype, name in ((torch.float32, "fp32, bf16"), (torch.float16, "fp16")):
    end = torch.finfo(dtype).max
    ax.axhline(end, color="C1" if dtype == torch.float16 else "C2", linestyle="--", label=name)
ax.plot(scores, scores.double().exp(), label="exp(score)")
ax.set(xlabel="score", ylabel="exp(score)", yscale="log", title="Where the numbers end")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. An exponential leaves fp16 at a score of 11 and fp32 at 89 (the dashed lines).*
#
# Let us see it happen, in a kernel that takes the formula at its word.


# %%
@triton.jit
def softmax_by_formula(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    row, j = tl.program_id(0), tl.arange(0, BLOCK)
    p = tl.exp(tl.load(x_ptr + row * n + j, mask=j < n, other=float("-inf")))
    tl.store(out_ptr + row * n + j, p / tl.sum(p, 0), mask=j < n)


# %%
x = torch.tensor([[1.0, 2.0, 3.0], [88.0, 89.0, 90.0]])
out = torch.full_like(x, float("nan"))
interpret(softmax_by_formula)[(2,)](x, out, 3, BLOCK=4)
print([[round(p, 3) for p in row] for row in out.tolist()])

# %% [markdown]
# Both rows are the same up to a constant, and so are their weights. The second comes out as 0 and
# "not a number", which is infinity by infinity.
#
# The cure is in the constant: **take the maximum off first**. Then the largest exponent is 0, its
# exponential 1, and nothing can overflow. Very small ones become 0, which is what they are worth.
#
# ### Exercise 2: a softmax that does not overflow
#
# Rows fit in a block. Compute in fp32, store in the type of the tensor.


# %%
@triton.jit
def softmax_rows(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r, j] = exp(x[r, j] - m) / Σⱼ exp(x[r, j] - m), with m the maximum of row r.

    x, out: (rows, n) with n <= BLOCK, row after row in memory; fp32, fp16 or bf16, computed in
    fp32. Program r handles row r.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.softmax_rows", softmax_rows)

# %% [markdown]
# {{ help kernels.softmax_rows }}
#
# ## 4. The ladder
#
# The library has a ladder for softmax: five versions, each with one reason. They are for reading,
# and tested like everything else. What you have just written is v3.

# %%
for rung in rungs("softmax"):
    print(rung.version, rung.reason)

# %% [markdown]
# Rung one does what a reader of the formula would: find the maximum, then the sum, then the
# results. It walks over the row three times, in blocks.

# %%
print(inspect.getsource(softmax.three_passes.fn))

# %% [markdown]
# How many bytes does each of the first three move? An element has to be read and written once; we
# count in units of the matrix.

# %%
x = torch.randn(3, 500)
for version in (softmax.v1, softmax.v2, softmax.v3):
    with watch() as report:
        out = version(x)
    moved = (report.loaded + report.stored) / x.nbytes
    right = torch.allclose(out, torch.softmax(x, 1), atol=0, rtol=1e-5)
    print(f"{version.__name__}: {moved:g} times the matrix; equal to PyTorch's: {right}")

# %%
fig, axes = plt.subplots(1, 3, figsize=(7.4, 3.0), sharey=True)
x = torch.randn(1, 32)
for ax, run in zip(axes, (softmax.v1, softmax.v2, softmax.v3), strict=True):
    with watch(trace=True) as report:
        run(x, block=8) if run is not softmax.v3 else run(x)
    for number, access in enumerate(report.trace, 1):
        colour = "C0" if access.kind == "load" else "C1"
        ax.plot(access.elements, [number] * len(access.elements), "s", ms=3.4, color=colour)
    ax.set(xlabel="column", ylabel="access", title=run.__name__, ylim=(17, 0))
    ax.set(yticks=[1, 4, 8, 12, 16])
print(describe(fig))

# %% [markdown]
# *Figure 3. One row of 32 numbers in blocks of 8, access after access from top to bottom: blue is
# read, orange is written.*
#
# v1 reads the row three times, v2 twice, v3 once. Softmax does a handful of operations for each
# number, so it lies on the slope of the roofline: bytes decide. From v1 to v3 the bytes are
# halved, and with them the least time that it can take.
#
# Then why v2 at all? Because v3 holds the whole row in registers, and there are only so many.

# %%
for columns in (1024, 16_384, 65_536):
    (code,) = compile_launches(softmax.v3, example((64, columns)), arch="sm_90")
    spilled = code.instruction_mix["local"]
    print(f"{columns:>6} columns: {code.registers:>3} registers a thread, {spilled} spills")

# %% [markdown]
# A **spill** is a register that did not fit: it goes to memory and comes back, which is what we
# wanted to avoid. At 65,536 columns, 16 warps are not enough for v3. (Vocabularies are that large:
# Llama 3 has 128,256 tokens.) Attention is worse. There, no row of scores is in memory at all;
# they are made a tile at a time. For both we need maximum and sum in one pass.
#
# ## 5. Maximum and sum in one pass
#
# The sum needs the maximum, which is not known before the end. The way out (Milakov and
# Gimelshein 2018): sum relative to the highest score **so far**, and mend the sum when a higher
# one comes. If the old sum was relative to `high`, then
#
# $$\sum_i e^{x_i - \text{higher}} = e^{\text{high} - \text{higher}} \sum_i e^{x_i - \text{high}}$$
#
# One multiplication mends it. Six numbers in blocks of two, step by step:

# %%
row = torch.tensor([0.0, 1.0, 3.0, 2.0, 1.0, 3.0])
high, total = torch.tensor(-torch.inf), torch.tensor(0.0)
for block in row.split(2):
    higher = torch.maximum(high, block.max())
    factor = torch.exp(high - higher)
    total = total * factor + torch.exp(block - higher).sum()
    high = higher
    print(f"{block.tolist()}: factor {factor:.3f}, highest {high:.0f}, sum {total:.3f}")
print("at once:", f"highest {row.max():.0f}, sum {(row - row.max()).exp().sum():.3f}")

# %% [markdown]
# In the first block the factor is $e^{-\infty} = 0$, and there is nothing to mend. In the second,
# the highest score rises from 1 to 3, so the old sum shrinks by $e^{-2}$. In the third it stays.
#
# On a longer row you can see that the sum never becomes large, whatever the scores are:

# %%
noise = torch.randn(120, generator=torch.Generator().manual_seed(3))
scores = 3 * noise + torch.arange(120) / 4
highest = scores.cummax(0).values
sums = [(scores[: i + 1] - highest[i]).exp().sum() for i in range(len(scores))]
fig, (top, bottom) = plt.subplots(2, 1, figsize=(6.4, 4.0), sharex=True)
top.plot(scores, label="score", linewidth=1)
top.plot(highest, label="highest so far")
top.set(xlabel="column", ylabel="score", title="What runs along the row")
top.legend()
bottom.plot(sums, color="C2")
bottom.set(xlabel="column", ylabel="sum, relative")
print(describe(fig))

# %% [markdown]
# *Figure 4. The scores, the highest so far, and the sum relative to it: each time the highest
# score rises, the sum falls back towards 1.*
#
# There is one trap. A row may begin with −∞: that is how masked scores are written in attention.
# If a whole block is −∞, then so is the highest score, and we take −∞ from −∞.

# %%
high = torch.tensor(-torch.inf)
print("exp(-inf - -inf) =", torch.exp(high - high).item())
print("exp(-inf - 0)    =", torch.exp(high - 0).item())

# %% [markdown]
# One NaN in the sum, and every result of the row is NaN. While nothing but −∞ has come, take 0
# off instead.
#
# ### Exercise 3: online softmax
#
# Two loops: the first for maximum and sum, the second loads the row again and stores.


# %%
@triton.jit
def softmax_online(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[r, :] = softmax(x[r, :]) for rows of any length; program r handles row r.

    x, out: (rows, n), row after row in memory; fp32, fp16 or bf16, computed in fp32. Rows may
    begin with -inf, and hold at least one number. x is read twice.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.softmax_online", softmax_online)

# %% [markdown]
# {{ help kernels.softmax_online }}
#
# ### Exercise 4: four bugs
#
# Somebody's kernel passed its test, which had one row of 1024 fp32 numbers. It has four bugs. Do not
# read it for long: change one thing about the input at a time, and look at what comes out.


# %%
@triton.jit
def mend_softmax(x_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """The softmax of each row of x: (rows, n), n <= BLOCK, row after row; program r does row r.

    x, out: fp32, fp16 or bf16; computed in fp32. This kernel has four bugs. Find and mend them.
    """
    row = tl.program_id(0) * BLOCK
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row + j, mask=j < n, other=0.0).to(tl.float32)
    p = tl.exp(x - tl.max(x, 0)).to(x_ptr.dtype.element_ty)
    tl.store(out_ptr + row + j, p / tl.sum(p, 0))


# %%
check("kernels.mend_softmax", mend_softmax)

# %% [markdown]
# {{ help kernels.mend_softmax }}
#
# ## 6. The last two rungs: instructions
#
# From v3 on, no kernel can move fewer bytes. What is left are instructions, and they count as soon
# as they take longer than the bytes. v4 changes two lines of v3:
#
# ```python
# p = tl.exp2((x - tl.max(x, 0)) * LOG2_E)  # exp(s) = exp2(s · log2(e))
# tl.store(..., p * (1.0 / tl.sum(p, 0)))               # one division a row
# ```
#
# You know the prices from the first notebook: `exp2` is one instruction, `exp` five, a division
# eight. What do they come to? A thread has 16 numbers here.

# %%
wide = example((64, 1024))
for version in (softmax.v3, softmax.v4):
    (code,) = compile_launches(version, wide, arch="sm_90")
    mix = {kind: code.instruction_mix[kind] for kind in ("exp2", "fp32", "integer", "shuffle")}
    print(f"{version.__name__}: {mix}")

# %% [markdown]
# The same 16 exponentials, and 77 instructions of arithmetic fewer: about five for each number.
#
# And v5? It is for short rows. A row of 64 numbers in a program of its own: 32 threads with two
# numbers each, and then five shuffles for two numbers. v5 gives 32 rows to a program. A block has
# two axes now, and `tl.max(x, 1)` reduces along the second:

# %%
print(inspect.getsource(softmax.several_rows.fn))


# %%
def per_number(version, columns: int) -> float:
    """Instructions of the kernel, for each number that a thread has."""
    (code,) = compile_launches(version, example((4096, columns), torch.float16), arch="sm_90")
    width = triton.next_power_of_2(columns)
    rows = max(1, softmax.TILE // width) if version is softmax.v5 else 1
    numbers = rows * width / (32 * code.num_warps)
    return sum(instruction.opcode != "NOP" for instruction in code.instructions) / numbers


versions = (softmax.v3, softmax.v4, softmax.v5)
prices = {n: [round(per_number(v, n), 1) for v in versions] for n in (64, 1024)}
print(prices)

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for i, (columns, price) in enumerate(prices.items()):
    places = [place + 0.4 * i for place in range(3)]
    bars = ax.bar(places, price, width=0.38, label=f"{columns} columns")
    ax.bar_label(bars)
ax.set(xlabel="version", ylabel="instructions a number", title="What a number costs on sm_90")
ax.set(xticks=[0.2, 1.2, 2.2], xticklabels=[v.__name__ for v in versions], ylim=(0, 50))
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 5. exp2 and one division a row save a quarter on long rows; in short ones, several rows a
# program more than halve the price of a number.*
#
# On long rows v5 is no better than v4: there is nothing to fill up. A rung is an answer to a
# question, and not every kernel is asked it.
#
# Is it asked here? A number in fp16 is two bytes to read and two to write. And a multiprocessor of
# an H100 starts four instructions in every cycle, each for the 32 threads of a warp. From that
# follow two bounds on how many numbers a second are possible.

# %%
gpu = GPUS["sm_90"]
threads = gpu.multiprocessors * gpu.issue * 32 * gpu.clock  # instructions of a thread, a second
print(f"by bytes: {gpu.bandwidth / 4 / 1e12:.2f} · 10¹² numbers a second")
for columns, price in prices.items():
    allowed = {
        v.__name__: round(threads / p / 1e12, 2) for v, p in zip(versions, price, strict=True)
    }
    print(f"by instructions, {columns} columns: {allowed}")

# %% [markdown]
# With 1024 columns, memory is the slower side whatever the version. With 64, v3 cannot keep up
# with the memory even if everything goes well; v5 has more than twice of what it needs. (Bounds
# again, not measurements: a real kernel waits now and then, so it is good to have instructions to
# spare.)
#
# ## 7. All of them, against PyTorch
#
# Five versions, three dtypes, ragged shapes, and rows with −∞ in them. The reference is computed
# in fp64. A result may be off by its own rounding, and by one part in 100,000 besides.

# %%
worst = {}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for rows, columns in ((1, 1), (3, 31), (5, 64), (2, 133)):
        x = (4 * torch.randn(rows, columns)).to(dtype)
        x[0, : columns // 2] = -torch.inf
        exact = torch.softmax(x.double(), 1)
        for rung in rungs("softmax"):
            off = (rung.function(x).double() - exact).abs()
            bound = (torch.finfo(dtype).eps / 2 + 1e-5) * exact + 2**-25
            worst[rung.version] = max(worst.get(rung.version, 0), (off / bound).max().item())
print({version: bool(share <= 1) for version, share in worst.items()})

# %% [markdown]
# ## Summary
#
# - A reduction is a tree: within a thread, then shuffles within a warp, then shared memory and a
#   barrier between warps. Masked lanes need the number that changes nothing: 0 for a sum, −∞ for a
#   maximum. Add up in fp32.
# - Softmax takes the maximum off first. Read the row once if it fits in registers; if not, run
#   along it once with a sum that is mended when the maximum rises, and guard against −∞ − (−∞).
# - First save bytes (v1 to v3: 4, 3, 2 times the matrix), then instructions (v4), then idle
#   threads (v5).
#
# **Next:** compile `softmax.v4` with 1000 columns instead of 1024 and look at its loads. Which
# trick of the first notebook would help? Then multiply matrices, where arithmetic begins to
# count: [matrix products](03_matmul.ipynb).

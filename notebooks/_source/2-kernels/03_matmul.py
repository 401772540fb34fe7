# %% [markdown]
# # Matrix products: tiles and tensor cores
#
# [Softmax](02_softmax.ipynb) waits for memory, like nearly everything else in a model. Matrix
# products are the exception, and they are where a model spends its time: every linear layer is
# one, and attention is two. A GPU has special units for them, the **tensor cores**. This notebook
# is about keeping those busy.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say how often a loaded number is used, and why that decides about the speed of a product;
# - write a tiled matrix product for any shape, with fp32 sums, on tensor cores;
# - find the tensor cores in machine code, and check that they do exactly the work that you asked
#   for;
# - read a main loop: what computes, what brings numbers, what only counts;
# - choose the order of the programs so that they share what they load.
#
# *75 minutes with the exercises; 20 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import math
from collections import Counter

import matplotlib.pyplot as plt
import torch
import triton
import triton.language as tl

from kernels.lab import check as watch
from kernels.lab import compile_for, example, interpret, roofline
from kernels.lab.drawing import draw_programs, draw_roofline
from kernels.ladder import compile_launches, matmul, rungs
from minift.course import check
from minift.course.figures import describe, heatmap, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. One output at a time
#
# In c = a · b, the number in row i and column j of c is the **dot product** of row i of a and
# column j of b: multiply pair by pair, then add up.
#
# $$c_{ij} = \sum_k a_{ik}\, b_{kj}$$
#
# If a has M rows and K columns, and b has K rows and N columns, then c is M × N.

# %%
a = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 0.0]])
b = torch.tensor([[1.0, 10.0], [1.0, 10.0], [1.0, 10.0]])
print("row 0 · column 1 =", (a[0] * b[:, 1]).sum().item())
print((a @ b).tolist())

# %% [markdown]
# Every output is K multiplications and K additions: 2 · M · N · K floating-point operations
# (FLOPs) in all. The ladder of the library begins with exactly this, one output a program.

# %%
for rung in rungs("matmul"):
    print(rung.version, rung.reason)

# %%
a, b = torch.randn(32, 64), torch.randn(64, 48)
with watch() as report:
    c = matmul.v1(a, b)
print("equal to PyTorch's:", torch.allclose(c, a @ b, atol=1e-5))
print("programs:", report.programs, " bytes loaded:", report.loaded)
print("bytes that a and b have:", a.nbytes + b.nbytes)

# %% [markdown]
# Right, and hopeless. The two matrices have 20 kB, and 786 kB were loaded. Each of the 32 · 48
# programs loads a whole row and a whole column, uses each number once, and forgets it.
#
# Use it more often, then. A program that makes a **tile** of 16 × 16 outputs needs 16 rows of a
# and 16 columns of b, and uses each number 16 times.

# %%
with watch(trace=True) as report:
    matmul.v3(a, b, tile=(16, 16, 32, 1))
fig = draw_programs(report, {"a_ptr": a, "b_ptr": b, "c_ptr": c}, programs=[(3, 0, 0), (4, 0, 0)])
for ax in fig.axes:
    ax.set(xlabel="column", ylabel="row")
print(describe(fig))

# %% [markdown]
# *Figure 1. Programs 3 and 4 of six: each reads 16 rows of a and 16 columns of b in two steps of
# 32 numbers of K, and writes one tile of c; they share the rows of a.*
#
# How far does that go? For large matrices and T × T tiles, a program does 2 · T · T · K FLOPs and
# loads 2 · T · K numbers. So there are T FLOPs for each number, and in fp16, with two bytes a
# number, T / 2 for each byte. The roofline says what that allows an H100.

# %%
n = 4096
points = []
for tile in (1, 16, 64, 128):
    moved = 2 * (2 * n**3 // tile + n**2)  # bytes in fp16
    points.append(roofline(moved, 2 * n**3, arch="sm_90", name=f"tile {tile}"))
least = 2 * 3 * n**2  # each number once
points.append(roofline(least, 2 * n**3, arch="sm_90", name="all at once"))

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.6))
draw_roofline(points, ax)
ax.set_title("A product of 4096 × 4096 in fp16 on an H100")
print(describe(fig))

# %% [markdown]
# *Figure 2. A bound, not a measurement: with one output a program no more than a six-hundredth of
# the tensor cores' speed is possible, with tiles of 128 a fifth.*
#
# With tiles of 128 we are still on the slope. But "bytes" here means everything that programs ask
# for, and much of that comes from a cache; section 6 sees to it. Larger tiles would be better
# still, if only their sums did not have to be kept in registers.
#
# ## 2. A tile in Triton
#
# `tl.dot(x, y)` multiplies two blocks. A tile of **addresses** needs two axes: `rows[:, None]` is
# a column of numbers, `k[None, :]` a row of them, and their sum is a table. For a matrix that lies
# in memory row after row, K numbers each:

# %%
rows, k, K = torch.arange(2), torch.arange(3), 10
print((rows[:, None] * K + k[None, :]).tolist())

# %% [markdown]
# The program keeps BLOCK_M × BLOCK_N sums and walks along K: load a tile of a, load a tile of b,
# multiply, add. `tl.dot(a, b, acc)` does the last two.
#
# Three sizes, and each may be ragged. Rows and columns of c that do not exist must not be stored.
# And K? A number past the end of a row of a is the first of the next row, so there the mask needs
# `other=0.0`, which changes no sum.
#
# ### Exercise 1: a tiled matrix product


# %%
@triton.jit
def matmul_tile(
    a_ptr, b_ptr, c_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One tile of c = a · b, with a: (M, K), b: (K, N), c: (M, N), row after row in memory.

    fp16 or bf16, added up in fp32. A program makes BLOCK_M × BLOCK_N outputs, BLOCK_K numbers of
    K at a time; programs are numbered row of tiles by row of tiles.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.matmul_tile", matmul_tile)

# %% [markdown]
# {{ help kernels.matmul_tile }}
#
# ### Sixteen times fewer
#
# One output a program loaded 786,432 bytes for these matrices. With tiles (v3 does what your
# kernel does):

# %%
a, b = torch.randn(32, 64), torch.randn(64, 48)
for tile in (16, 32):
    with watch() as report:
        out = matmul.v3(a, b, tile=(tile, tile, 32, 1))
    print(
        f"tiles of {tile}: loaded {report.loaded} bytes, right: {torch.allclose(out, a @ b, atol=1e-5)}"
    )

# %% [markdown]
# ## 3. What the sums are kept in
#
# Inputs have 16 bits, the output has 16 bits. May the sum have 16 bits, too? v2 of the ladder does
# that, and v3 differs in one word. All numbers here are positive, so that no error is hidden
# because the sum is small.


# %%
def off_by(version, length: int) -> int:
    """The largest relative error of a product with so many terms, in units of bf16's rounding."""
    a, b = torch.rand(16, length).bfloat16(), torch.rand(length, 16).bfloat16()
    exact = a.double() @ b.double()
    off = (version(a, b, tile=(16, 16, 16, 1)).double() - exact).abs() / exact
    return round(off.max().item() / 2**-8)


# %%
lengths = [16, 64, 256, 1024]
errors = {v: [off_by(v, n) for n in lengths] for v in (matmul.v2, matmul.v3)}
fig, ax = plt.subplots()
for version, name in ((matmul.v2, "sum in bf16 (v2)"), (matmul.v3, "sum in fp32 (v3)")):
    ax.plot(lengths, errors[version], "o-", label=name)
ax.set(xlabel="K, the number of terms", ylabel="error in roundings", xscale="log")
ax.set(title="A sum in 16 bits gets worse with its length")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. Summed in fp32 the result is rounded once, however long it is; in bf16 every step
# along K rounds, and the errors add up.*
#
# A 4096-wide layer has 4096 terms. So sums are fp32, always. It costs registers and nothing else:
# tensor cores multiply 16-bit numbers, and add up in fp32 at full speed.
#
# And fp32 inputs? Tensor cores do not take them. By default, `tl.dot` shortens them to **TF32**,
# which has the range of fp32 and the ten digits (binary ones) of fp16. `input_precision="ieee"`
# keeps all 23, and does without tensor cores.


# %%
@triton.jit
def one_dot(a_ptr, b_ptr, c_ptr, PRECISION: tl.constexpr):
    tile = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    c = tl.dot(tl.load(a_ptr + tile), tl.load(b_ptr + tile), input_precision=PRECISION)
    tl.store(c_ptr + tile, c)


# %%
a, b, c = torch.rand(16, 16), torch.rand(16, 16), torch.empty(16, 16)
exact = a.double() @ b.double()
for precision in ("tf32", "ieee"):
    interpret(one_dot)[(1,)](a, b, c, PRECISION=precision)
    digits = -math.log10(((c - exact).abs() / exact).max())
    code = compile_for(one_dot, a, b, c, PRECISION=precision, num_warps=1, arch="sm_80")
    print(
        f"{precision}: {digits:.0f} digits; tensor-core instructions:", code.instruction_mix["mma"]
    )

# %% [markdown]
# Four decimal digits or seven. Both may be right; not knowing which one you have is not. (In
# PyTorch it is `torch.backends.cuda.matmul.allow_tf32`.) The ladder keeps fp32 whole.
#
# ## 4. Finding the tensor cores
#
# We compile v3 for an A100 (`sm_80`), with tiles of 128 × 128 and 64 numbers of K at a time, and
# take its **main loop**: the instructions that are repeated for each step along K.

# %%
a = example((1024, 1024), torch.float16)
(v3,) = compile_launches(matmul.v3, a, a, arch="sm_80")
loop = v3.main_loops[0]
for kind, count in loop.mix.most_common():
    print(f"{kind:<8} {count}")

# %%
for kind in ("mma", "global", "shared"):
    print(kind, dict(Counter(i.opcode for i in loop.body if i.kind == kind)))

# %% [markdown]
# `HMMA.16816.F32` is a tensor-core instruction (half-precision matrix multiply-accumulate). A
# warp multiplies a 16 × 16 tile by a 16 × 8 tile and adds to fp32. The numbers are its shape: 16
# by 8 outputs, 16 numbers of K. That is 2 · 16 · 8 · 16 = 4096 FLOPs in one instruction, where an
# ordinary one (`FFMA`) does 64 in a warp.
#
# Are there as many as the work needs? A step multiplies 128 × 64 by 64 × 128, and the program has
# 8 warps.

# %%
hmma = loop.mix["mma"]
print("FLOPs of a step:           ", 2 * 128 * 128 * 64)
print("HMMA · 4096 FLOPs · 8 warps:", hmma * 4096 * 8)

# %% [markdown]
# Not one too many. The other instructions are about bringing the numbers:
#
# - `LDG.E.128` loads 128 bits from global memory into registers, `STS.128` puts them into shared
#   memory. There all warps can get at them.
# - `LDSM` (load matrix from shared memory) gives each thread the pieces that HMMA wants. `.MT88`
#   is the same with a transposition, for b.
# - The rest are addresses, masks and counting.
#
# On an H100 the unit is larger. Four warps work together, and take both tiles straight from shared
# memory:

# %%
(hopper,) = compile_launches(matmul.v3, a, a, arch="sm_90")
wgmma = [i for i in hopper.main_loops[0].body if i.kind == "mma"]
print(len(wgmma), "×", wgmma[0].opcode)
print("FLOPs · 2 groups of four warps:", len(wgmma) * 2 * (64 * 128 * 16) * 2)

# %% [markdown]
# `HGMMA.64x128x16` multiplies 64 × 16 by 16 × 128, and four of them do what 64 HMMA did. No LDSM
# is left.
#
# ## 5. Bringing numbers while others are multiplied
#
# In v3, a step goes like this: load tiles into registers (hundreds of cycles), store them to
# shared memory, wait for everyone, multiply. While it loads, the tensor cores have nothing to do.
# Two changes make v4.
#
# **No mask in the loop.** Rows past the end need not be masked, if we read some other row in their
# place and do not store the result: `rows % M`. Only a ragged K needs a mask.
#
# **Copies that run ahead.** `num_stages=3` asks the compiler to keep the tiles of the next steps
# on their way. Such a copy goes from global to shared memory without passing through registers.

# %%
(v4,) = compile_launches(matmul.v4, a, a, arch="sm_80")
for name, code in (("v3", v3), ("v4", v4)):
    loads = Counter(i.opcode for i in code.main_loops[0].body if i.kind == "global")
    print(f"{name}: {dict(loads)}; {code.shared_bytes // 1024} kB of shared memory")

# %% [markdown]
# `LDGSTS` is that copy (load global, store shared): the instruction starts it, and the thread goes
# on. `DEPBAR` waits later, until the tiles of *this* step have come. It takes room for two pairs
# of tiles instead of one.

# %%
kinds = ("mma", "shared", "global", "integer", "sync")
fig, ax = plt.subplots(figsize=(6.8, 2.8))
left = [0, 0]
for kind in kinds:
    counts = [code.main_loops[0].mix[kind] for code in (v3, v4)]
    ax.barh(["v3", "v4"], counts, left=left, label=kind)
    left = [x + y for x, y in zip(left, counts, strict=True)]
ax.set(xlabel="instructions in the main loop", ylabel="version", title="A step along K on sm_80")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=5)
print(describe(fig))

# %% [markdown]
# *Figure 4. The same 64 tensor-core instructions; without masks, and with copies that need no
# registers, everything around them has become less.*
#
# Tiles that are on their way take room. A multiprocessor of an A100 has 164 kB of shared memory,
# and one program may take 163 of them. How long may a step along K be?

# %%
for block_k, warps in ((32, 8), (64, 8), (128, 8)):
    (code,) = compile_launches(matmul.v4, a, a, tile=(128, 128, block_k, warps), arch="sm_80")
    room = code.shared_bytes // 1024
    fit = code.blocks_per_multiprocessor
    print(
        f"steps of {block_k:>3}: {room:>3} kB, {code.registers} registers; programs that fit: {fit}"
    )

# %% [markdown]
# Longer steps mean fewer of them, but more room; with 128 kB, no second program fits beside the
# first. (With 64 kB it is the registers that run out: 256 threads, each with more than 128 of them,
# take more than half of the 65,536 there are.) What about a larger tile of *outputs*? It would load less. Break it and see:

# %%
for tile in ((64, 64, 64, 4), (128, 128, 64, 8), (256, 256, 64, 8)):
    (code,) = compile_launches(matmul.v4, a, a, tile=tile, arch="sm_80")
    print(
        f"{tile[0]} × {tile[1]}: {code.registers} registers, {code.spills_in_loop} spills in loops"
    )

# %% [markdown]
# A tile of 256 × 256 has 65,536 sums. Eight warps are 256 threads, so each would have to keep 256
# of them, and a thread has 255 registers for everything. So sums go out to memory and come back in
# every step. That is where larger tiles end, and why the table of the ladder says 128.
#
# ### Shapes that do not fit
#
# Rows of 1024 numbers begin at addresses that are divisible by 16. Rows of 1001 do not:

# %%
for width in (1024, 1001):
    x = example((1024, width), torch.float16)
    (code,) = compile_launches(matmul.v4, example((1024, 1024), torch.float16), x, arch="sm_80")
    loads = Counter(i.opcode for i in code.main_loops[0].body if i.kind == "global")
    print(width, dict(loads))

# %% [markdown]
# The copies of b are gone. In their place are loads of 16 bits each. A vocabulary of 50,257 (that
# of GPT-2) is such a width, which is why it is often padded to 50,304.
#
# ## 6. Who works at the same time
#
# An H100 has 132 multiprocessors. Say that each runs one program at a time, in the order of their
# numbers. What they load comes from memory once; after that it lies in the **L2 cache**, which all
# of them share. So it is good if programs that run together want the same tiles.
#
# If programs go along the rows of tiles, 16 of them in a matrix of 8 × 8 tiles cover two rows:
# they want 2 rows of a, but all 8 columns of b. A square of 4 × 4 tiles would want 4 and 4.
#
# ### Exercise 2: programs in groups
#
# Take `group` rows of tiles at a time. Inside a group, go down first, then across. (This one is
# plain Python.)


# %%
def tile_order(program: int, down: int, across: int, group: int) -> tuple[int, int]:
    """The (row, column) of the tile that a program makes.

    There are down × across tiles. Programs 0, 1, 2, … take `group` rows of tiles at a time, and
    in these go down a column before they go on to the next column. The last group may have fewer
    rows.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.tile_order", tile_order)

# %% [markdown]
# {{ help kernels.tile_order }}
#
# The kernel has the same arithmetic in `matmul.tile_of`. We do not have to believe it: the trace
# of a launch says which program stored which tile.


# %%
def order(version, **options) -> torch.Tensor:
    """The number of the program that made each of 8 × 8 tiles of 16 × 16 numbers."""
    with watch(trace=True) as report:
        version(torch.zeros(128, 16), torch.zeros(16, 128), tile=(16, 16, 16, 1), **options)
    first = {int(x.elements[0]): x.program[0] for x in report.trace if x.kind == "store"}
    return torch.tensor(
        [[first[128 * 16 * row + 16 * column] for column in range(8)] for row in range(8)]
    )


# %%
orders = {"v4: row by row": order(matmul.v4), "v5: groups of 4": order(matmul.v5, group=4)}
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3.6))
for ax, (name, made) in zip(axes, orders.items(), strict=True):
    heatmap(ax, made < 16)
    for place, program in zip(torch.ones(8, 8).nonzero(), made.flatten(), strict=True):
        colour = "white" if program < 16 else "black"
        ax.text(*place.flip(0), program.item(), ha="center", va="center", color=colour)
    ax.set(xlabel="column of tiles", ylabel="row of tiles", title=name)
print(describe(fig))

# %% [markdown]
# *Figure 5. Which program makes which tile of c: the first sixteen (dark) need 2 + 8 strips of a
# and b in the left order, 4 + 4 in the right one.*
#
# Now for a real size: 4096 × 4096 with tiles of 128 is 32 × 32 tiles, and 132 programs run at
# once.

# %%
tile_of = matmul.tile_of


@triton.jit
def places(row_ptr, column_ptr, across, GROUP: tl.constexpr):
    row, column = tile_of(tl.program_id(0), across, across, GROUP)
    tl.store(row_ptr + tl.program_id(0), row)
    tl.store(column_ptr + tl.program_id(0), column)


# %%
rows, columns = torch.zeros(2, 132).int()
for group in (1, 4, 8, 16):
    interpret(places)[(132,)](rows, columns, 32, GROUP=group)
    strips = len(rows.unique()) + len(columns.unique())
    print(f"groups of {group:>2}: {strips} strips of a and b")

# %% [markdown]
# From 37 strips down to 25: a third less from memory, for a few instructions at the start of each
# program. Groups of 4 are no good here. A group has 4 · 32 = 128 tiles, so the 132 programs go
# through a whole group and begin the next one. Which group is best depends on the matrix and on
# the GPU, so on a real one you try several.
#
# The result is the same to the last bit, because every tile is computed as before.

# %%
a, b = torch.randn(70, 50).half(), torch.randn(50, 90).half()
small = {"tile": (16, 16, 16, 1)}
print("v5 equal to v4:", torch.equal(matmul.v5(a, b, **small, group=3), matmul.v4(a, b, **small)))

# %% [markdown]
# ## 7. One more thing while it is there
#
# After a product there is mostly something small to do: add a bias, apply an activation. As an
# operation of its own, it would read the whole output and write it again. But the program has the
# tile in registers, in fp32, just before it stores it. What is done there is called an
# **epilogue**.

# %%
a, b, bias = torch.randn(64, 32), torch.randn(32, 64), torch.randn(64)
with watch() as fused:
    out = matmul.v6(a, b, bias, activation="silu", tile=(32, 32, 32, 4))
with watch() as plain:
    matmul.v5(a, b, tile=(32, 32, 32, 4))
exact = torch.nn.functional.silu(a @ b + bias)
print("equal to PyTorch's:", torch.allclose(out, exact, atol=1e-5))
print("bytes more than without:", fused.loaded + fused.stored - plain.loaded - plain.stored)
print("bytes of an operation of its own:", 2 * out.nbytes + bias.nbytes)

# %% [markdown]
# 512 bytes instead of 33,024: the bias is loaded once for each of the two rows of tiles, and the
# outputs do not move at all. In 16 bits it is also more exact, because the sum is rounded after
# the activation, not before it and after it.
#
# ### Exercise 3: a linear layer in one kernel
#
# Start from your `matmul_tile`, and add what is missing.


# %%
@triton.jit
def linear_relu(
    a_ptr, b_ptr, bias_ptr, out_ptr, M, N, K,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out = max(a · b + bias, 0), with a: (M, K), b: (K, N), bias: (N,), out: (M, N).

    fp16 or bf16, row after row in memory; everything in fp32, rounded once. Programs and tiles as
    in matmul_tile.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.linear_relu", linear_relu)

# %% [markdown]
# {{ help kernels.linear_relu }}
#
# ## 8. All of them, against PyTorch
#
# Ragged shapes, three dtypes, views with strides: v3 to v6 take any layout, and a transposed
# matrix is not copied. The bound is half a rounding of the result, and what summing K numbers in
# fp32 may add.

# %%
ok = {}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    for m, n, k in ((1, 1, 1), (17, 33, 50), (40, 21, 133)):
        a, b = torch.randn(k, m).to(dtype).T, torch.randn(2 * k, n).to(dtype)[::2]
        exact, size = a.double() @ b.double(), a.double().abs() @ b.double().abs()
        bound = torch.finfo(dtype).eps / 2 * exact.abs() + 2**-23 * (2 + k**0.5) * size + 2**-25
        for version in (matmul.v3, matmul.v4, matmul.v5, matmul.v6):
            off = (version(a, b, tile=(16, 16, 32, 1)) - exact).abs()
            name = version.__name__
            ok[name] = ok.get(name, True) and bool((off <= bound).all())
print(ok)

# %% [markdown]
# ## Summary
#
# - In a product of n × n matrices, every number of the input is needed n times. A program that
#   makes T × T outputs uses what it loads T times. Sums are fp32; TF32 is a choice, not an
#   accident.
# - In machine code, HMMA or HGMMA are the work, and they can be counted: FLOPs in, FLOPs out.
#   Everything else brings numbers. LDGSTS brings them while others are multiplied.
# - Tiles are limited by registers and shared memory, copies by the alignment of rows. The order
#   of programs decides what the cache can do; an epilogue saves a trip of the output.
#
# **Next:** compile v5 for `gfx942`, AMD's MI300X, and find its matrix instructions (they are
# called `v_mfma`). Then put a product, the online softmax of [the last notebook](02_softmax.ipynb)
# and another product into one kernel: [flash attention](04_flash_forward.ipynb).

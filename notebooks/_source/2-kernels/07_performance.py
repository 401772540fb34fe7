# %% [markdown]
# # Performance without a GPU: traffic, roofline, occupancy, machine code
#
# In [AdamW](06_adamw.ipynb) you counted bytes. A stopwatch says how long a kernel took. It does not
# say why, or how far away the best possible kernel is. Much of the why can be read off a kernel
# that has never run: how many bytes it moves, how many instructions it spends on each result,
# whether its numbers fit into registers. This notebook is about reading that, and about what it
# does not tell.
#
# You need no GPU, and that is the point: kernels run on your CPU, and their machine code is made
# and read here too. **Where there is no Triton** (macOS, Windows): open this notebook on a Linux
# machine, in WSL, or in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say which numbers about a kernel are exact, which are bounds, and which nobody knows yet;
# - count its traffic, and put it on a roofline with the work it does for that;
# - work out by hand how many programs fit on a multiprocessor, and what limits them;
# - find wide loads, asynchronous copies, tensor cores and spills in machine code;
# - compare two versions of a kernel by the numbers that matter, and leave the others alone.
#
# *75 minutes with the exercises; 20 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

from collections import Counter

import matplotlib.pyplot as plt
import torch

from kernels.flash_attention.layouts import Layout
from kernels.lab import bracket, compare_sass, compile_for, example, roofline
from kernels.lab import check as watch
from kernels.lab.drawing import draw_roofline, draw_traffic
from kernels.lab.gpus import GPUS
from kernels.lab.occupancy import MACHINES, occupancy
from kernels.ladder import adamw, attention, compile_launches, matmul, softmax, vector_add
from kernels.verification.attention import compile_attention, compile_descriptor
from minift.course import check
from minift.course.figures import describe, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. What can be known
#
# | about a kernel | without a GPU |
# | --- | --- |
# | the bytes its programs ask for, the FLOPs they do | **exact**: the interpreter counts them |
# | registers, shared memory, instructions, spills | **exact**: the compiler has decided |
# | the least time, the most programs at once, the cycles of a loop | **a bound** |
# | what caches keep, how well copies and arithmetic overlap, the clock | **unknown** |
# | the time | **unknown** |
#
# Everything here is of the first three kinds. A bound says "not faster than this"; it never says
# "this fast". When you have a GPU, measure. What you find here says what to expect, and which of
# two versions is worth measuring.
#
# ## 2. Traffic
#
# `watch` (that is `kernels.lab.check`) counts every byte that a program asks for. Three versions of
# softmax from the ladder: how often does each touch an element of four bytes?

# %%
x = torch.randn(64, 1000)
for version in (softmax.v1, softmax.v2, softmax.v3):
    with watch() as report:
        version(x)
    print(version.__name__, (report.loaded + report.stored) / x.numel(), "bytes an element")

# %% [markdown]
# Read once and write once is 8, and v3 does that. No kernel can do with less: the result depends on
# every input. This is the first question about any kernel: **how many bytes must move, and how many
# do?** For softmax the answer is "the least", and work on traffic ends there.
#
# For a matrix product it is not that simple. Here a product of 64 × 96 by 96 × 64 in tiles of
# 32 × 32:

# %%
a, b = torch.randn(64, 96).half(), torch.randn(96, 64).half()
with watch() as report:
    matmul.v3(a, b, tile=(32, 32, 32, 4))
least = a.nbytes + b.nbytes + 64 * 64 * 2
print("moved:", report.loaded + report.stored, " least:", least)

# %% [markdown]
# The output is two tiles high and two tiles wide, so each element of a and of b is loaded twice. The
# count is exact, but what does it count? The bytes that programs *ask for*. The second time, the
# number may come from a cache, and memory sees one load. So asked-for bytes and the least are the
# two ends between which the traffic of memory lies. Where both agree, as in softmax, it is known.
# (Memory delivers whole sectors of 32 bytes. Both ends hold for kernels that use all of a sector.)
#
# FLOPs are counted as well. Causal attention needs only the scores on and below the diagonal.
# **Predict first:** 512 tokens, tiles of 64 × 64. How many of the 64 tiles are computed? How much is
# that above the need?

# %%
T, D = 512, 64
q, k, v = torch.randn(3, 1, 1, T, D).half()
with watch(trace=True) as report:
    attention.v5(q, k, v, causal=True)
print("tiles:", report.dot_flops // (4 * 64 * 64 * D))
above = report.dot_flops / (4 * D * T * (T + 1) // 2) - 1
print(f"FLOPs above the need: {above:.1%}")

# %% [markdown]
# 8 + 7 + … + 1 = 36 tiles. What is too much are the halves of the eight tiles on the diagonal, a
# share of about BLOCK / T. For long texts it vanishes. And how often is each number loaded?

# %%
fig = draw_traffic(report, {"q_ptr": q, "k_ptr": k})
for ax in fig.axes[:2]:
    ax.set(xlabel="column", ylabel="row")
fig.axes[2].set_xlabel("colour")
print(describe(fig))

# %% [markdown]
# *Figure 1. Queries are loaded once; the first keys are loaded by all eight programs, and the last
# ones by a single program, because nobody else may see them.*
#
# ## 3. Arithmetic intensity
#
# A GPU moves so many bytes a second and does so many FLOPs a second. How many FLOPs must a kernel
# do for each byte to need both in full?

# %%
for gpu in GPUS.values():
    ridge = gpu.flops["fp16"] / gpu.bandwidth
    plain = gpu.flops["fp32"] / gpu.bandwidth
    print(
        f"{gpu.name:<7}fp16 on tensor cores: {ridge:>3.0f} FLOPs a byte; fp32 without: {plain:.0f}"
    )

# %% [markdown]
# The FLOPs that a kernel does for a byte are its **arithmetic intensity**. Below the number of the
# machine, memory is the limit, and tensor cores idle; above, they are the limit. For a product of
# large matrices in fp16 you can choose: the larger the tile, the more FLOPs for each loaded byte.
#
# ### Exercise 1: FLOPs a byte
#
# Count the bytes that a tiled product asks for: all tiles, all rows and columns they load, and the
# outputs. The check runs v3 of the ladder and compares with what it moved.


# %%
def matmul_intensity(M: int, N: int, K: int, tile: int, dtype: torch.dtype) -> float:
    """FLOPs a byte of c = a · b with a: (M, K), b: (K, N), all of one dtype.

    A program makes tile × tile outputs and loads, for them, its rows of a and its columns of b
    once. It stores its outputs once. Rows and columns that do not exist are masked. A product
    with its addition is 2 FLOPs; only those of outputs that exist count.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.matmul_intensity", matmul_intensity)

# %% [markdown]
# {{ help kernels.matmul_intensity }}
#
# ### The roofline
#
# With bytes and FLOPs, every kernel has a place. We run five and count. The FLOPs of matrix products
# are counted by the interpreter; for the other three, by hand: 1 an element for an addition, about 5
# for softmax (here with 16-bit numbers), about 14 for AdamW.


# %%
def counted(name: str, run, flops: int = 0, dtype: str = "fp32"):
    """The place of a kernel on the roofline of an H100, from what it moved and did."""
    with watch() as report:
        run()
    moved = report.loaded + report.stored
    return roofline(moved, flops or report.dot_flops, arch="sm_90", dtype=dtype, name=name)


# %%
x, half = torch.randn(64, 1024), torch.randn(512, 512).half()
model = [[torch.ones(4096)] for _ in range(4)]
numbers = {"step": 1, "lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
places = [counted("addition", lambda: vector_add.v3(x, x), x.numel())]
places.append(counted("softmax", lambda: softmax.v3(half), 5 * half.numel()))
places.append(counted("AdamW", lambda: adamw.v3(*model, **numbers), 14 * 4096))

# %%
tile = (128, 128, 64, 8)
places.append(counted("matrix product", lambda: matmul.v5(half, half, tile=tile), dtype="fp16"))
forward = counted("attention", lambda: attention.v5(q, k, v, tile=(128, 64)), dtype="fp16")
places.append(forward)
for place in places:
    print(f"{place.name:<15}{place.intensity:>6.2f} FLOPs a byte, limit: {place.limit}")

# %%
fig, ax = plt.subplots(figsize=(7.2, 4.0))
draw_roofline(places, ax)
ax.set_title("Five kernels on an H100, by what they ask for")
print(describe(fig))

# %% [markdown]
# *Figure 2. A bound, not a measurement: three kernels wait for memory whatever they do; two can come
# nearer to the roof because a loaded number is used often.*
#
# On the slope the only cure is to move less: fuse, or store in fewer bits. Under the flat roof,
# instructions count. The product and attention are here small (512) and still on the slope, by what
# they *ask for*. The same question with the least that memory must deliver, for sizes of real
# models:

# %%
for T in (512, 4096, 32768):
    least, flops = 4 * T * 64 * 2, 4 * T * T * 64
    bound = roofline(least, flops, arch="sm_90", name=f"attention, T = {T}")
    print(f"{bound.name}: {bound.intensity:.0f} FLOPs a byte, limit: {bound.limit}")

# %% [markdown]
# Attention that stores no scores has T / 2 FLOPs for each byte that *must* move. From 1,000 tokens
# on, its limit is arithmetic. So from here on there are two questions: can enough be under way to
# keep memory busy, and how many instructions does each score cost?
#
# ## 4. Occupancy
#
# A load takes hundreds of cycles. While one warp waits, the multiprocessor executes another one, if
# there is one. The warps that are there at once come from the programs that *fit*: they share its
# registers, its shared memory, and its places for warps. **Occupancy** is the share of those places
# that is taken.

# %%
machine = MACHINES["sm_90"]
print("of one multiprocessor of an H100:")
print(f"{machine.max_warps} warps, {machine.max_blocks} programs, {machine.registers} registers,")
print(f"{machine.shared // 1024} kB of shared memory")

# %% [markdown]
# By hand: the AdamW kernel v3 has 58 registers a thread, and 4 warps a program. Registers come in
# eights, so 64 a thread and 64 · 32 = 2048 a warp. 65,536 / 2048 = 32 warps, which is 8 programs.
# 32 of 64 places: 50 percent. By the laboratory:

# %%
(code,) = compile_launches(adamw.v3, *model, **numbers, arch="sm_90")
print(f"{code.registers} registers, {code.shared_bytes} bytes of shared memory")
print(f"{code.blocks_per_multiprocessor} programs at once, occupancy {code.occupancy:.0%}")

# %%
registers = list(range(16, 256))
fig, ax = plt.subplots()
for warps in (4, 8):
    share = [100 * occupancy("sm_90", warps, r, 0) for r in registers]
    ax.step(registers, share, where="post", label=f"{warps} warps a program")
ax.set(xlabel="registers of a thread", ylabel="occupancy in %", ylim=(0, 105))
ax.set(title="What registers allow on an H100")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. Occupancy falls in stairs: one register more can cost a whole program, or nothing.*
#
# ### Exercise 2: programs that fit
#
# Do it for any kernel. Each resource alone allows so many programs; what runs out first decides.


# %%
def blocks_that_fit(num_warps: int, registers: int, shared: int) -> int:
    """How many programs of a kernel one multiprocessor of an H100 holds at once.

    num_warps: warps of a program; registers: of a thread; shared: bytes of a program, or 0.

    A multiprocessor has room for 64 warps and for 32 programs. It has 65536 registers; a thread
    gets a multiple of 8 of them, a warp is 32 threads, and the number of warps for which they
    suffice is rounded down to a multiple of 4. It has 228 kB (of 1024 bytes) of shared memory; a
    program that uses any takes 1 kB more than it asked for.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.blocks_that_fit", blocks_that_fit)

# %% [markdown]
# {{ help kernels.blocks_that_fit }}
#
# ### How much is enough?
#
# As much as keeps memory busy. To deliver 3.35 TB a second with a wait of, say, 600 billionths of a
# second for each load, 3.35 · 10¹² · 600 · 10⁻⁹ = 2 million bytes must be on their way at any time:
# 15 kB for each of 132 multiprocessors. How much has AdamW under way? Each thread loads its 8
# elements of four tensors before it computes:

# %%
from kernels.verification.adamw_machine import compile_adamw

gpu = GPUS["sm_90"]
wanted = gpu.bandwidth * 600e-9 / gpu.multiprocessors
print(f"wanted on each multiprocessor: {wanted / 1024:.0f} kB")

# %%
for name, kernel in (("v3", code), ("kernels.AdamW", compile_adamw("sm_90"))):
    under_way = kernel.blocks_per_multiprocessor * 1024 * 4 * 4  # elements, tensors, bytes
    print(f"{name}: {kernel.registers} registers, occupancy {kernel.occupancy:.0%}", end=", ")
    print(f"at most {under_way // 1024} kB under way")

# %% [markdown]
# The library's kernel has twice as many registers as v3 and half of its occupancy, and still more
# under way than is needed. (The 600 are an assumption, the order of magnitude of a load that misses
# all caches.) So more occupancy would not help here. Occupancy is a means: what counts is bytes under
# way, and a thread with wide loads has more of them.
#
# ## 5. Machine code, side by side
#
# `compare_sass` puts two kernels next to each other. First an old friend: addition, v2, with n
# divisible by 16 (left) and not (right). To keep it short, a program is one warp with 128 elements.

# %%
from kernels.ladder.vector_add import masked_block

x = torch.empty(1024)
left, right = (
    compile_for(masked_block, x, x, x, n, BLOCK=128, num_warps=1, arch="sm_90")
    for n in (1024, 1000)
)
print("\n".join(compare_sass(left, right).splitlines()[:10]))

# %%
for line in compare_sass(left, right, context=0).splitlines():
    if any(opcode in line for opcode in ("LDG", "STG")):
        print(line)

# %% [markdown]
# Left of the middle, `LDG.E.128`: one load of 128 bits for four elements, under one mask. Right of
# it, four loads of 32 bits, each with a mask of its own. 3 accesses to memory have become 12. The
# bytes are the same, so the roofline does not see it. But a thread can have only so many loads under
# way, and now it takes four times as many for the same bytes.
#
# This is the first thing to look for: **are the loads that carry the data 128 bits wide, or
# asynchronous?** `bulk_loads` says so for any compiled kernel. Attention, for three generations of
# GPUs, with the library's own tiles:

# %%
compiled = {}
for arch in ("sm_80", "sm_90", "sm_100"):
    compiled[arch] = code = compile_attention("forward", torch.float16, 64, arch)
    copies = ", ".join(f"{n} × {opcode}" for opcode, n in code.asynchronous_copies.items())
    print(f"{arch:<7}{code.tensor_core:<8}{copies}; widths {list(code.bulk_loads)}")

# %%
tiles = compile_descriptor(torch.float16, 64, "sm_90")
print(f"with tensor descriptors: {dict(tiles.asynchronous_copies)}, {tiles.registers} registers;")
print(f"with pointers: {compiled['sm_90'].registers} registers")

# %% [markdown]
# With descriptors, two copies of whole tiles replace eight copies of 128 bits by every thread, and
# their addresses need no registers. What to look for, and what it is called:
#
# | opcode | what it does |
# | --- | --- |
# | `LDG.E.128`, `STG.E.128` | load, store 128 bits of global memory through registers |
# | `LDGSTS` | copy from global to shared memory; nobody waits, no registers |
# | `UTMALDG` | from sm_90 on: a whole tile, fetched by the copy engine (from tensor descriptors) |
# | `HMMA`, `HGMMA`, `UTCHMMA` | tensor cores: of one warp; of four warps; on sm_100, of a whole program |
# | `MUFU.EX2` | 2 to the power of x |
# | `LDSM`, `STS` | between shared memory and registers |
# | `BAR`, `DEPBAR` | wait for the other warps; wait for copies |
# | `LDL`, `STL` | **local memory**: registers that did not fit |
#
# ## 6. Which lever moves what
#
# The inner loop of attention is where its time goes. All products in it are on tensor cores. What is
# left, scaling, maximum, exponential, sum, moving, is ordinary instructions, and those compete for
# the same issue slots. Their number for each score is the most useful single number that can be read
# without a GPU:
#
# $$\text{x/score} = \frac{\text{instructions of the loop that are not products} \cdot
# \text{threads}}{\text{BLOCK\_M} \cdot \text{BLOCK\_N}}$$
#
# **Lever 1: the exponential.** From v3 to v4 of the ladder, $e^x$ became $2^x$, for which there is an
# instruction.
#
# **Lever 2: the mask.** v4 masks every tile of keys. v5 masks only those that need it: it has one
# loop without a mask and then one with.

# %%
q = example((1, 2, 1024, 64), torch.float16)
(v3,) = compile_launches(attention.v3, q, q, q, arch="sm_80")
(v4,) = compile_launches(attention.v4, q, q, q, arch="sm_80")
(v5,) = compile_launches(attention.v5, q, q, q, causal=True, arch="sm_80")
for name, code in (("v3", v3), ("v4", v4), ("v5", v5)):
    print(f"{name}: x/score {code.instructions_per_score(64 * 64):.2f}")

# %%
print("\n".join(compare_sass(v4, v5).splitlines()[:16]))

# %%
loops = {"v4, every tile": v4.main_loop, "v5, no mask": v5.main_loops[0]}
loops["v5, with mask"] = v5.main_loops[1]
kinds = ("fp32", "integer", "exp2", "shared", "convert")
fig, ax = plt.subplots(figsize=(7.0, 2.9))
start = [0] * len(loops)
for kind in kinds:
    counts = [loop.mix[kind] for loop in loops.values()]
    ax.barh(list(loops), counts, left=start, label=kind)
    start = [x + y for x, y in zip(start, counts, strict=True)]
ax.set(xlabel="instructions in the loop", ylabel="loop", title="A step of 64 keys on sm_80")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=5)
print(describe(fig))

# %% [markdown]
# *Figure 4. The exponentials and the copies stay; what a mask costs is comparisons, selections and
# the integers to compare.*
#
# 86 instructions fewer from v4 to v5, and the masked loop runs for only one tile in many. Note what
# did *not* change: the tensor-core instructions, the copies, the exponentials.
#
# **Lever 3: the tile.** A thread of a larger tile reuses what it has loaded more often, and
# rescaling the output costs D / BLOCK_N for each score, so wider is better. But sums and scores live
# in registers, and a thread has 255 at most. Four layouts of the library's forward kernel for an
# A100:

# %%
layouts = [
    Layout(64, 64, 4, 2),
    Layout(128, 64, 4, 2),
    Layout(128, 128, 8, 2),
    Layout(128, 128, 4, 2),
]
tried = {}
for m, n, warps, stages in layouts:
    name = f"{m} × {n}, {warps} warps"
    tried[name] = compile_attention(
        "forward", torch.float16, 64, "sm_80", layout=Layout(m, n, warps, stages)
    )

# %%
for (name, code), (m, n, *_) in zip(tried.items(), layouts, strict=True):
    cost, spills = code.instructions_per_score(m * n), code.main_loop.spills
    print(f"{name:<20}x/score {cost:>5.2f}, spills in the loop {spills:>3}, ", end="")
    print(f"registers {code.registers}, occupancy {code.occupancy:.1%}")

# %%
names, places = list(tried), zip(tried.values(), layouts, strict=True)
sizes = [
    (code, code.threads / (m * n), code.instructions_per_score(m * n))
    for code, (m, n, *_) in places
]
spills = [code.main_loop.spills * share for code, share, _ in sizes]
others = [cost - spill for (*_, cost), spill in zip(sizes, spills, strict=True)]

# %%
fig, ax = plt.subplots(figsize=(7.0, 3.0))
ax.barh(names, others, label="all others")
ax.barh(names, spills, left=others, label="spills: LDL, STL")
ax.set(xlabel="instructions a score", ylabel="layout", title="Four layouts on sm_80, D = 64")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=2)
print(describe(fig))

# %% [markdown]
# *Figure 5. Larger tiles cost fewer instructions a score, until the registers of four warps run out:
# then come spills, and instructions to move what is left around.*
#
# The last layout has the same tile as the one before, but half of the threads to hold it. Its spills
# are loads and stores that nobody asked for, in every step. Here is a piece of that loop, and all of
# its spills:

# %%
spilling = tried["128 × 128, 4 warps"].main_loop
first = next(n for n, i in enumerate(spilling.body) if i.kind == "local")
for instruction in spilling.body[first - 2 : first + 4]:
    print(instruction)
print(dict(Counter(i.opcode for i in spilling.body if i.kind == "local")))

# %% [markdown]
# ### Exercise 3: find the spills
#
# A spill before or behind the loop is paid once, and harmless. So they have to be counted where they
# matter. Given a listing like the one above, find its loops, and count the LDL and STL in them.


# %%
def count_spills(listing: str) -> int:
    """How many LDL and STL instructions of a listing stand in a loop.

    A line is `address  guard opcode operands`, such as `0x0040  @!P0  LDL.64 R6, [R1+0x10]`;
    most have no guard. Opcodes may have a width: LDL.64, STL.128. A loop is what lies from the
    target of a jump (`BRA 0x0010`) that goes back to that jump. An instruction that stands in
    several loops counts once.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.count_spills", count_spills)

# %% [markdown]
# {{ help kernels.count_spills }}
#
# When yours is right, try it on the real thing: `count_spills(tried["128 × 128, 4 warps"].sass)`.
# It should find as many as `spills_in_loop` of the same kernel, which counts both of its loops, the
# one above and the one with the mask.
#
# ## 7. A bracket for the cycles
#
# Each kind of instruction is executed by some part of the multiprocessor, a **pipe**, and each pipe
# takes so many a cycle, which data sheets say. A multiprocessor of an A100 executes 16 exponentials
# a cycle, so the 8,192 of a tile of 128 × 64 take 512 cycles. So the instructions of a loop give
# cycles for each pipe. If all pipes work side by side without a gap, the busiest decides: the **ideal** end. If one
# works at a time, they add up: the **serial** end. The truth lies between, or a bit outside, because
# neither end knows about waiting.

# %%
chosen = {name: bracket(tried[name]) for name in list(tried)[:3]}
scores = {
    "64 × 64, 4 warps": 64 * 64,
    "128 × 64, 4 warps": 128 * 64,
    "128 × 128, 8 warps": 128 * 128,
}
for name, bound in chosen.items():
    ideal, serial = (1000 * cycles / scores[name] for cycles in (bound.ideal, bound.serial))
    print(
        f"{name:<20}{ideal:.0f} (ideal) to {serial:.0f} (serial) cycles for 1000 scores", end="; "
    )
    print("busiest:", bound.limit)

# %%
pipes = ("tensor", "shared", "issue", "exp2", "fp32", "integer", "convert", "shuffle")
fig, ax = plt.subplots(figsize=(7.2, 3.2))
for offset, (name, bound) in zip((-0.27, 0, 0.27), chosen.items(), strict=True):
    cycles = [1000 * bound.cycles[pipe] / scores[name] for pipe in pipes]
    ax.bar([i + offset for i in range(len(pipes))], cycles, 0.27, label=name)
ax.set(xticks=range(len(pipes)), xticklabels=pipes, xlabel="pipe", ylabel="cycles for 1000 scores")
ax.set(title="Which part of an A100 is busy for how long (a bound)")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 6. A bound, not a speed: all layouts need the tensor cores for the same time, but two of
# them keep shared memory busy for longer than that.*
#
# What is it good for? It names the limit: for two layouts shared memory, for 128 × 64 the tensor
# cores, which is what one wants. And it notices when a change has made a loop a quarter longer.
#
# What is it not good for? On published kernels it is off by −17 % to +34 %. Look at 128 × 64 with 4
# warps and 128 × 128 with 8: x/score prefers the second, the bracket prefers the first, each by less
# than a tenth. Neither can settle so little. This is where reading ends. Both stay in the race, the
# others are out, and a GPU decides (in the library, `with kernels.autotune():`).
#
# ## 8. Numbers that mislead
#
# Some numbers are easy to read and tempting to compare.

# %%
best, worst = tried["128 × 128, 8 warps"], tried["128 × 128, 4 warps"]
print(f"instructions in all: v4 {len(v4.instructions)}, v5 {len(v5.instructions)}")
print(f"stack in bytes: shipped {best.stack_bytes}, spilling {worst.stack_bytes}")
print(f"registers: shipped {best.registers}, spilling {worst.registers}")
print(f"occupancy: shipped {best.occupancy:.1%}, spilling {worst.occupancy:.1%}")

# %%
for arch, code in compiled.items():
    print(f"{arch}: {code.flops_per_instruction:.0f} FLOPs an instruction, by {code.tensor_core}")

# %% [markdown]
# - **Instructions in all.** v5 has half as many again as v4, because it has two loops. But the one
#   that runs is shorter.
# - **Stack.** The shipped kernel has 8 bytes of stack, used outside of its loops. Only spills *inside*
#   a loop count.
# - **Registers.** 255 in both: full use, and overflow, look the same.
# - **Occupancy.** 12.5 % in both, and it is right for attention: tensor cores want large tiles, and
#   the copies run ahead by themselves.
# - **FLOPs an instruction, across GPUs.** One HGMMA does what many HMMA do. The number compares
#   instruction sets, not kernels.
#
# The good ones, in the order in which to look: traffic against the least; width of the loads, and
# copies that are asynchronous; spills in the loop; x/score; then the bracket. The library's own
# report has exactly these, and the targets they are held to. In a terminal:
#
# ```
# python -m kernels report attention --arch sm_80
# ```
#
# ## Summary
#
# - Bytes asked for, FLOPs, registers and instructions are exact without a GPU; times, programs at
#   once and cycles are bounds; caches and speed are unknown until somebody measures.
# - First compare the traffic with the least there is, then place the kernel on the roofline. On the
#   slope, move less; under the roof, spend fewer instructions on each result.
# - In machine code look for 128-bit or asynchronous loads, tensor cores, and LDL or STL in the loop.
#   One number at a time, between two versions of one kernel on one GPU.
#
# **Next:** take your kernel of [softmax](02_softmax.ipynb) and find out what its loads look like when
# a row has 1000 columns instead of 1024. Then put the kernels into a model, and train it to the
# same loss curve: [plugging in](08_plug_in.ipynb).

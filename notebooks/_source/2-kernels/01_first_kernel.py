# %% [markdown]
# # The first kernel: from ten numbers to an optimiser
#
# From [attention](../1-transformer/04_attention.ipynb) to [the clinic](../1-transformer/13_clinic.ipynb),
# PyTorch did the arithmetic. Underneath it, a GPU runs small programs called **kernels**, and in
# them it is decided whether a model is fast.
# In [Start here](../00_start_here.ipynb) you saw one that doubles numbers. Here you write three:
# vector addition, a gate of Llama's, and AdamW, the optimiser that trains most language models.
# They are written in Triton, which looks like Python.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say which part of a GPU touches which number, and mask the parts that have none;
# - write elementwise kernels, run them on a CPU, and have every access to memory watched;
# - name a lower bound for the time of a kernel, from the bytes it has to move;
# - read the machine code of a kernel, and see in it what a mask or a division costs;
# - write AdamW as one kernel, equal to PyTorch's, and train a model with it.
#
# *90 minutes with the exercises; 30 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from kernels.lab import check as watch
from kernels.lab import compile_for, interpret
from minift.course import check
from minift.course.figures import describe, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. Programs, blocks, lanes
#
# A CPU adds two lists in a loop: one element after the other, in a few fast cores. A GPU has
# thousands of slower arithmetic units (an H100 has 16,896), and they must all have something to
# do at the same time. So the loop goes. You write down what happens to one **block** of elements,
# and many copies of that run at once.
#
# - A **program** is one copy. All programs run the same code. What tells them apart is their
#   number, `pid`: 0, 1, 2, …
# - A **lane** is one place in a block. A block has BLOCK lanes, a power of two.
#
# For n elements there are ⌈n / BLOCK⌉ programs, rounded up so that no element is left over. They
# run in any order, and none can wait for another. The elements of a program are its **offsets**:
#
# $$\text{offsets} = \text{pid} \cdot \text{BLOCK} + (0, 1, \dots, \text{BLOCK} - 1)$$

# %%
n, BLOCK = 10, 4
for pid in range(triton.cdiv(n, BLOCK)):  # cdiv: divide and round up
    offsets = pid * BLOCK + torch.arange(BLOCK)
    print(f"program {pid}: offsets {offsets.tolist()}, exist: {(offsets < n).tolist()}")

# %%
fig, ax = plt.subplots(figsize=(7.2, 2.5))
for pid in range(3):
    offsets = range(pid * BLOCK, (pid + 1) * BLOCK)
    fill = [f"C{pid}" if offset < n else "white" for offset in offsets]
    ax.scatter(offsets, [pid] * BLOCK, marker="s", s=760, c=fill, edgecolor=f"C{pid}")
    for lane, offset in enumerate(offsets):
        colour = "white" if offset < n else "black"
        ax.text(offset, pid, lane, ha="center", va="center", color=colour)
ax.set(xlabel="offset", ylabel="program", title="Ten elements in blocks of four")
ax.set(xticks=range(12), yticks=range(3), ylim=(2.6, -0.6))
print(describe(fig))

# %% [markdown]
# *Figure 1. Which program touches which element; the number in a square is the lane, and two
# lanes of program 2 have no element.*
#
# ## 2. A kernel
#
# In a kernel, `x_ptr` is a **pointer**: the address of the first element of a tensor in memory.
# Pointer plus offsets gives a block of addresses. `tl.load` reads a block of numbers from there,
# `tl.store` writes one. `tl.constexpr` marks a number that has to be known when the kernel is
# compiled, such as the size of a block. There is no loop, and nothing is returned: a kernel
# writes into memory that it is given.
#
# On a GPU, `add_blocks[(2,)](x, y, out, BLOCK=4)` starts two programs. Without one,
# `interpret(add_blocks)` takes its place. It runs the programs one after the other on the CPU,
# rounds as a GPU does, and looks at every address before it is touched.
#
# We begin with eight numbers, two full blocks. Then we break it: ten numbers and three programs.
# What will the last one do?


# %%
@triton.jit
def add_blocks(x_ptr, y_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets)
    y = tl.load(y_ptr + offsets)
    tl.store(out_ptr + offsets, x + y)


# %%
x = torch.arange(8.0)
y, out = 10 * x, torch.full((8,), float("nan"))
interpret(add_blocks)[(2,)](x, y, out, BLOCK=4)
print(out.tolist(), " equal to PyTorch's:", torch.equal(out, x + y))

# %% tags=["raises-exception"]
x = torch.arange(10.0)
y, out = 10 * x, torch.full((10,), float("nan"))
interpret(add_blocks)[(3,)](x, y, out, BLOCK=4)

# %% [markdown]
# Program 2 loads four numbers, and the last two are not there: they lie past the end of `x`. (A
# program is named by three numbers because a grid may have three dimensions.) A GPU gives no such
# message. It reads whatever lies behind `x`, and the store overwrites whatever lies behind `out`:
# some other tensor of your model.
#
# ## 3. The mask
#
# A load or a store can be told which lanes take part. A lane whose mask is false touches nothing.
#
# ```python
# mask = offsets < n
# x = tl.load(x_ptr + offsets, mask=mask)
# ```
#
# In the last program of our example the mask is (true, true, false, false).
#
# ### Exercise 1: vector addition
#
# Write the addition for any n. `check` runs your kernel in the interpreter, on sizes that divide
# well and sizes that do not, counts the bytes that it moves, and compiles it for a real GPU.


# %%
@triton.jit
def vector_add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] + y[i] for 0 <= i < n.

    Launched with ⌈n / BLOCK⌉ programs; program p handles elements p·BLOCK to (p+1)·BLOCK - 1,
    as far as they exist.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.vector_add", vector_add)

# %% [markdown]
# {{ help kernels.vector_add }}
#
# ### What is in a masked lane?
#
# Nothing that you may rely on. Mostly that does not matter, since the store has the same mask. It
# does when lanes are combined. This kernel adds up a vector: each program adds the sum of its
# block to one number in memory.


# %%
@triton.jit
def total(x_ptr, sum_ptr, n, BLOCK: tl.constexpr, OTHER: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offsets, mask=offsets < n, other=OTHER)
    so_far = tl.load(sum_ptr)
    tl.store(sum_ptr, so_far + tl.sum(x))


for other in (None, 0.0):
    result = torch.zeros(1)
    interpret(total)[(3,)](x, result, 10, BLOCK=4, OTHER=other)
    print(f"other = {other}: {result.item()}")

# %% [markdown]
# Without `other`, the interpreter fills masked lanes with NaN ("not a number"), so that a sum
# over them shows. With `other=0.0` the masked lanes hold 0, and 0 + 1 + … + 9 is 45.
#
# ### Right, and still wrong
#
# 45 is the right answer. Is the kernel right? The interpreter runs one program after the other; a
# GPU does not. `watch()` records what every program touches, and looks for accesses that depend
# on the order.

# %% tags=["raises-exception"]
with watch():
    interpret(total)[(3,)](x, torch.zeros(1), 10, BLOCK=4, OTHER=0.0)

# %% [markdown]
# A **race**. On a GPU all three programs may load the sum while it is 0. Each adds its own part,
# and the last store wins: the answer is 6, or 22, or 17, or now and then 45. A bug like this one
# passes every test that only looks at numbers.
#
# There are two cures. `tl.atomic_add(sum_ptr, tl.sum(x))` reads, adds and writes in one step that
# nobody can interrupt. Or each program stores its part in a place of its own, and somebody adds
# up the parts later. The second keeps the order of the additions, and so the last digit, the same
# in every run.
#
# ## 4. What has to move
#
# `watch` also counts bytes. An fp32 number has four of them, so an addition must at least read 8
# bytes and write 4 for each element: 12. No kernel can do with less. Does ours need more? (From
# here on the notebook works with this kernel. If your exercise is green, yours looks much the
# same.)


# %%
@triton.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + i, mask=i < n)
    y = tl.load(y_ptr + i, mask=i < n)
    tl.store(out_ptr + i, x + y, mask=i < n)


# %%
x, y, out = torch.randn(1000), torch.randn(1000), torch.full((1000,), float("nan"))
with watch() as report:
    interpret(add)[(16,)](x, y, out, 1000, BLOCK=64)
print(report.report())
print("bytes an element:", (report.loaded + report.stored) / 1000)
print("equal to PyTorch's:", torch.equal(out, x + y))

# %% [markdown]
# Exactly 12. From that follows a bound on the time. A GPU can move so many bytes a second, and it
# can do so many additions and multiplications a second (FLOP/s: floating-point operations). A
# kernel has to wait for the slower of the two:
#
# $$\text{time} \;\ge\; \max\left(\frac{\text{bytes}}{\text{bytes per second}},\;
# \frac{\text{FLOP}}{\text{FLOP per second}}\right)$$
#
# An addition does 1 FLOP for 12 bytes. So its FLOP/s cannot exceed a twelfth of the bytes per
# second.

# %%
SPECS = {"A100": (2.04, 19.5), "H100": (3.35, 67), "MI300X": (5.3, 163)}  # TB/s, fp32 TFLOP/s
for gpu, (bandwidth, peak) in SPECS.items():
    reached = min(peak, bandwidth * 1 / 12)
    print(f"{gpu:<7}at most {reached:.2f} of {peak} TFLOP/s: {reached / peak:.1%}")

# %%
fig, ax = plt.subplots(figsize=(7.2, 3.6))
intensity = torch.logspace(-2, 3, 200)
for gpu, (bandwidth, peak) in SPECS.items():
    ax.plot(intensity, (intensity * bandwidth).clamp(max=peak), label=gpu)
for work, flop_per_byte in {"add": 1 / 12, "AdamW": 14 / 28, "matrix product": 1024 / 6}.items():
    ax.axvline(flop_per_byte, color="gray", linestyle="--", linewidth=1)
    ax.text(flop_per_byte * 1.1, 0.025, work, rotation=90, va="bottom")
ax.set(xlabel="FLOP per byte", ylabel="TFLOP/s, at most", title="Roofline of three GPUs in fp32")
ax.set(xscale="log", yscale="log", ylim=(0.02, 300))
ax.legend(loc="upper left")
print(describe(fig))

# %% [markdown]
# *Figure 2. On the slope, bytes decide; on the flat roof, arithmetic does, and an addition can
# use less than one percent of it.*
#
# This is a **bound, not a measurement**: it is computed from data sheets (without tensor cores;
# the matrices are 1024 × 1024). No kernel is faster, most are slower. But it says what to work
# on. To make a kernel on the slope faster, move fewer bytes. There are two ways: smaller numbers,
# and doing more with a number once it has been loaded (**fusing**).
#
# ## 5. Sixteen bits
#
# A bf16 number has 16 bits: 1 for the sign, 8 for the exponent as in fp32, and 7 for the digits
# after the leading one. With 7 binary digits there are 128 numbers from 256 to 512, so they lie 2
# apart. There is no 257. A result that lies between two numbers is **rounded** to the nearer one;
# in the middle, to the one whose last digit is 0.

# %%
x = torch.tensor([250, 254, 255, 256, 258, 260]).bfloat16()
ones, out = torch.ones_like(x), torch.empty_like(x)
with watch() as report:
    interpret(add)[(2,)](x, ones, out, 6, BLOCK=4)
print(f"x      {x.int().tolist()}\nx + 1  {out.int().tolist()}")
print("equal to PyTorch's:", torch.equal(out, x + ones))
print("bytes an element:", (report.loaded + report.stored) / 6)

# %%
fig, ax = plt.subplots()
exact = torch.linspace(248, 272, 961)
ax.plot(exact, exact.half(), label="fp16 (10 digits)", linewidth=1)
ax.plot(exact, exact.bfloat16().float(), label="bf16 (7 digits)")
ax.set(xlabel="exact number", ylabel="what is stored", title="Rounding near 256")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. Below 256 the numbers of bf16 lie 1 apart, above it 2; those of fp16 lie eight times
# as close, but end at 65504.*
#
# Half the bytes, and so half the time on the slope. But 256 + 1 is 256: counting in bf16 stops
# there. And every operation that stores its result rounds it. Here is the gate of Llama's
# feed-forward layer, silu(gate) · up. It is two operations in PyTorch, so it is rounded twice.
#
# $$\text{silu}(g) = \frac{g}{1 + e^{-g}}$$

# %%
count = torch.tensor(0).bfloat16()
for _ in range(1000):
    count += 1
gate, up = torch.randn(2, 10_000).bfloat16()
twice = F.silu(gate) * up
once = (F.silu(gate.float()) * up.float()).bfloat16()
print(f"1000 times plus 1: {count:.0f}")
print("rounding twice changes more than a quarter:", bool((twice != once).sum() > 2500))

# %% [markdown]
# More than a quarter of the results are off by a place. The rule for kernels: **store in 16 bits,
# compute in fp32.** `tl.load(…).to(tl.float32)` widens a block, which is exact; `tl.store` rounds
# to the type of the tensor.
#
# ### Exercise 2: a fused gate
#
# Write silu(gate) · up as one kernel that computes in fp32 and rounds once. PyTorch's two
# operations move five numbers an element (silu reads one and writes one; the product reads two
# and writes one). Yours has to do with three.


# %%
@triton.jit
def silu_mul(gate_ptr, up_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = silu(gate[i]) · up[i] for 0 <= i < n, with silu(g) = g / (1 + exp(-g)).

    fp32, fp16 or bf16; computed in fp32 and rounded once. Launched with ⌈n / BLOCK⌉ programs.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.silu_mul", silu_mul)

# %% [markdown]
# {{ help kernels.silu_mul }}
#
# ## 6. The same cell, compiled
#
# What does a GPU get to see of all this? Triton compiles a kernel in several steps. The last but
# one is **PTX**, an assembly language for all NVIDIA GPUs; the last is **SASS**, the instructions
# of one model. None of it takes a GPU. `compile_for` wants what a launch wants; of the tensors,
# only types and alignment matter.
#
# Here is `add` for an H100 (`sm_90`): its loads, additions, stores and comparisons in PTX, then
# all of its SASS. To keep it short, a program is one **warp**, which is 32 threads that carry out
# every instruction together. With BLOCK = 128, each thread has 4 lanes.

# %%
x = torch.empty(1024)
compiled = compile_for(add, x, x, x, 1024, BLOCK=128, num_warps=1, arch="sm_90")
for line in compiled.ptx.splitlines():
    if any(word in line for word in ("setp", "ld.global", "add.f32", "st.global")):
        print(line.strip().replace("\t", " "))

# %%
for instruction in compiled.instructions:
    if instruction.opcode not in ("NOP", "BRA"):  # they fill the space behind the end
        print(instruction)

# %% [markdown]
# **PTX.** `setp.lt` (set predicate if less than) is our mask; a line that begins with `@%p1`
# happens only where it is true. `v4.b32` means four numbers of 32 bits in one access: 128 bits.
# There are four additions, one for each lane of the thread. The block of 128 has become 32
# threads with four registers each.
#
# **SASS.** Each line has an address, a condition, an operation and its registers. The first of
# these is the one written to (for a store, the address is). A thread reads it like this:
#
# | instruction | what it does |
# | --- | --- |
# | `S2R R0, SR_TID.X` | which thread am I? |
# | `S2R R9, SR_CTAID.X` | which program am I? That is `tl.program_id(0)` |
# | `LDC`, `ULDC` | get the arguments, three pointers and n (and two for the system) |
# | `CS2R R12, SRZ` … | zeros into the registers of x and y, in case they are masked |
# | `SHF.L.U32 R0, R0, 0x2` | thread · 4 (shifted by two bits): each thread has four lanes |
# | `LOP3.LUT` | keep it within the block |
# | `LEA R9, R9, R0, 0x7` | program · 128 (shifted by seven bits) + that: the offset |
# | `ISETP.GE.AND P0` | P0 = offset ≥ n: the mask, the other way round |
# | `IMAD.WIDE R2, R9, 0x4` | pointer + 4 bytes · offset: the address in x; also for y and out |
# | `@!P0 LDG.E.128 R12` | if not P0, load 128 bits into R12, R13, R14 and R15 |
# | `FADD` (four) | x + y |
# | `@P0 EXIT` | a masked thread stops here |
# | `STG.E.128` | store 128 bits |
#
# The addition that you wrote is the four FADD. All the rest finds out where the numbers are, and
# brings them.
#
# Now with blocks of 1024 and four warps, for four GPUs: A100, H100, B200, and AMD's MI300X.

# %%
for arch in ("sm_80", "sm_90", "sm_100", "gfx942"):
    compiled = compile_for(add, x, x, x, 1024, BLOCK=1024, arch=arch)
    counts = sorted(compiled.opcodes("global").items())
    print(f"{arch:<7}", ", ".join(f"{count} × {opcode}" for opcode, count in counts))

# %% [markdown]
# All accesses are 128 bits wide, the widest there is (AMD's `x4` says the same: four numbers). On
# NVIDIA's GPUs, four warps are 128 threads. A block of 1024 is 8 lanes for each, so x takes two
# loads, and so does y. AMD's warps have 64 threads: one load each.
#
# ### What the mask costs
#
# The mask has one predicate for four lanes. May it? If n is divisible by four, yes: the last
# element never lies in the middle of four. When n is a multiple of 16, Triton sees that at launch
# and compiles the kernel for it. And when it is not?

# %%
for n in (1024, 1000):
    compiled = compile_for(add, x, x, x, n, BLOCK=1024, arch="sm_90")
    loads = {op: compiled.opcodes("global")[op] for op in ("LDG.E.128", "LDG.E")}
    print(f"n = {n}: loads {loads}, registers {compiled.registers}")

# %% [markdown]
# Four times as many loads, each with a mask of its own. The bytes are the same, but a GPU can
# have only so many loads under way.
#
# The cure: only the *last* program needs a mask. So ask. All lanes of a program take the same
# way, so the question costs next to nothing, and all programs but one get the wide loads back.


# %%
@triton.jit
def add_tail(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    start = tl.program_id(0) * BLOCK
    i = start + tl.arange(0, BLOCK)
    if start + BLOCK <= n:
        tl.store(out_ptr + i, tl.load(x_ptr + i) + tl.load(y_ptr + i))
    else:
        x = tl.load(x_ptr + i, mask=i < n)
        y = tl.load(y_ptr + i, mask=i < n)
        tl.store(out_ptr + i, x + y, mask=i < n)


# %%
compiled = compile_for(add_tail, x, x, x, 1000, BLOCK=1024, arch="sm_90")
print({op: compiled.opcodes("global")[op] for op in ("LDG.E.128", "LDG.E")})
x, y, out = torch.randn(1000), torch.randn(1000), torch.full((1000,), float("nan"))
interpret(add_tail)[(16,)](x, y, out, 1000, BLOCK=64)
print("equal to PyTorch's:", torch.equal(out, x + y))

# %% [markdown]
# Both ways are in the code now: the wide one, which every full block takes, and the narrow one.
# The library's kernels are built like this.
#
# ## 7. What an operation costs
#
# An addition is one instruction. Is a square root? We compile a kernel that does one operation
# and nothing else, count its instructions, and take off those of a kernel that only copies. The
# operation is an argument: a `tl.constexpr` can be a function.


# %%
@triton.jit
def apply(x_ptr, out_ptr, F: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out_ptr + i, F(tl.load(x_ptr + i)))


@triton.jit
def copy(x):
    return x


@triton.jit
def plus(x):
    return x + 1.5


@triton.jit
def divide(x):
    return 1.5 / x


@triton.jit
def divide_rn(x):
    return tl.div_rn(x * 0 + 1.5, x)


# %%
def instructions(operation) -> int:
    """How many a kernel with this operation has; each thread has 8 lanes."""
    compiled = compile_for(apply, x, x, F=operation, BLOCK=256, num_warps=1, arch="sm_90")
    return sum(instruction.opcode != "NOP" for instruction in compiled.instructions)


operations = {"x + 1.5": plus, "exp2(x)": tl.exp2, "exp(x)": tl.exp, "log(x)": tl.log}
operations |= {"sqrt(x)": tl.sqrt, "sqrt_rn(x)": tl.sqrt_rn}
operations |= {"1.5 / x": divide, "div_rn(1.5, x)": divide_rn}
base = instructions(copy)
prices = {name: round((instructions(f) - base) / 8) for name, f in operations.items()}

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.0))
ax.barh(list(prices), list(prices.values()))
ax.bar_label(ax.containers[0], padding=3)
ax.invert_yaxis()
ax.set(xlabel="instructions an element (sm_90)", ylabel="operation", title="A price list")
print(describe(fig))

# %% [markdown]
# *Figure 4. What one operation costs in instructions of an H100, the code for rare cases
# included.*
#
# The machine has an instruction for $2^x$, none for $e^x$. That is why attention kernels compute
# $e^x$ as $2^{x \log_2 e}$, with the factor folded into a multiplication that is there anyway.
# `/` and `sqrt` are approximations, good to about one place. With `_rn` ("round to nearest") the
# result is the exact one, rounded once, as on a CPU. That costs. Whether it matters is a question
# for the roofline; we come back to it.
#
# ## 8. AdamW
#
# Training follows the gradient g downhill. AdamW (Loshchilov & Hutter 2019) does not step by g
# itself. It keeps two running averages for every parameter: m of the gradient, and v of its
# square. Each step keeps most of the old average and mixes in a little of the new value:
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2$$
#
# Both start at 0, so at first they are too small. After t steps, the average of nothing but ones
# would be 1 − βᵗ, so dividing by that puts it right:
#
# $$\hat m = m \,/\, (1 - \beta_1^t) \qquad \hat v = v \,/\, (1 - \beta_2^t)$$
#
# The step is lr (the learning rate) times $\hat m$, divided by the usual size of the gradient,
# $\sqrt{\hat v}$. Beside it, every parameter shrinks by lr · λ (weight decay). The small number ε
# keeps the division from going wrong at 0.
#
# $$p \leftarrow p - \text{lr}\,\lambda\, p -
# \text{lr}\; \hat m \,/\, (\sqrt{\hat v} + \varepsilon)$$

# %%
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 1e-2


def adamw_by_formula(p, g, m, v, t):
    m = BETAS[0] * m + (1 - BETAS[0]) * g
    v = BETAS[1] * v + (1 - BETAS[1]) * g * g
    m_hat, v_hat = m / (1 - BETAS[0] ** t), v / (1 - BETAS[1] ** t)
    return p - LR * DECAY * p - LR * m_hat / (v_hat.sqrt() + EPS), m, v


# %% [markdown]
# In the first step $\hat m = g$ and $\hat v = g^2$, so the step is lr · g / |g|: every parameter
# moves by lr, whether its gradient is 3 or 0.0003. Then PyTorch's optimiser beside it, for five
# steps in double precision.

# %%
start = torch.tensor([1, 1, 1]).double()
p, m, v = adamw_by_formula(start, torch.tensor([3, 0.0003, -3]).double(), 0 * start, 0 * start, 1)
print("moved by lr times", ((p - start + LR * DECAY * start) / LR).round(decimals=2).tolist())

theirs = torch.nn.Parameter(start.clone())
optimiser = torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY)
p, m, v = start, 0 * start, 0 * start
for t, theirs.grad in enumerate(torch.randn(5, 3).double(), 1):
    p, m, v = adamw_by_formula(p, theirs.grad, m, v, t)
    optimiser.step()
print("equal to torch.optim.AdamW:", torch.allclose(p, theirs, rtol=1e-13))

# %% [markdown]
# ### What it moves
#
# Each line of the formula is several operations of PyTorch, and each of those reads its inputs
# from memory and writes its result back. We count the bytes: a *dispatch mode* sees every
# operation that PyTorch carries out.

# %%
from torch.utils._python_dispatch import TorchDispatchMode


class Moved(TorchDispatchMode):
    """The bytes of all tensors that go into operations and come out of them."""

    bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        tensors = [t for t in (*args, out) if isinstance(t, torch.Tensor) and t.numel() > 1]
        self.bytes += sum(t.nbytes for t in tensors)
        return out


p, g, m, v = torch.rand(4, 1000)
theirs = torch.nn.Parameter(p.clone())
theirs.grad = g
optimiser = torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY, foreach=False)
optimiser.step()  # the first step makes m and v; we count the second
with Moved() as by_formula:
    adamw_by_formula(p, g, m, v, 1)
with Moved() as by_torch:
    optimiser.step()
print(f"an element: formula {by_formula.bytes // 1000} bytes, PyTorch {by_torch.bytes // 1000}")

# %% [markdown]
# PyTorch is careful (it works in place and joins operations) and still moves 84 bytes. What *has*
# to move? Read p, g, m and v: 16 bytes. Write p, m and v: 12. That makes 28.
#
# ### Exercise 3: AdamW in one kernel
#
# Write it so that nothing moves twice. The corrections $1 - \beta^t$ come as arguments. (Triton
# has no `**`: the square of g is `g * g`.)


# %%
@triton.jit
def adamw_step(
    p_ptr, g_ptr, m_ptr, v_ptr, n, lr, beta1, beta2, eps, decay, correction1, correction2,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One step of AdamW in place, for i < n, with λ = decay and corrections 1 - β₁ᵗ, 1 - β₂ᵗ:

    m ← β₁·m + (1 - β₁)·g        v ← β₂·v + (1 - β₂)·g²
    p ← p - lr·λ·p - lr · (m / correction1) / (√(v / correction2) + eps)
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.adamw_step", adamw_step)

# %% [markdown]
# {{ help kernels.adamw_step }}
#
# ### The last digits
#
# Your kernel computes $1 - \beta_2$ itself. (The check uses betas for which that is exact.) With
# the usual $\beta_2 = 0.999$ it is not. fp32 has about 7 digits, and 0.999 spends three of them
# on nines. Here is what is left of 0.001, in units of one rounding ($2^{-24}$ of the number).

# %%
in_fp32 = (1 - torch.tensor(0.999)).item()
roundings = abs(in_fp32 - 0.001) / 0.001 / 2**-24
print(f"{1000 * in_fp32:.6f} thousandths: wrong by {roundings:.0f} roundings")

# %% [markdown]
# Every v would be off by that. So the constants of a step are computed where it costs nothing:
# once, in Python, in double precision, and rounded at the end. The library's `step_constants`
# does it: 1 − lr·λ, 1 − β₁, β₂, 1 − β₂, ε, −lr / (1 − β₁ᵗ) and √(1 − β₂ᵗ).
#
# `tl.fma(a, b, c)` is a·b + c with one rounding instead of two. The order of operations is
# PyTorch's.


# %%
@triton.jit
def adamw_exact(
    p_ptr, g_ptr, m_ptr, v_ptr, n, keep, mix1, beta2, mix2, eps, rate, root, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < n
    p, g = tl.load(p_ptr + i, mask=mask), tl.load(g_ptr + i, mask=mask)
    m, v = tl.load(m_ptr + i, mask=mask), tl.load(v_ptr + i, mask=mask)
    m = tl.fma(g - m, mix1, m)
    v = tl.fma(g * mix2, g, v * beta2)
    p = p * keep + tl.div_rn(rate * m, tl.div_rn(tl.sqrt_rn(v), root) + eps)
    tl.store(p_ptr + i, p, mask=mask)
    tl.store(m_ptr + i, m, mask=mask)
    tl.store(v_ptr + i, v, mask=mask)


# %%
from kernels.adamw import step_constants

p, m, v = torch.randn(1000), torch.zeros(1000), torch.zeros(1000)
theirs = torch.nn.Parameter(p.clone())
optimiser = torch.optim.AdamW([theirs], LR, BETAS, EPS, DECAY)
with watch() as report:
    for t, theirs.grad in enumerate(torch.randn(10, 1000), 1):
        optimiser.step()
        constants = step_constants(t, LR, BETAS, EPS, DECAY)
        interpret(adamw_exact)[(8,)](p, theirs.grad, m, v, 1000, *constants, BLOCK=128)
print("bytes an element and step:", (report.loaded + report.stored) / 1000 / 10)

# %%
moments = optimiser.state[theirs]
pairs = {"p": (p, theirs), "m": (m, moments["exp_avg"]), "v": (v, moments["exp_avg_sq"])}
for name, (mine, right) in pairs.items():
    roundings = (mine - right).abs().max() / right.abs().max() / 2**-24
    print(f"{name} within 2 roundings of torch.optim.AdamW after 10 steps:", bool(roundings <= 2))

# %% [markdown]
# 28 bytes, and PyTorch's numbers. On most machines m and v agree in every bit. We do not ask for
# that, because PyTorch rounds differently on processors that have no fma instruction.
#
# And the exact divisions and the exact root: can we afford them? Section 7 has the price in
# instructions. A GPU carries out half as many instructions a second as its FLOP/s say (an fma
# counts as two), so we know both sides of the roofline.

# %%
example = [torch.empty(1024)] * 4
compiled = compile_for(adamw_exact, *example, 1024, *constants, BLOCK=1024, arch="sm_90")
executed = sum(i.opcode != "NOP" for i in compiled.instructions) / 8  # 8 elements a thread
bandwidth, peak = SPECS["H100"]
print("all accesses 128 bits wide:", all(".128" in op for op in compiled.opcodes("global")))
print("bytes take longer than instructions:", 28 / bandwidth > executed / (peak / 2))

# %% [markdown]
# Memory takes longer, by a factor of three or so. The arithmetic is done while bytes are on their
# way, and exactness is free. (A bound again: both sides assume that nothing else is in the way.)
#
# ## 9. A whole model in one launch
#
# A model has many tensors: 16 in the tiny GPT-2 below, hundreds in a real one. Starting a kernel
# takes some microseconds, longer than the work on a small tensor. `kernels.AdamW` therefore
# updates all tensors in one launch. It passes a table of addresses, and each program looks up
# which piece of which tensor is its own. It is used like PyTorch's, so we train the same model
# with both.

# %%
from minift.models.gpt2 import GPT2Config, GPT2LMHeadModel

TEXT = """the cat sat on the mat . the dog saw the cat . the cat sat on the dog . the dog ran to
the mouse . the mouse ran to the cat . the cat ran home ."""
vocabulary = list(dict.fromkeys(TEXT.split()))
ids = torch.tensor([[vocabulary.index(word) for word in TEXT.split()]])
sizes = {"vocab_size": len(vocabulary), "n_positions": 48, "n_embd": 16, "n_layer": 1, "n_head": 2}
no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
config = GPT2Config(**sizes, **no_dropout, bos_token_id=None, eos_token_id=None)


# %%
def learn(optimiser_class, steps: int = 35):
    """A tiny GPT-2 trained on the text: model, optimiser, losses."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    optimiser = optimiser_class(model.parameters(), lr=0.03, weight_decay=0.1)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model, optimiser, torch.tensor(losses)


# %%
theirs, _, their_losses = learn(torch.optim.AdamW)
ours, optimiser, our_losses = learn(kernels.AdamW)
difference = (our_losses - their_losses).abs().max()
print("losses differ by less than 0.00001:", bool(difference < 1e-5))

fig, ax = plt.subplots()
ax.plot(their_losses, label="torch.optim.AdamW", linewidth=6, alpha=0.4)
ax.plot(our_losses, label="kernels.AdamW")
ax.set(xlabel="step", ylabel="loss", title="A tiny GPT-2 learns 39 words")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 5. Trained by our kernel and by PyTorch, the model takes the same way down.*
#
# Equal losses are not yet equal weights. Which parameters differ between the two models by more
# than rounding? Then, what does the model write? And what does one more step cost, when it is
# watched?

# %%
for (name, mine), right in zip(ours.named_parameters(), theirs.parameters(), strict=True):
    if len(far := ((mine - right).abs().flatten() > 1e-5).nonzero()):
        print(name, "differs; only at places of k:", bool((far >= 16).all() and (far < 32).all()))
written = ours.generate(ids[:, :1], max_new_tokens=20)[0]
print(" ".join(vocabulary[i] for i in written))

# %%
with watch() as report:
    optimiser.step()
tensors = [report.traffic[name] for name in ("param", "grad", "exp_avg", "exp_avg_sq")]
moved = sum(tensor.loaded + tensor.stored for tensor in tensors)
moved /= sum(p.numel() for p in ours.parameters())
print(f"{len(report.kernels)} launch, {report.programs} programs, {moved:g} bytes a parameter")

# %% [markdown]
# 28 bytes a parameter, in one launch, for all 16 tensors. The counts of *Start here* babbled in
# circles; this model has learnt its text by heart.
#
# One tensor differs: the bias of q, k and v, and in it only places that belong to k (16 to 31). A
# bias on k adds the same number to all scores of a query, and the softmax does not care. So its
# gradient is 0; computed with roundings, it is noise. And Adam, as you saw, turns even a tiny
# gradient into a step that counts. These parameters wander where the noise takes them, with
# PyTorch's optimiser as with ours, and the loss does not see it. When two right programs differ,
# ask what the number is good for.
#
# ## Summary
#
# - A kernel is written for one block; programs run it side by side, in any order. Mask the lanes
#   that have no element, give masked lanes a value where lanes are combined, and leave each
#   element to one program.
# - Most kernels wait for memory. Count the bytes that must move, move no more, and the arithmetic
#   is free. Store in 16 bits, compute in fp32, round once.
# - Machine code can be read without a GPU: wide loads, one mask for four lanes or one for each,
#   the price of an operation. AdamW has to move 28 bytes a parameter, and moves 28.
#
# **Next:** compile your `silu_mul` for `sm_90` with bf16 tensors and look at its loads: how many
# numbers does one of 128 bits bring now? Then combine the lanes of a block with each other, in
# [softmax and reductions](02_softmax.ipynb).

# %% [markdown]
# # AdamW: from a loop to one launch
#
# With the gradients of [the last notebook](05_flash_backward.ipynb) a model can take a step. An
# optimiser does little: a dozen operations for each parameter. But it does them for all parameters
# of a model, in every step, and it touches four numbers of memory for each. In
# [the first kernel](01_first_kernel.ipynb) you wrote AdamW for one tensor. This notebook builds the
# optimiser around it: one launch for a whole model, PyTorch's moments to the last bit, 16-bit
# weights that still learn, and clipping on the way.
#
# You need no GPU: kernels run on your CPU, and their machine code is made and read here too.
# **Where there is no Triton** (macOS, Windows): open this notebook on a Linux machine, in WSL, or
# in Colab.

# %% [markdown]
# **After this notebook you will be able to**
#
# - follow AdamW through three steps with a pencil, and say what each part of it is for;
# - count what a step moves and how often it launches, and bring both down to the least;
# - write a kernel that finds its tensors in a table of addresses;
# - keep an optimiser equal to PyTorch's, and hand its state over in the middle of training;
# - say which updates are lost in 16 bits, and save them in two ways.
#
# *75 minutes with the exercises; 25 seconds to run on two CPU cores, with 1 GB of memory. Nothing
# is downloaded.*

# %%
import kernels

kernels.require_triton("this notebook")

import matplotlib.pyplot as plt
import torch
import triton
import triton.language as tl
from torch.nn import Parameter

from kernels.adamw import step_constants
from kernels.lab import check as watch
from kernels.ladder import adamw, compile_launches, rungs
from minift.course import check
from minift.course.figures import describe, use_style

torch.manual_seed(0)
use_style()

# %% [markdown]
# ## 1. One parameter, three steps
#
# A parameter p is 1, the learning rate is 0.5, and three gradients come: 4, 4, −4. AdamW keeps two
# running averages: m of the gradients, v of their squares. To have numbers for a pencil, let
# $\beta_1 = 0.5$ and $\beta_2 = 0.75$, and no weight decay for now.
#
# $$m \leftarrow \beta_1 m + (1 - \beta_1)\, g \qquad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2$$
#
# Both begin at 0. After the first step m is 2, though the only gradient so far was 4. To put that
# right, divide by the sum of the weights so far, which is 1 − βᵗ in step t:
#
# $$\hat m = \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad
# p \leftarrow p - \text{lr} \, \frac{\hat m}{\sqrt{\hat v} + \varepsilon}$$

# %%
p, m, v, lr, beta1, beta2 = 1.0, 0.0, 0.0, 0.5, 0.5, 0.75
for t, g in enumerate([4.0, 4.0, -4.0], 1):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
    p -= lr * m_hat / v_hat**0.5
    print(f"step {t}: m {m}, v {v}; m̂ {m_hat:.3f}, v̂ {v_hat}; p {p:.3f}")

# %%
theirs = Parameter(torch.tensor([1.0]))
optimiser = torch.optim.AdamW([theirs], lr=0.5, betas=(0.5, 0.75), weight_decay=0.0)
for g in (4.0, 4.0, -4.0):
    theirs.grad = torch.tensor([g])
    optimiser.step()
print("torch.optim.AdamW:", round(theirs.item(), 3))

# %% [markdown]
# The gradients all have size 4, so $\sqrt{\hat v}$ is 4 throughout. While they agree, $\hat m$ is 4,
# and p moves by a full lr. In the third step they disagree, $\hat m$ is small, and p hardly moves.
# So **the size of the gradient cancels; what counts is how much the gradients agree**.
#
# What are the corrections for? With the usual betas, 0.9 and 0.999, v grows far more slowly than m.
# Here is the length of a step under a gradient that never changes, with and without them.

# %%
t = torch.arange(1, 5001).double()
uncorrected = (1 - 0.9**t) / (1 - 0.999**t).sqrt()
fig, ax = plt.subplots()
ax.plot(t, torch.ones_like(t), label="m̂ / √v̂")
ax.plot(t, uncorrected, label="m / √v: no correction")
ax.set(xlabel="step", ylabel="length of the step, in lr", xscale="log", ylim=(0, 7.5))
ax.set(title="Without the corrections, the first steps are too long")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 1. Without the corrections a step is up to 6.6 times too long, just when the model is
# still random.*
#
# Nobody needs the corrections for each parameter separately. Everything that is the same for all
# of them can be computed once a step, on the CPU, in double precision:
#
# $$p \leftarrow p \cdot \text{keep} + \text{rate} \cdot \frac{m}{\sqrt v / \text{root} +
# \varepsilon}$$
#
# The factor "keep" is the weight decay: beside the step, a parameter shrinks by lr · λ of what it
# is.
#
# ### Exercise 1: the constants of a step


# %%
def adamw_constants(
    step: int, lr: float, betas: tuple[float, float], weight_decay: float
) -> tuple[float, float, float, float, float]:
    """(keep, mix1, mix2, rate, root) of step number `step`, counted from 1, with which

    m ← m + mix1·(g - m)        v ← v + mix2·(g² - v)
    p ← p·keep + rate·m / (√v / root + ε)

    is a step of AdamW. In double precision.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.adamw_constants", adamw_constants)

# %% [markdown]
# {{ help kernels.adamw_constants }}
#
# ## 2. The loop
#
# An optimiser in PyTorch is a loop over tensors, with some operations for each. This one does what
# `torch.optim.AdamW` does, in the same order and in place.

# %%
LR, BETAS, EPS, DECAY = 1e-3, (0.9, 0.999), 1e-8, 1e-2
SHAPES = [(300,), (20, 50), (1000,), (40,)]
COUNT = sum(torch.Size(shape).numel() for shape in SHAPES)


# %%
def adamw_loop(params, grads, exp_avgs, exp_avg_sqs, step):
    keep, mix1, beta2, mix2, eps, rate, root = step_constants(step, LR, BETAS, EPS, DECAY)
    for p, g, m, v in zip(params, grads, exp_avgs, exp_avg_sqs, strict=True):
        p.mul_(keep)
        m.lerp_(g, mix1)
        v.mul_(beta2).addcmul_(g, g, value=mix2)
        p.addcdiv_(m, v.sqrt().div_(root).add_(eps), value=rate)


# %%
def start(seed=0):
    """Parameters, gradients and both moments of a model with four tensors."""
    draw = torch.Generator().manual_seed(seed)
    params, grads = ([torch.randn(s, generator=draw) for s in SHAPES] for _ in range(2))
    return params, grads, *([torch.zeros(s) for s in SHAPES] for _ in range(2))


# %%
mine, theirs = start(), [Parameter(p) for p in start()[0]]
optimiser = torch.optim.AdamW(theirs, LR, BETAS, EPS, DECAY, foreach=False)

# %%
for step in (1, 2, 3):
    for p, g in zip(theirs, start(step)[1], strict=True):
        p.grad = g
    adamw_loop(mine[0], start(step)[1], *mine[2:], step)
    optimiser.step()
print("same bits:", all(torch.equal(a, b) for a, b in zip(mine[0], theirs, strict=True)))

# %% [markdown]
# Eight operations a tensor. On a GPU each is a launch, and each reads its operands from memory and
# writes its result back. How many bytes has a step to move, at the least? Four numbers of four
# bytes are read, p, g, m and v, and three are written, p, m and v: **28 bytes a parameter.**
#
# The ladder of the library climbs from there. We run each version on the four tensors and count.

# %%
numbers = {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY}
print("    launches  bytes a parameter")
for rung in rungs("adamw"):
    with watch() as report:
        rung.function(*start(), step=1, **numbers)
    tables = [
        t.loaded for name, t in report.traffic.items() if name in ("table", "pieces", "constants")
    ]
    moved = (report.loaded + report.stored - sum(tables)) / COUNT
    print(f"{rung.version}  {len(report.kernels):>8}  {moved:>8.0f}      {rung.reason}")

# %% [markdown]
# v1 is the loop with five kernels of ours, v2 one kernel for each tensor. What do such numbers
# mean for a real model? GPT-2 has 124 million parameters in 148 tensors. Here is the bound of the
# roofline for an H100, which moves 3.35 TB a second.

# %%
PARAMETERS, TENSORS, BANDWIDTH = 124_439_808, 148, 3.35e12
for version, moved, launches in (("v1", 56, 5 * TENSORS), ("v2", 28, TENSORS), ("v4", 28, 1)):
    bound = PARAMETERS * moved / BANDWIDTH * 1e6
    print(f"{version}: at least {bound:.0f} microseconds of traffic; launches: {launches}")

# %% [markdown]
# These are bounds, not measurements. A launch costs some microseconds of a CPU's time, so 740 of
# them cost about what the traffic costs, or more. And half of the tensors of GPT-2 have 768
# numbers: there the launch takes longer than the work.
#
# ## 3. The last digits
#
# v2 and v3 move the same bytes. What is v3 for? v2 is given β and computes 1 − β in the kernel, in
# fp32. fp32 has about seven digits, and 0.999 spends three of them on nines. v3 gets 1 − β as a
# constant from the host, which subtracted in double precision.
#
# We take one step with gradients of many sizes, and compare v with the exact one, in units of one
# rounding of fp32 ($2^{-24}$ of the number).


# %%
def roundings(version, beta2: float) -> float:
    """How far v is off after one step, at most, in roundings."""
    (p, g), (m, v) = torch.arange(1.0, 2001.0).view(2, 1000), torch.zeros(2, 1000)
    version([p], [g], [m], [v], step=1, **{**numbers, "betas": (0.9, beta2)})
    exact = (1 - beta2) * g.double() ** 2
    return ((v - exact) / exact).abs().max().item() / 2**-24


# %%
betas = [0.9, 0.99, 0.999, 0.9999]
in_fp32 = [roundings(adamw.v2, beta) for beta in betas]
in_double = [roundings(adamw.v3, beta) for beta in betas]
print("off by", [round(x) for x in in_fp32], "and by", [round(x) for x in in_double])

# %%
fig, ax = plt.subplots()
ax.plot(range(4), in_fp32, "o-", label="1 − β in fp32 (v2)")
ax.plot(range(4), in_double, "o-", label="1 − β in double (v3)")
ax.set(xticks=range(4), xticklabels=betas, xlabel="β₂", yscale="log")
ax.set(ylabel="error of v, in roundings", title="What 1 − β costs when it is formed in fp32")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 2. With every nine in β₂ another digit of 1 − β₂ is wrong; made in double and rounded
# once, it costs a rounding or two.*
#
# Two hundred roundings are an error of 0.001 percent in v. No training run notices. But you would
# notice it in the comparison with PyTorch: with such an error you can no longer tell a harmless
# difference from a small bug. Equal bits can be tested for equality.
#
# ## 4. One launch
#
# A launch hands a kernel its arguments, and a model has a different number of tensors each time.
# So the tensors are not arguments. Their **addresses** are, in a table in memory: a row for each
# tensor, with the addresses of its p, g, m and v and its length. An address is a number of 64 bits,
# and `tensor.data_ptr()` is that number.
#
# The other half is a list of **pieces**: for each program, which tensor it works on and which block
# of it. Our model with blocks of 256:

# %%
lengths = [p.numel() for p in start()[0]]
pieces = [(i, j) for i, n in enumerate(lengths) for j in range(triton.cdiv(n, 256))]
print("lengths:", lengths)
print("pieces: ", pieces)

# %% [markdown]
# Eleven programs. We watch v4 and draw what each of them stored.

# %%
model = start()
with watch(trace=True) as report:
    adamw.v4(*model, step=1, block=256, **numbers)
stores = [a for a in report.trace if a.kind == "store" and a.argument == "param"]

# %%
fig, ax = plt.subplots(figsize=(7.0, 2.7))
for access in stores:
    program, (first, last) = access.program[0], access.elements[[0, -1]]
    tensor = pieces[program][0]
    ax.barh(tensor, last - first + 1, left=first, color=f"C{program % 6}", edgecolor="white")
    ax.text((first + last) / 2, tensor, program, ha="center", va="center")
ax.set(xlabel="element", ylabel="tensor", yticks=range(4), title="Which program updates what")
ax.invert_yaxis()
ax.grid(False)
print(describe(fig))

# %% [markdown]
# *Figure 3. One launch of eleven programs: each takes up to 256 elements of one tensor, and the
# last piece of a tensor is as short as it has to be.*
#
# How does a kernel use an address from a table? `tl.load(table + …)` brings the number, and
# `.to(tl.pointer_type(tl.float32))` declares it to be the address of fp32 numbers. From there on it
# is a pointer like any other.
#
# ### Exercise 2: many tensors, one launch
#
# Write it for the simplest optimiser there is: p ← p − lr · g. On a GPU an address that is wrong
# destroys something else; here, the interpreter is told which tensors the table may lead to, and
# looks at every access.


# %%
@triton.jit
def sgd_table(table, pieces, lr, BLOCK: tl.constexpr):
    """p ← p - lr·g for all tensors of a model in one launch; fp32, each as one row of numbers.

    table: int64 (tensors, 3), row after row: address of p, address of g, number of elements.
    pieces: int32 (programs, 2): program k updates block pieces[k, 1] of tensor pieces[k, 0].
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.sgd_table", sgd_table)

# %% [markdown]
# {{ help kernels.sgd_table }}
#
# ### What the table hides
#
# There is a price. When n is an argument, Triton sees at launch whether it is divisible by 16, and
# whether an address is. A number that comes out of a table may be anything. Here are the loads of
# v3 and v4, and of the kernel behind `kernels.AdamW`, on an H100:

# %%
from kernels.verification.adamw_machine import compile_adamw

model = [[torch.empty(1024)] for _ in range(4)]

# %%
for version in (adamw.v3, adamw.v4):
    (code,) = compile_launches(version, *model, step=1, **numbers, arch="sm_90")
    print(f"{version.__name__}: loads of {list(code.bulk_loads)} bits, {code.registers} registers")
code = compile_adamw("sm_90")
print(f"v5: loads of {list(code.bulk_loads)} bits, {code.registers} registers")

# %% [markdown]
# v4 has lost its wide loads: its numbers come 32 bits at a time (the 64 are the addresses), four
# times as many instructions for the same bytes. v5 gets them back with two sentences. Full blocks go a way of their own, without a mask. And
# `tl.multiple_of(pointer, 16)` gives the compiler its word that the address is divisible by 16. The
# host looks before it gives that word: a tensor whose address is not divisible takes the other way.
# v5 needs more registers, too; [performance](07_performance.ipynb) shows how to judge that.
#
# ## 5. The same bits as PyTorch
#
# `kernels.AdamW` is a `torch.optim.Optimizer`. We train the four tensors with it and with
# PyTorch's, on ten random gradients. Where a CPU has the instruction that multiplies and adds with
# one rounding, PyTorch uses it, and so does our kernel (`tl.fma`).

# %%
from kernels.verification.adamw_bounds import FUSES


def follow(optimiser, steps):
    """Random gradients, the same for everyone; the parameters after them."""
    params = optimiser.param_groups[0]["params"]
    for step in steps:
        for p, g in zip(params, start(step)[1], strict=True):
            p.grad = g
        optimiser.step()
    return [p.detach() for p in params]


def of(kind):
    """A new optimiser on a new model."""
    return kind([Parameter(p) for p in start()[0]], LR, BETAS, EPS, DECAY)


# %%
theirs, ours = of(torch.optim.AdamW), of(kernels.AdamW)
ends = zip(follow(theirs, range(10)), follow(ours, range(10)), strict=True)
close = all(torch.allclose(a, b, rtol=2**-23, atol=2**-23) for a, b in ends)
print("p within a rounding or two:", close)

# %%
states = list(zip(theirs.state.values(), ours.state.values(), strict=True))
for name in ("exp_avg", "exp_avg_sq"):
    same = all(torch.equal(a[name], b[name]) for a, b in states)
    print(f"{name}: same bits where the CPU fuses: {same or not FUSES}")

# %% [markdown]
# m and v are compared bit for bit. For p we ask for a rounding or two only: PyTorch has several
# implementations of its own (for one tensor, for lists of tensors, fused), and they do not all join
# the last operations in the same order. One rounding of p does not grow.
#
# ### In the middle of training
#
# A `state_dict` holds m, v and the number of steps of each parameter, under PyTorch's names. So
# training can change the optimiser on the way: five steps with ours, five with PyTorch's, five with
# ours.


# %%
def hand_over(optimiser, kind):
    """Another optimiser, on the same parameters and with the same state."""
    other = kind(optimiser.param_groups[0]["params"])
    other.load_state_dict(optimiser.state_dict())
    return other


relay = of(kernels.AdamW)
for kind, steps in ((torch.optim.AdamW, range(5)), (kernels.AdamW, range(5, 10))):
    follow(relay, steps)
    relay = hand_over(relay, kind)
ends = zip(follow(relay, range(10, 15)), follow(of(torch.optim.AdamW), range(15)), strict=True)
print("as if nothing had happened:", all(torch.allclose(a, b, atol=2**-22) for a, b in ends))

# %% [markdown]
# The second optimiser was made without lr and betas: they are in the state, too. What happens if
# only the parameters are handed over, and m and v begin at 0 again?

# %%
relay = of(kernels.AdamW)
follow(relay, range(10))
fresh = kernels.AdamW(relay.param_groups[0]["params"], LR, BETAS, EPS, DECAY)
ends = zip(follow(fresh, range(10, 15)), follow(of(torch.optim.AdamW), range(15)), strict=True)
off = max((a - b).abs().max().item() for a, b in ends)
print("off by", round(off / LR, 1), "learning rates after five steps")

# %% [markdown]
# ## 6. Sixteen bits
#
# Weights in bf16 take half the memory, and the forward and backward pass want them so. A bf16
# number has 8 binary digits. Between 0.5 and 1, the numbers lie 1/256 apart, and an update that is
# smaller than half of that, 1/512, is rounded away. The update of AdamW is about lr, and
# lr = 0.001 is smaller.

# %%
weights = torch.logspace(-7, 2, 400, base=2)
low = weights.bfloat16()
next_up = torch.nextafter(low, torch.full_like(low, torch.inf))
half_a_place = (next_up.float() - low.float()) / 2

# %%
fig, ax = plt.subplots()
ax.plot(weights, half_a_place, label="half the distance to the next bf16")
ax.axhline(LR, color="C1", linestyle="--", label="an update of lr = 0.001")
lost = half_a_place > LR
ax.fill_between(weights, 1e-5, 1e-1, where=lost, color="C1", alpha=0.15)
ax.text(0.95, 2e-5, "lost", ha="center")
ax.set(xlabel="size of the weight", ylabel="size of the update", xscale="log", yscale="log")
ax.set(ylim=(1e-5, 1e-1), title="Which updates vanish in bf16")
ax.legend(loc="upper left")
print(describe(fig))

# %% [markdown]
# *Figure 4. A weight above 0.5 does not see an update of 0.001 at all, however often it comes.*
#
# "However often" is the point: each update is rounded away separately. There are two ways out.
#
# **Master weights.** Beside the bf16 parameter, the optimiser keeps an fp32 copy, the master. It
# updates the master and rounds it into the parameter.
#
# **Stochastic rounding.** Round up or down at random, so that it is right *on average*. If a number
# lies a quarter of the way from one bf16 to the next, it goes up with probability one quarter. An
# update of a tenth of a place then moves every tenth weight by a whole place.
#
# `kernels.AdamW` gives every bf16 parameter a master, or rounds stochastically if told to. We
# train 256 weights of 1.0, all with gradient 1, so each should lose 0.001 a step.


# %%
def descend(dtype, kind, **options):
    """256 weights, step by step: (100, 256)."""
    p, seen = Parameter(torch.ones(256, dtype=dtype)), []
    optimiser = kind([p], lr=1e-3, weight_decay=0.0, **options)
    for _ in range(100):
        p.grad = torch.ones_like(p)
        optimiser.step()
        seen.append(p.detach().clone().float())
    return torch.stack(seen)


# %%
bf16 = torch.bfloat16
runs = {"fp32": descend(torch.float32, torch.optim.AdamW)}
runs["bf16 alone"] = descend(bf16, torch.optim.AdamW)
runs["bf16 with master"] = descend(bf16, kernels.AdamW)
runs["bf16, stochastic"] = descend(bf16, kernels.AdamW, stochastic_rounding=True)

# %%
for name, seen in runs.items():
    same = bool((seen[-1] == seen[-1, 0]).all())
    print(f"{name:<17} mean after 100 steps {seen[-1].mean():.2f}, all weights equal: {same}")

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.6))
for (name, seen), style in zip(runs.items(), ("-", "-", "--", ":"), strict=True):
    ax.plot(range(1, 41), seen[:40].mean(1), style, label=name)
ax.plot(
    range(1, 41), seen[:40, 0], color="C3", linewidth=0.8, label="stochastic, one of the weights"
)
ax.set(xlabel="step", ylabel="mean of the weights", title="256 weights with gradient 1, lr = 0.001")
ax.legend(loc="lower left")
print(describe(fig))

# %% [markdown]
# *Figure 5. In bf16 alone nothing ever arrives; with a master the weights go down in stairs, and with
# stochastic rounding each goes its own way, and their mean goes the right one.*
#
# Stochastic rounding needs no second copy. Its price is noise, a place up or down, which averages
# out over steps and weights.
#
# ### Exercise 3: stochastic rounding
#
# A bf16 number is the upper half of an fp32 number: cut off the lower 16 bits, and you have rounded
# towards 0. Those 16 bits say how far it is to the next bf16, in 65,536ths. Add a random number
# from 0 to 65,535 to the bits. With exactly the right probability, a carry goes to the upper half.


# %%
@triton.jit
def stochastic_round(x_ptr, noise_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """out[i] = x[i] in bf16, for i < n: the next bf16 away from 0, or the next towards 0.

    x is fp32, out is bf16, noise holds whole numbers from 0 to 65535 (int32). A bf16 is the upper
    half of an fp32. x goes away from 0 when its lower 16 bits plus the noise reach 2¹⁶.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.stochastic_round", stochastic_round)

# %% [markdown]
# {{ help kernels.stochastic_round }}
#
# The library makes the random bits in the kernel, from a counter: seed, number of the parameter,
# step, and place. So they cost no memory traffic, and the same run gives the same bits again.
#
# ### Exercise 4: predict, then run
#
# What does a step move in each of these forms? And what if the moments are kept in 8 bits, as
# `kernels.AdamW8bit` does? Each moment is then a code of one byte, and each block of codes shares
# a scale in fp32. Count first. The check runs the optimiser and compares with what it moved.


# %%
def adamw_bytes(dtype: torch.dtype, master: bool, eight_bit: int | None) -> float:
    """The bytes a parameter that one step of AdamW has to move, without clipping.

    dtype: of the parameter and its gradient.
    master: whether the real weights are an fp32 copy, of which the parameter is the rounding.
    eight_bit: None for fp32 moments; else both are 8-bit codes, and each `eight_bit` codes of
    each moment share an fp32 scale.
    """
    raise NotImplementedError  # your code goes here


# %%
check("kernels.adamw_bytes", adamw_bytes)

# %% [markdown]
# {{ help kernels.adamw_bytes }}
#
# ## 7. Clipping in the same step
#
# One bad batch can have gradients a thousand times too large. A common guard is **clipping by the
# global norm**: take all gradients of the model as one long vector, and if it is longer than a
# limit, scale it down to that limit.
#
# $$g \leftarrow g \cdot \min\left(1, \frac{\text{limit}}{\lVert g \rVert}\right)$$
#
# The norm needs every gradient before the first update, so it is a pass of its own: 4 bytes a
# parameter. As PyTorch does it, the gradients are then read, scaled and written: 8 more. But the
# factor is one number. If the update multiplies by it, nothing else has to move.

# %%
theirs, ours = (
    of(torch.optim.AdamW),
    kernels.AdamW([Parameter(p) for p in start()[0]], max_grad_norm=1.0),
)
with watch() as report:
    follow(ours, [1])
moved = sum(
    report.traffic[n].loaded + report.traffic[n].stored
    for n in ("param", "grad", "exp_avg", "exp_avg_sq")
)
print(f"launches: {', '.join(report.kernels)}; bytes a parameter: {moved / COUNT:g}")

# %%
params = theirs.param_groups[0]["params"]
for p, g in zip(params, start(1)[1], strict=True):
    p.grad = g
norm = torch.nn.utils.clip_grad_norm_(params, 1.0)

# %%
theirs.step()
print("same norm:", torch.allclose(norm, ours.grad_norm, rtol=1e-6))
ends = zip(params, ours.param_groups[0]["params"], strict=True)
print("same parameters:", all(torch.allclose(a, b, atol=2**-22) for a, b in ends))

# %% [markdown]
# 32 bytes, where clipping apart takes 40. The first launch makes partial sums of squares. The
# second is a few programs that add them up and make the constants of the step, on the device: the
# CPU never waits to learn the norm.
#
# Does a clipped step differ from another one at all? Adam divides the size of the gradient away.
# Clipping every step by the same factor changes nothing. Clipping *one* bad step does: m and v
# remember it for a long time.

# %%
usual, bad = torch.ones(30, 1), torch.ones(30, 1)
bad[5] = 1000.0
for name, limit in (("not clipped", None), ("clipped at 2", 2.0)):
    p = Parameter(torch.zeros(1))
    optimiser = kernels.AdamW([p], lr=1.0, weight_decay=0.0, max_grad_norm=limit)
    for p.grad in bad:
        before = p.item()
        optimiser.step()
    print(f"{name}: 24 steps later, a step is {before - p.item():.2f} of lr")

# %% [markdown]
# ## 8. Break it
#
# Two variants of the formula look alike and are not AdamW.
#
# **ε inside the root:** $\sqrt{\hat v + \varepsilon}$ instead of $\sqrt{\hat v} + \varepsilon$. Take
# a gradient that is always of size s. The first step should be lr, unless s is near ε.
#
# **Decay in the gradient:** g + λp instead of a decay apart. That is Adam with L2 regularisation,
# `torch.optim.Adam(weight_decay=…)`. The decay then goes through m and v like any gradient, and is
# divided by the size of the gradient. We give weights of 1.0 gradients that change their sign in
# every step, so that only the decay should move them.

# %%
sizes = torch.logspace(-10, 0, 41).double()
outside, inside = sizes / (sizes + EPS), sizes / (sizes**2 + EPS).sqrt()

# %%
noise, ends = torch.logspace(-3, 3, 25).double(), {}
for name, kind in (("AdamW", torch.optim.AdamW), ("Adam + L2", torch.optim.Adam)):
    p = Parameter(torch.ones_like(noise))
    optimiser = kind([p], lr=1e-2, weight_decay=0.1)
    for step in range(300):
        p.grad = noise * (-1) ** step
        optimiser.step()
    ends[name] = p.detach()

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2))
left.plot(sizes, outside, label="√v̂ + ε")
left.plot(sizes, inside, label="√(v̂ + ε)")
left.set(
    xlabel="size of the gradient", ylabel="first step, in lr", xscale="log", title="Where ε stands"
)
for name, end in ends.items():
    right.plot(noise, end, label=name)
right.set(
    xlabel="size of the gradient",
    ylabel="weight after 300 steps",
    xscale="log",
    title="Where the decay goes",
)
left.legend()
right.legend()
print(describe(fig))

# %% [markdown]
# *Figure 6. With ε under the root, gradients below 0.0001 hardly move anything; with the decay in
# the gradient, weights with small gradients vanish and those with large ones do not decay.*
#
# ε = 10⁻⁸ under the root acts like 10⁻⁴ outside, and gradients of 10⁻⁵ are common in large models.
# As for the decay: AdamW multiplies every weight by 1 − 0.001 in every step, whatever its gradient,
# so after 300 steps about three quarters are left. That is what *decoupled* means, and the W in the name.
#
# ## Summary
#
# - In AdamW the size of a gradient cancels; the corrections 1 − βᵗ keep the first steps from being
#   too long, and ε and the decay have their places. What is the same for all parameters is computed
#   once, in double precision.
# - A step is traffic and launches: 28 bytes a parameter and one launch, through a table of
#   addresses. Clipping in the same step makes it 32.
# - In bf16 alone, updates below half a place are lost for ever. A master weight or stochastic
#   rounding saves them, for 28 or 22 bytes.
#
# **Next:** give `kernels.AdamW8bit` your model of [the first kernel](01_first_kernel.ipynb) and see
# whether it learns its text as fast. Then learn to read off, without a GPU, what limits a kernel:
# [performance](07_performance.ipynb).

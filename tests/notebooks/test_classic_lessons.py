"""What 01_before_attention and 10_images define is what they say, and their exercises are the
library's parts in other clothes."""

import re

import numpy as np
import pytest
import torch

from minift.course import find
from minift.course.lessons.notebooks import SOURCES, read_source
from minift.models.baselines import CausalConv, LSTMDirection
from minift.models.vit import ViTConfig, ViTModel

PART = SOURCES / "1-transformer"


def defined(lesson, *starts, **namespace):
    """The names that some code cells of a lesson define, run as they stand there."""
    cells = [c.source for c in read_source(PART / lesson).cells if c.cell_type == "code"]
    for start in starts:
        (source,) = [text for text in cells if re.search(start, text)]
        exec(source, namespace)
    return namespace


def test_stories_ask_for_what_they_told():
    names = {"torch": torch, "Tensor": torch.Tensor}
    lesson = defined("01_before_attention.py", "^NAMES, VALUES", "^def stories", **names)
    vocabulary = lesson["vocabulary"]
    ids, labels, far = lesson["stories"](50, torch.Generator().manual_seed(3))
    assert ids.shape == labels.shape == far.shape == (50, 24)
    for row in range(50):
        words, told = [vocabulary[i] for i in ids[row]], {}
        for t, word in enumerate(words):
            if "=" in word:
                name, value = word.split("=")
                told[name] = (t, value)
                expected = (-100, 0)
            elif word.endswith("?"):
                expected = (-100, 0)
            else:
                place, value = told[words[t - 1].removesuffix("?")]
                assert word == value
                expected = (int(ids[row, t]), t - 1 - place)
            assert (int(labels[row, t]), int(far[row, t])) == expected
        assert len(told) == 8 and sum(word.isdigit() for word in words) == 8


def test_digits_are_drawn_with_their_strokes():
    names = {"torch": torch, "np": np, "Tensor": torch.Tensor}
    lesson = defined("10_images.py", "^STROKES =", "^def digits", **names)
    images, labels, ink = lesson["digits"](400, seed=5)
    assert images.shape == (400, 1, 20, 20) and sorted(labels.unique().tolist()) == list(range(10))
    assert bool(((images[:, 0] > 0.5) == ink).float().mean() > 0.99)
    assert not ink[:, :, 0].any() and not ink[:, 0].any()  # whole digits, none cut off
    assert not ink[:, :, -1].any() and not ink[:, -1].any()
    for digit, strokes in enumerate("6255456376"):
        assert lesson["HAS"][digit].sum() == int(strokes)
    mirrored = lesson["HAS"][2][[0, 5, 4, 3, 2, 1, 6]]  # left and right exchanged
    assert mirrored.tolist() == lesson["HAS"][5].tolist()
    rows = ink.any(2).sum(1)
    assert int(rows.min()) >= 10 and int(rows.max()) <= 17


def test_reordered_moves_whole_patches():
    names = {"torch": torch, "Tensor": torch.Tensor}
    source = read_source(PART / "10_images.py").cells
    (cell,) = [c.source for c in source if c.source.startswith("def reordered")]
    exec(cell.partition("\n\n\n")[0], names)
    images, order = torch.randn(2, 1, 20, 20), torch.randperm(25)
    got = names["reordered"](images, order)
    for place, old in enumerate(order.tolist()):
        (y, x), (oy, ox) = divmod(place, 5), divmod(old, 5)
        new = got[:, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
        assert torch.equal(new, images[:, :, 4 * oy : 4 * oy + 4, 4 * ox : 4 * ox + 4])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_convolution_exercise_is_the_library_s(width):
    torch.manual_seed(0)
    layer, x = CausalConv(3, 5, width), torch.randn(2, 7, 3)
    wanted = find("before.text_conv").answer(x, layer.weight, layer.bias)
    assert torch.allclose(layer(x), wanted, rtol=0, atol=1e-6)


def test_the_lstm_exercise_is_the_library_s():
    torch.manual_seed(0)
    cell, (x, h, c) = LSTMDirection(3, 5), (torch.randn(2, n) for n in (3, 5, 5))
    w, u = (part.weight.unflatten(0, (4, 5)) for part in (cell.input, cell.hidden))
    b = (cell.input.bias + cell.hidden.bias).view(4, 5)
    new_h, new_c, _ = cell.cell(cell.input(x), h, c)
    got_h, got_c = find("before.lstm_step").answer(x, h, c, w, u, b)
    assert torch.allclose(new_h, got_h, rtol=0, atol=1e-6)
    assert torch.allclose(new_c, got_c, rtol=0, atol=1e-6)


def test_the_patch_exercises_are_the_library_s():
    torch.manual_seed(0)
    config = ViTConfig(
        image_size=[6, 10], patch_size=[3, 2], hidden_size=8, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=4,
    )  # fmt: skip
    model, images = ViTModel(config).eval(), torch.randn(2, 3, 6, 10)
    eyes = model.embeddings.patch
    flat = find("images.cut_patches").answer(images, (3, 2))  # (B, 10, 18)
    tokens = flat @ eyes.weight.flatten(1).T + eyes.bias + model.embeddings.position[:, 1:]
    assert torch.allclose(model.embeddings(images)[:, 1:], tokens, rtol=0, atol=1e-6)
    count = find("images.count_tokens").answer((6, 10), (3, 2), 3, 8)
    others = model.embeddings.position.numel() + model.embeddings.cls_token.numel()
    assert count == (11, sum(p.numel() for p in eyes.parameters()), others)
    weights = model(images, output_attentions=True).attentions[0][0]  # (H, 11, 11)
    share = find("images.class_map").answer(weights, config.grid)
    assert share.shape == (2, 5)
    top = int(weights[:, 0, 1:].sum(0).argmax())
    assert int(share.argmax()) == top and float(share.sum().detach()) == pytest.approx(1, abs=1e-6)

"""The figures say what they show: labels, numbers, a colour bar."""

import torch
from matplotlib import pyplot as plt
from small_models import ids_and_mask, small

import minift
from minift.inspect import (
    activation_patching,
    attention_maps,
    draw_attention,
    draw_attributions,
    draw_lens,
    draw_patching,
    draw_rollout,
    integrated_gradients,
    logit_lens,
    rollout,
)

WORDS = "the cat sat on the small mat .".split()


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def ids(words=8):
    return ids_and_mask("right", (words,))[0]


def teardown_function():
    plt.close("all")


def test_attention_and_rollout():
    maps = attention_maps(minift.from_hf(small("bert")), ids())
    figure = draw_attention(maps[0, 0], WORDS, [f"head {i}" for i in range(4)])
    *axes, bar = figure.axes
    assert [ax.get_title() for ax in axes] == ["head 0", "head 1", "head 2", "head 3"]
    assert torch.equal(torch.tensor(axes[2].images[0].get_array()), maps[0, 0, 2])
    for ax in axes:
        assert labels(ax.xaxis) == labels(ax.yaxis) == WORDS
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("token looked at", "token that looks")
        assert ax.images[0].get_clim() == (0.0, float(maps[0, 0].max()))
    assert bar.get_ylabel() == "weight"
    figure = draw_rollout(rollout(maps)[-1, 0], WORDS)
    assert figure.axes[0].get_ylabel() == "position"
    assert figure.axes[-1].get_ylabel() == "share"


def test_lens():
    logits = logit_lens(minift.from_hf(small("gpt2")), ids())[:, 0]
    figure = draw_lens(logits, WORDS, lambda token: f"<{token}>")
    ax, bar = figure.axes
    assert labels(ax.yaxis) == ["embedding", "layer 1", "layer 2", "layer 3"]
    assert labels(ax.xaxis) == WORDS
    texts = [text.get_text() for text in ax.texts]
    assert texts == [f"<{int(token)}>" for token in logits.argmax(-1).flatten()]
    assert bar.get_ylabel() == "probability"


def test_attributions():
    ours = minift.from_hf(small("gpt2"))
    found = integrated_gradients(ours, ids(), lambda o: o.logits[:, -1, 3], baseline=0)
    (ax,) = draw_attributions(found.tokens[0], WORDS, "of token 3").axes
    heights = [bar.get_height() for bar in ax.patches]
    assert torch.allclose(torch.tensor(heights, dtype=torch.float32), found.tokens[0], atol=1e-6)
    assert labels(ax.xaxis) == WORDS
    assert ax.get_ylabel() == "adds to the result"
    colours = [bar.get_facecolor() for bar in ax.patches]
    signs = [height >= 0 for height in heights]
    assert len(set(colours)) == len(set(signs)) == 2
    assert len({(c, s) for c, s in zip(colours, signs, strict=True)}) == 2


def test_patching():
    ours, clean = minift.from_hf(small("gpt2")), ids()
    corrupted = clean.clone()
    corrupted[0, 2] = 50
    found = activation_patching(ours, clean, corrupted, lambda o: o.logits[:, -1, 3])
    ax, bar = draw_patching(found, WORDS, "patched").axes
    assert labels(ax.yaxis) == ["layers.0", "layers.1", "layers.2"]
    assert torch.allclose(torch.tensor(ax.images[0].get_array()), found.recovered)
    low, high = ax.images[0].get_clim()
    assert low == -high  # so that white is no change
    assert bar.get_ylabel() == "clean answer brought back"

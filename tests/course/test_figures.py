"""The text form of figures, the house style, and numbers that print alike everywhere."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minift.course.figures import COLOURS, agree, describe, heatmap, use_style


@pytest.fixture
def axes():
    with plt.rc_context({"backend": "agg"}):
        plt.switch_backend("agg")
        fig, ax = plt.subplots()
        yield fig, ax
        plt.close("all")


def test_lines_and_labels(axes):
    fig, ax = axes
    ax.plot([0, 1, 2], [1.0, 0.123456, np.nan], label="loss")
    ax.plot([5.0], [-0.0])
    ax.set(xlabel="step", ylabel="nats", title="Training")
    assert describe(fig) == (
        "Plot 'Training': x is 'step', y is 'nats'\n"
        "  line 'loss': 3 points, x 0 to 2, y 0.12 to 1\n"
        "  line: 1 point, x 5 to 5, y 0 to 0"
    )


def test_bars_images_points_and_drawings(axes):
    fig, ax = axes
    ax.bar(["a", "b"], [3, 1234], label="counts")
    ax.barh([0, 1, 2], [7, 8, 9])
    ax.scatter([1, 2], [3, 4], label="runs")
    text = describe(fig)
    assert "2 bars 'counts', 3 to 1234" in text
    assert "3 bars, 7 to 9" in text
    assert "2 points 'runs': x 1 to 2, y 3 to 4" in text
    ax.clear()
    ax.imshow(np.arange(6).reshape(2, 3))
    assert "image of 2 × 3, values 0 to 5" in describe(fig)
    ax.axis("off")
    assert describe(fig) == "Plot: a drawing with 0 shapes and 0 texts"


def test_what_is_drawn_beside_the_data(axes):
    fig, ax = axes
    ax.axhline(0.25, label="limit")
    ax.axvline(3)
    ax.fill_between([0, 1], 0, 1)
    drawn = ax.imshow(np.zeros((4, 5, 3)))
    assert describe(fig).splitlines()[1:] == [
        "  coloured squares, 4 × 5, 1 colour",
        "  line across 'limit' at y = 0.25",
        "  line upright at x = 3",
    ]
    ax.clear()
    for k in range(9):
        ax.plot([0, k], [1, 2])
    assert describe(fig).splitlines()[1:] == ["  9 lines without a name: x 0 to 8, y 1 to 2"]
    ax.clear()
    drawn = ax.imshow([[0.0, 3.0]])
    fig.colorbar(drawn, label="bytes")
    assert describe(fig).splitlines()[-1] == "Colours: bytes 0 to 3"
    ax.axis("off")
    ax.text(0, 0, "a\nb")
    assert "0 shapes and 1 text, such as 'a b'" in describe(fig)


def test_every_axes_is_described(axes):
    fig, _ = axes
    fig.add_axes((0.5, 0.5, 0.2, 0.2)).set(xlabel="inner")
    assert [line[:4] for line in describe(fig).splitlines()] == ["Plot", "Plot"]


def test_a_change_of_one_per_cent_shows_and_rounding_noise_does_not(axes):
    fig, ax = axes
    (line,) = ax.plot([0, 1], [0.0, 2.52])
    before = describe(fig)
    line.set_ydata([0.0, 2.52 * (1 + 1e-6)])
    assert describe(fig) == before
    line.set_ydata([0.0, 2.58])
    assert describe(fig) != before


def test_heatmap_takes_tensors_and_writes_readable_numbers(axes):
    fig, ax = axes
    heatmap(ax, torch.tensor([[0.0, 1.0], [0.25, 0.5]]), rows="ab", columns=[1, 2], numbers=".1f")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2"]
    texts = {t.get_text(): t.get_color() for t in ax.texts}
    assert texts == {"0.0": "#999999", "1.0": "white", "0.2": "black", "0.5": "black"}
    assert "image of 2 × 2, values 0 to 1" in describe(fig)


def test_heatmap_of_equal_values(axes):
    fig, ax = axes
    heatmap(ax, [[1.0, 1.0]])
    assert "values 1 to 1" in describe(fig)


@pytest.mark.filterwarnings("ignore:InlineBackend:DeprecationWarning")
def test_style_is_colour_blind_safe_and_small():
    with plt.rc_context():
        use_style()
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == COLOURS
        assert plt.rcParams["figure.dpi"] == 90


def test_agree_prints_the_reference_or_the_truth(capsys):
    agree("loss", 1.049, 1.0)
    agree("loss", 1.06, 1.0)
    agree("loss", 0.951, 1.0)
    agree("F1", 0.92, 0.9, rtol=0.01)
    agree("steps", 103, 100)
    assert capsys.readouterr().out == (
        "loss = 1 (within 5%)\n"
        "loss = 1.06, expected 1 within 5%\n"
        "loss = 1 (within 5%)\n"
        "F1 = 0.92, expected 0.9 within 1%\n"
        "steps = 100 (within 5%)\n"
    )

"""Patching everything is the clean run, patching nothing the corrupted one."""

import pytest
import torch
from small_models import MODELS, ids_and_mask, small

import minift
from minift.errors import InputError
from minift.inspect import activation_patching, layer_names, patched, recorded


def texts(seed=0):
    """Two texts of 8 tokens that differ in the third."""
    clean = ids_and_mask("right", (8,), seed)[0]
    corrupted = clean.clone()
    corrupted[0, 2] = (corrupted[0, 2] + 20) % 53
    return clean, corrupted


def result(output):
    return output.last_hidden_state if output.logits is None else output.logits


def metric(output):
    return result(output)[:, -1, 5] - result(output)[:, -1, 9]


@pytest.mark.parametrize("name", MODELS)
def test_everything_is_clean_and_nothing_is_corrupted(name):
    ours = minift.from_hf(small(name))
    clean, corrupted = texts()
    names = layer_names(ours)
    saved = recorded(ours, clean, names)
    right, wrong = result(ours(clean)), result(ours(corrupted))
    assert not torch.equal(right, wrong)
    for one in names:  # all tokens of one layer: nothing of the corrupted text is left behind it
        with patched(ours, {one: saved[one]}):
            assert torch.equal(result(ours(corrupted)), right)
    nowhere = torch.zeros(8, dtype=torch.bool)
    with patched(ours, saved, nowhere):
        assert torch.equal(result(ours(corrupted)), wrong)
    with patched(ours, {}):
        assert torch.equal(result(ours(corrupted)), wrong)
    assert torch.equal(result(ours(corrupted)), wrong)  # and it is over behind the block
    where = torch.arange(8) == 2  # the only token that differs, before any layer has mixed them
    embedding = next(n for n, m in ours.named_modules() if isinstance(m, torch.nn.Embedding))
    with patched(ours, recorded(ours, clean, [embedding]), where):
        assert torch.equal(result(ours(corrupted)), right)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_one_patch_at_a_time(name):
    ours = minift.from_hf(small(name))
    clean, corrupted = texts()
    found = activation_patching(ours, clean, corrupted, metric)
    assert found.modules == tuple(layer_names(ours))
    assert found.scores.shape == (3, 8)
    saved = recorded(ours, clean, found.modules)
    for i, module in enumerate(found.modules):
        for t in range(8):
            with patched(ours, {module: saved[module]}, torch.arange(8) == t):
                alone = float(metric(ours(corrupted)).detach())
            assert abs(float(found.scores[i, t]) - alone) <= 1e-5  # measured: 2e-6 (batch of 8)
    assert found.clean == pytest.approx(float(metric(ours(clean)).detach()), abs=1e-6)
    assert found.corrupted == pytest.approx(float(metric(ours(corrupted)).detach()), abs=1e-6)


def test_in_a_causal_model_only_what_is_behind_the_change_carries_it():
    ours = minift.from_hf(small("gpt2"))
    shares = activation_patching(ours, *texts(), metric).recovered
    assert float(shares[:, :2].abs().max()) <= 1e-4  # before the change both texts are equal
    assert shares[-1, -1] == pytest.approx(1.0, abs=1e-4)  # the last layer's last token is read
    assert float(shares[-1, :-1].abs().max()) <= 1e-4


def test_parts_of_a_layer():
    ours = minift.from_hf(small("bert"))
    names = layer_names(ours, "attention") + layer_names(ours, "feed_forward")
    found = activation_patching(ours, *texts(), metric, modules=names)
    assert found.modules == tuple(names)
    assert found.scores.shape == (6, 8)
    assert float((found.scores - found.corrupted).abs().max()) > 0.01


def test_what_is_wrong_is_said():
    ours = minift.from_hf(small("gpt2"))
    clean, corrupted = texts()
    with pytest.raises(InputError, match=r"shapes \(1, 8\) and \(1, 7\); right: \(1, T\) twice"):
        activation_patching(ours, clean, corrupted[:, :7], metric)
    with pytest.raises(InputError, match=r"metric: .* for both texts; right: one that differs"):
        activation_patching(ours, clean, clean, metric)
    with pytest.raises(InputError, match=r"module: unknown 'layers\.0'; known: transformer"):
        activation_patching(ours, clean, corrupted, metric, modules=["layers.0"])
    with pytest.raises(InputError, match=r"metric: gives shape \(\) for 1 sequences; right"):
        activation_patching(ours, clean, corrupted, lambda o: o.logits.sum())
    assert not any(m._forward_hooks for m in ours.modules())

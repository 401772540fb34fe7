"""Integrated gradients against closed forms and a fine sum in fp64."""

import pytest
import torch
from small_models import MODELS, ids_and_mask, small

import minift
from minift.errors import InputError
from minift.inspect import integrated_gradients, path_integral


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 50])
def test_a_linear_function_is_exact_in_any_number_of_steps(steps):
    x, base, w = normal(3, 4, 5), normal(3, 4, 5, seed=1), normal(4, 5, seed=2)
    found = path_integral(lambda v: (v * w).sum((1, 2)) + 7.0, x, base, steps=steps)
    assert torch.allclose(found.tokens, w * (x - base), rtol=0, atol=1e-12)
    assert torch.allclose(found.result - found.baseline, (w * (x - base)).sum((1, 2)))
    assert found.steps == steps
    assert found.error <= 1e-12


def test_closed_forms():
    x = normal(2, 3)
    zero = torch.zeros_like(x)
    squares = path_integral(lambda v: v.pow(2).sum(1), x, zero)
    assert torch.allclose(squares.tokens, x.pow(2), rtol=0, atol=1e-12)
    # F = v₀ v₁ from 0: the two share the product; v₂ does nothing
    product = path_integral(lambda v: v[:, 0] * v[:, 1], x, zero)
    half = x[:, 0] * x[:, 1] / 2
    wanted = torch.stack([half, half, torch.zeros(2, dtype=x.dtype)], 1)
    assert torch.allclose(product.tokens, wanted, rtol=0, atol=1e-12)
    # F = eᵛ: one input takes the whole difference
    exponential = path_integral(lambda v: v[:, 0].exp(), x, zero, tolerance=1e-9)
    assert torch.allclose(exponential.tokens[:, 0], x[:, 0].exp() - 1, rtol=1e-8)


def fine_sum(model, ids, mask, target, start, steps):
    """The midpoint rule in fp64, one sequence and one step at a time, by the embedding's weight."""
    model = model.double()
    embedding = model.embeddings.word if hasattr(model, "embeddings") else None
    if embedding is None:
        base = getattr(model, "transformer", None) or model.model
        embedding = base.token
    x = embedding(ids).detach()
    total = torch.zeros_like(x)
    for step in range(steps):
        path = (start + (step + 0.5) / steps * (x - start)).requires_grad_()
        handle = embedding.register_forward_hook(lambda *_, path=path: path)
        target(model(ids, mask)).sum().backward()
        handle.remove()
        total += path.grad / steps
    return (total * (x - start)).sum(-1)


def last_logit(output):
    values = output.last_hidden_state if output.logits is None else output.logits
    return values[:, 2, 5]


@pytest.mark.parametrize("name", [name for name in MODELS if name != "mixtral"])
def test_models_against_a_fine_sum_in_fp64(name):
    ids, mask = ids_and_mask("right", (6, 4))
    ours = minift.from_hf(small(name))
    exact = minift.from_hf(small(name))
    found = integrated_gradients(ours, ids, last_logit, mask, baseline=7)
    assert found.error <= 1e-3
    embedding = exact.double()
    holder = exact.embeddings.word if name == "bert" else None
    if holder is None:
        holder = (exact.transformer if name == "gpt2" else exact.model).token
    start = holder(torch.full_like(ids, 7)).detach()
    wanted = fine_sum(embedding, ids, mask, last_logit, start, 120)
    size = float((found.result - found.baseline).abs().max())
    assert float((found.tokens.double() - wanted).abs().max()) <= 2e-3 * size
    assert float(found.tokens[mask == 0].abs().max()) == 0.0
    sums = found.tokens.sum(1) - (found.result - found.baseline)
    assert float(sums.abs().max()) <= 1.1e-3 * size


def test_in_double_precision_it_converges():
    ids, mask = ids_and_mask("left", (6, 4))
    ours = minift.from_hf(small("gpt2")).double()
    found = integrated_gradients(ours, ids, lambda o: o.logits[:, -1, 5], mask, tolerance=1e-8)
    assert found.error <= 1e-8
    start = torch.zeros(1, dtype=torch.float64)
    wanted = fine_sum(ours, ids, mask, lambda o: o.logits[:, -1, 5], start, 250)
    assert float((found.tokens - wanted).abs().max()) <= 1e-4


def test_a_mixture_of_experts_jumps_and_that_is_said():
    ids, mask = ids_and_mask("right", (6, 4))
    ours = minift.from_hf(small("mixtral"))
    with pytest.raises(InputError, match=r"steps: 32; the attributions miss F\(x\)"):
        integrated_gradients(ours, ids, last_logit, mask, baseline=7, steps=32)


def test_too_few_steps_are_an_error():
    ids, mask = ids_and_mask()
    ours = minift.from_hf(small("bert"))
    target = last_logit
    with pytest.raises(InputError, match=r"steps: 1; the attributions miss F\(x\) − F\(baseline\)"):
        integrated_gradients(ours, ids, target, mask, steps=1)
    loose = integrated_gradients(ours, ids, target, mask, steps=1, tolerance=1e9)
    assert loose.error > 1e-3
    with pytest.raises(InputError, match="right: more steps, or a baseline such as the padding"):
        path_integral(lambda v: (v * 1e4).sin().sum(1), normal(1, 50) * 100, torch.zeros(1, 50))


def test_baselines():
    ids, mask = ids_and_mask()
    ours = minift.from_hf(small("gpt2"))
    by_token = integrated_gradients(ours, ids, last_logit, mask, baseline=3)
    vector = ours.transformer.token.weight[3]
    by_vector = integrated_gradients(ours, ids, last_logit, mask, baseline=vector)
    assert torch.equal(by_token.tokens, by_vector.tokens)
    plain = integrated_gradients(ours, ids, last_logit, mask)
    assert not torch.allclose(plain.tokens, by_token.tokens, atol=1e-2)
    same = integrated_gradients(ours, torch.full((1, 5), 3), last_logit, baseline=3)
    assert torch.equal(same.tokens, torch.zeros(1, 5))


def test_a_target_of_another_shape_is_refused():
    ids, mask = ids_and_mask()
    ours = minift.from_hf(small("gpt2"))
    with pytest.raises(
        InputError, match=r"target: gives shape \(\) for 3 sequences; right: \(3,\)"
    ):
        integrated_gradients(ours, ids, lambda o: o.logits.sum(), mask)


def test_nothing_is_left_changed():
    ids, mask = ids_and_mask()
    ours = minift.from_hf(small("bert")).train()
    integrated_gradients(ours, ids, last_logit, mask, tolerance=1.0)
    assert ours.training
    assert not any(m._forward_hooks for m in ours.modules())
    assert all(p.grad is None for p in ours.parameters())

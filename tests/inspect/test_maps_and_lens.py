"""Attention maps, rollout and the logit lens against formulas written out here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from small_models import MODELS, ids_and_mask, small

import minift
from minift.errors import InputError
from minift.inspect import attention_maps, layer_names, logit_lens, rollout


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_maps_are_hugging_faces(name, side):
    theirs = small(name)
    theirs.set_attn_implementation("eager")
    ours = minift.from_hf(theirs)
    ids, mask = ids_and_mask(side)
    maps = attention_maps(ours, ids, mask)
    positions = {}
    if theirs.can_generate():
        positions = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "use_cache": False}
    wanted = theirs(ids, attention_mask=mask, output_attentions=True, **positions).attentions
    assert maps.shape == (len(wanted), *wanted[0].shape)
    for layer, other in zip(maps, wanted, strict=True):
        for row, tokens in enumerate(mask.bool()):
            difference = layer[row][:, tokens] - other[row][:, tokens]
            assert float(difference.abs().max()) <= 3e-6  # measured: 1.2e-6 at most
    assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)


def rollout_in_numpy(maps, residual):
    maps = maps.double().numpy()
    layers, batch, _, tokens, _ = maps.shape
    result = np.zeros((layers, batch, tokens, tokens))
    for b in range(batch):
        total = np.eye(tokens)
        for i in range(layers):
            step = np.zeros((tokens, tokens))
            for head in maps[i, b]:
                step += (1 - residual) * head / maps.shape[2]
            total = (step + residual * np.eye(tokens)) @ total
            result[i, b] = total
    return result


@pytest.mark.parametrize("residual", [0.5, 0.0, 1.0, 0.3])
@pytest.mark.parametrize("shape", [(3, 2, 4, 7), (1, 1, 1, 1), (6, 3, 2, 12)])
def test_rollout_is_the_formula(residual, shape):
    layers, batch, heads, tokens = shape
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(layers, batch, heads, tokens, tokens, generator=generator).softmax(-1)
    shares = rollout(maps, residual)
    assert shares.dtype == torch.float32
    difference = np.abs(shares.double().numpy() - rollout_in_numpy(maps, residual)).max()
    assert difference <= 1e-6
    exact = rollout(maps.double(), residual).numpy()
    assert np.abs(exact - rollout_in_numpy(maps, residual)).max() <= 1e-14
    assert np.abs(exact.sum(-1) - 1).max() <= 1e-6
    if residual == 1.0:
        assert np.array_equal(exact[-1], np.broadcast_to(np.eye(tokens), exact[-1].shape))


def test_rollout_of_a_causal_model_is_causal():
    ours = minift.from_hf(small("gpt2"))
    shares = rollout(attention_maps(ours, ids_and_mask()[0]))
    assert torch.equal(shares, shares.tril())


def test_rollout_says_what_is_wrong():
    with pytest.raises(InputError, match=r"maps: shape \(2, 3, 3\); right: \(layers, B, H, T, T\)"):
        rollout(torch.zeros(2, 3, 3))
    with pytest.raises(InputError, match=r"residual: 1\.5; right: from 0 to 1"):
        rollout(torch.zeros(1, 1, 1, 2, 2), 1.5)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_lens_is_norm_and_head_on_every_state(name, side):
    theirs = small(name)
    ours = minift.from_hf(theirs)
    if not hasattr(ours, "lm_head"):
        with pytest.raises(InputError, match="has no logits; right: a model with a head"):
            logit_lens(ours, ids_and_mask()[0])
        return
    ids, mask = ids_and_mask(side)
    read = logit_lens(ours, ids, mask)
    output = ours(ids, mask, output_hidden_states=True)
    assert torch.equal(read[-1], output.logits)
    assert len(read) == len(layer_names(ours)) + 1
    # the states between layers, through the norm and the head of transformers
    base, cap = theirs.base_model, getattr(theirs.config, "final_logit_softcapping", None)
    norm = base.ln_f if name == "gpt2" else base.norm
    for state, logits in zip(output.hidden_states[:-1], read[:-1], strict=True):
        wanted = theirs.lm_head(norm(state))
        wanted = wanted if cap is None else torch.tanh(wanted / cap) * cap
        real = mask.bool()
        difference = float((logits - wanted)[real].detach().abs().max())
        assert difference <= 1e-6 * float(wanted.detach().abs().max()) + 2e-6  # measured: 9.5e-7


def test_the_lens_in_double_precision_by_hand():
    ours = minift.from_hf(small("gpt2")).double()
    ids, mask = ids_and_mask()
    read = logit_lens(ours, ids, mask)
    body = ours.transformer
    state = ours(ids, mask, output_hidden_states=True).hidden_states[1]
    by_hand = F.layer_norm(state, (24,), body.norm.weight, body.norm.bias, body.norm.eps)
    assert torch.allclose(read[1], by_hand @ body.token.weight.T, rtol=0, atol=1e-13)


def test_the_model_is_left_as_it_was():
    ours = minift.from_hf(small("gpt2")).train()
    layer = ours.transformer.layers[1]
    real = layer.forward
    layer.forward = lambda *args, **options: real(*args, **options)  # somebody else's
    theirs = layer.forward
    ids, mask = ids_and_mask()
    logit_lens(ours, ids, mask)
    attention_maps(ours, ids, mask)
    assert layer.forward is theirs
    assert "forward" not in ours.transformer.layers[0].__dict__
    assert ours.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in ours.modules())


def test_layer_names():
    ours = minift.from_hf(small("bert"))
    assert layer_names(ours) == ["layers.0", "layers.1", "layers.2"]
    gpt2 = minift.from_hf(small("gpt2"))
    assert layer_names(gpt2, "attention")[-1] == "transformer.layers.2.attention"
    with pytest.raises(InputError, match="part: 'mlp'; known: norm_1, attention, norm_2, feed_f"):
        layer_names(gpt2, "mlp")
    with pytest.raises(InputError, match="model: unknown 'Linear'"):
        layer_names(torch.nn.Linear(1, 1))


def test_tagger_classes_can_be_read_off_too():
    config = transformers.BertConfig(
        vocab_size=53, hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=40, max_position_embeddings=24, num_labels=3,
    )  # fmt: skip
    ours = minift.from_hf(transformers.BertForTokenClassification(config).eval())
    ids, mask = ids_and_mask()
    read = logit_lens(ours, ids, mask)
    state = ours(ids, mask, output_hidden_states=True).hidden_states[1]
    assert torch.allclose(read[1], ours.classifier(state), rtol=0, atol=2e-6)

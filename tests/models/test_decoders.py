"""Llama, Mistral, Qwen2, Qwen3, Gemma 2, Gemma 3 and Mixtral against ``transformers``."""

import pytest
import torch
from tiny_decoders import (
    BACKENDS,
    CASES,
    DECODERS,
    MIXTRALS,
    ONE_EACH,
    hf_decoder,
    hf_run,
    impls,
)
from tiny_hf import (
    assert_close,
    assert_gradients_close,
    assert_hidden_close,
    assert_same_weights,
    ragged,
)

import minift
from minift.layers.attention import use_backend

LENGTHS = ([5], [7, 12, 1], [40, 31])  # ascending: their dynamic RoPE keeps what it grew to


@pytest.mark.parametrize(("name", "impl"), CASES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_outputs(name, impl, side):
    theirs = hf_decoder(name, impl=impl)
    ours = minift.from_hf(theirs)
    for seed, lengths in enumerate(LENGTHS):
        ids, mask = ragged(lengths, side, seed=seed)
        with use_backend(BACKENDS[impl]), torch.no_grad():
            mine = ours(ids, mask, output_hidden_states=True)
            wanted = hf_run(theirs, ids, mask, output_hidden_states=True)
        assert_hidden_close(mine.hidden_states, wanted.hidden_states, mask)
        assert_close(mine.last_hidden_state[mask != 0], wanted.hidden_states[-1][mask != 0])
        assert_close(mine.logits[mask != 0], wanted.logits[mask != 0], "logits")


@pytest.mark.parametrize(("name", "impl"), CASES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_and_every_gradient(name, impl, side):
    theirs = hf_decoder(name, impl=impl)
    ours = minift.from_hf(theirs)
    ids, mask = ragged([9, 4, 23], side)
    labels = ids.masked_fill((mask == 0) | (ids % 7 == 0), -100)
    with use_backend(BACKENDS[impl]):
        mine = ours(ids, mask, labels=labels)
    wanted = hf_run(theirs, ids, mask, labels=labels)
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize(
    ("name", "impl"), [(name, impl) for name in ONE_EACH for impl in impls(name)]
)
def test_ten_steps_with_dropout_from_the_same_seed(name, impl):
    theirs = hf_decoder(name, dropout=0.1, impl=impl).train()
    ours = minift.from_hf(theirs)

    def trained(model, backend):
        torch.manual_seed(1)
        # a larger eps than AdamW's own: a gradient that is 0 but for rounding (of a key's bias,
        # of an expert's unused neuron) would be divided by itself
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
        losses = []
        for step in range(10):
            ids = ragged([11, 11, 11], seed=step)[0]
            with use_backend(backend):
                loss = model(ids, labels=ids, use_cache=False).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    # other dropout masks would move the first loss by about 0.05
    assert_close(trained(ours, BACKENDS[impl]), trained(theirs, None), "losses")
    # measured 0.0, for Mixtral 2e-7; their own eager and SDPA part by 4e-7
    assert_same_weights(ours, theirs, tolerance=2e-6)


@pytest.mark.parametrize("impl", ["sdpa", "eager"])
def test_dropout_is_off_in_evaluation(impl):
    theirs = hf_decoder("mistral-window", dropout=0.4, impl=impl)
    ids, mask = ragged([7, 12, 1])
    with use_backend(BACKENDS[impl]):
        mine = minift.from_hf(theirs)(ids, mask).logits
    assert_close(mine[mask != 0], hf_run(theirs, ids, mask).logits[mask != 0], "logits")


@pytest.mark.parametrize("name", MIXTRALS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_router_logits_and_balance(name, side):
    theirs = hf_decoder(name)
    ours = minift.from_hf(theirs)
    ids, mask = ragged([9, 4, 23], side)
    labels = ids.masked_fill(mask == 0, -100)
    mine = ours(ids, mask, labels=labels, output_router_logits=True)
    wanted = hf_run(theirs, ids, mask, labels=labels, output_router_logits=True)
    real = mask.flatten() != 0
    for ours_layer, theirs_layer in zip(mine.router_logits, wanted.router_logits, strict=True):
        assert_close(ours_layer[real], theirs_layer[real], "router logits")
    assert_close(mine.aux_loss, wanted.aux_loss, "aux loss")
    assert_close(mine.loss, wanted.loss, "loss")
    whole = ours(ids, output_router_logits=True)
    assert_close(whole.aux_loss, theirs(ids, output_router_logits=True).aux_loss, "no mask")
    plain = ours(ids, mask, labels=labels, output_router_logits=False)
    assert plain.aux_loss is None and plain.router_logits is None
    coefficient = ours.config.router_aux_loss_coef
    assert_close(plain.loss + coefficient * mine.aux_loss, mine.loss, "the loss's two parts")


def test_router_jitter_from_the_same_seed():
    theirs = hf_decoder("mixtral", router_jitter_noise=0.3).train()
    ours = minift.from_hf(theirs)
    ids = ragged([11, 11])[0]
    torch.manual_seed(4)
    mine = ours(ids).logits
    torch.manual_seed(4)
    assert_close(mine, theirs(ids, use_cache=False).logits, "logits")
    assert float((mine - ours.eval()(ids).logits).detach().abs().max()) > 0.1


@pytest.mark.parametrize("name", ONE_EACH)
def test_attention_maps(name):
    theirs = hf_decoder(name, impl="eager")
    ours = minift.from_hf(theirs)
    ids, mask = ragged([7, 12, 3], "left")
    mine = ours(ids, mask, output_attentions=True).attentions
    wanted = hf_run(theirs, ids, mask, output_attentions=True).attentions
    for layer, (ours_layer, theirs_layer) in enumerate(zip(mine, wanted, strict=True)):
        real = (mask != 0)[:, None, :, None].expand_as(ours_layer)
        assert_close(ours_layer[real], theirs_layer[real], "attention probabilities")
        assert float(ours_layer.triu(1)[real].max()) == 0.0
        window = ours.model.layers[layer].attention.window
        if window is not None:
            assert float(ours_layer.tril(-window)[real].max()) == 0.0
            assert float(ours_layer.tril(1 - window)[real].max()) > 0.0


@pytest.mark.parametrize("name", ["mistral-window", "gemma2"])
def test_with_the_kernels(name):
    pytest.importorskip("triton")
    ours = minift.from_hf(hf_decoder(name, head_dim=8))
    ids, mask = ragged([9, 4, 13], "left")
    with torch.no_grad():
        right = ours(ids, mask).logits[mask != 0]
        with use_backend("triton"):
            mine = ours(ids, mask).logits[mask != 0]
    # windows, soft-cap, grouped heads and padding at once: measured up to 3e-6 of |logits| to 12
    assert float((mine - right).abs().max()) <= 1e-5


@pytest.mark.parametrize("name", DECODERS)
def test_in_double_precision(name):
    # their norms stay in fp32 whatever the dtype; ours do not
    ours = minift.from_hf(hf_decoder(name))
    ids, mask = ragged([7, 12, 30], "left")
    with torch.no_grad():
        single = ours(ids, mask).logits[mask != 0]
        double = ours.double()(ids, mask).logits[mask != 0]
        with use_backend("eager"):
            eager = ours(ids, mask).logits[mask != 0]
    assert double.dtype == torch.float64
    assert float((double - eager).abs().max()) < 1e-12
    difference = float((single - double).abs().max())
    assert 1e-8 < difference < 5e-5, difference


@pytest.mark.parametrize("name", ONE_EACH)
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_sequence_is_as_alone(name, side):
    ours = minift.from_hf(hf_decoder(name))
    ids, mask = ragged([7, 12, 1], side)
    here = slice(-7, None) if side == "left" else slice(0, 7)
    assert_close(ours(ids, mask).logits[0, here], ours(ids[:1, here]).logits[0], side)


@pytest.mark.parametrize("name", ONE_EACH)
def test_random_start(name):
    config = minift.from_hf(hf_decoder(name)).config
    torch.manual_seed(0)
    model = type(minift.from_hf(hf_decoder(name)))(config)
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            assert torch.all(parameter == (0.0 if "Gemma" in type(model).__name__ else 1.0))
        elif parameter_name.endswith("bias"):
            assert not parameter.any(), parameter_name
        else:
            assert float(parameter.std()) == pytest.approx(0.02, rel=0.25), parameter_name

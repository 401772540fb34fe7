import pytest
import torch
from tiny_hf import (
    GPT2_CONFIGS,
    assert_close,
    assert_gradients_close,
    assert_hidden_close,
    assert_same_weights,
    hf_gpt2,
    positions,
    ragged,
)

import minift
from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.layers.attention import use_backend
from minift.models import gpt2

LENGTHS = ([7, 12, 1], [5], [32, 31], [3, 3, 3, 3])
IMPLEMENTATIONS = [("sdpa", "torch"), ("eager", "eager")]


@pytest.mark.parametrize("name", GPT2_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_outputs(name, impl, backend, side):
    theirs = hf_gpt2(name, impl=impl)
    ours = minift.from_hf(theirs)
    for seed, lengths in enumerate(LENGTHS):
        ids, mask = ragged(lengths, side, seed=seed)
        # without position_ids their forward is right for padding on the right only
        given = {} if side == "right" else {"position_ids": positions(mask)}
        with use_backend(backend), torch.no_grad():
            mine = ours(ids, mask, output_hidden_states=True)
            wanted = theirs(ids, attention_mask=mask, output_hidden_states=True, **given)
        assert_hidden_close(mine.hidden_states, wanted.hidden_states, mask)
        assert_close(mine.last_hidden_state[mask != 0], wanted.hidden_states[-1][mask != 0])
        assert_close(mine.logits[mask != 0], wanted.logits[mask != 0], "logits")


@pytest.mark.parametrize("name", GPT2_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_and_every_gradient(name, impl, backend, side):
    theirs = hf_gpt2(name, impl=impl)
    ours = minift.from_hf(theirs)
    ids, mask = ragged([9, 4, 17], side)
    labels = ids.masked_fill((mask == 0) | (ids % 7 == 0), -100)
    with use_backend(backend):
        mine = ours(ids, mask, labels=labels)
    wanted = theirs(
        ids, attention_mask=mask, labels=labels, position_ids=positions(mask), use_cache=False
    )
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize("name", ["plain", "odd-sizes", "untied-relu"])
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_ten_steps_with_dropout_from_the_same_seed(name, impl, backend):
    theirs = hf_gpt2(name, dropout=0.1, impl=impl).train()
    ours = minift.from_hf(theirs)

    def trained(model, backend):
        torch.manual_seed(1)
        # a larger eps: the gradient of a key's bias is 0 but for rounding, and AdamW would divide
        # one rounding error by another (their own eager and SDPA then part by 3e-3 in 10 steps)
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
    assert_close(trained(ours, backend), trained(theirs, None), "losses")
    # measured 0.0; their own eager and SDPA part by 5e-7
    assert_same_weights(ours, theirs, tolerance=2e-6)


@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_dropout_is_off_in_evaluation(impl, backend):
    theirs = hf_gpt2(dropout=0.3, impl=impl)
    ids, mask = ragged([7, 12, 1])
    with use_backend(backend):
        mine = minift.from_hf(theirs)(ids, mask).logits
    wanted = theirs(ids, attention_mask=mask).logits
    assert_close(mine[mask != 0], wanted[mask != 0], "logits")


def test_attention_maps_are_causal_and_skip_padding():
    theirs = hf_gpt2("odd-sizes", impl="eager")
    ours = minift.from_hf(theirs)
    ids, mask = ragged([7, 12, 3], "left")
    mine = ours(ids, mask, output_attentions=True).attentions
    wanted = theirs(
        ids, attention_mask=mask, position_ids=positions(mask), output_attentions=True
    ).attentions
    for ours_layer, theirs_layer in zip(mine, wanted, strict=True):
        real = (mask != 0)[:, None, :, None].expand_as(ours_layer)
        assert_close(ours_layer[real], theirs_layer[real], "attention probabilities")
        assert float(ours_layer[0, :, 5:, :5].max()) == 0.0
        assert float(ours_layer.triu(1)[real].max()) == 0.0


def test_in_double_precision():
    # without padding on the left: their eager attention gives NaN there in fp64
    theirs = hf_gpt2("deep").double()
    ours = minift.from_hf(theirs)
    ids, mask = ragged([7, 12, 1])
    mine, wanted = ours(ids, mask).logits, theirs(ids, attention_mask=mask).logits
    assert mine.dtype == torch.float64
    assert float((mine - wanted)[mask != 0].abs().max()) < 1e-12
    single = minift.from_hf(theirs).float()(ids, mask).logits
    assert 1e-8 < float((single - wanted)[mask != 0].abs().max()) < 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_sequence_is_as_alone(side):
    ours = minift.from_hf(hf_gpt2())
    ids, mask = ragged([7, 12, 1], side)
    together = ours(ids, mask).logits[0, -7:] if side == "left" else ours(ids, mask).logits[0, :7]
    alone = ours(ids[:1, -7:] if side == "left" else ids[:1, :7]).logits[0]
    assert_close(together, alone, side)


@pytest.mark.parametrize("capacity", [None, 20])
@pytest.mark.parametrize("cuts", [(1, 1, 1, 1), (5, 1, 6), (3, 9), (12,)])
def test_with_a_cache_as_without(capacity, cuts):
    ours = minift.from_hf(hf_gpt2("inverse-layer-scale"))
    ids, mask = ragged([7, 12, 3], "left")
    ids, mask = ids[:, : sum(cuts)], mask[:, : sum(cuts)]
    with torch.no_grad():
        whole = ours(ids, mask).logits
        cache, parts, seen = KVCache(capacity), [], 0
        for cut in cuts:
            output = ours(ids[:, seen : seen + cut], mask[:, : seen + cut], cache=cache)
            parts.append(output.logits)
            assert output.cache is cache
            seen += cut
            assert cache.length == seen
    real = mask != 0
    assert_close(torch.cat(parts, dim=1)[real], whole[real], "logits")


def test_a_cache_is_given_back_and_keeps_gradients():
    ours = minift.from_hf(hf_gpt2())
    ids = ragged([9, 9])[0]
    first = ours(ids[:, :4])
    second = ours(ids[:, 4:], cache=first.cache)
    assert first.cache.length == 9
    whole = ours(ids).logits[:, 4:]
    assert_close(second.logits, whole)
    second.logits.sin().sum().backward()
    got = ours.transformer.layers[0].attention.qkv.weight.grad.clone()
    ours.zero_grad()
    whole.sin().sum().backward()
    assert_close(got, ours.transformer.layers[0].attention.qkv.weight.grad, "through the cache")
    assert ours.train()(ids).cache is None
    assert ours(ids, use_cache=True).cache.length == 9
    assert ours.eval()(ids, use_cache=False).cache is None


def test_random_start_has_the_paper_s_deviations():
    config = gpt2.GPT2Config(vocab_size=500, n_embd=96, n_layer=8, n_head=2, n_positions=60)
    model = gpt2.GPT2LMHeadModel(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert torch.all(parameter == (1.0 if name.endswith("weight") else 0.0)), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            residual = name.endswith(("attention.output.weight", "down.weight"))
            expected = 0.02 / 4 if residual else 0.02  # 1/√(2 · 8 layers) = 1/4
            assert float(parameter.std()) == pytest.approx(expected, rel=0.05), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reorder_and_upcast_attn": True},
            "config: reorder_and_upcast_attn=True is not supported; right: False",
        ),
        (
            {"add_cross_attention": True},
            "config: add_cross_attention=True is not supported; right: False",
        ),
        (
            {"quantization_config": {"bits": 4}},
            "config: quantization_config={'bits': 4} is not supported; right: None",
        ),
        ({"n_inner": 0}, "config: inner=0; right: at least 1"),
        ({"n_head": 7}, "config: n_embd=24 is not a multiple of n_head=7"),
        ({"attn_pdrop": -0.1}, "config: attn_pdrop=-0.1; right: at least 0 and below 1"),
        ({"eos_token_id": "x"}, "config: eos_token_id='x'; right: int or list or null"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(InputError) as caught:
        gpt2.GPT2Config.from_dict({**hf_gpt2().config.to_dict(), **options})
    assert str(caught.value) == message


def test_wrong_inputs_are_named():
    ours = minift.from_hf(hf_gpt2())
    ids, mask = ragged([7, 12, 3], "left")
    cache = ours(ids, mask).cache
    wrong = [
        (
            {"input_ids": ragged([33])[0]},
            "input_ids: 33 tokens are more than the model's 32 positions; "
            "right: truncate, e.g. tokenizer(text, truncation=True)",
        ),
        (
            {"input_ids": ragged([21, 21, 21])[0], "cache": cache},
            "input_ids: 33 tokens are more than the model's 32 positions; "
            "right: truncate, e.g. tokenizer(text, truncation=True)",
        ),
        (
            {"cache": cache, "attention_mask": mask},
            "attention_mask: shape (3, 12); right: (3, 24), one entry for each token "
            "(cached ones included)",
        ),
        (
            {"labels": ids.masked_fill(ids == ids[0, 0], 53)},
            "labels: 53 is outside 0…52; right: a class, or −100 to ignore",
        ),
        (
            {"input_ids": ids[:2], "cache": cache},
            "cache: holds 3 sequences, was given 2; right: one cache for each batch",
        ),
    ]
    for change, message in wrong:
        with pytest.raises(InputError) as caught:
            ours(**{"input_ids": ids, **change})
        assert str(caught.value) == message
    assert cache.length == 12

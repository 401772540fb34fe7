import dataclasses
import json

import pytest
import torch
import transformers
from tiny_hf import (
    assert_close,
    assert_gradients_close,
    assert_hidden_close,
    assert_same_weights,
)
from tiny_t5 import T5_CONFIGS, hf_t5, pair

import minift
from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.layers.attention import use_backend
from minift.layers.relative import RelativeBias
from minift.models.t5 import T5Config, T5ForConditionalGeneration

IMPLEMENTATIONS = [("sdpa", "torch"), ("eager", "eager")]


@pytest.mark.parametrize("name", T5_CONFIGS)
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_outputs_loss_and_every_gradient(name, impl, backend, side):
    theirs = hf_t5(name, impl=impl)
    ours = minift.from_hf(theirs)
    ids, mask, labels = pair(side=side)
    with use_backend(backend):
        mine = ours(ids, mask, labels=labels, output_hidden_states=True)
    wanted = theirs(
        input_ids=ids,
        attention_mask=mask,
        labels=labels,
        output_hidden_states=True,
        use_cache=False,
    )
    everywhere = torch.ones(labels.shape)
    assert_hidden_close(mine.encoder_hidden_states, wanted.encoder_hidden_states, mask)
    assert_hidden_close(mine.hidden_states, wanted.decoder_hidden_states, everywhere)
    assert_close(mine.logits, wanted.logits, "logits")
    assert_close(mine.loss, wanted.loss, "loss")
    mine.loss.backward()
    wanted.loss.backward()
    assert_gradients_close(ours, theirs)


@pytest.mark.parametrize("name", ["plain", "version-1.1"])
@pytest.mark.parametrize("own_head", [False, True])
@pytest.mark.parametrize(("impl", "backend"), IMPLEMENTATIONS)
def test_ten_steps_with_dropout_from_the_same_seed(name, own_head, impl, backend):
    theirs = hf_t5(name, dropout=0.1, impl=impl, own_head=own_head).train()
    ours = minift.from_hf(theirs)
    assert (ours.lm_head is not None) == own_head

    def trained(model, backend):
        torch.manual_seed(1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.1)
        losses = []
        for step in range(10):
            ids, mask, labels = pair(seed=step)
            with use_backend(backend):
                loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return torch.stack(losses)

    assert_close(trained(ours, backend), trained(theirs, None), "losses")
    assert_same_weights(ours, theirs, tolerance=2e-6)


def test_attention_maps():
    theirs = hf_t5("inner-is-not-hidden", impl="eager")
    ours = minift.from_hf(theirs)
    ids, mask, labels = pair(side="left")
    mine = ours(ids, mask, labels=labels, output_attentions=True)
    wanted = theirs(input_ids=ids, attention_mask=mask, labels=labels, output_attentions=True)
    real = mask != 0
    for got, right in zip(mine.encoder_attentions, wanted.encoder_attentions, strict=True):
        rows = real[:, None, :, None].expand_as(got)
        assert_close(got[rows], right[rows], "encoder")
        hidden = ~real[:, None, None, :].expand_as(got) & rows
        assert float(got.detach()[hidden].max()) == 0.0
    for got, right in zip(mine.attentions, wanted.decoder_attentions, strict=True):
        assert_close(got, right, "decoder")
        assert float(got.detach().triu(1).max()) == 0.0
    for got, right in zip(mine.cross_attentions, wanted.cross_attentions, strict=True):
        assert_close(got, right, "cross")
        assert got.shape[-2:] == (labels.shape[1], ids.shape[1])


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 12), (4, 5), (6, 4), (10, 300)])
def test_buckets_are_theirs_for_every_distance(bidirectional, buckets, far):
    bias = RelativeBias(buckets, far, 1, bidirectional)
    distances = torch.arange(-700, 701)
    wanted = transformers.models.t5.modeling_t5.T5Attention._relative_position_bucket(
        distances, bidirectional, buckets, far
    )
    assert torch.equal(bias.buckets(distances), wanted)
    values = bias(3, 7)
    assert values.shape == (1, 1, 3, 7)
    places = torch.arange(7)
    rows = bias.table(bias.buckets(places[None] - places[4:, None]))[..., 0]
    assert torch.equal(values[0, 0], rows)


@pytest.mark.parametrize("capacity", [None, 9])
@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 1, 4), (9,)])
def test_with_a_cache_as_without(capacity, cuts):
    ours = minift.from_hf(hf_t5("deeper-decoder"))
    ids, mask, labels = pair(target=(9, 9, 9))
    with torch.no_grad():
        whole = ours(ids, mask, decoder_input_ids=labels).logits
        encoded, cache, parts, seen = ours.encode(ids, mask), KVCache(capacity), [], 0
        for cut in cuts:
            output = ours(
                attention_mask=mask, decoder_input_ids=labels[:, seen : seen + cut],
                encoder_output=encoded, cache=cache,
            )  # fmt: skip
            parts.append(output.logits)
            seen += cut
            assert output.cache is cache and cache.length == seen
        assert_close(torch.cat(parts, dim=1), whole, "logits")
        last = ours(ids, mask, decoder_input_ids=labels, last_only=True).logits
    assert_close(last, whole[:, -1:], "last only")


def test_a_target_with_padding_on_the_left_is_as_alone():
    ours = minift.from_hf(hf_t5())
    ids, mask, labels = pair((7,), (6,))
    padded = torch.nn.functional.pad(labels, (3, 0))
    real = padded.ne(0).long()
    alone = ours(ids, mask, decoder_input_ids=labels).logits
    together = ours(ids, mask, decoder_input_ids=padded, decoder_attention_mask=real).logits
    assert_close(together[:, 3:], alone, "a bias of distances does not count from the start")


@pytest.mark.parametrize("name", ["plain", "version-1.1", "deeper-encoder", "deeper-decoder"])
@pytest.mark.parametrize("options", [
    {}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2, "length_penalty": 0.3},
    {"num_beams": 2, "early_stopping": True}, {"repetition_penalty": 1.7}, {"min_new_tokens": 5},
], ids=str)  # fmt: skip
def test_tokens_are_those_of_generate(name, options):
    theirs = hf_t5(name, own_head=name == "version-1.1", seed=3)
    ours = minift.from_hf(theirs)
    ids, mask, _ = pair(side="left", seed=2)
    # their cache counts the encoder's layers, and breaks where the decoder has more
    given = {"use_cache": name != "deeper-decoder", "max_new_tokens": 11}
    wanted = theirs.generate(input_ids=ids, attention_mask=mask, **given, **options)
    for use_cache in (True, False):
        got = ours.generate(ids, mask, max_new_tokens=11, use_cache=use_cache, **options)
        assert torch.equal(got, wanted)
    assert torch.equal(ours.generate(ids, max_new_tokens=11, **options), wanted)  # mask by id


def test_padding_that_also_ends_a_text_is_seen_as_a_token():
    theirs = hf_t5(seed=3)
    ours = minift.from_hf(theirs)
    ids, mask, _ = pair(side="left", seed=2)
    options = {"max_new_tokens": 6, "eos_token_id": [0, 1]}
    wanted = theirs.generate(input_ids=ids, **options)
    assert torch.equal(ours.generate(ids, **options), wanted)
    assert not torch.equal(ours.generate(ids, mask, **options), wanted)


def test_positions_of_the_target_say_nothing_of_the_source():
    theirs = hf_t5()
    ours = minift.from_hf(theirs)
    ids, mask, labels = pair((5, 3), (5, 4))  # as long as each other: a bias would fit
    wanted = theirs(input_ids=ids, attention_mask=mask, labels=labels).logits
    assert_close(ours(ids, mask, labels=labels).logits, wanted, "logits")


def test_generating_is_without_dropout_and_leaves_the_mode():
    theirs = hf_t5(dropout=0.3, seed=3)
    ours = minift.from_hf(theirs).train()
    ids, mask, _ = pair()
    wanted = theirs.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8)
    assert torch.equal(ours.generate(ids, mask, max_new_tokens=8), wanted)
    assert ours.training


@pytest.mark.parametrize("num_beams", [1, 3])
def test_with_a_cache_the_source_is_read_once(num_beams):
    ours = minift.from_hf(hf_t5("deeper-decoder"))
    ids, mask, _ = pair()
    parts = [layer.cross_attention.k for layer in ours.decoder.layers]
    for use_cache, times in ((True, 1), (False, 7)):
        rows = []
        hooks = [
            part.register_forward_hook(lambda _m, _i, out: rows.append(len(out)))  # noqa: B023
            for part in (*parts, ours.encoder.norm)
        ]
        options = {"max_new_tokens": 7, "eos_token_id": [], "num_beams": num_beams}
        ours.generate(ids, mask, use_cache=use_cache, **options)
        for hook in hooks:
            hook.remove()
        assert len(rows) == 1 + times * len(parts)


def test_samples_are_those_of_generate():
    theirs = hf_t5(seed=5)
    ours = minift.from_hf(theirs)
    ids, mask, _ = pair()
    options = {"do_sample": True, "top_k": 7, "num_return_sequences": 3, "max_new_tokens": 8}
    torch.manual_seed(4)
    wanted = theirs.generate(input_ids=ids, attention_mask=mask, **options)
    torch.manual_seed(4)
    assert torch.equal(ours.generate(ids, mask, **options), wanted)


@pytest.mark.parametrize("name", T5_CONFIGS)
@pytest.mark.parametrize("own_head", [False, True])
def test_there_and_back(name, own_head, tmp_path):
    original = hf_t5(name, own_head=own_head)
    ids, mask, labels = pair()
    wanted = original(input_ids=ids, attention_mask=mask, labels=labels).logits
    original.save_pretrained(tmp_path / "theirs")
    ours = minift.load(tmp_path / "theirs")
    assert (ours.lm_head is not None) == own_head
    assert_close(ours(ids, mask, labels=labels).logits, wanted, "theirs, loaded")
    minift.save(ours, tmp_path / "ours", max_shard_bytes=20_000)
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    assert_close(again(input_ids=ids, attention_mask=mask, labels=labels).logits, wanted, "ours")
    assert_same_weights(minift.load(tmp_path / "ours"), again)
    back = minift.to_hf(ours)
    assert_close(back(input_ids=ids, attention_mask=mask, labels=labels).logits, wanted, "to_hf")


def test_an_old_config_says_by_tying_whether_logits_are_scaled(tmp_path):
    for tied in (True, False):
        original = hf_t5(own_head=not tied, tie_word_embeddings=tied)
        original.save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        del config["scale_decoder_outputs"], config["decoder_start_token_id"]
        config["tie_word_embeddings"] = tied
        (tmp_path / "config.json").write_text(json.dumps(config))
        ours = minift.load(tmp_path)
        assert ours.config.scale_decoder_outputs == tied
        assert ours.start_token_id == ours.config.pad_token_id
        ids, mask, labels = pair()
        wanted = transformers.T5ForConditionalGeneration.from_pretrained(tmp_path)
        wanted.config.decoder_start_token_id = 0
        logits = wanted(input_ids=ids, attention_mask=mask, labels=labels).logits
        assert_close(ours(ids, mask, labels=labels).logits, logits, f"tied: {tied}")


def test_random_start_has_the_paper_s_deviations():
    config = T5Config(
        vocab_size=500, d_model=64, d_kv=16, d_ff=256, num_layers=3, num_heads=8,
        initializer_factor=2.0, tie_word_embeddings=False, feed_forward_proj="gated-gelu",
    )  # fmt: skip
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(config)
    data = {k: v for k, v in config.to_dict().items() if k != "tie_word_embeddings"}
    torch.manual_seed(0)
    theirs = transformers.T5ForConditionalGeneration(transformers.T5Config(**data))
    expected = dict(theirs.named_parameters())
    for name, key in minift.models.loading.hf_names(model).items():
        mine = model.get_parameter(name)
        if "norm" in name:
            assert torch.all(mine == 2.0), name
        elif key in expected:
            deviation = float(mine.detach().std())
            assert deviation == pytest.approx(float(expected[key].detach().std()), rel=0.15), name
    assert float(model.lm_head.weight.detach().std()) == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_kv": 0}, "config: d_kv=0; right: at least 1"),
        ({"dropout_rate": 1.0}, "config: dropout_rate=1.0; right: at least 0 and below 1"),
        ({"feed_forward_proj": "gated-prelu"}, "activation function: unknown 'prelu'; known: gelu"),
        (
            {"relative_attention_num_buckets": 7},
            "config: relative_attention_num_buckets=7 for a max_distance of 12; right: even, at",
        ),
        ({"decoder_start_token_id": None}, "config: pad_token_id=0, decoder_start_token_id=None;"),
        ({"is_decoder": True}, "config: is_decoder=True is not supported; right: False"),
    ],
)
def test_config_refuses(options, message):
    with pytest.raises(InputError) as caught:
        T5Config.from_dict({**hf_t5().config.to_dict(), **options})
    assert str(caught.value).startswith(message)


def test_wrong_inputs_are_named():
    ours = minift.from_hf(hf_t5())
    ids, mask, labels = pair()
    encoded = ours.encode(ids, mask)
    wrong = [
        ({"input_ids": ids}, "decoder_input_ids: None; right: a target, here or in labels"),
        ({"labels": labels}, "input_ids: None; right: a source, or encoder_output"),
        ({"input_ids": ids + 50, "labels": labels}, "input_ids: id "),
        (
            {"input_ids": ids, "attention_mask": mask[:, 1:], "labels": labels},
            "attention_mask: shape (3, 11); right: (3, 12), one entry for each token",
        ),
        (
            {"encoder_output": encoded, "decoder_input_ids": labels},
            "decoder_input_ids: id -100 is outside 0…52 (vocab_size 53)",
        ),
        (
            {"input_ids": ids, "labels": labels, "decoder_attention_mask": mask},
            "decoder_attention_mask: shape (3, 12); right: (3, 9), one entry for each token",
        ),
        (
            {"input_ids": ids, "decoder_input_ids": ids, "labels": labels},
            "labels: shape (3, 9); right: (3, 12)",
        ),
        ({"input_ids": ids, "labels": labels + 100}, "labels: "),
    ]
    for given, message in wrong:
        with pytest.raises(InputError) as caught:
            ours(**given)
        assert str(caught.value).startswith(message)
    with pytest.raises(InputError, match=r"option: unknown 'num_beems'.*did you mean 'num_beams'"):
        ours.generate(ids, num_beems=2)


def test_missing_and_wrong_tensors_are_named(tmp_path):
    hf_t5("version-1.1").save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    name = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    kept = tensors.pop(name)
    save_file(tensors, path)
    with pytest.raises(InputError, match=f"1 missing: {name}"):
        minift.load(tmp_path)
    save_file({**tensors, name: kept.T[:4].contiguous(), "extra": kept}, path)
    with pytest.raises(InputError, match=r"1 not expected: extra; 1 of another shape or type: dec"):
        minift.load(tmp_path)
    config = dataclasses.replace(minift.from_hf(hf_t5()).config, tie_word_embeddings=False)
    assert T5ForConditionalGeneration(config).lm_head is not None

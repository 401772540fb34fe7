"""Folders and models in memory, both ways, and every way in which they can be wrong."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_decoders import DECODERS, ONE_EACH, hf_decoder
from tiny_hf import assert_close, assert_same_weights, ragged

import minift
from minift.errors import InputError

IDS, MASK = ragged([7, 12, 1])


def logits(model):
    with torch.no_grad():
        return model(IDS, attention_mask=MASK).logits[MASK != 0]


def theirs_from(folder):
    """Loaded by ``transformers``, which must find every tensor and no other."""
    cls = getattr(
        transformers, json.loads((folder / "config.json").read_text())["architectures"][0]
    )
    model, info = cls.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model


def same_options(original, folder):
    """Whether the config that we wrote says to ``transformers`` what the original's says."""
    mine = transformers.AutoConfig.from_pretrained(folder).to_dict()
    wanted = {**original.config.to_dict(), "_name_or_path": str(folder)}
    if wanted.get("head_dim", 0) is None:  # Mixtral's; we say it
        wanted["head_dim"] = wanted["hidden_size"] // wanted["num_attention_heads"]
    differing = {key: (mine.get(key), wanted.get(key)) for key in mine.keys() | wanted.keys()}
    return {key: pair for key, pair in differing.items() if pair[0] != pair[1]}


@pytest.mark.parametrize("name", DECODERS)
def test_there_and_back(name, tmp_path):
    original = hf_decoder(name)
    original.save_pretrained(tmp_path / "theirs")
    ours = minift.load(tmp_path / "theirs")
    assert not ours.training
    assert_same_weights(ours, original)
    minift.save(ours, tmp_path / "ours")
    assert same_options(original, tmp_path / "ours") == {}
    again = theirs_from(tmp_path / "ours")
    assert type(again) is type(original)
    wanted = logits(original)
    assert_close(logits(again), wanted)
    assert_close(logits(ours), wanted)
    stored, rewritten = (load_file(tmp_path / w / "model.safetensors") for w in ("theirs", "ours"))
    assert {key: value.shape for key, value in stored.items()} == {
        key: value.shape for key, value in rewritten.items()
    }
    assert all(torch.equal(stored[key], rewritten[key]) for key in stored)
    assert minift.load(tmp_path / "ours").config.to_dict() == ours.config.to_dict()


@pytest.mark.parametrize("name", ONE_EACH)
def test_shards(name, tmp_path):
    original = hf_decoder(name)
    original.save_pretrained(tmp_path / "theirs", max_shard_size="10KB")
    assert len(list((tmp_path / "theirs").glob("model-*-of-*.safetensors"))) > 2
    ours = minift.load(tmp_path / "theirs")
    assert_same_weights(ours, original)
    minift.save(ours, tmp_path / "ours", max_shard_bytes=10_000)
    assert len(list((tmp_path / "ours").glob("model-*-of-*.safetensors"))) > 2
    assert_close(logits(theirs_from(tmp_path / "ours")), logits(original))


@pytest.mark.parametrize("name", ONE_EACH)
def test_in_memory_both_ways(name):
    original = hf_decoder(name)
    ours = minift.from_hf(original)
    back = minift.to_hf(ours)
    assert type(back) is type(original)
    assert_close(logits(back), logits(original))
    with torch.no_grad():
        next(ours.parameters()).zero_()  # copies: the others do not see it
    assert next(original.parameters()).any()
    assert next(back.parameters()).any()
    assert minift.to_hf(ours.train()).training


def test_a_body_alone_loads_where_the_head_is_tied(tmp_path):
    original = hf_decoder("qwen2")
    original.model.save_pretrained(tmp_path)
    assert_same_weights(minift.load(tmp_path, task="causal-lm"), original)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_half_precision_as_theirs(name, tmp_path):
    original = hf_decoder(name).to(torch.bfloat16)
    original.save_pretrained(tmp_path)
    ours = minift.load(tmp_path, dtype=torch.bfloat16)
    again = type(original).from_pretrained(tmp_path, dtype=torch.bfloat16)
    difference = (logits(ours) - logits(again)).abs().max()
    # measured 0.0; one unit of bf16 at 4 is 0.03
    assert float(difference) <= 0.03


# ---- older layouts of config.json ----


def old_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value != "remove"})
    )


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("llama-linear", {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.5}}),
        (
            "llama-llama3",
            {
                "rope_theta": 500.0,
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
                },
            },
        ),
        (
            "llama-yarn",
            {
                "rope_theta": 500.0,
                "original_max_position_embeddings": 16,
                "rope_scaling": {"type": "yarn", "factor": 4.0},
            },
        ),
        ("llama", {"rope_theta": 10000.0, "rope_scaling": None}),
        ("llama", {}),
        ("mixtral", {}),
        ("gemma2", {"rope_theta": 10000.0}),
        (
            "gemma3-two-ropes",
            {
                "rope_theta": 900.0,
                "rope_local_base_freq": 50.0,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            },
        ),
        ("gemma3-two-ropes", {"rope_theta": 700.0}),
    ],
)  # fmt: skip
def test_rope_of_older_configs(name, old, tmp_path):
    hf_decoder(name).save_pretrained(tmp_path)
    old_config(tmp_path, rope_parameters="remove", **old)
    ours = minift.load(tmp_path)
    assert_close(logits(ours), logits(theirs_from(tmp_path)))


def test_windows_of_older_configs(tmp_path):
    hf_decoder("gemma3", num_hidden_layers=4, layer_types=None).save_pretrained(tmp_path)
    old_config(tmp_path, layer_types="remove", sliding_window_pattern=2)
    ours = minift.load(tmp_path)
    assert [layer.attention.window for layer in ours.model.layers] == [5, None, 5, None]
    assert_close(logits(ours), logits(theirs_from(tmp_path)))
    old_config(tmp_path, sliding_window_pattern="remove")  # every sixth layer, so none of these
    assert_close(logits(minift.load(tmp_path)), logits(theirs_from(tmp_path)))


@pytest.mark.parametrize("name", ["llama", "mistral-window", "qwen2", "qwen3", "gemma2", "mixtral"])
def test_what_a_config_leaves_out_is_what_transformers_takes(name):
    original = hf_decoder(name)
    kind = original.config.model_type
    mine = type(minift.from_hf(original).config).from_dict({"model_type": kind})
    wanted = transformers.AutoConfig.for_model(kind).to_dict()
    again = transformers.AutoConfig.for_model(**mine.to_dict()).to_dict()
    again.pop("head_dim", None), wanted.pop("head_dim", None)
    assert again == wanted


# ---- what is wrong, in one line ----


def error_of(folder):
    with pytest.raises(InputError) as caught:
        minift.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"num_key_value_heads": 3},
         "num_attention_heads=4 is not a multiple of num_key_value_heads=3"),
        ("llama", {"head_dim": None, "num_attention_heads": 5, "num_key_value_heads": 5},
         "hidden_size=24 is not a multiple of num_attention_heads=5"),
        ("llama", {"head_dim": 7}, "head_dim=7; right: even, RoPE turns pairs"),
        ("llama", {"num_hidden_layers": 0}, "num_hidden_layers=0; right: at least 1"),
        ("llama", {"hidden_act": "silo"},
         "activation function: unknown 'silo'; known: gelu, gelu_new, gelu_pytorch_tanh, "
         "quick_gelu, relu, silu, swish, tanh; did you mean 'silu'?"),
        ("llama", {"pad_token_id": 53}, "pad_token_id=53; right: below vocab_size=53, or null"),
        ("llama", {"quantization_config": {"bits": 4}},
         "quantization_config={'bits': 4} is not supported; right: None"),
        ("llama", {"partial_rotary_factor": 0.5},
         "partial_rotary_factor=0.5 is not supported; right: 1.0 or None"),
        ("llama", {"rope_parameters": {"rope_type": "ntk"}},
         "rope_type: unknown 'ntk'; known: default, dynamic, linear, llama3, longrope, "
         "proportional, yarn"),
        ("llama", {"rope_parameters": {"rope_type": "linear"}},
         "rope_parameters: factor is missing; rope_type='linear' needs factor"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": "2"}},
         "rope_parameters: factor='2'; right: a number above 0"),
        ("llama", {"rope_parameters": {"mrope_section": [1, 1, 1]}},
         "rope_parameters: mrope_section is not an option of rope_type='default'; "
         "right: only rope_theta"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "truncate": 1}},
         "rope_parameters: truncate=1; right: true or false"),
        ("llama", {"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0],
                                       "long_factor": [1.0, 1.0, 1.0]}},
         "rope_parameters: short_factor: 1 numbers; right: a list of 3"),
        ("llama", {"rope_parameters": 3},
         "rope_parameters=3; right: {rope_type, rope_theta, …}"),
        ("mistral-window", {"sliding_window": 0}, "window=0; right: at least 1"),
        ("qwen2-window", {"layer_types": ["full_attention"]},
         "layer_types: 1 entries; right: 3, one for each layer"),
        ("qwen2-window", {"layer_types": ["full_attn"] * 3},
         "layer_types: unknown 'full_attn'; known: full_attention, sliding_attention; "
         "did you mean 'full_attention'?"),
        ("qwen3-mixed", {"use_sliding_window": False},
         "sliding_window=None with sliding layers; right: at least 1"),
        ("gemma2", {"final_logit_softcapping": -1.0},
         "final_logit_softcapping=-1.0; right: above 0"),
        ("gemma3", {"use_bidirectional_attention": True},
         "use_bidirectional_attention=True is not supported; right: False or None"),
        ("gemma3", {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
         "rope_parameters={'rope_type': 'linear', 'factor': 2.0}; right: full_attention and "
         "sliding_attention, each with {rope_type, rope_theta, …}"),
        ("mixtral", {"num_experts_per_tok": 5},
         "num_experts_per_tok=5; right: at most num_local_experts=4"),
        ("mixtral", {"router_jitter_noise": 1.5},
         "router_jitter_noise=1.5; right: at least 0 and below 1"),
    ],
)  # fmt: skip
def test_config_refuses(name, change, message, tmp_path):
    hf_decoder(name).save_pretrained(tmp_path)
    old_config(tmp_path, **change)
    got = error_of(tmp_path).removeprefix("FOLDER/config.json: ").removeprefix("config: ")
    assert got == message


def test_an_option_of_another_type_is_refused():
    config = minift.models.llama.LlamaConfig
    with pytest.raises(InputError) as caught:
        config(model_type="llama", sliding_window=4)
    assert str(caught.value) == (
        "config: sliding_window=4 is not an option of model_type 'llama'; right: None"
    )
    with pytest.raises(InputError, match="config: model_type: unknown 'lama'; known: llama, mist"):
        config(model_type="lama")


MISSING = "FOLDER: tensors do not match the config; 1 missing: "


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", "model.layers.1.self_attn.k_proj.weight"),
        ("llama", "lm_head.weight"),
        ("qwen2", "model.layers.0.self_attn.v_proj.bias"),
        ("qwen3", "model.layers.0.self_attn.q_norm.weight"),
        ("gemma3", "model.layers.2.post_feedforward_layernorm.weight"),
        ("mixtral", "model.layers.1.block_sparse_moe.experts.3.w2.weight"),
    ],
)
def test_a_missing_tensor(name, tensor, tmp_path):
    hf_decoder(name).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors[tensor]
    save_file(tensors, file)
    assert error_of(tmp_path) == MISSING + tensor


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("llama", "model.layers.0.self_attn.o_proj.weight"),
     ("mixtral", "model.layers.0.block_sparse_moe.experts.1.w3.weight")],
)  # fmt: skip
def test_extra_and_mis_shaped_tensors(name, tensor, tmp_path):
    hf_decoder(name).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    rows, columns = whole[tensor].shape
    save_file({**whole, tensor: torch.zeros(columns + 1, rows)}, file)
    assert f"{tensor} ({columns + 1}, {rows}) (right: ({rows}, {columns}))" in error_of(tmp_path)
    extra = tensor.replace(".0.", ".7.")
    save_file({**whole, extra: whole[tensor].clone()}, file)
    assert error_of(tmp_path) == (
        f"FOLDER: tensors do not match the config; 1 not expected: {extra}"
    )
    save_file({**whole, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(3)}, file)
    if name == "llama":  # a buffer that old versions saved
        assert_same_weights(minift.load(tmp_path), hf_decoder(name))


def test_another_mixtral_layer_has_no_experts(tmp_path):
    hf_decoder("mixtral").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "layers.1.block" not in k}, file)
    assert error_of(tmp_path).startswith(
        "FOLDER: tensors do not match the config; 12 missing: "
        "model.layers.1.block_sparse_moe.experts.0.w1.weight, "
    )

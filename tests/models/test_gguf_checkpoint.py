"""A GGUF file as a checkpoint: against the model that was written, and ``transformers``' loader."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
from tiny_gguf import CONFIGS, hf_model, write_model
from tiny_hf import assert_same_weights, ragged
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import minift
from minift.__main__ import main
from minift.models.gguf import read_gguf_config

CLASS = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def logits(model):
    ids, mask = ragged([7, 12, 1])
    with torch.no_grad():
        return model(ids, attention_mask=mask).logits[mask != 0]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_model_that_was_written(name, tmp_path):
    original = hf_model(name)
    path = write_model(tmp_path / "model.gguf", original)
    ours = minift.load(path)
    assert not ours.training
    assert_same_weights(ours, original)
    assert float((logits(ours) - logits(original)).abs().max()) <= 2e-6  # measured: 0.0
    wanted = original.config.to_dict()
    mine = read_gguf_config(path)
    assert {key: wanted.get(key) for key in mine if key not in ("architectures", "head_dim")} == {
        key: value for key, value in mine.items() if key not in ("architectures", "head_dim")
    }
    assert mine["architectures"] == [type(original).__name__]
    minift.save(ours, tmp_path / "saved")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(logits(again), logits(original))
    assert {key: getattr(again.config, key) for key in wanted if key.endswith("token_id")} == {
        key: value for key, value in wanted.items() if key.endswith("token_id")
    }


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("llama", "Q4_1"), ("llama", "Q4_0"), ("untied-no-groups", "Q8_0"), ("llama", "Q5_0"),
        ("one-group-wide-heads", "Q5_1"), ("untied-no-groups", "F16"), ("llama", "BF16"),
        ("qwen2", "Q4_1"), ("qwen3", "Q8_0"),
    ],
)  # fmt: skip
def test_quantised_as_transformers_loads_it(name, kind, tmp_path):
    write_model(tmp_path / "model.gguf", hf_model(name), kind)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    )
    ours = minift.load(tmp_path)  # a folder that holds the file alone
    assert_same_weights(ours, theirs)
    assert float((logits(ours) - logits(theirs)).abs().max()) <= 2e-6  # measured: 0.0


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_k_formats_as_transformers_loads_them(kind, tmp_path):
    """Their blocks have 256 weights: any bytes will do, with a small scale in half precision."""
    original = hf_model("llama", hidden_size=256, intermediate_size=256)
    size = {"Q2_K": 84, "Q3_K": 110, "Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[kind]
    halves = {"Q2_K": [80, 82], "Q3_K": [108], "Q6_K": [208]}.get(kind, [0, 2])
    rng = np.random.default_rng(0)

    def blocks(rows):
        data = rng.integers(0, 256, (rows, size), dtype=np.uint8)
        for place in halves:
            data[:, place : place + 2] = np.array([1e-4], np.float16).view(np.uint8)
        return data, kind

    parts = ("attn_q", "attn_v", "attn_output", "ffn_down")
    rows = {"attn_q": 256, "attn_v": 128, "attn_output": 256, "ffn_down": 256}
    tensors = {f"blk.{i}.{part}.weight": blocks(rows[part]) for i in (0, 1) for part in parts}
    write_model(tmp_path / "model.gguf", original, tensors=tensors)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", dtype=torch.float32
    )
    assert_same_weights(minift.load(tmp_path / "model.gguf"), theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype, tmp_path):
    """Dequantised in float32, then rounded."""
    write_model(tmp_path / "model.gguf", hf_model("llama"), "Q4_1")
    single, ours = minift.load(tmp_path), minift.load(tmp_path, dtype=dtype)
    for wanted, value in zip(single.parameters(), ours.parameters(), strict=True):
        assert value.dtype == dtype and torch.equal(value, wanted.to(dtype))


@pytest.mark.parametrize(("factor", "head_dim"), [(8.0, 64), (32.0, 32)])
def test_llama_3_frequencies(factor, head_dim, tmp_path):
    """Of Llama 3.1's scaling a file has only the divisors; ``transformers``' own are written."""
    scaling = {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": factor, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
    }  # fmt: skip
    original = hf_model(
        "llama", head_dim=head_dim, rope_parameters=scaling, max_position_embeddings=16384
    )
    slowed, _ = ROPE_INIT_FUNCTIONS["llama3"](original.config, "cpu")
    plain = 1 / 500000.0 ** (torch.arange(0, head_dim, 2).float() / head_dim)
    divisors = (plain / slowed).numpy()
    assert divisors.min() == 1 and divisors.max() == factor and len(set(divisors.round(3))) > 2
    path = write_model(tmp_path / "m.gguf", original, tensors={"rope_freqs.weight": divisors})
    ours = minift.load(path)
    assert ours.config.rope_parameters == scaling
    assert float((logits(ours) - logits(original)).abs().max()) <= 2e-6
    for wrong in (divisors[:-1], divisors * 2, np.full_like(divisors, 8.0)):
        write_model(path, original, tensors={"rope_freqs.weight": wrong})
        with pytest.raises(minift.InputError, match=r"is not Llama 3.1's scaling"):
            minift.load(path)


Q, K, EMBED = "blk.0.attn_q.weight", "blk.0.attn_k.weight", "token_embd.weight"
HEADS = "llama.attention.head_count"
PROBLEMS = {
    "missing": ({"llama.embedding_length": None}, {}, "llama.embedding_length is missing; right: "),
    "type": ({"llama.block_count": "2"}, {}, "llama.block_count is '2'; right: of type"),
    "float": ({"llama.attention.layer_norm_rms_epsilon": 1}, {}, "epsilon is 1; right: of type fl"),
    "many": ({HEADS: [4, 4]}, {}, r"head_count is array\(.*\); right: of"),
    "layers": ({"llama.block_count": 2**31}, {}, "block_count is 2147483648; right: 2, the lay"),
    "heads": ({HEADS: 2**31}, {}, "head_count is 2147483648 and a head has 16 features, but "),
    "no heads": ({HEADS: 0}, {}, "head_count is 0 and a head has 16 features, but blk.0.att"),
    "kv": ({f"{HEADS}_kv": 3}, {}, "num_attention_heads=4 is not a multiple of num_key_v"),
    "rows": ({}, {K: np.ones((33, 64), "f4")}, "blk.0.attn_k.weight has 33 rows; right: an"),
    "head size": ({"llama.rope.dimension_count": 8}, {}, "and a head has 8 features, but blk.0.at"),
    "value size": ({"llama.attention.value_length": 8}, {}, "value_length is 8; right: 16, as tha"),
    "vocab": ({"llama.vocab_size": 54}, {}, "vocab_size is 54; right: 53, the rows of"),
    "moe": ({"llama.expert_count": 8}, {}, "llama.expert_count is 8; right: a model"),
    "scaling": ({"llama.rope.scaling.type": "yarn"}, {}, "scaling.type is 'yarn'; right: 'none' o"),
    "window": ({"llama.attention.sliding_window": 9}, {}, "sliding_window is 9; right: a model wi"),
    "part": ({"split.count": 3}, {}, "is one of the 3 parts of a model; right: one file, by `lla"),
    "special": ({"tokenizer.ggml.eos_token_id": 53}, {}, "eos_token_id is 53; right: 0…52"),
    "text": ({"tokenizer.ggml.bos_token_id": "1"}, {}, "bos_token_id is '1'; right: 0…52"),
    "no embedding": ({}, {EMBED: None}, "no tensor token_embd.weight; right: a whole model"),
    "no q": ({}, {Q: None}, "4 and a head has 16 features, but blk.0.attn_q.weight is not there"),
    "gone": ({}, {"blk.1.ffn_up.weight": None}, "1 missing: model.layers.1.mlp.up_proj"),
    "shape": ({}, {"output_norm.weight": np.ones(63, "f4")}, r"model.norm.weight \(63,\) \(right"),
    "name": ({}, {"blk.0.ffn_gate_inp.weight": np.ones(4, "f4")}, "'blk.0.ffn_gate_inp.weight' is"),
    "no leaf": ({}, {"output_norm": np.ones(4, "f4")}, "tensor 'output_norm' is not known"),
    "zeros": ({}, {"blk.00.attn_q.weight": np.ones(4, "f4")}, "3, the layers that have tensors"),
    "infinite": ({}, {"output_norm.weight": np.full(64, np.inf, "f4")}, "numbers that are not fin"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_does_not_fit(name, tmp_path):
    entries, tensors, wanted = PROBLEMS[name]
    path = write_model(tmp_path / "x.gguf", hf_model("llama"), entries=entries, tensors=tensors)
    with pytest.raises(minift.InputError, match=wanted) as caught:
        minift.load(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 400


def test_what_need_not_be_said(tmp_path):
    """As many heads for keys as for queries, RoPE's usual base; and that there are no experts."""
    said = {"llama.expert_count": 0, "llama.expert_used_count": 0}
    unsaid = [f"{HEADS}_kv", "llama.rope.freq_base", "llama.rope.dimension_count"]
    original = hf_model("untied-no-groups")
    entries = {**said, **dict.fromkeys([*unsaid, "llama.vocab_size"])}
    ours = minift.load(write_model(tmp_path / "x.gguf", original, entries=entries))
    assert_same_weights(ours, original)
    assert ours.config.rope_parameters == original.config.rope_parameters
    assert ours.config.num_key_value_heads == ours.config.num_attention_heads == 4


def test_which_file(tmp_path):
    original = hf_model("llama")
    path = write_model(tmp_path / "a.gguf", original)
    assert_same_weights(minift.load(str(path)), original)
    write_model(tmp_path / "b.gguf", original)
    with pytest.raises(
        minift.InputError, match=r"holds 2 GGUF files \(a.gguf, b.gguf\); right: na"
    ):
        minift.load(tmp_path)
    minift.save(minift.load(path), tmp_path)  # a config beside them goes first
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert_same_weights(minift.load(tmp_path), original)
    with pytest.raises(minift.InputError, match=re.escape(f"{path}: the header ends beyond")):
        minift.load(path)


def test_compare_reads_it_with_transformers(tmp_path, capsys):
    path = write_model(tmp_path / "x.gguf", hf_model("llama"), "Q4_1")
    for model in (path, tmp_path):
        assert main(["compare", str(model), "--batch", "2", "--length", "9", "--json"]) == 0
        out = capsys.readouterr().out
        assert json.loads(out)["ok"]


def test_another_architecture(tmp_path):
    model = hf_model("llama")
    model.config.model_type = "falcon"
    path = write_model(tmp_path / "x.gguf", model)
    wanted = "x.gguf: general.architecture: unknown 'falcon'; known: llama, qwen2, qwen3"
    with pytest.raises(minift.InputError, match=wanted):
        minift.load(path)

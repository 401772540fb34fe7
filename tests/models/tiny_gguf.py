"""Tiny random Llamas and relatives, as Hugging Face models and as the GGUF files of llama.cpp."""

import gguf
import numpy as np
import torch
import transformers

# llama.cpp's names, under which the package writes; the converse of the library's table.
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip
SIZES = {
    "vocab_size": 53, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "rms_norm_eps": 2.0**-17,
}  # fmt: skip
CONFIGS = {
    "llama": ("llama", {"tie_word_embeddings": True}),
    "untied-no-groups": ("llama", {"tie_word_embeddings": False, "num_key_value_heads": 4}),
    "one-group-wide-heads": ("llama", {"num_key_value_heads": 1, "head_dim": 32}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "base": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "linear": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    ),
    "qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 128}),  # with a GGUF file, transformers knows no other
}
CLASSES = {"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}


def hf_model(name, **more):
    """A model of ``transformers`` with random weights, norms and biases too."""
    kind, options = CONFIGS[name]
    config = getattr(transformers, f"{CLASSES[kind]}Config")(**{**SIZES, **options, **more})
    torch.manual_seed(0)
    model = getattr(transformers, f"{CLASSES[kind]}ForCausalLM")(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.normal_(1.0 if "norm" in key else 0.0, 0.2)
    return model


def metadata_of(config):
    """The entries of llama.cpp's converter, by key."""
    kind, rope = config.model_type, config.rope_parameters
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    entries = {
        f"{kind}.block_count": config.num_hidden_layers,
        f"{kind}.context_length": config.max_position_embeddings,
        f"{kind}.embedding_length": config.hidden_size,
        f"{kind}.feed_forward_length": config.intermediate_size,
        f"{kind}.attention.head_count": config.num_attention_heads,
        f"{kind}.attention.head_count_kv": config.num_key_value_heads,
        f"{kind}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{kind}.rope.freq_base": rope["rope_theta"],
        "tokenizer.ggml.bos_token_id": config.bos_token_id,
        "tokenizer.ggml.eos_token_id": config.eos_token_id,
        "tokenizer.ggml.padding_token_id": config.pad_token_id,
        "general.name": "tiny",
    }
    if kind != "llama":  # whose vocabulary's size is said by its tokens alone
        entries["tokenizer.ggml.tokens"] = [f"token {i}" for i in range(config.vocab_size)]
    if kind != "qwen2":
        entries[f"{kind}.rope.dimension_count"] = head_dim
    if kind == "llama":
        entries[f"{kind}.vocab_size"] = config.vocab_size
    if head_dim * config.num_attention_heads != config.hidden_size:
        entries[f"{kind}.attention.key_length"] = head_dim
        entries[f"{kind}.attention.value_length"] = head_dim
    if rope["rope_type"] == "linear":
        entries[f"{kind}.rope.scaling.type"] = "linear"
        entries[f"{kind}.rope.scaling.factor"] = rope["factor"]
    return entries


def tensors_of(model):
    """The weights by llama.cpp's names, q and k of Llama with RoPE's pairs side by side."""
    config, tensors = model.config, {}
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tied = config.tie_word_embeddings
    for name, value in model.state_dict().items():
        stem, _, leaf = name.rpartition(".")
        if name == "lm_head.weight" and tied:
            continue
        prefix = ""
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            prefix = f"blk.{layer}."
        part = NAMES[stem]
        if config.model_type == "llama" and part in heads:
            halves = value.view(heads[part], 2, -1, *value.shape[1:])
            value = halves.swapaxes(1, 2).reshape(value.shape)
        tensors[f"{prefix}{part}.{leaf}"] = value.numpy()
    return tensors


def write_gguf(path, architecture, entries, tensors, kind="F32"):
    """Write with the reference's writer; matrices as ``kind``, the rest in float32.

    A tensor may also be a pair: bytes that are blocks already, and their type.
    """
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in entries.items():
        add_entry(writer, key, value)
    for name, value in tensors.items():
        if isinstance(value, tuple):
            writer.add_tensor(name, value[0], raw_dtype=gguf.GGMLQuantizationType[value[1]])
        elif kind == "F32" or value.ndim == 1:
            writer.add_tensor(name, np.ascontiguousarray(value))
        else:
            number = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, gguf.quantize(value, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_entry(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def write_model(path, model, kind="F32", entries=None, tensors=None):
    """A model as a GGUF file; an entry or tensor given as ``None`` is left out."""
    both = []
    for ours, changes in ((metadata_of(model.config), entries), (tensors_of(model), tensors)):
        changed = {**ours, **(changes or {})}
        both.append({key: value for key, value in changed.items() if value is not None})
    return write_gguf(path, model.config.model_type, *both, kind)

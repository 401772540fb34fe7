"""The ``config.json`` of well-known models, as they were published before transformers 5.

Ours has as many parameters as the model is known to have, and says to ``transformers`` the same as
the original file.
"""

import pytest
import torch
import transformers

from minift.models.loading import FAMILIES

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
         "num_key_value_heads", "vocab_size", "max_position_embeddings")  # fmt: skip
STRETCHED = {
    "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_type": "llama3",
    "original_max_position_embeddings": 8192,
}  # fmt: skip
QWEN = {"rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "use_sliding_window": False}
GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh", "bos_token_id": 2, "pad_token_id": 0,
    "query_pre_attn_scalar": 256, "head_dim": 256, "cache_implementation": "hybrid",
}  # fmt: skip
PUBLISHED = {
    "SmolLM2-135M": (
        134_515_008, "llama", (576, 1536, 30, 9, 3, 49152, 8192),
        {"rope_theta": 100000, "rope_scaling": None, "tie_word_embeddings": True,
         "is_llama_config": True, "rope_interleaved": False, "pad_token_id": 2},
    ),
    "Llama-2-7b": (
        6_738_415_616, "llama", (4096, 11008, 32, 32, 32, 32000, 4096),
        {"pretraining_tp": 1, "rope_scaling": None, "rms_norm_eps": 1e-5},
    ),
    "Llama-3.1-8B": (
        8_030_261_248, "llama", (4096, 14336, 32, 32, 8, 128256, 131072),
        {"rope_theta": 500000.0, "rope_scaling": STRETCHED, "eos_token_id": [128001, 128008]},
    ),
    "Mistral-7B-v0.1": (
        7_241_732_096, "mistral", (4096, 14336, 32, 32, 8, 32000, 32768),
        {"rope_theta": 10000.0, "sliding_window": 4096},
    ),
    "Qwen2.5-0.5B": (
        494_032_768, "qwen2", (896, 4864, 24, 14, 2, 151936, 32768),
        {**QWEN, "tie_word_embeddings": True, "sliding_window": 32768, "max_window_layers": 24},
    ),
    "Qwen3-0.6B": (
        596_049_920, "qwen3", (1024, 3072, 28, 16, 8, 151936, 40960),
        {**QWEN, "tie_word_embeddings": True, "head_dim": 128, "sliding_window": None},
    ),
    "gemma-2-2b": (
        2_614_341_888, "gemma2", (2304, 9216, 26, 8, 4, 256000, 8192),
        {**GEMMA, "rope_theta": 10000.0, "sliding_window": 4096, "eos_token_id": 1},
    ),
    "gemma-3-1b-it": (
        999_885_952, "gemma3_text", (1152, 6912, 26, 4, 1, 262144, 32768),
        {**GEMMA, "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None,
         "sliding_window": 512, "sliding_window_pattern": 6, "eos_token_id": [1, 106]},
    ),
    "Mixtral-8x7B-v0.1": (
        46_702_792_704, "mixtral", (4096, 14336, 32, 32, 8, 32000, 32768),
        {"rope_theta": 1000000.0, "router_aux_loss_coef": 0.02, "sliding_window": None},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published(name):
    count, model_type, sizes, options = PUBLISHED[name]
    data = {"model_type": model_type, **dict(zip(SIZES, sizes, strict=True)), **options}
    family = FAMILIES[model_type]
    config = family.config.from_dict(data)
    with torch.device("meta"):
        model = family.tasks["causal-lm"](config)
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    wanted = transformers.AutoConfig.for_model(**data).to_dict()
    mine = transformers.AutoConfig.for_model(**config.to_dict()).to_dict()
    differing = {key: mine[key] for key in mine if mine[key] != wanted.get(key)}
    assert differing in ({}, {"head_dim": 128})  # Mixtral's, which theirs leaves to be computed
    # windows: in every layer, in none, or in all but every so manieth
    windows = {layer.attention.window for layer in model.model.layers}
    local = options.get("sliding_window") if not name.startswith("Qwen") else None
    assert windows == ({local, None} if "gemma" in name else {local})

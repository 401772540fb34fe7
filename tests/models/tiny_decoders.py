"""Tiny random Llamas, Gemmas and Mixtrals of ``transformers``, and their relatives."""

import torch
import transformers
from tiny_hf import positions

MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
LISTS = {"short_factor": [1.0, 1.1, 1.3], "long_factor": [1.0, 2.0, 4.5]}
STRETCHED = {"original_max_position_embeddings": 16, "rope_theta": 500.0}
# Texts of these tests have up to 40 tokens: far beyond 16.
ROPES = {
    "linear": {"rope_type": "linear", "factor": 2.5, "rope_theta": 500.0},
    "dynamic": {"rope_type": "dynamic", "factor": 1.7, "rope_theta": 500.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, **STRETCHED},
    "yarn-all-options": {
        "rope_type": "yarn", "factor": 4.0, **STRETCHED, "truncate": False, "beta_fast": 3.0,
        "beta_slow": 0.5, "mscale": 1.3, "mscale_all_dim": 0.7,
    },
    "longrope": {"rope_type": "longrope", "factor": 4.0, **STRETCHED, **LISTS},
    "llama3": {
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        **STRETCHED,
    },
    "proportional": {
        "rope_type": "proportional", "factor": 2.0, "partial_rotary_factor": 0.7,
        "rope_theta": 500.0,
    },
}  # fmt: skip
GLOBAL = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 900.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}
LLAMAS = {
    "llama": ("Llama", {}),
    "llama-tied-biased-gelu": (
        "Llama",
        {"tie_word_embeddings": True, "num_key_value_heads": 2, "attention_bias": True,
         "mlp_bias": True, "hidden_act": "gelu", "pad_token_id": 0},
    ),
    "llama-one-kv-head": ("Llama", {"num_key_value_heads": 1, "head_dim": 10, "hidden_size": 20}),
    "mistral-window": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 5, "head_dim": 8}),
    "mistral-no-window": ("Mistral", {"num_key_value_heads": 4, "sliding_window": None}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2-window": (
        "Qwen2",
        {"num_hidden_layers": 3, "num_key_value_heads": 1, "use_sliding_window": True,
         "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 10, "pad_token_id": 3}),
    "qwen3-mixed": (
        "Qwen3",
        {"num_hidden_layers": 3, "num_key_value_heads": 4, "head_dim": 4, "attention_bias": True,
         "use_sliding_window": True, "sliding_window": 6, "layer_types": MIXED},
    ),
}  # fmt: skip
for _name, _parameters in ROPES.items():
    _trained = 16 if _name == "dynamic" else 64
    LLAMAS[f"llama-{_name}"] = (
        "Llama",
        {"num_key_value_heads": 2, "rope_parameters": _parameters,
         "max_position_embeddings": _trained},
    )  # fmt: skip
GEMMA = {"head_dim": 6, "num_key_value_heads": 2, "query_pre_attn_scalar": 9, "sliding_window": 5}
GEMMAS = {
    "gemma2": ("Gemma2", {**GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}),
    "gemma2-mixed-untied": (
        "Gemma2",
        {**GEMMA, "num_hidden_layers": 3, "layer_types": MIXED, "num_key_value_heads": 1,
         "attn_logit_softcapping": 2.0, "tie_word_embeddings": False, "head_dim": 10},
    ),
    "gemma2-uncapped": (
        "Gemma2",
        {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None,
         "attention_bias": True, "sliding_window": 50, "hidden_activation": "silu"},
    ),
    "gemma3": ("Gemma3", {**GEMMA, "num_hidden_layers": 3, "layer_types": MIXED}),
    "gemma3-two-ropes": (
        "Gemma3",
        {**GEMMA, "num_hidden_layers": 3, "layer_types": MIXED, "rope_parameters": GLOBAL,
         "num_key_value_heads": 4, "head_dim": 4, "attention_bias": True},
    ),
    "gemma3-capped-untied": (
        "Gemma3",
        {**GEMMA, "num_key_value_heads": 1, "head_dim": 10, "final_logit_softcapping": 5.0,
         "tie_word_embeddings": False, "pad_token_id": None},
    ),
}  # fmt: skip
MIXTRALS = {
    "mixtral": ("Mixtral", {"num_key_value_heads": 2, "num_local_experts": 4}),
    "mixtral-balanced": (
        "Mixtral",
        {"num_key_value_heads": 1, "num_local_experts": 5, "num_experts_per_tok": 3,
         "output_router_logits": True, "router_aux_loss_coef": 0.3, "head_dim": 8,
         "pad_token_id": 2},
    ),
    "mixtral-window-one-expert": (
        "Mixtral",
        {"num_key_value_heads": 4, "num_local_experts": 3, "num_experts_per_tok": 1,
         "sliding_window": 4, "tie_word_embeddings": True, "hidden_act": "gelu"},
    ),
    "mixtral-yarn-all-experts": (
        "Mixtral",
        {"num_key_value_heads": 2, "num_local_experts": 3, "num_experts_per_tok": 3,
         "rope_parameters": ROPES["yarn"], "output_router_logits": True,
         "router_aux_loss_coef": 1.0, "head_dim": 6},  # theirs needs it said here
    ),
}  # fmt: skip
DECODERS = LLAMAS | GEMMAS | MIXTRALS
ONE_EACH = (
    "llama", "mistral-window", "qwen2-window", "qwen3-mixed", "gemma2", "gemma3",
    "mixtral-balanced",
)  # fmt: skip
BACKENDS = {"sdpa": "torch", "eager": "eager"}


def impls(name):
    """The attention implementations that ``transformers`` has for a case: Gemma 2 has no SDPA."""
    return ["eager"] if DECODERS[name][0] == "Gemma2" else ["sdpa", "eager"]


CASES = [(name, impl) for name in DECODERS for impl in impls(name)]


def hf_config(name, **more):
    """The config of a case; further options go over it."""
    family, options = DECODERS[name]
    sizes = {"vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 20, "max_position_embeddings": 64, "rms_norm_eps": 1e-4}
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": None}
    cls = getattr(transformers, f"{family}TextConfig" if family == "Gemma3" else f"{family}Config")
    return cls(**{**sizes, **special, **options, **more})


def hf_decoder(name, *, seed=0, dropout=0.0, impl="sdpa", **more):
    """A decoder of ``transformers`` with random weights, in evaluation mode.

    Every parameter is random, norms and biases too: at their own start a swapped name goes unseen.
    """
    options = {"attn_implementation": impl, "attention_dropout": dropout, **more}
    if DECODERS[name][0] == "Gemma2" and impl == "sdpa":
        options.pop("attn_implementation")
    torch.manual_seed(seed)
    cls = getattr(transformers, f"{DECODERS[name][0]}ForCausalLM")
    model = cls(hf_config(name, **options)).eval()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            is_factor = "norm" in parameter_name and "Gemma" not in cls.__name__
            parameter.normal_(1.0 if is_factor else 0.0, 0.3)
    return model


def hf_run(model, ids, mask, **options):
    """Their forward with positions counted as their ``generate`` counts them.

    Without a cache: with one, keys and values lie differently in memory, which costs a rounding.
    """
    return model(ids, attention_mask=mask, position_ids=positions(mask), use_cache=False, **options)

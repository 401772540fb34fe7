"""Small models of ``transformers`` with random weights, and ragged texts."""

import torch
import transformers

DECODER = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 40, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": None, "head_dim": 6,
}  # fmt: skip
MODELS = {
    "bert": ("Bert", "BertModel", {
        "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 24}),
    "gpt2": ("GPT2", "GPT2LMHeadModel", {
        "vocab_size": 53, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 24,
        "bos_token_id": 1, "eos_token_id": 1}),
    "llama": ("Llama", "LlamaForCausalLM", DECODER),
    "gemma2": ("Gemma2", "Gemma2ForCausalLM", {
        **DECODER, "head_dim": 8, "query_pre_attn_scalar": 9, "sliding_window": 5,
        "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}),
    "mixtral": ("Mixtral", "MixtralForCausalLM", {
        **DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}),
}  # fmt: skip


def small(name, seed=0):
    """One of ``MODELS`` in evaluation mode."""
    family, cls, options = MODELS[name]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{family}Config")(**options)
    model = getattr(transformers, cls)(config).eval().requires_grad_(False)
    for parameter_name, parameter in model.named_parameters():
        is_norm = parameter.dim() == 1 and parameter_name.endswith("weight")
        parameter.normal_(1.0 if is_norm and family != "Gemma2" else 0.0, 0.3)
    return model


def ids_and_mask(side="right", lengths=(9, 4, 7), seed=0):
    """Random ids ``(B, T)`` and their mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(0, 53, (len(lengths), longest), generator=generator)
    counts, places = torch.tensor(lengths)[:, None], torch.arange(longest)[None]
    return ids, (places < counts if side == "right" else places >= longest - counts).long()

"""Tiny random GPT-2s of ``transformers`` whose texts do not repeat one token, and prompts."""

import torch
import transformers

CONFIGS = {
    "plain": {},
    "one-layer": {"n_layer": 1, "n_head": 1},
    "odd-sizes": {"n_embd": 21, "n_head": 3},
    "deep": {"n_layer": 5, "n_embd": 12, "n_head": 6},
    "untied": {"tie_word_embeddings": False},
    "inverse-scale": {"scale_attn_by_inverse_layer_idx": True},
}


def hf_gpt2(config="plain", seed=0, **more):
    sizes = {"vocab_size": 53, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 40}
    special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    torch.manual_seed(seed)
    settings = transformers.GPT2Config(**{**sizes, **special, **CONFIGS[config], **more})
    model = transformers.GPT2LMHeadModel(settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "ln_" in name and name.endswith("weight")
            # strong positions: a tied random model would repeat its last token for ever
            parameter.normal_(1.0 if is_norm else 0.0, 1.0 if "wpe" in name else 0.3)
    return model


def prompts(lengths, seed=0):
    """Random ids padded on the left with 0, and the mask."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(1, 53, (len(lengths), longest), generator=generator)
    mask = (torch.arange(longest)[None] >= longest - torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask

"""A GGUF file's tensors under Hugging Face's names and in their layout."""

import re

from torch import Tensor

from minift.errors import InputError
from minift.models.gguf.reader import GGUF

OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
IN_CONFIG = "rope_freqs.weight"  # the config says the same


def tensors_of(file: GGUF, config: dict[str, object]) -> dict[str, Tensor]:
    """All tensors in float32, by Hugging Face's names.

    Args:
        config: what ``config_of(file)`` gives.

    Raises:
        InputError: a tensor whose name is not known, or heads that do not divide its rows.
    """
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    interleaved = config["model_type"] == "llama"
    tensors = {}
    for name in file.tensors:
        if name == IN_CONFIG:
            continue
        hf_name, value = _hf_name(file, name), file.tensor(name)
        part = name.split(".")[-2]
        if interleaved and part in heads:
            value = _halves(value, heads[part], f"{file.path}: {name}")
        tensors[hf_name] = value
    return tensors


def _hf_name(file: GGUF, name: str) -> str:
    match = re.fullmatch(r"(?:blk\.(0|[1-9]\d*)\.)?(\w+)\.(weight|bias)", name)
    known = (OUTSIDE if match[1] is None else IN_LAYER) if match else {}
    if match is None or match[2] not in known:
        names = ", ".join([*OUTSIDE, *(f"blk.N.{part}" for part in IN_LAYER)])
        raise InputError(f"{file.path}: tensor {name!r:.80} is not known; right: {names}")
    layer = "" if match[1] is None else f"model.layers.{match[1]}."
    return f"{layer}{known[match[2]]}.{match[3]}"


def _halves(value: Tensor, heads: object, what: str) -> Tensor:
    """Rows of q or k from RoPE's pairs to RoPE's halves.

    RoPE turns pairs of features of a head. llama.cpp's Llama pairs neighbours, 2i and 2i + 1;
    Hugging Face pairs i and i + D / 2. The rows are the same, in another order.
    """
    rows = value.shape[0]
    if type(heads) is not int or heads < 1 or rows % (2 * heads):
        raise InputError(f"{what} has {rows} rows; right: an even number for each of {heads} heads")
    pairs = value.view(heads, rows // heads // 2, 2, *value.shape[1:])  # (H, D/2, 2, …)
    return pairs.transpose(1, 2).reshape(value.shape)

"""The clinic's ward for Llama, its relatives, Gemma and T5."""

from unittest.mock import patch

import torch
import torch.nn.functional as F
from clinic import SIZES, Case, with_attention, with_forward, with_weight, without_bias

from minift.layers import experts
from minift.layers.rotary import Rope, rotate
from minift.models import decoder, t5_stack

LLAMA = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 40, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": None, "head_dim": 6,
}  # fmt: skip
GEMMA = {**LLAMA, "query_pre_attn_scalar": 9, "sliding_window": 5, "head_dim": 8}
SIZES |= {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": {**LLAMA, "sliding_window": 4},
    "Qwen2ForCausalLM": {k: v for k, v in LLAMA.items() if k != "head_dim"},
    "Qwen3ForCausalLM": LLAMA,
    "Gemma2ForCausalLM": {**GEMMA, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0},
    "Gemma3ForCausalLM": GEMMA,
    "T5ForConditionalGeneration": {
        "vocab_size": 53,
        "d_model": 24,
        "d_kv": 8,
        "d_ff": 40,
        "num_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
        "decoder_start_token_id": 0,
    },
    "MixtralForCausalLM": {**LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2},
}


def rotate_neighbours(x, rotation):
    """Features 2j and 2j + 1 as a pair, where Llama has j and j + D/2."""
    halves = torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1)
    first, second = rotate(halves, rotation).chunk(2, dim=-1)
    return torch.stack([first, second], dim=-1).flatten(-2)


def rotate_backwards(x, rotation):
    cos, sin = rotation
    return rotate(x, (cos, -sin))


def tiled(x, heads):
    return x.repeat(1, heads // x.shape[1], 1, 1)


def tiled_attention(q, k, v, **options):
    from minift.layers.attention import attention

    return attention(q, tiled(k, q.shape[1]), tiled(v, q.shape[1]), **options)


def rotate_queries_only():
    """Every second call is for the keys."""
    calls = []

    def wrong(x, rotation):
        calls.append(x)
        return rotate(x, rotation) if len(calls) % 2 else x

    return wrong


def gguf_rows(weight):
    """Rows of each head as GGUF files have them: neighbours instead of halves."""
    return weight.view(-1, 2, 3, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def slower(rope, length):
    return rope.rope_theta ** (-torch.arange(rope.head_dim // 2) / rope.head_dim)


def other_base(rope, length):
    return 500000.0 ** (-torch.arange(0, rope.head_dim, 2) / rope.head_dim)


def gated_the_wrong_way(block, x):
    return block.down(block.gate(x) * block.act(block.up(x)))


def layer_norm(norm, x):
    return F.layer_norm(x, x.shape[-1:], norm.weight, None, norm.eps)


def plain_gain(norm, x):
    return F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)


def offset_gain(norm, x):
    return F.rms_norm(x, x.shape[-1:], 1 + norm.weight, norm.eps)


def shares_as_they_are(logits, k):
    return logits.softmax(dim=-1).topk(k, dim=-1)


def parallel(layer, x, run):
    y = layer.attention(layer.norm_1(x), run)
    return x + y + layer.feed_forward(layer.norm_2(x))


def with_forward_head(model):
    model._head = lambda x: F.linear(x, model.shared.weight)


L, M, Q2, Q3 = (f"{name}ForCausalLM" for name in ("Llama", "Mistral", "Qwen2", "Qwen3"))
G2, G3, MOE = (f"{name}ForCausalLM" for name in ("Gemma2", "Gemma3", "Mixtral"))
ATTENTION, T5 = "model.layers.0.attention", "T5ForConditionalGeneration"
DECODER_CASES = [
    Case("RoPE of neighbours", L, lambda m: patch.object(decoder, "rotate", rotate_neighbours),
         ATTENTION, "layout of RoPE halves"),
    Case("RoPE backwards", L, lambda m: patch.object(decoder, "rotate", rotate_backwards),
         ATTENTION, "RoPE direction"),
    Case("no RoPE", L, lambda m: patch.object(decoder, "rotate", lambda x, r: x),
         ATTENTION, "RoPE missing"),
    Case("keys without RoPE", L, lambda m: patch.object(decoder, "rotate", rotate_queries_only()),
         ATTENTION, "RoPE missing"),
    Case("RoPE of base 500,000", L, lambda m: patch.object(Rope, "frequencies", other_base),
         ATTENTION, "RoPE base"),
    Case("RoPE frequencies −j/D", L, lambda m: patch.object(Rope, "frequencies", slower),
         ATTENTION, "RoPE frequencies"),
    Case("rows as in GGUF", L, lambda m: with_weight(m.model.layers[1].attention.q, gguf_rows),
         "model.layers.1.attention.q", "q/k permutation"),
    Case("key heads in turn", L, lambda m: patch.object(decoder, "attention", tiled_attention),
         ATTENTION, "head mapping"),
    Case("RMSNorm epsilon 1e-3", L, lambda m: setattr(m.model.layers[1].norm_2, "eps", 1e-3),
         "model.layers.1.norm_2", "norm epsilon"),
    Case("LayerNorm for RMSNorm", L, lambda m: with_forward(m.model.layers[0].norm_1, layer_norm),
         "model.layers.0.norm_1", "norm formula"),
    Case("gain 1 + w", L, lambda m: with_forward(m.model.layers[2].norm_1, offset_gain),
         "model.layers.2.norm_1", "norm gain"),
    Case("the gate on the other product", L,
         lambda m: with_forward(m.model.layers[1].feed_forward, gated_the_wrong_way),
         "model.layers.1.feed_forward", "gate and up exchanged"),
    Case("gelu for silu", L,
         lambda m: setattr(m.model.layers[0].feed_forward, "act", F.gelu),
         "model.layers.0.feed_forward", "activation variant"),
    Case("attention and feed-forward side by side", L,
         lambda m: with_forward(m.model.layers[1], parallel),
         "model.layers.1", "missing term"),
    Case("the head not tied", L, lambda m: with_weight(m.lm_head, lambda w: m.model.token.weight),
         "logits", "tied weights"),
    Case("no window", M, lambda m: with_attention(decoder, window=None), ATTENTION, "window"),
    Case("a window one too wide", M, lambda m: with_attention(decoder, window=5),
         ATTENTION, "window"),
    Case("no bias for the queries", Q2, lambda m: without_bias(m.model.layers[1].attention.q),
         "model.layers.1.attention.q", "missing bias"),
    Case("queries not normed", Q3,
         lambda m: with_forward(m.model.layers[0].attention.q_norm, lambda n, x: x),
         "model.layers.0.attention.q_norm", "norm skipped"),
    Case("no soft-cap", G2, lambda m: with_attention(decoder, softcap=None),
         ATTENTION, "soft-cap"),
    Case("embeddings not scaled", G3, lambda m: setattr(m.model, "embedding_scale", None),
         "model.token", "factor"),
    Case("gain w for 1 + w", G3, lambda m: with_forward(m.model.layers[1].norm_after_1, plain_gain),
         "model.layers.1.norm_after_1", "norm gain"),
    Case("scale by 1/√D", G3, lambda m: with_attention(decoder, scale=8**-0.5),
         ATTENTION, "scale"),
    Case("shares of experts below 1", MOE,
         lambda m: patch.object(experts, "route", shares_as_they_are),
         "model.layers.0.feed_forward.experts", "factor for each token"),
    Case("T5 with 1/√D", T5, lambda m: with_attention(t5_stack, scale=8**-0.5),
         "encoder.layers.0.attention", "scale", labels=True),
    Case("T5 without its relative bias", T5, lambda m: with_attention(t5_stack, bias=None),
         "encoder.layers.0.attention", "relative bias", labels=True),
    Case("T5 with gelu for relu", T5,
         lambda m: setattr(m.decoder.layers[1].feed_forward, "act", F.gelu),
         "decoder.layers.1.feed_forward", "activation variant", labels=True),
    Case("T5's logits not scaled", T5,
         lambda m: with_forward_head(m), "logits", "factor", labels=True),
]  # fmt: skip

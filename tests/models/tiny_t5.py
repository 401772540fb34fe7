"""Tiny random T5 models of ``transformers``, and ragged pairs of source and target."""

import torch
import transformers
from tiny_hf import _random, ragged

T5_CONFIGS = {
    "plain": {},
    "one-layer-one-head": {"num_layers": 1, "num_heads": 1, "d_kv": 24},
    "inner-is-not-hidden": {"d_model": 21, "num_heads": 3, "d_kv": 5, "d_ff": 13},
    "deeper-decoder": {"num_layers": 1, "num_decoder_layers": 3},
    "deeper-encoder": {"num_layers": 3, "num_decoder_layers": 1},
    "version-1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "gated-silu-few-buckets": {
        "feed_forward_proj": "gated-silu", "relative_attention_num_buckets": 4,
        "relative_attention_max_distance": 5,
    },
    "plain-gelu-eps": {"feed_forward_proj": "gelu", "layer_norm_epsilon": 1e-3},
}  # fmt: skip


def hf_t5(name="plain", *, seed=0, dropout=0.0, impl="sdpa", own_head=False, **more):
    """A T5 of ``transformers`` with random weights, in evaluation mode.

    ``own_head``: as a checkpoint of version 1.1 comes out of ``from_pretrained``, its head not the
    table of embeddings.
    """
    sizes = {"vocab_size": 53, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2}
    sizes |= {"num_heads": 4, "relative_attention_num_buckets": 8, "dropout_rate": dropout}
    sizes |= {"relative_attention_max_distance": 12, "decoder_start_token_id": 0}
    options = {**sizes, **T5_CONFIGS[name], **more}
    config = transformers.T5Config(**options, attn_implementation=impl)
    model = _random(transformers.T5ForConditionalGeneration, config, seed)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "layer_norm" in path:
                parameter.add_(1.0)
    if own_head:
        head = torch.randn(53, config.d_model, generator=torch.Generator().manual_seed(seed))
        model.lm_head.weight = torch.nn.Parameter(0.2 * head)
    return model


def pair(source=(7, 12, 3), target=(6, 2, 9), side="right", seed=0):
    """Ids and mask of a source padded on ``side``, and labels with −100 at the end.

    No id is the padding's, 0, or EOS, 1.
    """
    ids, mask = ragged(source, side, vocab=51, seed=seed)
    labels, real = ragged(target, "right", vocab=51, seed=seed + 100)
    ids = (ids + 2).masked_fill(mask == 0, 0)
    return ids, mask, (labels + 2).masked_fill(real == 0, -100)

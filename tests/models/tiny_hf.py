"""Tiny random Hugging Face models, ragged batches, and the comparison used by the model tests."""

import torch
import transformers

from minift.models.loading import hf_names, to_hf_layout

# Every parameter is random, norms and biases too: at Hugging Face's own start all norms are 1 and
# all biases 0, so that a swapped name would go unseen.
BERT_CONFIGS = {
    "plain": {},
    "one-layer-one-head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "odd-sizes": {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 13},
    "deep": {"num_hidden_layers": 5, "hidden_size": 12, "num_attention_heads": 6},
    "relu-one-type": {"hidden_act": "relu", "type_vocab_size": 1},
    "gelu_new-no-pad": {"hidden_act": "gelu_new", "pad_token_id": None, "layer_norm_eps": 1e-5},
    "silu-pad-3": {"hidden_act": "silu", "pad_token_id": 3, "classifier_dropout": 0.3},
    "tanh-wide": {"hidden_act": "gelu_pytorch_tanh", "intermediate_size": 90, "type_vocab_size": 5},
}
GPT2_CONFIGS = {
    "plain": {},
    "one-layer-one-head": {"n_layer": 1, "n_head": 1},
    "odd-sizes": {"n_embd": 21, "n_head": 3, "n_inner": 13},
    "deep": {"n_layer": 5, "n_embd": 12, "n_head": 6},
    "untied-relu": {"tie_word_embeddings": False, "activation_function": "relu"},
    "inverse-layer-scale": {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3},
    "unscaled-gelu": {"scale_attn_weights": False, "activation_function": "gelu"},
}
VIT_CONFIGS = {
    "plain": {},
    "one-layer-one-head": {"num_hidden_layers": 1, "num_attention_heads": 1},
    "odd-sizes": {"hidden_size": 21, "num_attention_heads": 3, "intermediate_size": 13},
    "oblong": {"image_size": [10, 15], "patch_size": [2, 5], "num_channels": 1},
    "one-patch-no-bias": {"patch_size": 12, "qkv_bias": False, "layer_norm_eps": 1e-3},
    "pixels-left-over": {"patch_size": 5, "hidden_act": "gelu_new", "num_channels": 2},
    "wide-pooler": {"pooler_output_size": 31, "pooler_act": "gelu", "num_hidden_layers": 4},
}
VIT_CLASSES = ("ViTModel", "ViTForImageClassification")
BERT_CLASSES = ("BertModel", "BertForTokenClassification")
UNTIED = {"tie_word_embeddings": False}
SINGLE, MULTI = "single_label_classification", "multi_label_classification"
# class, and what its config needs; the losses of each are another computation
BERT_HEADS = {
    "pretraining": ("BertForPreTraining", {}),
    "pretraining-untied": ("BertForPreTraining", UNTIED),
    "masked-lm": ("BertForMaskedLM", {}),
    "masked-lm-untied": ("BertForMaskedLM", UNTIED),
    "next-sentence": ("BertForNextSentencePrediction", {}),
    "texts": ("BertForSequenceClassification", {}),
    "texts-single": ("BertForSequenceClassification", {"problem_type": SINGLE}),
    "texts-multi": ("BertForSequenceClassification", {"problem_type": MULTI}),
    "texts-multi-guessed": ("BertForSequenceClassification", {}),
    "texts-regression": ("BertForSequenceClassification", {"problem_type": "regression"}),
    "texts-one-number": ("BertForSequenceClassification", {"labels": 1}),
}
GPT2_HEADS = {
    name: ("GPT2ForSequenceClassification", {"pad_token_id": 0, **options})
    for name, (_, options) in BERT_HEADS.items()
    if name.startswith("texts")
}


def hf_bert(name="plain", cls="BertModel", *, seed=0, dropout=0.0, impl="sdpa", labels=5, **more):
    """A BERT of ``transformers`` with random weights, in evaluation mode."""
    sizes = {"vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": 32}
    # different probabilities, so that one in the place of another would be seen
    drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 2 * dropout}
    options = {**sizes, **drops, **BERT_CONFIGS[name], **more}
    config = transformers.BertConfig(**options, num_labels=labels, attn_implementation=impl)
    return _random(getattr(transformers, cls), config, seed)


def hf_gpt2(
    name="plain", cls="GPT2LMHeadModel", *, seed=0, dropout=0.0, impl="sdpa", labels=5, **more
):
    """A GPT-2 of ``transformers`` with random weights, in evaluation mode."""
    sizes = {"vocab_size": 53, "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32}
    sizes |= {"resid_pdrop": dropout, "embd_pdrop": 2 * dropout, "attn_pdrop": 3 * dropout}
    special = {"bos_token_id": 1, "eos_token_id": 1}
    options = {**sizes, **special, **GPT2_CONFIGS[name], **more}
    config = transformers.GPT2Config(**options, num_labels=labels, attn_implementation=impl)
    return _random(getattr(transformers, cls), config, seed)


def hf_vit(name="plain", cls="ViTModel", *, seed=0, dropout=0.0, impl="sdpa", labels=5):
    """A ViT of ``transformers`` with random weights, in evaluation mode."""
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 40, "image_size": 12, "patch_size": 4}
    sizes |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": 2 * dropout}
    options = {**sizes, **VIT_CONFIGS[name]}
    config = transformers.ViTConfig(**options, num_labels=labels, attn_implementation=impl)
    return _random(getattr(transformers, cls), config, seed)


def images(config, count=3, seed=0):
    """Random pixels of the shape that a ViT's config asks for."""
    sides = config.image_size
    sides = (sides, sides) if isinstance(sides, int) else sides
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, config.num_channels, *sides, generator=generator)


def _random(cls, config, seed):
    torch.manual_seed(seed)
    model = cls(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "layernorm" in name.lower() or "ln_" in name
            scale = is_norm and name.endswith("weight")
            parameter.normal_(1.0 if scale else 0.0, 0.2)
    return model


def ragged(lengths, side="right", *, vocab=53, seed=0):
    """Random ids ``(B, max)``, the attention mask, and labels −100 on padding."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    ids = torch.randint(0, vocab, (len(lengths), longest), generator=generator)
    places = torch.arange(longest)[None]
    counts = torch.tensor(lengths)[:, None]
    mask = (places < counts if side == "right" else places >= longest - counts).long()
    return ids, mask


def head_labels(name, ids, mask, seed=0):
    """Labels for the head ``name``: the arguments to add, in ``transformers``' names."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(ids)
    pairs = torch.randint(0, 2, (batch,), generator=generator)
    words = ids.masked_fill((mask == 0) | (torch.rand(ids.shape, generator=generator) > 0.4), -100)
    words[0, mask[0].argmax()] = 7  # never none at all
    if name.startswith("pretraining"):
        return {"labels": words, "next_sentence_label": pairs}
    labels = {
        "texts": torch.randint(0, 5, (batch,), generator=generator),
        "texts-multi": torch.randint(0, 2, (batch, 5), generator=generator).float(),
        "texts-regression": torch.randn(batch, 5, generator=generator),
        "texts-one-number": torch.randn(batch, generator=generator),
        "masked-lm": words,
        "next-sentence": pairs,
    }
    stem = name.removesuffix("-untied").removesuffix("-single").removesuffix("-guessed")
    return {"labels": labels[stem]}


def positions(mask):
    """What ``transformers.generate`` hands to GPT-2 as ``position_ids``."""
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)


def assert_close(ours, theirs, what=""):
    """Within 1e-6 · max|x| + 2e-6.

    Measured over all the tests of this folder: 0.0, forward and backward, dropout included (for
    GPT-2 where theirs runs without its cache, which lays keys and values out otherwise in memory:
    else up to 9e-7). Their own eager and SDPA differ by up to 3e-6.
    """
    assert ours.shape == theirs.shape, what
    difference = float((ours - theirs).detach().abs().max())
    tolerance = 1e-6 * float(theirs.detach().abs().max()) + 2e-6
    assert difference <= tolerance, f"{what}: {difference:.2e} > {tolerance:.2e}"


def assert_hidden_close(ours, theirs, mask):
    """Every layer's hidden states, real tokens only."""
    assert len(ours) == len(theirs)
    for layer, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        assert_close(mine[mask != 0], other[mask != 0], f"hidden states {layer}")


def assert_gradients_close(ours, theirs):
    """The gradient of every parameter, and no parameter on one side only."""
    names, expected = hf_names(ours), dict(theirs.named_parameters())
    assert sorted(names.values()) == sorted(expected)
    for name, parameter in ours.named_parameters():
        wanted = expected[names[name]].grad
        if wanted is None or parameter.grad is None:
            assert parameter.grad is None and wanted is None, name
            continue
        assert_close(to_hf_layout(ours, name, parameter.grad), wanted, name)


def assert_same_weights(ours, theirs, tolerance=None):
    """Every parameter, exactly or within ``tolerance``."""
    names, expected = hf_names(ours), dict(theirs.named_parameters())
    assert sorted(names.values()) == sorted(expected)
    for name, parameter in ours.named_parameters():
        difference = to_hf_layout(ours, name, parameter) - expected[names[name]]
        assert float(difference.detach().abs().max()) <= (tolerance or 0.0), name

"""The clinic: models with one mistake each, and what ``diagnose`` has to say about them.

A ``Case`` breaks one of our models by one line, as people break theirs; ``module`` and ``cause``
are what the diagnosis must name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from minift.layers.activation import activation
from minift.models import bert, gpt2

BERT = {
    "vocab_size": 53, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 40, "max_position_embeddings": 24,
}  # fmt: skip
GPT2 = {
    "vocab_size": 53, "n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 24,
    "bos_token_id": 1, "eos_token_id": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A mistake; ``break_`` changes a model in place or gives a context in which it is wrong."""

    name: str
    model: str
    """The class of ``transformers``."""
    break_: Callable
    module: str
    cause: str
    options: dict = field(default_factory=dict)
    labels: bool = False
    side: str = "right"


@contextmanager
def broken(case: Case, model: nn.Module) -> Iterator[nn.Module]:
    """The model with its mistake, for as long as the block lasts."""
    context = case.break_(model)
    with context if context is not None else nullcontext():
        yield model


def hf_model(case: Case, seed: int = 0):
    """A small model of ``transformers`` in which every parameter matters."""
    cls = getattr(transformers, case.model)
    config = cls.config_class(**SIZES[case.model], **case.options)
    torch.manual_seed(seed)
    model = cls(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = parameter.dim() == 1 and name.endswith("weight")
            parameter.normal_(1.0 if is_norm else 0.0, 0.3)
    return model


def batch(side: str = "right", seed: int = 0):
    """Ragged sequences and their mask."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 53, (3, 11), generator=generator)
    counts, places = torch.tensor([11, 4, 7])[:, None], torch.arange(11)[None]
    return ids, (places < counts if side == "right" else places >= 11 - counts).long()


# ---- ways to break a model


def with_attention(family, **changes):
    """The family's attention, called with other arguments."""
    real = family.attention

    def wrong(q, k, v, **options):
        return real(q, k, v, **{**options, **changes})

    return patch.object(family, "attention", wrong)


def with_attention_of(family, wrong):
    """Another function in the place of the family's attention."""
    return patch.object(family, "attention", wrong)


def with_forward(module, forward):
    """An instance with another ``forward``; it gets the module first."""
    module.forward = lambda *args, **kwargs: forward(module, *args, **kwargs)


def with_weight(module, change):
    with torch.no_grad():
        module.weight.copy_(change(module.weight.clone()))


def without_bias(module):
    module.bias = None


def eager(q, k, v, *, mask=None, causal=False, scale=None, dim=-1, **_):
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        past = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
        mask = past if mask is None else mask & past
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(q.dtype).min)
    return scores.softmax(dim) @ v


def in_bfloat16(module, x):
    weight, bias = module.weight.bfloat16(), module.bias.bfloat16()
    return F.linear(x.bfloat16(), weight, bias).to(x.dtype)


# ---- BERT


def bert_no_residual(attention, x, mask, want):
    q, k, v = (bert.split_heads(part(x), attention.heads)
               for part in (attention.query, attention.key, attention.value))  # fmt: skip
    y = attention.output(bert.merge_heads(bert.attention(q, k, v, mask=mask)))
    return attention.norm(y), None


def bert_pre_norm(layer, x, mask, want):
    attention = layer.attention
    normed = attention.norm(x)
    q, k, v = (bert.split_heads(part(normed), attention.heads)
               for part in (attention.query, attention.key, attention.value))  # fmt: skip
    x = x + attention.output(bert.merge_heads(bert.attention(q, k, v, mask=mask)))
    return x + layer.feed_forward(layer.norm(x)), None


def bert_no_token_type(embeddings, ids, types):
    x = embeddings.word(ids) + embeddings.position(torch.arange(ids.shape[1])[None])
    return embeddings.norm(x)


def bert_shifted_positions(embeddings, ids, types):
    places = torch.arange(ids.shape[1])[None] + 2
    x = embeddings.word(ids) + embeddings.token_type(torch.zeros_like(ids))
    return embeddings.norm(x + embeddings.position(places))


def unbiased_norm(norm, x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


BERT_CASES = [
    Case("no 1/√D", "BertModel", lambda m: with_attention(bert, scale=1.0),
         "layers.0.attention", "scale"),
    Case("padding not masked", "BertModel", lambda m: with_attention(bert, mask=None),
         "layers.0.attention", "mask"),
    Case("a causal mask in an encoder", "BertModel", lambda m: with_attention(bert, causal=True),
         "layers.0.attention", "mask"),
    Case("softmax over the queries", "BertModel",
         lambda m: with_attention_of(bert, lambda *a, **k: eager(*a, **k, dim=-2)),
         "layers.0.attention", "softmax dimension"),
    Case("heads not merged", "BertModel",
         lambda m: patch.object(bert, "merge_heads",
                                lambda x: x.reshape(x.shape[0], x.shape[2], -1)),
         "layers.0.attention", "heads not merged"),
    Case("two heads for four", "BertModel",
         lambda m: setattr(m.layers[1].attention, "heads", 2),
         "layers.1.attention", "number of heads"),
    Case("norm epsilon 1e-3", "BertModel",
         lambda m: setattr(m.layers[1].norm, "eps", 1e-3),
         "layers.1.norm", "norm epsilon"),
    Case("variance over n − 1", "BertModel",
         lambda m: with_forward(m.layers[0].attention.norm, unbiased_norm),
         "layers.0.attention.norm", "norm variance"),
    Case("gelu_new for gelu", "BertModel",
         lambda m: setattr(m.layers[2].feed_forward, "act", activation("gelu_new")),
         "layers.2.feed_forward", "activation variant"),
    Case("a bias forgotten", "BertModel", lambda m: without_bias(m.layers[1].attention.value),
         "layers.1.attention.value", "missing bias"),
    Case("weight not turned", "BertModel",
         lambda m: with_weight(m.layers[1].attention.output, lambda w: w.T),
         "layers.1.attention.output", "transposed weight"),
    Case("weights of another layer", "BertModel",
         lambda m: with_weight(m.layers[1].feed_forward.up,
                               lambda w: m.layers[0].feed_forward.up.weight),
         "layers.1.feed_forward.up", "weights of another module"),
    Case("positions start at 2", "BertModel",
         lambda m: with_forward(m.embeddings, bert_shifted_positions),
         "embeddings", "position offset"),
    Case("no token types", "BertModel", lambda m: with_forward(m.embeddings, bert_no_token_type),
         "embeddings", "missing term"),
    Case("no residual", "BertModel",
         lambda m: with_forward(m.layers[1].attention, bert_no_residual),
         "layers.1.attention", "residual missing"),
    Case("pre-norm for post-norm", "BertModel",
         lambda m: with_forward(m.layers[1], bert_pre_norm),
         "layers.1", "pre-norm or post-norm"),
    Case("dropout left on", "BertModel",
         lambda m: with_forward(m.layers[1].feed_forward.down,
                                lambda d, x: F.dropout(F.linear(x, d.weight, d.bias), 0.1)),
         "layers.1.feed_forward.down", "dropout left on"),
    Case("a product in bfloat16", "BertModel",
         lambda m: with_forward(m.layers[1].feed_forward.up, in_bfloat16),
         "layers.1.feed_forward.up", "dtype"),
]  # fmt: skip


# ---- GPT-2


def gpt2_normed_residual(layer, x, mask, cache, want):
    normed = layer.norm_1(x)
    x = layer.attention(normed, mask, cache, want)[0] + normed
    return x + layer.feed_forward(layer.norm_2(x)), None


def gpt2_cut_gradient(layer, x, mask, cache, want):
    x = x + layer.attention(layer.norm_1(x), mask, cache, want)[0]
    return x + layer.feed_forward(layer.norm_2(x).detach()), None


@torch.no_grad()
def exchange_k_and_v(product):
    for parameter in (product.weight, product.bias):
        q, k, v = parameter.clone().chunk(3)
        parameter.copy_(torch.cat([q, v, k]))


def untied(model):
    model.lm_head = nn.Linear(24, 53, bias=False)


def head_without_gradient(model):
    model.lm_head = SimpleNamespace(weight=model.transformer.token.weight.detach())


def scaled_embedding(embedding, ids):
    return F.embedding(ids, embedding.weight) * 24**0.5


def plain_positions(padding, total, new, device=None):
    return torch.arange(total - new, total)[None]


def unshifted_loss(model, logits, labels, shape):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


LM = "GPT2LMHeadModel"
GPT2_CASES = [
    Case("no causal mask", LM, lambda m: with_attention(gpt2, causal=False, mask=None),
         "transformer.layers.0.attention", "mask"),
    Case("the next token is seen", LM,
         lambda m: patch.object(gpt2, "causal_mask", lambda q, k, device=None:
                                torch.ones(q, k, dtype=torch.bool).tril(k - q + 1)),
         "transformer.layers.0.attention", "mask"),
    Case("scale by 1/D", LM, lambda m: setattr(m.transformer.layers[1].attention, "scale", 1 / 6),
         "transformer.layers.1.attention", "scale"),
    Case("the layer's scale forgotten", LM,
         lambda m: setattr(m.transformer.layers[2].attention, "scale", 6**-0.5),
         "transformer.layers.2.attention", "scale", {"scale_attn_by_inverse_layer_idx": True}),
    Case("k and v exchanged in the file", LM,
         lambda m: exchange_k_and_v(m.transformer.layers[0].attention.qkv),
         "transformer.layers.0.attention.qkv", "order of q, k, v"),
    Case("gelu for gelu_new", LM,
         lambda m: setattr(m.transformer.layers[1].feed_forward, "act", F.gelu),
         "transformer.layers.1.feed_forward", "activation variant"),
    Case("no final norm", LM, lambda m: setattr(m.transformer, "norm", nn.Identity()),
         "transformer.norm", "norm skipped"),
    Case("a final norm that does nothing", LM,
         lambda m: with_forward(m.transformer.norm, lambda n, x: x),
         "transformer.norm", "norm skipped"),
    Case("RMSNorm for LayerNorm", LM,
         lambda m: with_forward(m.transformer.layers[1].norm_2, lambda n, x:
                                F.rms_norm(x, x.shape[-1:], n.weight, n.eps) + n.bias),
         "transformer.layers.1.norm_2", "norm formula"),
    Case("the head not tied", LM, untied, "logits", "tied weights"),
    Case("embeddings times √C", LM,
         lambda m: with_forward(m.transformer.token, scaled_embedding),
         "transformer.token", "factor"),
    Case("positions count the padding", LM,
         lambda m: patch.object(gpt2, "position_ids", plain_positions),
         "transformer", "positions with padding", side="left"),
    Case("residual from the norm", LM,
         lambda m: with_forward(m.transformer.layers[1], gpt2_normed_residual),
         "transformer.layers.1", "pre-norm or post-norm"),
    Case("loss without the shift", LM,
         lambda m: with_forward_loss(m), "loss", "shift of the labels", labels=True),
    Case("gradient cut off", LM,
         lambda m: with_forward(m.transformer.layers[1], gpt2_cut_gradient),
         "transformer.layers.1", "gradient cut off", labels=True),
    Case("tied head without gradient", LM, head_without_gradient,
         "transformer.token", "tied weights", labels=True),
]  # fmt: skip


def with_forward_loss(model):
    model._loss = lambda logits, labels, shape: unshifted_loss(model, logits, labels, shape)


SIZES = {"BertModel": BERT, LM: GPT2}
CASES = [*BERT_CASES, *GPT2_CASES]

"""The reference of the 2017 model: ``torch.nn.Transformer`` with embedding and tied head."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from minift.models.torch_weights import from_torch
from minift.models.transformer import Transformer, TransformerConfig

VOCAB = 53
CONFIGS = {
    "plain": {},
    "one-layer-one-head": {"num_encoder_layers": 1, "num_decoder_layers": 1, "nhead": 1},
    "odd-sizes": {"d_model": 18, "nhead": 3, "dim_feedforward": 13},
    "uneven-stacks": {"num_encoder_layers": 3, "num_decoder_layers": 1, "layer_norm_eps": 1e-3},
    "gelu-final-norm": {"activation": "gelu", "final_norm": True, "label_smoothing": 0.0},
}


class Reference(nn.Module):
    """The same computation from PyTorch's own modules and functions."""

    def __init__(self, config):
        super().__init__()
        self.config, c = config, config
        kinds = {"dropout": c.dropout, "activation": c.activation, "batch_first": True}
        shape = (c.d_model, c.nhead, c.num_encoder_layers, c.num_decoder_layers, c.dim_feedforward)
        self.body = nn.Transformer(*shape, layer_norm_eps=c.layer_norm_eps, **kinds)
        if not c.final_norm:
            self.body.encoder.norm = self.body.decoder.norm = None
        self.body.encoder.enable_nested_tensor = False
        self.token = nn.Embedding(c.vocab_size, c.d_model)
        for module in self.body.modules():
            if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
                module.dropout.p = c.activation_dropout
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = c.attention_dropout
                # Its output is a view of (T, B, C); dropout would draw in that order.
                module.register_forward_hook(lambda _m, _i, out: (out[0].contiguous(), out[1]))

    def embed(self, ids, mask):
        """√C · token + position; a position's row is written with Python's own sine."""
        width, places = self.config.d_model, (mask.cumsum(-1) - 1).clamp(min=0)
        rows = [[t / 10000 ** (i // 2 * 2 / width) for i in range(width)] for t in range(64)]
        rows = [[(math.sin, math.cos)[i % 2](a) for i, a in enumerate(row)] for row in rows]
        table = torch.tensor(rows, dtype=self.token.weight.dtype)  # (64, C)
        x = self.token(ids) * math.sqrt(width) + table[places]
        return F.dropout(x, self.config.dropout, self.training)

    def forward(self, ids, mask, target, target_mask):
        memory = self.body.encoder(self.embed(ids, mask), src_key_padding_mask=mask == 0)
        causal = torch.ones(target.shape[1], target.shape[1]).triu(1).bool()
        return self.body.decoder(
            self.embed(target, target_mask),
            memory,
            tgt_mask=causal,
            tgt_key_padding_mask=target_mask == 0,
            memory_key_padding_mask=mask == 0,
        )

    def logits_and_loss(self, ids, mask, target, target_mask, labels):
        logits = F.linear(self(ids, mask, target, target_mask), self.token.weight)
        smoothing = self.config.label_smoothing
        loss = F.cross_entropy(logits.mT, labels, label_smoothing=smoothing)
        return logits, loss

    def named(self, tensors):
        """Tensors by our names, from a function of a parameter."""
        theirs = {name: tensors(p) for name, p in self.body.named_parameters()}
        return {"token.weight": tensors(self.token.weight), **from_torch(theirs)}


def pair(name="plain", *, dropout=0.0, seed=0):
    """Our model and the reference with the same random weights, in evaluation mode."""
    sizes = {"vocab_size": VOCAB, "d_model": 24, "nhead": 4, "dim_feedforward": 40}
    sizes |= {"num_encoder_layers": 2, "num_decoder_layers": 2}
    # different probabilities, so that one in the place of another would be seen
    drops = {"dropout": dropout, "attention_dropout": 2 * dropout}
    drops["activation_dropout"] = 3 * dropout
    config = TransformerConfig(**{**sizes, **drops, **CONFIGS[name]})
    torch.manual_seed(seed)
    theirs = Reference(config)
    with torch.no_grad():
        for path, parameter in theirs.named_parameters():
            scale = path.endswith("weight") and "norm" in path
            parameter.normal_(1.0 if scale else 0.0, 0.2)
    ours = Transformer(config)
    ours.load_state_dict(theirs.named(lambda p: p.detach()))
    return ours.eval(), theirs.eval()

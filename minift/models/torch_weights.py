"""Weights of PyTorch's own modules under the names of ours: ``Transformer`` and ``LSTM``."""

import re
from collections.abc import Mapping

from torch import Tensor

from minift.errors import InputError

ATTENTION = {"self_attn": "attention", "multihead_attn": "cross_attention"}
PLAIN = {"linear1": "feed_forward.up", "linear2": "feed_forward.down"}
NORMS = {
    "encoder": {"norm1": "attention.norm", "norm2": "norm"},
    "decoder": {"norm1": "attention.norm", "norm2": "cross_attention.norm", "norm3": "norm"},
}


def from_torch(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``reference.state_dict()``, or the gradients under the same names, as our layers hold them.

    PyTorch glues the weights of queries, keys and values into one ``in_proj`` and numbers its
    norms; the embedding is not part of it.
    """
    ours: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if final := re.fullmatch(r"(encoder|decoder)\.norm\.(\w+)", name):
            ours[f"{final[1]}_norm.{final[2]}"] = value
            continue
        stack, _, layer, rest = name.split(".", 3)
        for path, part in _layer(stack, rest, value).items():
            ours[f"{stack}.{layer}.{path}"] = part
    return ours


def _layer(stack: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """One tensor of a layer: under one name of ours, or cut into three."""
    module, _, leaf = name.partition(".")
    if module not in ATTENTION:
        return {f"{(PLAIN | NORMS[stack])[module]}.{leaf}": value}
    path = ATTENTION[module]
    if leaf.startswith("out_proj."):
        return {f"{path}.output.{leaf.removeprefix('out_proj.')}": value}
    leaf = leaf.removeprefix("in_proj_")  # weight (3C, C) or bias (3C,)
    parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
    return {f"{path}.{part}.{leaf}": piece for part, piece in parts}


def from_torch_lstm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state_dict()`` of a ``torch.nn.LSTM``, or its gradients, as our ``LSTM`` holds them.

    ``weight_ih_l2_reverse`` is layer 2 backwards, the product of its input.
    """
    ours = {}
    for name, value in tensors.items():
        found = re.fullmatch(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?", name)
        if found is None:
            raise InputError(f"tensors: {name} is not a weight of an LSTM; right: no projections")
        product = "input" if found[2] == "ih" else "hidden"
        ours[f"layers.{found[3]}.{int(bool(found[4]))}.{product}.{found[1]}"] = value
    return ours

"""Random starting weights."""

import torch
from torch import nn

from minift.layers.experts import Experts


@torch.no_grad()
def init_weights(module: nn.Module, std: float) -> None:
    """Normal(0, std) weights, zero biases, a zero row for padding; norms start as the identity.

    For use with ``model.apply``. Devlin et al. 2019, appendix A; Hugging Face's
    ``PreTrainedModel._init_weights``, in the same order.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        module.weight.normal_(0.0, std)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Embedding):
        module.weight.normal_(0.0, std)
        if module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
    elif isinstance(module, nn.LayerNorm):
        module.weight.fill_(1.0)
        module.bias.zero_()
    elif isinstance(module, Experts):
        module.gate_up.normal_(0.0, std)
        module.down.normal_(0.0, std)
    elif isinstance(bias := getattr(module, "bias", None), nn.Parameter):  # it stands alone
        bias.zero_()

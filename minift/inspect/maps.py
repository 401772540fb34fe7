"""Where tokens look, layer by layer, and where it all came from."""

import torch
from torch import Tensor, nn

from minift.errors import InputError
from minift.inspect.stack import evaluating


@torch.no_grad()
def attention_maps(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None
) -> Tensor:
    """The attention probabilities of every layer and head, ``(layers, B, H, T, T)``.

    Row i of a map says how much token i takes of each token; it adds up to 1. Computed by the eager
    formula. Hugging Face: ``output_attentions=True`` with ``attn_implementation="eager"``.
    """
    with evaluating(model):
        maps = model(input_ids, attention_mask, output_attentions=True).attentions
    return torch.stack(list(maps))


def rollout(maps: Tensor, residual: float = 0.5) -> Tensor:
    """How much of each input token is in each position after each layer: ``(layers, B, T, T)``.

        Ã_l = r · I + (1 − r) · mean over heads of A_l          rollout_l = Ã_l Ã_{l−1} … Ã_1

    Abnar & Zuidema 2020 (arXiv:2005.00928), section 3: attention is followed down through the
    layers, with the residual connection as attention of a token to itself. Rows add up to 1. It is
    a story about where information may have come from: what values and feed-forward parts did with
    it on the way is left out.

    Args:
        maps: ``(layers, B, H, T, T)``, as ``attention_maps`` gives them.
        residual: r, the share that the residual connection carries.

    Raises:
        InputError: maps of another shape, or a share outside [0, 1].
    """
    if maps.dim() != 5 or maps.shape[-1] != maps.shape[-2]:
        raise InputError(f"maps: shape {tuple(maps.shape)}; right: (layers, B, H, T, T)")
    if not 0.0 <= residual <= 1.0:
        raise InputError(f"residual: {residual}; right: from 0 to 1")
    tokens = torch.eye(maps.shape[-1], dtype=maps.dtype, device=maps.device)  # (T, T)
    carried = residual * tokens + (1 - residual) * maps.mean(dim=2)  # (layers, B, T, T)
    steps, total = [], tokens
    for layer in carried:
        total = layer @ total  # (B, T, T)
        steps.append(total)
    return torch.stack(steps)

"""AdamW with weight decay on the right parameters, and the learning-rate schedule."""

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from minift.training.config import TrainConfig


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two parameter groups: matrices and embeddings decay; biases and norm scales do not.

    Decay pulls weights to 0. For a norm's scale, whose neutral value is 1, and for a bias that
    would be a pull away from what the layer needs. Both have one dimension, which tells them.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def adamw(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over :func:`decay_groups`, in PyTorch's fused form."""
    groups = decay_groups(model, config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def linear_schedule(
    optimizer: torch.optim.Optimizer, *, warmup_steps: int, total_steps: int
) -> LambdaLR:
    r"""Linear warm-up, then linear decay to 0.

    Step :math:`t = 0, 1, …` uses :math:`\eta\,t / w` for :math:`t < w` and
    :math:`\eta\,(T - t)/(T - w)` after it. Hugging Face: ``get_linear_schedule_with_warmup``.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))

    return LambdaLR(optimizer, factor)


def noam_schedule(optimizer: torch.optim.Optimizer, *, d_model: int, warmup_steps: int) -> LambdaLR:
    r"""The schedule of the first transformer: linear warm-up, then the inverse square root.

    Step :math:`t = 1, 2, …` uses :math:`\eta\,C^{-1/2} \min(t^{-1/2}, t\,w^{-3/2})`, highest at
    :math:`t = w`; the paper has :math:`\eta = 1`, the optimiser's ``lr``, and :math:`w = 4000`
    (Vaswani et al. 2017, section 5.3). C is ``d_model``.
    """

    def factor(step: int) -> float:
        t = step + 1
        return float(d_model**-0.5 * min(t**-0.5, t * warmup_steps**-1.5))

    return LambdaLR(optimizer, factor)

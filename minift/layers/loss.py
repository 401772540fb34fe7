"""Losses that PyTorch's own cross-entropy is the reference for."""

import torch.nn.functional as F
from torch import Tensor

from minift.errors import InputError


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean of −log p[token t + 1] at place t, for ``logits (B, T, V)``.

    ``labels (B, T)`` are the input ids, −100 where there is nothing to predict; the last place has
    no next token.
    """
    following = F.pad(labels, (0, 1), value=-100)[:, 1:]  # (B, T)
    return F.cross_entropy(logits.float().flatten(0, 1), following.flatten())


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy against a label that is only nearly certain.

        L = (1 − ε) · (−log p[label]) + ε · mean over k of (−log p[k])        ε: ``smoothing``

    The target gives 1 − ε to the label and spreads ε evenly over all V classes, the label too
    (Szegedy et al. 2016, section 7; Vaswani et al. 2017, section 5.4, with ε = 0.1).

    Args:
        logits: ``(…, V)``.
        labels: ``(…)``, classes; −100 is ignored.

    Returns:
        The mean over the labels that are not ignored; PyTorch's
        ``cross_entropy(label_smoothing=ε)`` is the same function.

    Raises:
        InputError: ``smoothing`` outside [0, 1].
    """
    if not 0.0 <= smoothing <= 1.0:
        raise InputError(f"smoothing: {smoothing}; right: from 0 (plain cross-entropy) to 1")
    real = labels != -100
    log_p = logits[real].log_softmax(dim=-1)  # (labels, V)
    own = log_p.gather(-1, labels[real][:, None])[:, 0]  # (labels,)
    return -((1.0 - smoothing) * own + smoothing * log_p.mean(dim=-1)).mean()

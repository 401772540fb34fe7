"""Losses that several families share: what a classifier of whole texts learns from."""

import torch
import torch.nn.functional as F
from torch import Tensor

from minift.errors import InputError, one_of
from minift.models.checks import check_labels

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def check_problem_type(name: str | None) -> None:
    """Raises InputError for a ``problem_type`` that is none of ``PROBLEM_TYPES`` nor ``None``."""
    if name is not None and name not in PROBLEM_TYPES:
        raise one_of("config: problem_type", name, PROBLEM_TYPES)


def text_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """The loss of ``logits: (B, K)``, one row a text, for what ``problem_type`` names.

    - ``"single_label_classification"``: the mean of −log softmax(logits)[label] over the texts;
      ``labels: (B,)``, int64, classes 0…K−1 or −100 (ignored).
    - ``"multi_label_classification"``: the mean of −[y log σ(z) + (1 − y) log(1 − σ(z))] over all
      B · K logits z; ``labels: (B, K)``, float, 1 for each class that a text has.
    - ``"regression"``: the mean of (z − y)²; ``labels: (B, K)``, float, or ``(B,)`` when K = 1.
    - ``None``: regression when K = 1, else by the labels' dtype.

    Hugging Face's ``…ForSequenceClassification`` does the same, and writes the choice into the
    config.

    Raises:
        InputError: labels of another shape or dtype, or outside the classes.
    """
    classes = logits.shape[-1]
    problem = problem_type or _guess(classes, labels)
    if problem == "single_label_classification":
        check_labels(labels, tuple(logits.shape[:1]), classes)
        return F.cross_entropy(logits, labels)
    if classes == 1 and labels.dim() == 1:
        labels = labels[:, None]  # (B, 1)
    _check_targets(labels, tuple(logits.shape), problem)
    if problem == "regression":
        return F.mse_loss(logits, labels)
    return F.binary_cross_entropy_with_logits(logits, labels)


def _guess(classes: int, labels: Tensor) -> str:
    if classes == 1:
        return "regression"
    whole = labels.dtype in (torch.int64, torch.int32)
    return "single_label_classification" if whole else "multi_label_classification"


def _check_targets(labels: Tensor, shape: tuple[int, ...], problem: str) -> None:
    if not labels.is_floating_point():
        raise InputError(f"labels: dtype {labels.dtype}; right for {problem}: torch.float32")
    if tuple(labels.shape) != shape:
        raise InputError(f"labels: shape {tuple(labels.shape)}; right for {problem}: {shape}")

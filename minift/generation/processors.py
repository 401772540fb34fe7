"""From logits to the distribution that a token is drawn from: one function an idea.

Each takes scores ``(R, V)``, one row a text and one column a token of the vocabulary, and gives new
ones. A token that may not be chosen gets −∞: its probability after the softmax is 0.
``processors_of`` puts them together in the order in which ``transformers`` applies them.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minift.generation.settings import GenerationSettings

Processor = Callable[[Tensor, Tensor], Tensor]
"""``(ids (R, N), scores (R, V)) → scores (R, V)``."""


def temperature(scores: Tensor, t: float) -> Tensor:
    """``scores / t``: the probabilities become proportional to p to the power 1/t.

    Ackley et al. 1985, the temperature of a Boltzmann distribution.
    Hugging Face: ``TemperatureLogitsWarper``.
    """
    return scores / t


def top_k(scores: Tensor, k: int) -> Tensor:
    """Keep the ``k`` highest scores of each row, and those equal to the lowest of them.

    Fan et al. 2018, section 5.4. Hugging Face: ``TopKLogitsWarper``.
    """
    lowest = scores.topk(min(k, scores.shape[-1])).values[:, -1:]  # (R, 1)
    return scores.masked_fill(scores < lowest, -torch.inf)


def top_p(scores: Tensor, p: float, keep: int = 1) -> Tensor:
    """Keep the smallest set of most probable tokens whose probabilities add up to at least ``p``.

    At least ``keep`` tokens stay. Summed from the least probable token up: a token goes when it and
    all below it have at most 1 − p together. Holtzman et al. 2020, section 3.1 ("nucleus").
    Hugging Face: ``TopPLogitsWarper``.
    """
    rising, order = scores.sort(dim=-1)
    goes = rising.softmax(dim=-1).cumsum(dim=-1) <= 1 - p  # (R, V), in rising order
    goes[:, -keep:] = False
    return scores.masked_fill(torch.zeros_like(goes).scatter(-1, order, goes), -torch.inf)


def min_p(scores: Tensor, p: float, keep: int = 1) -> Tensor:
    """Keep tokens with at least ``p`` times the probability of the most probable one.

    At least ``keep`` tokens stay. Nguyen et al. 2024, section 3.
    Hugging Face: ``MinPLogitsWarper``.
    """
    probabilities = scores.softmax(dim=-1)
    goes = probabilities < p * probabilities.amax(dim=-1, keepdim=True)
    best = probabilities.topk(min(keep, scores.shape[-1])).indices  # (R, keep)
    return scores.masked_fill(goes.scatter(-1, best, False), -torch.inf)


def repetition_penalty(
    ids: Tensor, scores: Tensor, penalty: float, padding: Tensor | None = None
) -> Tensor:
    """Divide positive scores of tokens in ``ids (R, N)`` by ``penalty``, multiply negative ones.

    However often a token occurs, it is penalised once. ``padding (R, N')`` is True where one of the
    first N' tokens is padding, which counts for nothing. Keskar et al. 2019, section 4.1.
    Hugging Face: ``RepetitionPenaltyLogitsProcessor``.
    """
    vocabulary = scores.shape[-1]
    if padding is not None:
        first, rest = ids.split([padding.shape[1], ids.shape[1] - padding.shape[1]], dim=1)
        ids = torch.cat([first.masked_fill(padding, vocabulary), rest], dim=1)
    occurs = torch.zeros(len(scores), vocabulary + 1, dtype=torch.bool, device=scores.device)
    occurs = occurs.scatter(1, ids.long(), True)[:, :vocabulary]  # (R, V)
    penalised = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(occurs, penalised, scores)


def forbid(scores: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """No chance for ``tokens``. Hugging Face: ``MinNewTokensLengthLogitsProcessor``, for EOS."""
    return scores.index_fill(-1, torch.tensor(tokens, device=scores.device), -torch.inf)


def processors_of(
    settings: GenerationSettings, prompt: int, padding: Tensor | None = None
) -> Processor:
    """All that ``settings`` ask for as one function of ``(ids, scores)``.

    Args:
        prompt: the number of tokens, padding included, that were there before the first new one.
        padding: ``(R, prompt)``, True where the prompt is padding; ``None``: nowhere.
    """

    def process(ids: Tensor, scores: Tensor) -> Tensor:
        if settings.repetition_penalty != 1.0:
            scores = repetition_penalty(ids, scores, settings.repetition_penalty, padding)
        if settings.eos_token_id and ids.shape[1] - prompt < settings.min_new_tokens:
            scores = forbid(scores, settings.eos_token_id)
        return to_draw_from(scores, settings) if settings.do_sample else scores

    return process


def to_draw_from(scores: Tensor, settings: GenerationSettings) -> Tensor:
    """Temperature, top-k, top-p and min-p, in this order, each if it is asked for."""
    # beams need something else than EOS to go on with
    keep = 1 if settings.num_beams == 1 else max(2, len(settings.eos_token_id) + 1)
    if settings.temperature != 1.0:
        scores = temperature(scores, settings.temperature)
    if settings.top_k:
        scores = top_k(scores, max(settings.top_k, keep))
    if settings.top_p < 1.0:
        scores = top_p(scores, settings.top_p, keep)
    if settings.min_p is not None:
        scores = min_p(scores, settings.min_p, keep)
    return scores

"""The decoding loop: logits, one token for each text, again. Greedy, or drawn at random."""

from collections.abc import Iterator

import torch
from torch import Tensor

from minift.generation.beam import beam_search
from minift.generation.processors import Processor, processors_of
from minift.generation.settings import GenerationSettings
from minift.generation.state import DecodingState
from minift.generation.stopping import Decodes, Stop, stop_of


def continue_texts(
    state: DecodingState,
    ids: Tensor,
    settings: GenerationSettings,
    *,
    tokenizer: Decodes | None = None,
    padding: Tensor | None = None,
) -> Tensor:
    """Continue ``ids (B, T)`` as ``settings`` say; gives ``(B · num_return_sequences, T + new)``.

    The texts of one prompt stand beside each other. Rows that are finished before others end with
    ``pad_token_id``.

    Args:
        state: the model; for an encoder-decoder, with the encoder's output in it.
        tokenizer: sees the stop strings.
        padding: ``(B, T)``, True where ``ids`` is padding; ``None``: nowhere.
    """
    stop = stop_of(settings, tokenizer)
    if settings.num_beams == 1:
        tokens = list(new_tokens(state, ids, settings, stop=stop, padding=padding))
        prompts = ids.repeat_interleave(settings.copies, dim=0)
        return torch.cat([prompts, *(token[:, None] for token in tokens)], dim=1)
    ids, logits, process = _begin(state, ids, settings, padding)
    return beam_search(state, ids, logits, settings, process=process, stop=stop)


def new_tokens(
    state: DecodingState,
    ids: Tensor,
    settings: GenerationSettings,
    *,
    stop: Stop,
    padding: Tensor | None = None,
) -> Iterator[Tensor]:
    """One new token for each text, ``(R,)``, as soon as it is chosen; without beam search."""
    ids, logits, process = _begin(state, ids, settings, padding)
    running = torch.ones(len(ids), dtype=torch.bool, device=ids.device)
    longest = ids.shape[1] + settings.max_new_tokens
    while True:
        token = choose(process(ids, logits.float()), settings.do_sample).to(ids.dtype)  # (R,)
        if settings.eos_token_id and settings.pad_token_id is not None:
            token = token.where(running, settings.pad_token_id)
        ids = torch.cat([ids, token[:, None]], dim=1)  # (R, N + 1)
        running &= ~stop(ids)
        yield token
        if ids.shape[1] == longest or not running.any():
            return
        logits = state.next_logits(ids)


def choose(scores: Tensor, do_sample: bool) -> Tensor:
    """A token for each row of ``scores (R, V)``: the best one, or one by its probability."""
    if not do_sample:
        return scores.argmax(dim=-1)
    return torch.multinomial(scores.softmax(dim=-1), num_samples=1)[:, 0]


def _begin(
    state: DecodingState, ids: Tensor, settings: GenerationSettings, padding: Tensor | None
) -> tuple[Tensor, Tensor, Processor]:
    """The prompts go through the model once; then each is copied for its samples or beams."""
    logits = state.next_logits(ids)  # (B, V)
    if settings.copies > 1:
        rows = torch.arange(len(ids), device=ids.device).repeat_interleave(settings.copies)
        state.reorder(rows)
        ids, logits = ids[rows], logits[rows]  # (R, T), (R, V)
        padding = None if padding is None else padding[rows]
    return ids, logits, processors_of(settings, ids.shape[1], padding)

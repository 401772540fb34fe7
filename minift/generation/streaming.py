"""Text as it is written: pieces that are shown as soon as they are certain."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from minift.errors import InputError
from minift.generation.decode import new_tokens
from minift.generation.generate import begin, evaluation
from minift.generation.settings import GenerationSettings
from minift.generation.state import CausalLM, CausalState
from minift.generation.stopping import Stop, stop_of
from minift.text.stream import TextStream
from minift.text.tokenizer import Tokenizer


def stream(
    model: CausalLM,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    *,
    use_cache: bool = True,
    **options: Any,
) -> Iterator[str]:
    """The continuation of one prompt, piece by piece; joined it is the text of the new tokens.

    The model is in evaluation mode until the iterator ends or is closed.

    Args:
        prompt: a text, or its ids.
        options: as of ``generate``; beam search has nothing to show before it ends.

    Raises:
        InputError: as ``generate``, at once and not at the first piece; beams; an empty prompt; a
            tokenizer that cleans up spaces afterwards.
    """
    settings = GenerationSettings.read(options, model.config)
    for name in ("num_beams", "num_return_sequences"):
        if getattr(settings, name) != 1:
            raise InputError(f"{name}: {getattr(settings, name)}; right: 1, to stream one text")
    ids = prompt_ids(model, tokenizer, prompt)
    state = begin(model, ids, torch.ones_like(ids), settings, use_cache)
    stop = stop_of(settings, tokenizer)
    text = TextStream(tokenizer, skip_special_tokens=True)
    return _pieces(state, ids, settings, stop, text)


def prompt_ids(model: CausalLM, tokenizer: Tokenizer, prompt: str | Sequence[int]) -> Tensor:
    """``(1, T)``; for an empty text the token that begins texts, if the model has one.

    Raises:
        InputError: no token to begin with.
    """
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        begin = getattr(model.config, "bos_token_id", None)
        if begin is None:
            raise InputError("prompt: no token in it; right: some text to continue")
        ids = [begin]
    device = next(model.parameters()).device
    return torch.tensor([ids], dtype=torch.long, device=device)


@torch.no_grad()
def _pieces(
    state: CausalState, ids: Tensor, settings: GenerationSettings, stop: Stop, text: TextStream
) -> Iterator[str]:
    with evaluation(state.model):
        for token in new_tokens(state, ids, settings, stop=stop):
            if piece := text.push(int(token)):
                yield piece
    if piece := text.finish():
        yield piece

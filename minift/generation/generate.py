"""``model.generate``: continue prompts, with Hugging Face's arguments and results."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.generation.decode import continue_texts
from minift.generation.settings import GenerationSettings
from minift.generation.state import CausalLM, CausalState
from minift.generation.stopping import Decodes
from minift.models.checks import check_ids


@torch.no_grad()
def generate(
    self: CausalLM,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    use_cache: bool = True,
    tokenizer: Decodes | None = None,
    **options: Any,
) -> Tensor:
    """Continue each prompt of ``input_ids: (B, T)``; gives ``(B · texts, T + new)``.

    Each row is a whole text, its prompt included; those of one prompt stand beside each other.
    The same tokens as ``transformers``' ``generate``: greedy and with beams always, drawn ones
    under the same ``torch.manual_seed``. The model is in evaluation mode meanwhile.

    Args:
        attention_mask: ``(B, T)``, 1 for tokens and 0 for padding, which must be on the left.
            ``None``: ``input_ids != pad_token_id`` if there is such a token and it does not also
            end a text, else all ones.
        use_cache: keep keys and values of past tokens instead of computing them anew.
        tokenizer: the model's, for ``stop_strings``.
        options: ``max_new_tokens=20``, ``min_new_tokens=0``, ``do_sample=False``,
            ``temperature=1.0``, ``top_k=50``, ``top_p=1.0``, ``min_p=None``,
            ``repetition_penalty=1.0``, ``num_beams=1``, ``length_penalty=1.0``,
            ``early_stopping=False``, ``num_return_sequences=1``, ``stop_strings=None``,
            ``eos_token_id`` and ``pad_token_id`` (the config's): see ``GenerationSettings``.
            Temperature, top-k, top-p and min-p count only with ``do_sample=True``; length penalty
            and early stopping only with beams.

    Raises:
        InputError: an option that is unknown or has no meaning, padding on the right, more tokens
            than the model has positions.
    """
    settings = GenerationSettings.read(options, self.config)
    state = begin(self, input_ids, attention_mask, settings, use_cache)
    padding = state.mask == 0
    with evaluation(self):
        return continue_texts(state, input_ids, settings, tokenizer=tokenizer, padding=padding)


def begin(
    model: CausalLM,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    settings: GenerationSettings,
    use_cache: bool = True,
) -> CausalState:
    """The state that decodes ``input_ids``, everything checked, nothing computed.

    Raises:
        InputError: ids or a mask that the model cannot take, no room for the new tokens.
    """
    check_ids("input_ids", input_ids, model.config.vocab_size, "vocab_size")
    check_room(input_ids.shape[-1], settings.max_new_tokens, model.max_positions)
    mask = _prompt_mask(input_ids, attention_mask, settings)
    cache = KVCache(capacity=input_ids.shape[1] + settings.max_new_tokens) if use_cache else None
    return CausalState(model, mask, cache)


@contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Without dropout inside the ``with`` block."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


def trained_positions(model: Any) -> int:
    """The longest text that the model knows. Rotary models have no table of positions that ends;
    what they were trained on is their limit."""
    trained = getattr(model.config, "max_position_embeddings", None)
    return int(model.max_positions if trained is None else min(trained, model.max_positions))


def check_room(prompt: int, new_tokens: int, most: int) -> None:
    """Raises InputError for a prompt and new tokens that are more than ``most`` positions."""
    if prompt + new_tokens > most:
        raise InputError(
            f"max_new_tokens: {prompt} prompt tokens and {new_tokens} new ones are more than the "
            f"model's {most} positions; right: at most {max(most - prompt, 0)}, or a shorter prompt"
        )


def _prompt_mask(ids: Tensor, given: Tensor | None, settings: GenerationSettings) -> Tensor:
    if given is None:
        pad = settings.pad_token_id
        guessed = pad not in settings.eos_token_id
        return ids.ne(pad).long() if pad is not None and guessed else torch.ones_like(ids)
    if given.shape != ids.shape:
        raise InputError(
            f"attention_mask: shape {tuple(given.shape)}; right: {tuple(ids.shape)}, one entry for "
            "each token of input_ids"
        )
    mask = given.ne(0).long()
    if not bool(mask[:, -1].all()):
        raise InputError("attention_mask: padding on the right; right: pad prompts on the left")
    return mask

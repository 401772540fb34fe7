"""Greedy decoding: the most probable token, again and again."""

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor

from minift.errors import InputError
from minift.generation.cache import KVCache
from minift.models.checks import check_ids


class CausalLM(Protocol):
    """What a model must have to be decoded from."""

    config: Any
    training: bool

    @property
    def max_positions(self) -> int: ...
    def __call__(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> Any: ...
    def train(self, mode: bool = True) -> Any: ...


@torch.no_grad()
def generate(
    self: CausalLM,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    max_new_tokens: int = 20,
    num_beams: int = 1,
    do_sample: bool = False,
    eos_token_id: int | Iterable[int] | None = None,
    pad_token_id: int | None = None,
    use_cache: bool = True,
) -> Tensor:
    """Continue each prompt of ``input_ids: (B, T)``; gives ``(B, T + new)``, prompts included.

    The same tokens as ``transformers``' ``generate``. The model is in evaluation mode meanwhile.

    Args:
        attention_mask: ``(B, T)``, 1 for tokens and 0 for padding, which must be on the left.
            ``None``: ``input_ids != pad_token_id`` if there is such a token and it does not also
            end a text, else all ones.
        max_new_tokens: the most tokens to add to each prompt.
        eos_token_id: the token(s) after which a text is finished; ``None`` takes the config's,
            an empty list never stops early.
        pad_token_id: fills finished texts; ``None`` takes the config's, else the first EOS.
        use_cache: keep keys and values of past tokens instead of computing them anew.

    Raises:
        InputError: padding on the right, more tokens than the model has positions, a decoding
            method that is not implemented.
    """
    _check_method(num_beams, do_sample, max_new_tokens)
    eos = _eos_ids(self, eos_token_id)
    pad = _pad_id(self, pad_token_id, eos)
    check_ids("input_ids", input_ids, self.config.vocab_size, "vocab_size")
    _check_room(self, input_ids, max_new_tokens)
    mask = _prompt_mask(input_ids, attention_mask, pad, eos)
    was_training = self.training
    self.train(False)
    try:
        return _greedy(self, input_ids, mask, max_new_tokens, eos, pad, use_cache)
    finally:
        self.train(was_training)


def _greedy(
    model: CausalLM,
    ids: Tensor,
    mask: Tensor,
    new_tokens: int,
    eos: list[int],
    pad: int,
    use_cache: bool,
) -> Tensor:
    batch, prompt = ids.shape
    cache = KVCache(capacity=prompt + new_tokens) if use_cache else None
    stops = torch.tensor(eos, dtype=ids.dtype, device=ids.device)
    running = torch.ones(batch, dtype=torch.bool, device=ids.device)
    unseen = ids
    for _ in range(new_tokens):
        output = model(
            unseen, attention_mask=mask, cache=cache, use_cache=use_cache, last_only=True
        )
        token = output.logits[:, -1].argmax(dim=-1)  # (B,)
        token = token.where(running, pad).to(ids.dtype)
        ids = torch.cat([ids, token[:, None]], dim=1)  # (B, N + 1)
        mask = torch.cat([mask, mask.new_ones(batch, 1)], dim=1)
        running = running & ~torch.isin(token, stops)
        if not running.any():
            break
        unseen = token[:, None] if use_cache else ids
    return ids


def _check_method(num_beams: int, do_sample: bool, max_new_tokens: int) -> None:
    if num_beams != 1:
        raise InputError(f"num_beams: {num_beams} is not implemented yet; right: 1 (greedy)")
    if do_sample:
        raise InputError("do_sample: True is not implemented yet; right: False (greedy)")
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens: {max_new_tokens}; right: at least 1")


def _eos_ids(model: CausalLM, given: int | Iterable[int] | None) -> list[int]:
    eos = model.config.eos_token_id if given is None else given
    if eos is None:
        return []
    return [eos] if isinstance(eos, int) else list(eos)


def _pad_id(model: CausalLM, given: int | None, eos: list[int]) -> int:
    """Padding is only ever written after an EOS, so that without one any number will do."""
    pad = model.config.pad_token_id if given is None else given
    if pad is None:
        return eos[0] if eos else -1
    return int(pad)


def _check_room(model: CausalLM, ids: Tensor, new_tokens: int) -> None:
    prompt, most = ids.shape[-1], model.max_positions
    if prompt + new_tokens > most:
        raise InputError(
            f"max_new_tokens: {prompt} prompt tokens and {new_tokens} new ones are more than the "
            f"model's {most} positions; right: at most {max(most - prompt, 0)}, or a shorter prompt"
        )


def _prompt_mask(ids: Tensor, given: Tensor | None, pad: int, eos: list[int]) -> Tensor:
    if given is None:
        guess = ids != pad
        return (guess if pad not in eos else torch.ones_like(guess)).long()
    if given.shape == ids.shape and not bool((given[:, -1] != 0).all()):
        raise InputError("attention_mask: padding on the right; right: pad prompts on the left")
    return given.long()

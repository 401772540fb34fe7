"""The key/value cache: what attention needs of past tokens, computed once."""

import torch
from torch import Tensor

from minift.errors import InputError


class KVCache:
    """Keys and values ``(B, H, N, D)`` of every layer, for all tokens seen so far.

    A token's keys and values do not depend on later tokens, so a decoding step only computes
    those of the new token: T steps cost O(T²) instead of O(T³).

    With a ``capacity`` the memory for that many tokens is set aside once and each step writes
    into it (for decoding, without gradients); without one, tensors are concatenated, which keeps
    gradients. Hugging Face: ``StaticCache`` and ``DynamicCache``.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.length = 0
        """Tokens in the cache; the same for all layers between two forward passes."""
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append ``k, v: (B, H, T, D)`` to ``layer``; gives all of its ``(B, H, length + T, D)``.

        ``length`` moves only with ``advance``, after the last layer.

        Raises:
            InputError: another batch size than before, more tokens than the capacity, or
                gradients asked of a preallocated cache.
        """
        if layer < len(self._keys) and self._keys[layer].shape[0] != k.shape[0]:
            raise InputError(
                f"cache: holds {self._keys[layer].shape[0]} sequences, was given {k.shape[0]}; "
                "right: one cache for each batch"
            )
        if self.capacity is not None:
            return self._write(layer, k, v, self.capacity)
        if layer < len(self._keys):
            k = torch.cat([self._keys[layer], k], dim=2)  # (B, H, N, D)
            v = torch.cat([self._values[layer], v], dim=2)
            self._keys[layer], self._values[layer] = k, v
        else:
            self._keys.append(k)
            self._values.append(v)
        return k, v

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as seen, once every layer has them."""
        self.length += tokens

    def _write(self, layer: int, k: Tensor, v: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
        end = self.length + k.shape[2]
        if end > capacity:
            raise InputError(f"cache: {end} tokens do not fit; right: KVCache(capacity={end})")
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise InputError(
                "cache: a preallocated one keeps no gradients; right: torch.no_grad(), or KVCache()"
            )
        if layer == len(self._keys):
            batch, heads, _, dim = k.shape
            self._keys.append(k.new_empty(batch, heads, capacity, dim))
            self._values.append(v.new_empty(batch, heads, capacity, dim))
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]

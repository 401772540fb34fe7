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
    gradients. A layer that sees a window of tokens only keeps no more than that. Hugging Face:
    ``StaticCache``, ``DynamicCache`` and ``EncoderDecoderCache``.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.length = 0
        """Tokens in the cache; the same for all layers between two forward passes."""
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}
        self._cross: dict[int, tuple[Tensor, Tensor]] = {}

    def update(
        self, layer: int, k: Tensor, v: Tensor, window: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Append ``k, v: (B, H, T, D)`` to ``layer``; gives all of its ``(B, H, length + T, D)``.

        ``length`` moves only with ``advance``, after the last layer. With a ``window`` W, the same
        in every call, a token sees itself and W − 1 tokens before it: older ones are forgotten, and
        what comes back are the last ``min(length, W − 1) + T``.

        Raises:
            InputError: another batch size than before, more tokens than the capacity, or
                gradients asked of a preallocated cache.
        """
        past = self._layers.get(layer)
        if past is not None and past[0].shape[0] != k.shape[0]:
            raise InputError(
                f"cache: holds {past[0].shape[0]} sequences, was given {k.shape[0]}; "
                "right: one cache for each batch"
            )
        if self.capacity is not None:
            self._check_room(k, v, self.capacity)
            if window is None:
                return self._write(layer, k, v, self.capacity)
        if past is not None:
            k = torch.cat([past[0], k], dim=2)  # (B, H, N, D)
            v = torch.cat([past[1], v], dim=2)
        self._layers[layer] = (k, v) if window is None else (_last(k, window), _last(v, window))
        return k, v

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` as seen, once every layer has them."""
        self.length += tokens

    def kept(self, layer: int) -> int:
        """Tokens that ``layer`` still holds: all, or with a window W at most W − 1."""
        return min(self.length, self._layers[layer][0].shape[2])

    @property
    def nbytes(self) -> int:
        """Memory of all keys and values, in bytes; what is set aside but not used yet counts."""
        pairs = [*self._layers.values(), *self._cross.values()]
        return sum(tensor.nbytes for pair in pairs for tensor in pair)

    def cross(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the encoder's output in ``layer``; ``None`` before ``set_cross``."""
        return self._cross.get(layer)

    def set_cross(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep keys and values of the encoder's output ``(B, H, S, D)``: they never change."""
        self._cross[layer] = (k, v)

    def reorder(self, rows: Tensor) -> None:
        """Row b goes on with what row ``rows[b]`` held; ``rows: (B′,)``. For beam search."""
        for held in (self._layers, self._cross):
            for layer, (k, v) in held.items():
                held[layer] = (k.index_select(0, rows), v.index_select(0, rows))

    def _check_room(self, k: Tensor, v: Tensor, capacity: int) -> None:
        end = self.length + k.shape[2]
        if end > capacity:
            raise InputError(f"cache: {end} tokens do not fit; right: KVCache(capacity={end})")
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            raise InputError(
                "cache: a preallocated one keeps no gradients; right: torch.no_grad(), or KVCache()"
            )

    def _write(self, layer: int, k: Tensor, v: Tensor, capacity: int) -> tuple[Tensor, Tensor]:
        end = self.length + k.shape[2]
        if layer not in self._layers:
            batch, heads, _, dim = k.shape
            shape = (batch, heads, capacity)
            try:
                self._layers[layer] = (k.new_empty(*shape, dim), v.new_empty(*shape, v.shape[3]))
            except RuntimeError:
                raise InputError(
                    f"cache: no memory for {capacity} tokens; right: fewer, or KVCache()"
                ) from None
        keys, values = self._layers[layer]
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        return keys[:, :, :end], values[:, :, :end]


def _last(x: Tensor, window: int) -> Tensor:
    """The ``window − 1`` last tokens, in memory of their own: a view would keep all the others."""
    kept = min(window - 1, x.shape[2])
    return x[:, :, x.shape[2] - kept :].clone()

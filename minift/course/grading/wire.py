"""Plain values and tensors as bytes: a JSON header, then the tensors' memory.

None, bool, int, float, str, torch.dtype, Tensor, list, tuple and dict with string keys; nothing
else goes through, and reading never runs code. Tensors keep dtype, shape and, where they have
gaps or another order than row-major, their strides.
"""

import json
import math
import socket
import struct
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 64 << 20  # of one message
MAX_DEPTH = 20
_HEAD = struct.Struct("<II")  # bytes of the header and of the tensors


_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, struct.error, RuntimeError)


class WireError(ValueError):
    """The value cannot be sent, or what came is no message."""


def pack(value: Any) -> bytes:
    """The value as one message.

    Raises:
        WireError: it holds something else than plain values, or is too large.
    """
    tensors: list[bytes] = []
    header = json.dumps(_encode(value, tensors, 0)).encode()
    size = sum(map(len, tensors))
    if len(header) + size > MAX_BYTES:
        raise WireError(f"a result of {(len(header) + size) / 2**20:.0f} MB; at most 64 are taken")
    return b"".join([_HEAD.pack(len(header), size), header, *tensors])


def _encode(value: Any, tensors: list[bytes], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise WireError("a result that is nested too deeply")
    if isinstance(value, Tensor):
        return _encode_tensor(value, tensors)
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        items = [_encode(item, tensors, depth + 1) for item in value]
        return items if type(value) is list else {"tuple": items}
    if isinstance(value, dict) and all(type(key) is str for key in value):
        pairs = [[key, _encode(item, tensors, depth + 1)] for key, item in value.items()]
        return {"dict": pairs}
    raise WireError(f"a {type(value).__name__}, which is no plain value")


def _encode_tensor(value: Tensor, tensors: list[bytes]) -> dict[str, Any]:
    if value.device.type != "cpu":
        return {"elsewhere": str(value.device), "shape": list(value.shape)}
    if value.layout != torch.strided or value.is_quantized:
        raise WireError(f"a tensor of layout {value.layout}")
    value = value.detach().resolve_conj().resolve_neg()
    span = 1 + sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
    gaps = value.numel() and not value.is_contiguous() and 0 not in value.stride()
    strides = list(value.stride()) if gaps and span <= 4 * value.numel() else None
    flat = value.contiguous().reshape(-1) if strides is None else value.as_strided((span,), (1,))
    memory = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    tensors.append(memory)
    dtype = str(value.dtype).removeprefix("torch.")
    shape = list(value.shape)
    return {"tensor": dtype, "shape": shape, "strides": strides, "bytes": len(memory)}


def unpack(message: bytes) -> Any:
    """The value of a message without its length.

    Raises:
        WireError: it is none.
    """
    try:
        header, _ = _HEAD.unpack_from(message)
        tree = json.loads(message[_HEAD.size : _HEAD.size + header])
        reader = _Reader(memoryview(message)[_HEAD.size + header :])
        return reader.value(tree, 0)
    except _MALFORMED as error:
        raise WireError(f"no message: {error}") from None


class _Reader:
    def __init__(self, memory: memoryview) -> None:
        self.memory, self.place = memory, 0

    def value(self, tree: Any, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH:
            raise WireError("nested too deeply")
        if isinstance(tree, list):
            return [self.value(item, depth + 1) for item in tree]
        if not isinstance(tree, dict):
            return tree
        kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
            "dtype": lambda t: _dtype(t["dtype"]),
            "float": lambda t: float(t["float"]),
            "tuple": lambda t: tuple(self.value(item, depth + 1) for item in t["tuple"]),
            "dict": lambda t: {str(k): self.value(v, depth + 1) for k, v in t["dict"]},
            "tensor": self._tensor,
            "elsewhere": lambda t: torch.empty(t["shape"], device="meta"),
        }
        return kinds[next(iter(tree))](tree)

    def _tensor(self, tree: dict[str, Any]) -> Tensor:
        dtype, shape, size = _dtype(tree["tensor"]), tree["shape"], tree["bytes"]
        if math.prod(shape) > MAX_BYTES:  # strides of 0 would make much of little
            raise WireError(f"a tensor of shape {tuple(shape)}")
        memory = bytearray(self.memory[self.place : self.place + size])
        self.place += size
        if not memory:
            return torch.empty(shape, dtype=dtype).zero_() if 0 in shape else _refuse()
        flat = torch.frombuffer(memory, dtype=dtype)
        if tree["strides"] is None:
            return flat.reshape(shape)
        return flat.as_strided(shape, tree["strides"])


def _refuse() -> Tensor:
    raise WireError("a tensor without its memory")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise WireError(f"{name} is no dtype")
    return found


def send(connection: socket.socket, value: Any) -> None:
    """Send one value; ``pack`` says what can be sent."""
    connection.sendall(pack(value))


def receive(connection: socket.socket) -> Any:
    """The next value.

    Raises:
        WireError: what came is no message, or is larger than ``MAX_BYTES``.
        EOFError: the other side has gone.
    """
    head = _exactly(connection, _HEAD.size)
    header, size = _HEAD.unpack(head)
    if header + size > MAX_BYTES:
        raise WireError("a result of more than 64 MB")
    return unpack(head + _exactly(connection, header + size))


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError("the other side has gone")
        parts += part
    return bytes(parts)

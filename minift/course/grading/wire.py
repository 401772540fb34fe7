"""Plain values and tensors as bytes: a JSON header, then the tensors' memory.

None, bool, int, float, str, torch.dtype, Tensor, list, tuple and dict with string keys; nothing
else goes through, and reading never runs code. Tensors keep dtype, shape and, where they have
gaps or another order than row-major, their strides.
"""

import json
import math
import socket
import struct
import time
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 64 << 20  # of one message
MAX_HEADER = 2 << 20  # of everything but tensors: as Python objects it takes 30 times as much
MAX_DEPTH = 20
MAX_DIMENSIONS = 16
_HEAD = struct.Struct("<II")  # bytes of the header and of the tensors


_MALFORMED = (
    ValueError, LookupError, TypeError, AttributeError, StopIteration, struct.error, RuntimeError,
    ArithmeticError, MemoryError,
)  # fmt: skip
DTYPES = {
    name: dtype
    for name, dtype in vars(torch).items()
    if isinstance(dtype, torch.dtype) and not name.startswith(("q", "bits"))
}


class WireError(ValueError):
    """The value cannot be sent, or what came is no message."""


def pack(value: Any) -> bytes:
    """The value as one message.

    Raises:
        WireError: it holds something else than plain values, or is too large.
    """
    tensors: list[bytes] = []
    try:
        header = json.dumps(_encode(value, tensors, 0)).encode()
    except RuntimeError as error:  # a tensor whose memory cannot be had
        raise WireError(f"a result that cannot be read: {error}") from None
    size = sum(map(len, tensors))
    if len(header) > MAX_HEADER:
        raise WireError(f"a result of {len(header) / 2**20:.0f} MB besides tensors; at most 2")
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
    if type(value) is float and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, (list, tuple)):
        items = [_encode(item, tensors, depth + 1) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if type(value) is bytes:
        return {"hex": value.hex()}
    if isinstance(value, dict) and all(map(_is_key, value)):
        pairs = [[_encode(x, tensors, depth + 1) for x in pair] for pair in value.items()]
        return {"dict": pairs}
    if isinstance(value, Real):  # NumPy's numbers, and subclasses of int and float
        plain = int(value) if isinstance(value, Integral) else float(value)
        return _encode(plain, tensors, depth)
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
        if header > MAX_HEADER:
            raise WireError("a header of more than 2 MB")
        tree = json.loads(message[_HEAD.size : _HEAD.size + header])
        reader = _Reader(memoryview(message)[_HEAD.size + header :])
        return reader.value(tree, 0)
    except _MALFORMED as error:
        raise WireError(f"no message: {str(error)[:100]}") from None


class _Reader:
    def __init__(self, memory: memoryview) -> None:
        self.memory, self.place = memory, 0

    def value(self, tree: Any, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH:
            raise WireError("nested too deeply")
        if isinstance(tree, list):
            return [self.value(item, depth + 1) for item in tree]
        if isinstance(tree, str):  # half a surrogate pair could not be written to any file
            return tree.encode(errors="replace").decode()
        if not isinstance(tree, dict):
            return tree
        kinds: dict[str, Callable[[dict[str, Any]], Any]] = {
            "dtype": lambda t: _dtype(t["dtype"]),
            "float": lambda t: float(t["float"]),
            "tuple": lambda t: tuple(self.value(item, depth + 1) for item in t["tuple"]),
            "dict": lambda t: {
                self._key(k, depth + 1): self.value(v, depth + 1) for k, v in t["dict"]
            },
            "hex": lambda t: bytes.fromhex(t["hex"]),
            "tensor": self._tensor,
            "elsewhere": lambda t: torch.empty(_shape(t["shape"]), device="meta"),
        }
        return kinds[next(iter(tree))](tree)

    def _key(self, tree: Any, depth: int) -> Any:
        key = self.value(tree, depth)
        if not _is_key(key):
            raise WireError("a dict with keys that are no plain values")
        return key

    def _tensor(self, tree: dict[str, Any]) -> Tensor:
        dtype, shape, size = _dtype(tree["tensor"]), _shape(tree["shape"]), tree["bytes"]
        memory = bytearray(self.memory[self.place : self.place + size])
        self.place += size
        if not memory:
            return torch.empty(shape, dtype=dtype).zero_() if 0 in shape else _refuse()
        flat = torch.frombuffer(memory, dtype=dtype)
        if tree["strides"] is None:
            return flat.reshape(shape)
        return flat.as_strided(shape, tree["strides"])


def _is_key(value: Any) -> bool:
    """What a dict may have for a key: plain values that cannot change, and tuples of them."""
    if type(value) is tuple:
        return all(map(_is_key, value))
    return value is None or type(value) in (bool, int, float, str, bytes)


def _shape(found: Any) -> list[int]:
    """A shape of a reasonable size: strides of 0 would make much of little."""
    fine = isinstance(found, list) and len(found) <= MAX_DIMENSIONS
    if not fine or not all(type(n) is int and 0 <= n <= MAX_BYTES for n in found):
        raise WireError("a tensor of an impossible shape")
    if math.prod(found) > MAX_BYTES:
        raise WireError(f"a tensor of shape {tuple(found)}")
    return found


def _refuse() -> Tensor:
    raise WireError("a tensor without its memory")


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise WireError("a dtype that there is not")
    return DTYPES[name]


def send(connection: socket.socket, value: Any) -> None:
    """Send one value; ``pack`` says what can be sent."""
    connection.sendall(pack(value))


def receive(connection: socket.socket, deadline: float | None = None) -> Any:
    """The next value, which has to be here in full at ``deadline`` (of ``time.monotonic``).

    Raises:
        WireError: what came is no message, or is larger than ``MAX_BYTES``.
        EOFError: the other side has gone.
        TimeoutError: it did not come.
    """
    head = _exactly(connection, _HEAD.size, deadline)
    header, size = _HEAD.unpack(head)
    if header + size > MAX_BYTES:
        raise WireError("a result of more than 64 MB")
    return unpack(head + _exactly(connection, header + size, deadline))


def _exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        if deadline is not None:  # for all parts together: one byte a second is no answer
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError("the other side has gone")
        parts += part
    return bytes(parts)

"""GGUF, llama.cpp's file format: metadata and quantised tensors in one file.

    "GGUF" · version u32 · number of tensors u64 · number of entries u64
    entries:  key string · type u32 · value
    tensors:  name string · dimensions u32 · sizes u64 … · type u32 · offset u64
    zeros up to a multiple of the alignment, then the tensors' data; offsets count from here

Numbers are little-endian. A string is its length as u64 and UTF-8 bytes; an array is the type of
its items, their number as u64, and the items. The sizes of a tensor are written fastest first:
a matrix that PyTorch calls (out, in) has the sizes in, out. (Source: ggml's ``docs/gguf.md``.)

The file is mapped into memory: what is not asked for is not read. Nothing is allocated because a
number in the file says so: every length is first compared with the bytes that are left.
"""

import mmap
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from minift.errors import InputError
from minift.models.gguf.dequantize import dequantize
from minift.models.gguf.tensor_types import OTHERS, SUPPORTED, TensorType

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MAX_NESTING = 4  # arrays in arrays; llama.cpp writes none

Value: TypeAlias = "int | float | bool | str | list[Value] | np.ndarray"
"""Arrays of numbers stay NumPy arrays over the file's bytes; arrays of other things are lists."""

STRING, BOOL, ARRAY = 8, 7, 9
NUMBERS = {
    0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", BOOL: "?",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
# The fewest bytes that an entry, a tensor's row, and an array's item that is no number can take.
LEAST_ENTRY, LEAST_TENSOR, LEAST_ITEM = 8 + 4 + 1, 8 + 4 + 8 + 4 + 8, 8


class TensorInfo(NamedTuple):
    """Where a tensor is: ``shape`` in PyTorch's order, ``start`` and ``size`` in bytes."""

    shape: tuple[int, ...]
    kind: TensorType
    start: int
    size: int


@dataclass(frozen=True)
class GGUF:
    """An open file: its metadata, and its tensors by name, read when asked for."""

    path: Path
    version: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]
    data: mmap.mmap

    def tensor(self, name: str) -> Tensor:
        """A tensor, dequantised to float32, in memory of its own."""
        info = self.tensors[name]
        raw = torch.frombuffer(self.data, dtype=torch.uint8, count=info.size, offset=info.start)
        return dequantize(raw, info.kind).view(info.shape)


def read_gguf(path: str | os.PathLike[str]) -> GGUF:
    """Open a GGUF file and read everything but its tensors' data.

    Raises:
        InputError: no such file, or not a whole, well-formed, little-endian file of version 2 or
            3 whose tensors have supported types and lie inside the file, each in its own place.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # an empty file cannot be mapped. Copies are made of pages that are written to: none
            # is, but PyTorch warns of memory that it must not write to.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if data is None:
        raise InputError(f"{path}: the file is empty; right: a GGUF file")
    try:
        return _read(path, data)
    except _Malformed as error:
        raise InputError(f"{path}: {error}") from None


class _Malformed(Exception):
    """What is wrong, without the file's name."""


def _read(path: Path, data: mmap.mmap) -> GGUF:
    cursor = _Cursor(data)
    version = _version(cursor)
    tensor_count, entry_count = cursor.number("<Q"), cursor.number("<Q")
    cursor.expect("metadata", entry_count, LEAST_ENTRY)
    metadata: dict[str, Value] = {}
    for _ in range(entry_count):
        cursor.where = f"entry {len(metadata) + 1} of {entry_count}"
        key = cursor.string()
        cursor.where = f"metadata {key!r:.80}"
        if key in metadata:
            raise _Malformed(f"{cursor.where} is there twice; right: once")
        metadata[key] = cursor.value(cursor.number("<I"))
    return GGUF(path, version, metadata, _tensors(cursor, tensor_count, metadata), data)


def _version(cursor: "_Cursor") -> int:
    magic = cursor.data[:4]
    if magic != MAGIC:
        old = (
            " (an older format of llama.cpp)" if magic[::-1] in (b"ggml", b"ggmf", b"ggjt") else ""
        )
        raise _Malformed(f"begins with {magic!r}{old}; right: a GGUF file, which begins b'GGUF'")
    cursor.take(4)
    version = cursor.number("<I")
    if version and version & 0xFFFF == 0:
        raise _Malformed("is big-endian; right: a little-endian GGUF file")
    if version not in VERSIONS:
        raise _Malformed(f"is GGUF version {version}; right: version 2 or 3")
    return version


def _tensors(cursor: "_Cursor", count: int, metadata: dict[str, Value]) -> dict[str, TensorInfo]:
    cursor.where = "the table of tensors"
    cursor.expect("the table of tensors", count, LEAST_TENSOR)
    alignment = _alignment(metadata)
    rows: dict[str, tuple[tuple[int, ...], TensorType, int]] = {}
    for _ in range(count):
        cursor.where = f"tensor {len(rows) + 1} of {count}"
        name = cursor.string()
        cursor.where = f"tensor {name!r:.80}"
        if name in rows:
            raise _Malformed(f"{cursor.where} is there twice; right: once")
        rows[name] = _row(cursor, alignment)
    begin = -(-cursor.position // alignment) * alignment
    tensors = {name: _placed(begin, row) for name, row in rows.items()}
    _check_places(tensors, len(cursor.data))
    return tensors


def _alignment(metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment", 32)
    if type(value) is not int or value < 1 or value & value - 1:
        raise _Malformed(f"general.alignment is {value!r:.80}; right: a power of two")
    return value


def _row(cursor: "_Cursor", alignment: int) -> tuple[tuple[int, ...], TensorType, int]:
    dimensions = cursor.number("<I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _Malformed(f"{cursor.where} has {dimensions} dimensions; right: 1 to 4")
    sizes = [cursor.number("<Q") for _ in range(dimensions)]
    number, offset = cursor.number("<I"), cursor.number("<Q")
    if number not in SUPPORTED:
        name = OTHERS.get(number, number)
        known = ", ".join(kind.name for kind in SUPPORTED.values())
        raise _Malformed(f"{cursor.where} has the type {name}; right: one of {known}")
    kind = SUPPORTED[number]
    if 0 in sizes or sizes[0] % kind.weights:
        right = f"rows of a multiple of {kind.weights} weights ({kind.name}), none empty"
        raise _Malformed(f"{cursor.where} has the sizes {tuple(sizes)}; right: {right}")
    if offset % alignment:
        right = f"a multiple of the alignment {alignment}"
        raise _Malformed(f"{cursor.where} begins at offset {offset}; right: {right}")
    return tuple(reversed(sizes)), kind, offset


def _placed(begin: int, row: tuple[tuple[int, ...], TensorType, int]) -> TensorInfo:
    shape, kind, offset = row
    weights = 1
    for size in shape:  # Python's integers do not overflow, as 64 bits would here
        weights *= size
    return TensorInfo(shape, kind, begin + offset, weights // kind.weights * kind.size)


def _check_places(tensors: dict[str, TensorInfo], size: int) -> None:
    end, before = 0, ""
    for name, info in sorted(tensors.items(), key=lambda item: item[1].start):
        if info.start < end:
            raise _Malformed(f"tensors {before!r:.80} and {name!r:.80} overlap; right: apart")
        end, before = info.start + info.size, name
        if end > size:
            raise _Malformed(
                f"tensor {name!r:.80} ends at byte {end} and the file at {size}; "
                "right: a whole file, download it again"
            )


class _Cursor:
    """Reads numbers, strings and arrays one after the other, never beyond the file's end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.position = 0
        self.where = "the header"

    def take(self, size: int) -> int:
        """Step over ``size`` bytes; where they begin."""
        start = self.position
        if size > len(self.data) - start:
            raise _Malformed(
                f"{self.where} ends beyond the file's {len(self.data)} bytes; "
                "right: a whole file, download it again"
            )
        self.position = start + size
        return start

    def expect(self, what: str, count: int, least: int) -> None:
        """Refuse a count of things that take ``least`` bytes each if the file cannot hold them."""
        if count * least > len(self.data) - self.position:
            raise _Malformed(
                f"{what} should have {count} items, more than the file's {len(self.data)} bytes "
                "hold; right: a whole file, download it again"
            )

    def number(self, form: str) -> int:
        """An unsigned integer, ``"<I"`` or ``"<Q"``."""
        start = self.take(struct.calcsize(form))
        return int(struct.unpack_from(form, self.data, start)[0])

    def string(self) -> str:
        """A string of UTF-8."""
        size = self.number("<Q")
        start = self.take(size)
        try:
            return self.data[start : start + size].decode("utf-8")
        except UnicodeDecodeError:
            raise _Malformed(f"{self.where} holds a text that is not UTF-8; right: UTF-8") from None

    def value(self, kind: int, depth: int = 0) -> Value:
        """A value of any type."""
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array(depth)
        scalar: Value = self.numbers(kind, 1)[0].item()
        return scalar

    def array(self, depth: int) -> Value:
        """An array of any type."""
        kind, count = self.number("<I"), self.number("<Q")
        if kind in NUMBERS:
            return self.numbers(kind, count)
        if depth == MAX_NESTING:
            raise _Malformed(f"{self.where}: arrays nested deeper than {MAX_NESTING}")
        self.expect(self.where, count, LEAST_ITEM)
        read: Callable[[], Value] = self.string
        if kind != STRING:
            read = lambda: self.value(kind, depth + 1)  # noqa: E731
        return [read() for _ in range(count)]

    def numbers(self, kind: int, count: int) -> np.ndarray:
        """``count`` numbers or truth values, as a view of the file."""
        if kind not in NUMBERS:
            raise _Malformed(f"{self.where} has the value type {kind}; right: 0 to 12")
        dtype = np.dtype(NUMBERS[kind])
        start = self.take(count * dtype.itemsize)
        if kind == BOOL and np.frombuffer(self.data, np.uint8, count, start).max(initial=0) > 1:
            raise _Malformed(f"{self.where} is a truth value other than 0 and 1")
        return np.frombuffer(self.data, dtype, count, start)

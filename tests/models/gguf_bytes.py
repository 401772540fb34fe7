"""GGUF files made byte by byte, so that any byte of them can be wrong."""

import struct

U8, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 4, 5, 6, 7, 8, 9, 10, 12


def text(value):
    """A string: its length and its bytes."""
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data)) + data


def array(kind, items, count=None):
    """An array's payload: the type of the items, their number, the items' bytes."""
    return struct.pack("<IQ", kind, len(items) if count is None else count) + b"".join(items)


def u32(value):
    return struct.pack("<I", value)


def u64(value):
    return struct.pack("<Q", value)


def entry(key, kind, payload):
    return text(key) + u32(kind) + payload


def row(name, sizes, kind, offset, dimensions=None):
    """A row of the table of tensors; ``sizes`` fastest first."""
    count = len(sizes) if dimensions is None else dimensions
    return text(name) + u32(count) + b"".join(map(u64, sizes)) + u32(kind) + u64(offset)


def gguf(
    entries=(), rows=(), data=b"", *, magic=b"GGUF", version=3, counts=None, alignment=32
):  # fmt: skip
    """A whole file."""
    tensor_count, entry_count = counts or (len(rows), len(entries))
    head = magic + u32(version) + u64(tensor_count) + u64(entry_count)
    head += b"".join(entries) + b"".join(rows)
    return head + bytes(-len(head) % alignment) + data

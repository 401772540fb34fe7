"""Reading GGUF files: every value type, and one clear line for everything that can be wrong."""

import re
import struct
import tracemalloc

import gguf as reference
import numpy as np
import pytest
import torch
from gguf_bytes import (
    ARRAY,
    BOOL,
    F32,
    F64,
    I32,
    STRING,
    U8,
    U32,
    U64,
    array,
    entry,
    gguf,
    row,
    text,
    u32,
    u64,
)

from minift import InputError
from minift.models.gguf import read_gguf

SCALARS = {
    "uint8": 200, "int8": -100, "uint16": 60_000, "int16": -30_000, "uint32": 4_000_000_000,
    "int32": -2_000_000_000, "uint64": 2**64 - 1, "int64": -(2**63), "float64": 1 / 3,
}  # fmt: skip
ONE = row("a", [4], 0, 0)  # four float32 weights
DATA = bytes(range(16)) + bytes(16)


def plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value


def written(tmp_path, content):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    return path


def write_all_types(path, alignment=None):
    writer = reference.GGUFWriter(path, "llama")
    if alignment:
        writer.add_custom_alignment(alignment)
    for name, value in SCALARS.items():
        getattr(writer, f"add_{name}")(f"x.{name}", value)
    writer.add_float32("x.float32", 0.1)
    writer.add_bool("x.yes", True)
    writer.add_bool("x.no", False)
    writer.add_string("x.text", "naïve ☕\n")
    writer.add_array("x.strings", ["a", "", "é" * 300])
    writer.add_array("x.ints", [3, -1, 2])
    writer.add_array("x.floats", [0.5, 0.1])
    writer.add_array("x.bools", [True, False, True])
    torch.manual_seed(0)
    tensors = {
        "one": torch.randn(5).numpy(),
        "two": torch.randn(3, 7).half().numpy(),
        "three": torch.randn(2, 3, 4).numpy(),
        "four": torch.randn(2, 1, 3, 5).numpy(),
    }
    for name, value in tensors.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_every_value_type_as_the_reference_writes_it(tmp_path, alignment):
    path = tmp_path / "x.gguf"
    tensors = write_all_types(path, alignment)
    theirs, ours = reference.GGUFReader(path), read_gguf(path)
    wanted = {
        key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF")
    }
    assert {key: plain(value) for key, value in ours.metadata.items()} == wanted
    for key, value in SCALARS.items():
        assert ours.metadata[f"x.{key}"] == value
    assert [type(ours.metadata[f"x.{key}"]) for key in ("yes", "float32")] == [bool, float]
    assert ours.version == 3
    assert list(ours.tensors) == list(tensors)
    for name, value in tensors.items():
        assert ours.tensors[name].shape == value.shape
        assert torch.equal(ours.tensor(name), torch.from_numpy(value).float())
    positions = {tensor.name: tensor.data_offset for tensor in theirs.tensors}
    assert {name: info.start for name, info in ours.tensors.items()} == positions


def test_nested_arrays_empty_arrays_and_no_metadata(tmp_path):
    inner = [array(I32, [struct.pack("<i", n)]) for n in (-5, 7)]
    nested = entry("nested", ARRAY, array(ARRAY, inner))
    empty = [entry(f"empty{kind}", ARRAY, array(kind, [])) for kind in (U8, STRING, ARRAY)]
    file = read_gguf(written(tmp_path, gguf([nested, *empty])))
    assert [plain(item) for item in file.metadata.pop("nested")] == [[-5], [7]]
    assert [len(value) for value in file.metadata.values()] == [0, 0, 0]
    bare = read_gguf(written(tmp_path, gguf([], [ONE], DATA, version=2)))
    assert (bare.version, bare.metadata) == (2, {})
    assert torch.equal(bare.tensor("a"), torch.frombuffer(bytearray(DATA[:16]), dtype=torch.float))


def test_a_tensor_is_a_copy_and_the_file_stays(tmp_path):
    path = written(tmp_path, gguf([], [ONE], DATA))
    file = read_gguf(path)
    first = file.tensor("a")
    first.zero_()
    assert file.tensor("a").any()
    assert path.read_bytes().endswith(DATA)


def nested_arrays(depth):
    inner = array(U8, [b"\x01"])
    for _ in range(depth):
        inner = array(ARRAY, [inner])
    return gguf([entry("k", ARRAY, inner)])


HUGE = 2**63
PAIR = [ONE, row("b", [4], 0, 32)]
MALFORMED = {
    "empty": (b"", "the file is empty; right: a GGUF file"),
    "magic only": (b"GGUF", "the header ends beyond the file's 4 bytes; right: a whole file"),
    "header cut": (gguf()[:23], "the header ends beyond the file's 23 bytes"),
    "safetensors": (b'\x08\0\0\0\0\0\0\0{"a":1} ', "begins with .*; right: a GGUF file, which"),
    "older": (gguf(magic=b"tjgg"), r"begins with b'tjgg' \(an older format of llama.cpp\); right"),
    "version 1": (gguf(version=1), "is GGUF version 1; right: version 2 or 3"),
    "version 4": (gguf(version=4), "is GGUF version 4; right"),
    "version 0": (gguf(version=0), "is GGUF version 0; right"),
    "big-endian": (gguf(version=3 << 24), "is big-endian; right: a little-endian GGUF file"),
    "entries": (gguf(counts=(0, 2**40)), "metadata should have 1099511627776 items, more than"),
    "most entries": (gguf(counts=(0, 2**64 - 1)), "metadata should have 18446744073709551615 it"),
    "tensors": (gguf(counts=(HUGE, 0)), "the table of tensors should have 9223372036854775808 it"),
    "one entry more": (gguf([entry("k", U8, b"\1")], counts=(0, 2))[:50], "'' ends beyond"),
    "key": (gguf([u64(HUGE) + b"k" + bytes(9)]), "entry 1 of 1 ends beyond the file's 64 bytes"),
    "key encoding": (gguf([entry(b"\xff", U8, b"\1")]), "entry 1 of 1 holds a text that is not"),
    "text": (gguf([entry("k", STRING, u64(HUGE))]), "metadata 'k' ends beyond the file's"),
    "encoding": (gguf([entry("k", STRING, text(b"a\xff"))]), "'k' holds a text that is not UTF-8"),
    "type": (gguf([entry("k", 13, u64(1))]), "metadata 'k' has the value type 13; right: 0 to 12"),
    "long key": (gguf([entry("k" * 10**6, 13, u64(1))]), "metadata 'kkkk.* has the value type 13"),
    "long name": (gguf([], [row("a" * 10**6, [4], 5, 0)], DATA), "tensor 'aaa.* has the type 5; r"),
    "item type": (gguf([entry("k", ARRAY, array(99, [u64(1)]))]), "'k' has the value type 99; rig"),
    "truth": (gguf([entry("k", BOOL, b"\2")]), "metadata 'k' is a truth value other than 0 and 1"),
    "truths": (gguf([entry("k", ARRAY, array(BOOL, [b"\1\0\3"], 3))]), "is a truth value other"),
    "array": (gguf([entry("k", ARRAY, array(F64, [], 2**61))]), "metadata 'k' ends beyond the f"),
    "strings": (gguf([entry("k", ARRAY, array(STRING, [], 2**60))]), "metadata 'k' should have 11"),
    "arrays": (gguf([entry("k", ARRAY, array(ARRAY, [], 2**33))]), "metadata 'k' should have 8589"),
    "deep": (nested_arrays(50_000), "metadata 'k': arrays nested deeper than 4"),
    "key twice": (gguf([entry("k", U8, b"\1")] * 2), "metadata 'k' is there twice; right: once"),
    "tensor twice": (gguf([], [ONE, ONE], DATA), "tensor 'a' is there twice; right: once"),
    "table cut": (gguf([], [ONE])[:56], "tensor 'a' ends beyond the file's 56 bytes"),
    "no dimension": (gguf([], [row("a", [], 0, 0)], DATA), "'a' has 0 dimensions; right: 1 to 4"),
    "dimensions": (gguf([], [row("a", [], 0, 0, 2**31)], DATA), "'a' has 2147483648 dimensions"),
    "size 0": (gguf([], [row("a", [4, 0], 0, 0)], DATA), r"'a' has the sizes \(4, 0\); right: row"),
    "ragged": (gguf([], [row("a", [33], 2, 0)], DATA), r"'a' has the sizes \(33,\); right: rows"),
    "overflow": (gguf([], [row("a", [2**32, 2**32], 0, 0)], DATA), "ends at byte 737869762948382"),
    "overflow to 0": (gguf([], [row("a", [2**62] * 4, 0, 0)], DATA), "'a' ends at byte 18092513"),
    "tensor type": (gguf([], [row("a", [4], 5, 0)], DATA), "'a' has the type 5; right: one of F32"),
    "known type": (gguf([], [row("a", [4], 23, 0)], DATA), "'a' has the type IQ4_XS; right: one"),
    "data cut": (gguf([], [ONE], DATA[:15]), "tensor 'a' ends at byte 80 and the file at 79; r"),
    "no data": (gguf([], PAIR, DATA), "tensor 'b' ends at byte 144 and the file at 128; right: a"),
    "offset": (gguf([], [row("a", [4], 0, 2**40)], DATA), "'a' ends at byte 1099511627856 and"),
    "last offset": (gguf([], [row("a", [4], 0, 2**64 - 32)], DATA), "'a' ends at byte 18446744073"),
    "odd offset": (gguf([], [row("a", [4], 0, 4)], DATA * 2), "offset 4; right: a multiple of the"),
    "same place": (gguf([], [ONE, row("b", [4], 0, 0)], DATA), "'a' and 'b' overlap; right: apart"),
    "overlap": (
        gguf([], [row("b", [4], 0, 32), row("a", [9], 0, 0)], DATA * 2), "'a' and 'b' overlap",
    ),
    "alignment 0": (gguf([entry("general.alignment", U32, u32(0))]), "general.alignment is 0; rig"),
    "alignment 3": (gguf([entry("general.alignment", U32, u32(24))]), "is 24; right: a power of t"),
    "alignment type": (
        gguf([entry("general.alignment", F32, struct.pack("<f", 32.0))]), "alignment is 32.0",
    ),
    "alignment": (
        gguf([entry("general.alignment", U64, u64(HUGE))], [ONE], DATA), "'a' ends at byte 92233",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(tmp_path, name):
    content, wanted = MALFORMED[name]
    path = written(tmp_path, content)
    tracemalloc.start()
    with pytest.raises(InputError, match=wanted) as caught:
        read_gguf(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert peak < 3_000_000 + 20 * len(content)


def test_every_truncation_is_told(tmp_path):
    """No prefix of a file is taken for a whole one, and none fails in another way."""
    entries = [entry("k", STRING, text("é")), entry("l", ARRAY, array(STRING, [text("a")] * 3))]
    entries.append(entry("m", ARRAY, array(F64, [bytes(8)] * 2)))
    whole = gguf(entries, PAIR, DATA + DATA[:16])
    path = written(tmp_path, whole)
    assert list(read_gguf(path).tensors) == ["a", "b"]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=re.escape(str(path))):
            read_gguf(path)


def test_any_wrong_byte_is_told_or_harmless(tmp_path):
    """Each byte of the head, set to other values: an InputError, or a file that can be read."""
    entries = [entry("k", ARRAY, array(STRING, [text("ab")])), entry("l", U32, u32(3))]
    whole = gguf(entries, PAIR, DATA + DATA[:16])
    path = tmp_path / "x.gguf"
    for place in range(len(whole) - len(DATA) - 16):
        for value in (0, 9, 255):
            path.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
            try:
                file = read_gguf(path)
            except InputError:
                continue
            assert all(file.tensor(name).numel() <= 16 for name in file.tensors)


def test_what_is_no_file(tmp_path):
    for path, reason in ((tmp_path / "no.gguf", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=f"{re.escape(str(path))}: cannot be read .{reason}"):
            read_gguf(path)

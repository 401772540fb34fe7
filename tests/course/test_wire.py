"""Values as bytes: what comes through as it was, what is refused, and what no bytes can do."""

import contextlib
import json
import random
import socket
import struct
import time

import pytest
import torch

from minift.course.grading.wire import MAX_BYTES, MAX_HEADER, WireError, pack, receive, unpack

INF, NAN = float("inf"), float("nan")


TENSORS = {
    "rows": torch.arange(6.0).reshape(2, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "with gaps": torch.arange(8)[::2],
    "expanded": torch.ones(1).expand(3, 2),
    "0-dim": torch.tensor(3.5, dtype=torch.float64),
    "empty": torch.empty(0, 3),
    "bool": torch.tensor([True, False]),
    "bf16": torch.tensor([1.5, NAN], dtype=torch.bfloat16),
    "fp8": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn),
    "complex": torch.tensor([1 + 2j]).conj(),
    "int16": torch.tensor([[-5]], dtype=torch.int16),
    "tracked": torch.ones(2, requires_grad=True) * 2,
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_comes_through(kind):
    value = TENSORS[kind]
    back = unpack(pack([value]))[0]
    assert (back.dtype, back.shape, back.requires_grad) == (value.dtype, value.shape, False)
    if kind not in ("expanded", "empty"):
        assert back.stride() == value.stride()
    same = value.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8)
    assert torch.equal(back.contiguous().reshape(-1).view(torch.uint8), same)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(10**30), 1.5, INF, -INF, "é\n\x00", [], (), {}, [(1, [2.0]), {"a": (3,)}],
        torch.float16, {"dict": [1], "tensor": {"float": "x"}}, b"", b"\xff\x00", [b"a"],
        {("a", 1): {2: b"x"}, None: 0.5, b"k": [], 1.5: ()},
    ],
    ids=repr,
)  # fmt: skip
def test_a_plain_value_comes_through(value):
    back = unpack(pack(value))
    assert back == value and type(back) is type(value)


def test_numbers_of_other_kinds_become_pythons():
    import numpy as np

    back = unpack(pack([np.float64(0.5), np.float32(2), np.int8(-3), NAN, np.float64("nan")]))
    assert [type(b) for b in back] == [float, float, int, float, float]
    assert back[:3] == [0.5, 2.0, -3] and back[3] != back[3] and back[4] != back[4]


def test_half_a_surrogate_pair_becomes_what_a_file_can_hold():
    assert unpack(pack({"a\ud800": "\udfff!"})) == {"a?": "?!"}


@pytest.mark.parametrize(
    "value",
    [
        {frozenset(): 2}, {1, 2}, object(), 1j, bytearray(b"x"), [[[]] * 3, lambda: 0],
        torch.ones(2).to_sparse(), torch.ones(1, dtype=torch.uint8).expand(MAX_BYTES + 1),
        "x" * (MAX_HEADER + 1),
    ],
    ids=["set keys", "set", "object", "complex", "bytearray", "function", "sparse", "huge", "long"],
)  # fmt: skip
def test_what_is_no_plain_value_is_refused(value):
    with pytest.raises(WireError):
        pack(value)


def test_deep_values_are_refused():
    deep: list = []
    for _ in range(10**5):
        deep = [deep]
    with pytest.raises(WireError, match="nested too deeply"):
        pack(deep)


def message(header, memory=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<II", len(text), len(memory)) + text + memory


def tensor(**changes):
    return {"tensor": "float32", "shape": [2], "strides": None, "bytes": 8, **changes}


MALFORMED = {
    "nothing": b"",
    "cut": b"\x01",
    "no JSON": message(b"{"),
    "an object without a kind": message({}),
    "unknown kind": message({"pickle": "x"}),
    "deep": message(b"[" * 10**5 + b"]" * 10**5),
    "long number": message(b"1" * 10**5),
    "many empty objects": message(b"[" + b"{}," * (1 << 20) + b"{}]"),
    "no such dtype": message({"dtype": "nn"}),
    "a module that loads when asked for": message({"dtype": "_inductor"}),
    "a dtype of quantised numbers": message(tensor(tensor="quint8"), bytes(8)),
    "negative size": message(tensor(shape=[-1]), bytes(8)),
    "more than there is": message(tensor(shape=[1 << 20]), bytes(8)),
    "larger than memory": message(tensor(shape=[1 << 40, 0], bytes=0)),
    "overflow": message({"elsewhere": "cuda", "shape": [1 << 62, 1 << 62]}),
    "many dimensions": message(tensor(shape=[1] * 1000), bytes(4)),
    "strides of 0": message(tensor(shape=[1 << 20, 1 << 10], strides=[0, 0]), bytes(8)),
    "strides outside": message(tensor(strides=[1000]), bytes(8)),
    "strides backwards": message(tensor(strides=[-1]), bytes(8)),
    "half an element": message(tensor(bytes=7), bytes(7)),
    "no memory": message(tensor(), b""),
    "no size": message({"tensor": "float32", "shape": [2]}, bytes(8)),
    "sizes that are none": message(tensor(shape=[1.5, "x"]), bytes(8)),
    "a number that is none": message({"float": "nine"}),
    "a dict that is none": message({"dict": [1, 2]}),
    "a key that can change": message({"dict": [[[1], 2]]}),
    "a key that is a dict": message({"dict": [[{"dict": []}, 2]]}),
    "bytes that are none": message({"hex": "xy"}),
    "bytes of a number": message({"hex": 3}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_bytes_that_are_no_message(name):
    with pytest.raises(WireError) as caught:
        unpack(MALFORMED[name])
    assert len(str(caught.value)) < 200


def test_changed_bytes_are_a_value_or_a_wire_error():
    whole = pack({"a": [torch.arange(6.0).reshape(2, 3).T, (1, None, NAN)], "b": torch.int8})
    rng = random.Random(0)
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.choice(b'0127{}[],:-"\x00\xff9e')
        cut = changed[: rng.randint(0, len(changed))] if rng.random() < 0.2 else changed
        with contextlib.suppress(WireError):
            unpack(bytes(cut))


def test_a_message_that_drips_is_over_at_its_deadline():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<II", 99, 1 << 20) + b"x")
        with pytest.raises(TimeoutError):
            receive(ours, time.monotonic() + 0.1)
        theirs.sendall(struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF))
        with pytest.raises(WireError, match="64 MB"):
            receive(ours)

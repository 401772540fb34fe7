"""What the students' edition is made of: values as files without code, and the code that stays."""

import json
from pathlib import Path

import pytest
import torch

from minift.course import find
from minift.course.edition.recorded import Tensors, decode, encode, recorded
from minift.course.edition.recording import record
from minift.course.edition.release import without_answers
from minift.course.edition.stripped import stripped
from minift.errors import InputError

INF, NAN = float("inf"), float("nan")
BASE = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, 1, -(2**70), 1.0, -0.0, 0.1, INF, -INF, "", "tags: äß→\n", ...,
        torch.bfloat16, torch.bool, (), [], {}, (1,), [1.0], (1, [2, (3,)], {"a": (None,)}),
        b"\xff\x00",
        {"b": 1, "a": 2}, {("PER", 1): [True]}, {1: "int", "1": "str"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_value_comes_back_as_it_was(value):
    back = decode(json.loads(json.dumps(encode(value, Tensors()), allow_nan=False)), {})
    assert back == value and type(back) is type(value) and repr(back) == repr(value)


@pytest.mark.parametrize(
    "x",
    [
        BASE, BASE.transpose(1, 2), BASE[:, 1:, ::2], BASE[:1].expand(5, 3, 4), BASE[0, 0, 0],
        BASE[:0], torch.tensor([NAN, INF, -INF, -0.0]), torch.tensor([True, False]),
        torch.tensor([1, 2**62]), BASE.half().mT, BASE.bfloat16(), BASE.double(), BASE.int(),
        torch.arange(5, dtype=torch.uint8), BASE.to(torch.float8_e4m3fn), BASE.to(torch.complex64),
    ],
    ids=lambda x: f"{x.dtype}-{tuple(x.shape)}-{x.stride()}",
)  # fmt: skip
def test_a_tensor_comes_back_with_dtype_strides_and_bits(x):
    kept = Tensors()
    back = decode(json.loads(json.dumps(encode({"x": (x,)}, kept))), kept.kept)["x"][0]
    assert (back.dtype, back.shape, back.stride()) == (x.dtype, x.shape, x.stride())
    bits = [t.contiguous().flatten().view(torch.uint8) for t in (back, x)]
    assert torch.equal(*bits)


def test_memory_is_kept_once_for_each_dtype():
    kept = Tensors()
    encode([BASE, BASE.clone(), BASE.reshape(6, 4), BASE.view(torch.int32)], kept)
    assert [t.dtype for t in kept.kept.values()] == [torch.float32, torch.int32]


def test_nan_is_nan():
    assert decode(encode(NAN, Tensors()), {}) != 0
    assert str(decode(encode([NAN], Tensors()), {})) == "[nan]"


@pytest.mark.parametrize(
    "value", [{1}, bytearray(b"x"), object(), 1j, iter([])], ids=lambda v: type(v).__name__
)
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match=r"^a \w+ cannot be recorded$"):
        encode([value], Tensors())


@pytest.fixture(scope="module")
def softmax() -> dict[str, bytes]:
    return record(find("attention.softmax"))


def damage(path: Path, how: str) -> None:
    tensors, text = path.with_suffix(".safetensors"), path.read_text(encoding="utf-8")
    match how:
        case "no json":
            path.unlink()
        case "no tensors":
            tensors.unlink()
        case "cut json":
            path.write_text(text[: len(text) // 2], encoding="utf-8")
        case "cut tensors":
            tensors.write_bytes(tensors.read_bytes()[:-4])
        case "changed tensors":
            tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x7f")
        case "a list":
            path.write_text("[]")
        case "another kind":
            path.write_text(text.replace("properties.Gradient", "show.show"), encoding="utf-8")
        case "no kind":
            path.write_text(text.replace("properties.Gradient", "os.system"), encoding="utf-8")
        case "no tensor of that number":
            path.write_text(text.replace('"tensor":"0"', '"tensor":"x"'), encoding="utf-8")
        case "beyond the memory":
            path.write_text(text.replace('"stride":[3,1]', '"stride":[3000,1]'), encoding="utf-8")
        case "not UTF-8":
            path.write_bytes(b"\xff" + path.read_bytes())


@pytest.mark.parametrize(
    "how",
    [
        "no json", "no tensors", "cut json", "cut tensors", "changed tensors", "a list",
        "another kind", "no kind", "no tensor of that number", "beyond the memory", "not UTF-8",
    ],
)  # fmt: skip
def test_a_damaged_recording_is_one_clear_line(softmax, tmp_path, how):
    for suffix, content in softmax.items():
        (tmp_path / f"softmax{suffix}").write_bytes(content)
    sound = recorded(str(tmp_path / "softmax.py"), "attention.softmax", "", ())
    assert len(sound.properties) == len(find("attention.softmax").properties)
    damage(tmp_path / "softmax.json", how)
    with pytest.raises(InputError) as error:
        recorded(str(tmp_path / "softmax.py"), "attention.softmax", "", ())
    assert str(error.value).startswith("exercise attention.softmax: softmax.")
    assert str(error.value).endswith("get the edition again")
    assert "\n" not in str(error.value)


# ---- the code that stays

FILE = '''
"""part.topic: a test."""
import math
from typing import Any
from minift.course.exercise import Exercise
SCALE = 2
LIMIT = SCALE + math.pi
SECRET = 3
def helper(x: Any) -> Any:
    return x * LIMIT
def run(fn, x):
    return {uses}(fn(x))
exercise = Exercise("start.next_word", "", properties=(), hints=(), apply=run)
@exercise.stub
def topic(x):
    raise NotImplementedError
@exercise.solution
def solution(x):
    return x + SECRET
@exercise.reference
def oracle(x):
    return solution(x)
'''


def test_what_apply_needs_stays_and_nothing_else(tmp_path):
    (tmp_path / "topic.py").write_text(FILE.strip().replace("{uses}", "helper"))
    kept = stripped(find("start.next_word"), tmp_path / "topic.py")
    compile(kept, "topic.py", "exec")
    for there in ("import math", "SCALE = 2", "LIMIT =", "def helper", "def run", "def topic"):
        assert there in kept
    for gone in ("SECRET", "solution", "oracle", "import Exercise", "properties"):
        assert gone not in kept


@pytest.mark.parametrize(("uses", "role"), [("solution", "solution"), ("oracle", "reference")])
def test_an_apply_that_needs_an_answer_is_refused(tmp_path, uses, role):
    (tmp_path / "topic.py").write_text(FILE.strip().replace("{uses}", uses))
    with pytest.raises(InputError, match=f"`apply` uses {uses}, its {role}"):
        stripped(find("start.next_word"), tmp_path / "topic.py")


def test_a_notebook_without_hints():
    text = "<details><summary>Hint 1</summary>\n\nLook.\n\n</details>\n"
    answer = "<details><summary>One right answer</summary>\n\n```python\nx\n```\n\n</details>"
    cells = [
        {"cell_type": "markdown", "source": [text, answer]},
        {"cell_type": "markdown", "source": f"Before.\n\n{text}{answer}\n\nAfter."},
        {"cell_type": "code", "source": []},
    ]
    kept = without_answers({"cells": cells})["cells"]
    assert "".join(kept[0]["source"]) == text.strip()
    kept = without_answers({"cells": cells}, hints=False)["cells"]
    assert ["".join(c["source"]) for c in kept] == ["Before.\n\n\nAfter.", ""]

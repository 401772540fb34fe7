"""Exercises without their answers: what the students' edition of the course is made of.

There an exercise has no solution, no wrong answers and no oracle. What these gave was recorded
when the edition was written (:mod:`minift.course.edition.release`), beside the exercise's file: a
``.json`` with the cases of each property, what is right for each, and what known wrong answers do
on them; and a ``.safetensors`` with the tensors. Neither holds code, and nothing is ever unpickled.

A value comes back as it was: tuples are tuples, NaN is NaN, a tensor has its dtype and strides.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from minift.course.exercise import Exercise, Inputs, call
from minift.course.properties import Equals
from minift.errors import InputError

KINDS = ("properties", "launch")  # the modules of the course that define kinds of properties
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)


class Case(dict[str, Any]):
    """The inputs of a case by name. ``right`` is what should come out."""

    def __init__(self, inputs: Inputs, right: Any) -> None:
        super().__init__(inputs)
        self.right = right


@dataclass(frozen=True)
class Record:
    """The cases of one property, given when called, and the wrong answers that fail it.

    ``wrong`` holds for each of these the sentence for a learner and its behaviour on every case.
    """

    cases: tuple[Case, ...]
    wrong: tuple[tuple[str, Any], ...]

    def __call__(self) -> tuple[Case, ...]:
        return self.cases


class Recorded(Equals):
    """A property whose right values were recorded; mixed into the kind that it is of."""

    def right(self, exercise: Exercise, inputs: Inputs) -> Any:
        """What was recorded for this case."""
        assert isinstance(inputs, Case)
        return inputs.right

    @property
    def wrong(self) -> tuple[tuple[str, Any], ...]:
        """The wrong answers that fail here: sentence and behaviour."""
        assert isinstance(self.cases, Record)
        return self.cases.wrong


def recorded(
    file: str,
    name: str,
    title: str,
    hints: tuple[str, ...],
    apply: Callable[..., Any] = call,
    in_library: tuple[str, ...] = (),
) -> Exercise:
    """The exercise whose properties were recorded beside the Python file ``file``.

    Raises:
        InputError: the recorded files are missing or damaged (names the file).
    """
    path = Path(file).with_suffix(".json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        tensors = _tensors(path.with_suffix(".safetensors"), content["sha256"])
        properties = tuple(_property(entry, tensors) for entry in content["properties"])
    except OSError as error:
        missing = Path(error.filename or path).name
        raise InputError(
            f"exercise {name}: {missing} cannot be read ({error.strerror}); get the edition again"
        ) from None
    except DAMAGED:
        raise InputError(
            f"exercise {name}: {path.name} or {path.stem}.safetensors is damaged; "
            "get the edition again"
        ) from None
    return Exercise(name, title, properties, hints, apply, in_library=in_library)


def _tensors(path: Path, digest: str | None) -> dict[str, Tensor]:
    """The tensors of an exercise; one whose inputs are no tensors has no such file."""
    if digest is None:
        return {}
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("another file")
    return safetensors.torch.load(data)


def _property(entry: dict[str, Any], tensors: dict[str, Tensor]) -> Recorded:
    cases = [Case(*decode(case, tensors)) for case in entry["cases"]]
    wrong = [(sentence, decode(does, tensors)) for sentence, does in entry["wrong"]]
    kind = kind_of(entry["kind"])
    made: Recorded = kind(cases=Record(tuple(cases), tuple(wrong)), **entry["settings"])
    return made


def kind_of(name: str) -> Any:
    """A kind of property by its place, such as ``properties.Gradient``, with recorded answers."""
    module, _, base = name.partition(".")
    if module not in KINDS:
        raise TypeError(f"the kind {name} of its properties is not in {' or '.join(KINDS)}")
    kind = getattr(import_module(f"minift.course.{module}"), base)
    if not issubclass(kind, Equals):
        raise TypeError(f"{name} is no kind of property")
    return type(f"Recorded{base}", (Recorded, kind), {"__doc__": kind.__doc__})


# ---- values as JSON; tensors apart


class Tensors:
    """The tensors of an exercise, each stretch of memory once: ``kept`` by number."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self._seen: dict[tuple[torch.dtype, bytes], str] = {}  # by the hash of the memory

    def add(self, x: Tensor) -> dict[str, Any]:
        """Keep the memory that ``x`` spans; what comes back says how ``x`` lies in it."""
        last = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
        memory = x.detach().as_strided((last + 1 if x.numel() else 0,), (1,)).clone()
        digest = hashlib.sha256(memory.view(torch.uint8).numpy().tobytes()).digest()
        number = self._seen.setdefault((x.dtype, digest), str(len(self._seen)))
        self.kept[number] = memory
        return {"tensor": number, "shape": list(x.shape), "stride": list(x.stride())}


def encode(value: Any, tensors: Tensors) -> Any:
    """``value`` as JSON; its tensors go to ``tensors``.

    Raises:
        TypeError: it is, or holds, something that has no place in a recorded file.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": str(value)}
    if type(value) is list:
        return [encode(item, tensors) for item in value]
    if type(value) is tuple:
        return {"tuple": [encode(item, tensors) for item in value]}
    if type(value) is dict:
        return {"dict": [[encode(k, tensors), encode(v, tensors)] for k, v in value.items()]}
    if type(value) is bytes:
        return {"bytes": value.hex()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if value is Ellipsis:
        return {"ellipsis": "..."}
    if isinstance(value, Tensor):
        return tensors.add(value)
    raise TypeError(f"a {type(value).__name__} cannot be recorded")


def decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What :func:`encode` was given."""
    if isinstance(value, list):
        return [decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]].as_strided(value["shape"], value["stride"])
    ((kind, content),) = value.items()
    return _DECODERS[kind](content, tensors)


def _dtype(name: str, _: dict[str, Tensor]) -> torch.dtype:
    found = getattr(torch, name)
    if not isinstance(found, torch.dtype):
        raise TypeError(f"{name} is no dtype")
    return found


_DECODERS: dict[str, Callable[[Any, dict[str, Tensor]], Any]] = {
    "float": lambda text, _: float(text),
    "tuple": lambda items, tensors: tuple(decode(item, tensors) for item in items),
    "dict": lambda items, tensors: {decode(k, tensors): decode(v, tensors) for k, v in items},
    "dtype": _dtype,
    "ellipsis": lambda text, _: ...,
    "bytes": lambda text, _: bytes.fromhex(text),
}

"""Recording an exercise: what its oracle and its wrong answers give, as files without code.

:mod:`minift.course.edition.recorded` reads them again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from minift.course.diagnosis import alike, fails
from minift.course.edition.recorded import Case, Record, Tensors, encode, kind_of
from minift.course.exercise import Exercise
from minift.course.properties import Equals
from minift.errors import InputError


def record(exercise: Exercise) -> dict[str, bytes]:
    """The recorded files of an exercise: their endings and contents, the same in every run.

    Raises:
        InputError: one of its values, or a kind of its properties, cannot be recorded.
    """
    tensors = Tensors()
    try:
        properties = [_entry(exercise, prop, tensors) for prop in exercise.properties]
    except TypeError as error:
        raise InputError(f"exercise {exercise.name}: {error}") from None
    content: dict[str, Any] = {"exercise": exercise.name, "sha256": None, "properties": properties}
    files = {}
    if tensors.kept:
        files[".safetensors"] = safetensors.torch.save(tensors.kept)
        content["sha256"] = hashlib.sha256(files[".safetensors"]).hexdigest()
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {".json": f"{text}\n".encode(), **files}


def _entry(exercise: Exercise, prop: Equals, tensors: Tensors) -> dict[str, Any]:
    """A property as :func:`minift.course.edition.recorded.recorded` reads it."""
    place = f"{type(prop).__module__}.{type(prop).__name__}".removeprefix("minift.course.")
    kind = kind_of(place)
    settings = {f.name: getattr(prop, f.name) for f in fields(prop) if f.name != "cases"}
    if _compiles(prop):
        cases, wrong = tuple(Case(_without_values(inputs), None) for inputs in prop.cases()), []
    else:
        cases = tuple(Case(inputs, prop.right(exercise, inputs)) for inputs in prop.cases())
        fixed = kind(cases=Record(cases, ()), **settings)  # calls the oracle no more
        wrong = [[said, encode(does, tensors)] for said, does in _wrong(exercise, fixed)]
    pairs = [encode((dict(case), case.right), tensors) for case in cases]
    return {"kind": place, "settings": settings, "cases": pairs, "wrong": wrong}


def _wrong(exercise: Exercise, prop: Equals) -> Iterator[tuple[str, Any]]:
    """The seeded wrong answers that fail ``prop``: sentence and behaviour."""
    for mistake in exercise.mistakes:
        if fails(exercise, prop, mistake.fn):
            does = prop.behaviour(exercise, mistake.fn)
            if alike(does, does):  # else nothing is: a generator, for one
                yield mistake.sentence, does


def _compiles(prop: Equals) -> bool:
    """Whether only a compiler judges: there is no oracle, and no two kernels fail alike.

    By name, because :mod:`minift.course.launch` needs Triton and other exercises do not.
    """
    return any(kind.__name__ == "Compiles" for kind in type(prop).__mro__)


def _without_values(value: Any) -> Any:
    """Zeros for the tensors that a kernel is compiled for: they may be uninitialised memory."""
    if isinstance(value, Tensor):
        return torch.empty_like(value).zero_()
    if isinstance(value, tuple):
        return tuple(map(_without_values, value))
    if isinstance(value, dict):
        return {name: _without_values(item) for name, item in value.items()}
    return value

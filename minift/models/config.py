"""Reading a Hugging Face ``config.json`` into a family's frozen dataclass, strictly."""

import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from minift.errors import InputError

C = TypeVar("C")
MOST, MOST_LAYERS = 2**31 - 1, 10_000  # beyond, building the model would never end


def read_config(cls: type[C], data: Mapping[str, Any], fixed: Mapping[str, tuple[Any, ...]]) -> C:
    """Build ``cls`` from the entries of ``data`` that are its fields, with their types checked.

    ``fixed`` lists options that change what the model computes and that this project does not
    implement, each with the values under which they change nothing. Every other entry (names,
    versions, generation settings) does not touch the model and is passed over.

    Raises:
        InputError: an option of ``fixed`` with another value, or a field of the wrong type.
    """
    for name, allowed in fixed.items():
        if name in data and data[name] not in allowed:
            right = " or ".join(repr(value) for value in allowed)
            raise InputError(f"config: {name}={data[name]!r} is not supported; right: {right}")
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    values = {}
    for name in known.keys() & data.keys():
        values[name] = _typed(name, data[name], hints[name])
    for name, field in known.items():
        if name not in values and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"config: {name} is missing; right: a {hints[name].__name__}")
    return cls(**values)


def read_labels(data: Mapping[str, Any]) -> dict[int, str] | None:
    """``id2label`` with integer keys 0…n−1 (JSON can only have strings), or ``None``.

    Raises:
        InputError: not a mapping of the ids 0…n−1 to distinct names.
    """
    given = data.get("id2label")
    if given is None:
        count = data.get("num_labels")
        if count is None:
            return None
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"config: num_labels={count!r}; right: at least 1")
        return {i: f"LABEL_{i}" for i in range(count)}
    try:
        labels = {int(key): str(value) for key, value in sorted(given.items(), key=_by_id)}
    except (AttributeError, TypeError, ValueError):
        labels = {}
    if not labels or sorted(labels) != list(range(len(labels))):
        raise InputError(f"id2label: {given!r}; right: a name for each of the ids 0, 1, 2, …")
    if len(set(labels.values())) < len(labels):
        raise InputError(f"id2label: {given!r} has a name twice; right: distinct names")
    return labels


def with_label_ids(data: dict[str, Any]) -> dict[str, Any]:
    """A config's entries for a file: class names with their ids the other way round, or neither."""
    if data["id2label"] is None:
        return {key: value for key, value in data.items() if key != "id2label"}
    return {**data, "label2id": {name: i for i, name in data["id2label"].items()}}


def _by_id(item: tuple[Any, Any]) -> int:
    return int(item[0])


def check_positive(config: Any, *names: str) -> None:
    """Raises InputError for a size that is not at least 1, or that no model has."""
    for name in names:
        value, most = getattr(config, name), MOST_LAYERS if "layer" in name else MOST
        if value < 1:
            raise InputError(f"config: {name}={value}; right: at least 1")
        if value > most:
            raise InputError(f"config: {name}={value}; right: at most {most:,}")


def check_probability(config: Any, *names: str) -> None:
    """Raises InputError for a dropout probability outside [0, 1)."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0.0 <= value < 1.0:
            raise InputError(f"config: {name}={value}; right: at least 0 and below 1")


def check_deviation(config: Any) -> None:
    """Raises InputError for a standard deviation of the starting weights below 0."""
    if not config.initializer_range >= 0.0:
        raise InputError(f"config: initializer_range={config.initializer_range}; right: at least 0")


def check_heads(hidden_name: str, hidden: int, heads_name: str, heads: int) -> None:
    """Raises InputError when the heads do not divide the hidden size."""
    if hidden % heads:
        raise InputError(
            f"config: {hidden_name}={hidden} is not a multiple of {heads_name}={heads}"
        )


def _typed(name: str, value: Any, hint: Any) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        kind = typing.get_origin(option) or option
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
    right = " or ".join("null" if o is types.NoneType else o.__name__ for o in options)
    raise InputError(f"config: {name}={value!r}; right: {right}")

"""Tables of a TOML file as dataclasses: every key and every value is checked against the fields and their types."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from xsearch.errors import TrainingError

T = TypeVar("T")


def read_table(cls: type[T], content: Mapping[str, Any], where: str) -> T:
    """A dataclass from a table of TOML, its values checked against the fields' types.

    Args:
        where: what an error calls the table.

    Raises:
        TrainingError: a key is not known or is missing, or a value is of another type.
    """
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in content:
        if key not in fields:
            raise TrainingError(
                f"{where} has the key {key!r}",
                f"Known keys: {', '.join(fields)}",
                "Correct the name, or remove the key",
            )
    for key, entry in fields.items():
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and key not in content:
            raise TrainingError(f"{where} lacks the key {key!r}", "It has no default", "Add it; see recipes/")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in content.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return read_table(hint, value, where)  # type: ignore[arg-type]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        if value in list(hint):
            return hint(value)
    elif origin is tuple and isinstance(value, list):
        part = typing.get_args(hint)[0]
        return tuple(_value(part, item, where) for item in value)
    elif origin is not None and isinstance(value, dict):
        part = typing.get_args(hint)[1]
        return {str(key): _value(part, item, f"{where}.{key}") for key, item in value.items()}
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise TrainingError(f"{where} is {value!r}", f"It must be {_words(hint)}", "Correct the value; see recipes/")


def _words(hint: Any) -> str:
    """What a value must be, for people."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return f"one of {', '.join(hint)}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    kinds = {str: "text", int: "a whole number", float: "a finite number", bool: "true or false"}
    parts = [kinds.get(part, "") for part in typing.get_args(hint)]
    if typing.get_origin(hint) is tuple:
        return f"a list, each entry {parts[0]}"
    if parts:
        return f"a table, each value {parts[1]}"
    return kinds.get(hint, str(hint))

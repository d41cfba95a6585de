"""Metadata as JSON: as the catalogue holds it, and as its hash is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from xsearch.errors import StoreError

# What separates items and what separates values: JSON writes no control character as it is, and no metadata hold NaN.
_ITEM, _BETWEEN = "\x1e", "\x1eNaN\x1e"


def compact_json(value: Any) -> str:
    """JSON as both databases look into it: names as they are written, and no spaces, which SQLite leaves out too."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def compact_json_all(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """:func:`compact_json` of each."""
    return _all(values, item=",", key=":", in_order=False)


def sorted_json(value: object) -> str:
    """JSON, names in order: the same for equal metadata."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def sorted_json_all(values: Sequence[Mapping[str, Any]]) -> list[str]:
    """:func:`sorted_json` of each."""
    return _all(values, item=", ", key=": ", in_order=True)


def _all(values: Sequence[Mapping[str, Any]], *, item: str, key: str, in_order: bool) -> list[str]:
    """JSON of each value, all written in one go: for each go json makes a writer, which takes longer than writing."""
    if not values:
        return []
    parts: list[object] = [math.nan] * (2 * len(values) - 1)
    parts[::2] = [value if type(value) is dict else dict(value) for value in values]
    joined = json.dumps(parts, ensure_ascii=False, separators=(_ITEM, key), sort_keys=in_order)
    found = joined[1:-1].split(_BETWEEN)
    if len(found) != len(values):
        raise StoreError("Metadata hold NaN", "JSON has no such number", "Report this as a bug")
    return [text.replace(_ITEM, item) for text in found]

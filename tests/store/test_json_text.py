"""JSON of many metadata at once is what JSON of each is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsearch.errors import StoreError
from xsearch.store.json_text import compact_json, compact_json_all, sorted_json, sorted_json_all

# What separates the written values, as text that somebody may have.
NAMES = st.text(max_size=8) | st.sampled_from(["NaN", "\x1e", "\x1eNaN\x1e", ", NaN, ", '"', "\\"])
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | NAMES
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3))


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=4), max_size=5))
def test_as_one_by_one(metadata: list[dict[str, object]]) -> None:
    assert compact_json_all(metadata) == [compact_json(one) for one in metadata]
    assert sorted_json_all(metadata) == [sorted_json(one) for one in metadata]


@pytest.mark.parametrize("metadata", [[{"a": math.nan}], [{}, {"a": [1, math.nan, 2]}, {}]])
def test_nan_is_never_taken_for_a_border(metadata: list[dict[str, object]]) -> None:
    if len(metadata) == 1:
        assert compact_json_all(metadata) == ['{"a":NaN}']
    else:
        with pytest.raises(StoreError, match="hold NaN"):
            compact_json_all(metadata)

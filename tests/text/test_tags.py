"""Codes that a person types: known languages pass, slips of the pen are refused."""

from __future__ import annotations

import pytest

from xsearch.errors import InvalidArgumentError
from xsearch.text.tags import known_tag


@pytest.mark.parametrize(
    ("code", "tag"),
    [("de", "de"), ("deu", "de"), ("zho-Hans", "zh"), ("zh_TW", "zh-Hant"), ("und", "und"), ("UND", "und")],
)
def test_known_codes_become_tags(code: str, tag: str) -> None:
    assert known_tag(code) == tag


@pytest.mark.parametrize("code", ["gernam", "", "xx", "unknown"])
def test_unknown_codes_are_refused_with_a_way_out(code: str) -> None:
    with pytest.raises(InvalidArgumentError, match="language") as caught:
        known_tag(code)
    assert "xsearch info" in caught.value.remedy

"""The language matrix and its means."""

from __future__ import annotations

import pytest

from xsearch.evaluation.matrix import LanguageMatrix

MATRIX = LanguageMatrix({("en", "en"): 0.8, ("en", "de"): 0.4, ("de", "en"): 0.6, ("de", "de"): 0.2, ("ar", "en"): 0.1})


def test_axes_are_sorted() -> None:
    assert MATRIX.doc_langs == ("ar", "de", "en")
    assert MATRIX.query_langs == ("de", "en")


def test_means() -> None:
    assert MATRIX.mono == pytest.approx(0.5)
    assert MATRIX.cross == pytest.approx((0.4 + 0.6 + 0.1) / 3)
    assert MATRIX.mean == pytest.approx(0.42)
    assert MATRIX.row_mean("en") == pytest.approx(0.6)
    assert MATRIX.row_mean("ar") == pytest.approx(0.1)
    assert MATRIX.column_mean("en") == pytest.approx(0.5)


def test_what_is_missing_is_none() -> None:
    assert MATRIX.get("ar", "de") is None
    assert MATRIX.row_mean("xx") is None
    assert LanguageMatrix({("en", "en"): 0.8}).cross is None
    assert LanguageMatrix({("en", "de"): 0.8}).mono is None
    assert LanguageMatrix({}).mean is None


def test_a_pool_of_all_languages_is_neither_mono_nor_cross() -> None:
    pool = LanguageMatrix({("all", "en"): 0.2, ("all", "de"): 0.4})
    assert pool.mean == pytest.approx(0.3)
    assert pool.mono is None
    assert pool.cross is None

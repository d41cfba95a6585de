"""Hubness: counts, skewness and the worst passages, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.errors import InvalidArgumentError, NonFiniteVectorError
from xsearch.evaluation import hubness
from xsearch.evaluation.hubness import Hubness, k_occurrences, measure_hubness, skewness, worst_hubs

QUERIES = np.array([[1, 0], [0.8, 0.6], [0, 1]], dtype=np.float32)
PASSAGES = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)


def test_how_often_each_passage_is_near() -> None:
    assert k_occurrences(QUERIES, PASSAGES, k=1).tolist() == [2, 1, 0]
    assert k_occurrences(QUERIES, PASSAGES, k=2).tolist() == [2, 3, 1]
    # The last query is as far from the first passage as from the last; the higher place comes first.
    assert k_occurrences(QUERIES, PASSAGES, k=10).tolist() == [3, 3, 3]


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubness, "_SCORES_AT_ONCE", 1)
    assert k_occurrences(QUERIES, PASSAGES, k=1).tolist() == [2, 1, 0]


def test_skewness_by_hand() -> None:
    assert skewness(np.array([0, 0, 3])) == pytest.approx(0.5**0.5)
    assert skewness(np.array([0, 3, 3])) == pytest.approx(-(0.5**0.5))
    assert skewness(np.array([1, 2, 3])) == pytest.approx(0.0)
    assert skewness(np.array([4, 4])) == 0.0


def test_the_worst_hubs() -> None:
    assert worst_hubs(np.array([1, 5, 0, 5, 2]), n=3) == (1, 3, 4)
    assert worst_hubs(np.array([0, 1, 0]), n=3) == (1,)


def test_all_together() -> None:
    found = measure_hubness(QUERIES, PASSAGES, k=1, worst=2)
    assert found == Hubness(
        k=1, queries=3, passages=3, skewness=pytest.approx(0.0), never=pytest.approx(1 / 3), largest=2, worst=(0, 1)
    )


def test_what_is_refused() -> None:
    nothing = np.empty((0, 2), dtype=np.float32)
    with pytest.raises(InvalidArgumentError, match="0 queries and 3 passages"):
        k_occurrences(nothing, PASSAGES)
    with pytest.raises(InvalidArgumentError, match="3 queries and 0 passages"):
        k_occurrences(QUERIES, nothing)
    with pytest.raises(InvalidArgumentError, match="k is 0"):
        k_occurrences(QUERIES, PASSAGES, k=0)
    with pytest.raises(NonFiniteVectorError):
        k_occurrences(QUERIES * np.float32(np.nan), PASSAGES)

"""The total order: score descending, then id descending, for integer and for string ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from xsearch.errors import InvalidArgumentError, NonFiniteVectorError
from xsearch.ranking import order, top_k


def f32(*values: float) -> NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def test_score_descending() -> None:
    assert order(f32(0.1, 0.9, -0.5, 0.3), [10, 11, 12, 13]).tolist() == [1, 3, 0, 2]


def test_ties_go_to_the_greater_integer_id() -> None:
    assert order(f32(0.5, 0.9, 0.5, 0.5), [7, 1, 10, 9]).tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("dtype", [np.str_, object])
def test_ties_of_strings_compare_by_code_point(dtype: Any) -> None:
    ids = np.array(["C10", "C9", "C2", "É", "中"], dtype=dtype)
    assert order(f32(0.5, 0.5, 0.5, 0.5, 0.5), ids).tolist() == [4, 3, 1, 2, 0]


def test_code_point_order_is_utf8_order() -> None:
    ids = ["z", "é", "中", "ﬀ", "😀"]  # UTF-16 order would put the emoji before the ligature
    assert [ids[i] for i in order(f32(*[0.0] * 5), ids)] == sorted(ids, key=lambda s: s.encode(), reverse=True)


def test_zero_and_minus_zero_tie() -> None:
    assert order(f32(-0.0, 0.0), [2, 1]).tolist() == [0, 1]


def test_order_of_nothing() -> None:
    assert order(f32(), []).tolist() == []
    assert top_k(f32(), [], k=3).tolist() == []


def test_top_k_settles_a_tie_at_the_cut_by_id() -> None:
    scores = f32(0.5, 0.5, 0.9, 0.5, 0.1)
    assert top_k(scores, [1, 3, 0, 2, 9], k=2).tolist() == [2, 1]
    assert top_k(scores, [1, 3, 0, 2, 9], k=3).tolist() == [2, 1, 3]


def test_top_k_beyond_n_is_everything() -> None:
    assert top_k(f32(0.1, 0.2), ["a", "b"], k=1000).tolist() == [1, 0]


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(k: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"k is {k}"):
        top_k(f32(0.1, 0.2), [1, 2], k=k)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(NonFiniteVectorError, match="The score of C2 is"):
        order(f32(0.1, bad, 0.3), ["C1", "C2", "C3"])
    with pytest.raises(NonFiniteVectorError, match="1 of 3"):
        top_k(f32(0.1, bad, 0.3), ["C1", "C2", "C3"], k=1)


def test_lengths_must_agree() -> None:
    with pytest.raises(InvalidArgumentError, match="Both must have one shape"):
        order(f32(0.1, 0.2), [1])


@given(
    st.lists(st.tuples(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), st.integers(0, 50)), min_size=1, max_size=60),
    st.integers(1, 70),
    st.booleans(),
)
def test_top_k_is_the_head_of_a_plain_sort(items: list[tuple[float, int]], k: int, as_text: bool) -> None:
    unique = {item_id: score for score, item_id in items}
    ids: list[Any] = [f"C{i}" for i in unique] if as_text else list(unique)
    scores = f32(*unique.values())
    expected = sorted(range(len(ids)), key=lambda i: (scores[i], ids[i]), reverse=True)
    assert order(scores, ids).tolist() == expected
    assert top_k(scores, ids, k=k).tolist() == expected[:k]

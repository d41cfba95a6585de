"""Embeddings of a new vocabulary: what is kept, what is a weighted mean, what is blended, and never NaN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xsearch.training.transplant import transplant
from xsearch.training.word_alignment import Alignment

# The English model: two pieces of length 2 at right angles, one of length 4.
BASE = np.array([[2, 0], [0, 2], [4, 0]], dtype=np.float32)


def links(*rows: tuple[int, int, float]) -> Alignment:
    source, target, count = zip(*rows, strict=True) if rows else ((), (), ())
    return Alignment(np.array(source, dtype=np.int64), np.array(target, dtype=np.int64), np.array(count, dtype=float))


def made(
    alignments: list[Alignment],
    *,
    size: int = 4,
    base: NDArray[np.float32] = BASE,
    kept: dict[int, int] | None = None,
    **changes: Any,
) -> tuple[NDArray[np.float32], int]:
    values: dict[str, Any] = {
        "english_counts": np.zeros(size), "other_counts": np.zeros(size), "min_probability": 0.1, "seed": 1,
    }  # fmt: skip
    return transplant(size, base, {0: 1, 1: 0} if kept is None else kept, alignments, **values | changes)


def test_an_english_piece_keeps_its_row() -> None:
    found, unknown = made([])
    assert found[:2].tolist() == [[0, 2], [2, 0]]
    assert unknown == 2
    assert found.dtype == np.float32


def test_a_foreign_piece_is_the_weighted_mean_at_the_usual_length() -> None:
    """3 links with (2, 0) and 1 with (0, 2): (1.5, 0.5), scaled to the median length of kept rows, 2."""
    found, unknown = made([links((2, 0, 3.0), (2, 1, 1.0))])
    assert found[2] == pytest.approx(2 * np.array([1.5, 0.5]) / np.sqrt(2.5))
    assert unknown == 1


def test_the_usual_length_is_the_median_of_the_kept() -> None:
    found, _ = made([links((3, 0, 1.0))], kept={0: 0, 1: 1, 2: 2})
    assert np.linalg.norm(found[3]) == pytest.approx(2)
    found, _ = made([links((3, 0, 1.0))], kept={0: 2})
    assert np.linalg.norm(found[3]) == pytest.approx(4)
    found, _ = made([links((3, 0, 1.0))], kept={})
    assert np.linalg.norm(found[3]) == pytest.approx(1)


def test_languages_are_summed_by_their_counts() -> None:
    found, _ = made([links((2, 0, 3.0)), links((2, 1, 1.0))])
    assert found[2] == pytest.approx(2 * np.array([3, 1]) / np.sqrt(10), abs=1e-6)


def test_links_that_are_rare_for_their_piece_and_language_are_noise() -> None:
    """0.9 of 10 are under a tenth; of another language's 1.0 they are not looked at together."""
    found, _ = made([links((2, 0, 9.1), (2, 1, 0.9))])
    assert found[2] == pytest.approx([2, 0])
    found, _ = made([links((2, 0, 9.1), (2, 1, 0.9))], min_probability=0.09)
    assert found[2][1] > 0.1
    found, _ = made([links((2, 0, 9.1)), links((2, 1, 0.9))])
    assert found[2][1] > 0.1


def test_a_shared_piece_is_as_english_as_its_share_of_uses() -> None:
    """Piece 0 is English (0, 2), and elsewhere means (2, 0). 1 use in English, 5 elsewhere: (4 * 1 + 1) / (5 + 5)."""
    found, _ = made(
        [links((0, 0, 1.0))], english_counts=np.array([1.0, 0, 0, 0]), other_counts=np.array([5.0, 0, 0, 0])
    )
    assert found[0] == pytest.approx(0.5 * np.array([0, 2]) + 0.5 * np.array([2, 0]))


def test_a_shared_piece_that_only_english_uses_stays() -> None:
    found, _ = made([links((0, 0, 1.0))], english_counts=np.array([7.0, 0, 0, 0]))
    assert found[0] == pytest.approx([0, 2])


def test_pieces_without_a_translation_are_drawn_by_the_seed() -> None:
    one, again, other = (made([], size=2000, seed=seed)[0] for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one[2:] != other[2:]).any(axis=1).all()
    assert one[2:].mean(axis=0) == pytest.approx(BASE.mean(axis=0), abs=0.15)
    assert one[2:].std(axis=0) == pytest.approx(BASE.std(axis=0), abs=0.15)


def test_translations_that_cancel_out_count_as_none() -> None:
    base = np.array([[1, 1], [-1, -1], [3, 3]], dtype=np.float32)
    found, unknown = made([links((2, 0, 1.0), (2, 1, 1.0))], base=base)
    assert unknown == 2
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[2]) > 0


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.floats(0, 1e6)), max_size=12),
    st.lists(st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e15]), min_size=2, max_size=2), min_size=3, max_size=3),
    st.dictionaries(st.integers(0, 5), st.integers(0, 2), max_size=6),
    st.lists(st.integers(0, 10**6), min_size=12, max_size=12),
)
def test_there_is_never_nan(
    rows: list[tuple[int, int, float]], base: list[list[float]], kept: dict[int, int], uses: list[int]
) -> None:
    found, unknown = made(
        [links(*rows)],
        size=6,
        base=np.array(base, dtype=np.float32),
        kept=kept,
        english_counts=np.array(uses[:6], dtype=float),
        other_counts=np.array(uses[6:], dtype=float),
    )
    assert np.isfinite(found).all()
    assert 0 <= unknown <= 6 - len(kept)

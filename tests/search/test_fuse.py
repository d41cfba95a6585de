"""The convex fusion of meaning and words."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.errors import InvalidArgumentError
from xsearch.search.fuse import fuse


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_a_worked_example() -> None:
    assert fuse(floats(0.5, -1, 1), floats(0.2, 0, 1), weight=3).tolist() == pytest.approx([0.275, -0.25, 1.0])


def test_without_shared_words_the_cosine_ranks() -> None:
    """Pitfall 16: a leg that found nothing must not reorder what the other found."""
    cosines = floats(0.9, 0.1, 0.5, -0.3)
    assert np.argsort(-fuse(cosines, np.zeros(4, dtype=np.float32))).tolist() == np.argsort(-cosines).tolist()


def test_weight_zero_is_the_cosine() -> None:
    assert fuse(floats(0.3, 0.7), floats(1, 0), weight=0).tolist() == pytest.approx([0.3, 0.7])


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="weight"):
        fuse(floats(0.1), floats(0.1), weight=-1)

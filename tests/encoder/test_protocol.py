"""Vectors are normalised in one place, which refuses what has no direction."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import NonFiniteVectorError


def test_rows_come_out_at_length_one_and_in_order() -> None:
    unit = unit_vectors(np.array([[3, 4], [0, -2], [-5, 12]], dtype=np.float32))
    expected = [[0.6, 0.8], [0, -1], [-5 / 13, 12 / 13]]
    np.testing.assert_allclose(unit, expected, rtol=1e-6)


def test_result_is_float32_in_c_order_and_the_input_unchanged() -> None:
    given = np.asfortranarray(np.array([[3, 4], [6, 8]], dtype=np.float64))
    unit = unit_vectors(given)  # type: ignore[arg-type]
    assert (unit.dtype, unit.flags["C_CONTIGUOUS"]) == (np.dtype(np.float32), True)
    assert given.tolist() == [[3, 4], [6, 8]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(bad: float) -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    rows[2, 1] = bad
    with pytest.raises(NonFiniteVectorError, match=r"Vector 2 of 4 .*Check the encoder's weights"):
        unit_vectors(rows)


def test_a_row_of_zeros_is_refused_with_its_row() -> None:
    with pytest.raises(NonFiniteVectorError, match="Vector 1 of 2 is not finite or is all zeros"):
        unit_vectors(np.array([[1, 0], [0, 0]], dtype=np.float32))


@pytest.mark.parametrize("size", [1e-10, 1e15])
def test_very_short_and_very_long_rows_keep_their_direction(size: float) -> None:
    rows = np.array([[3, 4]], dtype=np.float32) * np.float32(size)
    np.testing.assert_allclose(unit_vectors(rows), [[0.6, 0.8]], rtol=1e-5)


def test_no_rows() -> None:
    assert unit_vectors(np.empty((0, 5), dtype=np.float32)).shape == (0, 5)

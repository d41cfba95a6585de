"""Weights as small integers: by hand, within their bounds, and with the smallest error."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.encoder.quantise import BLOCK, packed, quantise_blocks, quantise_columns, quantise_rows
from xsearch.errors import EncoderError


def test_quantise_rows_by_hand() -> None:
    table = np.array([[1.27, -0.635, 0.01], [0, 0, 0], [-2.54, 2.54, 0.03]], dtype=np.float32)
    quantised, scale = quantise_rows(table)
    # Scales 1.27/127, one for the zeros, 2.54/127; -63.5 rounds to the even -64, 1.5 to 2.
    np.testing.assert_allclose(scale, [[0.01], [1.0], [0.02]], rtol=1e-6)
    assert quantised.dtype == np.int8
    assert quantised[0, [0, 2]].tolist() == [127, 1]
    assert int(quantised[0, 1]) in (-64, -63)  # -63.5 in binary lies a hair on either side
    assert quantised[1].tolist() == [0, 0, 0]
    assert quantised[2, :2].tolist() == [-127, 127]


def test_quantise_columns_scales_each_output() -> None:
    matrix = np.array([[1.27, 0.0], [-0.5, 0.0], [0.02, 0.0]], dtype=np.float32)
    quantised, scale = quantise_columns(matrix)
    assert quantised.tolist() == [[127, 0], [-50, 0], [2, 0]]
    np.testing.assert_allclose(scale, [0.01, 1.0], rtol=1e-6)


def test_quantised_rows_are_within_half_a_step() -> None:
    table = np.random.default_rng(5).normal(size=(50, 30)).astype(np.float32)
    quantised, scale = quantise_rows(table)
    assert (np.abs(quantised * scale - table) <= scale / 2 + 1e-6).all()


def restored(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return codes * np.repeat(scales.astype(np.float32), BLOCK, axis=1)


@pytest.mark.parametrize("most", range(1, 9))
def test_what_was_4_bits_before_is_met_exactly(most: int) -> None:
    """Whatever the outermost code of a block is: only -8 has no counterpart."""
    draw = np.random.default_rng(most)
    codes = draw.integers(-most, min(most, 7) + 1, (40, 3 * BLOCK))
    codes[:, ::BLOCK] = -most
    scales = draw.uniform(0.001, 0.02, (40, 3)).astype(np.float16)
    table = restored(codes, scales).astype(np.float32)
    blocks = quantise_blocks(table)
    assert blocks.squared_error == 0
    assert blocks.scales.dtype == np.float16
    np.testing.assert_array_equal(restored(blocks.codes, blocks.scales), table)


def test_other_weights_get_a_better_scale_than_a_seventh_of_the_outermost() -> None:
    table = np.random.default_rng(1).normal(size=(200, 4 * BLOCK)).astype(np.float32) * 0.05
    blocks = quantise_blocks(table)
    lost = float(np.square(restored(blocks.codes, blocks.scales) - table).sum())
    assert blocks.squared_error == pytest.approx(lost, rel=1e-4)
    usual = np.abs(table.reshape(-1, BLOCK)).max(axis=1, keepdims=True) / 7
    plain = np.rint(table.reshape(-1, BLOCK) / usual) * usual
    assert blocks.plain_squared_error == pytest.approx(float(np.square(plain.reshape(table.shape) - table).sum()), 1e-3)
    # Measured on this draw: 0.79.
    assert blocks.squared_error < 0.83 * blocks.plain_squared_error
    assert blocks.codes.min() == -8 and blocks.codes.max() == 7


def test_a_block_of_zeros_stays_one() -> None:
    table = np.zeros((2, 2 * BLOCK), dtype=np.float32)
    table[1, :BLOCK] = 0.5
    blocks = quantise_blocks(table)
    np.testing.assert_array_equal(restored(blocks.codes, blocks.scales), table)


@pytest.mark.parametrize(("size", "kind"), [(1e-6, np.float32), (0.05, np.float16), (1e6, np.float32)])
def test_scales_are_float32_where_float16_cannot_hold_them(size: float, kind: type) -> None:
    table = np.random.default_rng(2).normal(size=(20, BLOCK)).astype(np.float32) * np.float32(size)
    blocks = quantise_blocks(table)
    assert blocks.scales.dtype == kind
    assert blocks.squared_error < 0.01 * float(np.square(table).sum())


def test_rows_that_are_no_whole_blocks_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"have 48 dimensions.* multiple of 32.* as int8"):
        quantise_blocks(np.ones((2, 48), dtype=np.float32))


def test_two_codes_share_a_byte() -> None:
    assert packed(np.array([[0, 1, -1, -8], [7, -7, 2, 3]], dtype=np.int8)).tolist() == [[0x10, 0x8F], [0x97, 0x32]]

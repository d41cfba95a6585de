"""Weights as small integers with scales: 8 bits by row or by column, 4 bits by blocks of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import EncoderError

Floats = NDArray[np.float32]
# Weights of a row that share one scale.
BLOCK = 32
# What the outermost weight of a block is tried as, in steps of the scale. A block that was 4 bits before is met exactly
# by the whole numbers; of the others one lies near the best scale, from which two rounds of least squares go on.
# A negative one turns the scale's sign: codes run from -8 to 7, and the outermost weight may be of either sign.
OUTERMOST = (-8.0, 7.0, -7.5, 7.5, -8.5, 8.0, -9.0, 6.5, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
REFINEMENTS = 2
# Rows at a time; bounds memory.
CHUNK_ROWS = 4096
# float16 holds scales of weights whose blocks reach from here ...
LEAST_FLOAT16 = 1e-3
# ... to here.
MOST_FLOAT16 = 6e4


@dataclass(frozen=True, slots=True)
class Blocks:
    """A table in blocks of 4 bits.

    Attributes:
        codes: ``(rows, dim) int8``, from -8 to 7.
        scales: ``(rows, dim / BLOCK)``, float16, or float32 where float16 cannot hold them.
        squared_error: summed over all weights.
        plain_squared_error: what it would be with the usual scale, a seventh of the outermost weight of each block.
    """

    codes: NDArray[np.int8]
    scales: NDArray[Any]
    squared_error: float
    plain_squared_error: float


def quantise_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """An embedding table as int8 with one scale per row: ``(rows, dim) int8`` and ``(rows, 1) float32``."""
    scale = np.abs(table).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(table / scale).astype(np.int8), scale.astype(np.float32)


def quantise_columns(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """A ``(in, out)`` matrix as int8 with one scale per output: ``(in, out) int8`` and ``(out,) float32``."""
    quantised, scale = quantise_rows(np.ascontiguousarray(matrix.T))
    return np.ascontiguousarray(quantised.T), scale[:, 0]


def quantise_blocks(table: Floats) -> Blocks:
    """An embedding table in blocks of 4 bits, each with the scale that leaves the smallest squared error found.

    Raises:
        EncoderError: the rows cannot be divided into blocks.
    """
    rows, dim = table.shape
    if dim % BLOCK:
        raise EncoderError(
            f"The embeddings have {dim} dimensions",
            f"Blocks of 4 bits hold {BLOCK} weights, so the dimensions must be a multiple of {BLOCK}",
            "Export the embeddings as int8",
        )
    kind = _scale_kind(table)
    codes = np.empty((rows, dim), dtype=np.int8)
    scales = np.empty((rows, dim // BLOCK), dtype=kind)
    error = plain_error = 0.0
    for start in range(0, rows, CHUNK_ROWS):
        part = slice(start, start + CHUNK_ROWS)
        blocks = table[part].reshape(-1, BLOCK)
        found, scale, lost = _best_codes(blocks, kind)
        codes[part] = found.reshape(-1, dim)
        scales[part] = scale.reshape(-1, dim // BLOCK)
        error += float(lost.sum(dtype=np.float64))
        _, plain_lost = _coded(blocks, _held(np.abs(blocks).max(axis=1) / 7, kind))
        plain_error += float(plain_lost.sum(dtype=np.float64))
    return Blocks(codes, scales, error, plain_error)


def packed(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """``(rows, dim)`` codes from -8 to 7 as ``(rows, dim / 2)`` bytes, the first of two in the lower half."""
    halves = codes.view(np.uint8) & 0x0F
    return np.ascontiguousarray(halves[:, 0::2] | (halves[:, 1::2] << 4))


def _best_codes(blocks: Floats, kind: type[Any]) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Codes, scales and squared errors of ``(n, BLOCK)`` weights."""
    outermost = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1, keepdims=True), axis=1)[:, 0]
    best = _held(outermost / np.float32(OUTERMOST[0]), kind)
    codes, lost = _coded(blocks, best)
    for place in range(1, len(OUTERMOST) + REFINEMENTS):
        if place < len(OUTERMOST):
            scale = outermost / np.float32(OUTERMOST[place])
        else:
            scale = _least_squares(blocks, codes, best)
        scale = _held(scale, kind)
        other, other_lost = _coded(blocks, scale)
        better = other_lost < lost
        best[better], codes[better], lost[better] = scale[better], other[better], other_lost[better]
    return codes, best, lost


def _coded(blocks: Floats, scale: Floats) -> tuple[NDArray[np.int8], Floats]:
    """The nearest codes at these scales, and the squared error of each block."""
    divisor = np.where(scale == 0, np.float32(1), scale)[:, None]
    codes = np.clip(np.rint(blocks / divisor), -8, 7)
    lost: Floats = np.square(codes * scale[:, None] - blocks).sum(axis=1)
    return codes.astype(np.int8), lost


def _least_squares(blocks: Floats, codes: NDArray[np.int8], current: Floats) -> Floats:
    """The scale that fits these codes best; the current one where they are all zero."""
    floats = codes.astype(np.float32)
    square = np.square(floats).sum(axis=1)
    fitted: Floats = np.divide((blocks * floats).sum(axis=1), square, out=current.copy(), where=square > 0)
    return fitted


def _held(scale: Floats, kind: type[Any]) -> Floats:
    """The scales as the file will hold them."""
    return scale.astype(kind).astype(np.float32)


def _scale_kind(table: Floats) -> type[Any]:
    sizes = np.abs(table).max(axis=1)
    usual = float(np.median(sizes[sizes > 0])) if sizes.any() else 1.0
    return np.float16 if usual >= LEAST_FLOAT16 and float(sizes.max(initial=0)) <= MOST_FLOAT16 else np.float32

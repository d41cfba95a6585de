"""A linear step behind an encoder: ``v @ matrix - offset``, one matrix and an offset for each door, then unit length.

Language bias is taken out of vectors by such a step (:mod:`xsearch.encoder.debias`): means and directions that tell the
language of a text, not what it says. The step of an exported encoder is part of its graph; any other encoder is
followed by it (:class:`xsearch.encoder.stepped.SteppedEncoder`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors, unit_vectors
from xsearch.errors import EncoderError

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class LinearStep:
    """What follows an encoder's unit vectors.

    Attributes:
        matrix: ``(dim, dim_out) float32``.
        query_offset, passage_offset: ``(dim_out,) float32``, subtracted after the product, by door.
        encoder: digest of the fingerprint of the encoder it was fitted for.
        facts: how it was fitted, plain JSON values: method, number of directions, languages, texts.
    """

    matrix: Floats
    query_offset: Floats
    passage_offset: Floats
    encoder: str
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        shapes = {self.query_offset.shape, self.passage_offset.shape}
        arrays = (self.matrix, self.query_offset, self.passage_offset)
        if self.matrix.ndim != 2 or shapes != {(self.matrix.shape[1],)}:
            raise EncoderError(
                f"The step has a matrix of {self.matrix.shape} and offsets of {sorted(shapes)}",
                "It must be (dim, dim_out), with two offsets of (dim_out,)",
                "Fit the step again: xsearch debias",
            )
        if not all(bool(np.isfinite(array).all()) for array in arrays):
            raise EncoderError(
                "The step holds NaN or infinity",
                "Every number of it must be finite",
                "Fit the step again: xsearch debias",
            )

    @property
    def dim(self) -> int:
        """Of the vectors that come in."""
        return int(self.matrix.shape[0])

    @property
    def dim_out(self) -> int:
        """Of the vectors that come out."""
        return int(self.matrix.shape[1])

    @property
    def digest(self) -> str:
        """SHA-256 over the numbers, hexadecimal."""
        digest = hashlib.sha256(json.dumps([self.dim, self.dim_out]).encode())
        for array in (self.matrix, self.query_offset, self.passage_offset):
            digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
        return digest.hexdigest()

    def queries(self, vectors: Vectors) -> Vectors:
        """``(n, dim) float32, rows L2-normalised`` to ``(n, dim_out) float32, rows L2-normalised``."""
        return unit_vectors(vectors @ self.matrix - self.query_offset)

    def passages(self, vectors: Vectors) -> Vectors:
        """``(n, dim) float32, rows L2-normalised`` to ``(n, dim_out) float32, rows L2-normalised``."""
        return unit_vectors(vectors @ self.matrix - self.passage_offset)

"""What every encoder offers: text to unit vectors, with queries and passages through different doors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.errors import NonFiniteVectorError

Vectors = NDArray[np.float32]
OnProgress = Callable[[int], None]


class Encoder(Protocol):
    """Text to vectors of one space for all languages.

    Attributes:
        dim: length of a vector.
        max_tokens: tokens of one text that are read, special tokens and prompt included; what is beyond is cut.
        overhead_tokens: how many of those a passage's special tokens and prompt take.
    """

    dim: int
    max_tokens: int
    overhead_tokens: int

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``, with the query prompt."""
        ...

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``, with the passage prompt."""
        ...

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """For each passage its contextual token vectors, ``(tokens, dim) float32``, not normalised.

        Row ``i`` belongs to ``token_offsets([text])[0][i]``; special tokens, the prompt and what is cut are left out.
        """
        ...

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of every token, special tokens and prompt left out, nothing cut."""
        ...

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """For each text how many of its characters stand in tokens that the vocabulary lacks: they mean nothing."""
        ...

    @property
    def fingerprint(self) -> Fingerprint:
        """What makes vectors of this encoder comparable to each other and to no others."""
        ...


def unreadable(encoder: Encoder, texts: Sequence[str]) -> list[bool]:
    """For each text whether more than half of its characters, white space apart, mean nothing to the encoder."""
    counts = encoder.unknown_characters(texts)
    return [2 * count > len("".join(text.split())) for text, count in zip(texts, counts, strict=True)]


def unit_vectors(vectors: Vectors) -> Vectors:
    """The same rows at length 1; the one place where vectors are normalised.

    Args:
        vectors: ``(n, dim) float32``.

    Raises:
        NonFiniteVectorError: a row holds NaN or infinity, or is all zero and so has no direction.
    """
    rows = np.ascontiguousarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] < 1e-12)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise NonFiniteVectorError(
            f"Vector {first} of {len(rows)} is not finite or is all zeros (its length is {float(norms[first, 0])})",
            "A vector must be finite and have a direction",
            "Check the encoder's weights: a piece of its vocabulary may hold NaN",
        )
    unit: Vectors = rows / norms
    return unit

"""An encoder that encodes a text once: evaluations ask for the same questions and passages again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from xsearch.encoder.fingerprint import Fingerprint
from xsearch.encoder.protocol import Encoder, OnProgress, Vectors


class RememberingEncoder:
    """Another encoder, whose vectors are kept by door and text as long as this lives.

    A vector takes ``4 * dim`` bytes: 1.5 KB at 384 dimensions, so 150 MB for 100,000 texts.

    Args:
        encoder: what encodes the texts that were not asked for before.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._queries: dict[str, Vectors] = {}
        self._passages: dict[str, Vectors] = {}
        self.dim = encoder.dim
        self.max_tokens = encoder.max_tokens
        self.overhead_tokens = encoder.overhead_tokens

    @property
    def fingerprint(self) -> Fingerprint:
        """The other encoder's."""
        return self._encoder.fingerprint

    def encode_queries(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._recall(self._encoder.encode_queries, self._queries, texts, on_progress)

    def encode_passages(self, texts: Sequence[str], *, on_progress: OnProgress | None = None) -> Vectors:
        """``(n, dim) float32, rows L2-normalised``, in the order of ``texts``."""
        return self._recall(self._encoder.encode_passages, self._passages, texts, on_progress)

    def token_vectors(self, texts: Sequence[str]) -> list[Vectors]:
        """The other encoder's; not kept."""
        return self._encoder.token_vectors(texts)

    def token_offsets(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """The other encoder's."""
        return self._encoder.token_offsets(texts)

    def unknown_characters(self, texts: Sequence[str]) -> list[int]:
        """The other encoder's."""
        return self._encoder.unknown_characters(texts)

    def _recall(
        self,
        encode: Callable[[Sequence[str]], Vectors],
        known: dict[str, Vectors],
        texts: Sequence[str],
        on_progress: OnProgress | None,
    ) -> Vectors:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, encode(new), strict=True))
        if on_progress is not None:
            on_progress(len(texts))
        rows = [known[text] for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

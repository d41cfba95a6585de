"""The part of a passage that answers: its sentence nearest to the query, read in the context of the whole passage."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xsearch.encoder.protocol import Encoder, Vectors
from xsearch.records import Span
from xsearch.text.passages import sentence_spans


def best_sentences(encoder: Encoder, query: Vectors, texts: Sequence[str], langs: Sequence[str]) -> list[Span | None]:
    """The best sentence of each passage, or ``None`` for a passage of which no token is left.

    A sentence is the mean of its token vectors, taken from one pass over the whole passage, so that it is scored with
    its paragraph as context.

    Args:
        query: ``(dim,) float32, L2-normalised``.
        texts: the passages.
        langs: their BCP-47 tags; they choose the sentence rules.
    """
    vectors = encoder.token_vectors(texts)
    offsets = encoder.token_offsets(texts)
    return [_best(query, *parts) for parts in zip(texts, langs, vectors, offsets, strict=True)]


def _best(query: Vectors, text: str, lang: str, vectors: Vectors, offsets: Sequence[tuple[int, int]]) -> Span | None:
    best: Span | None = None
    starts = np.array([start for start, _ in offsets[: len(vectors)]], dtype=np.int64)
    for start, end in sentence_spans(text, lang):
        inside = (starts >= start) & (starts < end)
        if not inside.any():
            continue
        mean = vectors[inside].mean(axis=0)
        score = float(np.clip(mean @ query / max(float(np.linalg.norm(mean)), 1e-12), -1, 1))
        if best is None or score > best.score:
            best = _trimmed(text, start, end, score)
    return best


def _trimmed(text: str, start: int, end: int, score: float) -> Span:
    sentence = text[start:end]
    lead = len(sentence) - len(sentence.lstrip())
    return Span(start + lead, start + len(sentence.rstrip()), score)

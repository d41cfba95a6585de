"""Vectors and segments for tests of search, and what numpy finds in them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import unit_vectors
from xsearch.store.vectors import Nearest, Segment, consecutive, runs_of, write_segment

DIM = 16
Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


def ids(*values: int) -> Ids:
    return np.array(values, dtype=np.int64)


def random_vectors(rows: int, *, seed: int = 0, dim: int = DIM) -> Floats:
    return unit_vectors(np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32))


def clustered_vectors(rows: int, *, seed: int = 0, dim: int = 32) -> Floats:
    """As texts are: around topics, of which some are more frequent than others; the topics are always the same."""
    topics = np.random.default_rng(7).normal(size=(60, dim))
    rng = np.random.default_rng(seed)
    chosen = np.minimum(rng.geometric(0.05, size=rows) - 1, 59)
    return unit_vectors((topics[chosen] + rng.normal(scale=0.7, size=(rows, dim))).astype(np.float32))


def segment_of(index: Path, number: int, vectors: Floats, *, first: int = 1, old: bool = False) -> Segment:
    """A segment of consecutive ids; an old one has no checksums of blocks."""
    written = write_segment(index, number, consecutive(first), vectors.shape, [vectors])
    if not old:
        return written
    return Segment(written.number, written.rows, written.dim, written.size, written.sha256, written.runs)


def merged_segment(index: Path, number: int, vectors: Floats, passage_ids: Ids) -> Segment:
    """A segment with gaps between its ids, as merging leaves it."""
    return write_segment(index, number, runs_of(passage_ids), vectors.shape, [vectors])


def stored(vectors: Floats) -> Floats:
    """The values that are on disk."""
    return vectors.astype(np.float16).astype(np.float32)


def scores_of(vectors: Floats, query: Floats) -> Floats:
    """By numpy, pair by pair, over the values that are on disk."""
    scores: Floats = np.vecdot(stored(vectors), query).clip(-1, 1)
    return scores


def brute_force(vectors: Floats, row_ids: Ids, query: Floats, k: int) -> list[tuple[int, float]]:
    """The ``k`` best ids and scores, in total order."""
    found = zip(row_ids.tolist(), scores_of(vectors, query).tolist(), strict=True)
    return sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]


def pairs(nearest: Nearest) -> list[tuple[int, float]]:
    """Ids and scores, as :func:`brute_force` gives them."""
    return list(zip(nearest.passage_ids.tolist(), nearest.scores.tolist(), strict=True))


def recall(vectors: Floats, queries: Floats, found: Collection[Ids], k: int) -> float:
    """Share of the true ``k`` nearest rows that are among those that were found."""
    met = 0
    for query, rows in zip(queries, found, strict=True):
        lowest = np.sort(scores_of(vectors, query))[-k]
        met += min(k, int((scores_of(vectors[rows], query) >= lowest - 4e-6).sum()))
    return met / (k * len(queries))

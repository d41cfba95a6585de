"""Exact search over the vectors of some segments with a FAISS flat index, inner product of unit vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xsearch.store.selection import Selection, import_faiss
from xsearch.store.vectors import READ_ROWS, Found, RawVectors, Rows, Segment, Vectors, inner_products

# By how much two ways of computing one score may differ: measured 2e-7 at 384 dimensions.
ROUNDING = 4e-6
# Fetched beyond k, so that a second search for ties is rare.
SPARE_ROWS = 8
# While at least this share of the rows may be found, a few more are fetched and the others passed over; a selector
# keeps FAISS from its matrix product, which is several times as fast.
PASS_OVER_SHARE = 0.8
# From so many queries on, FAISS leaves products to its BLAS, which is slow (xsearch.store.kmeans); numpy's takes them.
PRODUCT_QUERIES = 20
# Products that are in memory at once: 64 MB.
PRODUCTS = 16_000_000
# Scores of which the greatest stands for all at first.
GROUP_ROWS = 32
# Queries whose best rows are scored again in one step.
RANKED_AT_ONCE = 64


class ExactPart:
    """The rows of neighbouring segments, laid end to end; immutable and safe for several threads.

    Args:
        segments: in order.
        flat: a FAISS flat index of their vectors.
    """

    def __init__(self, segments: Sequence[Segment], flat: Any) -> None:
        self.segments = tuple(segments)
        self.rows: int = flat.ntotal
        self._flat = flat
        # The very memory of the index, which has none where there are no rows.
        held = import_faiss().rev_swig_ptr(flat.get_xb(), self.rows * flat.d) if self.rows else np.empty(0, np.float32)
        self._array: Vectors = held.reshape(-1, flat.d)

    @classmethod
    def read(cls, raws: Iterable[RawVectors], dim: int) -> ExactPart:
        """The part made of the rows of segments, which are read one after the other.

        Args:
            raws: best opened as they are asked for: a memory map holds a file open, and a process may open few.
        """
        faiss = import_faiss()
        flat = faiss.IndexFlat(dim, faiss.METRIC_INNER_PRODUCT)
        segments: list[Segment] = []
        for raw in raws:
            for start in range(0, raw.rows, READ_ROWS):
                flat.add(raw.read_range(start, min(start + READ_ROWS, raw.rows)))
            segments.append(raw.segment)
        return cls(segments, flat)

    def joined(self, other: ExactPart) -> ExactPart:
        """A part of these rows and then the other's, copied from memory."""
        faiss = import_faiss()
        flat = faiss.IndexFlat(self._flat.d, faiss.METRIC_INNER_PRODUCT)
        for part in (self, other):
            for start in range(0, part.rows, READ_ROWS):
                flat.add(part.read_range(start, min(start + READ_ROWS, part.rows)))
        return ExactPart((*self.segments, *other.segments), flat)

    def read_range(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` to ``stop``, ``(stop - start, dim) float32``."""
        vectors: Vectors = self._flat.reconstruct_n(start, stop - start)
        return vectors

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        vectors: Vectors = self._flat.reconstruct_batch(rows)
        return vectors

    def search(self, queries: Vectors, k: int, selection: Selection) -> Found:
        """The ``k`` best rows of each query, or as many as there are; of equals the later one comes first.

        Args:
            queries: ``(n, dim) float32``.
            k: at least 1.
        """
        count = min(k, selection.count)
        if count == 0 or not len(queries):
            return Found.nothing(len(queries))
        if selection.mask is not None and selection.share >= PASS_OVER_SHARE:
            fetched = min(self.rows, round(count / selection.share) + 4 * SPARE_ROWS)
            scores, rows = self._nearest(queries, fetched)
        else:
            scores, rows = self._fetch(queries, min(count + SPARE_ROWS, selection.count), selection)
        if selection.mask is None:
            enough = scores[:, -1] < scores[:, count - 1] - ROUNDING
            if rows.shape[1] == self.rows or enough.all():
                return self._ranked(queries, rows, count)
        found: list[Found] = []
        for place, query in enumerate(queries):
            near = self._enough(query[None], scores[place], rows[place], count, selection)
            found.append(best_of(near, inner_products(self.vectors(near), query), count))
        return Found.of_each(found)

    def _ranked(self, queries: Vectors, rows: Rows, count: int) -> Found:
        """The best of some rows of each query, ``(queries, n)``, in order."""
        scores = np.concatenate(
            [
                inner_products(self._array[rows[some]], queries[some, None])
                for some in (slice(start, start + RANKED_AT_ONCE) for start in range(0, len(queries), RANKED_AT_ONCE))
            ]
        )
        return best_of_each(rows, scores, count)

    def _enough(self, query: Vectors, scores: Vectors, rows: Rows, count: int, selection: Selection) -> Rows:
        """What was found for a query, or more where that does not reach past all that may tie with the k-th."""
        while True:
            met = np.flatnonzero(np.ones(len(rows), dtype=bool) if selection.mask is None else selection.mask[rows])
            if len(met) == selection.count:
                return rows[met]
            if len(met) >= count and scores[-1] < scores[met[count - 1]] - ROUNDING:
                return rows[met]
            more_scores, more_rows = self._fetch(query, min(4 * len(rows), selection.count), selection)
            scores, rows = more_scores[0], more_rows[0]

    def _fetch(self, queries: Vectors, k: int, selection: Selection) -> tuple[Vectors, Rows]:
        if selection.selector is None:
            return self._nearest(queries, k)
        parameters = import_faiss().SearchParameters(sel=selection.selector)
        scores, rows = self._flat.search(queries, k, params=parameters)
        return scores, rows

    def _nearest(self, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
        """Scores, to within rounding, and rows of the ``k`` nearest of all, both ``(queries, k)``, best first."""
        if len(queries) < PRODUCT_QUERIES or k > self.rows // GROUP_ROWS:
            scores, rows = self._flat.search(queries, k)
            return scores, rows
        found = [
            nearest_by_product(queries[start : start + PRODUCTS // self.rows + 1], self._array, k)
            for start in range(0, len(queries), PRODUCTS // self.rows + 1)
        ]
        return np.concatenate([scores for scores, _ in found]), np.concatenate([rows for _, rows in found])


def nearest_by_product(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, Rows]:
    """Scores and rows of the ``k`` vectors of greatest inner product with each query, ``(queries, k)``, best first.

    One matrix product, of which only the scores are looked at that can be among the best: the k-th best of the maxima
    of groups of scores is not above the k-th best score.

    Args:
        k: at most as many as there are whole groups of :data:`GROUP_ROWS` vectors.
    """
    scores = queries @ vectors.T
    whole = len(vectors) // GROUP_ROWS * GROUP_ROWS
    maxima = scores[:, :whole].reshape(len(queries), -1, GROUP_ROWS).max(axis=2)
    least = np.partition(maxima, -k, axis=1)[:, -k]
    places, rows = np.nonzero(scores >= least[:, None])
    among = scores[places, rows]
    ranked = np.lexsort((-among, places))
    first = np.searchsorted(places, np.arange(len(queries)))
    chosen = ranked[first[:, None] + np.arange(k)]
    return among[chosen], rows[chosen]


def best_of(rows: Rows, scores: Vectors, count: int) -> Found:
    """The best of some rows, in order; ids ascend with rows, so that the later of two equals is the better one.

    Args:
        rows, scores: both ``(n,)``.
    """
    best = np.lexsort((rows, scores))[::-1][:count]
    return Found(rows[best], scores[best])


def best_of_each(rows: Rows, scores: Vectors, count: int) -> Found:
    """:func:`best_of` the rows of each query, both ``(queries, n)``."""
    if (scores[:, 1:] < scores[:, :-1]).all():
        # In order, as most are that were ranked before.
        return Found(rows[:, :count], scores[:, :count])
    best = np.lexsort((rows, scores), axis=1)[:, : -count - 1 : -1]
    return Found(np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1))

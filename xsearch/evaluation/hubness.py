"""Hubness: whether a few passages are among the nearest of very many queries, whatever these ask.

In a space of many dimensions some vectors come near to all others, and push what is right off the first places
(Radovanović, Nanopoulos and Ivanović, Hubs in space, JMLR 11, 2010). How often each passage is among the ``k`` nearest
of the queries (its ``k``-occurrence) tells; the skewness of that distribution is the usual measure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors
from xsearch.errors import InvalidArgumentError
from xsearch.ranking import top_k

Occurrences = NDArray[np.intp]

_SCORES_AT_ONCE = 8_000_000


@dataclass(frozen=True, slots=True)
class Hubness:
    """The ``k``-occurrences of a set of passages, summed up.

    Attributes:
        k: neighbours of a query that count.
        queries, passages: how many there were.
        skewness: of the ``k``-occurrences; 0 where they are symmetric around their mean, above 0 where there are hubs.
        never: share of the passages that are among the nearest of no query.
        largest: the highest ``k``-occurrence.
        worst: positions of the passages with the highest, the highest first.
    """

    k: int
    queries: int
    passages: int
    skewness: float
    never: float
    largest: int
    worst: tuple[int, ...]


def measure_hubness(query_vectors: Vectors, passage_vectors: Vectors, *, k: int = 10, worst: int = 10) -> Hubness:
    """How unevenly the queries' nearest passages are spread.

    Args:
        query_vectors, passage_vectors: ``(queries, dim)`` and ``(passages, dim) float32``, rows L2-normalised.
        k: neighbours of a query that count; at least 1.
        worst: how many of the most frequent passages to name.

    Raises:
        InvalidArgumentError: ``k`` is below 1, or there is no query or no passage.
        NonFiniteVectorError: a similarity is not finite.
    """
    counts = k_occurrences(query_vectors, passage_vectors, k=k)
    return Hubness(
        k=k,
        queries=len(query_vectors),
        passages=len(passage_vectors),
        skewness=skewness(counts),
        never=float((counts == 0).mean()),
        largest=int(counts.max()),
        worst=worst_hubs(counts, n=worst),
    )


def k_occurrences(query_vectors: Vectors, passage_vectors: Vectors, *, k: int = 10) -> Occurrences:
    """``(passages,)``: of how many queries each passage is among the ``k`` nearest by cosine.

    Example: queries (1, 0), (0.8, 0.6) and (0, 1), passages (1, 0) and (0, 1), ``k`` 1: the first passage is nearest to
    two queries and the second to one, so ``[2, 1]``.

    Args:
        query_vectors, passage_vectors: ``(queries, dim)`` and ``(passages, dim) float32``, rows L2-normalised.

    Raises:
        InvalidArgumentError: ``k`` is below 1, or there is no query or no passage.
        NonFiniteVectorError: a similarity is not finite.
    """
    if not len(query_vectors) or not len(passage_vectors):
        raise InvalidArgumentError(
            f"There are {len(query_vectors)} queries and {len(passage_vectors)} passages",
            "At least one of each is needed",
            "Pass vectors of both",
        )
    counts = np.zeros(len(passage_vectors), dtype=np.intp)
    ids = np.arange(len(passage_vectors))
    step = max(1, _SCORES_AT_ONCE // len(passage_vectors))
    for start in range(0, len(query_vectors), step):
        for scores in query_vectors[start : start + step] @ passage_vectors.T:
            counts[top_k(scores, ids, k=k)] += 1
    return counts


def skewness(counts: NDArray[np.integer]) -> float:
    """The standardised third moment, ``mean((x - mean(x))^3) / std(x)^3``; 0 where all are equal.

    Radovanović et al. 2010, equation 1. Example: of 0, 0, 3 the mean is 1, the third moment (-1 - 1 + 8) / 3 = 2 and
    the deviation sqrt(2), so 2 / 2.828 = 0.7071.
    """
    centred = np.asarray(counts, dtype=np.float64) - np.mean(counts)
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def worst_hubs(counts: NDArray[np.integer], *, n: int) -> tuple[int, ...]:
    """Positions of the ``n`` largest counts, the largest first, the first of equal ones first; those of 0 left out."""
    order = np.argsort(-np.asarray(counts), kind="stable")[:n]
    return tuple(int(place) for place in order if counts[place] > 0)

"""Retrieval metrics as pure functions of where the relevant documents lie in each ranking.

All take the same two arrays and give one value a query, as trec_eval does with binary judgements:

- ``found``: ``(queries, depth) bool``; ``found[q, r]`` says whether the document at rank ``r + 1`` is relevant.
  A ranking shorter than ``depth`` is filled with ``False``.
- ``relevant``: ``(queries,) int``; how many relevant documents the query has, ranked or not. 0 scores 0.

The example in each docstring is one query with three relevant documents, ranked 1st, 3rd and not at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import InvalidArgumentError

Found = NDArray[np.bool_]
Counts = NDArray[np.integer[Any]]
PerQuery = NDArray[np.float64]


def ndcg(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """nDCG@k: discounted gain of the first ``k`` results, over that of an ideal ranking.

    ``DCG@k = sum over ranks i <= k of rel_i / log2(i + 1)``; ``nDCG@k = DCG@k / ideal DCG@k``, where the ideal
    ranking has its ``min(k, relevant)`` documents first. Gain is binary.
    With one relevant document it is ``1 / log2(1 + rank)``.

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 20(4), 2002.

    Example: ``(1 / log2(2) + 1 / log2(4)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4)) = 1.5 / 2.13093 = 0.70392``

    >>> float(ndcg(np.array([[True, False, True, False]]), np.array([3]), k=10)[0].round(5))
    0.70392
    """
    hits = _first(found, relevant, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2, dtype=np.float64))
    # Row r of the sums is the ideal gain of r relevant documents; row 0 stays 0.
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(relevant, k)]
    return _ratio(hits @ discounts[: hits.shape[1]], ideal)


def recall(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """Recall@k: the share of the relevant documents among the first ``k`` results.

    ``recall@k = |relevant in the first k| / |relevant|``. Manning, Raghavan and Schütze, Introduction to
    Information Retrieval, 2008, section 8.3.

    Example: at 10, two of three are found: ``2 / 3``; at 1, ``1 / 3``.

    >>> float(recall(np.array([[True, False, True, False]]), np.array([3]), k=10)[0].round(5))
    0.66667
    """
    return _ratio(_first(found, relevant, k).sum(axis=1), relevant)


def precision(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """P@k: the share of relevant documents among the first ``k`` results; divided by ``k`` even if fewer came back.

    ``P@k = |relevant in the first k| / k``. Manning, Raghavan and Schütze, Introduction to Information
    Retrieval, 2008, section 8.4.

    Example: at 10, ``2 / 10``; at 3, ``2 / 3``.

    >>> float(precision(np.array([[True, False, True, False]]), np.array([3]), k=10)[0])
    0.2
    """
    hits = _first(found, relevant, k).sum(axis=1)
    return _ratio(hits, np.full(len(hits), k))


def success(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """Success@k: 1 where any relevant document is among the first ``k`` results, else 0; at 1 also called accuracy.

    Craswell and Hawking, Overview of the TREC-2004 web track, 2004.

    Example: at 1, ``1``.

    >>> float(success(np.array([[True, False, True, False]]), np.array([3]), k=1)[0])
    1.0
    """
    return _any(_first(found, relevant, k)).astype(np.float64)


def mrr(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """MRR@k, before its mean: one over the rank of the first relevant document, 0 if that is beyond ``k``.

    Voorhees, The TREC-8 question answering track report, 1999.

    Example: the first is at rank 1: ``1 / 1``; had it been at rank 4, ``1 / 4``.

    >>> mrr(np.array([[True, False, True, False], [False, False, False, True]]), np.array([3, 1]), k=10).tolist()
    [1.0, 0.25]
    """
    hits = _first(found, relevant, k)
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    return _ratio(_any(hits), hits.argmax(axis=1) + 1)


def average_precision(found: Found, relevant: Counts, *, k: int) -> PerQuery:
    """AP@k, whose mean is MAP: precision at the rank of each relevant document, over all the relevant ones.

    ``AP@k = (1 / |relevant|) x sum over ranks i <= k of rel_i x P@i``; what is not found adds 0.
    Buckley and Voorhees, Retrieval system evaluation, in TREC: Experiment and Evaluation, 2005.

    Example: ``(1/1 + 2/3) / 3 = 0.55556``

    >>> float(average_precision(np.array([[True, False, True, False]]), np.array([3]), k=1000)[0].round(5))
    0.55556
    """
    hits = _first(found, relevant, k)
    precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return _ratio((precisions * hits).sum(axis=1), relevant)


def _first(found: Found, relevant: Counts, k: int) -> Found:
    if k < 1:
        raise InvalidArgumentError(f"k is {k}", "k must be at least 1", "Pass a cut-off such as 10")
    if found.ndim != 2 or relevant.shape != found.shape[:1]:
        raise InvalidArgumentError(
            f"found has shape {found.shape} and relevant {relevant.shape}",
            "found is (queries, depth) and relevant is (queries,)",
            "Pass one row and one count for every query",
        )
    return found[:, :k]


def _any(hits: Found) -> Found:
    rows: Found = np.logical_or.reduce(hits, axis=1)
    return rows


def _ratio(over: NDArray[Any], under: NDArray[Any]) -> PerQuery:
    # trec_eval scores a query without relevant documents 0.
    ratios = np.zeros(len(under), dtype=np.float64)
    np.divide(over, under, out=ratios, where=np.asarray(under) > 0)
    return ratios

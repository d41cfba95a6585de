"""The one order in which results are ranked: score descending, then id descending, as trec_eval ranks them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import InvalidArgumentError, NonFiniteVectorError

Scores = NDArray[np.floating[Any]]
Ids = NDArray[Any] | Sequence[int] | Sequence[str]
Positions = NDArray[np.intp]


def order(scores: Scores, ids: Ids) -> Positions:
    """Positions of all items, best first: score descending, then id descending.

    Args:
        scores: ``(n,)`` floating point, finite; or ``(queries, n)``, of which each row is ordered by itself.
        ids: of the same shape, integers, or strings, which are compared by code point (as their UTF-8 bytes would be).

    Returns:
        ``intp`` of the same shape, each row a permutation of ``0 .. n - 1``.

    Raises:
        NonFiniteVectorError: a score is NaN or infinite. With NaN no comparison is true, and the order
            would depend on where the item happened to lie.
        InvalidArgumentError: ``scores`` and ``ids`` do not have the same shape, of one axis or two.
    """
    keys = _checked(scores, ids, axes=2)
    return np.lexsort((keys, scores), axis=-1)[..., ::-1]


def top_k(scores: Scores, ids: Ids, *, k: int) -> Positions:
    """Positions of the first ``min(k, n)`` items of :func:`order`, without sorting the rest.

    Args:
        scores: ``(n,)`` floating point, finite.
        ids: ``(n,)`` integers or strings.
        k: how many; at least 1.

    Returns:
        ``(min(k, n),) intp``, best first.

    Raises:
        NonFiniteVectorError: a score is NaN or infinite.
        InvalidArgumentError: ``k`` is below 1, or the lengths differ.
    """
    if k < 1:
        raise InvalidArgumentError(f"k is {k}", "k must be at least 1", "Pass the number of results you want, e.g. 10")
    keys = _checked(scores, ids, axes=1)
    n = len(scores)
    if k >= n:
        return np.lexsort((keys, scores))[::-1]
    # Everything tied with the k-th best score stays in, so that ids, not argpartition, settle the tie.
    threshold = np.partition(scores, n - k)[n - k]
    candidates = np.flatnonzero(scores >= threshold)
    best = np.lexsort((keys[candidates], scores[candidates]))[::-1][:k]
    return candidates[best]


def _checked(scores: Scores, ids: Ids, *, axes: int) -> NDArray[Any]:
    keys = np.asarray(ids)
    if not 1 <= scores.ndim <= axes or keys.shape != scores.shape:
        raise InvalidArgumentError(
            f"The scores have shape {scores.shape} and the ids {keys.shape}",
            "Both must have one axis and the same length"
            if axes == 1
            else "Both must have one shape, of one or two axes",
            "Pass one id for every score",
        )
    finite = np.isfinite(scores)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        bad = f"{int((~finite).sum())} of {scores.size} are bad"
        raise NonFiniteVectorError(
            f"The score of {keys.flat[first]!s} is {float(scores.flat[first])}; {bad}",
            "A score must be finite",
            "Check the encoder: a vector of the query or of the corpus may hold NaN",
        )
    return keys

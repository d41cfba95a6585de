"""Neighbours across two sets of unit vectors, by cosine or by CSLS, in blocks of bounded memory.

CSLS (cross-domain similarity local scaling; Conneau et al. 2018, https://arxiv.org/abs/1710.04087) takes from the
cosine what hubs, the words that are near to everything, have by themselves:

    csls(x, y) = 2 cos(x, y) - r_target(x) - r_source(y)

with ``r_target(x)`` the mean cosine of ``x`` with its ``k`` nearest of the target's words, ``r_source(y)`` likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors
from xsearch.errors import InvalidArgumentError

Rows = NDArray[np.int64]

DEFAULT_K = 10
# Numbers of one block of similarities: 32 MiB, of which a few copies are made.
BLOCK_NUMBERS = 8 * 2**20


class Retrieval(StrEnum):
    """How a word's nearest is found."""

    NEAREST = "nearest"
    CSLS = "csls"


@dataclass(frozen=True, slots=True, eq=False)
class Induced:
    """The dictionary that two aligned spaces imply.

    Attributes:
        forward: ``(n,)``, for each source word the row of its CSLS-nearest target word.
        backward: ``(m,)``, for each target word the row of its CSLS-nearest source word.
        cosine: mean cosine of the source words with their ``forward`` ones: the unsupervised criterion.
    """

    forward: Rows
    backward: Rows
    cosine: float

    def mutual(self) -> Rows:
        """``(p, 2)``: source and target rows of the pairs that are each other's nearest."""
        rows = np.arange(len(self.forward))
        kept = self.backward[self.forward] == rows
        return np.stack([rows[kept], self.forward[kept]], axis=1)

    def union(self) -> Rows:
        """``(n + m, 2)``: the pairs of both directions; those that both name come twice, and so weigh twice."""
        forward = np.stack([np.arange(len(self.forward)), self.forward], axis=1)
        backward = np.stack([self.backward, np.arange(len(self.backward))], axis=1)
        return np.concatenate([forward, backward])


def mean_similarity(vectors: Vectors, others: Vectors, k: int = DEFAULT_K) -> Vectors:
    """``(n,) float32``: the mean cosine of each row with its ``k`` nearest of ``others`` (all of them, if fewer)."""
    if k < 1:
        raise InvalidArgumentError(f"k is {k}", "CSLS looks at 1 neighbour or more", "Pass 10, as the paper does")
    k = min(k, len(others))
    means = np.empty(len(vectors), dtype=np.float32)
    for start, stop in _blocks(len(vectors), len(others)):
        cosines = vectors[start:stop] @ others.T
        cosines.partition(-k, axis=1)
        means[start:stop] = cosines[:, -k:].mean(axis=1)
    return means


def csls(
    source: Vectors, target: Vectors, k: int = DEFAULT_K, *, background: Vectors | None = None
) -> Iterator[Vectors]:
    """The CSLS of each source row with each target row, ``(rows, m) float32``, block of rows by block of rows.

    >>> scores = numpy.concatenate(list(csls(source, target)))  # where they fit into memory

    Args:
        source, target: ``(n, dim)`` and ``(m, dim) float32, rows L2-normalised``, in one space.
        background: the source words among which ``r_source`` looks, where ``source`` is only some of them.
    """
    if not len(source):
        return
    near_target = mean_similarity(source, target, k)
    near_source = mean_similarity(target, source if background is None else background, k)
    for start, stop in _blocks(len(source), len(target)):
        scores = source[start:stop] @ target.T
        scores *= 2
        scores -= near_target[start:stop, None]
        scores -= near_source
        yield scores


def nearest(
    source: Vectors,
    target: Vectors,
    top: int,
    *,
    retrieval: Retrieval = Retrieval.CSLS,
    k: int = DEFAULT_K,
    background: Vectors | None = None,
) -> Rows:
    """``(n, top)``: for each source row the rows of its nearest targets, nearest first; of equals the earlier row.

    Args:
        top: how many; capped at the number of targets.
        k, background: see :func:`csls`.
    """
    top = min(top, len(target))
    if retrieval is Retrieval.CSLS:
        blocks = csls(source, target, k, background=background)
    else:
        blocks = (source[start:stop] @ target.T for start, stop in _blocks(len(source), len(target)))
    found = [_top(scores, top) for scores in blocks]
    return np.concatenate(found) if found else np.empty((0, top), dtype=np.int64)


def induce(
    source: Vectors,
    target: Vectors,
    k: int = DEFAULT_K,
    *,
    share: float = 1.0,
    chance: np.random.Generator | None = None,
) -> Induced:
    """The CSLS-nearest of every word in both directions, in one pass over the scores.

    Args:
        source, target: ``(n, dim)`` and ``(m, dim) float32, rows L2-normalised``, in one space.
        share: of all pairs, those that can be chosen, drawn anew by ``chance``; ``cosine`` looks at all of them.
    """
    forward = np.empty(len(source), dtype=np.int64)
    nearest_rows = np.empty(len(source), dtype=np.int64)
    backward = np.zeros(len(target), dtype=np.int64)
    best = np.full(len(target), -np.inf, dtype=np.float32)
    start = 0
    for scores in csls(source, target, k):
        stop = start + len(scores)
        nearest_rows[start:stop] = scores.argmax(axis=1)
        if chance is not None and share < 1:
            scores[chance.random(scores.shape, dtype=np.float32) >= share] = -np.inf
        forward[start:stop] = scores.argmax(axis=1)
        row = scores.argmax(axis=0)
        value = scores[row, np.arange(len(target))]
        better = value > best
        best[better], backward[better] = value[better], row[better] + start
        start = stop
    cosine = float(np.einsum("ij,ij->i", source, target[nearest_rows]).mean())
    return Induced(forward, backward, cosine)


def _top(scores: Vectors, top: int) -> Rows:
    if top == 1:
        first: Rows = scores.argmax(axis=1)[:, None]
        return first
    # All that reach the score of the last place, equals too; of them the first by score and row.
    if top < scores.shape[1]:
        edge = np.partition(scores, -top, axis=1)[:, -top]
        chosen = [np.flatnonzero(row >= limit) for row, limit in zip(scores, edge, strict=True)]
    else:
        chosen = [np.arange(scores.shape[1])] * len(scores)
    return np.stack(
        [rows[np.argsort(-line[rows], kind="stable")[:top]] for line, rows in zip(scores, chosen, strict=True)]
    )


def _blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    size = max(1, BLOCK_NUMBERS // max(1, columns))
    for start in range(0, rows, size):
        yield start, min(start + size, rows)

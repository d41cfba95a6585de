"""The centres of inverted lists, and which list a vector belongs in: matrix products, left to numpy.

FAISS does both too, with the BLAS that its wheel brings along. That one knows no processor younger than itself: on a
Xeon of 2023 it takes the kernels of 2004, and a product takes five times as long as numpy's. Searches are left to FAISS
all the same: after a product numpy's BLAS has a thread wait busily for the next one, 30 ms long, on a core that FAISS's
own thread then has to share.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.store.selection import import_faiss
from xsearch.store.vectors import Vectors

# Vectors whose products with all centres are in memory at once.
BLOCK_ROWS = 8_192
# The first rounds are over a share of the vectors, and at least so many a list; the last over all. Eight over all
# take 2.7 times as long, and at the same effort as much is found (0.973 at a million rows).
EARLY_SHARE = 0.25
EARLY_VECTORS_A_LIST = 16
EARLY_ROUNDS, LATE_ROUNDS = 4, 2
# By how much the two halves of a list that is split lie apart.
SPLIT = 1 / 1024
SEED = 1234

Lists = NDArray[np.int64]


def ivf_of_centres(made: Any) -> Any:
    """The index, where it is one of lists by inner product whose centres are looked through one by one, or ``None``."""
    faiss = import_faiss()
    found = faiss.downcast_index(made)
    if not isinstance(found, faiss.IndexIVF) or not found.nlist or found.metric_type != faiss.METRIC_INNER_PRODUCT:
        return None
    return found if type(faiss.downcast_index(found.quantizer)) in (faiss.IndexFlat, faiss.IndexFlatIP) else None


def nearest_lists(vectors: Vectors, centres: Vectors) -> Lists:
    """The centre of greatest inner product with each vector, ``(n,) int64``.

    Args:
        vectors: ``(n, dim) float32``.
        centres: ``(lists, dim) float32``.
    """
    found = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        np.argmax(vectors[block] @ centres.T, axis=1, out=found[block])
    return found


def spherical_kmeans(vectors: Vectors, lists: int) -> Vectors:
    """The centres of so many groups of unit vectors, ``(lists, dim) float32, rows L2-normalised``.

    Spherical k-means (Dhillon and Modha, Machine Learning 42, 2001): a vector goes to the centre of greatest inner
    product, a centre becomes the sum of its vectors at length 1. A centre that has none takes half of the largest
    group. The same vectors give the same centres. The first rounds are over some of the vectors.

    Args:
        vectors: ``(n, dim) float32, rows L2-normalised``, at least ``lists``.
    """
    chance = np.random.default_rng(SEED)
    centres = vectors[np.sort(chance.choice(len(vectors), lists, replace=False))].copy()
    few = min(len(vectors), max(EARLY_VECTORS_A_LIST * lists, math.ceil(EARLY_SHARE * len(vectors))))
    _move(centres, vectors[np.sort(chance.choice(len(vectors), few, replace=False))], EARLY_ROUNDS, chance)
    _move(centres, vectors, LATE_ROUNDS, chance)
    return centres


def _move(centres: Vectors, vectors: Vectors, rounds: int, chance: np.random.Generator) -> None:
    """Moves centres to the middles of their groups, and again."""
    lists = len(centres)
    for _ in range(rounds):
        groups = nearest_lists(vectors, centres)
        counts = np.bincount(groups, minlength=lists)
        kept = np.flatnonzero(counts)
        ordered = np.argsort(groups, kind="stable")
        starts = np.concatenate([[0], np.cumsum(counts[kept])[:-1]])
        centres[kept] = np.add.reduceat(vectors[ordered], starts, axis=0)
        _split_largest(centres, counts, chance)
        centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def _split_largest(centres: Vectors, counts: NDArray[np.int64], chance: np.random.Generator) -> None:
    """Gives each centre without vectors half of the group that has most."""
    for empty in np.flatnonzero(counts == 0):
        largest = int(np.argmax(counts))
        moved = 1 + SPLIT * chance.choice(np.array([-1, 1], dtype=np.float32), centres.shape[1])
        centres[empty] = centres[largest] * moved
        centres[largest] *= 2 - moved
        counts[empty] = counts[largest] // 2
        counts[largest] -= counts[empty]

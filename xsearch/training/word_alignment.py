"""IBM model 1 (Brown et al. 1993): which pieces of one language translate which of another, from parallel sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 5
# Bounds the memory of one language: 20 bytes a cell.
MAX_CELLS = 16_000_000
# The empty word, that explains pieces of the target which nothing in the source stands for.
NULL = -1


@dataclass(frozen=True, slots=True)
class Alignment:
    """Expected counts of the links between source and target pieces.

    Attributes:
        source: (n,) int64, ids of source pieces.
        target: (n,) int64, ids of target pieces.
        count: (n,) float64, how often the pair is linked, in expectation.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]
    count: NDArray[np.float64]


def align(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, iterations: int = ITERATIONS, max_cells: int = MAX_CELLS
) -> Alignment:
    """Expected link counts after some rounds of EM, where each target piece comes from one source piece or from none.

    With t(e|f) the probability that source piece f becomes target piece e, a target piece e_j of a sentence is linked
    to f_i with probability t(e_j|f_i) / sum over i' of t(e_j|f_i'), i' running over the empty word too; t(e|f) is then
    counted anew from these. Starts from a uniform t.

    Args:
        pairs: (source ids, target ids) of each sentence; those beyond ``max_cells`` (source x target pieces, summed)
            are not read.
        iterations: rounds of EM.
        max_cells: bounds memory and time.

    Example:
        "das haus" - "the house", "das" - "the": after some rounds "haus" is linked with "house", not with "the".
    """
    cell_source, cell_target, spans = _cells(pairs, max_cells)
    if not len(cell_source):
        none = np.zeros(0, dtype=np.int64)
        return Alignment(none, none, np.zeros(0))
    width = int(cell_target.max()) + 1
    keys = (cell_source + 1) * width + cell_target
    known, cell = np.unique(keys, return_inverse=True)
    del keys, cell_source, cell_target
    source, target = known // width - 1, known % width
    starts = np.concatenate(([0], np.cumsum(spans)[:-1]))
    rows = np.unique(source, return_inverse=True)[1]
    count: NDArray[np.float64] = np.ones(len(known))
    probability = np.ones(len(known))
    for _ in range(iterations):
        weight = probability[cell]
        weight /= np.repeat(np.add.reduceat(weight, starts), spans)
        count = np.bincount(cell, weights=weight, minlength=len(known)).astype(np.float64)
        probability = count / np.bincount(rows, weights=count)[rows]
    real = source != NULL
    return Alignment(source[real], target[real], count[real])


def _cells(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], max_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Source and target of every possible link, and the number of links of each target piece, in the same order."""
    sources: list[NDArray[np.int64]] = []
    targets: list[NDArray[np.int64]] = []
    spans: list[NDArray[np.int64]] = []
    cells = 0
    for left, right in pairs:
        if not len(left) or not len(right):
            continue
        cells += (len(left) + 1) * len(right)
        if cells > max_cells:
            break
        source = np.array((NULL, *left), dtype=np.int64)
        sources.append(np.tile(source, len(right)))
        targets.append(np.repeat(np.array(right, dtype=np.int64), len(source)))
        spans.append(np.full(len(right), len(source), dtype=np.int64))
    if not sources:
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(spans)

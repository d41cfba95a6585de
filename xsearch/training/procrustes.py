"""The rotation between two spaces of word vectors: from pairs of words by SVD, and better pairs from the rotation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors, unit_vectors
from xsearch.errors import InvalidArgumentError, TrainingError
from xsearch.training.csls import DEFAULT_K, Rows, induce


@dataclass(frozen=True, slots=True)
class RefineOptions:
    """How a rotation is refined.

    Attributes:
        rounds: at most so many; it ends before, when the criterion falls.
        k: neighbours of CSLS.
        frequent: the words of each language that are looked at, the first ones: rare words have noisy vectors.
    """

    rounds: int = 5
    k: int = DEFAULT_K
    frequent: int = 10_000


@dataclass(frozen=True, slots=True)
class Round:
    """One round of refinement: the pairs that were learnt from, and the criterion of what came of them."""

    pairs: int
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A map from the source's space into the target's: ``source @ matrix``.

    Attributes:
        matrix: ``(dim, dim) float32``, orthogonal.
        cosine: the unsupervised criterion: mean cosine of the frequent source words with their CSLS-nearest.
        rounds: what each round of refinement did; the first entry is the start, with the pairs given.
    """

    matrix: Vectors
    cosine: float
    rounds: tuple[Round, ...]

    def apply(self, source: Vectors) -> Vectors:
        """``(n, dim) float32``: the source's vectors in the target's space; lengths and angles are kept."""
        return source @ self.matrix


OnRound = Callable[[int, Round], None]
"""Called with the number and the outcome of each round of refinement; 0 is the start."""


def procrustes(source: Vectors, target: Vectors) -> Vectors:
    """``(dim, dim) float32``: the orthogonal ``W`` for which ``||source @ W - target||`` is least.

    ``W = U V^T`` with ``U S V^T`` the SVD of ``source^T target`` (Schönemann 1966; Smith et al. 2017,
    https://arxiv.org/abs/1702.03859).

    Args:
        source, target: ``(pairs, dim)``, row ``i`` of the one belongs to row ``i`` of the other.

    Raises:
        InvalidArgumentError: the shapes differ.
        TrainingError: there are no pairs, or they are not finite.
    """
    if source.shape != target.shape:
        raise InvalidArgumentError(
            f"The sides have the shapes {source.shape} and {target.shape}",
            "Both have a row for each pair and the same dimension",
            "Train both languages' vectors with one dimension",
        )
    if not len(source):
        raise TrainingError(
            "There are no pairs of words to learn from",
            "A dictionary has words that both files of vectors know",
            "Check that it is of these two languages, in this order, or align with --unsupervised",
        )
    # In double precision, so that the result is orthogonal to the last digit of float32.
    product = source.astype(np.float64).T @ target.astype(np.float64)
    return nearest_orthogonal(product).astype(np.float32)


def nearest_orthogonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The orthogonal matrix that is nearest to this one: ``U V^T`` of its SVD.

    Raises:
        TrainingError: it holds NaN or infinity.
    """
    if not np.isfinite(matrix).all():
        raise TrainingError(
            "The vectors of some words are not finite", "A vector is finite", "Leave those words out, or train again"
        )
    left, _, right = np.linalg.svd(matrix)
    orthogonal: NDArray[np.float64] = left @ right
    return orthogonal


def prepare(vectors: Vectors) -> Vectors:
    """``(n, dim) float32, rows L2-normalised``: unit length, centred, unit length again (Artetxe et al. 2018).

    Centring takes away what all words of a language share; a rotation cannot align it.

    Raises:
        NonFiniteVectorError: a row is not finite, zero, or all there is.
    """
    unit = unit_vectors(vectors)
    mean = unit.mean(axis=0, dtype=np.float64).astype(np.float32)
    return unit_vectors(unit - mean)


def refine(
    source: Vectors,
    target: Vectors,
    pairs: Rows,
    *,
    options: RefineOptions | None = None,
    keep: bool = True,
    on_round: OnRound | None = None,
) -> Rotation:
    """The best rotation of several rounds: Procrustes on pairs, then pairs that are mutual CSLS neighbours, and again.

    The best is that with the highest mean cosine of CSLS neighbours (Conneau et al. 2018); gold pairs are not asked.

    Args:
        source, target: ``(n, dim)`` and ``(m, dim) float32`` from :func:`prepare`, the most frequent word first.
        pairs: ``(p, 2)``, rows of source and target to begin with.
        keep: the first pairs are a dictionary, and stay among the pairs of every round.
        on_round: told of each round.

    Raises:
        TrainingError: there are no pairs.
    """
    options = options or RefineOptions()
    frequent_source, frequent_target = source[: options.frequent], target[: options.frequent]
    best: Rotation | None = None
    rounds: list[Round] = []
    used = pairs
    for number in range(options.rounds + 1):
        matrix = procrustes(source[used[:, 0]], target[used[:, 1]])
        induced = induce(frequent_source @ matrix, frequent_target, options.k)
        rounds.append(Round(len(used), induced.cosine))
        if on_round is not None:
            on_round(number, rounds[-1])
        if best is not None and induced.cosine <= best.cosine:
            break
        best = Rotation(matrix, induced.cosine, tuple(rounds))
        mutual = induced.mutual()
        used = np.unique(np.concatenate([pairs, mutual]), axis=0) if keep else mutual
        if not len(used):
            break
    if best is None:
        raise InvalidArgumentError(
            f"The rounds of refinement are {options.rounds}", "They are 0 or more", "Pass 0 for Procrustes alone"
        )
    return Rotation(best.matrix, best.cosine, tuple(rounds))

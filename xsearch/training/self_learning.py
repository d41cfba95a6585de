"""Aligning without a dictionary by the words' own similarities (Artetxe et al. 2018, https://arxiv.org/abs/1805.06297).

The start: a word's similarities with all words of its language, sorted, form a curve that its translation shares,
whatever the rotation. From the pairs with the most alike curves, self-learning alternates between the rotation of the
pairs and the pairs of the rotation, with a share of all pairs closed at random that gets smaller, so that it leaves
poor starts. (Artetxe et al. also whiten and weight the dimensions; here the map stays a rotation.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xsearch.encoder.protocol import Vectors
from xsearch.training.csls import DEFAULT_K, Rows, induce
from xsearch.training.procrustes import prepare, procrustes

OnStep = Callable[[int, float, float], None]
"""Called with the number of the step, the share of pairs that was open, and the mean cosine of CSLS neighbours."""


@dataclass(frozen=True, slots=True)
class SelfLearningOptions:
    """How self-learning goes on.

    Attributes:
        frequent: the words of each language that are looked at, the first ones.
        k: neighbours of CSLS.
        share: of all pairs, those that are open at first (the paper: 0.1); doubled when nothing gets better.
        patience: steps without a better cosine until the share doubles, or until it ends (the paper: 50).
        steps: at most so many.
        seed: of the random choice.
    """

    frequent: int = 4000
    k: int = DEFAULT_K
    share: float = 0.1
    patience: int = 10
    steps: int = 500
    seed: int = 0


# What the mean cosine must gain to count as better.
GAIN = 1e-6


def similarity_start(source: Vectors, target: Vectors, options: SelfLearningOptions | None = None) -> Rows:
    """``(pairs, 2)``: source and target rows whose sorted similarities with their own language are most alike.

    With ``U S V^T`` the SVD of a language's vectors, the similarities are ``U S U^T``, the square root of ``X X^T``.

    Args:
        source, target: from :func:`~xsearch.training.procrustes.prepare`, the most frequent word first.
    """
    options = options or SelfLearningOptions()
    words = min(options.frequent, len(source), len(target))
    return induce(_profiles(source[:words]), _profiles(target[:words]), options.k).union()


def self_learn(
    source: Vectors,
    target: Vectors,
    pairs: Rows,
    options: SelfLearningOptions | None = None,
    *,
    on_step: OnStep | None = None,
) -> Rows:
    """``(pairs, 2)``: the mutual CSLS neighbours under the rotation that self-learning ends with.

    Args:
        source, target: as for :func:`similarity_start`.
        pairs: to begin with.
        on_step: told of each step.

    Raises:
        TrainingError: there are no pairs.
    """
    options = options or SelfLearningOptions()
    words, others = source[: options.frequent], target[: options.frequent]
    chance = np.random.default_rng(options.seed)
    share, best, waited = options.share, -np.inf, 0
    for step in range(options.steps):
        matrix = procrustes(source[pairs[:, 0]], target[pairs[:, 1]])
        induced = induce(words @ matrix, others, options.k, share=share, chance=chance)
        if on_step is not None:
            on_step(step, share, induced.cosine)
        pairs = induced.union()
        waited = 0 if induced.cosine > best + GAIN else waited + 1
        best = max(best, induced.cosine)
        if waited >= options.patience:
            if share >= 1:
                break
            share, waited = min(1.0, 2 * share), 0
    matrix = procrustes(source[pairs[:, 0]], target[pairs[:, 1]])
    return induce(words @ matrix, others, options.k).mutual()


def _profiles(vectors: Vectors) -> Vectors:
    """``(n, n) float32``: for each word its similarities with all of them, sorted, then as :func:`prepare` has it."""
    left, scale, _ = np.linalg.svd(vectors, full_matrices=False)
    similarities: Vectors = (left * scale) @ left.T
    similarities.sort(axis=1)
    return prepare(similarities)

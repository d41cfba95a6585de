"""Estimates the linear step that takes the language of a text out of its vector, from sentences and translations.

A multilingual encoder gives a text's vector a part that tells its language, and in a pool of all languages ranks texts
in the question's own language first. That part is nearly the same for all texts of a language, and over all languages
it lies in few directions. The step subtracts the mean that all languages have in common and takes those directions out,
so no language need be known when it is applied.

What is estimated: for each language and door the mean difference between translations and the English sentences that
they translate. What the sentences say cancels; the difference of two means of unlike texts would keep their topics.
With ``b_l`` for that difference (``b_en = 0``), ``mu`` for the mean of English plus the mean of all ``b_l``, and equal
weights for all languages, the between-language covariance is ``B = mean over l of (b_l - mean b)(b_l - mean b)^T``,
summed over both doors, because one matrix serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.encoder.protocol import Vectors
from xsearch.encoder.step import LinearStep
from xsearch.errors import EncoderError, InvalidArgumentError

Numbers = NDArray[np.float64]

MIN_LANGUAGES = 2
"""English is one of them."""
ENGLISH = "en"
VARIANCE_TAKEN = 0.9
"""The share of the between-language variance whose directions are taken out where no number is given."""
CENTRE = 0.7
"""How much of the common mean is subtracted where no number is given. Measured on MLQA dev with multilingual-e5-small
and 20 directions, nDCG@10 within a language and across, mAP in one pool of all: none 78.9, 73.5, .535; 0.7 79.6, 75.2,
.567; all of it 78.8, 74.7, .561 (benchmarks/results/debias.json)."""


class DebiasMethod(StrEnum):
    """How the language is taken out; see the function of each for formula and source."""

    PROJECTION = "projection"
    CENTRING = "centring"
    LEACE = "leace"
    LSAR = "lsar"
    LIR = "lir"
    WHITENING = "whitening"


@dataclass(frozen=True, slots=True)
class DebiasOptions:
    """How a step is fitted.

    Attributes:
        method: see :class:`DebiasMethod`.
        directions: how many are taken out; ``None``: those that hold ``VARIANCE_TAKEN`` of the variance between
            languages. ``centring`` and ``whitening`` take none.
        strength: how much of them, between 0 and 1; of ``whitening``, the exponent: 1 makes all directions as long.
        centre: how much of the mean that all languages have in common is subtracted, between 0 and 1.
    """

    method: DebiasMethod = DebiasMethod.PROJECTION
    directions: int | None = None
    strength: float = 1.0
    centre: float = CENTRE

    def __post_init__(self) -> None:
        checks = (
            (
                self.directions is None or self.directions >= 0,
                f"directions is {self.directions}",
                "It must be 0 or more",
            ),
            (0 <= self.strength <= 1, f"strength is {self.strength}", "It must lie between 0 and 1"),
            (0 <= self.centre <= 1, f"centre is {self.centre}", "It must lie between 0 and 1"),
        )
        for right, given, rule in checks:
            if not right:
                raise InvalidArgumentError(given, rule, "Choose another number")


@dataclass(frozen=True, slots=True)
class DoorMoments:
    """What is known of one language's vectors at one door.

    Attributes:
        difference: ``(dim,)``, the mean of translation minus English over the pairs.
        english: ``(dim,)``, the mean of the English sides.
        covariance: ``(dim, dim)``, of the language's own vectors around their mean.
        leading: ``(dim, r)``, the directions in which its vectors are longest, the mean not subtracted; orthonormal.
    """

    difference: Numbers
    english: Numbers
    covariance: Numbers
    leading: Numbers


@dataclass(frozen=True, slots=True)
class LanguageMoments:
    """What is known of one language's vectors, and from how many sentences."""

    lang: str
    texts: int
    queries: DoorMoments
    passages: DoorMoments


def door_moments(english: Vectors, translations: Vectors, *, leading: int = 1) -> DoorMoments:
    """The moments of translated sentences at one door.

    Args:
        english, translations: ``(n, dim) float32``, row by row of the same sentence.
        leading: how many directions are kept for ``lir``.

    Raises:
        EncoderError: the arrays do not go together, or hold no row.
    """
    if english.shape != translations.shape or english.ndim != 2 or not len(english):
        raise EncoderError(
            f"English vectors of {english.shape} came with translations of {translations.shape}",
            "Both must be (n, dim), row by row of the same sentences, with n at least 1",
            "Encode both sides of the same pairs",
        )
    own = translations.astype(np.float64)
    reference = english.astype(np.float64)
    mean = own.mean(axis=0)
    covariance = (own - mean).T @ (own - mean) / len(own)
    second = own.T @ own / len(own)
    return DoorMoments((own - reference).mean(axis=0), reference.mean(axis=0), covariance, _leading(second, leading))


def fit_step(languages: Sequence[LanguageMoments], options: DebiasOptions, *, encoder: str) -> LinearStep:
    """The step fitted to the moments of languages other than English.

    Args:
        languages: each weighs the same, and English as much as one of them.
        encoder: digest of the fingerprint of the encoder that the vectors are of.

    Raises:
        InvalidArgumentError: there are too few languages, or fewer dimensions than directions.
    """
    if len(languages) + 1 < MIN_LANGUAGES or any(one.lang == ENGLISH for one in languages):
        raise InvalidArgumentError(
            f"The languages besides English are {[one.lang for one in languages]}",
            "A step is fitted to at least one language besides English",
            "Give parallel text of more languages",
        )
    doors = [_Door.of([one.queries for one in languages]), _Door.of([one.passages for one in languages])]
    dim = len(doors[0].mean)
    if options.directions is None:
        options = replace(options, directions=directions_for(doors[0].between + doors[1].between, VARIANCE_TAKEN))
    if (options.directions or 0) >= dim:
        raise InvalidArgumentError(
            f"{options.directions} directions are to be taken out of vectors of {dim} dimensions",
            "Some must be left",
            "Ask for fewer directions",
        )
    matrix = _matrix(doors, [one.queries.leading for one in languages], options)
    offsets = [(options.centre * door.mean @ matrix).astype(np.float32) for door in doors]
    facts: dict[str, Any] = {
        **asdict(options),
        "method": options.method.value,
        "languages": {one.lang: one.texts for one in languages},
        "between_language_variance_removed": removed_variance(languages, matrix),
    }
    return LinearStep(matrix.astype(np.float32), offsets[0], offsets[1], encoder, facts)


def removed_variance(languages: Sequence[LanguageMoments], matrix: NDArray[Any]) -> float:
    """The share of the between-language variance that a matrix takes out: ``1 - tr(A^T B A) / tr(B)``, at most 1."""
    doors = [_Door.of([one.queries for one in languages]), _Door.of([one.passages for one in languages])]
    between = doors[0].between + doors[1].between
    whole = float(np.trace(between))
    square = matrix.astype(np.float64)
    return 1.0 - float(np.trace(square.T @ between @ square)) / whole if whole else 0.0


def directions_for(between: Numbers, share: float) -> int:
    """How many leading eigenvectors hold a share of a covariance's trace; fewer than its dimensions.

    Example: of ``diag(8, 1, 1)`` the first holds 0.8, and the first two 0.9.

    >>> directions_for(np.diag([8.0, 1.0, 1.0]), 0.8), directions_for(np.diag([8.0, 1.0, 1.0]), 0.85)
    (1, 2)
    """
    values = np.linalg.eigvalsh(between)[::-1]
    whole = float(values.sum())
    if whole <= 0:
        return 0
    # What is equal but for rounding is enough.
    return min(int((np.cumsum(values) < share * whole * (1 - 1e-9)).sum()) + 1, len(values) - 1)


@dataclass(frozen=True, slots=True)
class _Door:
    """One door over all languages: the generic mean, covariances between and within languages, the means."""

    mean: Numbers
    between: Numbers
    within: Numbers
    means: Numbers

    @classmethod
    def of(cls, moments: Sequence[DoorMoments]) -> _Door:
        english = np.mean([one.english for one in moments], axis=0)
        differences = np.stack([np.zeros_like(english), *(one.difference for one in moments)])
        apart = differences - differences.mean(axis=0)
        within = np.mean([one.covariance for one in moments], axis=0)
        means = english + differences
        return cls(means.mean(axis=0), apart.T @ apart / len(apart), within, means)


def _matrix(doors: Sequence[_Door], leading: Sequence[Numbers], options: DebiasOptions) -> Numbers:
    between = doors[0].between + doors[1].between
    within = doors[0].within + doors[1].within
    k, strength = options.directions or 0, options.strength
    if options.method is DebiasMethod.CENTRING:
        return np.eye(len(between))
    if options.method is DebiasMethod.PROJECTION:
        return projection(between, k, strength)
    if options.method is DebiasMethod.LEACE:
        return leace(between, within, k, strength)
    if options.method is DebiasMethod.LSAR:
        return lsar(np.concatenate([door.means for door in doors]), k, strength)
    if options.method is DebiasMethod.LIR:
        return lir(leading, k, strength)
    return whitening(between + within, strength)


def projection(between: Numbers, directions: int, strength: float = 1.0) -> Numbers:
    """``I - s U U^T``: the ``directions`` leading eigenvectors ``U`` of the between-language covariance taken out.

    The part of LSAR (Xie et al., EMNLP 2022) that is left when means are centred and estimated from translations; with
    one direction per language but one it is the mean-centring of Libovicky et al. (2020) without knowing the language.

    Example: ``B = diag(4, 1)``, one direction, half of it: ``diag(0.5, 1)``.

    >>> projection(np.diag([4.0, 1.0]), 1, 0.5).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """
    return _without(_leading(between, directions), strength)


def leace(between: Numbers, within: Numbers, directions: int, strength: float = 1.0) -> Numbers:
    """``I - s W P W^+`` with ``W`` a square root of the total covariance: the oblique form of the projection.

    ``P`` projects on the ``directions`` leading eigenvectors of ``W^+ B W^+``. Of all affine maps after which no linear
    classifier tells the languages apart, it moves vectors least (LEACE: Belrose et al., NeurIPS 2023); what is taken
    out is predicted from the directions that tell languages from content. The mean of the two doors stands for each.

    Example: where within-language covariance is ``I`` and ``B = diag(3, 0)`` it is the projection ``diag(0, 1)``.

    >>> leace(np.diag([3.0, 0.0]), np.eye(2), 1).round(12).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh(between + within)
    kept = values > values[-1] * 1e-9
    root = np.where(kept, np.sqrt(np.where(kept, values, 1.0)), 0.0)
    inverse = np.where(kept, 1.0 / np.where(kept, root, 1.0), 0.0)
    whiten, colour = (vectors * inverse) @ vectors.T, (vectors * root) @ vectors.T
    lead = _leading(whiten @ between @ whiten, directions)
    # Vectors are rows, so what acts first stands first.
    oblique: Numbers = np.eye(len(between)) - strength * (whiten @ lead @ lead.T @ colour)
    return oblique


def lsar(means: Numbers, directions: int, strength: float = 1.0) -> Numbers:
    """``I - s U U^T`` with ``U`` the low-rank subspace of the language means, a common component kept out of it.

    LSAR (Xie et al., EMNLP 2022): the means ``M`` (a column a language) are split into ``mu 1^T + U G`` with ``mu``
    orthogonal to ``U``. First ``M' = m 1^T + `` the best approximation of ``M - m 1^T`` of that rank, ``m`` the mean of
    the columns; then ``w = (M'^+)^T 1`` and ``mu = w / |w|^2``, which has the same product with every column; ``U``
    spans the leading directions of ``M' - mu 1^T``. The paper subtracts no mean: ``centre = 0``.

    Args:
        means: ``(languages, dim)``.

    Example: of the means (1, 1) and (1, -1) the common component is (1, 0), and (0, 1) is taken out.

    >>> lsar(np.array([[1.0, 1.0], [1.0, -1.0]]), 1).round(12).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    mean = means.mean(axis=0)
    left, values, right = np.linalg.svd(means - mean, full_matrices=False)
    k = min(directions, len(values))
    near = mean + (left[:, :k] * values[:k]) @ right[:k]
    common = np.linalg.pinv(near) @ np.ones(len(near))
    common /= max(float(common @ common), 1e-30)
    apart = near - common
    return _without(_leading(apart.T @ apart, k), strength)


def lir(leading: Sequence[Numbers], directions: int, strength: float = 1.0) -> Numbers:
    """``I - s U U^T`` with ``U`` the ``directions`` that most languages' leading components have in common.

    LIR (Yang et al., EMNLP 2021) takes from a vector the leading principal components ``C_l`` of its own language,
    the mean not subtracted, and so must know the language. The linear form takes the leading eigenvectors of the mean
    of all ``C_l C_l^T``.

    Example: components (1, 0), (1, 0) and (0, 1): the first is what most have.

    >>> first, second = np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]])
    >>> lir([first, first, second], 1).tolist()
    [[0.0, 0.0], [0.0, 1.0]]
    """
    shared = np.mean([one @ one.T for one in leading], axis=0)
    return _without(_leading(shared, directions), strength)


def whitening(covariance: Numbers, strength: float) -> Numbers:
    """``C^(-s/2)``, scaled to leave the mean variance as it is: at ``s = 1`` ZCA whitening, at 0 the identity.

    ``C`` is the covariance of texts of all languages around the generic mean (Su et al., 2021, Whitening sentence
    representations; ZCA: Bell and Sejnowski, 1997). Eigenvalues are not taken for smaller than a thousandth of the
    mean one.

    Example: ``C = diag(4, 1)`` at 1: ``diag(1/2, 1)``, times ``sqrt(2.5)`` because the mean variance was 2.5 and is 1.

    >>> (whitening(np.diag([4.0, 1.0]), 1.0) / np.sqrt(2.5)).round(12).tolist()
    [[0.5, 0.0], [0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, values.mean() * 1e-3)
    scale = values ** (-strength / 2)
    scale *= np.sqrt(values.sum() / (values * scale**2).sum())
    whitened: Numbers = (vectors * scale) @ vectors.T
    return whitened


def _without(directions: Numbers, strength: float) -> Numbers:
    left: Numbers = np.eye(len(directions)) - strength * (directions @ directions.T)
    return left


def _leading(symmetric: Numbers, count: int) -> Numbers:
    """``(dim, count)``: the eigenvectors of the largest eigenvalues, largest first."""
    vectors = np.linalg.eigh(symmetric)[1]
    leading: Numbers = vectors[:, ::-1][:, :count]
    return leading

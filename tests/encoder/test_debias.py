"""The estimation of the debias step, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xsearch.encoder.debias import (
    DebiasMethod,
    DebiasOptions,
    LanguageMoments,
    directions_for,
    door_moments,
    fit_step,
    leace,
    lir,
    lsar,
    projection,
    removed_variance,
    whitening,
)
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import EncoderError, InvalidArgumentError

DIM = 6


def language(lang: str, bias: list[float], *, texts: int = 40, topic: float = 0.0) -> LanguageMoments:
    """A language whose translations differ from English by exactly ``bias``; its sentences are about ``topic``."""
    draw = np.random.default_rng(len(lang) + texts)
    english = draw.normal(size=(texts, DIM)).astype(np.float32) * 0.1
    english[:, 5] += topic
    own = english + np.array(bias, dtype=np.float32)
    moments = door_moments(english, own)
    return LanguageMoments(lang, texts, moments, moments)


def test_the_mean_difference_is_that_of_translations_whatever_the_sentences_are_about() -> None:
    english = np.array([[1.0, 0.0], [3.0, 4.0]], dtype=np.float32)
    moments = door_moments(english, english + np.array([0.5, -1.0], dtype=np.float32))
    assert moments.difference.tolist() == [0.5, -1.0]
    assert moments.english.tolist() == [2.0, 2.0]
    assert moments.covariance.tolist() == [[1.0, 2.0], [2.0, 4.0]]
    # Uncentred: (1.5, -1) and (3.5, 3); the leading direction of their second moment.
    second = np.array([[14.5, 9.0], [9.0, 10.0]]) / 2
    lead = moments.leading[:, 0]
    np.testing.assert_allclose(second @ lead, np.linalg.eigvalsh(second)[1] * lead, rtol=1e-6)


def test_sides_of_other_lengths_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"English vectors of \(2, 3\) came with translations of \(1, 3\)"):
        door_moments(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32))
    with pytest.raises(EncoderError, match="with n at least 1"):
        door_moments(np.ones((0, 3), np.float32), np.ones((0, 3), np.float32))


def test_the_projection_takes_out_the_leading_direction() -> None:
    assert projection(np.diag([4.0, 1.0]), 1).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    assert projection(np.diag([4.0, 1.0]), 1, 0.25).tolist() == [[0.75, 0.0], [0.0, 1.0]]
    assert projection(np.diag([4.0, 1.0]), 0).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_leace_is_oblique_where_content_goes_along_with_the_language() -> None:
    """Total covariance [[2, 1], [1, 1]], language along (1, 0) alone: nothing of the language is left, and no more.

    The eraser of one direction b is I - b b^T C^-1 / (b^T C^-1 b) for columns; C^-1 b = (1, -1), b^T C^-1 b = 1.
    """
    between = np.array([[1.0, 0.0], [0.0, 0.0]])
    within = np.array([[1.0, 1.0], [1.0, 1.0]])
    matrix = leace(between, within, 1)
    np.testing.assert_allclose(matrix, np.eye(2) - np.outer([1.0, -1.0], [1.0, 0.0]), atol=1e-9)
    np.testing.assert_allclose(np.array([1.0, 0.0]) @ matrix, [0.0, 0.0], atol=1e-9)


def test_lsar_keeps_what_the_means_have_in_common() -> None:
    """Of (3, 1), (3, -1): common (3, 0), apart (0, +-1). A projection of uncentred means would take (1, 0) first."""
    np.testing.assert_allclose(lsar(np.array([[3.0, 1.0], [3.0, -1.0]]), 1), np.diag([1.0, 0.0]), atol=1e-12)


def test_lsar_splits_orthogonally_where_the_mean_of_means_does_not() -> None:
    """Means (1, 0), (0, 1), weighed by nothing: w = M^+T 1 = (1, 1), mu = (.5, .5), apart along (1, -1)."""
    matrix = lsar(np.eye(2), 1)
    np.testing.assert_allclose(matrix, [[0.5, 0.5], [0.5, 0.5]], atol=1e-12)


def test_lir_takes_the_components_that_most_languages_share() -> None:
    first, second = np.array([[1.0], [0.0], [0.0]]), np.array([[0.0], [1.0], [0.0]])
    np.testing.assert_allclose(lir([first, second, first], 1), np.diag([0.0, 1.0, 1.0]), atol=1e-12)
    np.testing.assert_allclose(lir([first, second, first], 2), np.diag([0.0, 0.0, 1.0]), atol=1e-12)


def test_whitening_makes_all_directions_as_long_at_full_strength() -> None:
    covariance = np.array([[2.0, 1.0], [1.0, 2.0]])  # eigenvalues 3 and 1, mean variance 2
    full = whitening(covariance, 1.0)
    np.testing.assert_allclose(full.T @ covariance @ full, 2 * np.eye(2), atol=1e-12)
    half = whitening(covariance, 0.5)
    # Eigenvalues 3 and 1 become 3^.5 and 1, scaled to add up to 4.
    expected = np.array([1.0, np.sqrt(3)]) * 4 / (1 + np.sqrt(3))
    np.testing.assert_allclose(np.linalg.eigvalsh(half.T @ covariance @ half), expected, rtol=1e-12)
    np.testing.assert_allclose(whitening(covariance, 0.0), np.eye(2), atol=1e-12)


def test_the_step_takes_exactly_the_language_out() -> None:
    languages = [language("de", [0.5, 0, 0, 0, 0, 0]), language("zh", [0, 0.3, 0, 0, 0, 0], topic=2.0)]
    step = fit_step(languages, DebiasOptions(directions=2, centre=1.0), encoder="abc")
    assert step.encoder == "abc"
    # Both biases lie in the first two axes, and English is at their origin.
    np.testing.assert_allclose(step.matrix, np.diag([0.0, 0, 1, 1, 1, 1]), atol=1e-6)
    # Subtracted is the mean of the English sides, which was 1.0 about the topic, and nothing along the directions.
    assert step.query_offset[5] == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(step.query_offset[:2], [0, 0], atol=1e-6)
    vector = unit_vectors(np.array([[0.1, 0.2, 0.3, 0.0, 0.1, 0.9]], dtype=np.float32))
    translated = vector + np.array([0.5, 0, 0, 0, 0, 0], dtype=np.float32)
    np.testing.assert_allclose(step.queries(vector), step.passages(translated), atol=1e-6)


def test_facts_say_how_it_was_fitted() -> None:
    languages = [language("de", [3.0, 0, 0, 0, 0, 0]), language("fr", [0, 1.0, 0, 0, 0, 0], texts=30)]
    facts = fit_step(languages, DebiasOptions(directions=1), encoder="").facts
    # About the mean (1, 1/3): B = sum of squares = (2 + 2/9 ...) worked out as the eigenvalues of [[6, -1], [-1, 2/3]].
    values = np.linalg.eigvalsh(np.array([[6.0, -1.0], [-1.0, 2 / 3]]))
    assert facts["between_language_variance_removed"] == pytest.approx(values[1] / values.sum(), rel=1e-5)
    assert {key: facts[key] for key in ("method", "directions", "strength", "centre", "languages")} == {
        "method": "projection", "directions": 1, "strength": 1.0, "centre": 0.7, "languages": {"de": 40, "fr": 30},
    }  # fmt: skip


def test_half_the_strength_leaves_a_quarter_of_the_variance() -> None:
    languages = [language("de", [1.0, 0, 0, 0, 0, 0])]
    step = fit_step(languages, DebiasOptions(directions=1, strength=0.5), encoder="")
    assert removed_variance(languages, step.matrix) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize("method", list(DebiasMethod))
def test_every_method_gives_a_finite_step(method: DebiasMethod) -> None:
    languages = [language("de", [1.0, 0, 0, 0, 0, 0]), language("zh", [0, 0.5, 0.5, 0, 0, 0])]
    step = fit_step(languages, DebiasOptions(method, directions=1), encoder="")
    assert step.matrix.shape == (DIM, DIM)
    assert step.facts["method"] == method.value
    if method is DebiasMethod.CENTRING:
        assert step.matrix.tolist() == np.eye(DIM).tolist()
        assert step.facts["between_language_variance_removed"] == 0.0


def test_the_doors_have_means_of_their_own() -> None:
    english = np.zeros((3, DIM), dtype=np.float32)
    queries = door_moments(english + 1, english + 1)
    passages = door_moments(english + 3, english + 3)
    step = fit_step([LanguageMoments("de", 3, queries, passages)], DebiasOptions(directions=0, centre=0.5), encoder="")
    assert step.query_offset.tolist() == [0.5] * DIM
    assert step.passage_offset.tolist() == [1.5] * DIM


def test_the_number_of_directions_follows_the_variance() -> None:
    assert [directions_for(np.diag([6.0, 3.0, 1.0]), share) for share in (0.5, 0.6, 0.9, 1.0)] == [1, 1, 2, 2]
    assert directions_for(np.zeros((3, 3)), 0.9) == 0
    # Biases of 1 along two axes: both are needed for nine tenths. Of a third, a hundredth as long, nothing is.
    biases = [[1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0], [0, 0, 0.01, 0, 0, 0]]
    languages = [language(lang, bias) for lang, bias in zip(("de", "fr", "zh"), biases, strict=True)]
    step = fit_step(languages, DebiasOptions(), encoder="")
    assert step.facts["directions"] == 2
    assert step.facts["between_language_variance_removed"] > 0.99


def test_no_centring_subtracts_nothing() -> None:
    step = fit_step([language("de", [1.0] * DIM)], DebiasOptions(directions=1, centre=0.0), encoder="")
    assert step.query_offset.tolist() == [0.0] * DIM


@pytest.mark.parametrize(
    ("change", "said"),
    [({"directions": -1}, "directions is -1"), ({"strength": 1.5}, "strength is 1.5"), ({"centre": -0.1}, "centre is")],
)
def test_options_outside_their_range_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        DebiasOptions(**change)


def test_a_fit_needs_a_language_besides_english() -> None:
    with pytest.raises(InvalidArgumentError, match="at least one language besides English"):
        fit_step([], DebiasOptions(), encoder="")
    with pytest.raises(InvalidArgumentError, match="at least one language besides English"):
        fit_step([language("en", [0.0] * DIM)], DebiasOptions(directions=1), encoder="")


def test_some_dimensions_must_be_left() -> None:
    with pytest.raises(InvalidArgumentError, match="6 directions are to be taken out of vectors of 6 dimensions"):
        fit_step([language("de", [1.0] * DIM)], DebiasOptions(directions=DIM), encoder="")

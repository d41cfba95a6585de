"""Intervals and tests: exact small cases, known coverage, determinism, and refusals."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from xsearch.errors import InvalidArgumentError
from xsearch.evaluation import significance
from xsearch.evaluation.significance import (
    Interval,
    Scores,
    bootstrap_mean,
    bootstrap_means,
    compare,
    compare_means,
    holm,
    paired_differences,
    paired_test,
)


def scores(*values: float, prefix: str = "q") -> Scores:
    return Scores([f"{prefix}{i}" for i in range(len(values))], np.array(values))


def test_equal_scores_have_no_spread() -> None:
    assert bootstrap_mean(scores(0.5, 0.5, 0.5), samples=100, seed=0) == Interval(0.5, 0.5)
    assert bootstrap_means([scores(0.5, 0.5), scores(0.25)], samples=100, seed=0) == Interval(0.375, 0.375)


def test_two_scores_span_everything() -> None:
    assert bootstrap_mean(scores(0.0, 1.0), samples=1000, seed=0) == Interval(0.0, 1.0)


def test_the_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).random(400)
    interval = bootstrap_mean(scores(*values.tolist()), samples=4000, seed=0)
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_the_seed_and_the_name_fix_the_interval() -> None:
    values = scores(*np.random.default_rng(1).random(50).tolist())
    first = bootstrap_mean(values, samples=200, seed=3, name="en-de")
    assert bootstrap_mean(values, samples=200, seed=3, name="en-de") == first
    assert bootstrap_mean(values, samples=200, seed=4, name="en-de") != first
    assert bootstrap_mean(values, samples=200, seed=3, name="de-en") != first


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    values = scores(*np.random.default_rng(1).random(30).tolist())
    one = bootstrap_mean(values, samples=500, seed=0)
    means = bootstrap_means([values], samples=500, seed=0)
    p = paired_test([values], samples=500, seed=0)
    monkeypatch.setattr(significance, "_BLOCK_NUMBERS", 64)
    assert bootstrap_mean(values, samples=500, seed=0) == one
    blocked = bootstrap_means([values], samples=500, seed=0)
    assert (blocked.low, blocked.high) == pytest.approx((means.low, means.high), abs=1e-12)
    assert paired_test([values], samples=500, seed=0) == p


def test_questions_shared_by_pairs_are_drawn_together() -> None:
    """Ten copies of one pair say no more than one; ten independent pairs say about sqrt(10) times as much."""
    rng = np.random.default_rng(1)
    values = rng.random(200)
    one = bootstrap_means([scores(*values.tolist())], samples=2000, seed=0)
    copies = bootstrap_means([scores(*values.tolist())] * 10, samples=2000, seed=0)
    assert (copies.low, copies.high) == pytest.approx((one.low, one.high), abs=1e-12)
    apart = bootstrap_means(
        [scores(*rng.random(200).tolist(), prefix=f"{i}-") for i in range(10)], samples=2000, seed=0
    )
    assert (apart.high - apart.low) / (one.high - one.low) == pytest.approx(10**-0.5, rel=0.15)


def test_p_of_three_equal_differences_is_a_quarter() -> None:
    assert paired_test([scores(1.0, 1.0, 1.0)], samples=20_000, seed=0) == pytest.approx(0.25, abs=0.01)


def test_p_is_one_without_a_difference_and_small_with_a_clear_one() -> None:
    assert paired_test([scores(0.0, 0.0)], samples=99, seed=0) == 1.0
    assert paired_test([scores(*[0.1] * 40)], samples=999, seed=0) == 0.001


def test_p_is_uniform_when_nothing_differs() -> None:
    rng = np.random.default_rng(5)
    p_values = [paired_test([scores(*rng.normal(size=30).tolist())], samples=200, seed=i) for i in range(300)]
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_signs_of_a_question_flip_in_all_its_pairs() -> None:
    """Three questions in five pairs are three observations, not fifteen."""
    assert paired_test([scores(1.0, 1.0, 1.0)] * 5, samples=20_000, seed=0) == pytest.approx(0.25, abs=0.01)


def test_compare_matches_questions_by_id_not_by_place() -> None:
    ours = {"en-de": Scores(["a", "b", "c"], np.array([1.0, 0.5, 0.0]))}
    theirs = {"en-de": Scores(["c", "a", "b"], np.array([0.0, 1.0, 0.5]))}
    difference = compare(ours, theirs, samples=100, seed=0)["en-de"]
    assert (difference.mean, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)


def test_a_clear_difference() -> None:
    rng = np.random.default_rng(2)
    base = rng.random(100)
    ours = {"en-de": scores(*(base + 0.1).tolist()), "de-de": scores(*(base - 0.2).tolist())}
    theirs = {"en-de": scores(*base.tolist()), "de-de": scores(*base.tolist())}
    found = compare(ours, theirs, samples=999, seed=0)
    assert found["en-de"].mean == pytest.approx(0.1)
    assert (found["en-de"].low, found["en-de"].high) == pytest.approx((0.1, 0.1))
    assert (found["en-de"].p, found["en-de"].p_holm) == (0.001, 0.002)
    assert found["de-de"].mean == pytest.approx(-0.2)
    differences = paired_differences(ours, theirs)
    mean = compare_means(list(differences.values()), samples=999, seed=0, name="all")
    assert mean.mean == pytest.approx(-0.05)
    assert mean.to_dict() == {"mean": -0.05, "low": -0.05, "high": -0.05, "p": 0.001, "p_holm": 0.001}


def test_runs_that_differ_in_pairs_or_questions_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="Only one of the two runs has de-de, en-en"):
        compare({"en-en": scores(1.0)}, {"de-de": scores(1.0)}, samples=10, seed=0)
    with pytest.raises(InvalidArgumentError, match="other questions in en-en"):
        compare({"en-en": scores(1.0)}, {"en-en": scores(1.0, prefix="x")}, samples=10, seed=0)


def test_no_samples_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="0 samples"):
        bootstrap_mean(scores(1.0), samples=0, seed=0)


def test_holm() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.9}) == pytest.approx(
        {"a": 0.04, "b": 0.09, "c": 0.09, "d": 0.9}
    )
    assert holm({}) == {}
    assert doctest.testmod(significance).failed == 0

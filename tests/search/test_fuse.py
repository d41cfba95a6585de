"""Meaning and words, fused by language: places within one, lifts across."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.ranking import top_k
from xsearch.search.fuse import LIFT, MANY_PASSAGES, NEIGHBOURS, ORDER_WEIGHT, evidence, fuse

GERMAN, CHINESE = 0, 1


def fused(
    cosines: list[float], words: list[float], langs: list[int] | None = None, passages: int = MANY_PASSAGES
) -> list[float]:
    count = len(cosines)
    scores = fuse(
        np.array(cosines, dtype=np.float32),
        np.array(words, dtype=np.float32),
        np.array(langs or [GERMAN] * count),
        np.arange(count),
        passages=passages,
    )
    assert scores.dtype == np.float32
    return scores.tolist()


def test_the_numbers_that_the_examples_are_computed_with() -> None:
    assert (ORDER_WEIGHT, LIFT, NEIGHBOURS, MANY_PASSAGES) == (1.5, 0.5, 10, 10_000)


def test_the_worked_example() -> None:
    """0.4 + 1.5 * 0.2 beats 0.5; the winner takes the place at 0.5 and is lifted by (1 - 0.5) * 0.5 * 0.2."""
    assert fused([0.5, 0.4], [0.0, 0.2]) == pytest.approx([0.4, 0.55])


def test_chance_is_the_mean_and_a_deviation_of_the_others() -> None:
    """Of the third, the others share 0.1 and 0.3: 0.2 on average, deviating by 0.1; 0.5 stands out by 0.2."""
    first, second, third = fused([0.6, 0.5, 0.4], [0.1, 0.3, 0.5])
    assert third == pytest.approx(0.6 + 0.4 * 0.5 * 0.2)
    # Others share 0.1 and 0.5: 0.3 and 0.2 more is not reached. Orders: 0.75, 0.95, 1.15.
    assert (first, second) == pytest.approx((0.4, 0.5))


@pytest.mark.parametrize("words", [0.0, 0.07, 0.3, 1.0])
def test_what_all_passages_of_a_language_share_changes_nothing(words: float) -> None:
    """Function words of the question's language, which push every passage in it alike."""
    cosines = [0.5, 0.45, 0.3, 0.6, 0.2]
    assert fused(cosines, [words, words, words, 0, 0], [GERMAN] * 3 + [CHINESE] * 2) == pytest.approx(cosines)


def test_words_rearrange_a_language_and_leave_the_others_their_places() -> None:
    cosines = [0.60, 0.55, 0.50, 0.58, 0.52]
    langs = [GERMAN, GERMAN, GERMAN, CHINESE, CHINESE]
    # The second German one shares most, but no more than others do now and then.
    scores = fused(cosines, [0.10, 0.14, 0.20, 0.0, 0.0], langs)
    assert scores[3:] == pytest.approx([0.58, 0.52])
    # Orders 0.75, 0.76 and 0.80; the third stands out by 0.20 - (0.12 + 0.02).
    assert scores[:3] == pytest.approx([0.50, 0.55, 0.60 + 0.4 * 0.5 * 0.06])


def test_a_name_is_found_across_languages() -> None:
    """Nothing else in Chinese shares the name, so the one that does stands out by all of it."""
    cosines = [0.50, 0.48, 0.46, 0.30, 0.35]
    langs = [GERMAN, GERMAN, GERMAN, CHINESE, CHINESE]
    scores = fused(cosines, [0.05, 0.05, 0.05, 0.8, 0.0], langs)
    assert scores == pytest.approx([0.50, 0.48, 0.46, 0.35 + 0.65 * 0.5 * 0.8, 0.30])
    assert int(np.argmax(scores)) == 3


def test_only_the_nearest_tell_what_is_chance() -> None:
    """Eleven nearest share nothing, and a hundred farther ones all: the last of them stands out by all the same."""
    cosines = [0.9 - n / 1000 for n in range(111)]
    words = [0.0] * 11 + [0.0205] * 100
    scores = np.array(fused(cosines, words))
    # Each of the hundred: orders of 0.93075 - n / 1000 put the first ones at the top.
    places = np.sort(np.array(cosines))[::-1]
    ranks = np.argsort(np.argsort(-(np.array(cosines) + 1.5 * np.array(words)), kind="stable"), kind="stable")
    expected = places[ranks] + np.where(np.array(words) > 0, (1 - places[ranks]) * 0.5 * 0.0205, 0)
    assert scores == pytest.approx(expected, abs=1e-6)


def test_without_shared_words_scores_are_the_cosines() -> None:
    """A leg that found nothing must not change what the other found."""
    cosines = [0.9, 0.1, 0.5, -0.3, 0.1]
    assert fused(cosines, [0.0] * 5, [0, 1, 0, 2, 1]) == [np.float32(cosine) for cosine in cosines]


def test_one_passage_is_lifted_by_all_that_it_shares() -> None:
    assert fused([0.2], [0.5]) == pytest.approx([0.2 + 0.8 * 0.5 * 0.5])
    assert fused([], []) == []


def test_a_word_of_a_small_index_counts_less() -> None:
    """In one of 99 passages, 0.4 of the most is log(100) / log(10,001) of that: 0.2."""
    assert evidence(np.array([0.4, 0.0]), passages=99).tolist() == pytest.approx([0.2, 0.0], abs=1e-5)
    assert evidence(np.array([0.4]), passages=0).tolist() == [0.0]
    assert evidence(np.array([0.4]), passages=10**6).tolist() == pytest.approx([0.4])
    assert fused([0.5, 0.4], [0.0, 0.4], passages=99) == pytest.approx([0.4, 0.55], abs=1e-5)


def test_scores_stay_in_their_range() -> None:
    """And NaN is never made of it: words over all of [0, 1], cosines over all of [-1, 1]."""
    rng = np.random.default_rng(5)
    for _ in range(50):
        n = int(rng.integers(1, 60))
        cosines, words = rng.uniform(-1, 1, n).astype(np.float32), rng.uniform(0, 1, n).astype(np.float32)
        cosines[0], words[0] = 1, 1
        scores = fuse(cosines, words, rng.integers(0, 4, n), np.arange(n), passages=10**7)
        assert np.isfinite(scores).all()
        assert (scores >= -1).all() and (scores <= 1).all()


def test_the_score_does_not_depend_on_the_order_in_which_passages_come() -> None:
    rng = np.random.default_rng(6)
    n = 200
    # Rounded, so that many are equal.
    cosines, words = rng.uniform(0, 1, n).round(1), rng.uniform(0, 0.3, n).round(1)
    langs, ids = rng.integers(0, 5, n), rng.permutation(10 * n)[:n]
    scores = fuse(cosines, words, langs, ids, passages=500)
    for _ in range(5):
        shuffled = rng.permutation(n)
        again = fuse(cosines[shuffled], words[shuffled], langs[shuffled], ids[shuffled], passages=500)
        assert again.tolist() == scores[shuffled].tolist()
    assert top_k(scores, ids, k=n).tolist() == sorted(range(n), key=lambda i: (-scores[i], -ids[i]))


def test_of_equal_passages_the_higher_id_takes_the_better_place() -> None:
    """Orders are equal, 0.5; the places are 0.5 and 0.35, and so are their scores whatever came first."""
    cosines, words = np.array([0.5, 0.35]), np.array([0.0, 0.1])
    langs = np.zeros(2, dtype=np.int64)
    high = fuse(cosines, words, langs, np.array([1, 2]), passages=MANY_PASSAGES)
    low = fuse(cosines, words, langs, np.array([2, 1]), passages=MANY_PASSAGES)
    assert high.tolist() == pytest.approx([0.35, 0.5 + 0.5 * 0.5 * 0.1])
    assert low.tolist() == pytest.approx([0.5, 0.35 + 0.65 * 0.5 * 0.1])

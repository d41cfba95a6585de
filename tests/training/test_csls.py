"""CSLS against values worked out by hand, and in blocks against the whole."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training import spaces
from xsearch.encoder.protocol import Vectors, unit_vectors
from xsearch.errors import InvalidArgumentError
from xsearch.training import csls as module
from xsearch.training.csls import Retrieval, csls, induce, mean_similarity, nearest

# Source words are the axes, so that row i of the cosines is column i of the target. Target word 1 is a hub.
SOURCE = np.eye(3, dtype=np.float32)
TARGET = np.array([[0.8, 0.6, 0.0], [2 / 3, 2 / 3, 1 / 3], [0.6, 0.0, 0.8]], dtype=np.float32)
# cosines:            target 0  1    2
#           source 0  0.8      2/3  0.6
#                  1  0.6      2/3  0
#                  2  0        1/3  0.8


def whole(source: Vectors, target: Vectors, k: int) -> Vectors:
    """CSLS straight from its formula."""
    cosines = source @ target.T
    rows = np.sort(cosines, axis=1)[:, -k:].mean(axis=1, keepdims=True)
    columns = np.sort(cosines, axis=0)[-k:].mean(axis=0, keepdims=True)
    return np.asarray(2 * cosines - rows - columns)


def random_sides() -> tuple[Vectors, Vectors]:
    return unit_vectors(spaces.clusters(53, 7, 1)), unit_vectors(spaces.clusters(41, 7, 2))


def test_three_by_three_by_hand() -> None:
    # k = 2: r of the source words 11/15, 19/30, 17/30; of the target words 0.7, 2/3, 0.7.
    np.testing.assert_allclose(mean_similarity(SOURCE, TARGET, 2), [11 / 15, 19 / 30, 17 / 30], atol=1e-6)
    np.testing.assert_allclose(mean_similarity(TARGET, SOURCE, 2), [0.7, 2 / 3, 0.7], atol=1e-6)
    expected = [
        [1.6 - 11 / 15 - 0.7, 4 / 3 - 11 / 15 - 2 / 3, 1.2 - 11 / 15 - 0.7],
        [1.2 - 19 / 30 - 0.7, 4 / 3 - 19 / 30 - 2 / 3, 0.0 - 19 / 30 - 0.7],
        [0.0 - 17 / 30 - 0.7, 2 / 3 - 17 / 30 - 2 / 3, 1.6 - 17 / 30 - 0.7],
    ]
    (scores,) = csls(SOURCE, TARGET, 2)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_a_hub_wins_by_cosine_and_not_by_csls() -> None:
    """Target 0 is near to all; source 0 and 1 both have it first, and 1 belongs to target 1."""
    source = unit_vectors(np.array([[1, 0.2, 0], [0.6, 0.8, 0], [0.6, 0, 0.8]], dtype=np.float32))
    target = unit_vectors(np.array([[1, 0.3, 0.3], [0.1, 1, -0.9], [0.1, -0.9, 1]], dtype=np.float32))
    assert nearest(source, target, 1, retrieval=Retrieval.NEAREST)[:, 0].tolist() == [0, 0, 0]
    assert nearest(source, target, 1, retrieval=Retrieval.CSLS, k=3)[:, 0].tolist() == [0, 1, 2]


def test_in_blocks_it_is_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = random_sides()
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 300)
    blocks = list(csls(source, target, 5))
    assert [len(block) for block in blocks] == [7] * 7 + [4]
    np.testing.assert_allclose(np.concatenate(blocks), whole(source, target, 5), atol=1e-5)
    order = np.argsort(-whole(source, target, 5), axis=1)
    np.testing.assert_array_equal(nearest(source, target, 10, k=5), order[:, :10])
    np.testing.assert_array_equal(nearest(source, target, 1, k=5), order[:, :1])


def test_some_words_are_scored_as_among_all() -> None:
    source, target = random_sides()
    rows = [3, 50, 7]
    (scores,) = csls(source[rows], target, 5, background=source)
    np.testing.assert_allclose(scores, whole(source, target, 5)[rows], atol=1e-5)


def test_the_dictionary_of_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = random_sides()
    monkeypatch.setattr(module, "BLOCK_NUMBERS", 300)
    induced = induce(source, target, 5)
    scores = whole(source, target, 5)
    np.testing.assert_array_equal(induced.forward, scores.argmax(axis=1))
    np.testing.assert_array_equal(induced.backward, scores.argmax(axis=0))
    cosines = source @ target.T
    assert induced.cosine == pytest.approx(cosines[np.arange(53), scores.argmax(axis=1)].mean(), abs=1e-5)
    mutual = [(row, int(scores[row].argmax())) for row in range(53) if scores[:, scores[row].argmax()].argmax() == row]
    assert [tuple(pair) for pair in induced.mutual().tolist()] == mutual
    assert induced.union().shape == (53 + 41, 2)
    assert induced.union()[53].tolist() == [scores[:, 0].argmax(), 0]


def test_closed_pairs_are_not_chosen_and_do_not_count_against_the_cosine() -> None:
    source, target = random_sides()
    open_to_all = induce(source, target, 5)
    few = induce(source, target, 5, share=0.2, chance=np.random.default_rng(0))
    again = induce(source, target, 5, share=0.2, chance=np.random.default_rng(0))
    assert few.cosine == open_to_all.cosine
    np.testing.assert_array_equal(few.forward, again.forward)
    assert 0.1 < float((few.forward == open_to_all.forward).mean()) < 0.5


def test_equals_come_in_the_order_of_their_rows() -> None:
    source = np.array([[1, 0]], dtype=np.float32)
    target = np.array([[0, 1], [1, 0], [0, 1], [1, 0], [1, 0]], dtype=np.float32)
    assert nearest(source, target, 2, retrieval=Retrieval.NEAREST).tolist() == [[1, 3]]
    assert nearest(source, target, 9, retrieval=Retrieval.NEAREST).tolist() == [[1, 3, 4, 0, 2]]
    assert nearest(source[:0], target, 2).shape == (0, 2)


def test_more_neighbours_than_words_are_all_words() -> None:
    np.testing.assert_allclose(mean_similarity(SOURCE, TARGET, 99), (SOURCE @ TARGET.T).mean(axis=1), atol=1e-6)
    with pytest.raises(InvalidArgumentError, match="k is 0"):
        mean_similarity(SOURCE, TARGET, 0)

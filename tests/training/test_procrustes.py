"""Rotations: found exactly, refined from a poor dictionary, refused where there is nothing to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training import spaces
from xsearch.errors import InvalidArgumentError, NonFiniteVectorError, TrainingError
from xsearch.training.procrustes import RefineOptions, Round, prepare, procrustes, refine


def test_a_known_rotation_is_found_exactly() -> None:
    turn = spaces.rotation(12, 3)
    source = spaces.clusters(40, 12, 1)
    found = procrustes(source, source @ turn)
    np.testing.assert_allclose(found, turn, atol=1e-6)
    np.testing.assert_allclose(found @ found.T, np.eye(12), atol=1e-6)


def test_a_quarter_turn_by_hand() -> None:
    source = np.array([[1, 0], [0, 2]], dtype=np.float32)
    target = np.array([[0, 1], [-2, 0]], dtype=np.float32)
    # source^T target = [[0, 1], [-4, 0]]: the turn itself, once its singular values 1 and 4 are 1.
    np.testing.assert_allclose(procrustes(source, target), [[0, 1], [-1, 0]], atol=1e-7)


def test_it_is_the_best_of_all_rotations() -> None:
    source, target = spaces.twins(60, 5, noise=0.5)
    best = np.linalg.norm(source @ procrustes(source, target) - target)
    others = [np.linalg.norm(source @ spaces.rotation(5, seed) - target) for seed in range(50)]
    assert best < min(others)


def test_prepared_vectors_are_centred_and_of_length_1() -> None:
    # Units (1, 0) and (0, 1) have the mean (0.5, 0.5); what is left points to (1, -1) and (-1, 1).
    half = 0.5**0.5
    prepared = prepare(np.array([[3, 0], [0, 0.1]], dtype=np.float32))
    np.testing.assert_allclose(prepared, [[half, -half], [-half, half]], atol=1e-6)
    with pytest.raises(NonFiniteVectorError):
        prepare(np.array([[1, 0], [1, 0]], dtype=np.float32))


def test_refinement_mends_a_noisy_dictionary() -> None:
    source, target = (prepare(side) for side in spaces.twins(600, 16, noise=0.05))
    chance = np.random.default_rng(5)
    pairs = np.stack([np.arange(60), np.arange(60)], axis=1)
    pairs[:30, 1] = chance.integers(0, 600, 30)  # half of it is wrong
    everything = np.arange(600)

    def right(matrix: np.ndarray) -> float:
        return float((((source @ matrix) @ target.T).argmax(axis=1) == everything).mean())

    seen: list[tuple[int, Round]] = []
    first = refine(source, target, pairs, options=RefineOptions(rounds=0))
    best = refine(source, target, pairs, keep=False, on_round=lambda number, done: seen.append((number, done)))
    kept = refine(source, target, pairs)
    assert right(first.matrix) < 0.9
    assert right(best.matrix) > 0.97
    assert right(kept.matrix) > right(first.matrix)
    assert best.cosine == max(done.cosine for done in best.rounds) > first.cosine
    assert first.rounds == best.rounds[:1]
    assert seen == list(enumerate(best.rounds))
    assert best.rounds[0].pairs == 60 < best.rounds[1].pairs


def test_only_frequent_words_are_looked_at() -> None:
    source, target = (prepare(side) for side in spaces.twins(300, 8))
    pairs = np.stack([np.arange(50), np.arange(50)], axis=1)
    done = refine(source, target, pairs, options=RefineOptions(rounds=1, frequent=100), keep=False)
    # 98 of 100 are each other's nearest by CSLS: a word with fewer near neighbours can come before the word itself.
    assert [each.pairs for each in done.rounds] == [50, 98]
    np.testing.assert_allclose(done.apply(source), source @ done.matrix)


def test_what_cannot_be_learnt_from_is_refused() -> None:
    side = spaces.clusters(10, 4, 0)
    with pytest.raises(TrainingError, match="There are no pairs of words"):
        procrustes(side[:0], side[:0])
    with pytest.raises(InvalidArgumentError, match=r"shapes \(10, 4\) and \(10, 3\)"):
        procrustes(side, side[:, :3])
    with pytest.raises(TrainingError, match="not finite"):
        procrustes(side, np.full_like(side, np.nan))
    with pytest.raises(InvalidArgumentError, match="rounds of refinement are -1"):
        refine(side, side, np.array([[0, 0]]), options=RefineOptions(rounds=-1))

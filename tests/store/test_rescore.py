"""Candidates are chosen between where their vectors lie, as numpy would choose."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.store.segments import random_vectors, scores_of
from xsearch.store import ann
from xsearch.store.ann import AnnPart, Reach
from xsearch.store.kinds import fill, make, train
from xsearch.store.rescore import Rescorer, can_rescore
from xsearch.store.selection import Selection
from xsearch.store.tuning import HeldVectors
from xsearch.store.vectors import RawVectors, consecutive, write_segment

ROWS = 500


@pytest.fixture(params=[16, 17, 384])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> RawVectors:
    vectors = random_vectors(ROWS, dim=request.param)
    return RawVectors(tmp_path, write_segment(tmp_path, 1, consecutive(1), vectors.shape, [vectors]))


def some_candidates(queries: int, count: int, *, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    return np.stack([chance.choice(ROWS, count, replace=False) for _ in range(queries)])


def expected(vectors: np.ndarray, queries: np.ndarray, candidates: np.ndarray, count: int) -> list[list[int]]:
    """The best candidates of each query, ascending."""
    found = []
    for query, rows in zip(queries, candidates, strict=True):
        rows = rows[rows >= 0]
        found.append(sorted(rows[np.argsort(-scores_of(vectors[rows], query))[:count]].tolist()))
    return found


def test_a_file_of_halves(raw: RawVectors) -> None:
    queries, candidates = random_vectors(9, seed=1, dim=raw.dim), some_candidates(9, 60)
    best = Rescorer(raw.array).best(queries, candidates, 7)
    assert best.shape == (9, 7)
    assert np.sort(best, axis=1).tolist() == expected(raw.read_range(0, ROWS), queries, candidates, 7)


def test_vectors_in_memory() -> None:
    vectors, queries, candidates = random_vectors(ROWS), random_vectors(5, seed=1), some_candidates(5, 30)
    best = Rescorer(vectors).best(queries, candidates, 4)
    assert np.sort(best, axis=1).tolist() == expected(vectors, queries, candidates, 4)


def test_the_first_and_the_last_row(raw: RawVectors) -> None:
    queries = raw.read_range(0, ROWS)[[0, ROWS - 1]]
    best = Rescorer(raw.array).best(queries, np.array([[0, ROWS - 1]] * 2), 1)
    assert best.tolist() == [[0], [ROWS - 1]]


def test_fewer_candidates_than_are_asked_for(raw: RawVectors) -> None:
    candidates = np.array([[-1, 3, -1, 8], [-1, -1, -1, -1]])
    best = Rescorer(raw.array).best(random_vectors(2, seed=1, dim=raw.dim), candidates, 3)
    assert np.sort(best, axis=1).tolist() == [[-1, 3, 8], [-1, -1, -1]]


def test_vectors_stay_readable_after_it_is_gone(raw: RawVectors) -> None:
    before = raw.read_range(0, ROWS)
    for _ in range(3):
        Rescorer(raw.array).best(before[:2], some_candidates(2, 20), 3)
        gc.collect()
    np.testing.assert_array_equal(raw.read_range(0, ROWS), before)


def test_many_threads(raw: RawVectors) -> None:
    rescorer = Rescorer(raw.array)
    queries, candidates = random_vectors(40, seed=1, dim=raw.dim), some_candidates(40, 60)
    alone = rescorer.best(queries, candidates, 5)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: rescorer.best(queries, candidates, 5), range(64)):
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("shared", [None, 0.9, 0.3])
def test_where_faiss_cannot_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch, shared: float | None) -> None:
    """As in FAISS's builds for Windows."""
    assert can_rescore()
    monkeypatch.setattr(ann, "EXACT_AMONG", 20)
    vectors, queries = random_vectors(ROWS), random_vectors(20, seed=1)
    source = HeldVectors(vectors)
    made = make("IVF8,PQ4x4fs", 16)
    train(made, source, np.arange(ROWS))
    made = fill(made, source)
    selection = Selection(ROWS, None if shared is None else np.random.default_rng(2).random(ROWS) < shared)
    with_faiss = AnnPart(source, made, Reach(4, 60)).search(queries, 10, selection)
    monkeypatch.setattr(ann, "can_rescore", lambda: False)
    without = AnnPart(source, made, Reach(4, 60)).search(queries, 10, selection)
    for one, other in zip(with_faiss, without, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert one.scores.tolist() == other.scores.tolist()

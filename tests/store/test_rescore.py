"""Candidates are put in order where their vectors lie, as numpy would put them."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tests.store.segments import random_vectors, scores_of
from xsearch.store import ann
from xsearch.store.ann import AnnPart, Reach, search_parameters
from xsearch.store.kinds import fill, make, train
from xsearch.store.rescore import Rescored, can_rescore, rescoring
from xsearch.store.selection import Selection
from xsearch.store.tuning import HeldVectors
from xsearch.store.vectors import RawVectors, consecutive, write_segment

ROWS = 500


@pytest.fixture(params=[16, 17, 384])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> RawVectors:
    vectors = random_vectors(ROWS, dim=request.param)
    return RawVectors(tmp_path, write_segment(tmp_path, 1, consecutive(1), vectors.shape, [vectors]))


def coarse(vectors: np.ndarray) -> faiss.Index:
    """Lists of bits, which get the order wrong."""
    made = faiss.index_factory(vectors.shape[1], "IVF8,RaBitQ", faiss.METRIC_INNER_PRODUCT)
    made.train(vectors)
    made.add(vectors)
    return made


def parameters_of(made: faiss.Index, lists: int) -> Any:
    return rescoring(search_parameters(made))(lists, None)


def candidates(vectors: np.ndarray, held: np.ndarray, queries: np.ndarray, count: int, lists: int = 8) -> np.ndarray:
    made = coarse(vectors)
    return Rescored(made, held).search(queries, count, parameters_of(made, lists)).rows


def expected(vectors: np.ndarray, queries: np.ndarray, found: np.ndarray) -> list[list[int]]:
    """The same rows, best first."""
    pairs = zip(queries, found, strict=True)
    return [rows[np.argsort(-scores_of(vectors[rows], query))].tolist() for query, rows in pairs]


def test_a_file_of_halves(raw: RawVectors) -> None:
    vectors, queries = raw.read_range(0, ROWS), random_vectors(9, seed=1, dim=raw.dim)
    found = candidates(vectors, raw.array, queries, 60)
    assert found.shape == (9, 60)
    assert found.tolist() == expected(vectors, queries, found)


def test_vectors_in_memory() -> None:
    vectors, queries = random_vectors(ROWS), random_vectors(5, seed=1)
    found = candidates(vectors, vectors, queries, 30)
    assert found.tolist() == expected(vectors, queries, found)


def test_all_rows_the_first_and_the_last_too(raw: RawVectors) -> None:
    vectors = raw.read_range(0, ROWS)
    found = candidates(vectors, raw.array, vectors[[0, ROWS - 1]], ROWS)
    assert found[:, 0].tolist() == [0, ROWS - 1]
    assert np.sort(found, axis=1).tolist() == [list(range(ROWS))] * 2


def test_fewer_candidates_than_are_asked_for(raw: RawVectors) -> None:
    vectors, queries = raw.read_range(0, ROWS), random_vectors(3, seed=1, dim=raw.dim)
    found = candidates(vectors, raw.array, queries, ROWS, lists=1)
    for query, rows in zip(queries, found, strict=True):
        there = rows[rows >= 0]
        assert 0 < len(there) < ROWS
        assert (rows[len(there) :] == -1).all()
        assert there.tolist() == expected(vectors, query[None], there[None])[0]


def test_it_keeps_what_it_points_into_and_owns_none_of_it() -> None:
    vectors = random_vectors(ROWS).astype(np.float16)
    before, queries = vectors.astype(np.float32), random_vectors(4, seed=1)
    made = coarse(before)
    parameters = parameters_of(made, 8)
    rescored = Rescored(made, vectors.copy())
    del made
    gc.collect()
    filler = [np.ones(ROWS * 16, dtype=np.float16) for _ in range(100)]
    found = rescored.search(queries, 60, parameters).rows
    assert found.tolist() == expected(before, queries, found)
    Rescored(coarse(before), vectors).search(queries, 60, parameters)
    gc.collect()
    np.testing.assert_array_equal(vectors.astype(np.float32), before)
    assert len(filler) == 100


def test_many_threads(raw: RawVectors) -> None:
    made = coarse(raw.read_range(0, ROWS))
    rescored, parameters = Rescored(made, raw.array), parameters_of(made, 4)
    queries = random_vectors(40, seed=1, dim=raw.dim)
    alone = rescored.search(queries, 60, parameters).rows
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: rescored.search(queries, 60, parameters).rows, range(64)):
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("shared", [None, 0.9, 0.3])
def test_where_faiss_cannot_the_answers_are_the_same(monkeypatch: pytest.MonkeyPatch, shared: float | None) -> None:
    """As in FAISS before 1.11."""
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

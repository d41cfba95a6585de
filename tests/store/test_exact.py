"""Exact search finds what numpy finds: the same rows and scores in the same order, whatever may be found."""

from __future__ import annotations

import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.store.segments import DIM, Floats, brute_force, ids, random_vectors, segment_of, stored
from xsearch.encoder.protocol import unit_vectors
from xsearch.store import exact
from xsearch.store.exact import ExactPart, best_of, nearest_by_product
from xsearch.store.selection import Selection, import_faiss
from xsearch.store.vectors import Found, RawVectors, consecutive, write_segment


def part_of(vectors: Floats) -> ExactPart:
    flat = import_faiss().IndexFlatIP(vectors.shape[1])
    flat.add(stored(vectors))
    return ExactPart([], flat)


def pairs(found: Found) -> list[tuple[int, float]]:
    return list(zip(found.rows.tolist(), found.scores.clip(-1, 1).tolist(), strict=True))


def masked(vectors: Floats, mask: NDArray[np.bool_], query: Floats, k: int) -> list[tuple[int, float]]:
    return brute_force(vectors[mask], np.flatnonzero(mask), query, k)


@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.1, 0.01, 0.003])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_among_a_share_of_the_rows(share: float, k: int) -> None:
    vectors, queries = random_vectors(1000), random_vectors(25, seed=9)
    mask = np.random.default_rng(1).random(1000) < share
    mask[[4, 500, 999]] = True
    found = part_of(vectors).search(queries, k, Selection(1000, mask))
    for query, one in zip(queries, found, strict=True):
        assert pairs(one) == masked(vectors, mask, query, k)
        assert len(one.rows) == min(k, mask.sum())


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_ties_whatever_may_be_found(data: st.DataObject) -> None:
    """Pitfalls 4 and 30: of equals the later rows come first, in front of and behind the k-th place."""
    # Coarse values: many equal scores.
    values = st.lists(st.integers(-1, 1), min_size=3, max_size=3).filter(any)
    vectors = unit_vectors(np.array(data.draw(st.lists(values, min_size=1, max_size=60)), dtype=np.float32))
    rows = len(vectors)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    k = data.draw(st.integers(1, rows + 2))
    queries = unit_vectors(np.array(data.draw(st.lists(values, min_size=1, max_size=3)), dtype=np.float32))
    for query, one in zip(queries, part_of(vectors).search(queries, k, Selection(rows, mask)), strict=True):
        assert pairs(one) == masked(vectors, mask, query, k)


@pytest.mark.parametrize("allowed", [1.0, 0.9, 0.3])
@pytest.mark.parametrize("k", [1, 2, 149, 150, 151, 1000])
def test_more_ties_than_are_fetched_at_first(k: int, allowed: float) -> None:
    vectors = random_vectors(300, dim=64)
    rng = np.random.default_rng(5)
    vectors[rng.permutation(300)[:150]] = vectors[0]
    mask = rng.random(300) < allowed
    query = unit_vectors(vectors[:1] + 0.01)
    for one in part_of(vectors).search(np.repeat(query, 3, axis=0), k, Selection(300, mask)):
        assert pairs(one) == masked(vectors, mask, query[0], k)


def test_few_may_be_found_of_those_that_are_near() -> None:
    """Passing over what may not be found is not enough where all of it is near."""
    vectors = np.concatenate([np.repeat(random_vectors(1), 100, axis=0), random_vectors(900, seed=2)])
    mask = np.arange(1000) >= 100
    query = vectors[:1]
    [one] = part_of(vectors).search(query, 5, Selection(1000, mask))
    assert pairs(one) == masked(vectors, mask, query[0], 5)


def test_nothing_may_be_found() -> None:
    part = part_of(random_vectors(10))
    for one in part.search(random_vectors(2, seed=3), 5, Selection(10, np.zeros(10, dtype=bool))):
        assert one.rows.tolist() == []
        assert one.scores.tolist() == []


def test_rows_come_back_as_they_were_read(tmp_path: Path) -> None:
    vectors = random_vectors(50)
    segments = [segment_of(tmp_path, 1, vectors[:20]), segment_of(tmp_path, 2, vectors[20:], first=90)]
    part = ExactPart.read([RawVectors(tmp_path, segment) for segment in segments], DIM)
    assert (part.rows, part.segments) == (50, tuple(segments))
    np.testing.assert_array_equal(part.read_range(0, 50), stored(vectors))
    np.testing.assert_array_equal(part.vectors(ids(49, 0, 20, 0)), stored(vectors)[[49, 0, 20, 0]])
    assert part.vectors(ids()).shape == (0, DIM)


def test_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "READ_ROWS", 16)
    vectors = random_vectors(90)
    parts = [
        ExactPart.read([RawVectors(tmp_path, segment_of(tmp_path, number, vectors[start:stop], first=start + 1))], DIM)
        for number, (start, stop) in enumerate([(0, 50), (50, 81), (81, 90)], 1)
    ]
    joined = parts[0].joined(parts[1].joined(parts[2]))
    assert [segment.number for segment in joined.segments] == [1, 2, 3]
    np.testing.assert_array_equal(joined.read_range(0, joined.rows), stored(vectors))
    assert parts[0].rows == 50


def test_more_segments_than_a_process_may_open_files(tmp_path: Path) -> None:
    """Each memory map holds its file open; a run that writes thousands of segments must stay readable."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    vectors = random_vectors(300)
    segments = [segment_of(tmp_path, row + 1, vectors[row : row + 1], first=row + 1) for row in range(300)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    try:
        part = ExactPart.read((RawVectors(tmp_path, segment) for segment in segments), DIM)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    np.testing.assert_array_equal(part.read_range(0, 300), stored(vectors))


def test_several_threads() -> None:
    vectors = random_vectors(2000)
    part, selection = part_of(vectors), Selection(2000, np.arange(2000) % 3 == 0)

    def search(seed: int) -> bool:
        queries = random_vectors(3, seed=seed)
        found = part.search(queries, 10, selection)
        return all(
            pairs(one) == masked(vectors, np.arange(2000) % 3 == 0, query, 10)
            for query, one in zip(queries, found, strict=True)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(search, range(60)))


def test_best_of() -> None:
    scores = np.array([0.5, 0.7, 0.5, -0.1], dtype=np.float32)
    found = best_of(ids(3, 9, 8, 4), scores, 3)
    assert found.rows.tolist() == [9, 8, 3]
    assert found.scores.tolist() == scores[[1, 2, 0]].tolist()
    assert best_of(ids(3, 9), scores[:2], 7).rows.tolist() == [9, 3]


class TestProducts:
    """Many queries at once are answered by a matrix product."""

    @pytest.mark.parametrize("k", [1, 7, 31])
    @pytest.mark.parametrize("rows", [1000, 1023, 992])
    def test_nearest(self, rows: int, k: int) -> None:
        vectors, queries = random_vectors(rows), random_vectors(33, seed=1)
        scores, found = nearest_by_product(queries, vectors, k)
        products = queries @ vectors.T
        expected = np.argsort(-products, axis=1)[:, :k]
        assert found.tolist() == expected.tolist()
        np.testing.assert_array_equal(scores, np.take_along_axis(products, expected, axis=1))

    def test_all_scores_alike(self) -> None:
        scores, rows = nearest_by_product(random_vectors(3), np.repeat(random_vectors(1), 320, axis=0), 5)
        assert all(len(set(found)) == 5 for found in rows.tolist())
        np.testing.assert_allclose(np.ptp(scores, axis=1), 0, atol=1e-6)

    @pytest.mark.parametrize("share", [None, 0.95, 0.5])
    def test_a_batch_finds_what_its_queries_find_alone(
        self, tmp_path: Path, share: float | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ties and all: a third of the rows come twice."""
        monkeypatch.setattr(exact, "PRODUCTS", 9_000)
        vectors = np.concatenate([random_vectors(900), random_vectors(300)])
        segment = write_segment(tmp_path, 1, consecutive(1), vectors.shape, [vectors])
        part = ExactPart.read([RawVectors(tmp_path, segment)], DIM)
        selection = Selection(1200, None if share is None else np.random.default_rng(2).random(1200) < share)
        queries = np.concatenate([random_vectors(30, seed=1), vectors[:10]])
        for query, one in zip(queries, part.search(queries, 10, selection), strict=True):
            [alone] = part.search(query[None], 10, selection)
            assert pairs(one) == pairs(alone)

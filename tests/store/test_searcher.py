"""Search over all segments of a state: what is found, in which order, and what of an earlier state is taken over."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.segments import (
    DIM,
    Floats,
    Ids,
    brute_force,
    clustered_vectors,
    ids,
    merged_segment,
    pairs,
    random_vectors,
    segment_of,
    stored,
)
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import IndexDamagedError, InvalidArgumentError, NonFiniteVectorError
from xsearch.store import ann, searcher
from xsearch.store.ann import ANN_FOLDER, AnnFacts, AnnFile
from xsearch.store.files import sha256_of
from xsearch.store.kinds import fill, make, train
from xsearch.store.searcher import VectorSearcher
from xsearch.store.vectors import VECTORS_FOLDER, RawVectors, Segment

NOTHING = ids()


def searcher_of(
    index: Path,
    segments: Sequence[Segment],
    files: Sequence[AnnFile] = (),
    *,
    deleted: Ids = NOTHING,
    dim: int = DIM,
    before: VectorSearcher | None = None,
) -> VectorSearcher:
    return VectorSearcher(index, segments, ann_files=files, deleted=deleted, dim=dim, before=before)


def ann_file(index: Path, number: int, segment: Segment, factory: str = "IVF16,SQ8", *, effort: int = 8) -> AnnFile:
    """The FAISS file of a segment, on disk."""
    raw = RawVectors(index, segment)
    made = make(factory, segment.dim)
    train(made, raw, np.arange(segment.rows))
    made = fill(made, raw)
    path = index / ANN_FOLDER / f"{number:06d}.faiss"
    path.parent.mkdir(exist_ok=True)
    faiss.write_index(made, str(path))
    facts = AnnFacts(effort, 80, 0.95, 0.96, 1000.0, 9.0, 1.0)
    return AnnFile(number, segment.number, factory, segment.rows, path.stat().st_size, sha256_of(path), facts)


class TestExact:
    """Segments without a FAISS file."""

    def test_equals_numpy(self, tmp_path: Path) -> None:
        vectors = random_vectors(500)
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, vectors)])
        queries = random_vectors(25, seed=9)
        for query, nearest in zip(queries, found.search(queries, 10), strict=True):
            assert pairs(nearest) == brute_force(vectors, np.arange(1, 501), query, 10)
            assert nearest.passage_ids.dtype == np.int64
            assert nearest.scores.dtype == np.float32

    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_equals_numpy_whatever_there_is(self, tmp_path: Path, data: st.DataObject) -> None:
        """Pitfalls 4 and 30: ties, duplicates, deleted rows, several segments with gaps between their ids, k up to
        beyond n; k hits as long as there are k."""
        known = sorted(data.draw(st.sets(st.integers(1, 60), max_size=40), label="ids"))
        cuts = sorted(data.draw(st.sets(st.integers(1, 40), max_size=4), label="where segments begin"))
        # Coarse values: many equal scores.
        values = st.lists(st.integers(-1, 1), min_size=3, max_size=3).filter(any)
        drawn = data.draw(st.lists(values, min_size=len(known), max_size=len(known)), label="vectors")
        vectors = unit_vectors(np.array(drawn, dtype=np.float32).reshape(-1, 3))
        all_ids = ids(*known)
        parts = zip(np.split(all_ids, cuts), np.split(vectors, cuts), strict=True)
        segments = [
            merged_segment(tmp_path, number, some, part) for number, (part, some) in enumerate(parts) if len(part)
        ]
        some_ids = st.sets(st.integers(-2, 63))
        deleted = data.draw(some_ids, label="deleted")
        allowed = data.draw(st.none() | some_ids, label="allowed")
        k = data.draw(st.integers(1, len(known) + 3), label="k")
        queries = unit_vectors(np.array(data.draw(st.lists(values, min_size=1, max_size=3)), dtype=np.float32))

        found = searcher_of(tmp_path, segments, deleted=ids(*sorted(deleted)), dim=3)
        among = None if allowed is None else found.select(ids(*sorted(allowed)))

        live = np.array([i not in deleted for i in known], dtype=bool)
        assert len(found) == live.sum()
        if allowed is not None:
            live &= np.array([i in allowed for i in known], dtype=bool)
        for query, nearest in zip(queries, found.search(queries, k, among=among), strict=True):
            assert pairs(nearest) == brute_force(vectors[live], all_ids[live], query, k)

    @pytest.mark.parametrize("k", [1, 2, 63, 64, 65, 149, 150, 151, 299, 300, 301, 1000])
    @pytest.mark.parametrize("queries", [1, 2, 30])
    def test_ties_across_the_kth_place(self, tmp_path: Path, k: int, queries: int) -> None:
        """Pitfall 30: of 150 equal rows the greatest ids come first, wherever they lie and however many are asked."""
        rng = np.random.default_rng(5)
        vectors = random_vectors(300, dim=384)
        vectors[rng.permutation(300)[:150]] = vectors[0]
        segments = [segment_of(tmp_path, 1, vectors[:101]), segment_of(tmp_path, 2, vectors[101:], first=500)]
        all_ids = np.concatenate([np.arange(1, 102), np.arange(500, 699)])
        found = searcher_of(tmp_path, segments, dim=384)
        query = unit_vectors(vectors[:1] + 0.01)
        expected = brute_force(vectors, all_ids, query[0], k)
        for nearest in found.search(np.repeat(query, queries, axis=0), k):
            assert pairs(nearest) == expected

    def test_one_query_scores_the_same_alone_and_among_many(self, tmp_path: Path) -> None:
        """FAISS adds up in another order for one query than for two, which shows in the last bits."""
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, random_vectors(3000, dim=384))], dim=384)
        queries = random_vectors(40, seed=3, dim=384)
        for query, among in zip(queries, found.search(queries, 50), strict=True):
            assert pairs(found.search(query[None], 50)[0]) == pairs(among)

    def test_scores_stay_within_one(self, tmp_path: Path) -> None:
        """Pitfall 11: rounding to float16 makes some vectors longer than 1; no score is above 1 or below -1."""
        vectors = random_vectors(400)
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, vectors)])
        raw = (stored(vectors) * vectors).sum(axis=1)
        assert raw.max() > 1  # else this shows nothing
        best = [nearest.scores[0] for nearest in found.search(vectors, 1)]
        assert max(best) == 1.0
        worst = [nearest.scores[-1] for nearest in found.search(-vectors, 400)]
        assert min(worst) == -1.0

    def test_deleted_are_passed_over_and_k_are_still_found(self, tmp_path: Path) -> None:
        """Pitfall 4: deleting the best 100 leaves the next ten to be found."""
        segments = [segment_of(tmp_path, 1, random_vectors(200))]
        query = random_vectors(1, seed=4)
        ranking = searcher_of(tmp_path, segments).search(query, 200)[0].passage_ids
        found = searcher_of(tmp_path, segments, deleted=np.sort(ranking[:100]))
        assert found.search(query, 10)[0].passage_ids.tolist() == ranking[100:110].tolist()

    def test_no_segment(self, tmp_path: Path) -> None:
        found = searcher_of(tmp_path, [])
        assert len(found) == 0
        for allowed in (None, ids(1, 2), NOTHING):
            among = None if allowed is None else found.select(allowed)
            (nearest,) = found.search(random_vectors(1), 5, among=among)
            assert pairs(nearest) == []
        assert found.cosines(random_vectors(1)[0], NOTHING).tolist() == []

    def test_no_query(self, tmp_path: Path) -> None:
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, random_vectors(3))])
        assert found.search(np.empty((0, DIM), dtype=np.float32), 5) == []

    @pytest.mark.parametrize("shape", [(1, 15), (1, 17), (16,), (1, 1, 16)])
    def test_queries_of_another_dimension(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        """Pitfall 10: the message has both numbers."""
        with pytest.raises(InvalidArgumentError, match=r"shape \(1?.*They must have shape \(n, 16\)"):
            searcher_of(tmp_path, []).search(np.ones(shape, dtype=np.float32), 5)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_queries_that_are_not_finite(self, tmp_path: Path, bad: float) -> None:
        """Pitfall 11: FAISS would return ids of -1 and scores of -3e38."""
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, random_vectors(3))])
        queries = random_vectors(2)
        queries[1, 3] = bad
        with pytest.raises(NonFiniteVectorError):
            found.search(queries, 2)

    def test_queries_come_from_anywhere_in_memory(self, tmp_path: Path) -> None:
        found = searcher_of(tmp_path, [segment_of(tmp_path, 1, random_vectors(60))])
        queries = random_vectors(9, seed=2)
        expected = [pairs(one) for one in found.search(queries, 5)][::-2]
        assert [pairs(one) for one in found.search(queries[::-2], 5)] == expected
        assert [pairs(one) for one in found.search(queries[::-2].astype(np.float64), 5)] == expected

    def test_a_segment_of_another_dimension(self, tmp_path: Path) -> None:
        segment = segment_of(tmp_path, 1, random_vectors(3, dim=8))
        with pytest.raises(IndexDamagedError, match=r"000001\.npy has 8 dimensions, not 16"):
            searcher_of(tmp_path, [segment])


BIG_ROWS = 2000


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return clustered_vectors(BIG_ROWS, dim=DIM)


@pytest.fixture(scope="module")
def all_ids() -> Ids:
    return np.sort(np.random.default_rng(0).choice(5000, BIG_ROWS, replace=False)) + 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("big")


@pytest.fixture(scope="module")
def segments(folder: Path, vectors: Floats, all_ids: Ids) -> list[Segment]:
    cuts = [900, 1000, 1050, 1950]
    parts = zip(np.split(vectors, cuts), np.split(all_ids, cuts), strict=True)
    return [merged_segment(folder, number, part, own) for number, (part, own) in enumerate(parts, 1)]


@pytest.fixture(scope="module")
def files(folder: Path, segments: list[Segment]) -> list[AnnFile]:
    return [ann_file(folder, 11, segments[0]), ann_file(folder, 12, segments[3], "HNSW16,SQ8", effort=40)]


class TestBigSegments:
    """Some segments are searched through FAISS files."""

    @pytest.fixture(autouse=True)
    def seldom_exact(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ann, "EXACT_AMONG", 20)

    @pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.002])
    def test_nearly_what_numpy_finds(
        self, folder: Path, segments: list[Segment], files: list[AnnFile], vectors: Floats, all_ids: Ids, share: float
    ) -> None:
        rng = np.random.default_rng(1)
        deleted = all_ids[rng.random(BIG_ROWS) < 0.1]
        found = searcher_of(folder, segments, files, deleted=deleted)
        allowed = np.concatenate([all_ids[rng.random(BIG_ROWS) < share], ids(-5, 9999)])
        live = ~np.isin(all_ids, deleted)
        assert len(found) == live.sum()
        live &= np.isin(all_ids, allowed)
        among = found.select(allowed)
        queries = clustered_vectors(20, seed=3, dim=DIM)
        met = 0
        for query, nearest in zip(queries, found.search(queries, 10, among=among), strict=True):
            expected = brute_force(vectors[live], all_ids[live], query, 10)
            scores = dict(brute_force(vectors[live], all_ids[live], query, BIG_ROWS))
            assert len(nearest.passage_ids) == len(expected) == min(10, live.sum())
            assert pairs(nearest) == sorted(pairs(nearest), key=lambda pair: (pair[1], pair[0]), reverse=True)
            assert all(scores[one] == score for one, score in pairs(nearest))
            met += len(set(pairs(nearest)) & set(expected))
        assert met >= 0.95 * 20 * min(10, live.sum())

    def test_all_there_are(
        self, folder: Path, segments: list[Segment], files: list[AnnFile], vectors: Floats, all_ids: Ids
    ) -> None:
        found = searcher_of(folder, segments, files)
        query = clustered_vectors(1, seed=3, dim=DIM)
        for k in (BIG_ROWS, BIG_ROWS + 5):
            assert pairs(found.search(query, k)[0]) == brute_force(vectors, all_ids, query[0], BIG_ROWS)

    def test_cosines(
        self, folder: Path, segments: list[Segment], files: list[AnnFile], vectors: Floats, all_ids: Ids
    ) -> None:
        """Of parts of either sort, in the order of the ids, the same as those that a search gives."""
        found = searcher_of(folder, segments, files)
        query = clustered_vectors(1, seed=3, dim=DIM)[0]
        some = np.random.default_rng(2).permutation(BIG_ROWS)[:300]
        scores = dict(brute_force(vectors, all_ids, query, BIG_ROWS))
        assert found.cosines(query, all_ids[some]).tolist() == [scores[one] for one in all_ids[some].tolist()]
        nearest = found.search(query[None], 10)[0]
        assert found.cosines(query, nearest.passage_ids).tolist() == nearest.scores.tolist()

    def test_cosines_of_what_is_not_there(self, folder: Path, segments: list[Segment], files: list[AnnFile]) -> None:
        with pytest.raises(IndexDamagedError, match="2 of 3 passages have no vector"):
            searcher_of(folder, segments, files).cosines(
                random_vectors(1)[0], ids(-1, segments[0].first_passage_id, 9999)
            )

    def test_threads_search_while_another_state_is_read(
        self, folder: Path, segments: list[Segment], files: list[AnnFile], all_ids: Ids
    ) -> None:
        queries = clustered_vectors(12, seed=3, dim=DIM)
        first = searcher_of(folder, segments, files)
        allowed = all_ids[::3]
        among = first.select(allowed)
        expected = [pairs(one) for one in first.search(queries, 10)]
        filtered = [pairs(one) for one in first.search(queries, 10, among=among)]

        def search(n: int) -> bool:
            if n % 4 == 0:
                later = searcher_of(folder, segments[:3], files[:1], deleted=all_ids[:7], before=first)
                return len(later) == 1050 - 7
            if n % 4 == 1:
                return [pairs(one) for one in first.search(queries, 10, among=first.select(allowed))] == filtered
            if n % 4 == 2:
                return [pairs(one) for one in first.search(queries, 10, among=among)] == filtered
            return [pairs(one) for one in first.search(queries, 10)] == expected

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(search, range(40)))

    def test_a_faiss_file_of_another_segment(self, folder: Path, segments: list[Segment], files: list[AnnFile]) -> None:
        with pytest.raises(IndexDamagedError, match=r"000011\.faiss is of 900 rows, its vector file of 100"):
            searcher_of(folder, segments, [replace(files[0], segment=2)])

    def test_a_damaged_faiss_file_is_named(self, folder: Path, segments: list[Segment], files: list[AnnFile]) -> None:
        with pytest.raises(IndexDamagedError, match=r"000011\.faiss has \d+ bytes, not 5.* xsearch repair"):
            searcher_of(folder, segments, [replace(files[0], size=5), files[1]])

    def test_vectors_that_are_damaged_are_noticed_when_they_are_candidates(
        self, tmp_path: Path, vectors: Floats
    ) -> None:
        """Opening reads no vector of a big segment; a block is checked when a row of it is scored."""
        vectors = vectors[np.argsort(vectors @ vectors[0])]
        segment = segment_of(tmp_path, 1, vectors)
        file = ann_file(tmp_path, 2, segment)
        file = replace(file, facts=replace(file.facts, candidates=10))
        path = tmp_path / VECTORS_FOLDER / segment.name
        content = bytearray(path.read_bytes())
        content[128 + 50 * DIM * 2] ^= 1
        path.write_bytes(content)
        found = searcher_of(tmp_path, [segment], [file])
        # The last is the farthest from the first fifty, as they are sorted.
        assert found.search(vectors[-1:], 3)[0].passage_ids[0] == BIG_ROWS
        for _ in range(2):
            with pytest.raises(IndexDamagedError, match=r"000001\.npy has another checksum in the rows from 48 on"):
                found.search(vectors[50:51], 3)


class TestTakenOver:
    """What did not change since an earlier state is not read again."""

    @pytest.fixture(autouse=True)
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Numbers of the vector files that were opened."""
        numbers: list[int] = []

        def noted(index: Path, segment: Segment) -> RawVectors:
            numbers.append(segment.number)
            return RawVectors(index, segment)

        monkeypatch.setattr(searcher, "RawVectors", noted)
        return numbers

    def made(self, index: Path, sizes: Sequence[int]) -> list[Segment]:
        vectors, first, found = random_vectors(sum(sizes), seed=1), 1, []
        for number, size in enumerate(sizes, 1):
            found.append(segment_of(index, number, vectors[first - 1 : first - 1 + size], first=first))
            first += size
        return found

    def check(self, found: VectorSearcher, rows: int) -> None:
        vectors = random_vectors(rows, seed=1)
        query = random_vectors(1, seed=8)
        assert pairs(found.search(query, rows)[0]) == brute_force(vectors, np.arange(1, rows + 1), query[0], rows)

    def test_a_growing_index(self, tmp_path: Path, read: list[int]) -> None:
        """Each segment is read once; the parts stay few, each more than twice as large as the next."""
        segments = self.made(tmp_path, [30] * 40)
        found: VectorSearcher | None = None
        for count in range(1, 41):
            found = searcher_of(tmp_path, segments[:count], before=found)
            sizes = [placed.part.rows for placed in found._placed]
            assert all(big > 2 * small for big, small in pairwise(sizes))
            assert sum(sizes) == 30 * count
            if count % 13 == 0:
                self.check(found, 30 * count)
        assert read == list(range(1, 41))

    def test_nothing_changed_but_what_is_deleted(self, tmp_path: Path, read: list[int]) -> None:
        segments = self.made(tmp_path, [400, 30])
        files = [ann_file(tmp_path, 9, segments[0])]
        before = searcher_of(tmp_path, segments, files)
        assert read == [1, 2]
        later = searcher_of(tmp_path, segments, files, deleted=ids(1, 2, 430), before=before)
        assert read == [1, 2]
        assert (len(before), len(later)) == (430, 427)
        query = random_vectors(1, seed=1)
        assert before.search(query, 1)[0].passage_ids.tolist() == [1]
        assert later.search(query, 1)[0].passage_ids.tolist() != [1]

    def test_segments_that_were_merged(self, tmp_path: Path, read: list[int]) -> None:
        segments = self.made(tmp_path, [300, 40, 30, 20])
        files = [ann_file(tmp_path, 9, segments[0])]
        before = searcher_of(tmp_path, segments, files)
        vectors = random_vectors(390, seed=1)
        merged = segment_of(tmp_path, 5, vectors[300:], first=301)
        later = searcher_of(tmp_path, [segments[0], merged], files, before=before)
        assert read == [1, 2, 3, 4, 5]
        self.check(later, 390)
        # The earlier state goes on with the old files, gone or not.
        for segment in segments[1:]:
            (tmp_path / VECTORS_FOLDER / segment.name).unlink()
        self.check(before, 390)

    def test_another_faiss_file_for_the_same_segment(self, tmp_path: Path, read: list[int]) -> None:
        segments = self.made(tmp_path, [300])
        before = searcher_of(tmp_path, segments, [ann_file(tmp_path, 9, segments[0])])
        other = ann_file(tmp_path, 10, segments[0], "Flat", effort=0)
        later = searcher_of(tmp_path, segments, [other], before=before)
        assert read == [1, 1]
        self.check(later, 300)

    def test_a_faiss_file_comes_and_goes(self, tmp_path: Path, read: list[int]) -> None:
        segments = self.made(tmp_path, [50, 300, 20])
        exact = searcher_of(tmp_path, segments)
        approximate = searcher_of(tmp_path, segments, [ann_file(tmp_path, 9, segments[1])], before=exact)
        again = searcher_of(tmp_path, segments, before=approximate)
        assert [placed.part.rows for placed in approximate._placed] == [50, 300, 20]
        for found in (exact, approximate, again):
            self.check(found, 370)

    def test_an_older_state_after_a_newer_one(self, tmp_path: Path, read: list[int]) -> None:
        """A snapshot from before the last commit may be asked for the first time after it."""
        segments = self.made(tmp_path, [30, 30, 30])
        newer = searcher_of(tmp_path, segments)
        older = searcher_of(tmp_path, segments[:2], before=newer)
        self.check(older, 60)
        self.check(newer, 90)

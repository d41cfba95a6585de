"""Segments are read only as they were written, and exact search is exact: scores, order, ties, what may be found."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import IndexDamagedError, InvalidArgumentError, NonFiniteVectorError, StoreError
from xsearch.store.files import Written, publish, sha256_of
from xsearch.store.vectors import VECTORS_FOLDER, ExactSearcher, Segment, open_segment, write_segment

DIM = 16
NOTHING = np.empty(0, dtype=np.int64)
Floats = NDArray[np.float32]


def random_vectors(rows: int, *, seed: int = 0, dim: int = DIM) -> Floats:
    return unit_vectors(np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32))


def ids(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def brute_force(stored: Floats, row_ids: NDArray[np.int64], query: Floats, k: int) -> list[tuple[int, float]]:
    """By numpy, in the arithmetic of one row after another, over the float16 values that are on disk."""
    scores = (stored.astype(np.float16).astype(np.float32) * query).sum(axis=1).clip(-1, 1)
    found = zip(row_ids.tolist(), scores.tolist(), strict=True)
    return sorted(found, key=lambda pair: (pair[1], pair[0]), reverse=True)[:k]


class TestSegment:
    def test_round_trip(self, tmp_path: Path) -> None:
        vectors = random_vectors(7)
        segment = write_segment(tmp_path, 3, 41, vectors)
        path = tmp_path / VECTORS_FOLDER / "000003.npy"
        assert segment == Segment(3, 41, 7, DIM, path.stat().st_size, sha256_of(path))
        opened = open_segment(tmp_path, segment)
        assert isinstance(opened, np.memmap)
        assert opened.dtype == np.float16
        np.testing.assert_array_equal(opened, vectors.astype(np.float16))

    def test_vectors_come_from_anywhere_in_memory(self, tmp_path: Path) -> None:
        vectors = random_vectors(12)[::-2]
        opened = open_segment(tmp_path, write_segment(tmp_path, 1, 1, vectors))
        np.testing.assert_array_equal(opened, vectors.astype(np.float16))

    @pytest.mark.parametrize("length", [0, 1, 5, 6, 10, 64, 127, 128, 129, 200, 255, 287, 321, 351])
    def test_cut_short(self, tmp_path: Path, length: int) -> None:
        """Pitfall 2: a file cut anywhere is an error that names it."""
        segment = write_segment(tmp_path, 1, 1, random_vectors(7))
        path = tmp_path / VECTORS_FOLDER / segment.name
        assert segment.size == 128 + 7 * DIM * 2
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(IndexDamagedError, match=rf"{segment.name} has {length} bytes, not 352"):
            open_segment(tmp_path, segment)

    def test_longer_than_it_was(self, tmp_path: Path) -> None:
        segment = write_segment(tmp_path, 1, 1, random_vectors(7))
        with (tmp_path / VECTORS_FOLDER / segment.name).open("ab") as file:
            file.write(b"\0")
        with pytest.raises(IndexDamagedError, match="has 353 bytes, not 352"):
            open_segment(tmp_path, segment)

    @pytest.mark.parametrize("place", [0, 5, 6, 7, 8, 9, 20, 40, 60, 100, 127, *range(128, 352, 9)])
    def test_one_flipped_bit(self, tmp_path: Path, place: int) -> None:
        """Pitfall 2: one bit anywhere, in the header or in a vector."""
        segment = write_segment(tmp_path, 1, 1, random_vectors(7))
        path = tmp_path / VECTORS_FOLDER / segment.name
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(IndexDamagedError, match=f"{segment.name} has another checksum") as caught:
            open_segment(tmp_path, segment)
        assert "--rebuild" in caught.value.remedy

    def test_missing(self, tmp_path: Path) -> None:
        segment = write_segment(tmp_path, 1, 1, random_vectors(7))
        (tmp_path / VECTORS_FOLDER / segment.name).unlink()
        with pytest.raises(IndexDamagedError, match=r"000001\.npy is missing"):
            open_segment(tmp_path, segment)

    def test_folder_missing(self, tmp_path: Path) -> None:
        with pytest.raises(IndexDamagedError, match=r"000001\.npy is missing"):
            open_segment(tmp_path, Segment(1, 1, 7, DIM, 352, "0" * 64))

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        folder = tmp_path / VECTORS_FOLDER / "000001.npy"
        folder.mkdir(parents=True)
        with pytest.raises(IndexDamagedError, match=r"000001\.npy cannot be read \(Is a directory\)"):
            open_segment(tmp_path, Segment(1, 1, 7, DIM, folder.stat().st_size, "0" * 64))

    def test_the_file_of_another_segment(self, tmp_path: Path) -> None:
        """Pitfall 1: same size, same shape, other vectors."""
        one, two = (write_segment(tmp_path, number, 1, random_vectors(7, seed=number)) for number in (1, 2))
        assert one.size == two.size
        (tmp_path / VECTORS_FOLDER / two.name).replace(tmp_path / VECTORS_FOLDER / one.name)
        with pytest.raises(IndexDamagedError, match=r"000001\.npy has another checksum"):
            open_segment(tmp_path, one)

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (np.zeros((7, DIM), dtype=np.float32), r"holds \(7, 16\) float32, not \(7, 16\) float16"),
            (np.zeros((7, DIM), dtype=">f2"), "holds .* >f2"),
            (np.zeros((7, DIM), dtype=np.int16), "holds .* int16"),
            (np.zeros((6, DIM), dtype=np.float16), r"holds \(6, 16\)"),
            (np.zeros((DIM, 7), dtype=np.float16), r"holds \(16, 7\)"),
            (np.zeros(7 * DIM, dtype=np.float16), r"holds \(112,\)"),
            (np.zeros((), dtype=np.float16), r"holds \(\)"),
        ],
    )
    def test_another_type_or_shape(self, tmp_path: Path, content: NDArray[Any], what: str) -> None:
        with pytest.raises(IndexDamagedError, match=rf"000001\.npy {what}"):
            open_segment(tmp_path, self._as_segment(tmp_path, content))

    @pytest.mark.parametrize(
        "content", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00\xff\xff{", b"PK\x03\x04", b"{}", b"\x80\x04N."]
    )
    def test_no_array_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / VECTORS_FOLDER).mkdir()
        written = publish(tmp_path / VECTORS_FOLDER / "000001.npy", lambda file: file.write(content) and None)
        with pytest.raises(IndexDamagedError, match=r"000001\.npy"):
            open_segment(tmp_path, Segment(1, 1, 7, DIM, written.size, written.sha256))

    def test_pickles_are_not_loaded(self, tmp_path: Path) -> None:
        """Pitfall 24: an array of objects is a pickle, and is refused even where its checksum is right."""
        with pytest.raises(IndexDamagedError, match="is not an array file"):
            open_segment(tmp_path, self._as_segment(tmp_path, np.array([[{"a": 1}] * DIM] * 7, dtype=object)))

    def test_disk_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fsync(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fsync)
        with pytest.raises(StoreError, match=r"000001\.npy cannot be written: No space left"):
            write_segment(tmp_path, 1, 1, random_vectors(7))

    @staticmethod
    def _as_segment(index: Path, content: NDArray[Any]) -> Segment:
        """What a catalogue would say of a file with this content."""
        buffer = io.BytesIO()
        np.save(buffer, content)
        (index / VECTORS_FOLDER).mkdir()
        written: Written = publish(
            index / VECTORS_FOLDER / "000001.npy", lambda file: file.write(buffer.getvalue()) and None
        )
        return Segment(1, 1, 7, DIM, written.size, written.sha256)


class TestExactSearcher:
    def test_equals_numpy(self, tmp_path: Path) -> None:
        vectors = random_vectors(500)
        searcher = ExactSearcher(tmp_path, [write_segment(tmp_path, 1, 1, vectors)], deleted=NOTHING, dim=DIM)
        queries = random_vectors(25, seed=9)
        for query, nearest in zip(queries, searcher.search(queries, 10), strict=True):
            found = list(zip(nearest.passage_ids.tolist(), nearest.scores.tolist(), strict=True))
            assert found == brute_force(vectors, np.arange(1, 501), query, 10)
            assert nearest.passage_ids.dtype == np.int64
            assert nearest.scores.dtype == np.float32

    @settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_equals_numpy_whatever_there_is(self, tmp_path: Path, data: st.DataObject) -> None:
        """Pitfalls 4 and 30: ties, duplicates, deleted rows, several segments, k up to beyond n; k hits as long as
        there are k."""
        sizes = data.draw(st.lists(st.integers(1, 12), max_size=4), label="rows of segments")
        gaps = data.draw(st.lists(st.integers(0, 3), min_size=len(sizes), max_size=len(sizes)), label="ids left out")
        # Coarse values: many equal scores.
        values = st.lists(st.integers(-1, 1), min_size=3, max_size=3).filter(any)
        drawn = data.draw(st.lists(values, min_size=sum(sizes), max_size=sum(sizes)), label="vectors")
        vectors = unit_vectors(np.array(drawn, dtype=np.float32).reshape(-1, 3))
        segments, all_ids, first, row = [], [], 1, 0
        for number, (size, gap) in enumerate(zip(sizes, gaps, strict=True), 1):
            first += gap
            segments.append(write_segment(tmp_path, number, first, vectors[row : row + size]))
            all_ids.extend(range(first, first + size))
            row, first = row + size, first + size
        some_ids = st.sets(st.integers(-2, first + 3))
        deleted = data.draw(some_ids, label="deleted")
        allowed = data.draw(st.none() | some_ids, label="allowed")
        k = data.draw(st.integers(1, sum(sizes) + 3), label="k")
        queries = unit_vectors(np.array(data.draw(st.lists(values, min_size=1, max_size=3)), dtype=np.float32))

        searcher = ExactSearcher(tmp_path, segments, deleted=ids(*sorted(deleted)), dim=3)
        found = searcher.search(queries, k, allowed=None if allowed is None else ids(*sorted(allowed)))

        live = np.array([i not in deleted for i in all_ids], dtype=bool)
        assert len(searcher) == live.sum()
        if allowed is not None:
            live &= np.array([i in allowed for i in all_ids], dtype=bool)
        for query, nearest in zip(queries, found, strict=True):
            expected = brute_force(vectors[live], np.array(all_ids, dtype=np.int64)[live], query, k)
            assert list(zip(nearest.passage_ids.tolist(), nearest.scores.tolist(), strict=True)) == expected

    @pytest.mark.parametrize("k", [1, 2, 63, 64, 65, 149, 150, 151, 299, 300, 301, 1000])
    @pytest.mark.parametrize("queries", [1, 2, 30])
    def test_ties_across_the_kth_place(self, tmp_path: Path, k: int, queries: int) -> None:
        """Pitfall 30: of 150 equal rows the greatest ids come first, wherever they lie and however many are asked."""
        rng = np.random.default_rng(5)
        vectors = random_vectors(300, dim=384)
        vectors[rng.permutation(300)[:150]] = vectors[0]
        segments = [write_segment(tmp_path, 1, 1, vectors[:101]), write_segment(tmp_path, 2, 500, vectors[101:])]
        all_ids = np.concatenate([np.arange(1, 102), np.arange(500, 699)])
        searcher = ExactSearcher(tmp_path, segments, deleted=NOTHING, dim=384)
        query = unit_vectors(vectors[:1] + 0.01)
        expected = brute_force(vectors, all_ids, query[0], k)
        for nearest in searcher.search(np.repeat(query, queries, axis=0), k):
            assert list(zip(nearest.passage_ids.tolist(), nearest.scores.tolist(), strict=True)) == expected

    def test_one_query_scores_the_same_alone_and_among_many(self, tmp_path: Path) -> None:
        """FAISS adds up in another order for one query than for two, which shows in the last bits."""
        vectors = random_vectors(3000, dim=384)
        searcher = ExactSearcher(tmp_path, [write_segment(tmp_path, 1, 1, vectors)], deleted=NOTHING, dim=384)
        queries = random_vectors(40, seed=3, dim=384)
        together = searcher.search(queries, 50)
        for query, among in zip(queries, together, strict=True):
            alone = searcher.search(query[None], 50)[0]
            assert alone.passage_ids.tolist() == among.passage_ids.tolist()
            assert alone.scores.tolist() == among.scores.tolist()

    def test_scores_stay_within_one(self, tmp_path: Path) -> None:
        """Pitfall 11: rounding to float16 makes some vectors longer than 1; no score is above 1 or below -1."""
        vectors = random_vectors(400)
        searcher = ExactSearcher(tmp_path, [write_segment(tmp_path, 1, 1, vectors)], deleted=NOTHING, dim=DIM)
        raw = (vectors.astype(np.float16).astype(np.float32) * vectors).sum(axis=1)
        assert raw.max() > 1  # else this shows nothing
        best = [nearest.scores[0] for nearest in searcher.search(vectors, 1)]
        assert max(best) == 1.0
        worst = [nearest.scores[-1] for nearest in searcher.search(-vectors, 400)]
        assert min(worst) == -1.0

    def test_deleted_are_passed_over_and_k_are_still_found(self, tmp_path: Path) -> None:
        """Pitfall 4: deleting the best 100 leaves the next ten to be found."""
        vectors = random_vectors(200)
        segments = [write_segment(tmp_path, 1, 1, vectors)]
        query = random_vectors(1, seed=4)
        ranking = ExactSearcher(tmp_path, segments, deleted=NOTHING, dim=DIM).search(query, 200)[0].passage_ids
        searcher = ExactSearcher(tmp_path, segments, deleted=np.sort(ranking[:100]), dim=DIM)
        assert searcher.search(query, 10)[0].passage_ids.tolist() == ranking[100:110].tolist()

    def test_no_segment(self, tmp_path: Path) -> None:
        searcher = ExactSearcher(tmp_path, [], deleted=NOTHING, dim=DIM)
        assert len(searcher) == 0
        for allowed in (None, ids(1, 2), NOTHING):
            (nearest,) = searcher.search(random_vectors(1), 5, allowed=allowed)
            assert nearest.passage_ids.tolist() == []
            assert nearest.scores.tolist() == []

    def test_no_query(self, tmp_path: Path) -> None:
        searcher = ExactSearcher(tmp_path, [write_segment(tmp_path, 1, 1, random_vectors(3))], deleted=NOTHING, dim=DIM)
        assert searcher.search(np.empty((0, DIM), dtype=np.float32), 5) == []

    @pytest.mark.parametrize("shape", [(1, 15), (1, 17), (16,), (1, 1, 16)])
    def test_queries_of_another_dimension(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        """Pitfall 10: the message has both numbers."""
        searcher = ExactSearcher(tmp_path, [], deleted=NOTHING, dim=DIM)
        with pytest.raises(InvalidArgumentError, match=r"shape \(1?.*They must have shape \(n, 16\)"):
            searcher.search(np.ones(shape, dtype=np.float32), 5)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_queries_that_are_not_finite(self, tmp_path: Path, bad: float) -> None:
        """Pitfall 11: FAISS would return ids of -1 and scores of -3e38."""
        searcher = ExactSearcher(tmp_path, [write_segment(tmp_path, 1, 1, random_vectors(3))], deleted=NOTHING, dim=DIM)
        queries = random_vectors(2)
        queries[1, 3] = bad
        with pytest.raises(NonFiniteVectorError):
            searcher.search(queries, 2)

    def test_a_segment_of_another_dimension(self, tmp_path: Path) -> None:
        segment = write_segment(tmp_path, 1, 1, random_vectors(3, dim=8))
        with pytest.raises(IndexDamagedError, match="8 dimensions, not 16"):
            ExactSearcher(tmp_path, [segment], deleted=NOTHING, dim=DIM)

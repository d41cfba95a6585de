"""Segments are read only as they were written; rows, ids and float16's bits become what they stand for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.store.segments import DIM, Floats, ids, merged_segment, random_vectors, segment_of, stored
from xsearch.errors import IndexDamagedError, InvalidArgumentError, StoreError
from xsearch.store.files import Written, publish, sha256_of
from xsearch.store.id_map import IdMap
from xsearch.store.tuning import HeldVectors
from xsearch.store.vectors import (
    BLOCK_ROWS,
    VECTORS_FOLDER,
    RawVectors,
    Scratch,
    Segment,
    consecutive,
    inner_products,
    runs_of,
    write_segment,
)

HEAD = 128  # bytes


def flip(path: Path, place: int) -> None:
    """Turns one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 8
    path.write_bytes(content)


def all_of(raw: RawVectors) -> Floats:
    return raw.read_range(0, raw.rows)


class TestSegment:
    def test_round_trip(self, tmp_path: Path) -> None:
        vectors = random_vectors(7)
        segment = segment_of(tmp_path, 3, vectors, first=41)
        path = tmp_path / VECTORS_FOLDER / "000003.npy"
        sums = sha256(vectors.astype(np.float16).tobytes()).digest()[:8]
        assert segment == Segment(3, 7, DIM, path.stat().st_size, sha256_of(path), consecutive(41), sums)
        assert segment.first_passage_id == 41
        raw = RawVectors(tmp_path, segment)
        assert raw.array.dtype == np.float16
        np.testing.assert_array_equal(raw.array, vectors.astype(np.float16))
        np.testing.assert_array_equal(np.load(path), vectors.astype(np.float16))

    def test_vectors_come_from_anywhere_in_memory(self, tmp_path: Path) -> None:
        vectors = random_vectors(12)[::-2]
        raw = RawVectors(tmp_path, segment_of(tmp_path, 1, vectors))
        np.testing.assert_array_equal(raw.array, vectors.astype(np.float16))

    @pytest.mark.parametrize("length", [0, 1, 5, 6, 10, 64, 127, 128, 129, 200, 255, 287, 321, 351])
    def test_cut_short(self, tmp_path: Path, length: int) -> None:
        """Pitfall 2: a file cut anywhere is an error that names it."""
        segment = segment_of(tmp_path, 1, random_vectors(7))
        path = tmp_path / VECTORS_FOLDER / segment.name
        assert segment.size == 128 + 7 * DIM * 2
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(IndexDamagedError, match=rf"{segment.name} has {length} bytes, not 352"):
            RawVectors(tmp_path, segment)

    def test_longer_than_it_was(self, tmp_path: Path) -> None:
        segment = segment_of(tmp_path, 1, random_vectors(7))
        with (tmp_path / VECTORS_FOLDER / segment.name).open("ab") as file:
            file.write(b"\0")
        with pytest.raises(IndexDamagedError, match="has 353 bytes, not 352"):
            RawVectors(tmp_path, segment)

    @pytest.mark.parametrize("old", [False, True])
    @pytest.mark.parametrize("place", [0, 5, 6, 7, 8, 9, 20, 40, 60, 100, 127, *range(128, 352, 9)])
    def test_one_flipped_bit(self, tmp_path: Path, place: int, old: bool) -> None:
        """Pitfall 2: one bit anywhere, in the header or in a vector."""
        segment = segment_of(tmp_path, 1, random_vectors(7), old=old)
        flip(tmp_path / VECTORS_FOLDER / segment.name, place)
        what = "has another checksum" if place >= HEAD else "(is not an array file|holds |has a head )"
        with pytest.raises(IndexDamagedError, match=rf"000001\.npy {what}") as caught:
            all_of(RawVectors(tmp_path, segment))
        assert "xsearch repair NAME" in caught.value.remedy

    def test_whatever_stands_in_the_header(self, tmp_path: Path) -> None:
        """An error of ours, or what was written; nothing is evaluated as Python, or warned of."""
        vectors = random_vectors(7)
        segment = segment_of(tmp_path, 1, vectors)
        path = tmp_path / VECTORS_FOLDER / segment.name
        content = path.read_bytes()
        whole: set[tuple[int, int]] = set()
        for place in range(HEAD):
            for value in {content[place] ^ 1 << bit for bit in range(8)} | set(b"\0 \n#0L()'b\\"):
                path.write_bytes(content[:place] + bytes([value]) + content[place + 1 :])
                try:
                    raw = RawVectors(tmp_path, segment)
                except IndexDamagedError as exc:
                    assert "000001.npy" in exc.given
                    continue
                np.testing.assert_array_equal(all_of(raw), stored(vectors))
                whole.add((place, value))
        # White space at the end of the description is as good as any other.
        end = content.index(b"}") + 1
        assert all(content[place] == value or (place >= end and bytes([value]).isspace()) for place, value in whole)
        assert (end + 3, ord("\n")) in whole

    def test_the_header_of_another_numpy(self, tmp_path: Path) -> None:
        """Versions of numpy fill the header up with other numbers of spaces."""
        vectors = random_vectors(7).astype(np.float16)
        described = b"{'descr': '<f2', 'fortran_order': False, 'shape': (7, 16), }"
        for spaces in (0, 5, 70, 2000):
            head = described + b" " * spaces + b"\n"
            content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + vectors.tobytes()
            segment = self._holding(tmp_path, content)
            np.testing.assert_array_equal(RawVectors(tmp_path, segment).array, vectors)

    def test_missing(self, tmp_path: Path) -> None:
        segment = segment_of(tmp_path, 1, random_vectors(7))
        (tmp_path / VECTORS_FOLDER / segment.name).unlink()
        with pytest.raises(IndexDamagedError, match=r"000001\.npy is missing"):
            RawVectors(tmp_path, segment)

    def test_folder_missing(self, tmp_path: Path) -> None:
        with pytest.raises(IndexDamagedError, match=r"000001\.npy is missing"):
            RawVectors(tmp_path, Segment(1, 7, DIM, 352, "0" * 64, consecutive(1)))

    def test_a_folder_of_that_name(self, tmp_path: Path) -> None:
        folder = tmp_path / VECTORS_FOLDER / "000001.npy"
        folder.mkdir(parents=True)
        with pytest.raises(IndexDamagedError, match=r"000001\.npy cannot be read \(Is a directory\)"):
            RawVectors(tmp_path, Segment(1, 7, DIM, folder.stat().st_size, "0" * 64, consecutive(1)))

    def test_the_file_of_another_segment(self, tmp_path: Path) -> None:
        """Pitfall 1: same size, same shape, other vectors."""
        one, two = (segment_of(tmp_path, number, random_vectors(7, seed=number)) for number in (1, 2))
        assert one.size == two.size
        (tmp_path / VECTORS_FOLDER / two.name).replace(tmp_path / VECTORS_FOLDER / one.name)
        with pytest.raises(IndexDamagedError, match=r"000001\.npy has another checksum in the rows from 0 on"):
            RawVectors(tmp_path, one).vectors(ids(3))

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            (np.zeros((7, DIM), dtype=np.float32), r"holds .*<f4.*\(7, 16\).*, not .*<f2.*\(7, 16\)"),
            (np.zeros((7, DIM), dtype=">f2"), "holds .*>f2"),
            (np.zeros((7, DIM), dtype=np.int16), "holds .*<i2"),
            (np.zeros((6, DIM), dtype=np.float16), r"holds .*\(6, 16\)"),
            (np.zeros((DIM, 7), dtype=np.float16), r"holds .*\(16, 7\)"),
            (np.zeros(7 * DIM, dtype=np.float16), r"holds .*\(112,\)"),
            (np.zeros((), dtype=np.float16), r"holds .*\(\)"),
            (np.asfortranarray(np.zeros((7, DIM), dtype=np.float16)), "holds .*'fortran_order': True"),
        ],
    )
    def test_another_type_or_shape(self, tmp_path: Path, content: NDArray[Any], what: str) -> None:
        with pytest.raises(IndexDamagedError, match=rf"000001\.npy {what}"):
            RawVectors(tmp_path, self._as_segment(tmp_path, content))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\x93NUMPY",
            b"\x93NUMPY\x01\x00\xff\xff{",
            b"\x93NUMPY\x01\x00\x00\x00",
            b"PK\x03\x04",
            b"{}",
            b"\x80\x04N.",
        ],
    )
    def test_no_array_at_all(self, tmp_path: Path, content: bytes) -> None:
        with pytest.raises(IndexDamagedError, match=r"000001\.npy"):
            RawVectors(tmp_path, self._holding(tmp_path, content))

    def test_pickles_are_not_loaded(self, tmp_path: Path) -> None:
        """Pitfall 24: an array of objects is a pickle, and is refused even where its checksum is right."""
        with pytest.raises(IndexDamagedError, match=r"holds \{'descr': '\|O'"):
            RawVectors(tmp_path, self._as_segment(tmp_path, np.array([[{"a": 1}] * DIM] * 7, dtype=object)))

    def test_disk_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fsync(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fsync)
        with pytest.raises(StoreError, match=r"000001\.npy cannot be written: No space left"):
            segment_of(tmp_path, 1, random_vectors(7))

    @pytest.mark.parametrize(
        "sizes", [[7], [0, 7], [16, 0, 23], [32, 7, 0], [0], [16, 7, 16], [17, 22], [39, 0, 1]], ids=str
    )
    def test_vectors_come_in_blocks(self, tmp_path: Path, sizes: list[int]) -> None:
        """Of whole checksums each but for the last; empty ones are nothing; all else is refused, and no file left."""
        rows = sum(sizes)
        vectors = random_vectors(rows)
        blocks = np.split(vectors, np.cumsum(sizes)[:-1])
        path = tmp_path / VECTORS_FOLDER / "000001.npy"
        if sizes in ([16, 7, 16], [17, 22], [39, 0, 1]):
            with pytest.raises(InvalidArgumentError, match="16 or a multiple of it at a time"):
                write_segment(tmp_path, 1, consecutive(1), vectors.shape, blocks)
            assert not path.exists()
            return
        segment = write_segment(tmp_path, 1, consecutive(1), vectors.shape, blocks)
        assert segment.block_sums == segment_of(tmp_path, 2, vectors).block_sums if rows else segment.block_sums == b""
        np.testing.assert_array_equal(np.load(path), vectors.astype(np.float16))

    @pytest.mark.parametrize("shape", [(6, DIM), (8, DIM), (7, DIM - 1), (0, DIM)])
    def test_vectors_that_are_too_few_or_too_many(self, tmp_path: Path, shape: tuple[int, int]) -> None:
        with pytest.raises(InvalidArgumentError, match=f"For a segment of {shape[0]} vectors of {shape[1]} dim"):
            write_segment(tmp_path, 1, consecutive(1), shape, [random_vectors(7)])
        assert not (tmp_path / VECTORS_FOLDER / "000001.npy").exists()

    @staticmethod
    def _as_segment(index: Path, content: NDArray[Any]) -> Segment:
        """What a catalogue would say of a file with this content."""
        buffer = io.BytesIO()
        np.save(buffer, content)
        return TestSegment._holding(index, buffer.getvalue())

    @staticmethod
    def _holding(index: Path, content: bytes) -> Segment:
        (index / VECTORS_FOLDER).mkdir(exist_ok=True)
        path = index / VECTORS_FOLDER / "000001.npy"
        written: Written = publish(path, lambda file: file.write(content) and None)
        return Segment(1, 7, DIM, written.size, written.sha256, consecutive(1))


class TestBlocks:
    """Blocks of rows are checked when they are first read, and no others."""

    ROWS = 3 * BLOCK_ROWS + 5

    @pytest.fixture
    def vectors(self) -> Floats:
        return random_vectors(self.ROWS)

    @pytest.fixture
    def damaged(self, tmp_path: Path, vectors: Floats) -> Iterator[RawVectors]:
        """A bit of row 20, in the second block, is flipped."""
        segment = segment_of(tmp_path, 1, vectors)
        flip(tmp_path / VECTORS_FOLDER / segment.name, HEAD + 20 * DIM * 2 + 3)
        yield RawVectors(tmp_path, segment)

    def test_other_blocks_can_be_read(self, damaged: RawVectors, vectors: Floats) -> None:
        rows = ids(0, 15, 32, 47, 48, 52)
        np.testing.assert_array_equal(damaged.vectors(rows), stored(vectors)[rows])
        np.testing.assert_array_equal(damaged.half_rows(rows), vectors.astype(np.float16)[rows])
        np.testing.assert_array_equal(damaged.read_range(32, 53), stored(vectors)[32:])
        np.testing.assert_array_equal(damaged.read_range(0, 16), stored(vectors)[:16])
        assert damaged.vectors(ids()).shape == (0, DIM)

    @pytest.mark.parametrize("row", [16, 20, 31])
    def test_the_block_itself_cannot(self, damaged: RawVectors, row: int) -> None:
        what = r"000001\.npy has another checksum in the rows from 16 on"
        for _ in range(2):
            with pytest.raises(IndexDamagedError, match=what):
                damaged.vectors(ids(0, row))
            with pytest.raises(IndexDamagedError, match=what):
                damaged.half_rows(ids(row))
            with pytest.raises(IndexDamagedError, match=what):
                damaged.scores(ids(row)[None], random_vectors(1), Scratch(1, DIM))
            with pytest.raises(IndexDamagedError, match=what):
                damaged.read_range(row, row + 1)
            with pytest.raises(IndexDamagedError, match=what):
                damaged.read_range(0, 53)
        with pytest.raises(IndexDamagedError, match="has another checksum than when it was written"):
            damaged.check()

    def test_the_last_block_is_short(self, tmp_path: Path, vectors: Floats) -> None:
        segment = segment_of(tmp_path, 1, vectors)
        assert len(segment.block_sums) == 4 * 8
        assert segment.block_sums[-8:] == sha256(vectors[48:].astype(np.float16).tobytes()).digest()[:8]
        flip(tmp_path / VECTORS_FOLDER / segment.name, segment.size - 1)
        raw = RawVectors(tmp_path, segment)
        raw.read_range(0, 48)
        with pytest.raises(IndexDamagedError, match="in the rows from 48 on"):
            raw.vectors(ids(52))

    def test_an_older_file_is_hashed_as_a_whole(self, tmp_path: Path, vectors: Floats) -> None:
        segment = segment_of(tmp_path, 1, vectors, old=True)
        np.testing.assert_array_equal(all_of(RawVectors(tmp_path, segment)), stored(vectors))
        flip(tmp_path / VECTORS_FOLDER / segment.name, segment.size - 1)
        with pytest.raises(IndexDamagedError, match="has another checksum than when it was written"):
            RawVectors(tmp_path, segment)

    @pytest.mark.parametrize("sums", [8, 24, 40])
    def test_another_number_of_checksums(self, tmp_path: Path, vectors: Floats, sums: int) -> None:
        whole = segment_of(tmp_path, 1, vectors)
        segment = Segment(1, whole.rows, DIM, whole.size, whole.sha256, whole.runs, b"x" * sums)
        with pytest.raises(IndexDamagedError, match=f"has 4 blocks and {sums // 8} checksums"):
            RawVectors(tmp_path, segment)

    def test_several_threads(self, tmp_path: Path) -> None:
        vectors = random_vectors(1000)
        raw = RawVectors(tmp_path, segment_of(tmp_path, 1, vectors))

        def read(seed: int) -> bool:
            rows = np.random.default_rng(seed).integers(0, 1000, size=40)
            return bool((raw.vectors(rows) == stored(vectors)[rows]).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(read, range(400)))


class TestFloat16:
    def test_every_finite_number(self, tmp_path: Path) -> None:
        """The bits are moved, not converted: the same as numpy's conversion, to the bit, subnormals and -0 too."""
        every = np.arange(65_536, dtype=np.uint16).view(np.float16)
        finite = every[np.isfinite(every)].reshape(-1, DIM)
        assert finite.size == 63_488
        raw = RawVectors(tmp_path, write_segment(tmp_path, 1, consecutive(1), finite.shape, [finite]))
        expected = finite.astype(np.float32).tobytes()
        assert all_of(raw).tobytes() == expected
        assert raw.vectors(np.arange(raw.rows)).tobytes() == expected
        backwards = np.arange(raw.rows)[::-1]
        assert raw.vectors(backwards).tobytes() == finite[::-1].astype(np.float32).tobytes()

    def test_scores(self, tmp_path: Path) -> None:
        vectors = random_vectors(50, dim=384)
        raw = RawVectors(tmp_path, segment_of(tmp_path, 1, vectors))
        queries = random_vectors(2, seed=3, dim=384)
        rows, scratch = np.array([[3, 3, 49, 0], [7, 8, 0, 1]]), Scratch(9, 384)
        expected = (stored(vectors)[rows] * queries[:, None]).sum(axis=2)
        for source in (raw, HeldVectors(stored(vectors))):
            assert (source.rows, source.dim) == (50, 384)
            scores = source.scores(rows, queries, scratch)
            np.testing.assert_allclose(scores, expected, atol=1e-6)
            assert scores.dtype == np.float32
            # Alone or in company, straight or through the shift of bits: the same to the last bit.
            for place in np.ndindex(2, 4):
                vector = source.vectors(rows[place].reshape(1))
                np.testing.assert_array_equal(vector[0], stored(vectors)[rows[place]])
                assert inner_products(vector, queries[place[0]])[0] == scores[place]
            np.testing.assert_array_equal(source.read_range(7, 9), stored(vectors)[7:9])


class TestIdMap:
    @staticmethod
    def _segment(number: int, passage_ids: list[int]) -> Segment:
        return Segment(number, len(passage_ids), DIM, 0, "", runs_of(ids(*passage_ids)))

    @pytest.mark.parametrize(
        ("passage_ids", "runs"),
        [
            ([41], [(0, 41)]),
            ([1, 2, 3], [(0, 1)]),
            ([4, 5, 6, 9, 10], [(0, 4), (3, 9)]),
            ([1, 3, 5], [(0, 1), (1, 3), (2, 5)]),
            ([2**40, 2**40 + 1, 2**62], [(0, 2**40), (2, 2**62)]),
        ],
    )
    def test_runs(self, passage_ids: list[int], runs: list[tuple[int, int]]) -> None:
        segment = self._segment(1, passage_ids)
        assert list(map(tuple, segment.id_runs().tolist())) == runs
        assert segment.runs == b"".join(n.to_bytes(8, "little") for run in runs for n in run)
        assert segment.first_passage_id == passage_ids[0]
        assert (segment.runs == consecutive(passage_ids[0])) == (len(runs) == 1)

    @given(data=st.data())
    def test_both_ways(self, data: st.DataObject) -> None:
        known = sorted(data.draw(st.sets(st.integers(1, 60) | st.integers(2**40, 2**40 + 5)), label="ids"))
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(known) - 1))), label="where segments begin"))
        parts = [part.tolist() for part in np.split(ids(*known), [cut for cut in cuts if cut < len(known)])]
        found = IdMap(self._segment(number, part) for number, part in enumerate(parts) if part)
        assert found.rows == len(known)
        assert found.all_ids().tolist() == known
        rows = data.draw(st.lists(st.integers(0, len(known) - 1)) if known else st.just([]), label="rows")
        assert found.ids_of(ids(*rows)).tolist() == [known[row] for row in rows]
        asked = data.draw(st.lists(st.integers(-3, 65) | st.integers(2**40 - 2, 2**40 + 8)), label="asked")
        assert found.rows_of(ids(*asked)).tolist() == [known.index(one) for one in asked if one in known]
        assert found.holds(ids(*asked)).tolist() == [one in known for one in asked]

    def test_a_merged_segment(self, tmp_path: Path) -> None:
        vectors = random_vectors(6)
        segment = merged_segment(tmp_path, 4, vectors, ids(3, 4, 9, 20, 21, 22))
        assert segment.id_runs().tolist() == [[0, 3], [2, 9], [3, 20]]
        found = IdMap([segment_of(tmp_path, 1, vectors[:2]), segment])
        assert found.all_ids().tolist() == [1, 2, 3, 4, 9, 20, 21, 22]
        assert found.rows_of(ids(22, 5, 9, 1)).tolist() == [7, 4, 0]

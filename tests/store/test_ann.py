"""Approximate search: what may not be found never is, k are found wherever there are k, and files are checked."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from tests.store.segments import Floats, clustered_vectors, ids, recall, scores_of, stored
from xsearch.errors import IndexDamagedError
from xsearch.store import ann
from xsearch.store.ann import ANN_FOLDER, AnnFacts, AnnFile, AnnPart, Reach, greatest_effort, open_ann
from xsearch.store.files import sha256_of
from xsearch.store.kinds import fill, make, train
from xsearch.store.selection import Selection
from xsearch.store.tuning import HeldVectors
from xsearch.store.vectors import Found

ROWS, DIM = 2000, 32
# With a reach that finds nearly all.
KINDS = {
    "IVF32,PQ8x4fs": Reach(12, 160),
    "IVF32,PQ16x4fs": Reach(12, 80),
    "IVF32,RaBitQfs": Reach(12, 160),
    "IVF32,SQ8": Reach(12, 40),
    "HNSW16,SQ8": Reach(40, 40),
    "OPQ8,IVF32,PQ8x4fs": Reach(12, 160),
    "PCA16,IVF32_HNSW8,SQ8": Reach(12, 160),
    "RaBitQ": Reach(0, 320),
    "Flat": Reach(0, 40),
}


@pytest.fixture(scope="module")
def vectors() -> Floats:
    return stored(clustered_vectors(ROWS, dim=DIM))


@pytest.fixture(scope="module")
def queries() -> Floats:
    return clustered_vectors(40, seed=1, dim=DIM)


@pytest.fixture(scope="module", params=KINDS)
def part(request: pytest.FixtureRequest, vectors: Floats) -> AnnPart:
    return part_of(request.param, vectors)


@pytest.fixture(autouse=True)
def seldom_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """These parts are small, and would mostly be searched exactly."""
    monkeypatch.setattr(ann, "EXACT_AMONG", 20)


def part_of(factory: str, vectors: Floats, reach: Reach | None = None) -> AnnPart:
    source = HeldVectors(vectors)
    made = make(factory, vectors.shape[1])
    if factory.startswith("OPQ"):
        # Left to itself it takes half a minute.
        faiss.downcast_VectorTransform(made.chain.at(0)).niter = 2
    train(made, source, np.arange(len(vectors)))
    return AnnPart(source, fill(made, source), reach or KINDS[factory])


@pytest.mark.parametrize("factory", ["IVF8,SQ8", "HNSW8,SQ8"])
def test_its_memory_is_free_as_soon_as_nobody_uses_it(factory: str, vectors: Floats) -> None:
    """A cycle would keep it, and its memory map, until Python's collector comes by."""
    made = part_of(factory, vectors, Reach(4, 40))
    made.search(vectors[:3], 5, Selection(len(vectors), None))
    alive = weakref.ref(made)
    gc.disable()
    try:
        del made
        assert alive() is None
    finally:
        gc.enable()


def same(one: Found, other: Found) -> bool:
    return one.rows.tolist() == other.rows.tolist() and one.scores.tolist() == other.scores.tolist()


def check(found: Found, vectors: Floats, query: Floats) -> None:
    """No row twice, true scores, best first, of equals the later first."""
    assert len(set(found.rows.tolist())) == len(found.rows)
    assert found.scores.clip(-1, 1).tolist() == scores_of(vectors[found.rows], query).tolist()
    assert np.lexsort((found.rows, found.scores))[::-1].tolist() == list(range(len(found.rows)))


def test_most_of_the_nearest_are_found(part: AnnPart, vectors: Floats, queries: Floats) -> None:
    found = part.search(queries, 10, Selection(ROWS, None))
    for query, one in zip(queries, found, strict=True):
        assert len(one.rows) == 10
        check(one, vectors, query)
    assert recall(vectors, queries, [one.rows for one in found], 10) >= 0.95


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0.001])
def test_among_a_share_of_the_rows(part: AnnPart, vectors: Floats, queries: Floats, share: float) -> None:
    """Pitfall 4: only what is allowed, as many as are asked for, and mostly the nearest."""
    mask = np.random.default_rng(3).random(ROWS) < share
    mask[:3] = True
    allowed = np.flatnonzero(mask)
    found = part.search(queries, 10, Selection(ROWS, mask))
    for query, one in zip(queries, found, strict=True):
        assert mask[one.rows].all()
        assert len(one.rows) == min(10, len(allowed))
        check(one, vectors, query)
    rows = [np.searchsorted(allowed, one.rows) for one in found]
    assert recall(vectors[allowed], queries, rows, min(10, len(allowed))) >= 0.9


@pytest.mark.parametrize("allowed", [[7], [5, 6, 1999], list(range(100, 130))])
@pytest.mark.parametrize("k", [1, 3, 31])
def test_few_rows_far_from_the_query(
    part: AnnPart, vectors: Floats, allowed: list[int], k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in no list that is looked into is found all the same, and then exactly."""
    monkeypatch.setattr(ann, "EXACT_AMONG", 0)
    mask = np.zeros(ROWS, dtype=bool)
    mask[allowed] = True
    query = -vectors[allowed[0]]
    [found] = part.search(query[None], k, Selection(ROWS, mask))
    check(found, vectors, query)
    assert len(found.rows) == min(k, len(allowed))
    if k >= len(allowed) / 2:
        ranked = np.lexsort((allowed, scores_of(vectors[allowed], query)))[::-1]
        assert found.rows.tolist() == ids(*allowed)[ranked].tolist()[:k]


@pytest.mark.parametrize("k", [ROWS // 2, ROWS, 10 * ROWS])
def test_as_many_as_there_are(part: AnnPart, vectors: Floats, queries: Floats, k: int) -> None:
    """Half of the rows or more are ranked exactly."""
    [found] = part.search(queries[:1], k, Selection(ROWS, None))
    ranked = np.lexsort((np.arange(ROWS), scores_of(vectors, queries[0])))[::-1]
    assert found.rows.tolist() == ranked[:k].tolist()


@pytest.mark.parametrize("k", [1, 11, 100, 900])
def test_k_are_found(part: AnnPart, vectors: Floats, queries: Floats, k: int) -> None:
    for mask in (None, np.arange(ROWS) % 10 < 9, np.arange(ROWS) % 10 < 7):
        for query, one in zip(queries[:5], part.search(queries[:5], k, Selection(ROWS, mask)), strict=True):
            assert len(one.rows) == k
            assert mask is None or mask[one.rows].all()
            check(one, vectors, query)


def test_a_narrow_reach_is_widened(part: AnnPart, vectors: Floats, queries: Floats) -> None:
    """With one list, or one candidate, there are not k; more is looked for until there are."""
    for reach in (Reach(1, 1), Reach(1, 5), Reach(2, 40)):
        for mask in (None, np.arange(ROWS) % 50 == 0):
            for query, one in zip(queries, part.search(queries, 25, Selection(ROWS, mask), reach=reach), strict=True):
                assert len(one.rows) == 25
                assert mask is None or mask[one.rows].all()
                check(one, vectors, query)


def test_many_at_once_find_what_each_finds_alone(part: AnnPart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ann, "QUERIES_AT_ONCE", 32)
    many = clustered_vectors(75, seed=2, dim=DIM)
    for mask in (None, np.arange(ROWS) % 3 == 0):
        selection = Selection(ROWS, mask)
        together = part.search(many, 10, selection)
        alone = [part.search(query[None], 10, selection)[0] for query in many]
        assert len(together) == 75
        assert sum(same(one, other) for one, other in zip(together, alone, strict=True)) >= 74


def test_from_many_threads(part: AnnPart, queries: Floats) -> None:
    selections = [
        Selection(ROWS, None),
        Selection(ROWS, np.arange(ROWS) % 4 == 0),
        Selection(ROWS, np.arange(ROWS) < 99),
    ]
    expected = [part.search(queries, 10, selection) for selection in selections]

    def search(n: int) -> bool:
        found = part.search(queries, 10, selections[n % 3])
        return all(same(one, other) for one, other in zip(found, expected[n % 3], strict=True))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(search, range(16)))


def test_equal_rows(queries: Floats) -> None:
    """Pitfall 30: where all candidates are equal the later rows come first, among those that FAISS has found."""
    vectors = stored(np.repeat(clustered_vectors(30, dim=DIM), 20, axis=0))
    [found] = part_of("SQ8", vectors, Reach(0, 40)).search(queries[:1], 5, Selection(600, None))
    nearest = int(scores_of(vectors, queries[0]).argmax()) // 20
    assert {row // 20 for row in found.rows.tolist()} == {nearest}
    assert found.rows.tolist() == sorted(found.rows.tolist(), reverse=True)


@pytest.mark.parametrize("left_out", [False, True])
def test_of_many_equals_the_later_come_first(vectors: Floats, left_out: bool) -> None:
    """More than are asked for: all that may tie with the last are looked at."""
    same = np.sort(np.random.default_rng(3).choice(ROWS, 40, replace=False))
    held = vectors.copy()
    held[same] = held[same[0]]
    keep = np.ones(ROWS, dtype=bool)
    if left_out:
        keep[same[-8::2]] = keep[: ROWS // 20] = False
    for one in part_of("IVF32,SQ8", held).search(held[same[:3]], 10, Selection(ROWS, keep)):
        assert one.rows.tolist() == same[keep[same]][:-11:-1].tolist()


def test_nothing_may_be_found(part: AnnPart, queries: Floats) -> None:
    for one in part.search(queries, 10, Selection(ROWS, np.zeros(ROWS, dtype=bool))):
        assert one.rows.tolist() == []
        assert one.scores.tolist() == []


class TestReach:
    @pytest.mark.parametrize(("k", "expected"), [(1, (8, 100)), (10, (8, 100)), (100, (15, 631)), (1000, (26, 3982))])
    def test_more_answers(self, k: int, expected: tuple[int, int]) -> None:
        found = Reach(8, 100).for_k(k)
        assert (found.effort, found.candidates) == expected

    @pytest.mark.parametrize(
        ("share", "lists", "graph"), [(1.0, 8, 8), (0.5, 11, 14), (0.01, 51, 319), (0.0, 2010, 504_766)]
    )
    def test_fewer_rows(self, share: float, lists: int, graph: int) -> None:
        assert Reach(8, 100).for_share(share) == Reach(lists, 100)
        assert Reach(8, 100).for_share(share, graph=True) == Reach(graph, 100)

    @pytest.mark.parametrize(
        ("factory", "effort"), [("IVF8,SQ8", 8), ("PCA8,IVF8,SQ8", 8), ("HNSW8", 40), ("Flat", 0), ("RaBitQ", 0)]
    )
    def test_the_greatest_effort(self, factory: str, effort: int) -> None:
        source = HeldVectors(clustered_vectors(40, dim=16))
        made = make(factory, 16)
        train(made, source, np.arange(40))
        made = fill(made, source)
        assert greatest_effort(made) == effort


class TestFile:
    """What is not as it was written is refused by name, with the command that makes it anew."""

    FACTS = AnnFacts(4, 40, 0.95, 0.96, 1000.0, 9.0, 1.0)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[AnnFile]:
        source = HeldVectors(clustered_vectors(300, dim=16))
        made = make("IVF4,SQ8", 16)
        train(made, source, np.arange(300))
        made = fill(made, source)
        (tmp_path / ANN_FOLDER).mkdir()
        faiss.write_index(made, str(tmp_path / ANN_FOLDER / "000007.faiss"))
        yield self._as_file(tmp_path)

    @classmethod
    def _as_file(cls, index: Path) -> AnnFile:
        path = index / ANN_FOLDER / "000007.faiss"
        return AnnFile(7, 3, "IVF4,SQ8", 300, path.stat().st_size, sha256_of(path), cls.FACTS)

    def test_as_it_was_written(self, tmp_path: Path, file: AnnFile) -> None:
        assert file.name == "000007.faiss"
        found = open_ann(tmp_path, file, 16)
        assert (found.ntotal, found.d) == (300, 16)
        part = AnnPart(HeldVectors(clustered_vectors(300, dim=16)), found, file.facts.reach)
        assert (part.reach, part.greatest_effort) == (Reach(4, 40), 4)

    def test_facts(self) -> None:
        assert AnnFacts(**self.FACTS.to_dict()) == self.FACTS

    def check(self, index: Path, file: AnnFile, what: str, *, dim: int = 16) -> None:
        with pytest.raises(IndexDamagedError, match=rf"The FAISS file .*000007\.faiss {what}") as caught:
            open_ann(index, file, dim)
        assert "xsearch repair NAME" in caught.value.remedy

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
    def test_cut_short(self, tmp_path: Path, file: AnnFile, share: float) -> None:
        path = tmp_path / ANN_FOLDER / file.name
        path.write_bytes(path.read_bytes()[: int(share * file.size)])
        self.check(tmp_path, file, f"has {int(share * file.size)} bytes, not {file.size}")
        # And where the catalogue thinks that it is whole.
        self.check(tmp_path, self._as_file(tmp_path), "is no FAISS index")

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.9999])
    def test_one_flipped_bit(self, tmp_path: Path, file: AnnFile, share: float) -> None:
        path = tmp_path / ANN_FOLDER / file.name
        content = bytearray(path.read_bytes())
        content[int(share * file.size)] ^= 1
        path.write_bytes(content)
        self.check(tmp_path, file, "has another checksum than when it was written")

    def test_missing(self, tmp_path: Path, file: AnnFile) -> None:
        (tmp_path / ANN_FOLDER / file.name).unlink()
        self.check(tmp_path, file, "is missing")
        (tmp_path / ANN_FOLDER).rmdir()
        self.check(tmp_path, file, "is missing")

    def test_a_folder_of_that_name(self, tmp_path: Path, file: AnnFile) -> None:
        path = tmp_path / ANN_FOLDER / file.name
        path.unlink()
        path.mkdir()
        self.check(tmp_path, replace(file, size=path.stat().st_size), "cannot be read")

    def test_other_vectors(self, tmp_path: Path, file: AnnFile) -> None:
        self.check(tmp_path, file, "holds 300 vectors of 16 dimensions, not 300 of 32", dim=32)
        self.check(tmp_path, replace(file, rows=299), "holds 300 vectors of 16 dimensions, not 299 of 16")

    def test_another_metric(self, tmp_path: Path, file: AnnFile) -> None:
        made = faiss.IndexFlatL2(16)
        made.add(clustered_vectors(300, dim=16))
        faiss.write_index(made, str(tmp_path / ANN_FOLDER / file.name))
        self.check(tmp_path, self._as_file(tmp_path), "ranks by another measure than inner products")

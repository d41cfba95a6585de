"""The writer: one commit for vectors and documents, orphans swept, runs that are told apart."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from tests.fakes import DIM, embed
from xsearch.errors import IndexLockedError, InvalidArgumentError, StoreError
from xsearch.records import Document, Passage
from xsearch.store.catalog import (
    Catalog,
    passages,
    read_setting,
    tombstones,
)
from xsearch.store.checksums import record_hash
from xsearch.store.hits import fetch_passages
from xsearch.store.location import make_catalog
from xsearch.store.rows import Prepared
from xsearch.store.snapshot import Snapshot
from xsearch.store.vectors import VECTORS_FOLDER
from xsearch.store.writer import open_writer


@pytest.fixture
def catalog(tmp_path: Path, catalog_url: str | None) -> Catalog:
    return make_catalog(tmp_path, {}, catalog_url)


def prepared(doc_id: str, *texts: str, origin: str = "here") -> Prepared:
    """A document of these passages, with a space between."""
    document = Document(doc_id, " ".join(texts), lang="en", metadata={"n": len(texts)})
    pieces, start = [], 0
    for position, text in enumerate(texts):
        pieces.append(Passage(position, start, start + len(text), text, "en", 3))
        start += len(text) + 1
    return Prepared(document, f"hash of {document.text}", origin, tuple(pieces))


def vectors_of(*batch: Prepared) -> np.ndarray:
    return embed([passage.text for item in batch for passage in item.passages])


def generation(catalog: Catalog) -> int:
    with catalog.reading() as connection:
        return int(read_setting(connection, "generation"))


def stored_texts(catalog: Catalog) -> dict[int, tuple[str, str]]:
    with catalog.reading() as connection:
        found = fetch_passages(
            catalog, connection, list(connection.execute(sa.select(passages.c.passage_id)).scalars())
        )
    return {passage_id: (row.doc_id, row.text) for passage_id, row in sorted(found.items())}


def files(index: Path) -> list[str]:
    return sorted(file.name for file in (index / VECTORS_FOLDER).iterdir())


class TestWrite:
    def test_each_passage_has_its_vector(self, tmp_path: Path, catalog: Catalog) -> None:
        batch = [prepared("a", "one two", "three"), prepared("b", "four"), prepared("c", "five", "six", "seven")]
        with open_writer(tmp_path, catalog) as writer:
            writer.write(batch, vectors_of(*batch))
            writer.write([prepared("d", "eight")], embed(["eight"]))
        assert stored_texts(catalog) == {
            1: ("a", "one two"), 2: ("a", "three"), 3: ("b", "four"), 4: ("c", "five"), 5: ("c", "six"),
            6: ("c", "seven"), 7: ("d", "eight"),
        }  # fmt: skip
        with closing(Snapshot(tmp_path, catalog, dim=DIM)) as snapshot:
            for passage_id, (_, text) in stored_texts(catalog).items():
                assert snapshot.searcher.search(embed([text]), 1)[0].passage_ids.tolist() == [passage_id]

    def test_updating_replaces_passages_and_vectors(self, tmp_path: Path, catalog: Catalog) -> None:
        """Pitfall 5: no ghost of the old text; ids are never used again."""
        with open_writer(tmp_path, catalog) as writer:
            for text in ("first text", "second text", "third text"):
                writer.write([prepared("a", text, "tail"), prepared("b", "same")], embed([text, "tail", "same"]))
        assert stored_texts(catalog) == {7: ("a", "third text"), 8: ("a", "tail"), 9: ("b", "same")}
        with catalog.reading() as connection:
            assert sorted(connection.execute(sa.select(tombstones.c.passage_id)).scalars()) == [1, 2, 3, 4, 5, 6]
        with closing(Snapshot(tmp_path, catalog, dim=DIM)) as snapshot:
            assert len(snapshot.searcher) == 3

    def test_a_document_without_passages(self, tmp_path: Path, catalog: Catalog) -> None:
        with open_writer(tmp_path, catalog) as writer:
            writer.write([prepared("a")], np.empty((0, DIM), dtype=np.float32))
            assert list(writer.stored(["a"])) == ["a"]
        assert not (tmp_path / VECTORS_FOLDER).exists()
        assert generation(catalog) == 1

    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_vectors_that_do_not_fit_the_passages(self, tmp_path: Path, catalog: Catalog, count: int) -> None:
        """Pitfall 1: refused before anything is written."""
        with (
            open_writer(tmp_path, catalog) as writer,
            pytest.raises(InvalidArgumentError, match=f"{count} vectors came for 2 passages"),
        ):
            writer.write([prepared("a", "one", "two")], embed(["x"] * count))
        assert not (tmp_path / VECTORS_FOLDER).exists()
        assert generation(catalog) == 0

    def test_a_transaction_that_fails_leaves_all_as_it_was(self, tmp_path: Path, catalog: Catalog) -> None:
        with open_writer(tmp_path, catalog) as writer:
            writer.write([prepared("a", "one")], embed(["one"]))
            twice = [prepared("a", "two"), prepared("b", "x"), prepared("b", "y")]
            with pytest.raises(Exception, match=r"(?i)unique constraint"):
                writer.write(twice, vectors_of(*twice))
            assert files(tmp_path) == ["000001.npy", "000002.npy"]
            assert stored_texts(catalog) == {1: ("a", "one")}
            writer.write([prepared("c", "three")], embed(["three"]))
        assert files(tmp_path) == ["000001.npy", "000002.npy"]
        assert stored_texts(catalog) == {1: ("a", "one"), 2: ("c", "three")}
        with closing(Snapshot(tmp_path, catalog, dim=DIM)) as snapshot:
            assert snapshot.searcher.search(embed(["three"]), 1)[0].passage_ids.tolist() == [2]


class TestGeneration:
    def test_readers_are_told_of_changes_and_of_nothing_else(self, tmp_path: Path, catalog: Catalog) -> None:
        item = prepared("a", "one")
        with open_writer(tmp_path, catalog, ["here"]) as writer:
            assert generation(catalog) == 0
            writer.write([item], embed(["one"]))
            assert generation(catalog) == 1
            key = writer.stored(["a"])["a"].doc_key
            writer.update_records({})
            writer.mark_seen([key], "here")
            writer.mark_seen([], "here")
            assert writer.delete(["nobody"]) == 0
            assert writer.prune().deleted == 0
            writer.finish()
            assert generation(catalog) == 1
            writer.update_records({key: item})
            assert generation(catalog) == 2
            assert writer.delete(["a", "nobody"]) == 1
            assert generation(catalog) == 3


class TestSweep:
    def test_orphans_go_when_the_next_writer_comes(self, tmp_path: Path, catalog: Catalog) -> None:
        """Pitfall 1: what a killed writer left is removed; what is no vector file stays."""
        with open_writer(tmp_path, catalog) as writer:
            writer.write([prepared("a", "one")], embed(["one"]))
        folder = tmp_path / VECTORS_FOLDER
        for name in ("000002.npy", "000003.npy.tmp", "000001.npy.tmp", "notes.txt"):
            (folder / name).write_bytes(b"x")
        with open_writer(tmp_path, catalog):
            assert files(tmp_path) == ["000001.npy", "notes.txt"]

    def test_an_orphan_that_cannot_be_removed(self, tmp_path: Path, catalog: Catalog) -> None:
        (tmp_path / VECTORS_FOLDER / "000009.npy").mkdir(parents=True)
        with pytest.raises(StoreError, match=r"000009\.npy"), open_writer(tmp_path, catalog):
            pytest.fail("not swept")

    def test_a_refused_writer_sweeps_nothing(self, tmp_path: Path, catalog: Catalog) -> None:
        with open_writer(tmp_path, catalog) as writer:
            writer.write([prepared("a", "one")], embed(["one"]))
            (tmp_path / VECTORS_FOLDER / "000002.npy.tmp").write_bytes(b"being written")
            with pytest.raises(IndexLockedError), open_writer(tmp_path, catalog):
                pytest.fail("two writers")
            assert files(tmp_path) == ["000001.npy", "000002.npy.tmp"]


class TestRuns:
    def test_an_interrupted_run_is_told_to_the_next_over_the_same_sources(
        self, tmp_path: Path, catalog: Catalog
    ) -> None:
        with pytest.raises(KeyboardInterrupt), open_writer(tmp_path, catalog, ["x", "y"]) as writer:
            batch = [prepared("a", "one"), prepared("b", "two")]
            writer.write(batch, vectors_of(*batch))
            raise KeyboardInterrupt
        with open_writer(tmp_path, catalog, ["z"]) as writer:
            assert writer.interrupted is None
            writer.finish()
        with open_writer(tmp_path, catalog) as writer:  # as for a deletion
            assert writer.interrupted is None
            writer.finish()
        with open_writer(tmp_path, catalog, ["x", "y"]) as writer:
            assert writer.interrupted is not None
            assert writer.interrupted.documents == 2
            writer.finish()
        with open_writer(tmp_path, catalog, ["x", "y"]) as writer:
            assert writer.interrupted is None

    def test_a_run_that_was_taken_up_and_interrupted_again(self, tmp_path: Path, catalog: Catalog) -> None:
        for count in (0, 1, 1):
            with pytest.raises(KeyboardInterrupt), open_writer(tmp_path, catalog, ["x"]) as writer:
                found = None if writer.interrupted is None else writer.interrupted.documents
                assert found == (None if count == 0 else 1)
                writer.write([prepared("a", "one")], embed(["one"]))
                raise KeyboardInterrupt

    def test_prune_goes_by_origin(self, tmp_path: Path, catalog: Catalog) -> None:
        batch = [prepared("a", "one", origin="x"), prepared("b", "two", origin="y"), prepared("c", "three", origin="x")]
        with open_writer(tmp_path, catalog, ["x", "y"]) as writer:
            writer.write(batch, vectors_of(*batch))
            assert writer.prune().deleted == 0
            writer.finish()
        with open_writer(tmp_path, catalog, ["x"]) as writer:
            writer.mark_seen([writer.stored(["a"])["a"].doc_key], "x")
            assert writer.prune().deleted == 1
        assert {doc_id for doc_id, _ in stored_texts(catalog).values()} == {"a", "b"}


def test_record_hash_ignores_the_order_of_metadata() -> None:
    one = Document("a", "text", source="s", metadata={"x": 1, "y": "é"})
    assert record_hash(one) == record_hash(Document("b", "other", source="s", metadata={"y": "é", "x": 1}))
    assert record_hash(one) != record_hash(Document("a", "text", source="t", metadata={"x": 1, "y": "é"}))
    assert record_hash(one) != record_hash(Document("a", "text", source="s", metadata={"x": 2, "y": "é"}))

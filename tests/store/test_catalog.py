"""The catalogue: one commit point, consistent reading, and damage that is named by an error of ours."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.backends import SQLITE_ONLY
from tests.fakes import FakeEncoder, numbered
from xsearch.errors import IndexDamagedError, IndexTooNewError, StoreError, XsearchError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store import sqlite
from xsearch.store.catalog import (
    CATALOG_FILE,
    SCHEMA_VERSION,
    Catalog,
    create_catalog,
    delete_documents,
    documents,
    open_catalog,
    passages,
    read_setting,
    segments,
    storable,
    tombstones,
    write_setting,
)
from xsearch.store.listing import read_segments
from xsearch.store.location import make_catalog

OPERATIONS: dict[str, Callable[[Index], object]] = {
    "search": lambda index: index.search("word3 part1", k=3),
    "search with a filter": lambda index: index.search("word3", langs=["de"], where="number > 3"),
    "add": lambda index: index.add([Document("another", "another text")]),
    "delete": lambda index: index.delete(["doc-00003"]),
    "info": lambda index: index.info(),
    "len": len,
    "list": list,
    "get": lambda index: index.get("doc-00003"),
    "find": lambda index: index.find("number > 3"),
    "verify": lambda index: index.verify(),
}


@pytest.fixture
def catalog(tmp_path: Path, catalog_url: str | None) -> Catalog:
    return make_catalog(tmp_path, {"fruit": "apple"}, catalog_url)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 40 documents; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(40))
        index.delete(["doc-00007"])
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


class TestNew:
    def test_settings(self, catalog: Catalog) -> None:
        catalog.check()
        with catalog.reading() as connection:
            assert read_setting(connection, "schema_version") == SCHEMA_VERSION
            assert read_setting(connection, "generation") == 0
            assert read_setting(connection, "next_passage_id") == 1
            assert read_setting(connection, "fruit") == "apple"
            assert read_setting(connection, "nothing") is None
            assert read_segments(connection) == []

    @SQLITE_ONLY
    def test_only_the_finished_file_is_left(self, catalog: Catalog, tmp_path: Path) -> None:
        assert [file.name for file in tmp_path.iterdir()] == [CATALOG_FILE]

    def test_leftovers_of_a_killed_creation_are_replaced(self, tmp_path: Path) -> None:
        for suffix in (".tmp", ".tmp-wal", ".tmp-shm"):
            (tmp_path / f"{CATALOG_FILE}{suffix}").write_bytes(b"half a database")
        create_catalog(tmp_path / CATALOG_FILE, {})
        open_catalog(tmp_path / CATALOG_FILE).check()
        assert [file.name for file in tmp_path.iterdir()] == [CATALOG_FILE]

    def test_a_missing_file_is_not_made_by_opening(self, tmp_path: Path) -> None:
        missing = open_catalog(tmp_path / CATALOG_FILE)
        with pytest.raises(StoreError, match="unable to open database file"):
            missing.check()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ["a b", "what?", "x#y", "p%41q", "ünï-中文", "semi;colon&amp", "quo'te\"s"])
    def test_folders_with_difficult_names(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / name
        folder.mkdir()
        create_catalog(folder / CATALOG_FILE, {})
        open_catalog(folder / CATALOG_FILE).check()
        assert [file.name for file in folder.iterdir()] == [CATALOG_FILE]
        assert [file.name for file in tmp_path.iterdir()] == [name]

    @SQLITE_ONLY
    def test_the_way_sqlite_is_used(self, catalog: Catalog) -> None:
        """Pitfall 7: a log beside the database, so that readers and the writer do not wait, and commits that last."""
        with catalog.reading() as connection:
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 60_000}


class TestTransactions:
    def test_all_or_nothing(self, catalog: Catalog) -> None:
        with pytest.raises(KeyboardInterrupt), catalog.transaction() as connection:
            write_setting(connection, "fruit", "pear")
            write_setting(connection, "nut", "walnut")
            raise KeyboardInterrupt
        with catalog.reading() as connection:
            assert read_setting(connection, "fruit") == "apple"
            assert read_setting(connection, "nut") is None

    def test_a_snapshot_sees_one_state(self, catalog: Catalog) -> None:
        with closing(catalog.snapshot()) as snapshot:
            with catalog.transaction() as connection:
                write_setting(connection, "fruit", "pear")
            assert read_setting(snapshot, "fruit") == "apple"
            with catalog.reading() as connection:
                assert read_setting(connection, "fruit") == "pear"

    def test_a_snapshot_of_nothing_leaves_no_connection(self, tmp_path: Path) -> None:
        (tmp_path / CATALOG_FILE).write_bytes(b"")
        with pytest.raises(IndexDamagedError):
            open_catalog(tmp_path / CATALOG_FILE).snapshot()

    @SQLITE_ONLY
    def test_locked_for_too_long(self, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pitfall 7: our error, which says what to do, and not "database is locked"."""
        monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
        hasty = open_catalog(tmp_path / CATALOG_FILE)
        with catalog.transaction(), pytest.raises(StoreError, match="Another process holds a transaction open"):  # noqa: SIM117
            with hasty.transaction():
                pytest.fail("two writing transactions")

    def test_readers_do_not_wait_for_the_writer(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        with catalog.transaction() as writing:
            write_setting(writing, "fruit", "pear")
            with catalog.reading() as connection:
                assert read_setting(connection, "fruit") == "apple"

    @SQLITE_ONLY
    def test_a_folder_that_cannot_be_written(self, catalog: Catalog, tmp_path: Path) -> None:
        """As on a file system mounted read-only. (Permissions do not stop root, so SQLite itself is told.)"""
        url = f"sqlite+pysqlite:///file:{tmp_path / CATALOG_FILE}?immutable=1&mode=ro&uri=true"
        frozen = Catalog(url, place="the catalogue")
        with frozen.reading() as connection:
            assert read_setting(connection, "fruit") == "apple"
        with (
            pytest.raises(
                StoreError, match="cannot be opened or written: attempt to write a readonly database"
            ) as caught,
            frozen.transaction() as connection,
        ):
            write_setting(connection, "fruit", "pear")
        assert not isinstance(caught.value, IndexDamagedError)
        assert caught.value.remedy == "Check its permissions and the free space"


class TestRows:
    def test_deleting_leaves_tombstones(self, catalog: Catalog) -> None:
        with catalog.transaction() as connection:
            connection.execute(documents.insert(), [self._document(key, "text") for key in (1, 2, 3)])
            connection.execute(
                passages.insert(), [self._passage(10 * key + n, key, 0, 4) for key in (1, 2, 3) for n in (0, 1)]
            )
            delete_documents(connection, [1, 3])
        with catalog.reading() as connection:
            assert list(connection.execute(sa.select(documents.c.doc_key)).scalars()) == [2]
            assert sorted(connection.execute(sa.select(passages.c.passage_id)).scalars()) == [20, 21]
            assert sorted(connection.execute(sa.select(tombstones.c.passage_id)).scalars()) == [10, 11, 30, 31]

    def test_document_keys_are_never_used_again(self, catalog: Catalog) -> None:
        fields = {key: value for key, value in self._document(0, "text").items() if key != "doc_key"}
        with catalog.transaction() as connection:
            first = connection.execute(documents.insert().values(**fields)).inserted_primary_key
            connection.execute(documents.delete())
            second = connection.execute(documents.insert().values(**fields)).inserted_primary_key
        assert (first, second) == ((1,), (2,))

    @staticmethod
    def _document(key: int, text: str) -> dict[str, Any]:
        fields = dict.fromkeys(("text_hash", "record_hash", "lang", "title", "source", "origin"), "")
        return {"doc_key": key, "doc_id": f"d{key}", "text": text, "metadata": {}, "run_id": 1, **fields}

    @staticmethod
    def _passage(passage_id: int, doc_key: int, start: int, end: int) -> dict[str, Any]:
        place = {"passage_id": passage_id, "doc_key": doc_key, "position": 0, "start": start, "end": end}
        return {**place, "lang": "en", "tokens": 1}


@pytest.mark.parametrize(
    ("text", "stored"),
    [("plain", "plain"), ("a\0b", "a\ufffdb"), ("\ud800x\udfff", "\ufffdx\ufffd"), ("😀\ufffd", "😀\ufffd")],
)
def test_storable_keeps_places(text: str, stored: str) -> None:
    assert storable(text) == stored


class TestDamage:
    """Pitfall 2: whatever is wrong with the file, the error is ours and names it; never an empty answer."""

    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"not a database at all" * 400, b"SQLite format 3\0", b"\0" * 8192]
    )
    @pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
    def test_no_database(self, copy: Path, content: bytes, when: str) -> None:
        index = Index.open(copy, encoder=FakeEncoder()) if when == "while it is open" else None
        (copy / CATALOG_FILE).write_bytes(content)
        with pytest.raises(IndexDamagedError, match=CATALOG_FILE) as caught:
            Index.open(copy)
        assert "--rebuild" in caught.value.remedy
        if index is not None:
            for operation in OPERATIONS.values():
                with pytest.raises(IndexDamagedError, match=CATALOG_FILE):
                    operation(index)

    @pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
    def test_cut_short(self, copy: Path, share: float) -> None:
        file = copy / CATALOG_FILE
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(IndexDamagedError, match=CATALOG_FILE):
            Index.open(copy, encoder=FakeEncoder()).verify()
        self._expect_our_errors(copy)

    @pytest.mark.parametrize("seed", range(25))
    def test_garbled_in_some_places(self, copy: Path, seed: int) -> None:
        rng = random.Random(seed)
        file = copy / CATALOG_FILE
        content = bytearray(file.read_bytes())
        for _ in range(rng.choice([1, 3, 10, 50])):
            place = rng.randrange(len(content))
            length = rng.choice([1, 1, 4, 64])
            content[place : place + length] = rng.randbytes(len(content[place : place + length]))
        file.write_bytes(content)
        self._expect_our_errors(copy)

    @pytest.mark.parametrize(
        ("statement", "what"),
        [
            ("DELETE FROM settings", "holds no schema version"),
            ("DELETE FROM settings WHERE key = 'schema_version'", "holds no schema version"),
            ("UPDATE settings SET value = '\"one\"' WHERE key = 'schema_version'", "holds no schema version"),
            ("UPDATE settings SET value = '{' WHERE key = 'schema_version'", "holds what is not JSON"),
            ("DELETE FROM settings WHERE key = 'generation'", "holds no generation"),
            ("DELETE FROM settings WHERE key = 'identity'", "holds no identity"),
            ("UPDATE settings SET value = 'null' WHERE key = 'next_passage_id'", "holds no next_passage_id"),
            ("DELETE FROM settings WHERE key LIKE 'fingerprint%'", "does not say with which encoder it was built"),
            ("DELETE FROM settings WHERE key = 'fingerprint'", "holds the setting 'fingerprint' otherwise than it was"),
            (
                "UPDATE settings SET value = '{\"a\": 1}' WHERE key = 'fingerprint'",
                "holds the setting 'fingerprint' other",
            ),
            ("DELETE FROM settings WHERE key LIKE 'passage_tokens%'", "does not say how long passages may be"),
            ("DROP TABLE settings", "no such table: settings"),
            ("ALTER TABLE settings RENAME COLUMN value TO worth", "no such column"),
        ],
    )
    def test_settings_that_are_not_there(self, copy: Path, statement: str, what: str) -> None:
        self._execute(copy, statement)
        with pytest.raises(IndexDamagedError, match=what):
            Index.open(copy, encoder=FakeEncoder())

    @pytest.mark.parametrize(
        ("statement", "what"),
        [
            ("DROP TABLE passages", "no such table: passages"),
            ("DELETE FROM segments", "lists 55 passages for 0 vectors"),
            ("DELETE FROM tombstones", "lists 55 passages for 56 vectors"),
            ("DELETE FROM passages WHERE passage_id = 5", "lists 54 passages for 55 vectors"),
            (
                "UPDATE passages SET passage_id = 5000 WHERE passage_id = 5",
                "lacks 1 passages of which there are vectors",
            ),
        ],
    )
    def test_catalogue_and_vectors_out_of_step(self, copy: Path, statement: str, what: str) -> None:
        """Pitfall 1: the number of vectors must be that of the passages, else nothing is answered."""
        self._execute(copy, statement)
        index = Index.open(copy, encoder=FakeEncoder())
        with pytest.raises(IndexDamagedError, match=what):
            index.search("word", k=1000)

    def test_verify_finds_passages_of_no_document(self, copy: Path) -> None:
        self._execute(copy, "DELETE FROM documents WHERE doc_id = 'doc-00006'")
        with pytest.raises(IndexDamagedError, match="2 rows of passages that belong to nothing"):
            Index.open(copy, encoder=FakeEncoder()).verify()

    def test_verify_finds_an_index_out_of_order(self, copy: Path) -> None:
        """The database's own: here, a unique index that lacks what its table has."""
        with closing(sqlite3.connect(copy / CATALOG_FILE)) as connection:
            connection.execute("PRAGMA writable_schema = ON")
            connection.execute(
                "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = "
                "'ix_passages_lang') WHERE name = 'ix_passages_doc_key'"
            )
            connection.commit()
        with pytest.raises(IndexDamagedError, match=CATALOG_FILE):
            Index.open(copy, encoder=FakeEncoder()).verify()

    @pytest.mark.parametrize(
        ("statement", "what"),
        [
            ("UPDATE documents SET text = replace(text, 'part1', 'part7')", "another text"),
            ("UPDATE documents SET text = text || char(8203)", "another text"),
            ("UPDATE documents SET title = 'Titel'", "another text"),
            ("UPDATE documents SET lang = 'nl'", "another text"),
            ("UPDATE documents SET doc_id = 'doc-99999'", "'doc-99999' with another text"),
            ("UPDATE documents SET text = 7", "another text"),
            ("UPDATE documents SET source = 'file-x.txt'", "another source"),
            ("UPDATE documents SET metadata = '{}'", "other metadata"),
            ("UPDATE documents SET metadata = '[1]'", "other metadata"),
            ("UPDATE passages SET end = 100000", "a passage that reaches out of its document 'doc-00003'"),
            ("UPDATE passages SET start = -1", "a passage that reaches out"),
            ("UPDATE passages SET start = end", "a passage that reaches out"),
        ],
    )
    def test_verify_finds_what_sqlite_does_not(self, copy: Path, statement: str, what: str) -> None:
        """Flipped bytes in texts, and passages of texts that are shorter than they were."""
        doc_key = "(SELECT doc_key FROM documents WHERE doc_id = 'doc-00003')"
        with Index.open(copy, encoder=FakeEncoder()) as index:
            assert index.verify() == 55
            self._execute(copy, f"{statement} WHERE doc_key = {doc_key}")
            with pytest.raises(IndexDamagedError, match=what):
                index.verify()

    def test_metadata_that_are_no_json(self, copy: Path) -> None:
        self._execute(copy, "UPDATE documents SET metadata = '{\"a\": ' WHERE doc_id = 'doc-00003'")
        index = Index.open(copy, encoder=FakeEncoder())
        for operation in (
            lambda: list(index),
            lambda: index.get("doc-00003"),
            lambda: index.find("number > 3"),
            lambda: index.search("word3", k=1000),
        ):
            with pytest.raises(IndexDamagedError, match="JSON"):
                operation()

    def test_a_newer_xsearch(self, copy: Path) -> None:
        self._execute(copy, f"UPDATE settings SET value = '{SCHEMA_VERSION + 1}' WHERE key = 'schema_version'")
        expected = rf"schema version {SCHEMA_VERSION + 1}.*versions up to {SCHEMA_VERSION}.*pip install -U"
        with pytest.raises(IndexTooNewError, match=expected):
            Index.open(copy)

    @staticmethod
    def _execute(index: Path, statement: str) -> None:
        with closing(sqlite3.connect(index / CATALOG_FILE)) as connection:
            connection.execute(statement)
            connection.commit()

    @staticmethod
    def _expect_our_errors(path: Path) -> None:
        """Each operation works (a letter of a text may have changed) or fails with an error of ours."""
        for operation in OPERATIONS.values():
            with suppress(XsearchError), Index.open(path, encoder=FakeEncoder()) as index:
                operation(index)


def test_segments_come_in_order_of_their_passages(catalog: Catalog) -> None:
    with catalog.transaction() as connection:
        for number, first in ((1, 100), (2, 1), (3, 50)):
            row = {"number": number, "first_passage_id": first, "rows": 2, "dim": 16, "size": 9, "sha256": "x"}
            connection.execute(segments.insert().values(**row))
    with catalog.reading() as connection:
        assert [segment.number for segment in read_segments(connection)] == [2, 3, 1]

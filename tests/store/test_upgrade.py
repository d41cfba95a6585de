"""Catalogues of older versions: readers take them as they are, the first writer updates them and keeps a copy."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from xsearch.errors import IndexDamagedError, StoreError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store import upgrade as upgrade_module
from xsearch.store.catalog import CATALOG_FILE, open_catalog, read_setting
from xsearch.store.listing import read_segments
from xsearch.store.migrations import SCHEMA_VERSION
from xsearch.store.upgrade import copy_catalog, upgrade
from xsearch.text.segment import FTS5_TOKENIZE

HERE = Path(__file__).resolve().parents[2]
# As xsearch wrote them then; {checksum} is a column that came with version 2.
OLD_TABLES = """
CREATE TABLE settings ("key" TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE documents (
    doc_key INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, doc_id TEXT NOT NULL, text_hash TEXT NOT NULL,
    record_hash TEXT NOT NULL, lang TEXT NOT NULL, title TEXT NOT NULL, source TEXT NOT NULL, origin TEXT NOT NULL,
    metadata JSON NOT NULL, text TEXT NOT NULL, run_id INTEGER NOT NULL, {checksum} UNIQUE (doc_id));
CREATE TABLE segments (
    number INTEGER NOT NULL, first_passage_id BIGINT NOT NULL, "rows" INTEGER NOT NULL, dim INTEGER NOT NULL,
    size BIGINT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (number));
CREATE TABLE tombstones (passage_id INTEGER NOT NULL, PRIMARY KEY (passage_id));
CREATE TABLE runs (
    run_id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, sources JSON NOT NULL, started TEXT NOT NULL, finished TEXT);
CREATE INDEX ix_documents_origin ON documents (origin);
CREATE INDEX ix_documents_run_id ON documents (run_id);
CREATE TABLE passages (
    passage_id INTEGER NOT NULL, doc_key INTEGER NOT NULL, position INTEGER NOT NULL, start INTEGER NOT NULL,
    "end" INTEGER NOT NULL, lang TEXT NOT NULL, tokens INTEGER NOT NULL, PRIMARY KEY (passage_id),
    FOREIGN KEY(doc_key) REFERENCES documents (doc_key) ON DELETE CASCADE);
CREATE INDEX ix_passages_lang ON passages (lang);
CREATE INDEX ix_passages_doc_key ON passages (doc_key);
"""
DOCUMENTS = "doc_key, doc_id, text_hash, record_hash, lang, title, source, origin, metadata, text, run_id"
COLUMNS = {
    "settings": "key, value",
    "segments": 'number, first_passage_id, "rows", dim, size, sha256',
    "tombstones": "passage_id",
    "runs": "run_id, sources, started, finished",
    "passages": 'passage_id, doc_key, position, start, "end", lang, tokens',
}
WORDS = ("data", "idx", "docsize")


def make_old(index: Path, version: int) -> None:
    """Writes the catalogue of an index anew, as an older xsearch would have written it."""
    file = index / CATALOG_FILE
    new = file.rename(file.with_name("new.sqlite"))
    columns = {**COLUMNS, "documents": DOCUMENTS + (", checksum" if version == 2 else "")}
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(OLD_TABLES.format(checksum="checksum TEXT," if version == 2 else ""))
        tokenizer = FTS5_TOKENIZE.replace("'", "''")
        connection.execute(
            f"CREATE VIRTUAL TABLE passage_words USING fts5(title, body, content='', tokenize='{tokenizer}')"
        )
        connection.execute("ATTACH DATABASE ? AS new", (str(new),))
        for table, names in columns.items():
            connection.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
        for name in WORDS:
            connection.execute(f"DELETE FROM main.passage_words_{name}")
            connection.execute(f"INSERT INTO main.passage_words_{name} SELECT * FROM new.passage_words_{name}")
        connection.execute("DELETE FROM settings WHERE key LIKE '%.checksum'")
        connection.execute("UPDATE settings SET value = ? WHERE key = 'schema_version'", (str(version),))
    for leftover in index.glob("new.sqlite*"):
        leftover.unlink()


def execute(file: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute(statement).fetchall()
        connection.commit()
    return found


def columns_of(file: Path, table: str) -> list[object]:
    return [row[1] for row in execute(file, f"PRAGMA table_info({table})")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 40 documents, one of them deleted; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(40))
        index.delete(["doc-00007"])
    return path


@pytest.fixture(params=[1, 2])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def old(built: Path, tmp_path: Path, version: int) -> Path:
    path = Path(shutil.copytree(built, tmp_path / "old"))
    make_old(path, version)
    return path


def answers(path: Path) -> list[object]:
    """What a reader gets in all the ways of reading."""
    with Index.open(path, encoder=FakeEncoder()) as index:
        info = index.info()
        return [
            index.search("word3 part1", k=1000, mode="dense"),
            index.search("word3", k=1000, mode="dense", langs=["de"], where="number > 3"),
            index.search("part0", k=1000, mode="lexical"),
            list(index),
            index.get("doc-00003"),
            index.verify(),
            (info.documents, info.passages, info.languages, info.segments),
        ]


def test_readers_change_nothing(built: Path, old: Path, version: int) -> None:
    expected = answers(built)
    before = (old / CATALOG_FILE).read_bytes()
    assert answers(old) == expected
    assert (old / CATALOG_FILE).read_bytes() == before
    assert not list(old.glob("*.bak*"))
    assert ("checksum" in columns_of(old / CATALOG_FILE, "documents")) == (version == 2)
    assert execute(old / CATALOG_FILE, "SELECT name FROM sqlite_master WHERE name = 'ann'") == []


def test_readers_need_no_writable_catalogue(old: Path) -> None:
    """As on a file system mounted read-only. (Permissions do not stop root, so SQLite itself is told.)"""
    from xsearch.store.catalog import Catalog
    from xsearch.store.hits import fetch_passages

    url = f"sqlite+pysqlite:///file:{old / CATALOG_FILE}?immutable=1&mode=ro&uri=true"
    catalog = Catalog(url, place="the catalogue")
    with catalog.reading() as connection:
        assert sum(segment.rows for segment in read_segments(connection)) == 56
        assert fetch_passages(catalog, connection, [5])[5].text.startswith("word")


def test_the_first_writer_brings_it_up_to_date(
    built: Path, old: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = answers(built)
    kept = old / f"{CATALOG_FILE}.v{version}.bak"
    with caplog.at_level(logging.WARNING, logger="xsearch"), Index.open(old, encoder=FakeEncoder()) as index:
        index.add([Document("new", "another text")])
        assert index.verify() == 56
        assert [(entry.levelname, str(kept) in entry.getMessage()) for entry in caplog.records] == [("WARNING", True)]
        index.delete(["new"])
        assert len(caplog.records) == 1
    # But for BM25, which counts the words of a deleted document.
    found = answers(old)
    assert (found[:2], found[3:5]) == (expected[:2], expected[3:5])
    assert execute(old / CATALOG_FILE, "SELECT value FROM settings WHERE key = 'schema_version'") == [
        (str(SCHEMA_VERSION),)
    ]
    for table in ("documents", "passages", "segments", "ann"):
        assert set(columns_of(old / CATALOG_FILE, table)) == set(columns_of(built / CATALOG_FILE, table))
    # The copy is the catalogue as it was, in one file.
    assert execute(kept, "SELECT value FROM settings WHERE key = 'schema_version'") == [(str(version),)]
    assert execute(kept, "SELECT count(*) FROM documents WHERE doc_id = 'new'") == [(0,)]
    shutil.copy(kept, old / CATALOG_FILE)
    assert [file.name for file in old.glob("*.bak*")] == [kept.name]


def test_new_documents_get_checksums(old: Path) -> None:
    with Index.open(old, encoder=FakeEncoder()) as index:
        index.add([Document("new", "another text")])
        execute(old / CATALOG_FILE, "UPDATE documents SET text = 'another texT' WHERE doc_id = 'new'")
        with pytest.raises(IndexDamagedError, match="'new' with another text"):
            index.verify()


def test_a_copy_that_is_put_back_is_the_old_index(built: Path, old: Path, version: int) -> None:
    expected = answers(built)
    with Index.open(old, encoder=FakeEncoder()) as index, index.run():
        pass
    for suffix in ("-wal", "-shm"):
        (old / f"{CATALOG_FILE}{suffix}").unlink(missing_ok=True)
    (old / f"{CATALOG_FILE}.v{version}.bak").rename(old / CATALOG_FILE)
    assert answers(old) == expected


def test_no_room_for_the_copy(old: Path, version: int, monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    expected = answers(built)

    def full(source: sqlite3.Connection, file: Path) -> None:
        file.write_bytes(b"half a database")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(upgrade_module, "_copy", full)
    with (
        Index.open(old, encoder=FakeEncoder()) as index,
        pytest.raises(StoreError, match=r"cannot be copied.*disk is full.*Make room"),
    ):
        index.add([Document("new", "another text")])
    assert answers(old) == expected
    assert execute(old / CATALOG_FILE, "SELECT value FROM settings WHERE key = 'schema_version'") == [(str(version),)]
    assert not list(old.glob("*.bak*"))


@pytest.mark.parametrize("step", ["half a copy", "before the rename", "after the copy", "before the commit"])
def test_killed_while_it_is_brought_up_to_date(built: Path, old: Path, version: int, step: str) -> None:
    expected = answers(built)
    done = subprocess.run([sys.executable, "-m", "tests.store.test_upgrade", str(old), step], cwd=HERE, check=False)
    assert done.returncode == 77
    assert execute(old / CATALOG_FILE, "SELECT value FROM settings WHERE key = 'schema_version'") == [(str(version),)]
    assert answers(old) == expected
    with Index.open(old, encoder=FakeEncoder()) as index, index.run():
        pass
    assert answers(old) == expected
    kept = [file.name for file in old.iterdir() if "bak" in file.name]
    assert kept == [f"{CATALOG_FILE}.v{version}.bak"]
    assert execute(old / kept[0], "PRAGMA integrity_check") == [("ok",)]


def test_nothing_to_do(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    assert upgrade(copy, open_catalog(copy / CATALOG_FILE)) is None
    assert not list(copy.glob("*.bak*"))


def test_a_copy_beside_a_writer_is_one_state(built: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(built, tmp_path / "copy"))
    catalog = open_catalog(copy / CATALOG_FILE)
    with catalog.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM passages")
        copy_catalog(catalog, tmp_path / "there.sqlite")
    assert execute(tmp_path / "there.sqlite", "SELECT count(*) FROM passages") == [(55,)]
    with open_catalog(tmp_path / "there.sqlite").reading() as connection:
        assert read_setting(connection, "generation") == 2
    assert [file.name for file in tmp_path.glob("there*")] == ["there.sqlite"]


def die(*_arguments: object, **_options: object) -> None:
    os._exit(77)


def die_at(step: str) -> None:
    """Has this process end at a step of bringing a catalogue up to date."""
    if step == "half a copy":

        def half(source: sqlite3.Connection, file: Path) -> None:
            with closing(sqlite3.connect(file)) as target:
                source.backup(target, pages=1, progress=die)

        upgrade_module._copy = half
    if step == "before the rename":
        upgrade_module.publish_file = die  # type: ignore[assignment]
    if step == "after the copy":
        upgrade_module.migrate = die  # type: ignore[assignment]
    if step == "before the commit":
        original = upgrade_module.migrate

        def migrate_and_die(connection, version):  # type: ignore[no-untyped-def]
            original(connection, version)
            die()

        upgrade_module.migrate = migrate_and_die


if __name__ == "__main__":
    die_at(sys.argv[2])
    with Index.open(sys.argv[1], encoder=FakeEncoder()) as opened, opened.run():
        pass

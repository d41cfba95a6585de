"""``repair_index``: what can be made anew is, under the same ids; what cannot is named; killed, it goes on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from xsearch.errors import IndexDamagedError, IndexLockedError
from xsearch.index import Index
from xsearch.maintain import repair as repair_module
from xsearch.maintain.repair import repair_index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document
from xsearch.store.catalog import CATALOG_FILE, open_catalog, passages
from xsearch.store.files import writer_lock
from xsearch.store.id_map import IdMap
from xsearch.store.listing import delete_segments, insert_segment, read_segments
from xsearch.store.vectors import RawVectors, write_segment

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 59 documents in two segments, some passages of the first deleted; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(40))
        index.add([*numbered(19, start=40), Document("auto", "no language given here")])
        index.delete(["doc-00007"])
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def content(path: Path) -> list[object]:
    """All that an index holds and finds, passage ids included."""
    with Index.open(path, encoder=FakeEncoder()) as index:
        words = {(hit.doc_id, hit.start) for hit in index.search("part0", k=1000, mode="lexical")}
        return [list(index), index.search("word3 part1", k=1000, mode="dense"), words]


def without_ids(path: Path) -> list[object]:
    with Index.open(path, encoder=FakeEncoder()) as index:
        hits = index.search("word3 part1", k=1000, mode="dense")
        found = sorted((hit.doc_id, hit.start, hit.text, hit.lang, hit.score) for hit in hits)
        return [sorted(repr(item) for item in index), found]


def in_order(path: Path) -> None:
    report = verify_index(path, encoder=FakeEncoder(), sample=1000)
    assert report.damages == ()
    assert report.remarks == ()
    assert report.sampled == report.passages > 0
    with Index.open(path, encoder=FakeEncoder()) as index:
        assert len(list((path / "vectors").iterdir())) == index.info().segments
    assert not list(path.rglob("*.tmp*"))


def execute(index: Path, *statements: str) -> None:
    with closing(sqlite3.connect(index / CATALOG_FILE)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def vectors_of(index: Path, number: int = 1) -> Path:
    return index / "vectors" / f"{number:06d}.npy"


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 0x55
    file.write_bytes(data)


def spoil_row(index: Path, value: float) -> None:
    """A row that no checksum tells from a good one: it was written so."""
    with open_catalog(index / CATALOG_FILE).transaction() as connection:
        segment = read_segments(connection)[0]
        rows = RawVectors(index, segment).read_range(0, segment.rows)
        rows[3] = value
        ids = segment.runs
        delete_segments(connection, [segment.number])
        shape = (segment.rows, segment.dim)
        insert_segment(connection, write_segment(index, segment.number, ids, shape, [rows]))


def swap_rows(index: Path) -> None:
    """Two vectors in each other's place, with the right checksums."""
    with open_catalog(index / CATALOG_FILE).transaction() as connection:
        segment = read_segments(connection)[0]
        rows = RawVectors(index, segment).read_range(0, segment.rows)
        rows[[3, 4]] = rows[[4, 3]]
        delete_segments(connection, [segment.number])
        shape = (segment.rows, segment.dim)
        insert_segment(connection, write_segment(index, segment.number, segment.runs, shape, [rows]))


def cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


# What is done to the first segment (56 rows, of which one is deleted), and how many passages must be encoded again.
VECTOR_DAMAGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "a flipped byte": (lambda index: flip(vectors_of(index), 128 + 20 * 32), 16),
    "a flipped byte in the last block": (lambda index: flip(vectors_of(index), -1), 8),
    "a flipped byte in the head": (lambda index: flip(vectors_of(index), 3), 55),
    "cut": (lambda index: cut(vectors_of(index), 700), 55),
    "empty": (lambda index: vectors_of(index).write_bytes(b""), 55),
    "missing": (lambda index: vectors_of(index).unlink(), 55),
    "both missing": (lambda index: (vectors_of(index).unlink(), vectors_of(index, 2).unlink()), 83),
    "a row of zeros": (lambda index: spoil_row(index, 0.0), 1),
    "a row of NaN": (lambda index: spoil_row(index, float("nan")), 1),
    "a row that is too long": (lambda index: spoil_row(index, 1.0), 1),
    "another row in the catalogue": (lambda index: execute(index, "UPDATE segments SET rows = 9 WHERE number = 1"), 55),
    "no row in the catalogue": (lambda index: execute(index, "DELETE FROM segments WHERE number = 1"), 55),
    "no rows in the catalogue": (lambda index: execute(index, "DELETE FROM segments"), 83),
    "a lost tombstone": (lambda index: execute(index, "DELETE FROM tombstones WHERE passage_id = 11"), 0),
    "a passage among the tombstones": (lambda index: execute(index, "INSERT INTO tombstones VALUES (5)"), 0),
    "a tombstone of nothing": (lambda index: execute(index, "INSERT INTO tombstones VALUES (5000)"), 0),
    "a low next id": (lambda index: execute(index, "UPDATE settings SET value = '3' WHERE key = 'next_passage_id'"), 0),
}


def test_nothing_to_do(built: Path, copy: Path) -> None:
    encoder = FakeEncoder()
    before = {file.name: file.read_bytes() for file in (copy / "vectors").iterdir()}
    for _ in range(2):
        report = repair_index(copy, encoder=encoder)
        assert (report.mended, report.encoded, report.unmended, report.in_order) == ((), 0, (), True)
    assert encoder.calls == []
    assert {file.name: file.read_bytes() for file in (copy / "vectors").iterdir()} == before
    assert content(copy) == content(built)


@pytest.mark.parametrize("damage", VECTOR_DAMAGES)
def test_vectors_are_made_again(built: Path, copy: Path, damage: str) -> None:
    do, count = VECTOR_DAMAGES[damage]
    do(copy)
    encoder = FakeEncoder()
    done: list[int] = []
    report = repair_index(copy, encoder=encoder, on_done=done.append)
    assert (report.encoded, len(encoder.encoded), sum(done)) == (count, count, count)
    assert report.in_order
    assert damage in ("a passage among the tombstones", "a tombstone of nothing", "a low next id") or report.mended
    assert content(copy) == content(built)
    in_order(copy)
    assert repair_index(copy, encoder=encoder).mended == ()
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.add([Document("more", "more words")])
        assert index.verify() == 84


@pytest.mark.parametrize("key", ["generation", "next_passage_id", "next_doc_key", "next_file_number"])
def test_a_damaged_counter_counts_on(copy: Path, key: str) -> None:
    execute(copy, f"UPDATE settings SET value = '5000' WHERE key = '{key}'")
    assert any(f"the setting '{key}'" in one.what for one in verify_index(copy, encoder=FakeEncoder()).damages)
    report = repair_index(copy, encoder=FakeEncoder())
    assert (report.in_order, report.encoded, len(report.mended)) == (True, 0, 1)
    in_order(copy)
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.add([Document("more", "more words")])
        assert index.verify() == 84
    in_order(copy)


def test_a_damaged_setting_that_no_search_needs_is_named(copy: Path) -> None:
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.set_search(recall=0.9)
    execute(copy, "UPDATE settings SET value = '0.8' WHERE key = 'recall'")
    [damage] = verify_index(copy, encoder=FakeEncoder()).damages
    assert "holds the setting 'recall' otherwise than it was written" in damage.what
    assert [damage.what in one for one in repair_index(copy, encoder=FakeEncoder()).unmended] == [True]
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.set_search(recall=0.9)
    in_order(copy)


@pytest.mark.parametrize("key", ["encoder", "passage_tokens", "fingerprint"])
def test_an_index_with_a_damaged_setting_is_not_opened(copy: Path, key: str) -> None:
    execute(copy, f"UPDATE settings SET value = replace(replace(value, '6', '5'), 'a', 'b') WHERE key = '{key}'")
    what = f"holds the setting '{key}' otherwise than it was written"
    for do in (Index.open, repair_index):
        with pytest.raises(IndexDamagedError, match=what):
            do(copy, encoder=FakeEncoder())
    assert any(what in one.what for one in verify_index(copy, encoder=FakeEncoder()).damages)


def test_interleaved_passages_go_back_where_they_were(built: Path, copy: Path) -> None:
    """A passage between those of a segment, of which there is no row: the segment is written anew with it."""
    with open_catalog(copy / CATALOG_FILE).transaction() as connection:
        segment = read_segments(connection)[0]
        ids = IdMap([segment]).all_ids()
        rows = RawVectors(copy, segment).read_range(0, segment.rows)
        kept = ids != 5
        delete_segments(connection, [segment.number])
        from xsearch.store.vectors import runs_of

        shape = (int(kept.sum()), segment.dim)
        insert_segment(connection, write_segment(copy, segment.number, runs_of(ids[kept]), shape, [rows[kept]]))
    report = repair_index(copy, encoder=FakeEncoder())
    assert report.encoded == 1
    assert content(copy) == content(built)
    in_order(copy)


def test_segments_that_cross(built: Path, copy: Path) -> None:
    with open_catalog(copy / CATALOG_FILE).transaction() as connection:
        first, second = read_segments(connection)
        delete_segments(connection, [second.number])
        shutil.copy(vectors_of(copy, 1), vectors_of(copy, 7))
        insert_segment(connection, replace(first, number=7))
    assert len(verify_index(copy, sample=0).damages) >= 2
    repair_index(copy, encoder=FakeEncoder())
    assert content(copy) == content(built)
    in_order(copy)


def test_orphans_are_swept(built: Path, copy: Path) -> None:
    vectors_of(copy, 9).write_bytes(b"what a killed writer left")
    (copy / "vectors" / "000010.npy.tmp").write_bytes(b"half of it")
    assert repair_index(copy, encoder=FakeEncoder()).mended == ()
    assert sorted(file.name for file in (copy / "vectors").iterdir()) == ["000001.npy", "000002.npy"]


def test_what_a_finished_migration_left(built: Path, copy: Path) -> None:
    shutil.copytree(built, copy / "migration")
    assert repair_index(copy, encoder=FakeEncoder()).mended == ("What a finished migration left was removed",)
    assert not (copy / "migration").exists()
    # One that is not finished goes on.
    Index.create(copy / "migration", encoder=FakeEncoder("other")).close()
    assert repair_index(copy, encoder=FakeEncoder()).mended == ()
    assert (copy / "migration").exists()


PASSAGE_DAMAGES = {
    "a passage that reaches out": 'UPDATE passages SET "end" = 100000 WHERE passage_id = 5',
    "another language": "UPDATE passages SET lang = 'nl' WHERE passage_id = 5",
    "a lost passage": "DELETE FROM passages WHERE passage_id = 5",
    "a lost last passage": "DELETE FROM passages WHERE passage_id = 56",
    "another passage id": "UPDATE passages SET passage_id = 5000 WHERE passage_id = 5",
    "no passage": "DELETE FROM passages WHERE doc_key = (SELECT doc_key FROM documents WHERE doc_id = 'auto')",
    "no passages": "DELETE FROM passages",
}


@pytest.mark.parametrize("damage", PASSAGE_DAMAGES)
def test_documents_are_split_again(built: Path, copy: Path, damage: str) -> None:
    execute(copy, PASSAGE_DAMAGES[damage])
    assert not verify_index(copy, sample=0).in_order
    report = repair_index(copy, encoder=FakeEncoder())
    assert report.in_order
    assert report.encoded > 0
    assert without_ids(copy) == without_ids(built)
    in_order(copy)
    # What was stored of it is what a later run compares: nothing is encoded again.
    encoder = FakeEncoder()
    with Index.open(copy, encoder=encoder) as index:
        index.add([*numbered(7), *numbered(51, start=8), Document("auto", "no language given here")])
    assert encoder.calls == []


TEXT_DAMAGES = {
    "another text": "UPDATE documents SET text = replace(text, 'part0', 'part7')",
    "no UTF-8": "UPDATE documents SET text = CAST(x'ff41' AS TEXT)",
    "another title": "UPDATE documents SET title = 'Titel'",
    "other metadata": "UPDATE documents SET metadata = '{}'",
    "no JSON": "UPDATE documents SET metadata = '{'",
    "a number": "UPDATE documents SET text = 7",
}


@pytest.mark.parametrize("damage", TEXT_DAMAGES)
def test_texts_cannot_be_mended_but_deleted(copy: Path, damage: str) -> None:
    execute(copy, f"{TEXT_DAMAGES[damage]} WHERE doc_id = 'doc-00003'")
    vectors_of(copy).unlink()
    report = repair_index(copy, encoder=FakeEncoder())
    assert len(report.unmended) == 1
    assert "'doc-00003'" in report.unmended[0]
    assert (report.dropped, report.in_order) == (0, False)
    assert [one.what for one in verify_index(copy, sample=0).damages] == list(report.unmended)
    report = repair_index(copy, drop=True, encoder=FakeEncoder())
    assert (report.dropped, report.unmended) == (1, ())
    in_order(copy)
    with Index.open(copy, encoder=FakeEncoder()) as index:
        assert index.get("doc-00003") is None
        assert len(index) == 58


def test_words_and_rows_of_nothing(built: Path, copy: Path) -> None:
    execute(copy, "DELETE FROM passage_words_data WHERE id > 10", "DELETE FROM documents WHERE doc_id = 'auto'")
    report = repair_index(copy, encoder=FakeEncoder())
    assert len(report.mended) == 2
    assert "belonged to no document" in report.mended[0]
    assert "words of 82 passages were made anew" in report.mended[1]
    in_order(copy)
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.add([Document("auto", "no language given here")])
    assert without_ids(copy) == without_ids(built)


def test_an_index_of_the_database_is_made_anew(built: Path, copy: Path) -> None:
    execute(
        copy,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = "
        "'ix_passages_lang') WHERE name = 'ix_passages_doc_key'",
    )
    with pytest.raises(IndexDamagedError, match="--rebuild"):
        repair_index(copy, encoder=FakeEncoder())
    shutil.rmtree(copy)
    shutil.copytree(built, copy)
    # An index that lacks a row, as a torn page makes one.
    execute(copy, "PRAGMA writable_schema = ON", "UPDATE sqlite_master SET sql = 'CREATE INDEX ix_documents_origin ON "
            "documents (source)' WHERE name = 'ix_documents_origin'")  # fmt: skip
    assert "fails its integrity check" in verify_index(copy, sample=0).damages[0].what
    report = repair_index(copy, encoder=FakeEncoder())
    assert "its indexes were made anew" in report.mended[0]
    assert content(copy) == content(built)


@pytest.mark.parametrize("data", [b"", b"no database" * 1000])
def test_a_catalogue_that_cannot_be_read(copy: Path, data: bytes) -> None:
    (copy / CATALOG_FILE).write_bytes(data)
    for suffix in ("-wal", "-shm"):
        (copy / f"{CATALOG_FILE}{suffix}").unlink(missing_ok=True)
    with pytest.raises(IndexDamagedError, match=r"Restore it from a backup, or build the index again with.*--rebuild"):
        repair_index(copy, encoder=FakeEncoder())


def test_vectors_that_were_given(copy: Path) -> None:
    """Only the encoder's own can be made again."""
    with open_catalog(copy / CATALOG_FILE).transaction() as connection:
        connection.execute(passages.update().where(passages.c.passage_id == 5).values(tokens=0))
    flip(vectors_of(copy), 128 + 32 * 2)
    with pytest.raises(IndexDamagedError, match=r"they were given.*'doc-00004'.*--drop"):
        repair_index(copy, encoder=FakeEncoder())
    report = repair_index(copy, drop=True, encoder=FakeEncoder())
    assert report.dropped == 1
    in_order(copy)


def test_nobody_else_writes(copy: Path) -> None:
    with writer_lock(copy), pytest.raises(IndexLockedError):
        repair_index(copy, encoder=FakeEncoder())


STEPS = ("before the vectors", "half the vectors", "after the vectors", "before the commit", "after the commit",
         "after the words", "before the split")  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_killed_while_it_mends(built: Path, copy: Path, step: str) -> None:
    """After a kill at any step the rest is mended by the next call, and what was done is not done again."""
    flip(vectors_of(copy), 400)
    vectors_of(copy, 2).unlink()
    execute(copy, "DELETE FROM passage_words_data WHERE id > 10", "DELETE FROM passages WHERE passage_id = 30")
    done = subprocess.run([sys.executable, "-m", "tests.maintain.test_repair", str(copy), step], cwd=HERE, check=False)
    assert done.returncode == 77
    encoder = FakeEncoder()
    assert repair_index(copy, encoder=encoder).in_order
    assert len(encoder.encoded) <= 16 + 29 + 13
    if step in ("after the commit", "before the split"):
        assert len(encoder.encoded) <= 29 + 13
    in_order(copy)
    assert without_ids(copy) == without_ids(built)


def die(*_arguments: object, **_options: object) -> None:
    os._exit(77)


def die_at(step: str) -> None:
    original = {"rewrite": repair_module.rewrite, "note": repair_module.note_change, "words": repair_module.renew_words}
    state = {"written": 0, "noted": 0}
    if step == "before the vectors":
        repair_module.rewrite = die  # type: ignore[assignment]
    if step == "half the vectors":
        repair_module.encode_again = die  # type: ignore[assignment]
    if step == "before the split":
        repair_module.split_again = die  # type: ignore[assignment]

    def rewrite(*arguments):  # type: ignore[no-untyped-def]
        if step == "after the commit" and state["written"]:
            die()
        done = original["rewrite"](*arguments)
        state["written"] += 1
        if step == "after the vectors":
            die()
        return done

    def note_change(connection):  # type: ignore[no-untyped-def]
        original["note"](connection)
        if step == "before the commit" and state["written"]:
            die()

    def renew_words(connection):  # type: ignore[no-untyped-def]
        found = original["words"](connection)
        if step == "after the words":
            die()
        return found

    if step in ("after the commit", "after the vectors", "before the commit"):
        repair_module.rewrite = rewrite
    repair_module.note_change = note_change
    repair_module.renew_words = renew_words


if __name__ == "__main__":
    die_at(sys.argv[2])
    repair_index(Path(sys.argv[1]), encoder=FakeEncoder())

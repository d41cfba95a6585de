"""What the catalogue says of files is what was written, or an error that names the row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.backends import SQLITE_ONLY
from tests.store.segments import ids
from xsearch.errors import IndexDamagedError
from xsearch.store.ann import AnnFacts, AnnFile
from xsearch.store.catalog import Catalog, ann, segments, write_setting
from xsearch.store.listing import (
    delete_ann_files,
    delete_segments,
    insert_ann_file,
    insert_segment,
    next_file_number,
    note_file_number,
    read_ann_files,
    read_segments,
    sound_ann_files,
    sound_segments,
)
from xsearch.store.location import make_catalog
from xsearch.store.vectors import Segment, consecutive, runs_of

MERGED = Segment(3, 4, 16, 256, "a" * 64, runs_of(ids(5, 6, 9, 2**40)), b"\0\xff" * 4)
PLAIN = Segment(2, 20, 16, 768, "b" * 64, consecutive(2**50), b"12345678" * 2)
# As an older xsearch wrote it, and as the archive of an older index has it.
UNSUMMED = Segment(9, 3, 16, 224, "c" * 64, consecutive(1))
FACTS = AnnFacts(7, 40, 0.95, 0.9612, 12345.6, 56.0, 0.1)
FILE = AnnFile(11, 3, "IVF4,SQ8", 4, 2**40, "d" * 64, FACTS)
OTHER_FILE = replace(FILE, number=4, segment=2, rows=20, factory="HNSW16,SQ8")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory, catalog_url: str | None) -> Catalog:
    made = make_catalog(tmp_path_factory.mktemp("listing"), {}, catalog_url)
    with made.transaction() as connection:
        for segment in (MERGED, PLAIN, UNSUMMED):
            insert_segment(connection, segment)
        for file in (FILE, OTHER_FILE):
            insert_ann_file(connection, file)
    return made


class Undone(Exception):
    """Has a transaction rolled back."""


@pytest.fixture
def connection(catalog: Catalog) -> Iterator[sa.Connection]:
    """What is written through it is not committed: that takes a while on a busy disk."""
    with pytest.raises(Undone), catalog.transaction() as writing:
        yield writing
        raise Undone


def test_what_was_written(connection: sa.Connection) -> None:
    assert read_segments(connection) == [UNSUMMED, MERGED, PLAIN]
    assert sound_segments(connection) == ([UNSUMMED, MERGED, PLAIN], [])
    assert read_ann_files(connection) == [OTHER_FILE, FILE]
    assert sound_ann_files(connection) == ([OTHER_FILE, FILE], [])


def test_an_older_xsearch_kept_neither_runs_nor_checksums(connection: sa.Connection) -> None:
    connection.execute(segments.update().where(segments.c.number == 2).values(runs=None, block_sums=None))
    assert read_segments(connection) == [UNSUMMED, MERGED, replace(PLAIN, block_sums=b"")]


SEAL = b"12345678"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 12),
        ("first_passage_id", 6),
        ("first_passage_id", 2**60),
        ("rows", 5),
        ("rows", 0),
        ("rows", -4),
        ("dim", 8),
        ("dim", 0),
        ("size", 255),
        ("sha256", "b" * 64),
        ("sha256", ""),
        ("runs", None),
        ("runs", b""),
        ("runs", SEAL),
        ("runs", runs_of(ids(5, 6, 9, 10)) + SEAL),
        ("runs", MERGED.runs),
        ("runs", consecutive(5) + SEAL),
        ("block_sums", None),
        ("block_sums", b""),
        ("block_sums", b"\0\xff" * 3),
        ("block_sums", b"\1\xff" + b"\0\xff" * 3),
    ],
)
def test_a_segments_row_that_was_changed(connection: sa.Connection, column: str, value: object) -> None:
    connection.execute(segments.update().where(segments.c.number == 3).values({column: value}))
    number = value if column == "number" else 3
    with pytest.raises(IndexDamagedError, match=f"row of the segment {number} is not as it was written") as caught:
        read_segments(connection)
    assert "xsearch repair NAME" in caught.value.remedy
    assert sound_segments(connection) == ([UNSUMMED, PLAIN], [number])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("number", 12),
        ("segments", [2]),
        ("segments", []),
        ("segments", [3, 2]),
        ("segments", 3),
        ("segments", None),
        ("factory", "IVF4,SQ4"),
        ("rows", 5),
        ("size", 1),
        ("sha256", "e" * 64),
        ("facts", {}),
        ("facts", []),
        ("facts", 7),
        ("facts", None),
        ("facts", FACTS.to_dict()),
        ("facts", FACTS.to_dict() | {"seal": "0" * 16}),
        ("facts", FACTS.to_dict() | {"seal": None}),
    ],
)
def test_a_faiss_files_row_that_was_changed(connection: sa.Connection, column: str, value: object) -> None:
    connection.execute(ann.update().where(ann.c.number == 11).values({column: value}))
    number = value if column == "number" else 11
    with pytest.raises(IndexDamagedError, match=f"row of the FAISS file {number} is not as it was") as caught:
        read_ann_files(connection)
    assert "xsearch repair NAME" in caught.value.remedy
    assert sound_ann_files(connection) == ([OTHER_FILE], [number])


@pytest.mark.parametrize("field", [*FACTS.to_dict()])
def test_facts_that_were_changed(connection: sa.Connection, field: str) -> None:
    facts = connection.execute(sa.select(ann.c.facts).where(ann.c.number == 11)).scalar_one()
    for changed in (facts | {field: facts[field] + 1}, {key: facts[key] for key in facts if key != field}):
        connection.execute(ann.update().where(ann.c.number == 11).values(facts=changed))
        with pytest.raises(IndexDamagedError, match="the FAISS file 11"):
            read_ann_files(connection)


@SQLITE_ONLY
@pytest.mark.parametrize(
    "value", ["'abc'", "x'00ff'", "12345", "1.5", "-1", "''", "'" + "9" * 30 + "'", "'[4]'", "'null'"]
)
@pytest.mark.parametrize(
    ("table", "column"),
    [("segments", name) for name in ("first_passage_id", "rows", "dim", "size", "sha256", "runs", "block_sums")]
    + [("ann", name) for name in ("segments", "factory", "rows", "size", "sha256", "facts")],
)
def test_values_of_any_type(connection: sa.Connection, table: str, column: str, value: str) -> None:
    """SQLite's columns take anything, and damage writes anything."""
    read: Callable[[sa.Connection], object] = read_segments if table == "segments" else read_ann_files
    number = 3 if table == "segments" else 11
    connection.execute(sa.text(f"UPDATE {table} SET {column} = {value} WHERE number = {number}"))
    with pytest.raises(IndexDamagedError, match=f"row of the .* {number} is not as it was written"):
        read(connection)
    if table == "segments":
        assert sound_segments(connection) == ([UNSUMMED, PLAIN], [3])
    else:
        assert sound_ann_files(connection) == ([OTHER_FILE], [11])


@SQLITE_ONLY
@pytest.mark.parametrize("column", ["first_passage_id", "rows", "dim", "size"])
@pytest.mark.parametrize("value", ["'abc'", "x'00ff'", "1.5", "'" + "9" * 30 + "'"])
def test_older_rows_of_any_type(connection: sa.Connection, column: str, value: str) -> None:
    """They have no seal; what is no number is none all the same."""
    connection.execute(segments.update().where(segments.c.number == 3).values(runs=None, block_sums=None))
    connection.execute(sa.text(f"UPDATE segments SET {column} = {value} WHERE number = 3"))
    with pytest.raises(IndexDamagedError, match="row of the segment 3 is not as it"):
        read_segments(connection)


def test_segments_go_with_what_was_made_from_them(connection: sa.Connection) -> None:
    delete_segments(connection, [3, 9])
    assert read_segments(connection) == [PLAIN]
    assert read_ann_files(connection) == [OTHER_FILE]
    delete_ann_files(connection, [3])
    assert read_ann_files(connection) == [OTHER_FILE]
    delete_ann_files(connection, [2])
    assert read_ann_files(connection) == []
    assert read_segments(connection) == [PLAIN]


def test_numbers_are_never_used_again(connection: sa.Connection) -> None:
    """Neither of vector files nor of FAISS files, whether or not an older xsearch wrote in between."""
    assert next_file_number(connection) == 12
    note_file_number(connection, 12)
    assert next_file_number(connection) == 13
    note_file_number(connection, 5)
    assert next_file_number(connection) == 13
    delete_segments(connection, [2, 3, 9])
    assert next_file_number(connection) == 13
    # An older xsearch counts segments alone, and does not note the numbers.
    insert_segment(connection, replace(PLAIN, number=40))
    assert next_file_number(connection) == 41
    write_setting(connection, "next_file_number", None)
    assert next_file_number(connection) == 41


def test_a_new_index(tmp_path: Path, catalog_url: str | None) -> None:
    made = make_catalog(tmp_path, {}, catalog_url)
    with made.reading() as connection:
        assert next_file_number(connection) == 1
        assert read_segments(connection) == []
        assert read_ann_files(connection) == []

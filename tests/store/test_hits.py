"""What a hit shows is what was written, or an error that names the passage; never what damage made of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.fakes import FakeEncoder
from xsearch.errors import IndexDamagedError
from xsearch.index import Index
from xsearch.records import Document, Passage
from xsearch.store.catalog import CATALOG_FILE, Catalog, documents, passages
from xsearch.store.checksums import Shown, passage_checksum
from xsearch.store.hits import PassageRow, fetch_passages
from xsearch.store.location import make_catalog
from xsearch.store.rows import Keys, Prepared, insert_rows, make_rows

TEXT = "a😀é中e\u0301👩‍👩‍👧 ع" * 3
METADATA = {"year": 1999, "tags": ["x", "ü"], "deep": {"b": 1.5, "a": None}, "big": 2**60}


def prepared(doc_id: str, text: str, cuts: Sequence[tuple[int, int]], **fields: Any) -> Prepared:
    pieces = (Passage(place, *cut, text[slice(*cut)], "ja", 3) for place, cut in enumerate(cuts))
    return Prepared(Document(doc_id, text, lang="mul", **fields), "hash", "here", tuple(pieces))


def put(catalog: Catalog, *batch: Prepared) -> None:
    with catalog.transaction() as connection:
        insert_rows(connection, make_rows(batch, Keys(1, 1, 1), 1))


@pytest.fixture
def catalog(tmp_path: Path, catalog_url: str | None) -> Catalog:
    return make_catalog(tmp_path, {}, catalog_url)


class TestFetch:
    def test_all_that_a_hit_shows(self, catalog: Catalog) -> None:
        put(catalog, prepared("d 1", "one two", [(0, 3), (4, 7)], title="Títle", source="s", metadata=METADATA))
        with catalog.reading() as connection:
            found = fetch_passages(catalog, connection, [2, 99])
        assert found == {2: PassageRow(2, "d 1", "ja", "mul", "Títle", "two", "s", 4, 7, METADATA)}

    def test_passages_are_cut_by_code_points(self, catalog: Catalog) -> None:
        cuts = [(start, end) for start in range(0, len(TEXT), 3) for end in range(start + 1, len(TEXT), 4)]
        put(catalog, prepared("a", TEXT, cuts))
        with catalog.reading() as connection:
            found = fetch_passages(catalog, connection, range(1, len(cuts) + 1))
        assert [found[n].text for n in range(1, len(cuts) + 1)] == [TEXT[start:end] for start, end in cuts]

    def test_more_than_sqlite_takes_at_once(self, catalog: Catalog) -> None:
        count = 40_005
        put(catalog, prepared("a", "0123456789" * 10, [(n % 90, n % 90 + 10) for n in range(count)]))
        with catalog.reading() as connection:
            found = fetch_passages(catalog, connection, [*range(1, count + 1), 999_999])
        assert sorted(found) == list(range(1, count + 1))
        assert found[count].text == ("0123456789" * 10)[(count - 1) % 90 : (count - 1) % 90 + 10]

    def test_none(self, catalog: Catalog) -> None:
        with catalog.reading() as connection:
            assert fetch_passages(catalog, connection, []) == {}


class TestDamage:
    """One statement spoils one field behind the back of the store."""

    @pytest.mark.parametrize(
        "values",
        [
            {documents.c.doc_id: "other"},
            {documents.c.lang: "en"},
            {documents.c.title: "title"},
            {documents.c.text: "one twO"},
            {documents.c.text: ""},
            {passages.c.lang: "ko"},
            {passages.c.start: 3},
            {passages.c.end: 6},
            {passages.c.checksum: 1},
        ],
    )
    def test_of_what_a_digest_is_over(self, catalog: Catalog, values: dict[sa.Column[Any], Any]) -> None:
        self._spoil(catalog, values)
        with (
            catalog.reading() as connection,
            pytest.raises(IndexDamagedError, match=r"holds passage 2, of the document '\w+', with another text, title"),
        ):
            fetch_passages(catalog, connection, [2])

    @pytest.mark.parametrize(
        "values", [{documents.c.source: "S"}, {documents.c.metadata: {"year": 1998}}, {documents.c.metadata: []}]
    )
    def test_of_source_and_metadata(self, catalog: Catalog, values: dict[sa.Column[Any], Any]) -> None:
        self._spoil(catalog, values)
        with (
            catalog.reading() as connection,
            pytest.raises(IndexDamagedError, match=r"holds passage 2, of the document 'a', with another source"),
        ):
            fetch_passages(catalog, connection, [2])

    def test_a_passage_that_went_to_another_document(self, catalog: Catalog) -> None:
        put(catalog, prepared("a", "one two", [(0, 3)]), prepared("b", "one two", [(4, 7)]))
        with catalog.transaction() as connection:
            connection.execute(passages.update().where(passages.c.passage_id == 2).values(doc_key=1))
        with catalog.reading() as connection, pytest.raises(IndexDamagedError, match="holds passage 2"):
            fetch_passages(catalog, connection, [2])

    def test_what_an_older_xsearch_wrote_has_no_checksum(self, catalog: Catalog) -> None:
        """Offsets that the text does not have are seen all the same."""
        self._spoil(catalog, {passages.c.checksum: None})
        with catalog.reading() as connection:
            assert fetch_passages(catalog, connection, [2])[2].text == "two"
        with catalog.transaction() as connection:
            connection.execute(passages.update().values(end=8))
        with catalog.reading() as connection, pytest.raises(IndexDamagedError, match="offsets that its text does not"):
            fetch_passages(catalog, connection, [2])

    @staticmethod
    def _spoil(catalog: Catalog, values: dict[sa.Column[Any], Any]) -> None:
        put(catalog, prepared("a", "one two", [(0, 3), (4, 7)], title="Title", source="s", metadata={"year": 1999}))
        for column, value in values.items():
            change = column.table.update().values({column: value})
            if column.table is passages:
                change = change.where(passages.c.passage_id == 2)
            with catalog.transaction() as connection:
                connection.execute(change)


class TestFile:
    """SQLite keeps any value in any column, and notices nothing."""

    @pytest.fixture
    def index(self, tmp_path: Path) -> Iterator[Index]:
        with Index.create(tmp_path / "index", encoder=FakeEncoder()) as made:
            made.add([Document("a", "some text", title="T", lang="en", source="s", metadata={"n": 1})])
            yield made

    @pytest.mark.parametrize(
        "change",
        [
            "documents SET title = x'54'",
            "documents SET title = 5",
            "documents SET source = x'73'",
            "documents SET lang = CAST('en' AS BLOB)",
            "documents SET text = x'736F6D652074657874'",
            "documents SET text = CAST(x'736F6D6520746578FF' AS TEXT)",
            "documents SET metadata = '{\"n\": 1'",
            "documents SET metadata = '[1]'",
            "documents SET metadata = 1",
            "documents SET metadata = x'7B7D'",
            "documents SET record_hash = 'x'",
            "passages SET start = 'zero'",
            'passages SET "end" = 9.5',
            "passages SET lang = 'EN'",
            "passages SET checksum = 'x'",
        ],
    )
    def test_a_search_and_verify_say_so(self, index: Index, change: str) -> None:
        assert index.search("some text")[0].text == "some text"
        with closing(sqlite3.connect(index.path / CATALOG_FILE)) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute(f"UPDATE {change}")
            connection.commit()
        with pytest.raises(IndexDamagedError, match=CATALOG_FILE):
            index.search("some text")
        with pytest.raises(IndexDamagedError, match=CATALOG_FILE):
            index.verify()

    def test_verify_reads_every_passage(self, index: Index) -> None:
        index.add([Document("b", "first part. second part. " * 40, lang="en")])
        assert index.verify() == index.info().passages > 2
        with closing(sqlite3.connect(index.path / CATALOG_FILE)) as connection:
            last = connection.execute("SELECT max(passage_id) FROM passages").fetchone()[0]
            connection.execute("UPDATE passages SET checksum = checksum + 1 WHERE passage_id = ?", (last,))
            connection.commit()
        with pytest.raises(IndexDamagedError, match=f"holds passage {last}, of the document 'b'"):
            index.verify()


def test_checksum_is_stored_in_every_index_and_must_stay() -> None:
    shown = Shown(7, "d", "de", "mul", "Títel", 0, 4, "Text")
    assert passage_checksum(shown) == 4988921205440317949
    # Where one field ends and the next begins counts.
    others = [
        shown._replace(doc_id="dd", lang="e"), shown._replace(title="TítelT", text="ext"), shown._replace(start=1),
        shown._replace(passage_id=8), shown._replace(text="Text "), shown._replace(doc_lang="mul-Latn"),
    ]  # fmt: skip
    assert len({passage_checksum(other) for other in (shown, *others)}) == 7

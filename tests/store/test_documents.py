"""Documents as they were stored, or an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes import FakeEncoder
from xsearch.errors import IndexDamagedError
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store.catalog import documents
from xsearch.store.location import find_catalog

DOCUMENTS = [
    Document("a", "ein Text", "Titel", "de", "a.txt", {"n": 1, "x": [None, "é"]}),
    Document("b", "another text", lang="en"),
    Document("z", "第三", lang="zh"),
]


@pytest.fixture
def index(tmp_path: Path, catalog_url: str | None) -> Index:
    made = Index.create(tmp_path / "index", encoder=FakeEncoder(), catalog=catalog_url)
    made.add(DOCUMENTS)
    return made


def test_they_come_as_they_were_given(index: Index) -> None:
    assert list(index) == DOCUMENTS
    assert [index.get(name) for name in ("a", "b", "z", "nobody")] == [*DOCUMENTS, None]


@pytest.mark.parametrize(
    ("column", "value"),
    [("text", "ein text"), ("title", ""), ("lang", "en"), ("source", "b.txt"), ("metadata", {"n": 2}),
     ("record_hash", "0"), ("checksum", "0")],
)  # fmt: skip
def test_another_value_than_was_written(index: Index, column: str, value: object) -> None:
    change(index, documents.update().where(documents.c.doc_id == "a").values({column: value}))
    with pytest.raises(IndexDamagedError, match="holds the document 'a' otherwise than it was written"):
        index.get("a")
    with pytest.raises(IndexDamagedError, match="holds the document 'a' otherwise"):
        list(index)
    assert index.get("b") == DOCUMENTS[1]


def test_another_id(index: Index) -> None:
    change(index, documents.update().where(documents.c.doc_id == "b").values(doc_id="c"))
    with pytest.raises(IndexDamagedError, match="holds the document 'c' otherwise"):
        index.get("c")


def test_documents_of_an_older_xsearch_have_no_checksum(index: Index) -> None:
    change(index, documents.update().values(checksum=None))
    assert list(index) == DOCUMENTS


def change(index: Index, statement: sa.Update) -> None:
    with find_catalog(index.path).transaction() as connection:
        connection.execute(statement)

"""The full-text table: checked by readers, made anew whatever became of it."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fakes import FakeEncoder, numbered
from xsearch.index import Index
from xsearch.records import Document
from xsearch.store.catalog import CATALOG_FILE, Catalog, open_catalog
from xsearch.store.words import renew_words, words_fault


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 80 documents, one of them deleted; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index:
        index.add(numbered(80))
        index.delete(["doc-00007"])
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def execute(index: Path, *statements: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(index / CATALOG_FILE)) as connection:
        for statement in statements:
            found = connection.execute(statement, values).fetchall()
        connection.commit()
    return found


def fault(index: Path) -> str:
    with open_catalog(index / CATALOG_FILE).reading() as connection:
        return words_fault(connection)


def found_by_words(index: Path) -> list[tuple[str, int]]:
    with Index.open(index, encoder=FakeEncoder()) as opened:
        return sorted((hit.doc_id, hit.start) for hit in opened.search("part0", k=1000, mode="lexical"))


def test_in_order(copy: Path) -> None:
    before = (copy / CATALOG_FILE).read_bytes()
    assert fault(copy) == ""
    assert (copy / CATALOG_FILE).read_bytes() == before


def test_in_order_in_any_script(tmp_path: Path) -> None:
    texts = (
        "茶是一种饮料。第二段。",
        "ชาเป็นเครื่องดื่ม",
        "e\u0301 ÉCOLE ﬁne Straße №5 x²",
        "हिन्दी में",
        "🎉🎉 \u0300 -- \"a\" 'b'",
        "...",
        "각 ᄀ",
    )
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add(Document(str(number), text) for number, text in enumerate(texts))
        assert len(index) == len(texts)
    assert fault(tmp_path / "index") == ""


def test_a_reader_beside_a_writer(copy: Path) -> None:
    catalog = open_catalog(copy / CATALOG_FILE)
    with catalog.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM passages WHERE passage_id = 1")
        assert fault(copy) == ""


def test_a_catalogue_that_cannot_be_written(copy: Path) -> None:
    """As on a file system mounted read-only. (Permissions do not stop root, so SQLite itself is told.)"""
    url = f"sqlite+pysqlite:///file:{copy / CATALOG_FILE}?immutable=1&mode=ro&uri=true"
    with Catalog(url, place="the catalogue").reading() as connection:
        assert words_fault(connection) == ""


# What FTS5 keeps its structure in; averages are in record 1, the structure in record 10.
DAMAGES = {
    "an altered leaf": "UPDATE passage_words_data SET block = substr(block, 1, length(block) - 9) || zeroblob(9) "
    "WHERE id = (SELECT max(id) FROM passage_words_data)",
    "no structure": "DELETE FROM passage_words_data WHERE id = 10",
    "another structure": "UPDATE passage_words_data SET block = zeroblob(3) WHERE id = 10",
    "no data": "DELETE FROM passage_words_data",
    "no leaf": "DELETE FROM passage_words_data WHERE id > 10",
    "another format": "UPDATE passage_words_config SET v = 9",
    "no settings": "DROP TABLE passage_words_config",
    "no index": "DROP TABLE passage_words_idx",
    "an empty index": "DELETE FROM passage_words_idx",
    "no sizes": "DROP TABLE passage_words_docsize",
    "another length": "UPDATE passage_words_docsize SET sz = x'0005' WHERE id = 5",
    "no length": "UPDATE passage_words_docsize SET sz = x'' WHERE id = 5",
    "another sum of lengths": "UPDATE passage_words_data SET block = substr(block, 1, length(block) - 1) || x'01' "
    "WHERE id = 1",
    "a passage without words": "DELETE FROM passage_words_docsize WHERE id = 5",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_mended(built: Path, copy: Path, damage: str) -> None:
    execute(copy, DAMAGES[damage])
    found = fault(copy)
    if damage == "a passage without words":
        assert found == "lacks the words of 1 passages"
    else:
        assert found.startswith("holds a full-text table that")
    catalog = open_catalog(copy / CATALOG_FILE)
    with catalog.transaction() as connection:
        assert renew_words(connection) == 112
    assert fault(copy) == ""
    assert found_by_words(copy) == found_by_words(built)
    # The deleted passages' words are gone too.
    assert execute(copy, "SELECT count(*) FROM passage_words_docsize") == [(112,)]
    names = execute(copy, "SELECT name FROM sqlite_master WHERE name LIKE '%words%' ORDER BY name")
    shadows = [f"passage_words_{name}" for name in ("config", "data", "docsize", "idx")]
    assert [name for (name,) in names] == ["passage_words", *shadows]


def test_flipped_bits_are_mended(built: Path, copy: Path) -> None:
    rng = random.Random(4)
    expected = found_by_words(built)
    for _ in range(20):
        ((number, block),) = execute(copy, "SELECT id, block FROM passage_words_data ORDER BY random() LIMIT 1")
        assert isinstance(block, bytes)
        altered = bytearray(block)
        altered[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
        execute(copy, "UPDATE passage_words_data SET block = ? WHERE id = ?", values=(bytes(altered), number))
        with open_catalog(copy / CATALOG_FILE).transaction() as connection:
            renew_words(connection)
        assert fault(copy) == ""
        assert found_by_words(copy) == expected


def test_all_or_nothing(copy: Path) -> None:
    execute(copy, DAMAGES["no structure"])
    before = fault(copy)
    with pytest.raises(KeyboardInterrupt), open_catalog(copy / CATALOG_FILE).transaction() as connection:
        renew_words(connection)
        raise KeyboardInterrupt
    assert fault(copy) == before

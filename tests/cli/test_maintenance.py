"""``xsearch verify | repair | migrate | import`` and ``export --archive``."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Outcome, Xsearch, refused, write_lines
from xsearch.encoder.builtin import MINI_FOLDER
from xsearch.index import Index

DOCUMENTS = (
    {"id": "plain", "text": "The bridge is long.", "title": "Bridges", "lang": "en", "year": 1989},
    {"id": "tea", "text": "茶是一种饮料。\n\n第二段。", "year": 2001},
    {"id": "bridge", "text": "Die Brücke ist lang.", "lang": "de"},
)


@pytest.fixture
def news(xsearch: Xsearch, tmp_path: Path) -> Xsearch:
    """The command, with an index ``news`` of three documents."""
    write_lines(tmp_path / "news.jsonl", *DOCUMENTS)
    assert xsearch("index", "news", "news.jsonl", "-q").code == 0
    return xsearch


def vectors() -> Path:
    (file,) = Path("indexes/news/vectors").iterdir()
    return file


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def execute(statement: str) -> None:
    with closing(sqlite3.connect("indexes/news/catalog.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()


def test_verify(news: Xsearch) -> None:
    outcome = news("verify", "news")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("In order: 3 passages of 3 documents; 3 encoded again agree (least cosine ")
    assert news("verify", "news", "--sample", 0) == Outcome(0, "In order: 3 passages of 3 documents\n", "")
    found = news("verify", "news", "--json").json
    assert (found["in_order"], found["passages"], found["sampled"], found["damages"]) == (True, 3, 3, [])
    assert found["lowest_cosine"] > 0.999


def test_verify_names_all_that_is_damaged(news: Xsearch) -> None:
    name = vectors().name
    flip(vectors())
    execute("UPDATE documents SET text = text || '!' WHERE doc_id = 'plain'")
    execute("DELETE FROM passage_words_docsize")
    outcome = news("verify", "news")
    assert (outcome.code, outcome.out) == (1, "")
    lines = outcome.err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("Error: The ") for line in lines[:3])
    for part in (name, "'plain' with another text", "lacks the words of 3 passages"):
        assert sum(part in line for line in lines) == 1
    assert lines[3] == "Mend what can be mended with: xsearch repair news"
    outcome = news("verify", "news", "--json")
    assert (outcome.code, outcome.json["in_order"]) == (1, False)
    assert [one["file"] for one in outcome.json["damages"]].count(f"vectors/{name}") == 1
    refused(news("search", "news", "bridge"), name)


def test_vectors_that_are_not_those_of_their_texts(news: Xsearch) -> None:
    """Nothing on disk is damaged; the texts' vectors are another's."""
    from xsearch.store.catalog import CATALOG_FILE, open_catalog
    from xsearch.store.listing import delete_segments, insert_segment, read_segments
    from xsearch.store.vectors import RawVectors, write_segment

    path = Path("indexes/news")
    with open_catalog(path / CATALOG_FILE).transaction() as connection:
        (segment,) = read_segments(connection)
        rows = RawVectors(path, segment).read_range(0, 3)[[0, 2, 1]]
        delete_segments(connection, [segment.number])
        insert_segment(connection, write_segment(path, segment.number, segment.runs, (3, segment.dim), [rows]))
    assert news("verify", "news", "--sample", 0).code == 0
    outcome = news("verify", "news")
    assert outcome.code == 1
    assert "The vector of passage 2 in " in outcome.err and "The vector of passage 3 in " in outcome.err
    assert "passage 1 " not in outcome.err


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500])
def test_verify_a_catalogue_that_cannot_be_read(news: Xsearch, content: bytes) -> None:
    Path("indexes/news/catalog.sqlite").write_bytes(content)
    outcome = news("verify", "news")
    assert (outcome.code, outcome.out) == (1, "")
    assert "catalog.sqlite" in outcome.err.splitlines()[0]
    refused(news("repair", "news"), "catalog.sqlite", "--rebuild")


def test_verify_writes_nothing(news: Xsearch) -> None:
    before = {file: file.read_bytes() for file in Path("indexes/news").rglob("*") if file.is_file()}
    assert news("verify", "news").code == 0
    assert {file: file.read_bytes() for file in Path("indexes/news").rglob("*") if file.is_file()} == before


def test_repair(news: Xsearch) -> None:
    assert news("repair", "news") == Outcome(0, "Nothing to mend\n", "")
    before = news("search", "news", "bridge", "--json").json["hits"]
    flip(vectors())
    outcome = news("repair", "news")
    assert (outcome.code, outcome.err) == (0, "")
    assert "3 vectors were written anew, 3 of them encoded again" in outcome.out
    assert news("verify", "news").code == 0
    assert news("search", "news", "bridge", "--json").json["hits"] == before
    found = news("repair", "news", "--json").json
    assert (found["mended"], found["encoded"], found["in_order"]) == ([], 0, True)


def test_repair_what_cannot_be_mended(news: Xsearch) -> None:
    execute("UPDATE documents SET text = 'The bridge is lonG.' WHERE doc_id = 'plain'")
    outcome = news("repair", "news")
    assert outcome.code == 1
    assert outcome.err.startswith("Not mended: ") and "'plain'" in outcome.err and "--drop" in outcome.err
    outcome = news("repair", "news", "--drop")
    assert outcome.code == 0
    assert "'plain'" in outcome.out and "it was deleted" in outcome.out
    assert news("verify", "news").out.startswith("In order: 2 passages of 2 documents")


def test_migrate(news: Xsearch, tmp_path: Path) -> None:
    outcome = news("migrate", "news")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--encoder" in outcome.err
    assert news("migrate", "news", "--encoder", "builtin").out == "Nothing to do: the index is encoded with builtin\n"
    outcome = news("migrate", "news", "--encoder", "builtin", "--passage-tokens", 20)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("3 documents (3 passages) are now encoded with builtin; 3 were encoded by this run")
    assert news("info", "news", "--json").json["passage_tokens"] == 20
    # A folder of an exported encoder.
    shutil.copytree(MINI_FOLDER, tmp_path / "mine")
    found = news("migrate", "news", "--encoder", tmp_path / "mine", "--passage-tokens", 30, "--json").json
    assert (found["encoder"], found["documents"], found["changed"]) == (str(tmp_path / "mine"), 3, True)
    assert news("verify", "news").code == 0
    assert news("search", "news", "Brücke", "--json").json["hits"][0]["doc_id"] == "bridge"
    refused(news("migrate", "nothing", "--encoder", "builtin"), "There is no index")


def test_export_and_import_an_archive(news: Xsearch) -> None:
    outcome = news("export", "news", "--archive", "news.xsearch")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err.startswith("Wrote news.xsearch: 2 files, ")
    assert zipfile.is_zipfile("news.xsearch")
    outcome = news("import", "copy", "news.xsearch")
    assert outcome == Outcome(0, f"Made the index {Path('indexes/copy')} of 2 files\n", "")
    assert news("verify", "copy").code == 0
    hits = [news("search", name, "bridge", "--json").json["hits"] for name in ("news", "copy")]
    assert hits[0] == hits[1]
    refused(news("import", "copy", "news.xsearch"), "is there already")
    assert news("import", "other", "news.xsearch", "--json").json["members"] == 2
    assert news("export", "news", "--archive", "a", "-o", "b").code == 2
    Path("news.xsearch").write_bytes(Path("news.xsearch").read_bytes()[:-100])
    refused(news("import", "third", "news.xsearch"), "is damaged, or is no zip archive")
    refused(news("export", "nothing", "--archive", "a"), "There is no index")
    assert sorted(file.name for file in Path("indexes").iterdir()) == ["copy", "news", "other"]
    with Index.open("indexes/copy") as index:
        assert len(index) == 3


def test_the_source_of_documents_survives_an_export(news: Xsearch) -> None:
    assert news("export", "news", "-o", "out.jsonl").code == 0
    assert news("index", "copy", "out.jsonl", "-q").code == 0
    with Index.open("indexes/news") as index, Index.open("indexes/copy") as copy:
        assert [document.source for document in copy] == [document.source for document in index]
        assert {document.source for document in copy} == {str(Path("news.jsonl").absolute())}
        assert [dict(document.metadata) for document in copy] == [dict(document.metadata) for document in index]


def test_progress(news: Xsearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar on a terminal, with what is done."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert news("migrate", "news", "--encoder", "builtin", "--passage-tokens", 30).code == 0

"""``xsearch index --catalog``: every command works on an index whose catalogue is in PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.backends import NEEDS_POSTGRES, schemas
from tests.cli.conftest import Xsearch, refused, write_lines
from xsearch.store.location import LOCATION_FILE, without_password

DOCUMENTS = (
    {"id": "plain", "text": "The bridge is long.", "title": "Bridges", "lang": "en", "year": 1989},
    {"id": "two words", "text": "茶是一种饮料。", "lang": "zh", "year": 2001, "tags": ["a", "b"]},
    {"id": "odd", "text": "Le café était fermé.", "lang": "fr", "year": "n/a", "rate": 0.5},
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "news.jsonl", *DOCUMENTS)


def with_marks(test: object) -> object:
    for mark in NEEDS_POSTGRES:
        test = mark(test)
    return test


@with_marks
def test_every_command(xsearch: Xsearch, source: Path, postgres: str) -> None:
    before = schemas()
    made = xsearch("index", "news", source, "--catalog", postgres, "-q")
    assert (made.code, made.err) == (0, "")
    assert made.out.startswith("3 documents read: 3 added")
    location = json.loads(Path("indexes/news", LOCATION_FILE).read_text())
    assert {location["schema"]} == schemas() - before

    again = xsearch("index", "news", source, "-q")
    assert again.out.startswith("3 documents read: 3 unchanged")
    for mode in ("dense", "lexical", "hybrid"):
        hits = xsearch("search", "news", "茶", "--mode", mode, "-k", "1", "--lang", "zh", "--json").json["hits"]
        assert [hit["doc_id"] for hit in hits] == ["two words"]
    hits = xsearch("search", "news", "cafe", "--mode", "lexical", "--where", "rate < 1 and year = 'n/a'", "--json").json
    assert [hit["text"] for hit in hits["hits"]] == ["Le café était fermé."]

    (row,) = xsearch("list", "--json").json
    assert (row["name"], row["documents"], row["languages"]) == ("news", 3, {"en": 1, "fr": 1, "zh": 1})
    info = xsearch("info", "news").out
    assert f"Catalogue        {without_password(postgres)} (schema {location['schema']})\n" in info
    assert xsearch("verify", "news").out.startswith("In order: 3 passages")
    exported = [json.loads(line) for line in xsearch("export", "news").out.splitlines()]
    assert [(item["_id"], item.get("tags")) for item in exported] == [
        ("plain", None),
        ("two words", ["a", "b"]),
        ("odd", None),
    ]
    assert xsearch("index", "news", source, "--dry-run", "-q").code == 0
    assert xsearch("delete", "news", "plain", "--where", "year > 2000").out == "Deleted 2 documents\n"
    assert xsearch("delete", "news", "--yes").out == f"Deleted the index {Path('indexes/news')}\n"
    assert schemas() == before
    assert not Path("indexes/news").exists()


@with_marks
def test_where_it_is_and_stays(xsearch: Xsearch, source: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting counts for new indexes; one that is there stays where it is, unless it is built anew."""
    assert xsearch("index", "here", source, "-q").code == 0
    monkeypatch.setenv("XSEARCH_INDEX_CATALOG", postgres)
    assert xsearch("index", "there", source, "-q").code == 0
    assert Path("indexes/there", LOCATION_FILE).is_file()
    refused(xsearch("index", "here", source, "-q"), "has its catalogue in its own folder", "--rebuild")
    before = schemas()
    assert xsearch("index", "here", source, "--rebuild", "-q").code == 0
    assert Path("indexes/here", LOCATION_FILE).is_file()
    assert len(schemas() - before) == 1
    assert xsearch("index", "there", source, "--rebuild", "-q").code == 0
    assert (len(schemas() - before), len(before - schemas())) == (2, 1)


@with_marks
def test_nothing_goes_before_it_is_sure_that_a_new_one_can_be_made(
    xsearch: Xsearch, source: Path, postgres: str, tmp_path: Path
) -> None:
    assert xsearch("index", "news", source, "--catalog", postgres, "-q").code == 0
    away = sa.make_url(f"postgresql://ann:secret@/db?host={tmp_path}").render_as_string(hide_password=False)
    outcome = xsearch("index", "news", source, "--rebuild", "--catalog", away, "-q")
    refused(outcome, "cannot be reached", "PGPASSWORD")
    assert "secret" not in outcome.err
    assert xsearch("verify", "news").out.startswith("In order: 3 passages")

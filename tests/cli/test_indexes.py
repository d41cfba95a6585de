"""``xsearch list | info | delete | export``."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Outcome, Xsearch, refused, write_lines
from xsearch.cli.indexes import readable_size
from xsearch.index import Index

DOCUMENTS = (
    {"id": "plain", "text": "The bridge is long.", "title": "Bridges", "lang": "en", "year": 1989},
    {"id": " two words ", "text": "茶是一种饮料。\n\n第二段。", "title": "", "year": 2001, "tags": ["a", "b"]},
    {
        "id": "ألف",
        "text": "الجسر طويل.\tنعم\u2028سطر",
        "title": '"quoted" \\ 🎉',
        "lang": "ar",
        "deep": {"x": [1, None]},
    },
    {"id": "odd", "text": "e\u0301 and é, nothing\u200b more", "year": None, "rate": 0.5, "ok": True},
)


@pytest.fixture
def news(xsearch: Xsearch, tmp_path: Path) -> Xsearch:
    """The command, with an index ``news`` of four documents and two files."""
    write_lines(tmp_path / "news.jsonl", *DOCUMENTS)
    (tmp_path / "files").mkdir()
    for name in ("old", "new"):
        (tmp_path / "files" / f"{name}.txt").write_text(f"This is an {name} text.")
    assert xsearch("index", "news", "news.jsonl", "files", "-q").code == 0
    return xsearch


def stored(name: str = "news") -> dict[str, Any]:
    with Index.open(Path("indexes", name)) as index:
        return {document.doc_id: document for document in index}


# list


def test_list(news: Xsearch) -> None:
    assert news("index", "茶", "files", "-q").code == 0
    outcome = news("list")
    assert (outcome.code, outcome.err) == (0, "")
    first, second = outcome.out.splitlines()
    assert first.startswith("news                         6 documents")
    assert " builtin  en" in first
    # Wide characters count as wide.
    assert second.startswith("茶                           2 documents")
    rows = news("list", "--json").json
    assert [(row["name"], row["documents"]) for row in rows] == [("news", 6), ("茶", 2)]
    assert rows[0]["languages"]["en"] >= 2


@pytest.mark.parametrize("there", [True, False])
def test_list_where_there_is_nothing(xsearch: Xsearch, there: bool) -> None:
    if there:
        Path("indexes/no-index").mkdir(parents=True)
        Path("indexes/README.md").write_text("x")
    outcome = xsearch("list")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "No index in indexes. Make one with: xsearch index NAME SOURCE...\n"
    assert xsearch("list", "--json").json == []


def damage(index: Path, kind: str) -> None:
    catalog = index / "catalog.sqlite"
    if kind == "text":
        catalog.write_text("this is not a database, but long enough to look like one\n" * 100)
    elif kind == "empty":
        catalog.write_bytes(b"")
    elif kind == "cut":
        catalog.write_bytes(catalog.read_bytes()[:4096])
    else:
        connection = sqlite3.connect(catalog)
        value, key = {
            "newer": ("99", "schema_version"),
            "no fingerprint": ("null", "fingerprint"),
            "odd fingerprint": ('{"name": "x"}', "fingerprint"),
        }[kind]
        connection.execute("update settings set value = ? where key = ?", (value, key))
        connection.commit()
        connection.close()


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "newer", "no fingerprint", "odd fingerprint"])
def test_a_damaged_index_among_good_ones(news: Xsearch, kind: str) -> None:
    shutil.copytree("indexes/news", "indexes/bad")
    shutil.copytree("indexes/news", "indexes/zoo")
    damage(Path("indexes/bad"), kind)
    outcome = news("list")
    assert (outcome.code, outcome.err) == (0, "")
    bad, good, zoo = outcome.out.splitlines()
    assert bad.startswith("bad                  cannot be read: ")
    assert str(Path("indexes/bad/catalog.sqlite")) in bad or str(Path("indexes/bad")) in bad
    assert good.startswith("news ") and zoo.startswith("zoo ")
    assert "error" in news("list", "--json").json[0]
    for command in (["info"], ["repair"], ["search", "x"], ["export"], ["delete", "plain"]):
        refused(news(command[0], "bad", *command[1:]), "indexes")
    # It can be deleted all the same.
    assert news("delete", "bad", "--yes").out == f"Deleted the index {Path('indexes/bad')}\n"
    assert not Path("indexes/bad").exists()


# info


def test_info(news: Xsearch) -> None:
    rows = dict(line.split(None, 1) for line in news("info", "news").out.splitlines())
    assert rows["Index"] == str(Path("indexes/news"))
    assert rows["Documents"] == "6"
    assert rows["Encoder"].startswith("builtin (384 dimensions, ")
    assert "Unfinished" not in rows
    found = news("info", "news", "--json").json
    assert (found["documents"], found["passage_tokens"], found["unfinished"]) == (6, 160, None)
    assert sum(found["languages"].values()) == found["passages"]
    assert found["fingerprint"]["dim"] == 384
    size = sum(file.stat().st_size for file in Path("indexes/news").rglob("*") if file.is_file())
    assert 0 <= found["size"] - size <= 2**15  # SQLite's shared memory is a file while the index is open


# delete


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 1), (b"\n", 1), (b"", 130)])
def test_the_whole_index_is_not_deleted_without_a_yes(news: Xsearch, answer: bytes, code: int) -> None:
    outcome = news("delete", "news", stdin=answer)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err.startswith(f"Delete the whole index {Path('indexes/news')}? [y/N]: ")
    assert len(stored()) == 6


@pytest.mark.parametrize(("flags", "answer"), [(["--yes"], b""), (["-y"], b""), ([], b"y\n")])
def test_delete_the_whole_index(news: Xsearch, flags: list[str], answer: bytes) -> None:
    outcome = news("delete", "news", *flags, stdin=answer)
    assert (outcome.code, outcome.out) == (0, f"Deleted the index {Path('indexes/news')}\n")
    assert not Path("indexes/news").exists()
    refused(news("delete", "news", *flags), "There is no index")


def test_delete_documents_by_id(news: Xsearch) -> None:
    assert news("delete", "news", "ألف", "plain", "plain").out == "Deleted 2 documents\n"
    files = {str(Path("files", name).absolute()) for name in ("old.txt", "new.txt")}
    assert set(stored()) == {"two words", "odd"} | files
    hits = news("search", "news", "bridge", "--json").json["hits"]
    assert {hit["doc_id"] for hit in hits} == set(stored())


@pytest.mark.parametrize("path", ["files/old.txt", "./files/old.txt", "files/../files/old.txt"])
def test_delete_a_file_by_a_shorter_path(news: Xsearch, path: str) -> None:
    assert news("delete", "news", path) == Outcome(0, "Deleted 1 documents\n", "")
    assert str(Path("files/old.txt").absolute()) not in stored()


def test_delete_by_filter(news: Xsearch) -> None:
    assert news("delete", "news", "odd", "--where", "year < 2001 or year >= 2000").out == "Deleted 3 documents\n"
    assert "ألف" in stored()
    refused(news("delete", "news", "--where", "year <"), "year <")
    assert news("delete", "news", "--where", "year = 5").out == "Deleted 0 documents\n"


def test_delete_what_is_not_there(news: Xsearch) -> None:
    outcome = news("delete", "news", "nobody", "plain", "nothing", "--where", "year = 2001")
    assert outcome.out == "Deleted 2 documents\n"
    assert outcome.err == "Not in the index: nobody\nNot in the index: nothing\n"
    assert news("delete", "news", "nobody", "-q") == Outcome(0, "Deleted 0 documents\n", "")


# export


def test_export_and_index_again(news: Xsearch) -> None:
    # Not splitlines: a line separator in a text parts no record.
    lines = news("export", "news").out.split("\n")
    assert [json.loads(line)["_id"] for line in lines[:4]] == ["plain", "two words", "ألف", "odd"]
    assert news("export", "news", "-o", "out.jsonl") == Outcome(0, "", "")
    assert Path("out.jsonl").read_text(encoding="utf-8").split("\n") == lines
    assert news("index", "copy", "out.jsonl", "--json").json["skipped"] == []
    for doc_id, document in stored().items():
        copy = stored("copy")[doc_id]
        fields = ("text", "title", "lang", "source", "metadata")
        assert [getattr(copy, name) for name in fields] == [getattr(document, name) for name in fields]
    assert list(stored("copy")) == list(stored())
    assert news("export", "copy").out.split("\n") == lines


def test_export_to_a_file_that_cannot_be_written(news: Xsearch) -> None:
    refused(news("export", "news", "-o", "nowhere/out.jsonl"), "cannot be written")


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1.5 * 2**20, "1.5 MiB"), (2**52, "4096.0 TiB")]
)
def test_sizes(size: float, text: str) -> None:
    assert readable_size(size) == text

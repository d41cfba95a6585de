"""``xsearch index --dry-run``: the numbers are those of the real run, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import DEMO, Outcome, Xsearch, write_lines
from xsearch.corpus.source import read_source
from xsearch.records import Document


def disk(index: Path) -> int:
    return sum(file.stat().st_size for file in index.rglob("*") if file.is_file())


def test_the_numbers_of_the_demo_corpus(xsearch: Xsearch, demo: tuple[Path, Outcome]) -> None:
    outcome = xsearch("index", "demo", DEMO, "--dry-run", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    plan, real = outcome.json, demo[1].json
    for name in ("documents", "passages", "tokens"):
        assert plan[name] == real[name], name
    assert plan["unchanged"] == 0
    assert plan["disk_bytes"] == pytest.approx(disk(demo[0] / "demo"), rel=0.3)
    assert plan["search_memory_bytes"] - plan["passages"] * 384 * 4 == 260 * 2**20
    assert 0.1 < plan["seconds"] < 600
    assert not Path("indexes").exists()


@pytest.mark.parametrize("kind", ["five times", "short"])
def test_the_disk_that_other_corpora_take(xsearch: Xsearch, kind: str) -> None:
    documents = [item for item in read_source(str(DEMO)) if isinstance(item, Document)]
    if kind == "short":
        texts = [text[:60] for item in documents for text in item.text.split("\n\n")[:2]]
    else:
        # Copies of a third of it: the encoder is what takes the time here.
        texts = [f"{item.text}\n\n{copy}" for copy in range(5) for item in documents[::15]]
    write_lines(Path("texts.jsonl"), *({"id": str(n), "text": text, "n": n} for n, text in enumerate(texts)))
    plan = xsearch("index", "x", "texts.jsonl", "--dry-run", "--json").json
    real = xsearch("index", "x", "texts.jsonl", "--json").json
    for name in ("documents", "passages", "tokens"):
        assert plan[name] == real[name], name
    assert plan["disk_bytes"] == pytest.approx(disk(Path("indexes/x")), rel=0.3)


def test_text_for_people(xsearch: Xsearch) -> None:
    write_lines(Path("a.jsonl"), {"id": "1", "text": "The bridge is long."}, {"id": "2", "text": "茶" * 2000})
    Path("b.jsonl").write_text("{\n")
    outcome = xsearch("index", "x", "a.jsonl", "b.jsonl", "--dry-run")
    labels = [line[:17].strip() for line in outcome.out.splitlines()]
    assert labels == ["Documents", "Passages", "Tokens", "Disk", "Memory, indexing", "Memory, search", "Time"]
    rows = {line[:17].strip(): line[17:].split() for line in outcome.out.splitlines()}
    assert rows["Documents"] == ["2"]
    assert rows["Disk"][1] == "MiB" and rows["Time"][1] == "s"
    assert outcome.err.startswith("Skipped ") and "b.jsonl:1" in outcome.err
    assert not Path("indexes").exists()


def test_an_index_that_is_there_gives_its_settings_and_what_it_holds(xsearch: Xsearch) -> None:
    rows = [{"id": str(n), "text": f"Note {n}. " + "The bridge is long. " * 20} for n in range(4)]
    write_lines(Path("a.jsonl"), *rows)
    assert xsearch("index", "x", "a.jsonl", "--passage-tokens", "32").code == 0
    before = {file: file.read_bytes() for file in Path("indexes").rglob("*") if file.is_file()}
    rows[1]["text"] += "And old."
    write_lines(Path("a.jsonl"), *rows, {"id": "new", "text": "One more."})
    outcome = xsearch("index", "x", "a.jsonl", "--dry-run")
    assert "Unchanged                     3\n" in outcome.out
    plan = xsearch("index", "x", "a.jsonl", "--dry-run", "--json").json
    assert {file: file.read_bytes() for file in Path("indexes").rglob("*") if file.is_file()} == before
    real = xsearch("index", "x", "a.jsonl", "--json").json
    assert (plan["documents"], plan["unchanged"]) == (real["documents"], real["unchanged"]) == (5, 3)
    assert (plan["passages"], plan["tokens"]) == (real["passages"], real["tokens"])
    rebuilt = xsearch("index", "x", "a.jsonl", "--dry-run", "--json", "--rebuild", "--passage-tokens", "64").json
    assert rebuilt["unchanged"] == 0 and rebuilt["passages"] < 5 * plan["passages"]
    assert xsearch("info", "x", "--json").json["passage_tokens"] == 32


def test_nothing_to_do(xsearch: Xsearch) -> None:
    Path("empty").mkdir()
    plan = xsearch("index", "x", "empty", "--dry-run", "--json").json
    assert (plan["documents"], plan["passages"], plan["tokens"]) == (0, 0, 0)
    assert plan["seconds"] < 1

"""``xsearch index``: end to end on small corpora, through interruptions, bad files and second thoughts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.conftest import GUARDED, Outcome, Xsearch, process, refused, start, write_lines
from xsearch.encoder.builtin import MINI_FOLDER
from xsearch.index import Index

# A run that commits often and stands still once 24 documents are dealt with, as a slow one would when it is killed.
STANDING_STILL = """
import time
from pathlib import Path
import xsearch.ingest
from xsearch.cli.progress import IngestProgress
xsearch.ingest.LOOK_DOCUMENTS = xsearch.ingest.ENCODE_PASSAGES = 8
xsearch.ingest.COMMIT_SECONDS = 0
count = IngestProgress.count
def count_and_stand(self, documents):
    count(self, documents)
    if self._documents >= 24:
        Path("standing").touch()
        time.sleep(60)
IngestProgress.count = count_and_stand
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files in three languages."""
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "nile.md").write_text("# The Nile\n\nThe Nile is the longest river in Africa.\n")
    (folder / "berg.txt").write_text("Die Zugspitze ist der höchste Berg Deutschlands.\n", encoding="cp1252")
    (folder / "sub" / "茶.txt").write_text("绿茶和红茶来自同一种植物的叶子。\n", encoding="gb18030")
    return folder


def doc_ids(name: str = "news") -> list[str]:
    with Index.open(Path("indexes", name)) as index:
        return [document.doc_id for document in index]


def test_the_demo_corpus_without_network(demo: tuple[Path, Outcome]) -> None:
    folder, outcome = demo
    assert (outcome.code, outcome.err) == (0, "")
    report = outcome.json
    assert (report["documents"], report["added"], report["skipped"], report["cut"]) == (90, 90, [], 0)
    assert report["passages"] == sum(report["languages"].values()) == report["index"]["passages"]
    assert set(report["languages"]) >= {"en", "de", "es", "fr", "ar", "hi", "vi", "zh", "ru", "ja"}
    assert (folder / "demo" / "catalog.sqlite").is_file()


def test_again_after_changes(xsearch: Xsearch, corpus: Path) -> None:
    first = xsearch("index", "news", corpus)
    assert (first.code, first.err) == (0, "")
    assert first.out.splitlines()[0] == "3 documents read: 3 added"
    assert first.out.splitlines()[1].startswith("3 passages encoded (")
    assert first.out.splitlines()[1].endswith(" tokens, 0 cut): de 1, en 1, zh 1")
    assert first.out.splitlines()[2] == f"Index {Path('indexes/news')}: 3 documents"

    same = xsearch("index", "news", corpus)
    assert same.out == f"3 documents read: 3 unchanged\nIndex {Path('indexes/news')}: 3 documents\n"

    (corpus / "nile.md").write_text("# The Nile\n\nThe Nile flows into the Mediterranean Sea.\n")
    (corpus / "berg.txt").unlink()
    (corpus / "new.txt").write_text("A bridge of stone.")
    changed = xsearch("index", "news", corpus, "--json").json
    assert (changed["added"], changed["updated"], changed["unchanged"], changed["pruned"]) == (1, 1, 1, 0)
    assert changed["languages"] == {"en": 2}
    assert changed["index"]["documents"] == 4

    pruned = xsearch("index", "news", corpus, "--prune")
    assert pruned.out.splitlines()[0] == "3 documents read: 3 unchanged, 1 pruned"
    assert doc_ids() == [str(corpus / "sub" / "茶.txt"), str(corpus / "new.txt"), str(corpus / "nile.md")]
    hit = xsearch("search", "news", "Which sea does the Nile flow into?", "-k", "1", "--json").json["hits"][0]
    assert hit["text"] == "The Nile flows into the Mediterranean Sea."


def test_one_source_by_many_paths(xsearch: Xsearch, corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert xsearch("index", "news", corpus).code == 0
    ids = doc_ids()
    for path in ("corpus", "./corpus/", "corpus/../corpus", corpus / "sub" / ".."):
        outcome = xsearch("index", "news", path, "--prune")
        assert outcome.out.splitlines()[0] == "3 documents read: 3 unchanged", path
    (corpus / "berg.txt").unlink()
    monkeypatch.chdir(corpus / "sub")
    gone = xsearch("index", corpus.parent / "indexes" / "news", "..", "--prune", "--json").json
    assert (gone["unchanged"], gone["pruned"]) == (2, 1)
    monkeypatch.chdir(corpus.parent)
    assert doc_ids() == [doc_id for doc_id in ids if not doc_id.endswith("berg.txt")]


def test_two_sources_and_pruning_one(xsearch: Xsearch, corpus: Path) -> None:
    write_lines(Path("notes.jsonl"), {"id": "1", "text": "Tea is a drink."}, {"id": "2", "text": "Coffee is a drink."})
    assert xsearch("index", "news", corpus, "notes.jsonl", "--json").json["added"] == 5
    write_lines(Path("notes.jsonl"), {"id": "2", "text": "Coffee is a drink."})
    (corpus / "nile.md").unlink()
    report = xsearch("index", "news", "notes.jsonl", "--prune", "--json").json
    assert (report["unchanged"], report["pruned"], report["index"]["documents"]) == (1, 1, 4)


def test_fields_of_a_table(xsearch: Xsearch) -> None:
    Path("t.csv").write_text("key;body;name;tongue;year\na 1;Die Sonne scheint.;Wetter;de;1999\n", encoding="utf-8")
    refused(xsearch("index", "news", "t.csv", "--text-field", "boody"), "t.csv", "'boody'", "--text-field")
    flags = ["--text-field", "body", "--id-field", "key", "--title-field", "name", "--lang-field", "tongue"]
    assert xsearch("index", "news", "t.csv", *flags).code == 0
    with Index.open("indexes/news") as index:
        (document,) = index
    assert (document.doc_id, document.text, document.title, document.lang) == (
        "a 1",
        "Die Sonne scheint.",
        "Wetter",
        "de",
    )
    assert document.metadata["year"] in (1999, "1999")


def test_the_language_is_said(xsearch: Xsearch, corpus: Path) -> None:
    assert xsearch("index", "news", corpus / "nile.md", "--lang", "deu", "--json").json["languages"] == {"de": 1}


def test_lines_from_standard_input(xsearch: Xsearch) -> None:
    outcome = xsearch("index", "lines", "-", stdin="Erste Zeile.\n\n第二行。\n".encode())
    assert outcome.out.startswith("2 documents read: 2 added\n")
    assert doc_ids("lines") == ["-#1", "-#3"]


# Bad files


def test_a_bad_file_is_skipped_counted_and_named(xsearch: Xsearch, corpus: Path) -> None:
    (corpus / "picture.png").write_bytes(b"\x89PNG")
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
    (corpus / "rows.jsonl").write_text('{"text": "good row"}\n{"text": \n{"text": "last row"}\n')
    outcome = xsearch("index", "news", corpus)
    assert outcome.code == 0
    assert outcome.out.splitlines()[0] == "5 documents read: 5 added, 3 skipped"
    skipped = outcome.err.splitlines()
    assert [line.split(": ")[0] for line in skipped] == [
        f"Skipped {corpus}/broken.pdf",
        f"Skipped {corpus}/picture.png",
        f"Skipped {corpus}/rows.jsonl:2",
    ]
    assert xsearch("index", "news", corpus, "-q").err == ""
    report = xsearch("index", "news", corpus, "--json").json
    assert [(item["source"], item["line"]) for item in report["skipped"]][2] == (f"{corpus}/rows.jsonl", 2)


def test_many_bad_records_hide_no_other_file(xsearch: Xsearch, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"text": "good row"}\n' + "{\n" * 30)
    (folder / "b.pdf").write_bytes(b"no PDF")
    outcome = xsearch("index", "news", folder)
    lines = outcome.err.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        f"Skipped {folder}/a.jsonl:2",
        f"Skipped {folder}/a.jsonl:3",
        f"Skipped {folder}/a.jsonl:4",
        f"Skipped 27 more of {folder}/a.jsonl; --json names all",
        f"Skipped {folder}/b.pdf",
    ]
    assert "31 skipped" in outcome.out


def test_many_bad_files_are_counted_and_some_named(xsearch: Xsearch, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.png").touch()
    (folder / "good.txt").write_text("A good text.")
    outcome = xsearch("index", "news", folder)
    lines = outcome.err.splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 10 more; --json names all"
    assert "30 skipped" in outcome.out


def test_stop_at_the_first_bad_record(xsearch: Xsearch, corpus: Path) -> None:
    (corpus / "rows.jsonl").write_text('{"text": "good row"}\n{"text": \n{"text": "last row"}\n')
    outcome = xsearch("index", "news", corpus, "--on-error", "stop")
    refused(outcome, f"{corpus}/rows.jsonl:2: ", "--on-error skip")
    # What came before it is kept, and the rest comes with the next run.
    assert doc_ids() == [f"{corpus}/berg.txt", f"{corpus}/nile.md", f"{corpus}/rows.jsonl#1"]
    (corpus / "rows.jsonl").write_text('{"text": "good row"}\n{"text": "mended"}\n{"text": "last row"}\n')
    again = xsearch("index", "news", corpus, "--on-error", "stop", "--json")
    assert again.err.startswith("Resuming: ")
    assert (again.json["added"], again.json["unchanged"]) == (3, 3)


def test_sources_that_are_wrong_are_told_before_anything_is_made(xsearch: Xsearch, corpus: Path) -> None:
    refused(xsearch("index", "news", "nowhere"), "nowhere: there is no such file or folder")
    refused(xsearch("index", "news", corpus, "nowhere/*.txt"), "no file matches")
    refused(xsearch("index", "news", corpus, "--encoding", "utf-9"), "utf-9")
    refused(xsearch("index", "news", corpus, "hf:some/dataset"), "hf:some/dataset", "HF_HUB_OFFLINE")
    assert not Path("indexes").exists()


def test_ids_that_come_twice(xsearch: Xsearch) -> None:
    rows = [{"id": "1", "text": "First text."}, {"id": "1", "text": "Second text."}]
    write_lines(Path("rows.jsonl"), *rows)
    for policy, kept in (("replace", "Second text."), ("skip", "First text.")):
        outcome = xsearch("index", policy, "rows.jsonl", "--on-duplicate", policy)
        assert "1 with an id that came twice" in outcome.out
        assert json.loads(xsearch("export", policy).out)["text"] == kept
    refused(xsearch("index", "error", "rows.jsonl", "--on-duplicate", "error"), "'1' came a second time")
    assert json.loads(xsearch("export", "error").out)["text"] == "First text."


# An index is of one encoder and one length of passages


def test_another_encoder_is_refused(xsearch: Xsearch, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in MINI_FOLDER.iterdir():
        (other / file.name).symlink_to(file)
    config = json.loads((MINI_FOLDER / "xsearch_encoder.json").read_text())
    (other / "xsearch_encoder.json").unlink()
    (other / "xsearch_encoder.json").write_text(json.dumps({**config, "query_prompt": "question: "}))
    assert xsearch("index", "news", corpus).code == 0
    for command in (("index", "news", corpus), ("search", "news", "x"), ("index", "news", corpus, "--dry-run")):
        refused(xsearch(*command, "--encoder", other), "builtin (384 dimensions", f"{other} (384 dimensions", "prompt")
    assert doc_ids() == doc_ids()
    rebuilt = xsearch("index", "news", corpus, "--encoder", other, "--rebuild", "--json").json
    assert (rebuilt["added"], rebuilt["index"]["fingerprint"]["name"]) == (3, str(other))
    assert xsearch("search", "news", "river", "-k", "1", "--json").json["hits"][0]["lang"] == "en"


def test_another_length_of_passages_is_refused(xsearch: Xsearch, corpus: Path) -> None:
    assert xsearch("index", "news", corpus, "--passage-tokens", "64").code == 0
    assert xsearch("index", "news", corpus, "--passage-tokens", "64").code == 0
    for more in ([], ["--dry-run"]):
        refused(xsearch("index", "news", corpus, "--passage-tokens", "65", *more), "64 tokens, not 65", "--rebuild")
    assert xsearch("info", "news", "--json").json["passage_tokens"] == 64
    assert xsearch("index", "news", corpus, "--passage-tokens", "65", "--rebuild").code == 0
    assert xsearch("info", "news", "--json").json["passage_tokens"] == 65


@pytest.mark.parametrize(
    "wrong",
    [["--encoder", "nobody/nothing"], ["--passage-tokens", "9999"], ["--lang-field", "x", "--encoding", "utf-9"]],
)
def test_a_rebuild_that_cannot_be_done_keeps_the_old_index(xsearch: Xsearch, corpus: Path, wrong: list[str]) -> None:
    assert xsearch("index", "news", corpus).code == 0
    outcome = xsearch("index", "news", corpus, "--rebuild", *wrong)
    refused(outcome)
    assert len(doc_ids()) == 3


# Interruptions


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Sixty small documents."""
    rows = [{"id": str(n), "text": f"Note {n}: the bridge has {n} arches."} for n in range(60)]
    return write_lines(tmp_path / "many.jsonl", *rows)


def standing(folder: Path) -> subprocess.Popen[bytes]:
    """A run that has dealt with some documents and goes no further."""
    running = start("index", "news", "many.jsonl", cwd=folder, code=STANDING_STILL + GUARDED)
    for _ in range(600):
        if (folder / "standing").exists():
            return running
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    raise AssertionError("the run never came to the point where it is to be stopped")


def resumed(outcome: Outcome) -> int:
    """How many documents of the earlier run the later one, which finished, found in the index."""
    assert outcome.code == 0
    assert outcome.err.startswith("Resuming: the run of 20")
    kept = int(outcome.err.split(" was interrupted after ")[1].split(" ")[0])
    assert outcome.err.endswith(f" was interrupted after {kept} documents; these are not encoded again.\n")
    assert outcome.out.splitlines()[0] == f"60 documents read: {60 - kept} added, {kept} unchanged"
    return kept


def test_interrupted_by_the_user(many: Path, tmp_path: Path, xsearch: Xsearch) -> None:
    with standing(tmp_path) as running:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, b"")
    assert b"What was committed is kept; the same command goes on from there." in err
    assert err.strip().endswith(b"Interrupted.") and b"Traceback" not in err
    assert "was interrupted; run the same command again" in xsearch("info", "news").out
    assert resumed(xsearch("index", "news", "many.jsonl")) == 24
    assert xsearch("info", "news", "--json").json["unfinished"] is None
    again = xsearch("index", "news", "many.jsonl")
    assert (again.err, again.out.splitlines()[0]) == ("", "60 documents read: 60 unchanged")


def test_killed_while_another_one_wants_to_write(many: Path, tmp_path: Path, xsearch: Xsearch) -> None:
    with standing(tmp_path) as running:
        # While it writes nobody else may, and everybody can read what is committed.
        refused(process("index", "news", "many.jsonl", cwd=tmp_path), f"being written by process {running.pid} on")
        refused(xsearch("delete", "news", "--yes"), f"process {running.pid}")
        assert len(xsearch("search", "news", "bridge", "-k", "99", "--json").json["hits"]) == 16
        running.kill()
        running.communicate(timeout=30)
    assert running.returncode == -signal.SIGKILL
    assert xsearch("verify", "news").out.startswith("In order: 16 passages of 16 documents; 16 encoded again agree")
    # Another source is not the run that was interrupted.
    other = write_lines(tmp_path / "other.jsonl", {"id": "other", "text": "Something else."})
    assert xsearch("index", "news", other).err == ""
    assert resumed(process("index", "news", "many.jsonl", cwd=tmp_path)) == 16
    assert xsearch("verify", "news").out.startswith("In order: 61 passages of 61 documents;")
    found = xsearch("search", "news", "bridge", "-k", "99", "--json").json["hits"]
    assert len({hit["doc_id"] for hit in found}) == len(found) == 61


def test_resuming_with_other_settings_is_refused(many: Path, tmp_path: Path, xsearch: Xsearch) -> None:
    with standing(tmp_path) as running:
        running.kill()
        running.communicate(timeout=30)
    refused(xsearch("index", "news", "many.jsonl", "--passage-tokens", "32"), "160 tokens, not 32")
    assert xsearch("info", "news", "--json").json["documents"] == 16


def test_a_name_that_is_no_folder(xsearch: Xsearch, corpus: Path) -> None:
    Path("indexes").mkdir()
    Path("indexes/news").write_text("a file")
    refused(xsearch("index", "news", corpus), f"{Path('indexes/news')} is there already")
    os.remove("indexes/news")
    os.rmdir("indexes")
    Path("indexes").write_text("a file")
    assert "Directory 'indexes' is a file" in xsearch("index", "news", corpus).err
    os.rename("indexes", "plain")
    refused(xsearch("index", "./plain/news", corpus), str(Path("plain/news")))


def test_prune_keeps_what_could_not_be_read_and_deletes_what_is_gone_or_empty(xsearch: Xsearch, corpus: Path) -> None:
    """A file damaged today may be whole again tomorrow; rsync does not delete after an error either."""
    table = corpus / "rows.jsonl"
    table.write_text('{"id": "a", "text": "eins"}\n{"id": "b", "text": "zwei"}\n')
    xsearch("index", "news", corpus)
    (corpus / "nile.md").write_bytes(bytes(range(256)) * 4)
    (corpus / "berg.txt").write_text("  ")
    (corpus / "sub" / "茶.txt").unlink()
    table.write_text('{"id": "a", "text": "eins"}\n{"id": "b", "te\n')
    report = xsearch("index", "news", corpus, "--prune", "--json").json
    assert (report["pruned"], report["kept"]) == (2, 2)
    assert doc_ids() == [(corpus / "nile.md").as_posix(), "a", "b"]
    assert "2 kept as their file could not be read" in xsearch("index", "news", corpus, "--prune").out

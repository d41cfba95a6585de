"""``migrate_index``: another encoder for all documents, the old answers until the end, the old state or the new one."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import FakeEncoder, embed, numbered
from xsearch import ingest
from xsearch.encoder.protocol import Vectors
from xsearch.errors import FingerprintMismatchError, IndexLockedError, IndexNotFoundError, StoreError
from xsearch.index import Index
from xsearch.maintain import exchange as exchange_module
from xsearch.maintain import migrate as migrate_module
from xsearch.maintain.migrate import characters, migrate_index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document
from xsearch.store import files
from xsearch.store.catalog import CATALOG_FILE, open_catalog, read_setting
from xsearch.store.files import writer_lock
from xsearch.store.folder import remove_index

HERE = Path(__file__).resolve().parents[2]
DOCUMENTS = [*numbered(40), Document("auto", "Das ist ein Text. " * 3 + "\n\n" + "This is an English text. " * 8)]
SMALL_STEPS = {"LOOK_DOCUMENTS": 4, "ENCODE_PASSAGES": 6, "COMMIT_PASSAGES": 12}


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL_STEPS.items():
        monkeypatch.setattr(ingest, name, value)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 40 documents, one of them deleted; tests work on copies."""
    path = tmp_path_factory.mktemp("built") / "index"
    with Index.create(path, encoder=FakeEncoder()) as index, index.run(["here"]) as run:
        run.add(DOCUMENTS, origin="here")
    with Index.open(path, encoder=FakeEncoder()) as index:
        index.delete(["doc-00007"])
    return path


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def other(**options: object) -> FakeEncoder:
    """The encoder that comes."""
    return FakeEncoder("other", max_tokens=40, **options)  # type: ignore[arg-type]


def content(path: Path, encoder: FakeEncoder) -> list[object]:
    """All that an index holds and finds, but for ids and order."""
    with Index.open(path, encoder=encoder) as index:
        hits = index.search("word3 part1", k=1000, mode="dense")
        words = {(hit.doc_id, hit.start) for hit in index.search("part0", k=1000, mode="lexical")}
        found = sorted((hit.doc_id, hit.start, hit.end, hit.lang, hit.doc_lang, hit.score) for hit in hits)
        return [list(index), found, words, index.passage_tokens]


def fresh(tmp_path: Path) -> list[object]:
    """What an index holds that was built with the other encoder from the beginning."""
    path = tmp_path / "fresh"
    with Index.create(path, encoder=other(), passage_tokens=40) as index:
        index.add([document for document in DOCUMENTS if document.doc_id != "doc-00007"])
    return content(path, other())


def in_order(path: Path) -> None:
    report = verify_index(path, encoder=other(), sample=1000)
    assert (report.damages, report.remarks) == ((), ())
    assert report.sampled == report.passages
    assert not (path / "migration").exists()
    with Index.open(path, encoder=other()) as index:
        assert len(list((path / "vectors").iterdir())) == index.info().segments
    assert not list(path.rglob("*.tmp*"))


def setting(path: Path, key: str) -> object:
    with open_catalog(path / CATALOG_FILE).reading() as connection:
        return read_setting(connection, key)


def test_the_same_as_built_with_it(copy: Path, tmp_path: Path) -> None:
    before = int(str(setting(copy, "next_passage_id")))
    done: list[int] = []
    report = migrate_index(copy, other(), on_done=done.append)
    assert (report.documents, report.encoded, report.resumed, report.changed) == (40, 40, None, True)
    assert sum(done) == characters(copy) == sum(len(item.text) for item in DOCUMENTS if item.doc_id != "doc-00007")
    assert content(copy, other()) == fresh(tmp_path)
    in_order(copy)
    assert setting(copy, "passage_tokens") == 40
    with Index.open(copy, encoder=other()) as index:
        assert index.info().passages == report.passages
        # Ids are never used again.
        assert min(hit.passage_id for hit in index.search("word", k=1000)) == before
    with pytest.raises(FingerprintMismatchError):
        Index.open(copy, encoder=FakeEncoder())


@pytest.mark.parametrize("tokens", [None, 20, 64])
def test_a_later_run_finds_nothing_changed(copy: Path, tokens: int | None) -> None:
    migrate_index(copy, FakeEncoder("other"), passage_tokens=tokens)
    encoder = FakeEncoder("other")
    with Index.open(copy, encoder=encoder) as index, index.run(["here"]) as run:
        report = run.add([item for item in DOCUMENTS if item.doc_id != "doc-00007"], origin="here")
        assert (report.unchanged, run.prune().deleted) == (40, 0)
        assert index.passage_tokens == (tokens or 64)
    assert encoder.calls == []


def test_searches_meanwhile_and_after(copy: Path) -> None:
    """The old index answers until the last moment; who has it open is told then, and mixes nothing."""
    reader = Index.open(copy, encoder=FakeEncoder())
    writer = Index.open(copy, encoder=FakeEncoder())
    expected = reader.search("word3 part1", k=1000, mode="dense")
    answers = []

    def look(_call: int, vectors: Vectors) -> Vectors:
        answers.append(reader.search("word3 part1", k=1000, mode="dense"))
        with pytest.raises(IndexLockedError):
            writer.add([Document("new", "text")])
        return vectors

    migrate_index(copy, other(spoil=look))
    assert len(answers) > 5
    assert all(answer == expected for answer in answers)
    with pytest.raises(StoreError, match=r"went over to another encoder.*Open it again"):
        reader.search("word3 part1")
    # Else it would put vectors of the old encoder among those of the new.
    with pytest.raises(StoreError, match=r"went over to another encoder.*Open it again"):
        writer.add([Document("new", "text")])
    in_order(copy)


def test_nothing_to_do(copy: Path) -> None:
    before = content(copy, FakeEncoder())
    encoder = FakeEncoder()
    report = migrate_index(copy, encoder)
    assert (report.changed, report.encoded, encoder.calls) == (False, 0, [])
    assert content(copy, FakeEncoder()) == before


def test_other_passages_with_the_same_encoder(copy: Path, tmp_path: Path) -> None:
    migrate_index(copy, FakeEncoder(), passage_tokens=16)
    with Index.create(tmp_path / "fresh", encoder=FakeEncoder(), passage_tokens=16) as index:
        index.add([document for document in DOCUMENTS if document.doc_id != "doc-00007"])
    assert content(copy, FakeEncoder()) == content(tmp_path / "fresh", FakeEncoder())


def test_there_and_back(built: Path, copy: Path) -> None:
    expected = content(built, FakeEncoder())
    migrate_index(copy, other())
    migrate_index(copy, FakeEncoder(), passage_tokens=64)
    assert content(copy, FakeEncoder()) == expected


def test_an_empty_index(tmp_path: Path) -> None:
    Index.create(tmp_path / "index", encoder=FakeEncoder()).close()
    assert migrate_index(tmp_path / "index", other()).passages == 0
    with Index.open(tmp_path / "index", encoder=other()) as index:
        index.add([Document("new", "text")])
        assert index.verify() == 1


def test_refusals(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        migrate_index(tmp_path / "nothing", other())
    with writer_lock(copy), pytest.raises(IndexLockedError):
        migrate_index(copy, other())
    assert not (copy / "migration").exists()


def test_an_encoder_that_fails(built: Path, copy: Path, tmp_path: Path) -> None:
    """The index is the old one, and what was encoded is not encoded again."""
    first = other(spoil=lambda call, vectors: vectors if call < 4 else vectors * np.nan)
    with pytest.raises(Exception, match="not finite"):
        migrate_index(copy, first)
    assert content(copy, FakeEncoder()) == content(built, FakeEncoder())
    second = other()
    report = migrate_index(copy, second)
    assert report.resumed is not None
    assert report.encoded < 40
    assert not set(second.encoded) & {text for call in first.calls[:2] for text in call}
    assert content(copy, other()) == fresh(tmp_path)


def test_changed_between_two_attempts(copy: Path, tmp_path: Path) -> None:
    """What was added, changed and deleted after an interrupted migration; ids that were given out meanwhile are not
    given out again."""
    with pytest.raises(KeyboardInterrupt):
        migrate_index(copy, other(spoil=interrupt))
    with Index.open(copy, encoder=FakeEncoder()) as index:
        index.add([Document("new", "a new text", lang="en"), Document("doc-00000", "another text", lang="en")])
        index.delete(["doc-00001"])
        used = int(str(setting(copy, "next_passage_id")))
    migrate_index(copy, other())
    in_order(copy)
    with Index.open(copy, encoder=other()) as index:
        hits = index.search("text", k=1000, mode="dense")
        assert {hit.doc_id for hit in hits} == {item.doc_id for item in index}
        assert min(hit.passage_id for hit in hits) >= used
        assert index.get("doc-00001") is None
        vectors = embed([f"{hit.title} {hit.text}".strip() for hit in hits], "other")
        expected = vectors.astype(np.float16).astype(np.float32) @ embed(["text"], "other")[0]
        np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-6)


def interrupt(call: int, vectors: Vectors) -> Vectors:
    if call == 4:
        raise KeyboardInterrupt
    return vectors


def test_another_encoder_than_the_last_time(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        migrate_index(copy, FakeEncoder("third", spoil=interrupt))
    report = migrate_index(copy, other())
    assert (report.resumed, report.encoded) == (None, 40)
    assert content(copy, other()) == fresh(tmp_path)


def test_what_is_left_of_an_attempt_can_be_anything(copy: Path, tmp_path: Path) -> None:
    (copy / "migration").mkdir()
    (copy / "migration" / CATALOG_FILE).write_bytes(b"no database")
    migrate_index(copy, other())
    assert content(copy, other()) == fresh(tmp_path)


def test_an_index_with_an_unfinished_migration_is_deleted_whole(copy: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        migrate_index(copy, other(spoil=interrupt))
    (copy / f"{CATALOG_FILE}.v2.bak").write_bytes(b"a copy")
    remove_index(copy)
    assert not copy.exists()


def test_without_hard_links(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_arguments: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", no_links)
    migrate_index(copy, other())
    assert content(copy, other()) == fresh(tmp_path)


STEPS = ("while it encodes", "before the links", "between the links", "before the passages", "before the words",
         "before the commit", "after the commit", "half the removal")  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(built: Path, copy: Path, tmp_path: Path, step: str) -> None:
    command = [sys.executable, "-m", "tests.maintain.test_migrate", str(copy), step]
    assert subprocess.run(command, cwd=HERE, check=False).returncode == 77
    with closing(sqlite3.connect(copy / CATALOG_FILE)) as connection:
        ((name,),) = connection.execute("SELECT value FROM settings WHERE key = 'encoder'").fetchall()
    new = step in ("after the commit", "half the removal")
    assert name == ('"other"' if new else '"fake"')
    if new:
        assert content(copy, other()) == fresh(tmp_path)
        assert verify_index(copy, encoder=other()).in_order
    else:
        assert content(copy, FakeEncoder()) == content(built, FakeEncoder())
        assert verify_index(copy, encoder=FakeEncoder()).in_order
    encoder = other()
    report = migrate_index(copy, encoder)
    assert report.changed == (not new)
    if step != "while it encodes":
        assert encoder.calls == []
    in_order(copy)
    if not new:
        assert content(copy, other()) == fresh(tmp_path)


def die(*_arguments: object, **_options: object) -> None:
    os._exit(77)


def die_at(step: str) -> None:
    links: list[object] = []
    original = exchange_module.link_file

    def link_file(*arguments):  # type: ignore[no-untyped-def]
        links.append(arguments)
        if len(links) == 2:
            die()
        original(*arguments)

    def remove(folder):  # type: ignore[no-untyped-def]
        next(iter(Path(folder).glob("vectors/*"))).unlink()
        die()

    if step == "before the links":
        migrate_module.exchange = die  # type: ignore[assignment]
    if step == "between the links":
        exchange_module.link_file = link_file
    if step == "before the passages":
        exchange_module._copy_passages = die  # type: ignore[assignment]
    if step == "before the words":
        exchange_module.renew_words = die  # type: ignore[assignment]
    if step == "before the commit":
        exchange_module.uuid4 = die  # type: ignore[assignment]
    if step == "after the commit":
        migrate_module._remove_side = lambda path: die() if (path / "migration" / CATALOG_FILE).exists() else None
    if step == "half the removal":
        migrate_module.shutil.rmtree = remove  # type: ignore[assignment]


if __name__ == "__main__":
    for option, number in SMALL_STEPS.items():
        setattr(ingest, option, number)
    die_at(sys.argv[2])
    dying = other(spoil=lambda call, vectors: die() if call == 4 else vectors)  # type: ignore[func-returns-value]
    migrate_index(Path(sys.argv[1]), dying if sys.argv[2] == "while it encodes" else other())

"""The index from outside: create, open, write, search, close; one process or several, and by any number of threads."""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends import SQLITE_ONLY
from tests.fakes import FakeEncoder, docs, embed, numbered
from xsearch import ingest
from xsearch.encoder.protocol import unit_vectors
from xsearch.errors import (
    EncoderNotFoundError,
    FilterError,
    FingerprintMismatchError,
    IndexDamagedError,
    IndexExistsError,
    IndexLockedError,
    IndexNotFoundError,
    InvalidArgumentError,
    NonFiniteVectorError,
    SettingsMismatchError,
    StoreError,
)
from xsearch.index import Index
from xsearch.records import Document, Hits, Query
from xsearch.search.retrieve import SearchOptions
from xsearch.store import searcher, verify
from xsearch.store.catalog import CATALOG_FILE
from xsearch.store.files import LOCK_FILE, writer_lock
from xsearch.store.folder import remove_index
from xsearch.store.vectors import VECTORS_FOLDER, RawVectors, Segment

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def index(path: Path, catalog_url: str | None) -> Iterator[Index]:
    with Index.create(path, encoder=FakeEncoder(), catalog=catalog_url) as made:
        yield made


def ids(hits: Hits) -> list[str]:
    return [hit.doc_id for hit in hits]


def key(hits: Hits) -> list[tuple[int, str, float]]:
    return [(hit.passage_id, hit.text, hit.score) for hit in hits]


class TestCreate:
    def test_a_new_folder_below_new_folders(self, tmp_path: Path) -> None:
        with Index.create(tmp_path / "a" / "b c" / "ü?#%41", encoder=FakeEncoder()) as index:
            index.add(docs("one"))
            assert ids(index.search("one")) == ["d1"]
        assert len(Index.open(tmp_path / "a" / "b c" / "ü?#%41")) == 1

    def test_an_empty_folder(self, path: Path) -> None:
        path.mkdir()
        assert len(Index.create(path, encoder=FakeEncoder())) == 0

    def test_an_index_that_is_there(self, index: Index, path: Path) -> None:
        index.add(docs("one"))
        with pytest.raises(IndexExistsError, match="is there already"):
            Index.create(path, encoder=FakeEncoder())
        assert len(index) == 1

    @pytest.mark.parametrize("name", ["notes.txt", ".hidden", VECTORS_FOLDER, f"{CATALOG_FILE}-wal"])
    def test_a_folder_with_something_in_it(self, path: Path, name: str) -> None:
        path.mkdir()
        (path / name).write_text("mine")
        with pytest.raises(IndexExistsError):
            Index.create(path, encoder=FakeEncoder())
        assert [file.name for file in path.iterdir()] == [name]

    def test_a_file(self, path: Path) -> None:
        path.write_text("mine")
        with pytest.raises(IndexExistsError):
            Index.create(path, encoder=FakeEncoder())
        with pytest.raises(StoreError, match="cannot be written"):
            Index.create(path / "below", encoder=FakeEncoder())
        assert path.read_text() == "mine"

    def test_leftovers_of_a_killed_creation(self, path: Path) -> None:
        """Pitfall 1: killed at any step, a creation can be done again."""
        path.mkdir()
        for name in (LOCK_FILE, f"{CATALOG_FILE}.tmp", f"{CATALOG_FILE}.tmp-wal", f"{CATALOG_FILE}.tmp-shm"):
            (path / name).write_bytes(b"half")
        with pytest.raises(IndexNotFoundError):
            Index.open(path)
        with Index.create(path, encoder=FakeEncoder()) as index:
            index.add(docs("one"))
        assert ids(Index.open(path, encoder=FakeEncoder()).search("one")) == ["d1"]

    def test_somebody_else_is_creating(self, path: Path) -> None:
        path.mkdir()
        with writer_lock(path), pytest.raises(IndexLockedError):
            Index.create(path, encoder=FakeEncoder())

    @pytest.mark.parametrize("tokens", [-1, 1, 9, 65, 10_000])
    def test_passages_of_impossible_length(self, path: Path, tokens: int) -> None:
        with pytest.raises(InvalidArgumentError, match=f"A passage is to have {tokens} tokens"):
            Index.create(path, encoder=FakeEncoder(), passage_tokens=tokens)
        assert not path.exists()


class TestOpen:
    @pytest.mark.parametrize("what", ["nothing", "a file", "an empty folder", "a folder of something else"])
    def test_no_index(self, path: Path, what: str) -> None:
        if what == "a file":
            path.write_text("text")
        elif what != "nothing":
            path.mkdir()
        if what == "a folder of something else":
            (path / VECTORS_FOLDER).mkdir()
        with pytest.raises(IndexNotFoundError, match="xsearch index NAME SOURCE"):
            Index.open(path)
        with pytest.raises(IndexNotFoundError):
            remove_index(path)
        assert path.exists() == (what != "nothing")

    def test_the_same_hits_as_before(self, index: Index, path: Path) -> None:
        index.add(numbered(80))
        before = [index.search(f"word{n} part1", k=20) for n in range(10)]
        index.close()
        with Index.open(path, encoder=FakeEncoder()) as opened:
            assert [key(opened.search(f"word{n} part1", k=20)) for n in range(10)] == [key(hits) for hits in before]

    def test_elsewhere(self, index: Index, path: Path, tmp_path: Path) -> None:
        """Pitfall 28: an index is its folder; it can be copied and renamed."""
        index.add(numbered(20))
        expected = key(index.search("word3", k=99))
        index.close()
        shutil.copytree(path, tmp_path / "copy")
        shutil.rmtree(path)
        with Index.open(tmp_path / "copy", encoder=FakeEncoder()) as copy:
            assert key(copy.search("word3", k=99)) == expected

    def test_another_encoder_of_the_same_dimension(self, index: Index, path: Path) -> None:
        """Pitfall 9: an error that names both, what differs, and the ways out."""
        with pytest.raises(FingerprintMismatchError) as caught:
            Index.open(path, encoder=FakeEncoder("other"))
        message = str(caught.value)
        for part in ("encoder fake (16 dim", "given is other (16 dim", "weights", "--encoder fake", "--encoder other"):
            assert part in message

    def test_an_encoder_that_reads_another_length(self, index: Index, path: Path) -> None:
        with pytest.raises(FingerprintMismatchError, match="max_tokens 64 / 128"):
            Index.open(path, encoder=FakeEncoder(max_tokens=128))

    def test_a_model_that_changed_under_its_name(
        self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pitfall 9: found out when the encoder is loaded, at the first use."""
        changed = FakeEncoder("another one")
        monkeypatch.setattr("xsearch.index.load_encoder", lambda name, device: changed)
        opened = Index.open(path)
        assert len(opened) == 0
        for use in (lambda: opened.search("x"), lambda: opened.add(docs("one"))):
            with pytest.raises(FingerprintMismatchError):
                use()

    def test_another_length_of_passages(self, index: Index) -> None:
        """Pitfall 3: refused before anything is read or written."""
        assert index.passage_tokens == 64
        with pytest.raises(SettingsMismatchError, match="passages of 64 tokens, not 32"), index.run(passage_tokens=32):
            pytest.fail("another length")
        with index.run(passage_tokens=64):
            pass

    def test_the_encoder_is_not_loaded_for_what_needs_none(
        self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index.add(docs("one"))
        monkeypatch.setattr("xsearch.index.load_encoder", lambda *a, **k: pytest.fail("loaded"))
        with Index.open(path) as opened:
            opened.info(), opened.get("d1"), list(opened), len(opened), opened.verify()
            assert opened.delete(["d1"]) == 1


class TestRead:
    def test_get_find_iterate_len(self, index: Index) -> None:
        given = numbered(1100)  # more than are read at a time
        index.add(given)
        assert list(index) == given
        assert len(index) == 1100
        assert index.get("doc-00007") == given[7]
        assert index.get("nobody") is None
        assert index.find("number >= 1098") == ["doc-01098", "doc-01099"]
        with pytest.raises(FilterError):
            index.find("")

    def test_iterating_sees_one_state(self, index: Index) -> None:
        index.add(numbered(1100))
        seen = []
        for document in index:
            if not seen:
                index.delete([f"doc-{number:05d}" for number in range(1100)])
            seen.append(document.doc_id)
        assert len(seen) == 1100
        assert len(index) == 0

    def test_info(self, index: Index, path: Path) -> None:
        empty = index.info()
        assert (empty.documents, empty.passages, empty.segments, empty.generation) == (0, 0, 0, 0)
        index.add(numbered(8))
        index.add(numbered(4, start=8))
        info = index.info()
        assert info.path == str(path)
        assert (info.documents, info.segments, info.passage_tokens, info.generation) == (12, 2, 64, 2)
        assert info.languages == {"en": 4, "de": 4, "zh-Hant": 4, "ar": 4}
        assert list(info.languages.values()) == sorted(info.languages.values(), reverse=True)
        assert info.passages == sum(info.languages.values())
        assert info.fingerprint == FakeEncoder().fingerprint
        assert info.size > (path / VECTORS_FOLDER / "000001.npy").stat().st_size
        assert info.unfinished is None
        assert info.to_dict()["fingerprint"]["name"] == "fake"

    @SQLITE_ONLY
    def test_info_while_files_come_and_go(self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        gone = path / f"{CATALOG_FILE}-wal"
        monkeypatch.setattr(Path, "rglob", lambda self, pattern: iter([gone, path / CATALOG_FILE]))
        assert index.info().size == (path / CATALOG_FILE).stat().st_size

    def test_verify(self, index: Index, path: Path) -> None:
        """Pitfall 2: all is read, and the file that is damaged is named."""
        assert index.verify() == 0
        index.add(docs("one"))
        index.add([Document("b", "two")])
        assert index.verify() == 2
        second = path / VECTORS_FOLDER / "000002.npy"
        content = bytearray(second.read_bytes())
        content[-1] ^= 1
        second.write_bytes(content)
        with pytest.raises(IndexDamagedError, match=r"000002\.npy"):
            index.verify()


class TestSearch:
    def test_hits_hold_all_there_is(self, index: Index) -> None:
        index.add([Document("a", "one two", "Title", "deu", "f.txt", {"n": [1, {"x": None}]})])
        (hit,) = index.search("Title one two")
        assert hit.to_dict() == {
            "rank": 1, "score": pytest.approx(1, abs=1e-3), "passage_id": 1, "doc_id": "a", "lang": "de",
            "doc_lang": "de", "title": "Title", "text": "one two", "source": "f.txt", "start": 0, "end": 7,
            "metadata": {"n": [1, {"x": None}]}, "best": None, "cosine": pytest.approx(1, abs=1e-3),
            "bm25": pytest.approx(0, abs=1e-3),
        }  # fmt: skip

    def test_order_and_ranks(self, index: Index) -> None:
        """Pitfall 30: score descending, then passage id descending; equal texts tie."""
        index.add(docs(*["same text"] * 150, "other words", "same text here"))
        hits = index.search("same text", k=100)
        assert [hit.rank for hit in hits] == list(range(1, 101))
        assert [hit.passage_id for hit in hits] == list(range(150, 50, -1))
        assert len({hit.score for hit in hits}) == 1

    def test_scores_are_cosines(self, index: Index) -> None:
        given = numbered(30)
        index.add(given)
        stored = {hit.passage_id: hit for hit in index.search("anything", k=999)}
        query = embed(["anything"])[0]
        for hit in stored.values():
            title = next(document.title for document in given if document.doc_id == hit.doc_id)
            expected = float(embed([f"{title} {hit.text}" if title else hit.text])[0] @ query)
            assert hit.score == pytest.approx(expected, abs=2e-3)  # float16 on disk
            assert -1 <= hit.score <= 1

    def test_an_empty_index(self, index: Index) -> None:
        hits = index.search("anything", k=5)
        assert list(hits) == []
        assert hits.query.text == "anything"
        assert list(index.search("anything", langs=["de"], where="x = 1", mark=True)) == []
        assert index.search_many([]) == []

    def test_more_than_there_are(self, index: Index) -> None:
        index.add(docs("one", "two"))
        assert len(index.search("one", k=10**9)) == 2

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_must_be_positive(self, index: Index, k: int) -> None:
        with pytest.raises(InvalidArgumentError, match=f"k is {k}"):
            index.search("x", k=k)

    def test_one_text_for_a_list_of_queries(self, index: Index) -> None:
        """It would be searched for character by character."""
        with pytest.raises(InvalidArgumentError, match=r"It must be a list of queries\. Pass \['tea'\]"):
            index.search_many("tea")

    @pytest.mark.parametrize("query", ["", " ", "\n\t\u3000"])
    def test_a_query_without_text(self, index: Index, query: str) -> None:
        with pytest.raises(InvalidArgumentError, match="has no text"):
            index.search(query)

    @pytest.mark.parametrize("query", ["ü", "水", "😀", "a\0b", "\ud800", "x " * 5000, "'\"; --", "%"])
    def test_odd_queries(self, index: Index, query: str) -> None:
        index.add(docs("one", "two"))
        assert len(index.search(query)) == 2

    @pytest.mark.parametrize(
        ("langs", "found"),
        [
            (["zh"], {"zh", "zh-Hant"}),
            (["zh-Hant"], {"zh-Hant"}),
            (["zho", "deu"], {"zh", "zh-Hant", "de"}),
            (["ger"], {"de"}),
            (["eng_Latn"], {"en"}),
            (["German"], {"de"}),
            (["fr"], set()),
            ([], {"zh", "zh-Hant", "de", "en"}),
        ],
    )
    def test_languages(self, index: Index, langs: list[str], found: set[str]) -> None:
        index.add([Document(lang, f"text {lang}", lang=lang) for lang in ("zh", "zh-Hant", "de", "en")])
        assert set(ids(index.search("text", langs=langs))) == found

    def test_a_text_for_a_list_of_languages(self, index: Index) -> None:
        """ "de" as a list would be the languages d and e."""
        with pytest.raises(InvalidArgumentError, match="It must be a list of languages"):
            index.search("x", langs="de")

    def test_filters(self, index: Index) -> None:
        index.add(numbered(40))
        assert set(ids(index.search("word", k=99, where="number < 3"))) == {"doc-00000", "doc-00001", "doc-00002"}
        assert set(ids(index.search("word", k=99, where="number < 3", langs=["de"]))) == {"doc-00001"}
        assert list(index.search("word", where="number > 1000")) == []
        # Pitfall 4: as many as are asked for are found among those that fit.
        assert len(index.search("word39 part1", k=5, where="number < 5")) == 5
        with pytest.raises(FilterError):
            index.search("word", where="number <")

    def test_many_at_once_as_one_by_one(self, index: Index) -> None:
        index.add(numbered(200))
        queries = [f"word{n} part{n % 5} number{n}" for n in range(45)]
        options = SearchOptions(k=25, langs=["de", "ar"], where="number > 9")
        together = index.search_many(queries, options)
        alone = [index.search(query, k=25, langs=["de", "ar"], where="number > 9") for query in queries]
        assert [key(hits) for hits in together] == [key(hits) for hits in alone]
        assert [hits.query for hits in together] == [Query(str(n), query) for n, query in enumerate(queries, 1)]
        own = Query("q7", "word1", "en")
        assert index.search(own).query is own

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
    def test_a_query_vector_without_direction(self, path: Path, value: float) -> None:
        """Pitfall 11: no answer instead of a wrong one."""

        class Spoilt(FakeEncoder):
            def encode_queries(self, texts: Any, *, on_progress: Any = None) -> Any:
                return super().encode_queries(texts) * np.float32(value)

        with Index.create(path, encoder=Spoilt()) as index, np.errstate(all="ignore"):
            index.add(docs("one", "two"))
            with pytest.raises(NonFiniteVectorError):
                index.search("one")

    def test_the_best_sentence(self, index: Index) -> None:
        index.add([Document("a", "Nothing here. The river is long. Nothing there.", lang="en")])
        (hit,) = index.search("The river is long.", mark=True)
        assert hit.best is not None
        assert hit.text[hit.best.start : hit.best.end] == "The river is long."

    def test_words_alone_need_no_encoder(self, index: Index, path: Path) -> None:
        index.add(docs("one", "two"))
        with Index.open(path) as opened:  # there is no encoder of the name "fake" to be loaded
            assert [hit.doc_id for hit in opened.search("two", mode="lexical")] == ["d2"]
            for needs in ({"mode": "lexical", "mark": True}, {"mode": "dense"}, {"mode": "hybrid"}):
                with pytest.raises(EncoderNotFoundError):
                    opened.search("two", **needs)


class TestDelete:
    def test_at_once_in_every_open_reader(self, index: Index, path: Path) -> None:
        """Pitfalls 4 and 8: readers open beside the writer, and see what it committed at the next search."""
        index.add(numbered(30))
        with Index.open(path, encoder=FakeEncoder()) as reader:
            best = ids(reader.search("word7", k=3))
            assert index.delete([best[0], "nobody", best[0]]) == 1
            again = ids(reader.search("word7", k=3))
            assert best[0] not in again
            assert again[:2] == best[1:]
            assert len(again) == 3
            assert best[0] not in ids(reader.search("word7", k=10**6))
            assert reader.get(best[0]) is None
            assert len(reader) == 29

    def test_more_than_sqlite_takes_at_once(self, index: Index) -> None:
        index.add(numbered(1200))
        assert index.delete(f"doc-{number:05d}" for number in range(1150)) == 1150
        assert len(index) == 50
        assert index.verify() == len(index.search("x", k=10**6))

    def test_all(self, index: Index) -> None:
        index.add(docs("one", "two"))
        assert index.delete(["d1", "d2"]) == 2
        assert list(index.search("one")) == []
        assert index.verify() == 0
        index.add(docs("one"))
        assert [hit.passage_id for hit in index.search("one")] == [3]

    def test_one_text_for_a_list_of_ids(self, index: Index) -> None:
        """ "d1" as a list would be the ids d and 1."""
        index.add([Document("d", "one"), Document("1", "two")])
        with pytest.raises(InvalidArgumentError, match="It must be a list of ids"):
            index.delete("d1")
        assert len(index) == 2

    def test_nothing(self, index: Index) -> None:
        assert index.delete([]) == 0


class TestReadersAndWriters:
    def test_only_new_vectors_are_read_after_a_commit(
        self, index: Index, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read: list[int] = []

        def counted(folder: Path, segment: Segment) -> RawVectors:
            read.append(segment.number)
            return RawVectors(folder, segment)

        for module in (searcher, verify):
            monkeypatch.setattr(module, "RawVectors", counted)
        index.add(docs("one", "two"))
        assert {hit.doc_id for hit in index.search("one")} == {"d1", "d2"}
        index.add([Document("d3", "three"), Document("d1", "another one")])
        assert {hit.doc_id: hit.text for hit in index.search("one")} == {
            "d1": "another one",
            "d2": "two",
            "d3": "three",
        }
        index.delete(["d2"])
        assert {hit.doc_id for hit in index.search("one")} == {"d1", "d3"}
        assert read == [1, 2]
        assert index.verify() == 2
        assert read == [1, 2, 1, 2]

    def test_a_run_of_more_commits_than_files_may_be_open(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ten million passages come in 2,500 segments; a process may open 1,024 files."""
        for name in ("LOOK_DOCUMENTS", "ENCODE_PASSAGES", "COMMIT_PASSAGES"):
            monkeypatch.setattr(ingest, name, 1)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        opened = len(list(Path("/proc/self/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 20, hard))
        try:
            with index.run() as run:
                run.add(numbered(40))
                assert len(index.search("word7", k=200)) > 40
            assert len(index.search("word7", k=1)) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert index.info().segments == 1

    def test_damage_that_is_mended_while_it_is_open(self, index: Index, path: Path) -> None:
        index.add(docs("one"))
        assert len(index.search("one")) == 1
        index.add([Document("d2", "two"), Document("d3", "three")])
        index.add([Document("d4", "four")])
        file = path / VECTORS_FOLDER / "000003.npy"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        for _ in range(2):
            with pytest.raises(IndexDamagedError, match=r"000003\.npy"):
                index.search("one")
        file.write_bytes(whole)
        for word, doc_id in (("one", "d1"), ("two", "d2"), ("three", "d3"), ("four", "d4")):
            assert index.search(word)[0].doc_id == doc_id
            assert index.search(word, mode="dense")[0].score == pytest.approx(1, abs=1e-3)

    @SQLITE_ONLY
    def test_an_open_reader_does_not_keep_the_log_from_being_emptied(self, index: Index, path: Path) -> None:
        """Else it grows with all that is written while a server waits for questions."""
        index.add(docs("one"))
        assert len(index.search("one")) == 1
        with Index.open(path, encoder=FakeEncoder()) as writer:
            writer.add(numbered(20))
        with closing(sqlite3.connect(path / CATALOG_FILE)) as connection:
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert busy == 0

    def test_an_open_reader_sees_what_another_wrote(self, index: Index, path: Path) -> None:
        with Index.open(path, encoder=FakeEncoder()) as reader:
            assert ids(reader.search("one")) == []
            index.add(docs("one"))
            assert ids(reader.search("one")) == ["d1"]
            index.add(docs("changed"))
            assert [hit.text for hit in reader.search("one")] == ["changed"]

    def test_two_writers(self, index: Index, path: Path) -> None:
        other = Index.open(path, encoder=FakeEncoder())
        with index.run() as run:
            for use in (lambda: other.add(docs("x")), lambda: other.delete(["x"]), lambda: remove_index(path)):
                with pytest.raises(IndexLockedError):
                    use()
            run.add(docs("one"))
            assert ids(other.search("one")) == ["d1"]
        other.add([Document("d2", "two")])
        assert len(index) == 2

    def test_closing_and_going_on(self, index: Index) -> None:
        index.add(docs("one"))
        with index:
            assert ids(index.search("one")) == ["d1"]
        index.close()
        assert ids(index.search("one")) == ["d1"]

    @SQLITE_ONLY
    def test_an_index_built_anew_meanwhile(self, index: Index, path: Path) -> None:
        """The new one may have the same number of changes, and another encoder."""
        index.add(docs("one"))
        assert ids(index.search("one")) == ["d1"]
        remove_index(path)
        with pytest.raises(StoreError, match="cannot be opened"):
            index.search("one")
        assert not path.exists()
        with Index.create(path, encoder=FakeEncoder("other")) as anew:
            anew.add([Document("n1", "one")])
            assert anew.info().generation == 1
        with pytest.raises(StoreError, match="was built anew, or went over"):
            index.search("one")

    def test_threads(self, index: Index) -> None:
        """Pitfall 7: eight threads search while one writes; each sees whole states only."""
        batches = [[Document(f"{batch}-{n}", f"word{n} text", lang="en", metadata={"batch": batch}) for n in range(5)]
                   for batch in range(12)]  # fmt: skip
        done = threading.Event()

        def read() -> list[int]:
            seen = []
            while not done.is_set():
                hits = index.search("word1 text", k=1000)
                seen.append(len(hits))
                assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
                assert len(index) >= len(hits)
                assert all(index.get(hit.doc_id) is not None for hit in hits[:2])
            return seen

        with ThreadPoolExecutor(8) as pool:
            readers = [pool.submit(read) for _ in range(8)]
            try:
                for batch in batches:
                    index.add(batch)
            finally:
                done.set()
        for reader in readers:
            seen = reader.result()
            assert seen == sorted(seen)
            assert not any(count % 5 for count in seen)
        assert len(index.search("word1 text", k=1000)) == 60


class TestRemove:
    def test_all_of_it(self, index: Index, path: Path) -> None:
        index.add(docs("one"))
        index.search("one")
        remove_index(path)
        assert not path.exists()

    def test_what_is_not_ours_stays(self, index: Index, path: Path) -> None:
        index.add(docs("one"))
        index.close()
        (path / "notes.txt").write_text("mine")
        (path / VECTORS_FOLDER / "more.txt").write_text("mine")
        remove_index(path)
        assert sorted(file.name for file in path.rglob("*")) == ["more.txt", "notes.txt", VECTORS_FOLDER]

    def test_what_a_link_leads_to(self, index: Index, path: Path, tmp_path: Path) -> None:
        index.add(docs("one"))
        index.close()
        outside = tmp_path / "outside.npy"
        outside.write_text("mine")
        (path / VECTORS_FOLDER / "link.npy").symlink_to(outside)
        remove_index(path)
        assert outside.read_text() == "mine"

    @SQLITE_ONLY
    def test_a_damaged_one(self, index: Index, path: Path) -> None:
        index.close()
        (path / CATALOG_FILE).write_bytes(b"")
        remove_index(path)
        assert not path.exists()


class TestBruteForce:
    """Pitfall 4: whatever is added, changed and deleted, a search finds what a dict and numpy find."""

    WORDS = ("red", "green", "blue", "one", "two", "rot", "blau", "水", "дом", "بيت")

    @pytest.mark.parametrize("seed", range(4))
    def test_random_operations(self, path: Path, seed: int, catalog_url: str | None) -> None:
        rng = random.Random(seed)
        index = Index.create(path, encoder=FakeEncoder(), catalog=catalog_url)
        known: dict[str, Document] = {}
        for step in range(40):
            change = rng.random()
            if change < 0.5:
                # The last one with an id counts.
                given = [self.document(rng) for _ in range(rng.randint(1, 6))]
                index.add(given)
                known.update({document.doc_id: document for document in given})
                known = {doc_id: document for doc_id, document in known.items() if document.text}
            elif change < 0.75:
                gone = [f"d{rng.randrange(25)}" for _ in range(rng.randint(1, 4))]
                assert index.delete(gone) == len(set(gone) & known.keys())
                for doc_id in gone:
                    known.pop(doc_id, None)
            elif change < 0.85:
                index.close()
                index = Index.open(path, encoder=FakeEncoder())
            self.check(index, known, rng)
            if step % 10 == 9:
                assert index.verify() == len(known)
        index.close()

    def document(self, rng: random.Random) -> Document:
        text = " ".join(rng.choices(self.WORDS, k=rng.choice([0, 1, 2, 2, 3, 5])))
        lang = rng.choice(["en", "de", "zh", "zh-Hant"])
        return Document(f"d{rng.randrange(25)}", text, lang=lang, metadata={"n": rng.randrange(3)})

    def check(self, index: Index, known: dict[str, Document], rng: random.Random) -> None:
        assert {document.doc_id: document for document in index} == known
        query, k = " ".join(rng.choices(self.WORDS, k=2)), rng.choice([1, 3, 10, 100])
        n, lang = rng.choice([None, 0, 1]), rng.choice(["", "", "zh"])
        where = "" if n is None else f"n = {n}"
        hits = index.search(query, k=k, mode="dense", where=where, langs=[lang] if lang else [])
        fitting = [
            document
            for document in known.values()
            if (n is None or document.metadata["n"] == n) and document.lang.startswith(lang)
        ]
        vectors = unit_vectors(embed([document.text for document in fitting])).astype(np.float16).astype(np.float32)
        expected = np.sort(np.vecdot(vectors, unit_vectors(embed([query]))[0]).clip(-1, 1))[::-1][:k]
        assert [hit.score for hit in hits] == expected.tolist()
        pairs = [(hit.score, hit.passage_id) for hit in hits]
        assert pairs == sorted(pairs, reverse=True)
        assert len({hit.doc_id for hit in hits}) == len(hits)
        for hit in hits:
            assert (hit.text, hit.lang, hit.metadata) == (
                known[hit.doc_id].text, known[hit.doc_id].lang, known[hit.doc_id].metadata,
            )  # fmt: skip


class TestBuiltinEncoder:
    def test_from_one_process_to_another(self, path: Path) -> None:
        """With the encoder that ships: found across languages, and the same in another process."""
        with Index.create(path) as index:
            index.add(
                [
                    Document("vertrag", "Der Vertrag wurde von beiden Ministern in Paris unterschrieben.", lang="de"),
                    Document("wetter", "Morgen regnet es im ganzen Land, und es wird kalt.", lang="de"),
                    Document("水", "水在零度时结冰。", lang="zh"),
                ]
            )
            hits = index.search("Who signed the treaty?", k=3)
            assert hits[0].doc_id == "vertrag"
            assert index.search("At what temperature does water freeze?", k=1)[0].doc_id == "水"
        code = (
            "import sys; from xsearch import Index\n"
            "with Index.open(sys.argv[1]) as index:\n"
            "    print([(hit.doc_id, hit.score) for hit in index.search('Who signed the treaty?', k=3)])"
        )
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code, str(path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == str([(hit.doc_id, hit.score) for hit in hits])

    def test_its_index_is_not_for_others(self, path: Path) -> None:
        Index.create(path).close()
        with pytest.raises(FingerprintMismatchError, match=r"builtin \(\d+ dimensions.*fake \(16 dimensions"):
            Index.open(path, encoder=FakeEncoder())

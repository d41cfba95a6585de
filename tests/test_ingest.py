"""Ingestion: what is encoded and what is not, what is counted, and what stays when something goes wrong."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes import DIM, FakeEncoder, docs, embed, numbered
from xsearch import ingest as ingest_module
from xsearch.encoder.protocol import Vectors
from xsearch.errors import (
    DuplicateDocumentError,
    EncoderError,
    InvalidArgumentError,
    NonFiniteVectorError,
    ReadError,
    StoreError,
)
from xsearch.index import Index
from xsearch.ingest import DuplicatePolicy, IngestReport
from xsearch.records import Document
from xsearch.text.passages import with_title

HERE = Path(__file__).resolve().parents[1]


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def index(tmp_path: Path, encoder: FakeEncoder) -> Iterator[Index]:
    with Index.create(tmp_path / "index", encoder=encoder) as made:
        yield made


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4 documents, encoded 8 passages at a time, committed after 16: many steps with few documents."""
    monkeypatch.setattr(ingest_module, "LOOK_DOCUMENTS", 4)
    monkeypatch.setattr(ingest_module, "ENCODE_PASSAGES", 8)
    monkeypatch.setattr(ingest_module, "COMMIT_PASSAGES", 16)


def counts(report: IngestReport) -> dict[str, Any]:
    """The report's counts that are not 0."""
    names = ("documents", "added", "updated", "unchanged", "relabelled", "empty", "duplicates", "pruned")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def texts(index: Index) -> dict[str, str]:
    return {document.doc_id: document.text for document in index}


def nested(depth: int) -> list[Any]:
    """Lists within each other."""
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


class TestChanges:
    def test_new_unchanged_changed(self, index: Index, encoder: FakeEncoder) -> None:
        report = index.add(docs("one", "two", "three"))
        assert counts(report) == {"documents": 3, "added": 3}
        assert (report.passages, report.tokens, report.cut) == (3, 9, 0)
        assert report.languages == {"en": 3}
        encoder.calls.clear()
        report = index.add(docs("one", "two changed", "three"))
        assert counts(report) == {"documents": 3, "updated": 1, "unchanged": 2}
        assert encoder.encoded == ["two changed"]
        assert texts(index) == {"d1": "one", "d3": "three", "d2": "two changed"}
        # Pitfall 5: the old vector is gone.
        assert [hit.doc_id for hit in index.search("two changed")] == ["d2", "d3", "d1"]
        assert index.info().passages == 3

    def test_nothing_new_encodes_nothing(self, index: Index, encoder: FakeEncoder) -> None:
        index.add(numbered(50))
        encoder.calls.clear()
        generation = index.info().generation
        assert counts(index.add(numbered(50))) == {"documents": 50, "unchanged": 50}
        assert encoder.calls == []
        assert index.info().generation == generation

    def test_nothing_at_all(self, index: Index, encoder: FakeEncoder) -> None:
        assert counts(index.add([])) == {}
        assert encoder.calls == []

    def test_metadata_alone_are_not_encoded_again(self, index: Index, encoder: FakeEncoder) -> None:
        index.add([Document("a", "text", lang="en", metadata={"year": 1}), Document("b", "text b", lang="en")])
        encoder.calls.clear()
        report = index.add(
            [
                Document("a", "text", lang="en", metadata={"year": 2}),
                Document("b", "text b", lang="en", source="new.txt"),
            ]
        )
        assert counts(report) == {"documents": 2, "relabelled": 2}
        assert encoder.calls == []
        found = {hit.doc_id: hit for hit in index.search("text")}
        assert found["a"].metadata == {"year": 2}
        assert found["b"].source == "new.txt"
        assert index.find("year = 2") == ["a"]

    @pytest.mark.parametrize(
        "changed",
        [Document("a", "text", title="New title", lang="en"), Document("a", "text", title="Title", lang="de")],
    )
    def test_another_title_or_language_is_encoded_again(
        self, index: Index, encoder: FakeEncoder, changed: Document
    ) -> None:
        index.add([Document("a", "text", title="Title", lang="en")])
        assert encoder.encoded == ["Title text"]
        encoder.calls.clear()
        assert counts(index.add([changed])) == {"documents": 1, "updated": 1}
        assert encoder.encoded == [f"{changed.title} text"]
        assert index.search("text")[0].lang == changed.lang

    def test_composed_and_decomposed_are_the_same_text(self, index: Index, encoder: FakeEncoder) -> None:
        """Pitfall 18: NFC and NFD of one text hash alike."""
        text = "Über Ärger in Việt Nam: für 각"
        nfc, nfd = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
        assert nfc != nfd
        index.add([Document("a", nfc, lang="de")])
        encoder.calls.clear()
        assert counts(index.add([Document("a", nfd, lang="de")])) == {"documents": 1, "unchanged": 1}
        assert encoder.calls == []

    def test_a_document_that_becomes_empty_is_deleted(self, index: Index) -> None:
        """Pitfall 21: empty and white-space texts are counted and not stored."""
        index.add(docs("one", "two"))
        report = index.add(
            [Document("d1", " \n\t "), Document("d9", ""), Document("d8", "\u3000", title="Only a title")]
        )
        assert counts(report) == {"documents": 3, "empty": 3}
        assert texts(index) == {"d2": "two"}
        assert [hit.doc_id for hit in index.search("one")] == ["d2"]

    def test_each_vector_is_that_of_its_passage(self, index: Index, small_steps: None) -> None:
        """Pitfall 1: ids and vectors stay in step over many batches."""
        index.add(numbered(60))
        hits = index.search("word12 part3", k=1000, mode="dense")
        assert len(hits) == index.info().passages > 80
        query = embed(["word12 part3"])[0]
        titles = {document.doc_id: document.title for document in numbered(60)}
        stored = embed([with_title(titles[hit.doc_id], hit.text) for hit in hits]).astype(np.float16).astype(np.float32)
        np.testing.assert_allclose([hit.score for hit in hits], stored @ query, atol=1e-6)


class TestDuplicates:
    """Pitfall 6: the same id twice, in one batch and across batches, by each policy."""

    FIRST = ("one", "two", "three", "four", "five", "six")

    def twice(self) -> list[Document]:
        return [*docs(*self.FIRST), *docs("uno", "due")]

    @pytest.fixture(params=["one batch", "across batches", "across commits"])
    def batches(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.param != "one batch":
            monkeypatch.setattr(ingest_module, "LOOK_DOCUMENTS", 2)
            monkeypatch.setattr(ingest_module, "ENCODE_PASSAGES", 3)
        if request.param == "across commits":
            monkeypatch.setattr(ingest_module, "COMMIT_PASSAGES", 1)

    def test_replace(self, index: Index, batches: None) -> None:
        report = index.add(self.twice())
        assert (report.documents, report.duplicates) == (8, 2)
        assert texts(index) == dict(
            zip(("d1", "d2", "d3", "d4", "d5", "d6"), ("uno", "due", *self.FIRST[2:]), strict=True)
        )
        assert index.info().passages == 6
        assert {hit.text for hit in index.search("x", k=99)} == {"uno", "due", *self.FIRST[2:]}
        assert index.verify() == 6

    def test_skip(self, index: Index, batches: None) -> None:
        report = index.add(self.twice(), on_duplicate="skip")
        assert counts(report) == {"documents": 8, "added": 6, "duplicates": 2}
        assert list(texts(index).values()) == list(self.FIRST)

    def test_error(self, index: Index, batches: None) -> None:
        with pytest.raises(DuplicateDocumentError, match=r"'d1' came a second time \(from the caller\)"):
            index.add(self.twice(), on_duplicate=DuplicatePolicy.ERROR)
        # What came before is there, all of it.
        assert list(texts(index).values()) == list(self.FIRST)
        assert index.verify() == 6

    @pytest.mark.parametrize("policy", ["skip", "error"])
    def test_an_id_of_an_earlier_run_is_no_duplicate(self, index: Index, batches: None, policy: str) -> None:
        index.add(docs(*self.FIRST))
        report = index.add(docs("uno", *self.FIRST[1:]), on_duplicate=policy)
        assert counts(report) == {"documents": 6, "updated": 1, "unchanged": 5}

    @pytest.mark.parametrize("policy", ["replace", "skip", "error"])
    def test_an_unchanged_document_that_comes_twice(self, index: Index, batches: None, policy: str) -> None:
        index.add(docs(*self.FIRST))
        again = docs(*self.FIRST, "seven", *self.FIRST[:1])[:7] + docs("uno")
        if policy == "error":
            with pytest.raises(DuplicateDocumentError):
                index.add(again, on_duplicate=policy)
            assert texts(index)["d7"] == "seven"
        else:
            assert index.add(again, on_duplicate=policy).duplicates == 1
        assert texts(index)["d1"] == ("uno" if policy == "replace" else "one")

    def test_back_to_what_was_stored(self, index: Index, encoder: FakeEncoder, batches: None) -> None:
        """The last one counts, even where it is the one that is stored already."""
        index.add(docs(*self.FIRST))
        index.add([*docs("uno", *self.FIRST[1:]), *docs("one")])
        assert texts(index)["d1"] == "one"
        assert index.verify() == 6

    def test_replaced_by_an_empty_one(self, index: Index, batches: None) -> None:
        report = index.add([*docs(*self.FIRST), Document("d1", "")])
        assert (report.empty, report.duplicates) == (1, 1)
        assert "d1" not in texts(index)
        assert index.verify() == 5

    @pytest.mark.parametrize("policy", ["", "REPLACE", "first", None])
    def test_another_policy(self, index: Index, policy: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="'replace', 'skip' or 'error'"):
            index.add([], on_duplicate=policy)

    @pytest.mark.parametrize("policy", ["replace", "skip"])
    def test_all_are_reported_as_done(self, index: Index, batches: None, policy: str) -> None:
        index.add(docs("one", "zwei"))
        done: list[int] = []
        met = [*self.twice(), *self.twice(), Document("d1", ""), Document("e", "")]
        with index.run() as run:
            report = run.add(met, on_duplicate=DuplicatePolicy(policy), on_done=done.append)
        assert sum(done) == report.documents == len(met)


class TestResume:
    """Pitfall 3: an interrupted run keeps what it did, and the next does only the rest."""

    def interrupted_after(self, documents: list[Document], error: BaseException) -> Iterator[Document]:
        yield from documents
        raise error

    def test_only_the_rest_is_encoded(self, index: Index, encoder: FakeEncoder, small_steps: None) -> None:
        everything = numbered(60)
        with pytest.raises(KeyboardInterrupt), index.run(["here"]) as run:
            run.add(self.interrupted_after(everything[:40], KeyboardInterrupt()), origin="here")
        before = set(encoder.encoded)
        done = len(index)
        assert 28 <= done <= 40
        assert index.verify() == len(before)
        assert index.info().unfinished is not None
        encoder.calls.clear()
        with index.run(["here"]) as run:
            assert run.interrupted is not None
            assert run.interrupted.documents == done
            report = run.add(everything, origin="here")
        assert counts(report) == {"documents": 60, "added": 60 - done, "unchanged": done}
        assert not before & set(encoder.encoded)
        assert index.info().unfinished is None
        assert texts(index) == {document.doc_id: document.text for document in everything}

    def test_what_was_encoded_is_not_lost(
        self, index: Index, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Encoding is what takes hours: every vector that was made before the interruption is in the index."""
        monkeypatch.setattr(ingest_module, "LOOK_DOCUMENTS", 2)
        monkeypatch.setattr(ingest_module, "ENCODE_PASSAGES", 3)
        with pytest.raises(KeyboardInterrupt):
            index.add(self.interrupted_after(docs(*"abcdefghijk"), KeyboardInterrupt()))
        assert list(texts(index).values()) == encoder.encoded == list("abcdefgh")

    @pytest.mark.parametrize("error", [ReadError("f.txt", "bad", "good", "mend"), InvalidArgumentError("a", "b", "c")])
    def test_a_document_that_is_refused_costs_none_before_it(self, index: Index, error: Exception) -> None:
        with pytest.raises(type(error)):
            index.add(self.interrupted_after(docs("one", "two", "three"), error))
        assert list(texts(index).values()) == ["one", "two", "three"]

    def test_the_encoder_fails_in_its_third_call(self, tmp_path: Path, small_steps: None) -> None:
        def spoil(call: int, vectors: Vectors) -> Vectors:
            if call == 3:
                raise EncoderError("out of memory", "memory", "buy some")
            return vectors

        failing = FakeEncoder(spoil=spoil)
        with Index.create(tmp_path / "failing", encoder=failing) as index:
            with pytest.raises(EncoderError, match="out of memory"):
                index.add(numbered(60))
            assert index.verify() == len(failing.calls[0]) + len(failing.calls[1])
            rest = index.add(numbered(60))
        assert rest.unchanged > 0
        assert rest.added == 60 - rest.unchanged

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
    def test_vectors_without_direction(self, tmp_path: Path, small_steps: None, value: float) -> None:
        """Pitfall 11: NaN, infinity or all zeros never reach the disk; the batches before stay."""

        def spoil(call: int, vectors: Vectors) -> Vectors:
            if call == 3:
                vectors[1] = value
            return vectors

        spoiling = FakeEncoder(spoil=spoil)
        with Index.create(tmp_path / "spoilt", encoder=spoiling) as index:
            with pytest.raises(NonFiniteVectorError):
                index.add(numbered(60))
            assert index.verify() == len(spoiling.calls[0]) + len(spoiling.calls[1])
            assert all(np.isfinite(hit.score) for hit in index.search("word", k=999))

    def test_vectors_that_are_not_of_length_one(self, tmp_path: Path) -> None:
        """Pitfall 11: an encoder that forgot to normalise gives the same scores as one that did not."""
        with Index.create(tmp_path / "long", encoder=FakeEncoder(spoil=lambda call, vectors: vectors * 7)) as index:
            index.add(docs("one two", "three"))
            assert [hit.score for hit in index.search("one two", k=1, mode="dense")] == pytest.approx([1.0], abs=1e-3)

    @pytest.mark.parametrize("shape", [(1, DIM), (3, DIM), (2, DIM - 1), (2, DIM + 1), (0,), (2,)])
    def test_vectors_of_another_shape(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        """Pitfall 10: both shapes are named, and nothing is written, nor is the old version deleted."""
        wrong = [False]

        def spoil(call: int, vectors: Vectors) -> Vectors:
            return np.ones(shape, dtype=np.float32) if wrong[0] else vectors

        with Index.create(tmp_path / "shape", encoder=FakeEncoder(spoil=spoil)) as index:
            index.add(docs("one", "two"))
            wrong[0] = True
            with pytest.raises(EncoderError) as caught:
                index.add(docs("uno", "due"))
            assert str(shape) in caught.value.given
            assert "(2, 16)" in caught.value.expected
            assert texts(index) == {"d1": "one", "d2": "two"}
            assert index.verify() == 2

    def test_disk_full(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        index.add(docs("one", "two"))

        def fsync(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", fsync)
            with pytest.raises(StoreError, match="No space left on device"):
                index.add(docs("uno", "due", "tre"))
        assert texts(index) == {"d1": "one", "d2": "two"}
        assert index.verify() == 2
        assert counts(index.add(docs("uno", "due", "tre"))) == {"documents": 3, "updated": 2, "added": 1}


class TestPrune:
    def test_by_origin_only(self, index: Index) -> None:
        with index.run(["x", "y"]) as run:
            run.add([Document("x1", "one"), Document("x2", "two")], origin="x")
            run.add([Document("y1", "three")], origin="y")
        index.add([Document("z", "by hand")])
        with index.run(["x"]) as run:
            run.add([Document("x2", "two"), Document("x3", "four")], origin="x")
            assert run.prune().deleted == 1
        assert set(texts(index)) == {"x2", "x3", "y1", "z"}
        with index.run(["x", "y"]) as run:
            assert run.prune().deleted == 3
        assert set(texts(index)) == {"z"}

    def test_a_document_that_moved_to_another_source_stays(self, index: Index) -> None:
        with index.run(["x"]) as run:
            run.add([Document("a", "one")], origin="x")
        with index.run(["y"]) as run:
            run.add([Document("a", "one")], origin="y")
        with index.run(["x"]) as run:
            assert run.prune().deleted == 0

    def test_a_refused_duplicate_does_not_make_the_others_look_unmet(self, index: Index) -> None:
        with index.run(["x"]) as run:
            run.add(docs("one", "two"), origin="x")
        with pytest.raises(DuplicateDocumentError), index.run(["x"]) as run:
            run.add([*docs("one", "two"), *docs("one")], origin="x", on_duplicate=DuplicatePolicy.ERROR)
        with index.run(["x"]) as run:
            assert run.interrupted is not None
            assert run.interrupted.documents == 2


class TestText:
    def test_what_cannot_be_stored(self, index: Index) -> None:
        """NUL and lone surrogates become U+FFFD, one for one, so that offsets stay right; in every field."""
        text = "a\0b \ud800 c\udfff. " + "Second sentence of the text \ud83d here. " * 20 + "😀 end"
        index.add(
            [
                Document(
                    "i\ud800d", text, title="t\0\udcff", lang="en", source="dir/\udce9.txt",
                    metadata={"k\udce9": ["v\ud800", {"x": "\udfff"}], "nan": float("nan"), "inf": [float("-inf")]},
                )
            ]
        )  # fmt: skip
        stored = text.translate({0: 0xFFFD, 0xD800: 0xFFFD, 0xDFFF: 0xFFFD, 0xD83D: 0xFFFD})
        document = index.get("i\ud800d")
        assert document == Document(
            "i\ufffdd", stored, title="t\ufffd\ufffd", lang="en", source="dir/\ufffd.txt",
            metadata={"k\ufffd": ["v\ufffd", {"x": "\ufffd"}], "nan": None, "inf": [None]},
        )  # fmt: skip
        hits = index.search("Second sentence", k=100)
        assert len(hits) > 1
        assert all(hit.text == stored[hit.start : hit.end] for hit in hits)
        assert index.find("nan is null and doc_id = 'i\ud800d'") == ["i\ufffdd"]
        assert index.delete(["i\ud800d"]) == 1

    def test_sources_that_cannot_be_stored(self, index: Index) -> None:
        """A file name that is no UTF-8 comes from the system with lone surrogates."""
        for expected in (0, 1):
            with index.run(["dir\udce9"]) as run:
                run.add(docs("one", "two")[expected:], origin="dir\udce9")
                assert run.prune().deleted == expected

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", np.float32(1), nested(5000)])
    def test_metadata_that_are_no_json(self, index: Index, value: Any) -> None:
        with pytest.raises(InvalidArgumentError, match="metadata of the document 'bad' are not JSON"):
            index.add([*docs("one"), Document("bad", "text", metadata={"a": value}), Document("late", "text")])
        assert texts(index) == {"d1": "one"}

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({"doc_id": "2", "text": "two"}, "{'doc_id': '2', 'text': 'two'} is no Document"),
            ("two", "two is no Document"),
            (Document(2, "two"), "Document(doc_id=2, text='two'"),  # type: ignore[arg-type]
            (Document("2", None), "or one whose text is no text"),  # type: ignore[arg-type]
            (Document("2", "two", lang=None), "or one whose lang is no text"),  # type: ignore[arg-type]
        ],
    )
    def test_what_is_no_document(self, index: Index, bad: Any, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=re.escape(message)):
            index.add([*docs("one"), bad])
        assert texts(index) == {"d1": "one"}

    def test_one_document_for_a_list_of_documents(self, index: Index) -> None:
        with pytest.raises(InvalidArgumentError, match="It must be a list of documents"):
            index.add(Document("1", "one"))  # type: ignore[arg-type]
        assert len(index) == 0

    @pytest.mark.parametrize("doc_id", ["", " ", "\n"])
    def test_an_empty_id(self, index: Index, doc_id: str) -> None:
        with pytest.raises(InvalidArgumentError, match=r"A document from f\.txt has the id"):
            index.add([*docs("one"), Document(doc_id, "text", source="f.txt")])
        assert texts(index) == {"d1": "one"}

    @pytest.mark.parametrize(
        "text",
        [
            "Ein Satz. Noch ein Satz! " * 30,
            "東京は日本の首都です。京都は古い都です。" * 12,
            "ประเทศไทยอยู่ในเอเชียตะวันออกเฉียงใต้ " * 20,
            "مرحبا بالعالم. هذه جملة ثانية؟ " * 20,
            "👩‍👩‍👧 and 🇩🇪🇫🇷 e\u0301a\u0308 " * 30,
            "\n\n  leading\r\n\r\nblank\u2028lines \u00a0 \n" * 15,
            "x" * 1000,
            "a",
            "\u200bü",
        ],
    )
    def test_offsets_slice_the_stored_text(self, index: Index, text: str) -> None:
        index.add([Document("a", text)])
        stored = index.get("a")
        assert stored is not None
        assert stored.text == text
        hits = sorted(index.search("x", k=1000), key=lambda hit: hit.start)
        assert "".join(text[hit.start : hit.end] for hit in hits).split() == text.split() or len(hits) > 1
        assert all(hit.text == text[hit.start : hit.end] for hit in hits)
        covered = {place for hit in hits for place in range(hit.start, hit.end)}
        assert all(char.isspace() for place, char in enumerate(text) if place not in covered)

    def test_a_long_text_is_cut_to_fit_and_its_tail_is_found(self, index: Index, encoder: FakeEncoder) -> None:
        """Pitfall 13: nothing is cut in silence."""
        text = "Some filler words here. " * 200 + "The needle lies at the end."
        report = index.add([Document("a", text, lang="en"), *docs("other text")])
        assert report.cut == 0
        assert max(len(encoder.token_offsets([passage])[0]) for passage in encoder.encoded) + 2 <= encoder.max_tokens
        assert "needle" in index.search("The needle lies at the end.", k=1)[0].text

    def test_languages_of_passages(self, index: Index) -> None:
        """Pitfall 15: a language for each passage, not one a document."""
        german = (
            "Der Hund läuft durch den Wald und sucht nach seinem Herrn, der schon lange nach Hause gegangen ist. " * 4
        )
        russian = "Собака бежит через лес и ищет своего хозяина, который уже давно ушёл домой к своей семье. " * 4
        report = index.add([Document("mixed", f"{german}\n\n{russian}")])
        assert set(report.languages) == {"de", "ru"}
        for hit in index.search("x", k=100):
            if "Hund" not in hit.text or "лес" not in hit.text:
                assert hit.lang == ("de" if "Hund" in hit.text else "ru")
        assert {hit.lang for hit in index.search("x", k=100, langs=["ru"])} == {"ru"}

    def test_a_language_that_is_given_counts(self, index: Index) -> None:
        index.add([Document("a", "Der Hund läuft durch den Wald.", lang="swe_Latn"), Document("b", "x", lang="und")])
        assert {(hit.doc_id, hit.lang, hit.doc_lang) for hit in index.search("x")} == {
            ("a", "sv", "sv"),
            ("b", "und", "und"),
        }

    def test_titles(self, index: Index, encoder: FakeEncoder) -> None:
        report = index.add(
            [Document("a", "text", title="  Title "), Document("b", "text", title="very long title " * 40)]
        )
        assert encoder.encoded == ["Title text", "text"]
        assert report.titles_left_out == 1
        assert [hit.title for hit in index.search("Title text")] == ["  Title ", "very long title " * 40]


MEMORY = """
import sys
from collections import deque
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.fakes import FakeEncoder
from xsearch import ingest
from xsearch.index import Index
from xsearch.records import Document

ingest.COMMIT_PASSAGES = 512  # so that the smaller run holds as much at a time as the greater
encoder = FakeEncoder()
encoder.calls = deque(maxlen=1)
with Index.create(sys.argv[2], encoder=encoder) as index:
    count = int(sys.argv[3])
    index.add(Document(f"d{n}", f"first words {n}" + " " * 9000 + "last words", lang="en") for n in range(count))
    assert len(index) == count
# Not getrusage, whose maximum takes in the process that this one was forked from.
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


def test_memory_does_not_grow_with_the_number_of_documents(tmp_path: Path) -> None:
    """Pitfall 22: ten times the documents take at most 15 % more memory; to hold their texts would take half as much
    again. (White space is what is read fastest.)"""
    peaks = []
    for count in (800, 8000):
        command = [sys.executable, "-c", MEMORY, str(HERE), str(tmp_path / str(count)), str(count)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.15 * peaks[0], peaks


def test_passages_that_the_encoder_cannot_read_are_counted_by_language(index: Index) -> None:
    report = index.add(
        [
            Document("snow", "\u2603\u2603\u2603 x", lang="de"),
            Document("half", "\u2603\u2603 ab", lang="de"),
            Document("c", "abc"),
        ]
    )
    assert report.unknown == {"de": 1}

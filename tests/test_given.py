"""Documents with vectors of their own: one passage each, all or nothing of a batch, and no encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from tests.fakes import DIM, FakeEncoder, docs, embed, numbered
from tests.test_ingest import counts, texts
from xsearch import given, vectors
from xsearch.errors import (
    DuplicateDocumentError,
    InvalidArgumentError,
    NonFiniteVectorError,
    StoreError,
    XsearchError,
)
from xsearch.index import Index
from xsearch.maintain.verify import verify_index
from xsearch.records import Document
from xsearch.search.retrieve import Mode
from xsearch.store.catalog import passages
from xsearch.store.writer import Writer

Vectors = vectors.Halves


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def index(tmp_path: Path, encoder: FakeEncoder, catalog_url: str | None) -> Iterator[Index]:
    with Index.create(tmp_path / "index", encoder=encoder, catalog=catalog_url) as made:
        yield made


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 4 rows, committed after 8."""
    monkeypatch.setattr(vectors, "BATCH_ROWS", 4)
    monkeypatch.setattr(given, "COMMIT_ROWS", 8)


def of(documents: Sequence[Document]) -> Any:
    """Vectors of whole documents."""
    return embed([document.text for document in documents])


def one_each(count: int, *, start: int = 1) -> list[Document]:
    return [
        Document(f"d{n}", f"text number{n} of{n % 7}", lang="en", metadata={"n": n})
        for n in range(start, start + count)
    ]


def stored_passages(index: Index) -> list[tuple[Any, ...]]:
    with index._catalog.reading() as connection:
        columns = (passages.c.passage_id, passages.c.doc_key, passages.c.start, passages.c.end, passages.c.tokens)
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(passages.c.passage_id))]


class TestStored:
    def test_each_document_is_one_passage_and_found_by_its_vector(self, index: Index, encoder: FakeEncoder) -> None:
        long = "word " * 500
        given_docs = [*docs("first", "second", title="T"), Document("long", long, lang="de", metadata={"a": [1, None]})]
        report = index.add(given_docs, vectors=of(given_docs))
        assert counts(report) == {"documents": 3, "added": 3}
        assert (report.passages, report.tokens, report.cut, report.languages) == (3, 0, 0, {"en": 2, "de": 1})
        assert encoder.calls == []
        assert [row[2:] for row in stored_passages(index)] == [(0, 5, 0), (0, 6, 0), (0, len(long), 0)]
        hit = index.search(long, k=1)[0]
        assert (hit.doc_id, hit.text, hit.doc_lang, hit.metadata) == ("long", long, "de", {"a": [1, None]})
        assert hit.score == pytest.approx(1, abs=1e-3)
        assert index.search("second", k=1, mode=Mode.LEXICAL)[0].doc_id == "d2"
        assert index.get("d1") == given_docs[0]
        assert index.verify()

    def test_any_scale_and_type_of_numbers(self, index: Index) -> None:
        some = one_each(4)
        index.add(some, vectors=(of(some) * np.array([[1e-3], [1], [7e4], [300]])).astype(np.float64))
        for document in some:
            hit = index.search(document.text, k=1)[0]
            assert (hit.doc_id, round(hit.score, 3)) == (document.doc_id, 1)
        whole = Document("whole", "numbers", lang="en")
        index.add([whole], vectors=np.eye(1, DIM, dtype=np.int8))
        assert index.get("whole") == whole

    def test_no_encoder_is_loaded(self, index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_encoder(*arguments: Any, **options: Any) -> None:
            pytest.fail("loaded")

        monkeypatch.setattr("xsearch.index.load_encoder", no_encoder)
        with Index.open(index.path) as opened:
            assert opened.add(one_each(1), vectors=of(one_each(1))).added == 1

    def test_languages_are_found_out_where_they_are_not_given(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        german = "Der Vertrag wurde gestern in Berlin von beiden Seiten unterschrieben."
        index.add([Document("a", german)], vectors=of([Document("a", german)]))
        assert index.search(german, k=1)[0].doc_lang == "de"
        monkeypatch.setattr(given, "detect", lambda text: pytest.fail("detected"))
        index.add([Document("b", german, lang="DE-de")], vectors=of([Document("b", german)]))
        assert {hit.doc_id: hit.lang for hit in index.search(german)} == {"a": "de", "b": "de-DE"}

    @pytest.mark.parametrize(
        "shape",
        [
            lambda rows: rows,
            lambda rows: rows.tolist(),
            lambda rows: iter(rows),
            lambda rows: (rows[start : start + 3] for start in range(0, len(rows), 3)),
            lambda rows: [rows[:1], rows[1], rows[2], rows[3:]],
        ],
        ids=["array", "lists", "rows", "blocks", "mixed"],
    )
    @pytest.mark.usefixtures("small_steps")
    def test_however_they_come(self, index: Index, shape: Callable[[Any], Any]) -> None:
        some = one_each(21)
        report = index.add(iter(some), vectors=shape(of(some)))
        assert counts(report) == {"documents": 21, "added": 21}
        assert texts(index) == {document.doc_id: document.text for document in some}
        assert [index.search(document.text, k=1)[0].doc_id for document in some] == [item.doc_id for item in some]
        assert [row[0] for row in stored_passages(index)] == list(range(1, 22))
        assert index.info().segments == 3

    @pytest.mark.usefixtures("small_steps")
    def test_from_a_memory_map(self, index: Index, tmp_path: Path) -> None:
        some = one_each(9)
        np.save(tmp_path / "v.npy", of(some))
        assert index.add(some, vectors=np.load(tmp_path / "v.npy", mmap_mode="r")).added == 9
        assert index.search("text number9 of2", k=1)[0].doc_id == "d9"

    def test_nothing(self, index: Index) -> None:
        assert counts(index.add([], vectors=[])) == counts(index.add([], vectors=np.empty((0, DIM)))) == {}
        assert stored_passages(index) == []

    @pytest.mark.usefixtures("small_steps")
    def test_in_a_run_with_others(self, index: Index, encoder: FakeEncoder) -> None:
        with index.run(["here"]) as run:
            run.add(numbered(5), origin="here")
            done: list[int] = []
            run.add(one_each(9), vectors=of(one_each(9)), origin="here", on_done=done.append)
            run.add(numbered(3, start=5), origin="here")
        assert done == [4, 4, 1]
        assert len(index) == 17
        with index.run(["here"], encode=False) as run:
            run.add(one_each(2), vectors=of(one_each(2)), origin="here")
            assert run.prune().deleted == 15
        assert sorted(texts(index)) == ["d1", "d2"]
        assert index.search("text number2 of2", k=1)[0].doc_id == "d2"

    def test_a_run_without_an_encoder_encodes_nothing(self, index: Index) -> None:
        with index.run(encode=False) as run, pytest.raises(InvalidArgumentError, match="came without vectors"):
            run.add(one_each(1))


def test_verify_passes_given_vectors_over(tmp_path: Path) -> None:
    """They are not those of their texts, as far as anybody can tell, and are no damage."""
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add(numbered(4))
        encoded = index.info().passages
        index.add(one_each(50), vectors=embed([f"else {n}" for n in range(50)]))
    report = verify_index(tmp_path / "index", encoder=FakeEncoder(), sample=1_000)
    assert (report.passages, report.sampled, report.damages) == (encoded + 50, encoded, ())
    assert report.lowest_cosine == pytest.approx(1, abs=1e-3)


class TestAgain:
    def test_what_is_the_same_stays(self, index: Index) -> None:
        some = one_each(10)
        index.add(some, vectors=of(some))
        before = stored_passages(index)
        generation = index.info().generation
        assert counts(index.add(some, vectors=of(some))) == {"documents": 10, "unchanged": 10}
        assert stored_passages(index) == before
        assert index.info().generation == generation

    def test_another_vector_text_title_or_language_replaces(self, index: Index) -> None:
        some = one_each(5)
        rows = of(some)
        index.add(some, vectors=rows)
        changed = [
            some[0],
            Document("d2", "other text", lang="en", metadata={"n": 2}),
            Document("d3", some[2].text, title="Title", lang="en", metadata={"n": 3}),
            Document("d4", some[3].text, lang="fr", metadata={"n": 4}),
            some[4],
        ]
        rows = rows.copy()
        rows[4] = embed(["elsewhere"])[0]
        assert counts(index.add(changed, vectors=rows)) == {"documents": 5, "updated": 4, "unchanged": 1}
        assert [row[0] for row in stored_passages(index)] == [1, 6, 7, 8, 9]
        assert index.search("elsewhere", k=1)[0].doc_id == "d5"
        assert index.get("d4") == changed[3]

    def test_other_metadata_leave_the_vector(self, index: Index) -> None:
        some = one_each(2)
        index.add(some, vectors=of(some))
        before = stored_passages(index)
        again = [some[0], Document("d2", some[1].text, lang="en", source="new", metadata={"n": 9})]
        assert counts(index.add(again, vectors=of(again))) == {"documents": 2, "unchanged": 1, "relabelled": 1}
        assert stored_passages(index) == before
        hit = index.search(some[1].text, k=1)[0]
        assert (hit.source, hit.metadata) == ("new", {"n": 9})

    def test_given_and_encoded_are_never_taken_for_each_other(self, index: Index, encoder: FakeEncoder) -> None:
        some = one_each(3)
        index.add(some)
        assert counts(index.add(some, vectors=embed(["x", "y", "z"]))) == {"documents": 3, "updated": 3}
        assert index.search("y", k=1)[0].doc_id == "d2"
        assert counts(index.add(some)) == {"documents": 3, "updated": 3}
        assert index.search(some[1].text, k=1, mode="dense")[0].score == pytest.approx(1, abs=1e-3)


class TestDuplicates:
    """Ids that come twice: in a batch, in the next one, in one that is being written, in one that is committed."""

    AGAIN = (30, 26, 17, 2)
    DOCUMENTS = (*one_each(30), *(Document(f"d{n}", f"again {n}", lang="en") for n in AGAIN), *one_each(2, start=40))

    @pytest.mark.usefixtures("small_steps")
    @pytest.mark.parametrize("held", [False, True])
    def test_replace(self, index: Index, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hold(monkeypatch, held)
        report = index.add(self.DOCUMENTS, vectors=of(self.DOCUMENTS))
        assert (report.documents, report.duplicates, len(index)) == (36, 4, 32)
        for n in self.AGAIN:
            assert texts(index)[f"d{n}"] == f"again {n}"
            assert [hit.doc_id for hit in index.search(f"again {n}", k=1)] == [f"d{n}"]
        assert index.verify()

    @pytest.mark.usefixtures("small_steps")
    @pytest.mark.parametrize("held", [False, True])
    def test_skip(self, index: Index, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self._hold(monkeypatch, held)
        report = index.add(self.DOCUMENTS, vectors=of(self.DOCUMENTS), on_duplicate="skip")
        assert counts(report) == {"documents": 36, "added": 32, "duplicates": 4}
        assert not any(text.startswith("again") for text in texts(index).values())

    @pytest.mark.usefixtures("small_steps")
    @pytest.mark.parametrize("place", [0, 1])
    def test_error(self, index: Index, place: int) -> None:
        """Rows 28 and 29 are in the batch of the first id that comes again."""
        documents = [*one_each(30), self.DOCUMENTS[30 + place]]
        with pytest.raises(DuplicateDocumentError, match=r"Row 30 \(from 0\), the document 'd(30|26)', has an id"):
            index.add(documents, vectors=of(documents), on_duplicate="error")
        assert len(index) == 28
        assert index.verify()

    def test_twice_in_one_batch(self, index: Index) -> None:
        twice = [Document("a", "one", lang="en"), Document("b", "two", lang="en"), Document("a", "three", lang="en")]
        assert counts(index.add(twice, vectors=of(twice))) == {"documents": 3, "added": 2, "duplicates": 1}
        assert texts(index) == {"a": "three", "b": "two"}
        assert index.search("three", k=1)[0].doc_id == "a"

    def test_what_was_unchanged_comes_again_changed(self, index: Index) -> None:
        some = one_each(2)
        index.add(some, vectors=of(some))
        again = [*some, Document("d1", "new", lang="en")]
        assert counts(index.add(again, vectors=of(again))) == {
            "documents": 3, "updated": 1, "unchanged": 1, "duplicates": 1,
        }  # fmt: skip
        assert texts(index) == {"d2": some[1].text, "d1": "new"}

    @staticmethod
    def _hold(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
        """Has each write wait until the batch after it was looked at."""
        looked, write_rows, stored = threading.Semaphore(0), Writer.write_rows, Writer.stored

        def late(self: Writer, *arguments: Any, **options: Any) -> None:
            if held:
                looked.acquire(timeout=0.3)
            write_rows(self, *arguments, **options)

        def look(self: Writer, doc_ids: Sequence[str]) -> Any:
            found = stored(self, doc_ids)
            looked.release()
            return found

        monkeypatch.setattr(Writer, "write_rows", late)
        monkeypatch.setattr(Writer, "stored", look)


def spoilt(row: int, value: Any) -> Callable[[Any], Any]:
    def change(rows: Any) -> Any:
        rows = rows.copy()
        rows[row] = value
        return rows

    return change


class TestRefused:
    """Row 9 is in the third batch of four: the first two are committed, and nothing else."""

    @pytest.mark.parametrize(
        ("change", "error", "match"),
        [
            (spoilt(9, np.nan), NonFiniteVectorError, r"Row 9 \(from 0\), the document 'd10', has a vector with NaN"),
            (spoilt(9, np.inf), NonFiniteVectorError, r"Row 9 \(from 0\), the document 'd10',"),
            (spoilt(9, 0), NonFiniteVectorError, r"Row 9 .* of zeros \(its length is 0\.0\)"),
            (lambda rows: spoilt(9, 1e300)(rows.astype(np.float64)), NonFiniteVectorError, r"Row 9 .*length is inf"),
            (lambda rows: [*rows[:9], rows[9][:-1], *rows[10:]], InvalidArgumentError, "Row 9 .* has a vector of 15"),
            (lambda rows: [*rows[:9], "x", *rows[10:]], InvalidArgumentError, "Row 9 is of type <U1"),
            (lambda rows: [*rows[:9], None, *rows[10:]], InvalidArgumentError, "Row 9 is of type object"),
            (lambda rows: [*rows[:9], [[1], [1, 2]], *rows[10:]], InvalidArgumentError, "Row 9 is no array of numbers"),
            (lambda rows: [*rows[:9], np.ones((1, 1, 1))], InvalidArgumentError, r"Row 9 is an array of shape \(1, 1"),
            (lambda rows: iter(rows[:9]), InvalidArgumentError, "More than 9 documents came with 9 vectors"),
            (
                lambda rows: iter([*rows, rows[0]]),
                InvalidArgumentError,
                "12 documents came with at least 13 vectors",
            ),
        ],
    )
    @pytest.mark.usefixtures("small_steps")
    def test_vectors(self, index: Index, change: Callable[[Any], Any], error: type[XsearchError], match: str) -> None:
        some = one_each(12)
        with pytest.raises(error, match=match) as caught:
            index.add(iter(some), vectors=change(of(some)))
        assert caught.value.expected and caught.value.remedy
        # Where a row's size differs, or their number, those before it are a batch of their own.
        assert len(index) in {8, 9, 12}
        assert sorted(texts(index)) == sorted(f"d{n}" for n in range(1, len(index) + 1))
        if error is NonFiniteVectorError:
            assert len(index) == 8
        assert index.verify() is not None
        assert index.add(some, vectors=of(some)).documents == 12
        assert len(index) == 12

    @pytest.mark.parametrize(
        ("document", "match"),
        [
            (Document("", "text", lang="en"), "Row 9: A document from the caller has the id ''"),
            (Document("x", "", lang="en"), r"Row 9 \(from 0\), the document 'x', has no text"),
            (Document("x", " \n\t", lang="en"), r"Row 9 \(from 0\), the document 'x', has no text"),
            (Document("x", "text", lang="en", metadata={"a": {1, 2}}), "Row 9: The metadata of the document 'x'"),
            (Document("x", 5, lang="en"), "Row 9: .* is no Document, or one whose text is no text"),  # type: ignore[arg-type]
            ("text", "Row 9: text is no Document"),
        ],
    )
    @pytest.mark.usefixtures("small_steps")
    def test_documents(self, index: Index, document: Any, match: str) -> None:
        some: list[Any] = one_each(12)
        rows = of(some)
        some[9] = document
        with pytest.raises(InvalidArgumentError, match=match):
            index.add(some, vectors=rows)
        assert sorted(texts(index)) == sorted(f"d{n}" for n in range(1, 9))
        assert index.verify()

    @pytest.mark.parametrize(
        ("bad", "match"),
        [
            (np.ones((3, DIM)), "2 documents came with 3 vectors"),
            (np.ones((1, DIM)), "2 documents came with 1 vectors"),
            (np.ones((2, DIM + 1)), "has a vector of 17 numbers. The encoder that the index was made with makes 16"),
            (np.ones(DIM), r"vectors is an array of shape \(16,\)"),
            (np.ones((2, DIM), dtype=complex), "Row 0 is of type complex128"),
            (np.array([["a"] * DIM] * 2), "Row 0 is of type <U1"),
            ("vectors.npy", "vectors is a str"),
            (7, "vectors is a int"),
        ],
    )
    def test_before_anything_is_written(self, index: Index, bad: Any, match: str) -> None:
        with pytest.raises(InvalidArgumentError, match=match):
            index.add(one_each(2), vectors=bad)
        assert stored_passages(index) == []
        assert index.info().segments == 0

    @pytest.mark.usefixtures("small_steps")
    def test_an_error_of_the_writing_thread_is_raised_and_ends_it(
        self, index: Index, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls, write_rows = [], Writer.write_rows

        def full(self: Writer, *arguments: Any, **options: Any) -> None:
            calls.append(threading.current_thread().name)
            if len(calls) == 2:
                raise StoreError("The disk is full", "", "")
            write_rows(self, *arguments, **options)

        monkeypatch.setattr(Writer, "write_rows", full)
        some = one_each(40)
        with pytest.raises(StoreError, match="The disk is full"):
            index.add(some, vectors=of(some))
        assert len(calls) == 2
        assert calls[0].startswith("xsearch-writer")
        assert sorted(texts(index)) == sorted(f"d{n}" for n in range(1, 9))
        monkeypatch.setattr(Writer, "write_rows", write_rows)
        assert counts(index.add(some, vectors=of(some))) == {"documents": 40, "added": 32, "unchanged": 8}
        assert [index.search(item.text, k=1)[0].doc_id for item in some] == [item.doc_id for item in some]

    @pytest.mark.usefixtures("small_steps")
    def test_an_interruption_keeps_what_came_before(self, index: Index) -> None:
        some = one_each(12)

        def broken() -> Iterator[Document]:
            yield from some[:10]
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index.add(broken(), vectors=of(some))
        assert len(index) == 8
        assert index.info().unfinished is not None


@pytest.mark.parametrize("limit", ["COMMIT_CHARACTERS", "COMMIT_NUMBERS"])
def test_commits_are_bounded_by_what_they_hold_in_memory(
    tmp_path: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "BATCH_ROWS", 4)
    monkeypatch.setattr(given, limit, 4 * DIM)
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        some = one_each(12)
        index.add(some, vectors=of(some))
        assert index.info().segments == 3


def test_wide_batches_are_written_with_one_statement_of_many_rows(tmp_path: Path) -> None:
    """More rows than one statement takes, in two sizes of statement."""
    some = one_each(4_500)
    with Index.create(tmp_path / "index", encoder=FakeEncoder()) as index:
        index.add(some, vectors=of(some))
        assert [row[1] for row in stored_passages(index)] == list(range(1, 4_501))
        assert index.verify()
        assert index.delete([document.doc_id for document in some[:4_000]]) == 4_000
        assert [row[1] for row in stored_passages(index)] == list(range(4_001, 4_501))
        assert index.search(some[4_400].text, k=1, mode=Mode.LEXICAL)[0].doc_id == "d4401"

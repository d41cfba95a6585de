"""Documents that come with their vectors: checked, told their language, and written in large commits.

Nothing is split and nothing is encoded: each document is one passage. Its passage counts no tokens, by which it is
known that its vector was given and cannot be made again from its text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import DuplicateDocumentError, InvalidArgumentError
from xsearch.ingest import DuplicatePolicy, IngestReport, OnDone
from xsearch.prepare import storable_document
from xsearch.records import Document, Passage
from xsearch.store.checksums import record_hash
from xsearch.store.rows import Prepared, Rows, make_rows
from xsearch.store.vectors import Segment
from xsearch.store.writer import Stored, Writer
from xsearch.text.language import detect
from xsearch.text.tags import canonical_tag
from xsearch.vectors import Halves, VectorBatch, named, unit_halves

# A commit is made after so many documents, characters or numbers; as many again may wait while they are written.
COMMIT_ROWS = 65_536
COMMIT_CHARACTERS = 2**26
COMMIT_NUMBERS = 2**26
# What a passage counts whose vector was given.
NO_TOKENS = 0


@dataclass(frozen=True, slots=True)
class GivenOptions:
    """How documents with vectors are taken in.

    Attributes:
        dim: of the index's vectors.
        on_duplicate: what to do with an id met before in the same run.
        origin: the SOURCE that the documents come under; what ``prune`` goes by.
    """

    dim: int
    on_duplicate: DuplicatePolicy = DuplicatePolicy.REPLACE
    origin: str = ""


def take_in(
    batches: Iterable[VectorBatch], writer: Writer, options: GivenOptions, *, on_done: OnDone | None = None
) -> IngestReport:
    """Writes documents with their vectors, and returns what was done.

    Memory does not grow with the number of documents. When a batch is refused, nothing of it is written, and what came
    before it is committed. The error goes on.

    Args:
        batches: documents and their vectors, from :func:`xsearch.vectors.batches_of`.
        on_done: called with the number of documents that are dealt with since the last call.

    Raises:
        InvalidArgumentError: vectors of another size, another number of them than of documents, no id, no text.
        NonFiniteVectorError: a vector holds NaN or infinity, or is all zero.
        DuplicateDocumentError: an id came twice and the policy is ``error``.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="xsearch-writer") as pool:
        session = _Session(writer, pool, options)
        try:
            for batch in batches:
                session.take(batch)
                if on_done is not None:
                    on_done(len(batch.documents))
        finally:
            session.commit()
            session.wait()
    return session.report


class _Item(NamedTuple):
    """A document that waits to be written.

    Attributes:
        given_hash: of it and its vector.
        row: of its vector.
        replaced: the key of the document that it replaces.
    """

    document: Document
    given_hash: str
    row: int
    replaced: int | None


@dataclass(slots=True)
class _Waiting:
    """What the next commit does; each document id is in one of the three mappings."""

    items: dict[str, _Item] = field(default_factory=dict)
    unchanged: dict[str, int] = field(default_factory=dict)
    relabelled: dict[str, tuple[int, Prepared]] = field(default_factory=dict)
    vectors: list[Halves] = field(default_factory=list)
    rows: int = 0
    characters: int = 0

    def __contains__(self, doc_id: str) -> bool:
        return doc_id in self.items or doc_id in self.unchanged or doc_id in self.relabelled

    def __len__(self) -> int:
        return len(self.items) + len(self.unchanged) + len(self.relabelled)

    def drop(self, doc_id: str) -> None:
        """Forgets a document, whatever was to become of it."""
        self.items.pop(doc_id, None)
        self.unchanged.pop(doc_id, None)
        self.relabelled.pop(doc_id, None)

    def matrix(self, dim: int) -> Halves:
        """The vectors of the items, in their order."""
        if not self.items:
            return np.empty((0, dim), dtype=np.float16)
        every = np.concatenate(self.vectors)
        rows = np.fromiter((item.row for item in self.items.values()), dtype=np.int64, count=len(self.items))
        return every if len(rows) == len(every) and bool((np.diff(rows) == 1).all()) else every[rows]


class _Session:
    """One call of :func:`take_in`: documents that wait, and a thread that writes those before them.

    Making rows takes Python about as long as writing them takes SQLite and the disk, which let Python run meanwhile.
    """

    def __init__(self, writer: Writer, pool: ThreadPoolExecutor, options: GivenOptions) -> None:
        self._writer = writer
        self._pool = pool
        self._options = options
        self._keys = writer.next_keys()
        self._waiting = _Waiting()
        # Keys of the documents that are being written, by id: a look at the database may come before or after them.
        self._writing: dict[str, int] = {}
        self._future: Future[None] | None = None
        self._failed = False
        self.report = IngestReport()

    def take(self, batch: VectorBatch) -> None:
        """Has a batch wait to be written, after all of it was checked."""
        vectors = unit_halves(batch, dim=self._options.dim)
        documents = [_checked(document, batch.first_row + place) for place, document in enumerate(batch.documents)]
        stored = self._writer.stored([document.doc_id for document in documents])
        chosen = self._chosen(documents, stored, batch.first_row)
        self.report.documents += len(documents)
        waiting = self._waiting
        first = waiting.rows
        # Vectors come first: wherever somebody interrupts, no document waits without its own.
        waiting.vectors.append(vectors)
        waiting.rows += len(vectors)
        for doc_id, place in chosen.items():
            self._put(documents[place], vectors[place], first + place, stored.get(doc_id))
        full = waiting.rows >= COMMIT_ROWS or waiting.rows * self._options.dim >= COMMIT_NUMBERS
        if full or waiting.characters >= COMMIT_CHARACTERS:
            self.commit()

    def commit(self) -> None:
        """Has all that waits written, once what is being written is."""
        waiting, self._waiting = self._waiting, _Waiting()
        if self._failed or not len(waiting):
            return
        batch = (self._prepared(item.document, item.given_hash) for item in waiting.items.values())
        rows = make_rows(batch, self._keys, self._writer.run_id)
        # Beside what is being written: hashing many small blocks would wait for Python after each in the other thread.
        segment = self._writer.write_vectors(rows, waiting.matrix(self._options.dim))
        waiting.vectors.clear()
        self.wait()
        self._keys = rows.following
        self._writing = rows.doc_keys() | waiting.unchanged
        self._writing |= {doc_id: doc_key for doc_id, (doc_key, _) in waiting.relabelled.items()}
        self._future = self._pool.submit(self._write, waiting, rows, segment)
        updated = sum(item.replaced is not None for item in waiting.items.values())
        self.report.updated += updated
        self.report.added += len(waiting.items) - updated
        self.report.unchanged += len(waiting.unchanged)
        self.report.relabelled += len(waiting.relabelled)
        self.report.passages += rows.passage_count
        self.report.languages.update([item.document.lang for item in waiting.items.values()])

    def wait(self) -> None:
        """Waits until what is being written is; its error is raised here, and nothing is written after it."""
        future, self._future = self._future, None
        if future is not None:
            self._failed = True
            future.result()
            self._failed = False
        self._writing = {}

    def _write(self, waiting: _Waiting, rows: Rows, segment: Segment | None) -> None:
        if waiting.items:
            replaced = [item.replaced for item in waiting.items.values() if item.replaced is not None]
            self._writer.write_rows(rows, segment, replaced=replaced)
        self._writer.mark_seen(list(waiting.unchanged.values()), self._options.origin)
        self._writer.update_records(dict(waiting.relabelled.values()))

    def _put(self, document: Document, vector: Halves, row: int, before: Stored | None) -> None:
        """Decides what becomes of a document that was checked."""
        doc_id, waiting = document.doc_id, self._waiting
        waiting.drop(doc_id)
        found_hash = _given_hash(document, vector)
        written = self._writing.get(doc_id)
        if written is None and before is not None and before.text_hash == found_hash:
            if before.record_hash == record_hash(document):
                waiting.unchanged[doc_id] = before.doc_key
            else:
                prepared = Prepared(document, found_hash, self._options.origin, ())
                waiting.relabelled[doc_id] = before.doc_key, prepared
            return
        replaced = written if written is not None or before is None else before.doc_key
        waiting.items[doc_id] = _Item(document, found_hash, row, replaced)
        waiting.characters += len(document.text)

    def _prepared(self, document: Document, given_hash: str) -> Prepared:
        """A document as one passage."""
        text = document.text
        return Prepared(
            document, given_hash, self._options.origin, (Passage(0, 0, len(text), text, document.lang, NO_TOKENS),)
        )

    def _chosen(self, documents: Sequence[Document], stored: Mapping[str, Stored], first_row: int) -> dict[str, int]:
        """The places of the documents of a batch that are taken in, by id."""
        met = {doc_id for doc_id, before in stored.items() if before.run_id == self._writer.run_id}
        chosen: dict[str, int] = {}
        duplicates = 0
        for place, document in enumerate(documents):
            doc_id = document.doc_id
            if doc_id in chosen or doc_id in self._writing or doc_id in self._waiting or doc_id in met:
                duplicates += 1
                if self._refuses(document, first_row + place):
                    continue
            chosen[doc_id] = place
        self.report.duplicates += duplicates
        return chosen

    def _refuses(self, document: Document, row: int) -> bool:
        """Whether a document whose id was met before is left out."""
        if self._options.on_duplicate is DuplicatePolicy.ERROR:
            raise DuplicateDocumentError(
                f"{named(document.doc_id, row)} has an id that came before",
                "Each document has an id of its own",
                "Give distinct ids, or choose what happens with on_duplicate 'replace' or 'skip'",
            )
        return self._options.on_duplicate is DuplicatePolicy.SKIP


def _checked(document: Document, row: int) -> Document:
    """The document ready to be stored, its language filled in."""
    try:
        checked = storable_document(document)
    except InvalidArgumentError as exc:
        raise InvalidArgumentError(f"Row {row}: {exc.given}", exc.expected, exc.remedy) from exc
    if not checked.text.strip():
        raise InvalidArgumentError(
            f"{named(checked.doc_id, row)} has no text",
            "A document with a vector has a text, which is what a hit shows",
            "Give it a text, or leave out both the document and its vector",
        )
    lang = canonical_tag(checked.lang) if checked.lang else detect(checked.text)
    return checked if lang == checked.lang else replace(checked, lang=lang)


def _given_hash(document: Document, vector: NDArray[Any]) -> str:
    """A hash of all that a passage with a given vector depends on; never that of one which was encoded."""
    lang, title = document.lang, document.title
    head = f"given {len(lang)} {len(title)} {lang}{title}{document.text}".encode()
    return hashlib.sha256(head + vector.tobytes()).hexdigest()

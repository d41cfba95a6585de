"""Documents become passages and vectors in an index: split, told their language, encoded, written, in batches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum

import numpy as np

from xsearch.encoder.protocol import Encoder, Vectors, unit_vectors, unreadable
from xsearch.errors import DuplicateDocumentError, EncoderError, InvalidArgumentError, ReadError
from xsearch.prepare import prepare, storable_document, text_hash
from xsearch.records import Document
from xsearch.store.checksums import record_hash
from xsearch.store.rows import Prepared
from xsearch.store.writer import Stored, Writer
from xsearch.text.passages import PassageLimits, with_title

# Documents looked at together, and how many characters of them at most: what is held in memory.
LOOK_DOCUMENTS = 256
LOOK_CHARACTERS = 2_000_000
# Passages encoded in one call: enough to sort by length, few enough that progress is seen.
ENCODE_PASSAGES = 512
# A commit is made after so many passages or seconds: what a killed run loses at most.
COMMIT_PASSAGES = 4096
COMMIT_SECONDS = 30.0
# Errors of one document; those before it are none the worse for it.
REFUSALS = (DuplicateDocumentError, InvalidArgumentError, ReadError)

OnDone = Callable[[int], None]


class DuplicatePolicy(StrEnum):
    """What to do with a document id that was met before in the same run."""

    REPLACE = "replace"
    SKIP = "skip"
    ERROR = "error"


@dataclass(slots=True)
class IngestReport:
    """What a run did, counted.

    Attributes:
        documents: met, whatever became of them.
        added, updated, unchanged: documents; ``updated`` had another text before.
        relabelled: documents whose metadata changed and whose vectors stayed.
        empty: documents without text; none is stored.
        duplicates: ids met a second time in the run.
        pruned: documents deleted because their source no longer has them.
        kept: documents not met, and not deleted, because their file could not be read.
        passages, tokens: written by this run.
        cut: passages of which the encoder did not read the end; splitting keeps this at 0.
        titles_left_out: documents whose title is too long to be encoded with each passage.
        languages: passages by language.
        unknown: passages by language that are mostly written in characters which the encoder does not know; only
            their words can find them.
    """

    documents: int = 0
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    relabelled: int = 0
    empty: int = 0
    duplicates: int = 0
    pruned: int = 0
    kept: int = 0
    passages: int = 0
    tokens: int = 0
    cut: int = 0
    titles_left_out: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def merge(self, other: IngestReport) -> None:
        """Adds another report's counts to this one's."""
        for item in fields(self):
            setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """How documents are taken in.

    Attributes:
        limits: how long passages may be.
        on_duplicate: what to do with an id met before in the same run.
        origin: the SOURCE that the documents come under; what ``prune`` goes by.
    """

    limits: PassageLimits
    on_duplicate: DuplicatePolicy = DuplicatePolicy.REPLACE
    origin: str = ""


def ingest(
    documents: Iterable[Document],
    writer: Writer,
    encoder: Encoder,
    options: IngestOptions,
    *,
    on_done: OnDone | None = None,
) -> IngestReport:
    """Writes documents to an index, and returns what was done; unchanged ones are not encoded again.

    Memory does not grow with the number of documents. When encoding fails or the run is interrupted, what was encoded
    before is committed; when a document is refused, what came before it is encoded and committed. The error goes on.

    Args:
        on_done: called with the number of documents that are dealt with since the last call.
    """
    session = _Session(writer, encoder, options, on_done or (lambda count: None))
    try:
        for batch in _batches(documents):
            session.take(batch)
        session.encode()
    except REFUSALS:
        session.encode()
        raise
    finally:
        session.commit()
    return session.report


@dataclass(frozen=True, slots=True)
class _Encoded:
    prepared: Prepared
    vectors: Vectors


class _Session:
    """One call of :func:`ingest`: documents that wait to be encoded, and encoded ones that wait to be committed."""

    def __init__(self, writer: Writer, encoder: Encoder, options: IngestOptions, on_done: OnDone) -> None:
        self._writer = writer
        self._encoder = encoder
        self._options = options
        self._on_done = on_done
        self.report = IngestReport()
        self._waiting: dict[str, tuple[Prepared, str]] = {}
        self._encoded: dict[str, _Encoded] = {}
        self._committed_at = time.monotonic()

    def take(self, documents: Sequence[Document]) -> None:
        """Deals with some documents, ready to be stored; those that are new or changed wait until enough do."""
        stored = self._writer.stored([document.doc_id for document in documents])
        unchanged: dict[str, int] = {}
        relabelled: dict[str, tuple[int, Prepared]] = {}
        try:
            for document in documents:
                self._look_at(document, stored.get(document.doc_id), unchanged, relabelled)
        finally:
            self._writer.mark_seen(list(unchanged.values()), self._options.origin)
            self._writer.update_records(dict(relabelled.values()))
            self.report.unchanged += len(unchanged)
            self.report.relabelled += len(relabelled)
            self._on_done(len(unchanged) + len(relabelled))
        if sum(len(item.passages) for item, _ in self._waiting.values()) >= ENCODE_PASSAGES:
            self.encode()
        waiting = sum(len(item.vectors) for item in self._encoded.values())
        if waiting >= COMMIT_PASSAGES or time.monotonic() - self._committed_at >= COMMIT_SECONDS:
            self.commit()

    def _look_at(
        self,
        document: Document,
        before: Stored | None,
        unchanged: dict[str, int],
        relabelled: dict[str, tuple[int, Prepared]],
    ) -> None:
        """Decides what becomes of a document."""
        doc_id = document.doc_id
        self.report.documents += 1
        pending = (self._waiting, self._encoded, unchanged, relabelled)
        met = any(doc_id in kind for kind in pending)
        if met or (before is not None and before.run_id == self._writer.run_id):
            self.report.duplicates += 1
            if self._refuses(document):
                self._on_done(1)
                return
            # Of the one that it replaces, what is encoded was counted as done.
            self._on_done(int(met and doc_id not in self._encoded))
        for kind in pending:
            kind.pop(doc_id, None)
        found_hash = text_hash(document, self._options.limits)
        if before is None or before.text_hash != found_hash:
            self._wait(document, before)
        elif before.record_hash != record_hash(document):
            relabelled[doc_id] = (before.doc_key, Prepared(document, found_hash, self._options.origin, ()))
        else:
            unchanged[doc_id] = before.doc_key

    def encode(self) -> None:
        """Encodes all that waits."""
        if not self._waiting:
            return
        waiting = list(self._waiting.values())
        texts = [with_title(title, passage.text) for item, title in waiting for passage in item.passages]
        vectors = self._encoder.encode_passages(texts)
        if vectors.shape != (len(texts), self._encoder.dim):
            raise EncoderError(
                f"The encoder {self._encoder.fingerprint.name} gave vectors of shape {vectors.shape}",
                f"For {len(texts)} passages it must give {(len(texts), self._encoder.dim)}",
                "Report this to whoever made the encoder",
            )
        vectors = unit_vectors(vectors)
        start = 0
        for item, title in waiting:
            end = start + len(item.passages)
            self._encoded[item.document.doc_id] = _Encoded(item, vectors[start:end])
            self.report.titles_left_out += bool(item.document.title.strip()) and not title
            start = end
        passages = [passage for item, _ in waiting for passage in item.passages]
        unknown = unreadable(self._encoder, [passage.text for passage in passages])
        self.report.unknown.update(passage.lang for passage, no in zip(passages, unknown, strict=True) if no)
        self._waiting.clear()
        self._on_done(len(waiting))

    def commit(self) -> None:
        """Writes all that is encoded."""
        self._committed_at = time.monotonic()
        if not self._encoded:
            return
        items = list(self._encoded.values())
        known = self._writer.stored(list(self._encoded))
        self._writer.write([item.prepared for item in items], np.concatenate([item.vectors for item in items]))
        self._encoded.clear()
        self.report.updated += len(known)
        self.report.added += len(items) - len(known)
        for item in items:
            for passage in item.prepared.passages:
                self.report.passages += 1
                self.report.tokens += passage.tokens
                self.report.cut += passage.tokens > self._encoder.max_tokens
                self.report.languages[passage.lang] += 1

    def _wait(self, document: Document, before: Stored | None) -> None:
        prepared, title = prepare(document, self._encoder, self._options.limits, origin=self._options.origin)
        if prepared.passages:
            self._waiting[document.doc_id] = prepared, title
            return
        self.report.empty += 1
        if before is not None:
            self._writer.delete([document.doc_id])
        self._on_done(1)

    def _refuses(self, document: Document) -> bool:
        """Whether a document whose id was met before is left out."""
        if self._options.on_duplicate is DuplicatePolicy.ERROR:
            raise DuplicateDocumentError(
                f"The document id {document.doc_id!r} came a second time (from {document.source or 'the caller'})",
                "Each document has an id of its own",
                "Give distinct ids, or choose what happens with --on-duplicate replace or skip",
            )
        return self._options.on_duplicate is DuplicatePolicy.SKIP


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents, ready to be stored, some at a time; when one is refused, those before it come first."""
    batch: list[Document] = []
    characters = 0
    try:
        for document in documents:
            batch.append(storable_document(document))
            characters += len(document.text)
            if len(batch) >= LOOK_DOCUMENTS or characters >= LOOK_CHARACTERS:
                yield batch
                batch, characters = [], 0
    except REFUSALS:
        yield batch
        raise
    if batch:
        yield batch

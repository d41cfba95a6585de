"""Writing to an index: vectors first, then one transaction that makes them and their documents visible together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import sqlalchemy as sa

from xsearch.errors import InvalidArgumentError
from xsearch.records import Document, Passage
from xsearch.store.catalog import (
    Catalog,
    delete_documents,
    documents,
    inserted_key,
    passages,
    read_segments,
    read_setting,
    runs,
    segments,
    write_setting,
)
from xsearch.store.checksums import record_hash, text_checksum
from xsearch.store.files import TEMPORARY_SUFFIX, disk_errors, writer_lock
from xsearch.store.lexical import add_words
from xsearch.store.upgrade import upgrade
from xsearch.store.vectors import VECTORS_FOLDER, Vectors, write_segment


@dataclass(frozen=True, slots=True)
class Prepared:
    """A document ready to be written.

    Attributes:
        document: as it is stored; its language is filled in.
        text_hash: of what its vectors depend on.
        origin: the SOURCE it came under.
        passages: its passages, in order; may be none.
    """

    document: Document
    text_hash: str
    origin: str
    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """What the catalogue knows of a document before it is written again."""

    doc_key: int
    text_hash: str
    record_hash: str
    run_id: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """A run over the same sources that did not come to its end."""

    started: str
    documents: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many documents were deleted, and how many were kept because their file could not be read."""

    deleted: int
    kept: int


class Writer:
    """The one writer of an index, from :func:`open_writer`; holds its lock.

    Attributes:
        run_id: marks what this run saw.
        interrupted: the unfinished run before this one, where there was one.
    """

    def __init__(self, index: Path, catalog: Catalog, sources: Sequence[str]) -> None:
        self._index = index
        self._catalog = catalog
        self._sources = list(sources)
        upgrade(index, catalog)
        self._sweep()
        with catalog.transaction() as connection:
            self.interrupted = _interrupted(connection, self._sources)
            # Unfinished runs over these sources are followed up by this one; what they wrote is in the index.
            unfinished = [run.run_id for run in _unfinished(connection, self._sources)]
            connection.execute(runs.update().where(runs.c.run_id.in_(unfinished)).values(finished="superseded"))
            row = connection.execute(runs.insert().values(sources=self._sources, started=_now()))
            self.run_id = inserted_key(row)

    def stored(self, doc_ids: Sequence[str]) -> dict[str, Stored]:
        """What is stored under these ids; at most a few thousand at a time."""
        columns = (
            documents.c.doc_id,
            documents.c.doc_key,
            documents.c.text_hash,
            documents.c.record_hash,
            documents.c.run_id,
        )
        with self._catalog.reading() as connection:
            rows = connection.execute(sa.select(*columns).where(documents.c.doc_id.in_(doc_ids)))
            return {row.doc_id: Stored(row.doc_key, row.text_hash, row.record_hash, row.run_id) for row in rows}

    def write(self, batch: Sequence[Prepared], vectors: Vectors) -> None:
        """Replaces or adds documents with their vectors, in one commit.

        Args:
            batch: each document id at most once.
            vectors: ``(passages of the batch, dim) float32``, in order.
        """
        count = sum(len(item.passages) for item in batch)
        if count != len(vectors):
            raise InvalidArgumentError(
                f"{len(vectors)} vectors came for {count} passages",
                "Each passage has one vector",
                "Report this as a bug",
            )
        with self._catalog.reading() as connection:
            first: int = read_setting(connection, "next_passage_id")
            number = max((segment.number for segment in read_segments(connection)), default=0) + 1
        segment = write_segment(self._index, number, first, vectors) if count else None
        with self._catalog.transaction() as connection:
            keys = connection.execute(
                sa.select(documents.c.doc_key).where(documents.c.doc_id.in_([item.document.doc_id for item in batch]))
            )
            delete_documents(connection, list(keys.scalars()))
            if segment is not None:
                values = {"number": number, "first_passage_id": first, "rows": segment.rows, "dim": segment.dim}
                connection.execute(segments.insert().values(**values, size=segment.size, sha256=segment.sha256))
                write_setting(connection, "next_passage_id", first + count)
            rows: list[dict[str, object]] = []
            for item in batch:
                added = connection.execute(documents.insert().values(**self._document_row(item)))
                doc_key = inserted_key(added)
                for passage in item.passages:
                    rows.append(_passage_row(first + len(rows), doc_key, passage))
            if rows:
                connection.execute(passages.insert(), rows)
                texts = ((item.document.title, passage.text) for item in batch for passage in item.passages)
                add_words(connection, ((first + place, *words) for place, words in enumerate(texts)))
            _note_change(connection)

    def update_records(self, changed: Mapping[int, Prepared]) -> None:
        """New metadata for documents whose text, and so whose vectors, stay; by document key."""
        if not changed:
            return
        with self._catalog.transaction() as connection:
            for doc_key, item in changed.items():
                row = self._document_row(item)
                kept = {name: row[name] for name in ("record_hash", "source", "origin", "metadata", "run_id")}
                connection.execute(documents.update().where(documents.c.doc_key == doc_key).values(**kept))
            _note_change(connection)

    def mark_seen(self, doc_keys: Sequence[int], origin: str) -> None:
        """Marks documents that this run met unchanged, so that :meth:`prune` keeps them."""
        if not doc_keys:
            return
        with self._catalog.transaction() as connection:
            seen = documents.update().where(documents.c.doc_key.in_(doc_keys))
            connection.execute(seen.values(run_id=self.run_id, origin=origin))

    def delete(self, doc_ids: Sequence[str]) -> int:
        """Deletes documents; returns how many there were."""
        return self._delete(documents.c.doc_id.in_(doc_ids)).deleted

    def prune(self, unreadable: Collection[str] = ()) -> Pruned:
        """Deletes documents that came under this run's sources before and were not met now.

        Args:
            unreadable: files and folders that could not be read; the documents from there may be there still, and stay.
        """
        unmet = documents.c.origin.in_(self._sources) & (documents.c.run_id != self.run_id)
        return self._delete(unmet, spared=unreadable)

    def finish(self) -> None:
        """Notes that the run came to its end."""
        with self._catalog.transaction() as connection:
            connection.execute(runs.update().where(runs.c.run_id == self.run_id).values(finished=_now()))

    def _delete(self, which: sa.ColumnElement[bool], *, spared: Collection[str] = ()) -> Pruned:
        """Deletes the documents that fit, but those whose source is one of the files and folders that are spared."""
        with self._catalog.transaction() as connection:
            found = list(connection.execute(sa.select(documents.c.doc_key, documents.c.source).where(which)))
            gone = [row.doc_key for row in found if not _is_within(row.source, spared)]
            if gone:
                delete_documents(connection, gone)
                _note_change(connection)
        return Pruned(deleted=len(gone), kept=len(found) - len(gone))

    def _sweep(self) -> None:
        """Removes vector files that no commit speaks of: what a killed writer left."""
        with self._catalog.reading() as connection:
            known = {segment.name for segment in read_segments(connection)}
        folder = self._index / VECTORS_FOLDER
        for path in folder.glob("*") if folder.is_dir() else ():
            if path.name not in known and path.suffix in (".npy", TEMPORARY_SUFFIX):
                with disk_errors(path):
                    path.unlink(missing_ok=True)

    def _document_row(self, item: Prepared) -> dict[str, object]:
        document = item.document
        return {
            "doc_id": document.doc_id,
            "text_hash": item.text_hash,
            "record_hash": record_hash(document),
            "lang": document.lang,
            "title": document.title,
            "source": document.source,
            "origin": item.origin,
            "metadata": dict(document.metadata),
            "text": document.text,
            "run_id": self.run_id,
            "checksum": text_checksum(
                doc_id=document.doc_id, lang=document.lang, title=document.title, text=document.text
            ),
        }


@contextmanager
def open_writer(index: Path, catalog: Catalog, sources: Sequence[str] = ()) -> Iterator[Writer]:
    """The writer of an index, alone until the block is left.

    Raises:
        IndexLockedError: somebody else is writing.
    """
    with writer_lock(index):
        yield Writer(index, catalog, sources)


def _is_within(source: str, places: Collection[str]) -> bool:
    """Whether a source is one of the files, or in one of the folders."""
    return bool(places) and (
        source in places or any(parent.as_posix() in places for parent in PurePosixPath(source).parents)
    )


def _note_change(connection: sa.Connection) -> None:
    """Has readers see that there is another state now."""
    write_setting(connection, "generation", read_setting(connection, "generation") + 1)


def _passage_row(passage_id: int, doc_key: int, passage: Passage) -> dict[str, object]:
    return {
        "passage_id": passage_id,
        "doc_key": doc_key,
        "position": passage.position,
        "start": passage.start,
        "end": passage.end,
        "lang": passage.lang,
        "tokens": passage.tokens,
    }


def _interrupted(connection: sa.Connection, sources: list[str]) -> Interrupted | None:
    for row in _unfinished(connection, sources) if sources else ():
        done = sa.select(sa.func.count()).select_from(documents).where(documents.c.run_id == row.run_id)
        return Interrupted(row.started, int(connection.execute(done).scalar_one()))
    return None


def _unfinished(connection: sa.Connection, sources: list[str]) -> list[sa.Row[Any]]:
    """Runs over the same sources that did not come to their end, last first."""
    query = sa.select(runs).where(runs.c.finished.is_(None)).order_by(runs.c.run_id.desc())
    return [row for row in connection.execute(query) if row.sources == sources]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

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
from xsearch.store.catalog import (
    Catalog,
    any_of,
    delete_documents,
    documents,
    inserted_key,
    read_setting,
    runs,
    write_setting,
)
from xsearch.store.checksums import record_hash
from xsearch.store.files import writer_lock
from xsearch.store.generation import check_identity, note_change
from xsearch.store.listing import insert_segment, next_file_number, note_file_number
from xsearch.store.merge import OnStage, remove_unlisted, settle
from xsearch.store.rows import Keys, Prepared, Rows, insert_rows, make_rows
from xsearch.store.upgrade import upgrade
from xsearch.store.vectors import Halves, Segment, Vectors, consecutive, write_segment

NEXT_DOC_KEY = "next_doc_key"


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
        remove_unlisted(index, catalog)
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
            rows = connection.execute(sa.select(*columns).where(any_of(connection, documents.c.doc_id, doc_ids)))
            return {row.doc_id: Stored(row.doc_key, row.text_hash, row.record_hash, row.run_id) for row in rows}

    def next_keys(self) -> Keys:
        """The keys that what is written next gets."""
        with self._catalog.reading() as connection:
            highest = connection.execute(sa.select(sa.func.max(documents.c.doc_key))).scalar() or 0
            # Where an older xsearch wrote last, the setting is not there.
            doc_key = max(read_setting(connection, NEXT_DOC_KEY) or 1, highest + 1)
            return Keys(doc_key, read_setting(connection, "next_passage_id"), next_file_number(connection))

    def write(self, batch: Sequence[Prepared], vectors: Vectors) -> None:
        """Replaces or adds documents with their vectors, in one commit.

        Args:
            batch: each document id at most once.
            vectors: ``(passages of the batch, dim) float32``, in order.
        """
        rows = make_rows(batch, self.next_keys(), self.run_id)
        known = self.stored([item.document.doc_id for item in batch])
        segment = self.write_vectors(rows, vectors)
        self.write_rows(rows, segment, replaced=[item.doc_key for item in known.values()])

    def write_vectors(self, rows: Rows, vectors: Vectors | Halves) -> Segment | None:
        """Puts the vectors of rows on disk, where nobody sees them before :meth:`write_rows`; ``None`` where are none.

        Args:
            vectors: ``(passages of the rows, dim)`` float32 or float16, in order.
        """
        first, count = rows.first, rows.passage_count
        if count != len(vectors):
            raise InvalidArgumentError(
                f"{len(vectors)} vectors came for {count} passages",
                "Each passage has one vector",
                "Report this as a bug",
            )
        if not count:
            return None
        return write_segment(self._index, first.file_number, consecutive(first.passage_id), vectors.shape, [vectors])

    def write_rows(self, rows: Rows, segment: Segment | None, *, replaced: Sequence[int]) -> None:
        """Adds documents in place of others, in one commit with their vectors.

        Args:
            rows: with keys that follow those of all that was written before.
            segment: their vectors, from :meth:`write_vectors`.
            replaced: keys of the documents that go.
        """
        expected = self.next_keys()
        if rows.first != expected:
            raise InvalidArgumentError(f"Rows begin at {rows.first}", f"{expected} come next", "Report this as a bug")
        with self._catalog.transaction() as connection:
            delete_documents(connection, replaced)
            if segment is not None:
                insert_segment(connection, segment)
                note_file_number(connection, segment.number)
                write_setting(connection, "next_passage_id", rows.following.passage_id)
            write_setting(connection, NEXT_DOC_KEY, rows.following.doc_key)
            insert_rows(connection, rows)
            note_change(connection)

    def update_records(self, changed: Mapping[int, Prepared]) -> None:
        """New metadata for documents whose text, and so whose vectors, stay; by document key."""
        if not changed:
            return
        with self._catalog.transaction() as connection:
            for doc_key, item in changed.items():
                document = item.document
                kept: dict[str, object] = {"source": document.source, "metadata": dict(document.metadata)}
                kept |= {"record_hash": record_hash(document), "origin": item.origin, "run_id": self.run_id}
                connection.execute(documents.update().where(documents.c.doc_key == doc_key).values(**kept))
            note_change(connection)

    def mark_seen(self, doc_keys: Sequence[int], origin: str) -> None:
        """Marks documents that this run met unchanged, so that :meth:`prune` keeps them."""
        if not doc_keys:
            return
        with self._catalog.transaction() as connection:
            seen = documents.update().where(any_of(connection, documents.c.doc_key, doc_keys))
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

    def finish(self, *, on_stage: OnStage | None = None) -> None:
        """Notes that the run came to its end, and merges what it left where it is time.

        Args:
            on_stage: told in a few words what takes long.
        """
        with self._catalog.transaction() as connection:
            connection.execute(runs.update().where(runs.c.run_id == self.run_id).values(finished=_now()))
        settle(self._index, self._catalog, on_stage=on_stage)

    def _delete(self, which: sa.ColumnElement[bool], *, spared: Collection[str] = ()) -> Pruned:
        """Deletes the documents that fit, but those whose source is one of the files and folders that are spared."""
        with self._catalog.transaction() as connection:
            columns = (documents.c.doc_key, documents.c.source, documents.c.origin)
            found = list(connection.execute(sa.select(*columns).where(which)))
            gone = [row.doc_key for row in found if not _is_spared(row.source, row.origin, spared)]
            if gone:
                delete_documents(connection, gone)
                note_change(connection)
        return Pruned(deleted=len(gone), kept=len(found) - len(gone))


@contextmanager
def open_writer(
    index: Path, catalog: Catalog, sources: Sequence[str] = (), *, identity: str | None = None
) -> Iterator[Writer]:
    """The writer of an index, alone until the block is left.

    Args:
        identity: that the index must have still.

    Raises:
        IndexLockedError: somebody else is writing.
        StoreError: the index was built anew or went over to another encoder.
    """
    with writer_lock(index):
        if identity is not None:
            with catalog.reading() as connection:
                check_identity(index, read_setting(connection, "identity"), identity)
        yield Writer(index, catalog, sources)


def _is_spared(source: str, origin: str, places: Collection[str]) -> bool:
    """Whether a document may have stood in one of the places.

    One whose record names another source than the file that it was read from may have stood in any under its origin.
    """
    if _is_within(source, places):
        return True
    return not _is_within(source, (origin,)) and any(_is_within(place, (origin,)) for place in places)


def _is_within(source: str, places: Collection[str]) -> bool:
    """Whether a source is one of the files, or in one of the folders."""
    return bool(places) and (
        source in places or any(parent.as_posix() in places for parent in PurePosixPath(source).parents)
    )


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

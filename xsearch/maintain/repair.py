"""An index brought in order again: what can be made from something else is made anew, what cannot is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from xsearch.encoder.protocol import Encoder
from xsearch.errors import IndexDamagedError
from xsearch.index import Index
from xsearch.maintain.migrate import remove_finished
from xsearch.maintain.reencode import encode_again
from xsearch.maintain.rows import Rewrite, lost_ids, plan, rewrite
from xsearch.maintain.split import split_again
from xsearch.store.ann import open_ann
from xsearch.store.catalog import (
    Catalog,
    ann,
    any_of,
    delete_documents,
    documents,
    passages,
    read_setting,
    segments,
    tombstones,
    write_setting,
)
from xsearch.store.faults import Fault, FaultKind, catalog_faults
from xsearch.store.files import writer_lock
from xsearch.store.folder import check_is_index
from xsearch.store.generation import note_change
from xsearch.store.id_map import IdMap
from xsearch.store.listing import NEXT_FILE_NUMBER, delete_segments, insert_segment, next_file_number, note_file_number
from xsearch.store.location import find_catalog
from xsearch.store.sqlite import read_any_bytes
from xsearch.store.upgrade import upgrade
from xsearch.store.vectors import PassageIds, Vectors
from xsearch.store.verify import crossing, read_listed, segment_fault
from xsearch.store.words import renew_words
from xsearch.store.writer import NEXT_DOC_KEY, open_writer

OnDone = Callable[[int], None]
# Settings of which any number will do.
COUNTERS = ("generation", "next_passage_id", NEXT_DOC_KEY, NEXT_FILE_NUMBER)


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was done, and what could not be.

    Attributes:
        mended: what was found and put right, a sentence each.
        encoded: passages that were encoded again.
        unmended: what is damaged still, a sentence each.
        dropped: documents that were deleted because they could not be mended.
    """

    path: str
    mended: tuple[str, ...]
    encoded: int
    unmended: tuple[str, ...]
    dropped: int

    @property
    def in_order(self) -> bool:
        """Whether nothing that was found is damaged still."""
        return not self.unmended

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON-serialisable values."""
        return {**asdict(self), "in_order": self.in_order}


@dataclass(slots=True)
class _Log:
    """What was done so far: see :class:`RepairReport`."""

    mended: list[str] = field(default_factory=list)
    encoded: int = 0
    unmended: list[str] = field(default_factory=list)
    dropped: int = 0


def repair_index(
    path: str | Path,
    *,
    drop: bool = False,
    encoder: Encoder | str | None = None,
    device: str = "cpu",
    on_done: OnDone = lambda count: None,
) -> RepairReport:
    """Mends all that can be mended, each thing in a commit of its own; called again, it goes on.

    Vectors that are damaged or missing are encoded again from the texts, under the same passage ids; rows, words and
    FAISS files are made anew from what they are made of. A text that is damaged cannot be.

    Args:
        drop: delete documents that cannot be mended.
        encoder: an encoder, or the name or folder of one; by default the one it was built with, loaded when needed.
        on_done: called with the number of passages that were encoded since the last call.

    Raises:
        IndexDamagedError: the catalogue cannot be read.
        IndexLockedError: somebody is writing.
    """
    path = Path(path)
    check_is_index(path)
    catalog = find_catalog(path)
    log = _Log()
    with Index.open(path, encoder=encoder, device=device) as index:
        with writer_lock(path):
            upgrade(path, catalog)
            session = _Repair(index, catalog, log, drop=drop, on_done=on_done)
            session.mend_catalog()
            session.mend_vectors()
            session.mend_ann()
            if remove_finished(index):
                log.mended.append("What a finished migration left was removed")
        with open_writer(path, catalog) as writer:  # which sweeps
            if session.to_split:
                log.encoded += split_again(writer, catalog, index, session.to_split)
                log.mended.append(f"{len(session.to_split):,} documents had damaged passages: they were split anew")
            writer.finish()
    return RepairReport(str(path), tuple(log.mended), log.encoded, tuple(log.unmended), log.dropped)


class _Repair:
    """One call of :func:`repair_index`, which holds the index's lock.

    Attributes:
        to_split: keys of documents whose passages are not whole.
    """

    def __init__(self, index: Index, catalog: Catalog, log: _Log, *, drop: bool, on_done: OnDone) -> None:
        self._index = index
        self._catalog = catalog
        self._log = log
        self._drop = drop
        self._on_done = on_done
        self.to_split: list[int] = []

    def mend_catalog(self) -> None:
        """The database's own indexes, rows that belong to nothing, documents, words."""
        faults = list(catalog_faults(self._catalog))
        if any(fault.kind is FaultKind.DATABASE for fault in faults):
            self._reindex(faults[0])
            faults = list(catalog_faults(self._catalog))
        if any(fault.kind is FaultKind.REFERENCES for fault in faults):
            self._delete_orphans()
        self._mend_settings([fault for fault in faults if fault.kind is FaultKind.SETTINGS])
        self._mend_documents([fault for fault in faults if fault.doc_key is not None])
        wrong = [fault for fault in faults if fault.kind is FaultKind.WORDS]
        if wrong:
            with self._catalog.transaction() as connection:
                count = renew_words(connection)
                note_change(connection)
            self._log.mended.append(f"The catalogue {wrong[0].what}: the words of {count:,} passages were made anew")

    def mend_vectors(self) -> None:
        """Every passage has one vector, and every vector a passage or a tombstone."""
        self._forget_lost_rows()
        with self._catalog.reading() as connection:
            listed = read_listed(connection)
        crossed = crossing(listed.segments)
        if crossed:
            self._take_out([segment.number for segment in crossed], "had passages that another one had too")
            return self.mend_vectors()
        index, dim = self._index.path, self._index.fingerprint.dim
        wrong = {segment.number: segment_fault(index, segment, dim) for segment in listed.segments}
        bad = [segment for segment in listed.segments if wrong[segment.number]]
        wanted = plan(listed.segments, bad, listed.passage_ids)
        if self._spare_given(wanted):
            return self.mend_vectors()
        for one in wanted:
            what = "Passages had no vectors" if one.old is None else wrong[one.old.number]
            self._rewrite(one, what or f"{one.old.name if one.old else ''} lacked vectors")
        self._mend_ids()

    def mend_ann(self) -> None:
        """FAISS files that are not as they were written are forgotten; the next compaction makes them anew."""
        with self._catalog.reading() as connection:
            listed = read_listed(connection)
        rows = {segment.number: segment.rows for segment in listed.segments}
        gone = {number: f"The catalogue's row of the FAISS file {number} is damaged" for number in listed.lost_ann}
        for file in listed.ann:
            if rows.get(file.segment) != file.rows:
                gone[file.number] = f"The FAISS file {file.name} belongs to no vector file"
                continue
            try:
                open_ann(self._index.path, file, self._index.fingerprint.dim)
            except IndexDamagedError as exc:
                gone[file.number] = exc.given
        if gone:
            with self._catalog.transaction() as connection:
                connection.execute(ann.delete().where(ann.c.number.in_(list(gone))))
                note_change(connection)
            self._log.mended += [f"{what}: it was taken out" for what in gone.values()]

    def _reindex(self, fault: Fault) -> None:
        with self._catalog.transaction() as connection:
            connection.exec_driver_sql("REINDEX")
            answers = list(connection.exec_driver_sql("PRAGMA main.integrity_check").scalars())
            if [answer for answer in answers if answer != "ok" and "inverted index" not in str(answer)]:
                raise self._catalog.damaged(f"{fault.what}, which cannot be mended")
            note_change(connection)
        self._log.mended.append(f"The catalogue {fault.what}: its indexes were made anew")

    def _delete_orphans(self) -> None:
        """Passages of no document are of no use; their vectors are deleted with them."""
        with self._catalog.transaction() as connection:
            lost = passages.c.doc_key.not_in(sa.select(documents.c.doc_key))
            ids = list(connection.execute(sa.select(passages.c.passage_id).where(lost)).scalars())
            connection.execute(passages.delete().where(lost))
            add_tombstones(connection, ids)
            note_change(connection)
        self._log.mended.append(f"{len(ids):,} passages belonged to no document: they were deleted")

    def _mend_settings(self, faults: Sequence[Fault]) -> None:
        """Counters are taken as they are, for what uses them goes past all that is there; others cannot be known."""
        for fault in faults:
            what = f"The catalogue {self._catalog.place} {fault.what}"
            if fault.setting not in COUNTERS:
                self._log.unmended.append(f"{what}; restore it from a backup, or build the index again")
                continue
            with self._catalog.transaction() as connection:
                write_setting(connection, fault.setting, read_setting(connection, fault.setting))
                note_change(connection)
            self._log.mended.append(f"{what}: it counts on from there")

    def _mend_documents(self, faults: Sequence[Fault]) -> None:
        with self._catalog.reading() as connection:
            keys = [fault.doc_key for fault in faults if fault.kind is FaultKind.PASSAGES]
            own = sa.select(passages.c.doc_key).where(passages.c.tokens == 0)
            given = set(connection.execute(own.where(any_of(connection, passages.c.doc_key, keys))).scalars())
        self.to_split = [key for key in keys if key is not None and key not in given]
        hopeless = [fault for fault in faults if fault.doc_key not in self.to_split]
        self._lose(
            {
                fault.doc_key: f"The catalogue {self._catalog.place} {fault.what}"
                for fault in hopeless
                if fault.doc_key is not None
            }
        )

    def _lose(self, hopeless: dict[int, str]) -> None:
        """Deletes documents that cannot be mended, or names them."""
        if not self._drop:
            self._log.unmended += hopeless.values()
            return
        if hopeless:
            with self._catalog.transaction() as connection:
                delete_documents(connection, list(hopeless))
                note_change(connection)
            self._log.dropped += len(hopeless)
            self._log.mended += [f"{what}: it was deleted" for what in hopeless.values()]

    def _forget_lost_rows(self) -> None:
        """Takes out the rows of segments that do not say any more what they were: their passages get new vectors."""
        with self._catalog.reading() as connection:
            lost = read_listed(connection).lost_segments
        if lost:
            self._take_out(list(lost), "had a row in the catalogue that is not as it was written")

    def _take_out(self, numbers: list[int], why: str) -> None:
        with self._catalog.transaction() as connection:
            # Past what reads the rows, which may be damaged.
            connection.execute(segments.delete().where(segments.c.number.in_(numbers)))
            note_file_number(connection, max(numbers))
            note_change(connection)
        self._log.mended += [f"The segment {number} {why}: it was taken out" for number in numbers]

    def _spare_given(self, wanted: Sequence[Rewrite]) -> bool:
        """Whether documents were deleted that came with vectors, which are lost."""
        index, dim = self._index.path, self._index.fingerprint.dim
        hopeless: dict[int, str] = {}
        with self._catalog.reading() as connection:
            for one in wanted:
                ids = lost_ids(index, dim, one).tolist()
                query = sa.select(documents.c.doc_key, documents.c.doc_id).join(
                    passages, passages.c.doc_key == documents.c.doc_key
                )
                given = query.where(any_of(connection, passages.c.passage_id, ids) & (passages.c.tokens == 0))
                for row in connection.execute(given):
                    hopeless[row.doc_key] = f"The vector of the document {row.doc_id!r} is lost, and was given"
        if hopeless and not self._drop:
            raise IndexDamagedError(
                f"The vectors of {len(hopeless):,} documents are lost, and they were given, not made by the encoder: "
                + ", ".join(sorted(hopeless.values())[:3]),
                "Only vectors that the encoder made can be made again",
                "Restore the file from a backup, add the documents again, or delete them with: "
                "xsearch repair NAME --drop",
            )
        self._lose(hopeless)
        return bool(hopeless)

    def _rewrite(self, wanted: Rewrite, what: str) -> None:
        old, ids = wanted.old, wanted.passage_ids
        encoded = 0
        number = 0
        with self._catalog.reading() as connection:
            number = next_file_number(connection)
            read_any_bytes(connection)

            def encode(some: PassageIds) -> Vectors:
                vectors = encode_again(connection, self._index.encoder, self._index.passage_tokens, some.tolist())
                self._on_done(len(some))
                return vectors

            done = None
            if len(ids):
                done = rewrite(self._index.path, number, self._index.fingerprint.dim, wanted, encode)
                encoded = done.encoded
        with self._catalog.transaction() as connection:
            if old is not None:
                delete_segments(connection, [old.number])
                note_file_number(connection, old.number)
            if done is not None:
                insert_segment(connection, done.segment)
                note_file_number(connection, number)
            note_change(connection)
        self._log.encoded += encoded
        self._log.mended.append(f"{what}: {len(ids):,} vectors were written anew, {encoded:,} of them encoded again")

    def _mend_ids(self) -> None:
        """Tombstones and the next id, so that they fit passages and vectors."""
        with self._catalog.reading() as connection:
            listed = read_listed(connection)
        with_vectors = IdMap(listed.segments).all_ids()
        live = np.setdiff1d(with_vectors, listed.deleted)
        unknown = np.setdiff1d(live, listed.passage_ids)
        needless = np.union1d(
            np.intersect1d(listed.deleted, listed.passage_ids), np.setdiff1d(listed.deleted, with_vectors)
        )
        highest = int(max([0, *with_vectors[-1:], *listed.passage_ids[-1:], *listed.deleted[-1:]]))
        if not len(unknown) and not len(needless) and highest < listed.next_passage_id:
            return
        with self._catalog.transaction() as connection:
            add_tombstones(connection, unknown.tolist())
            connection.execute(
                tombstones.delete().where(any_of(connection, tombstones.c.passage_id, needless.tolist()))
            )
            write_setting(connection, "next_passage_id", max(listed.next_passage_id, highest + 1))
            note_change(connection)
        if len(unknown):
            self._log.mended.append(f"{len(unknown):,} vectors had no passages: they were deleted")


def add_tombstones(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Lists passages as deleted."""
    known = set(connection.execute(sa.select(tombstones.c.passage_id)).scalars())
    new = [{"passage_id": one} for one in ids if one not in known]
    if new:
        connection.execute(tombstones.insert(), new)

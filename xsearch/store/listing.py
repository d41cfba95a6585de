"""What the catalogue says of the files beside it: segments of vectors, and the FAISS files made from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from xsearch.errors import IndexDamagedError
from xsearch.store.ann import AnnFacts, AnnFile
from xsearch.store.catalog import ann, read_setting, segments, write_setting
from xsearch.store.vectors import Segment, consecutive

NEXT_FILE_NUMBER = "next_file_number"
# At the end of a segment's runs: what its row holds, hashed. A database keeps no checksums, and with another run the
# vectors would belong to other passages.
SEAL_BYTES = 8
RUN_BYTES = 16


def read_segments(connection: sa.Connection) -> list[Segment]:
    """All segments, in order of their passage ids.

    Raises:
        IndexDamagedError: a row is not as it was written.
    """
    rows = connection.execute(sa.select(segments).order_by(segments.c.first_passage_id))
    return [_segment(row) for row in rows]


def sound_segments(connection: sa.Connection) -> tuple[list[Segment], list[int]]:
    """The segments whose rows are as they were written, in order of their ids, and the numbers of the others."""
    sound: list[Segment] = []
    others: list[int] = []
    for row in connection.execute(sa.select(segments).order_by(segments.c.first_passage_id)):
        try:
            sound.append(_segment(row))
        except IndexDamagedError:
            others.append(row.number)
    return sorted(sound, key=lambda segment: segment.first_passage_id), others


def insert_segment(connection: sa.Connection, segment: Segment) -> None:
    """Adds a segment's row; its file must be on disk."""
    values: dict[str, Any] = {name: getattr(segment, name) for name in ("number", "rows", "dim", "size", "sha256")}
    values |= {"first_passage_id": segment.first_passage_id, "block_sums": segment.block_sums}
    connection.execute(segments.insert().values(**values, runs=segment.runs + _seal(segment)))


def delete_segments(connection: sa.Connection, numbers: Sequence[int]) -> None:
    """Takes segments out, and the FAISS files that are made from them."""
    connection.execute(segments.delete().where(segments.c.number.in_(numbers)))
    delete_ann_files(connection, numbers)


def delete_ann_files(connection: sa.Connection, numbers: Sequence[int]) -> None:
    """Takes out the FAISS files that are made from these segments."""
    for file in read_ann_files(connection):
        if file.segment in numbers:
            connection.execute(ann.delete().where(ann.c.number == file.number))


def read_ann_files(connection: sa.Connection) -> list[AnnFile]:
    """All FAISS files, in order of their numbers.

    Raises:
        IndexDamagedError: a row is not as it was written.
    """
    return [_ann_file(row) for row in connection.execute(sa.select(ann).order_by(ann.c.number))]


def sound_ann_files(connection: sa.Connection) -> tuple[list[AnnFile], list[int]]:
    """The FAISS files whose rows can be read, and the numbers of the others."""
    sound: list[AnnFile] = []
    others: list[int] = []
    for row in connection.execute(sa.select(ann).order_by(ann.c.number)):
        try:
            sound.append(_ann_file(row))
        except IndexDamagedError:
            others.append(row.number)
    return sound, others


def insert_ann_file(connection: sa.Connection, file: AnnFile) -> None:
    """Adds a FAISS file's row; the file must be on disk."""
    values: dict[str, Any] = {name: getattr(file, name) for name in ("number", "factory", "rows", "size", "sha256")}
    connection.execute(ann.insert().values(**values, segments=[file.segment], facts=file.facts.to_dict()))


def next_file_number(connection: sa.Connection) -> int:
    """A number that no file of the index has or ever had."""
    known = sa.select(sa.func.max(segments.c.number)), sa.select(sa.func.max(ann.c.number))
    highest = max((connection.execute(query).scalar() or 0 for query in known), default=0)
    return max(read_setting(connection, NEXT_FILE_NUMBER) or 1, highest + 1)


def note_file_number(connection: sa.Connection, number: int) -> None:
    """Has the next file get a higher number than this."""
    write_setting(connection, NEXT_FILE_NUMBER, max(next_file_number(connection), number + 1))


def _segment(row: Any) -> Segment:
    if row.runs is None:
        return Segment(
            row.number,
            row.rows,
            row.dim,
            row.size,
            row.sha256,
            consecutive(row.first_passage_id),
            row.block_sums or b"",
        )
    runs, seal = bytes(row.runs[:-SEAL_BYTES]), bytes(row.runs[-SEAL_BYTES:])
    segment = Segment(row.number, row.rows, row.dim, row.size, row.sha256, runs, bytes(row.block_sums or b""))
    if not runs or len(runs) % RUN_BYTES or seal != _seal(segment):
        raise _damaged(f"the segment {row.number}", "Bring it in order with: xsearch repair NAME")
    return segment


def _seal(segment: Segment) -> bytes:
    fields = (segment.number, segment.rows, segment.dim, segment.size, segment.sha256)
    digest = hashlib.sha256(repr(fields).encode())
    digest.update(segment.runs)
    digest.update(segment.block_sums)
    return digest.digest()[:SEAL_BYTES]


def _ann_file(row: Any) -> AnnFile:
    try:
        [segment] = row.segments
        facts = AnnFacts(**row.facts)
    except (TypeError, ValueError) as exc:
        raise _damaged(f"the FAISS file {row.number}", "Make it anew with: xsearch repair NAME") from exc
    return AnnFile(row.number, segment, row.factory, row.rows, row.size, row.sha256, facts)


def _damaged(what: str, remedy: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"The catalogue's row of {what} is not as it was written", "It must be what xsearch wrote", remedy
    )

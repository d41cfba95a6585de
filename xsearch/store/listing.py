"""What the catalogue says of the files beside it: segments of vectors, and the FAISS files made from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from xsearch.errors import IndexDamagedError
from xsearch.store.ann import AnnFacts, AnnFile
from xsearch.store.catalog import ann, read_setting, segments, write_setting
from xsearch.store.vectors import Segment, consecutive

NEXT_FILE_NUMBER = "next_file_number"
# What a row holds, hashed: at the end of a segment's runs, and among the facts of a FAISS file. A database keeps no
# checksums; with another run, or another segment, vectors would belong to other passages.
SEAL_BYTES = 8
SEAL = "seal"
RUN_BYTES = 16


def read_segments(connection: sa.Connection) -> list[Segment]:
    """All segments, in order of their passage ids.

    Raises:
        IndexDamagedError: a row is not as it was written.
    """
    return [_segment(row) for row in _segment_rows(connection)]


def sound_segments(connection: sa.Connection) -> tuple[list[Segment], list[int]]:
    """The segments whose rows are as they were written, in order of their ids, and the numbers of the others."""
    sound: list[Segment] = []
    others: list[int] = []
    for row in _segment_rows(connection):
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
    return [_ann_file(row) for row in _ann_rows(connection)]


def sound_ann_files(connection: sa.Connection) -> tuple[list[AnnFile], list[int]]:
    """The FAISS files whose rows can be read, and the numbers of the others."""
    sound: list[AnnFile] = []
    others: list[int] = []
    for row in _ann_rows(connection):
        try:
            sound.append(_ann_file(row))
        except IndexDamagedError:
            others.append(row.number)
    return sound, others


def insert_ann_file(connection: sa.Connection, file: AnnFile) -> None:
    """Adds a FAISS file's row; the file must be on disk."""
    values: dict[str, Any] = {name: getattr(file, name) for name in ("number", "factory", "rows", "size", "sha256")}
    facts = file.facts.to_dict() | {SEAL: _ann_seal(file)}
    connection.execute(ann.insert().values(**values, segments=[file.segment], facts=facts))


def next_file_number(connection: sa.Connection) -> int:
    """A number that no file of the index has or ever had."""
    known = sa.select(sa.func.max(segments.c.number)), sa.select(sa.func.max(ann.c.number))
    highest = max((connection.execute(query).scalar() or 0 for query in known), default=0)
    return max(read_setting(connection, NEXT_FILE_NUMBER) or 1, highest + 1)


def note_file_number(connection: sa.Connection, number: int) -> None:
    """Has the next file get a higher number than this."""
    write_setting(connection, NEXT_FILE_NUMBER, max(next_file_number(connection), number + 1))


def _segment_rows(connection: sa.Connection) -> Iterable[sa.Row[Any]]:
    """The rows of segments, in the order of their first ids; bytes as the database has them, whatever damage made."""
    names = ("number", "first_passage_id", "rows", "dim", "size", "sha256")
    raw = (_as_it_is(segments.c[name]) for name in ("runs", "block_sums"))
    query = sa.select(*(segments.c[name] for name in names), *raw)
    return connection.execute(query.order_by(segments.c.first_passage_id))


def _ann_rows(connection: sa.Connection) -> Iterable[sa.Row[Any]]:
    """The rows of FAISS files, in order of their numbers; JSON as the database has it."""
    names = ("number", "factory", "rows", "size", "sha256")
    raw = (_as_it_is(ann.c[name]) for name in ("segments", "facts"))
    return connection.execute(sa.select(*(ann.c[name] for name in names), *raw).order_by(ann.c.number))


def _as_it_is(column: sa.Column[Any]) -> sa.Label[Any]:
    return sa.type_coerce(column, sa.types.NULLTYPE).label(column.name)


def _segment(row: sa.Row[Any]) -> Segment:
    numbers = (row.number, row.first_passage_id, row.rows, row.dim, row.size)
    sums = b"" if row.block_sums is None else row.block_sums
    sound = all(isinstance(number, int) for number in numbers) and isinstance(row.sha256, str)
    if sound and row.rows > 0 and row.dim > 0 and isinstance(sums, bytes):
        if row.runs is None and not sums:
            # An older xsearch wrote it.
            runs = consecutive(row.first_passage_id)
            return Segment(row.number, row.rows, row.dim, row.size, row.sha256, runs)
        if isinstance(row.runs, bytes) and len(row.runs) > SEAL_BYTES and len(row.runs) % RUN_BYTES == SEAL_BYTES:
            runs, seal = row.runs[:-SEAL_BYTES], row.runs[-SEAL_BYTES:]
            segment = Segment(row.number, row.rows, row.dim, row.size, row.sha256, runs, sums)
            if seal == _seal(segment) and row.first_passage_id == segment.first_passage_id:
                return segment
    raise _damaged(f"the segment {row.number}", "Bring it in order with: xsearch repair NAME")


def _seal(segment: Segment) -> bytes:
    fields = (segment.number, segment.rows, segment.dim, segment.size, segment.sha256)
    digest = hashlib.sha256(repr(fields).encode())
    digest.update(segment.runs)
    digest.update(segment.block_sums)
    return digest.digest()[:SEAL_BYTES]


def _ann_file(row: sa.Row[Any]) -> AnnFile:
    try:
        [segment], facts = _json(row.segments), dict(_json(row.facts))
        seal = facts.pop(SEAL)
        file = AnnFile(row.number, segment, row.factory, row.rows, row.size, row.sha256, AnnFacts(**facts))
    except (TypeError, ValueError, KeyError) as exc:
        raise _damaged_file(row.number) from exc
    if seal != _ann_seal(file):
        raise _damaged_file(row.number)
    return file


def _json(value: Any) -> Any:
    """A JSON column's value: SQLite has it as text, psycopg has read it already."""
    return json.loads(value) if isinstance(value, str | bytes) else value


def _ann_seal(file: AnnFile) -> str:
    fields = (file.number, file.segment, file.factory, file.rows, file.size, file.sha256)
    facts = sorted(file.facts.to_dict().items())
    return hashlib.sha256(repr((fields, facts)).encode("utf-8", "surrogatepass")).digest()[:SEAL_BYTES].hex()


def _damaged_file(number: int) -> IndexDamagedError:
    return _damaged(f"the FAISS file {number}", "Make it anew with: xsearch repair NAME")


def _damaged(what: str, remedy: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"The catalogue's row of {what} is not as it was written", "It must be what xsearch wrote", remedy
    )

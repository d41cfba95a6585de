"""The passages and vectors of one index put in the place of another's, in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import sqlalchemy as sa

from xsearch.store.ann import ANN_FOLDER, AnnFile
from xsearch.store.catalog import (
    Catalog,
    ann,
    any_of,
    documents,
    passages,
    read_setting,
    segments,
    tombstones,
    write_setting,
)
from xsearch.store.checksums import Shown, passage_checksum
from xsearch.store.files import disk_errors, link_file
from xsearch.store.listing import (
    insert_ann_file,
    insert_segment,
    next_file_number,
    note_file_number,
    read_ann_files,
    read_segments,
)
from xsearch.store.rows import PASSAGE_COLUMNS
from xsearch.store.sqlite import insert_many
from xsearch.store.vectors import VECTORS_FOLDER, Segment
from xsearch.store.words import renew_words

DOCUMENTS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Place:
    """An index: its folder and its catalogue."""

    path: Path
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class _Files:
    """Files under the names that they have in the other index."""

    segments: tuple[Segment, ...]
    ann: tuple[AnnFile, ...]


def exchange(main: Place, side: Place, settings: Mapping[str, Any], *, same_hashes: bool) -> None:
    """Gives an index the passages, vectors and settings of another one with the same documents; killed, none of them.

    The caller holds the locks of both. The files of ``side`` stay where they are; those that ``main`` had go with the
    next sweep. The index gets another identity, by which those who have it open know.

    Args:
        same_hashes: whether the hashes of texts stay, because passages are as long as they were.
    """
    files = _link(main, side)
    with side.catalog.reading() as source, main.catalog.transaction() as target:
        first: int = read_setting(target, "next_passage_id")
        lowest = source.execute(sa.select(sa.func.min(passages.c.passage_id))).scalar()
        # No id is used twice, whatever was written since the other index was begun.
        offset = 0 if lowest is None or lowest >= first else first - 1
        for table in (passages, tombstones, segments, ann):
            target.execute(table.delete())
        for some in _chunks(source):
            _copy_passages(source, target, some, offset=offset, same_hashes=same_hashes)
        deleted = source.execute(sa.select(tombstones.c.passage_id)).scalars()
        insert_many(target, "tombstones", ("passage_id",), [(one + offset,) for one in deleted])
        for segment in files.segments:
            insert_segment(target, _shifted(segment, offset))
            note_file_number(target, segment.number)
        for file in files.ann:
            insert_ann_file(target, file)
            note_file_number(target, file.number)
        renew_words(target)
        following = max(first, read_setting(source, "next_passage_id") + offset)
        generation = read_setting(target, "generation") + 1
        changed = {"next_passage_id": following, "generation": generation, "identity": uuid4().hex, **settings}
        for key, value in changed.items():
            write_setting(target, key, value)


def _link(main: Place, side: Place) -> _Files:
    """Gives the files of one index names in the other's folders, with numbers that it never had."""
    with side.catalog.reading() as connection:
        found, found_ann = read_segments(connection), read_ann_files(connection)
    with main.catalog.reading() as connection:
        number = next_file_number(connection)
    numbers = {segment.number: number + place for place, segment in enumerate(found)}
    new = [replace(segment, number=numbers[segment.number]) for segment in found]
    new_ann = [
        replace(file, number=number + len(found) + place, segment=numbers[file.segment])
        for place, file in enumerate(found_ann)
    ]
    names = [(VECTORS_FOLDER, one.name, other.name) for one, other in zip(found, new, strict=True)]
    names += [(ANN_FOLDER, one.name, other.name) for one, other in zip(found_ann, new_ann, strict=True)]
    for folder, name, new_name in names:
        with disk_errors(main.path / folder):
            (main.path / folder).mkdir(exist_ok=True)
        link_file(side.path / folder / name, main.path / folder / new_name)
    return _Files(tuple(new), tuple(new_ann))


def _chunks(source: sa.Connection) -> Iterator[list[sa.Row[Any]]]:
    """The documents of the index that comes, some at a time."""
    names = ("doc_key", "doc_id", "text_hash", "lang", "title", "text", "checksum")
    query = sa.select(*(documents.c[name] for name in names)).order_by(documents.c.doc_key).limit(DOCUMENTS_AT_ONCE)
    last = 0
    while rows := list(source.execute(query.where(documents.c.doc_key > last))):
        yield rows
        last = rows[-1].doc_key


def _copy_passages(
    source: sa.Connection, target: sa.Connection, some: list[sa.Row[Any]], *, offset: int, same_hashes: bool
) -> None:
    """Puts the passages of some documents under the keys that these have in the other index."""
    known = sa.select(documents.c.doc_id, documents.c.doc_key, documents.c.lang, documents.c.text_hash)
    ids = [row.doc_id for row in some]
    theirs = {row.doc_id: row for row in target.execute(known.where(any_of(target, documents.c.doc_id, ids)))}
    by_key = {row.doc_key: row for row in some}
    own = sa.select(*(passages.c[name] for name in PASSAGE_COLUMNS)).order_by(passages.c.passage_id)
    rows: list[tuple[Any, ...]] = []
    for row in source.execute(own.where(any_of(source, passages.c.doc_key, list(by_key)))):
        document = by_key[row.doc_key]
        new_id = row.passage_id + offset
        text = document.text[row.start : row.end]
        shown = Shown(
            new_id, document.doc_id, row.lang, document.lang, document.title, row.start, row.end, text
        )  # fmt: skip
        key = theirs[document.doc_id].doc_key
        rows.append((new_id, key, row.position, row.start, row.end, row.lang, row.tokens, passage_checksum(shown)))
    insert_many(target, "passages", PASSAGE_COLUMNS, rows)
    for row in some:
        before = theirs[row.doc_id]
        text_hash = before.text_hash if same_hashes else row.text_hash
        if (before.lang, before.text_hash) != (row.lang, text_hash):
            values = {"lang": row.lang, "text_hash": text_hash, "checksum": row.checksum}
            target.execute(documents.update().where(documents.c.doc_key == before.doc_key).values(**values))


def _shifted(segment: Segment, offset: int) -> Segment:
    runs = segment.id_runs() + np.array([0, offset])
    return replace(segment, runs=runs.astype("<i8").tobytes())

"""Segments become fewer and bigger: neighbours are merged, deleted rows dropped, and big ones get a FAISS file.

After each run, as a log-structured merge tree does it: what is new is merged when there is enough of it, and with what
lies before it when that is not much bigger. So a vector is written again about as often as the index grows threefold,
and adding to a big index never rebuilds all of it. Readers go on with the old files; one commit puts the new ones in
their place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from xsearch.store.ann import ANN_FOLDER, AnnFile
from xsearch.store.catalog import Catalog, any_of, read_settings, tombstones
from xsearch.store.files import disk_errors, publish
from xsearch.store.generation import note_change
from xsearch.store.id_map import IdMap
from xsearch.store.kinds import FLAT
from xsearch.store.listing import (
    delete_ann_files,
    delete_segments,
    insert_ann_file,
    insert_segment,
    next_file_number,
    note_file_number,
    read_ann_files,
    read_segments,
)
from xsearch.store.selection import import_faiss
from xsearch.store.tuning import DEFAULT_RECALL, Wanted, build
from xsearch.store.vectors import (
    BLOCK_ROWS,
    READ_ROWS,
    VECTORS_FOLDER,
    Halves,
    PassageIds,
    RawVectors,
    Rows,
    Segment,
    runs_of,
    write_segment,
)

# A segment with more rows gets a FAISS file; fewer are searched exactly in a few milliseconds.
EXACT_ROWS = 50_000
# Segments without a FAISS file that may lie side by side.
SMALL_SEGMENTS = 16
# A segment is merged with the next one unless it has this many times as many rows.
SIZE_RATIO = 3
# A segment is written anew when more than this share of it is deleted, and more than these rows.
DEAD_SHARE = 1 / 3
DEAD_ROWS = 1_000

OnStage = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _State:
    """What the catalogue says of vectors.

    Attributes:
        segments: in order.
        gone: ids of deleted passages whose vectors are still there, sorted.
        dead: how many of those each segment has.
        files: FAISS files by segment.
        number: of the next file.
    """

    segments: tuple[Segment, ...]
    gone: PassageIds
    dead: dict[int, int]
    files: dict[int, AnnFile]
    wanted: Wanted
    number: int


@dataclass(slots=True)
class _Group:
    """Neighbouring segments that become one."""

    segments: list[Segment]
    rows: int
    indexed: bool


def read_wanted(connection: sa.Connection) -> Wanted:
    """What was asked of this index."""
    values = read_settings(connection, ("recall", "factory"))
    return Wanted(values["recall"] or DEFAULT_RECALL, values["factory"] or "")


def settle(index: Path, catalog: Catalog, *, on_stage: OnStage | None = None) -> bool:
    """Merges what a run has left, where it is time; returns whether anything was. The caller holds the writer's lock.

    Args:
        on_stage: told in a few words what takes long.
    """
    state = _read(catalog)
    groups = [group for group in _due(state) if group is not None]
    for group in groups:
        _merge(index, catalog, state, group.segments, on_stage or (lambda line: None))
        state = _read(catalog)
    return bool(groups)


def merge_all(index: Path, catalog: Catalog, *, on_stage: OnStage | None = None) -> bool:
    """Makes one segment of all, without deleted rows, with a new FAISS file; returns whether there was anything to do.

    The caller holds the writer's lock.
    """
    state = _read(catalog)
    if not state.segments:
        return False
    if len(state.segments) == 1 and not any(state.dead.values()) and _fits(state, state.segments[0]):
        return False
    _merge(index, catalog, state, list(state.segments), on_stage or (lambda line: None))
    return True


def _read(catalog: Catalog) -> _State:
    with catalog.reading() as connection:
        segments = tuple(read_segments(connection))
        files = {file.segment: file for file in read_ann_files(connection)}
        deleted = sa.select(tombstones.c.passage_id).order_by(tombstones.c.passage_id)
        gone = np.fromiter(connection.execute(deleted).scalars(), dtype=np.int64)
        wanted, number = read_wanted(connection), next_file_number(connection)
    ends = np.cumsum([segment.rows for segment in segments])
    counts = np.bincount(np.searchsorted(ends, IdMap(segments).rows_of(gone), side="right"), minlength=len(segments))
    dead = {segment.number: int(count) for segment, count in zip(segments, counts, strict=False)}
    return _State(segments, gone, dead, files, wanted, number)


def _fits(state: _State, segment: Segment) -> bool:
    """Whether a segment has the FAISS file that it should have, or none."""
    file = state.files.get(segment.number)
    if file is None or not _gets_file(state.wanted, segment.rows):
        return file is None and not _gets_file(state.wanted, segment.rows)
    same_kind = not state.wanted.factory or file.factory == state.wanted.factory
    return same_kind and file.facts.recall_asked == state.wanted.recall


def _gets_file(wanted: Wanted, rows: int) -> bool:
    return rows > EXACT_ROWS and wanted.factory != FLAT


def _due(state: _State) -> list[_Group]:
    """The groups of segments that should become one, in order."""
    groups: list[_Group] = []
    for segment in state.segments:
        live, indexed = segment.rows - state.dead[segment.number], segment.number in state.files
        if indexed or not groups or groups[-1].indexed:
            groups.append(_Group([], 0, indexed))
        groups[-1].segments.append(segment)
        groups[-1].rows += live
    place = len(groups) - 1
    while place > 0:
        before, last = groups[place - 1], groups[place]
        big = before.indexed and _gets_file(state.wanted, last.rows)
        if big and before.rows < SIZE_RATIO * last.rows:
            groups[place - 1 : place + 1] = [_Group(before.segments + last.segments, before.rows + last.rows, True)]
        place -= 1
    return [group for group in groups if _is_due(state, group)]


def _is_due(state: _State, group: _Group) -> bool:
    held = sum(segment.rows for segment in group.segments)
    dead = held - group.rows
    if dead > max(DEAD_ROWS, DEAD_SHARE * held) or (held and not group.rows):
        return True
    if len(group.segments) == 1:
        return _gets_file(state.wanted, group.rows) and group.segments[0].number not in state.files
    return len(group.segments) > SMALL_SEGMENTS or group.indexed or _gets_file(state.wanted, group.rows)


def _merge(index: Path, catalog: Catalog, state: _State, old: Sequence[Segment], on_stage: OnStage) -> None:
    """Writes segments as one, with its FAISS file, and commits it in their place."""
    rows = sum(segment.rows - state.dead[segment.number] for segment in old)
    kept = len(old) == 1 and rows == old[0].rows
    made: Segment | None = None
    file: AnnFile | None = None
    if rows:
        made = old[0] if kept else _rewritten(index, old, state)
        if _gets_file(state.wanted, made.rows):
            on_stage(f"building the search index of {made.rows:,} passages")
            file = write_ann_file(index, made, state.wanted, max(state.number, made.number + 1))
    ids = IdMap(old)
    with catalog.transaction() as connection:
        if kept:
            delete_ann_files(connection, [old[0].number])
        else:
            delete_segments(connection, [segment.number for segment in old])
            dropped = state.gone[ids.holds(state.gone)]
            connection.execute(tombstones.delete().where(any_of(connection, tombstones.c.passage_id, dropped.tolist())))
        if made is not None and not kept:
            insert_segment(connection, made)
            note_file_number(connection, made.number)
        if file is not None:
            insert_ann_file(connection, file)
            note_file_number(connection, file.number)
        note_change(connection)
    remove_unlisted(index, catalog)


def _rewritten(index: Path, old: Sequence[Segment], state: _State) -> Segment:
    """The live rows of segments in one new file."""
    live = [_live_rows(segment, state.gone) for segment in old]

    def blocks() -> Iterator[Halves]:
        # Of a whole number of checksums each, but for the last.
        waiting = np.empty((0, old[0].dim), dtype=np.float16)
        for segment, rows in zip(old, live, strict=True):
            # One at a time: a memory map holds a file open, a process may open few, and a long run leaves thousands.
            raw = RawVectors(index, segment)
            for start in range(0, len(rows), READ_ROWS):
                waiting = np.concatenate([waiting, raw.half_rows(rows[start : start + READ_ROWS])])
                whole = len(waiting) // BLOCK_ROWS * BLOCK_ROWS
                yield waiting[:whole]
                waiting = waiting[whole:]
        if len(waiting):
            yield waiting

    ids = np.concatenate([IdMap([segment]).ids_of(rows) for segment, rows in zip(old, live, strict=True)])
    return write_segment(index, state.number, runs_of(ids), (len(ids), old[0].dim), blocks())


def _live_rows(segment: Segment, gone: PassageIds) -> Rows:
    live = np.ones(segment.rows, dtype=bool)
    live[IdMap([segment]).rows_of(gone)] = False
    return np.flatnonzero(live)


def write_ann_file(index: Path, segment: Segment, wanted: Wanted, number: int) -> AnnFile:
    """Builds the FAISS index of a segment and puts it on disk for good."""
    faiss = import_faiss()
    folder = index / ANN_FOLDER
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    built = build(RawVectors(index, segment), wanted)
    written = publish(
        folder / f"{number:06d}.faiss",
        lambda file: faiss.write_index(built.index, faiss.PyCallbackIOWriter(file.write)),
    )
    facts = built.facts(wanted, written.size)
    return AnnFile(number, segment.number, built.factory, segment.rows, written.size, written.sha256, facts)


def remove_unlisted(index: Path, catalog: Catalog) -> None:
    """Removes vector and FAISS files that no commit speaks of: merged ones, and what a killed writer left."""
    with catalog.reading() as connection:
        known = {segment.name for segment in read_segments(connection)}
        known |= {file.name for file in read_ann_files(connection)}
    for folder, suffixes in ((VECTORS_FOLDER, (".npy", ".tmp")), (ANN_FOLDER, (".faiss", ".tmp"))):
        for path in (index / folder).glob("*") if (index / folder).is_dir() else ():
            if path.name not in known and path.suffix in suffixes:
                with disk_errors(path):
                    path.unlink(missing_ok=True)

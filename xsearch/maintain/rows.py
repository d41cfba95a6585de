"""Segments written anew for the same passages: rows that are sound are copied, the others encoded again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import IndexDamagedError
from xsearch.store.id_map import IdMap
from xsearch.store.vectors import (
    BLOCK_ROWS,
    READ_ROWS,
    PassageIds,
    RawVectors,
    Rows,
    Segment,
    Vectors,
    runs_of,
    write_segment,
)
from xsearch.store.verify import sound_rows

Encode = Callable[[PassageIds], Vectors]
# Rows that are looked at together: a multiple of the rows of a block.
ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A segment to be written.

    Attributes:
        old: the segment in whose place it comes; ``None`` where the passages have none.
        passage_ids: that it will hold, sorted.
    """

    old: Segment | None
    passage_ids: PassageIds


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A segment that was written, and how many of its rows were encoded again."""

    segment: Segment
    encoded: int


def plan(segments: Sequence[Segment], bad: Sequence[Segment], needed: PassageIds) -> list[Rewrite]:
    """What must be written so that every passage has a vector, and the ids of two segments never interleave.

    Args:
        segments: all that can stay or be read in part, in order of their passage ids, which do not cross.
        bad: those of them that are damaged.
        needed: ids of all passages, sorted.
    """
    firsts = np.array([segment.first_passage_id for segment in segments], dtype=np.int64)
    lasts = np.array([int(IdMap([segment]).all_ids()[-1]) for segment in segments], dtype=np.int64)
    numbers = {segment.number for segment in bad}
    missing = np.setdiff1d(needed, IdMap(segments).all_ids())
    place = np.searchsorted(firsts, missing, side="right") - 1
    inside = (place >= 0) & (missing <= lasts[place]) if len(segments) else np.zeros(len(missing), dtype=bool)
    numbers |= {segments[int(one)].number for one in np.unique(place[inside])}
    found = [
        Rewrite(segment, needed[(needed >= first) & (needed <= last)])
        for segment, first, last in zip(segments, firsts, lasts, strict=True)
        if segment.number in numbers
    ]
    for gap in np.unique(place[~inside]):
        ids = missing[~inside & (place == gap)]
        found += [Rewrite(None, ids[start : start + READ_ROWS]) for start in range(0, len(ids), READ_ROWS)]
    return found


def rewrite(index: Path, number: int, dim: int, wanted: Rewrite, encode: Encode) -> Rewritten:
    """Writes the file of a segment that holds these passages; the catalogue does not know it yet."""
    ids = wanted.passage_ids
    encoded = 0

    def blocks() -> Iterator[Vectors]:
        nonlocal encoded
        source = None if wanted.old is None else _opened(index, wanted.old)
        for start in range(0, len(ids), ROWS_AT_ONCE):
            some = ids[start : start + ROWS_AT_ONCE]
            vectors, sound = _salvaged(source, some, dim)
            if not sound.all():
                vectors[~sound] = encode(some[~sound])
                encoded += int((~sound).sum())
            yield vectors

    segment = write_segment(index, number, runs_of(ids), (len(ids), dim), blocks())
    return Rewritten(segment, encoded)


def lost_ids(index: Path, dim: int, wanted: Rewrite) -> PassageIds:
    """The passages of a segment whose rows cannot be read, sorted."""
    source = None if wanted.old is None else _opened(index, wanted.old)
    lost = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(wanted.passage_ids), ROWS_AT_ONCE):
        some = wanted.passage_ids[start : start + ROWS_AT_ONCE]
        lost.append(some[~_salvaged(source, some, dim)[1]])
    return np.concatenate(lost)


def _opened(index: Path, segment: Segment) -> RawVectors | None:
    try:
        return RawVectors(index, segment)
    except IndexDamagedError:
        return None


def _salvaged(source: RawVectors | None, ids: PassageIds, dim: int) -> tuple[Vectors, NDArray[np.bool_]]:
    """The rows of these passages, and which of them are as they were written."""
    vectors = np.zeros((len(ids), dim), dtype=np.float32)
    sound = np.zeros(len(ids), dtype=bool)
    if source is None or source.segment.dim != dim:
        return vectors, sound
    own = IdMap([source.segment])
    rows = own.rows_of(ids)
    places = np.flatnonzero(np.isin(ids, own.ids_of(rows)))
    for some in _readable(source, rows):
        chosen = np.isin(rows, some)
        vectors[places[chosen]] = source.vectors(rows[chosen])
        sound[places[chosen]] = True
    sound &= sound_rows(vectors)
    return vectors, sound


def _readable(source: RawVectors, rows: Rows) -> Iterator[Rows]:
    """Those of the rows whose blocks have the checksums that they were written with."""
    try:
        source.vectors(rows)
    except IndexDamagedError:
        for block in np.unique(rows // BLOCK_ROWS):
            some = rows[rows // BLOCK_ROWS == block]
            try:
                source.vectors(some)
            except IndexDamagedError:
                continue
            yield some
    else:
        yield rows

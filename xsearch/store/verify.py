"""All that is on disk of an index, read and checked: catalogue, vector files, FAISS files, and how they fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from xsearch.errors import IndexDamagedError, MissingExtraError
from xsearch.store.ann import ANN_FOLDER, AnnFile, open_ann
from xsearch.store.catalog import Catalog, documents, passages, read_setting, tombstones
from xsearch.store.faults import catalog_faults
from xsearch.store.id_map import IdMap
from xsearch.store.listing import sound_ann_files, sound_segments
from xsearch.store.vectors import READ_ROWS, VECTORS_FOLDER, PassageIds, RawVectors, Segment, Vectors

# How far a stored row's length may be from 1: float16 keeps 11 bits of each number; measured 3e-4 at 384 dimensions.
LENGTH_TOLERANCE = 5e-3
# A writer may replace files while they are read; then all is read again, as the catalogue has it by then.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it must be.

    Attributes:
        file: that is damaged, from the index's folder; of the catalogue, what messages call it.
        what: is wrong with it; a sentence that names the file.
    """

    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What reading all of an index found.

    Attributes:
        generation: of the state that was read.
        damages: none in an index that is in order.
        remarks: what could not be looked at, and why.
    """

    generation: int
    documents: int
    passages: int
    damages: tuple[Damage, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    """What one state of a catalogue says of passages and files.

    Attributes:
        passage_ids, deleted: sorted.
        segments: in order of their passage ids, but those whose rows are damaged.
        lost_segments, lost_ann: numbers of the files of which the catalogue does not say what was written.
    """

    generation: int
    next_passage_id: int
    documents: int
    passage_ids: PassageIds
    deleted: PassageIds
    segments: tuple[Segment, ...]
    ann: tuple[AnnFile, ...]
    lost_segments: tuple[int, ...] = ()
    lost_ann: tuple[int, ...] = ()


def check_store(index: Path, catalog: Catalog, dim: int) -> Checked:
    """Reads and checks all that is on disk of an index; nothing is written, and nobody waits."""
    for attempt in range(1, ATTEMPTS + 1):
        checked = _check(index, catalog, dim)
        if not checked.damages or attempt == ATTEMPTS or _generation(catalog) == checked.generation:
            break
    return checked


def raise_damages(damages: Sequence[Damage]) -> None:
    """Raises one error that names all that is damaged; does nothing where nothing is.

    Raises:
        IndexDamagedError
    """
    if damages:
        raise IndexDamagedError(
            "; ".join(damage.what for damage in damages),
            "All of an index must be as it was written",
            "Mend what can be mended with: xsearch repair NAME; or restore it from a backup, or build it again with: "
            "xsearch index NAME SOURCE --rebuild",
        )


def read_listed(connection: sa.Connection) -> Listed:
    """What a catalogue says of passages and files."""
    segments, lost_segments = sound_segments(connection)
    ann, lost_ann = sound_ann_files(connection)
    return Listed(
        generation=read_setting(connection, "generation"),
        next_passage_id=read_setting(connection, "next_passage_id"),
        documents=int(connection.execute(sa.select(sa.func.count()).select_from(documents)).scalar_one()),
        passage_ids=_ids(connection, passages.c.passage_id),
        deleted=_ids(connection, tombstones.c.passage_id),
        segments=tuple(segments),
        ann=tuple(ann),
        lost_segments=tuple(lost_segments),
        lost_ann=tuple(lost_ann),
    )


def segment_fault(index: Path, segment: Segment, dim: int) -> str:
    """What is wrong with a segment's file or rows; empty where all is in order."""
    if segment.dim != dim:
        return f"The vector file {index / VECTORS_FOLDER / segment.name} has {segment.dim} dimensions, not {dim}"
    try:
        raw = RawVectors(index, segment)
        raw.check()
        for start in range(0, segment.rows, READ_ROWS):
            vectors = raw.read_range(start, min(start + READ_ROWS, segment.rows))
            wrong_rows = np.flatnonzero(~sound_rows(vectors))
            if len(wrong_rows):
                row = start + int(wrong_rows[0])
                return f"The vector file {raw.path} holds a row, {row}, that is no vector of length 1"
    except IndexDamagedError as exc:
        return exc.given
    return ""


def sound_rows(vectors: Vectors) -> NDArray[np.bool_]:
    """For each row whether it is finite and of length 1, as far as float16 can tell."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    # A row with NaN is within no tolerance.
    sound: NDArray[np.bool_] = np.abs(lengths - 1) <= LENGTH_TOLERANCE
    return sound


def crossing(segments: Sequence[Segment]) -> list[Segment]:
    """Those of the segments, which come in order of their ids, that begin before an earlier one has ended."""
    found: list[Segment] = []
    end = 0
    for segment in segments:
        ids = IdMap([segment]).all_ids()
        if ids[0] <= end or (np.diff(ids) <= 0).any():
            found.append(segment)
        end = max(end, int(ids.max()))
    return found


def _check(index: Path, catalog: Catalog, dim: int) -> Checked:
    damages: list[Damage] = []
    remarks: list[str] = []
    try:
        damages += [
            Damage(catalog.place, f"The catalogue {catalog.place} {one.what}") for one in catalog_faults(catalog)
        ]
        with catalog.reading() as connection:
            listed = read_listed(connection)
    except IndexDamagedError as exc:
        return Checked(_generation(catalog), 0, 0, (*damages, Damage(catalog.place, exc.given)))
    damages += _file_damages(index, listed, dim, remarks)
    damages += _id_damages(catalog, listed)
    return Checked(listed.generation, listed.documents, len(listed.passage_ids), tuple(damages), tuple(remarks))


def _file_damages(index: Path, listed: Listed, dim: int, remarks: list[str]) -> Iterator[Damage]:
    for segment in listed.segments:
        wrong = segment_fault(index, segment, dim)
        if wrong:
            yield Damage(f"{VECTORS_FOLDER}/{segment.name}", wrong)
    for segment in crossing(listed.segments):
        what = f"The vector file {index / VECTORS_FOLDER / segment.name} has passages that another one has too"
        yield Damage(f"{VECTORS_FOLDER}/{segment.name}", what)
    rows = {segment.number: segment.rows for segment in listed.segments}
    for file in listed.ann:
        path = index / ANN_FOLDER / file.name
        if rows.get(file.segment) != file.rows:
            what = f"The FAISS file {path} has {file.rows} rows of a vector file that has {rows.get(file.segment, 0)}"
            yield Damage(f"{ANN_FOLDER}/{file.name}", what)
            continue
        try:
            open_ann(index, file, dim)
        except IndexDamagedError as exc:
            yield Damage(f"{ANN_FOLDER}/{file.name}", exc.given)
        except MissingExtraError as exc:
            remarks.append(f"{path} was not looked at. {exc}")


def _id_damages(catalog: Catalog, listed: Listed) -> Iterator[Damage]:
    """Whether the passages are those whose vectors are there and not deleted."""
    for kind, numbers in (("segment", listed.lost_segments), ("FAISS file", listed.lost_ann)):
        for number in numbers:
            what = f"The catalogue's row of the {kind} {number} is not as it was written"
            yield Damage(catalog.place, f"{what} ({catalog.place})")
    if listed.lost_segments:
        return  # of which passages there are vectors is not known
    with_vectors = IdMap(listed.segments).all_ids()
    live = np.setdiff1d(with_vectors, listed.deleted)
    for count, what in (
        (len(np.setdiff1d(listed.passage_ids, with_vectors)), "passages of which there are no vectors"),
        (len(np.setdiff1d(live, listed.passage_ids)), "vectors of which there are no passages"),
        (len(np.intersect1d(listed.deleted, listed.passage_ids)), "passages that are listed as deleted"),
        (np.sum(listed.passage_ids >= listed.next_passage_id), "passages with ids that were not handed out yet"),
    ):
        if count:
            yield Damage(catalog.place, f"The catalogue {catalog.place} lists {count:,} {what}")


def _ids(connection: sa.Connection, column: sa.Column[int]) -> PassageIds:
    found = connection.execute(sa.select(column).order_by(column)).scalars()
    return np.fromiter(found, dtype=np.int64)


def _generation(catalog: Catalog) -> int:
    try:
        with catalog.reading() as connection:
            return int(read_setting(connection, "generation") or 0)
    except IndexDamagedError:
        return 0

"""Search over all vectors of one state of an index: big segments through FAISS, the others exactly, deleted rows never.

Everything here is immutable once it is made: any number of threads may search it, while the next state, which takes
over what did not change, is being read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import IndexDamagedError, InvalidArgumentError, NonFiniteVectorError
from xsearch.ranking import order
from xsearch.store.ann import ANN_FOLDER, AnnFile, AnnPart, open_ann
from xsearch.store.exact import ExactPart
from xsearch.store.gpu import Gpu, GpuPart
from xsearch.store.id_map import IdMap
from xsearch.store.selection import Selection
from xsearch.store.vectors import Found, Nearest, PassageIds, RawVectors, Rows, Segment, Vectors, inner_products

# Parts with more rows go to the GPU, where there is one.
GPU_ROWS = 50_000
Selections = tuple[Selection, ...]


class Part(Protocol):
    """Some of the rows, and the means to search them."""

    rows: int

    def search(self, queries: Vectors, k: int, selection: Selection) -> Found:
        """The ``k`` best rows of each query, or as many as there are; of equals the later one comes first."""
        ...

    def vectors(self, rows: Rows) -> Vectors:
        """These rows, ``(n, dim) float32``."""
        ...


@dataclass(frozen=True, slots=True)
class _Placed:
    """A part, its segments, its FAISS file if it has one, where its rows begin among all, and itself on a GPU."""

    part: ExactPart | AnnPart
    segments: tuple[Segment, ...]
    file: AnnFile | None
    start: int
    on_gpu: GpuPart | None = None

    @property
    def searched(self) -> Part:
        """What searches the rows."""
        return self.on_gpu or self.part


class VectorSearcher:
    """Search over the live rows of all segments.

    Args:
        index: the index's folder.
        segments: in order of their passage ids.
        ann_files: FAISS files of some of them.
        deleted: ids that must not be found; sorted.
        dim: of the vectors; counts where there is no segment.
        before: the searcher of an earlier state, which stays usable; what did not change is taken over.
    """

    def __init__(
        self,
        index: Path,
        segments: Sequence[Segment],
        *,
        ann_files: Sequence[AnnFile] = (),
        deleted: PassageIds,
        dim: int,
        before: VectorSearcher | None = None,
    ) -> None:
        self._dim = dim
        for segment in segments:
            if segment.dim != dim:
                raise _other_dimension(index, segment, dim)
        self._placed = _parts(index, segments, {file.segment: file for file in ann_files}, dim, before)
        self._ids = IdMap(segments)
        live = np.ones(self._ids.rows, dtype=bool)
        live[self._ids.rows_of(deleted)] = False
        self._live = live
        self._all = self._selections(live)
        self._live_count = sum(selection.count for selection in self._all)

    def __len__(self) -> int:
        return self._live_count

    def move_to(self, gpu: Gpu, *, before: VectorSearcher | None = None) -> None:
        """Copies the big parts to a GPU, but for those that an earlier state has there; to be called before any search.

        A part of fewer rows is searched on the CPU sooner than it is asked for on the device.
        """
        there = {id(one.part): one.on_gpu for one in before._placed} if before is not None else {}
        self._placed = tuple(
            placed
            if placed.part.rows <= GPU_ROWS
            else replace(placed, on_gpu=there.get(id(placed.part)) or GpuPart(placed.part, gpu))
            for placed in self._placed
        )

    def select(self, allowed: PassageIds) -> Selections:
        """What :meth:`search` needs to search among these ids; those that are not in the index are passed over."""
        mask = np.zeros_like(self._live)
        mask[self._ids.rows_of(allowed)] = True
        mask &= self._live
        return self._selections(mask)

    def search(self, queries: Vectors, k: int, *, among: Selections | None = None) -> list[Nearest]:
        """The ``k`` best passages of each query, or as many as there are, in the total order of :mod:`xsearch.ranking`.

        Args:
            queries: ``(n, dim) float32, rows L2-normalised``.
            k: at least 1.
            among: from :meth:`select`; ``None`` for all.
        """
        if queries.ndim != 2 or queries.shape[1] != self._dim:
            raise InvalidArgumentError(
                f"The query vectors have shape {queries.shape}",
                f"They must have shape (n, {self._dim})",
                "Encode the queries with the encoder that the index was built with",
            )
        if not np.isfinite(queries).all():
            raise NonFiniteVectorError(
                "A query vector holds NaN or infinity", "A vector must be finite", "Check the encoder's weights"
            )
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        selections = self._all if among is None else among
        found = [
            (placed, placed.searched.search(queries, k, selection))
            for placed, selection in zip(self._placed, selections, strict=True)
            if selection.count
        ]
        return self._nearest([(placed.start, some) for placed, some in found], len(queries), k)

    def cosines(self, query: Vectors, passage_ids: PassageIds) -> Vectors:
        """The scores of given passages, ``(n,) float32``, in their order; each must be in the index and not deleted.

        Args:
            query: ``(dim,) float32, L2-normalised``.
        """
        rows = self._ids.rows_of(passage_ids)
        if len(rows) != len(passage_ids):
            raise IndexDamagedError(
                f"{len(passage_ids) - len(rows)} of {len(passage_ids)} passages have no vector",
                "Every passage has one",
                "See what is wrong with: xsearch verify NAME",
            )
        scores = np.empty(len(rows), dtype=np.float32)
        for placed in self._placed:
            here = (rows >= placed.start) & (rows < placed.start + placed.part.rows)
            if here.any():
                scores[here] = inner_products(placed.part.vectors(rows[here] - placed.start), query)
        return scores.clip(-1, 1)

    def _nearest(self, found: Sequence[tuple[int, Found]], queries: int, k: int) -> list[Nearest]:
        """The best of what the parts have found for each query, given where their rows begin."""
        if not found or not queries:
            return [Nearest(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))] * queries
        ids = np.concatenate([self._ids.ids_of(some.rows + start) for start, some in found], axis=1)
        scores = np.concatenate([some.scores for _, some in found], axis=1)
        beyond = bool((np.abs(scores) > 1).any())
        # What one part has found is in order already, ids as well as rows.
        if len(found) > 1 or beyond:
            # Cut first: what differed beyond 1 is equal then.
            scores = scores.clip(-1, 1) if beyond else scores
            best = order(scores, ids)[:, :k]
            ids, scores = np.take_along_axis(ids, best, axis=1), np.take_along_axis(scores, best, axis=1)
        return [Nearest(*pair) for pair in zip(ids, scores, strict=True)]

    def _selections(self, mask: NDArray[np.bool_]) -> Selections:
        return tuple(
            Selection(placed.part.rows, mask[placed.start : placed.start + placed.part.rows]) for placed in self._placed
        )

    def taken_over(self, segment: Segment, file: AnnFile) -> AnnPart | None:
        """The part of this segment behind this FAISS file, or ``None``."""
        found = [one.part for one in self._placed if (one.segments, one.file) == ((segment,), file)]
        return next((part for part in found if isinstance(part, AnnPart)), None)

    def longest_exact(self, segments: Sequence[Segment]) -> ExactPart | None:
        """The longest exact part whose segments are the first of these, or ``None``."""
        parts = [one.part for one in self._placed if isinstance(one.part, ExactPart)]
        found = [part for part in parts if part.segments == tuple(segments[: len(part.segments)])]
        return max(found, key=lambda part: part.rows, default=None)


def _parts(
    index: Path,
    segments: Sequence[Segment],
    files: dict[int, AnnFile],
    dim: int,
    before: VectorSearcher | None,
) -> tuple[_Placed, ...]:
    """The segments as parts, in order: each with a FAISS file by itself, neighbours without one together."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if segment.number in files or not groups or groups[-1][-1].number in files:
            groups.append([])
        groups[-1].append(segment)
    placed: list[_Placed] = []
    start = 0
    for group in groups:
        file = files.get(group[0].number)
        if file is not None and file.rows != group[0].rows:
            raise _other_rows(index, group[0], file)
        made: Sequence[tuple[ExactPart | AnnPart, tuple[Segment, ...]]]
        if file is None:
            made = [(part, part.segments) for part in _exact_parts(index, group, dim, before)]
        else:
            known = before.taken_over(group[0], file) if before is not None else None
            made = [
                (
                    known or AnnPart(RawVectors(index, group[0]), open_ann(index, file, dim), file.facts.reach),
                    (group[0],),
                )
            ]
        for part, theirs in made:
            placed.append(_Placed(part, theirs, file, start))
            start += part.rows
    return tuple(placed)


def _exact_parts(index: Path, segments: Sequence[Segment], dim: int, before: VectorSearcher | None) -> list[ExactPart]:
    """Neighbouring segments as exact parts, each more than twice as large as the next: few, and seldom copied."""
    parts: list[ExactPart] = []
    known = before.longest_exact(segments) if before is not None else None
    while known is not None:
        parts.append(known)
        segments = segments[len(known.segments) :]
        known = before.longest_exact(segments) if before is not None and segments else None
    if segments:
        parts.append(ExactPart.read((RawVectors(index, segment) for segment in segments), dim))
    while len(parts) > 1 and 2 * parts[-1].rows >= parts[-2].rows:
        parts[-2:] = [parts[-2].joined(parts[-1])]
    return parts


def _other_rows(index: Path, segment: Segment, file: AnnFile) -> IndexDamagedError:
    return IndexDamagedError(
        f"The FAISS file {index / ANN_FOLDER / file.name} is of {file.rows} rows, its vector file of {segment.rows}",
        "It must be of all rows of that file",
        "Make it anew with: xsearch repair NAME",
    )


def _other_dimension(index: Path, segment: Segment, dim: int) -> IndexDamagedError:
    return IndexDamagedError(
        f"The vector file {index / 'vectors' / segment.name} has {segment.dim} dimensions, not {dim}",
        "All vectors of an index have as many as its encoder",
        "Bring it in order with: xsearch repair NAME",
    )

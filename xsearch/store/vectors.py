"""Vectors on disk in immutable segments, and exact search over them with FAISS.

A segment is one ``.npy`` file, ``(rows, dim) float16``, rows L2-normalised. Row ``i`` belongs to the passage with the
id ``first_passage_id + i``, so ids and vectors cannot get out of step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xsearch.errors import IndexDamagedError, InvalidArgumentError, MissingExtraError, NonFiniteVectorError
from xsearch.ranking import order
from xsearch.store.files import disk_errors, publish, sha256_of

VECTORS_FOLDER = "vectors"
DTYPE = np.dtype(np.float16)
# Rows turned to float32 at a time when the searched matrix is filled.
BLOCK_ROWS = 65_536
# By how much two ways of computing one score may differ: measured 2e-7 at 384 dimensions.
ROUNDING = 4e-6
# Fetched beyond k, so that a second search for ties is rare.
SPARE_ROWS = 8
PassageIds = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Segment:
    """One vector file, as the catalogue knows it."""

    number: int
    first_passage_id: int
    rows: int
    dim: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's name in the vectors folder."""
        return f"{self.number:06d}.npy"


@dataclass(frozen=True, slots=True)
class Nearest:
    """What one query found: ids and scores, both ``(found,)``, best first."""

    passage_ids: PassageIds
    scores: Vectors


def write_segment(index: Path, number: int, first_passage_id: int, vectors: Vectors) -> Segment:
    """Puts vectors on disk for good, and returns what the catalogue has to say of them.

    Args:
        index: the index's folder.
        vectors: ``(rows, dim) float32, rows L2-normalised``.
    """
    folder = index / VECTORS_FOLDER
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
    rows, dim = vectors.shape
    halves = vectors.astype(DTYPE)
    written = publish(
        folder / f"{number:06d}.npy", lambda file: np.lib.format.write_array(file, halves, allow_pickle=False)
    )
    return Segment(number, first_passage_id, rows, dim, written.size, written.sha256)


def open_segment(index: Path, segment: Segment) -> NDArray[np.float16]:
    """The vectors of a segment, memory-mapped, after size, checksum, type and shape were checked.

    Raises:
        IndexDamagedError: the file is missing or is not what was written.
    """
    path = index / VECTORS_FOLDER / segment.name
    try:
        size = path.stat().st_size
        if size != segment.size:
            raise _damaged(path, f"has {size} bytes, not {segment.size}")
        if sha256_of(path) != segment.sha256:
            raise _damaged(path, "has another checksum than when it was written")
        # Not np.load, which would also open archives and pickles.
        vectors: NDArray[np.float16] = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError as exc:
        raise _damaged(path, "is missing") from exc
    except OSError as exc:
        raise _damaged(path, f"cannot be read ({exc.strerror or exc})") from exc
    except (ValueError, EOFError) as exc:
        raise _damaged(path, f"is not an array file ({exc})") from exc
    if vectors.dtype != DTYPE or vectors.shape != (segment.rows, segment.dim):
        raise _damaged(path, f"holds {vectors.shape} {vectors.dtype}, not {(segment.rows, segment.dim)} {DTYPE}")
    return vectors


class ExactSearcher:
    """Exact search over the live rows of all segments: a FAISS flat index, inner product of unit vectors.

    Args:
        index: the index's folder.
        segments: in order of their first passage id.
        deleted: ids that must not be found; sorted.
        dim: of the vectors; counts where there is no segment.
        before: the searcher of an earlier state. Where its segments are still the first ones, its vectors are taken
            over, and only those of new segments are read. It must not be used afterwards.
    """

    def __init__(
        self,
        index: Path,
        segments: Sequence[Segment],
        *,
        deleted: PassageIds,
        dim: int,
        before: ExactSearcher | None = None,
    ) -> None:
        faiss = _faiss()
        self._dim = dim
        self._segments = tuple(segments)
        self._flat: Any = faiss.IndexFlat(dim, faiss.METRIC_INNER_PRODUCT)
        known = 0
        if before is not None and before._dim == dim and before._segments == self._segments[: len(before._segments)]:
            self._flat, known = before._flat, len(before._segments)
        for segment in self._segments[known:]:
            vectors = open_segment(index, segment)
            if segment.dim != dim:
                raise _damaged(index / VECTORS_FOLDER / segment.name, f"has {segment.dim} dimensions, not {dim}")
            for start in range(0, segment.rows, BLOCK_ROWS):
                self._flat.add(vectors[start : start + BLOCK_ROWS].astype(np.float32))
        self._first_ids = np.array([segment.first_passage_id for segment in segments], dtype=np.int64)
        self._first_rows = np.cumsum([0, *(segment.rows for segment in segments)]).astype(np.int64)
        self._live = np.ones(self._flat.ntotal, dtype=bool)
        self._live[self._rows_of(deleted)] = False
        self._live_count = int(self._live.sum())

    def __len__(self) -> int:
        return self._live_count

    def search(self, queries: Vectors, k: int, *, allowed: PassageIds | None = None) -> list[Nearest]:
        """The ``k`` best passages of each query, or as many as there are, in the total order of :mod:`xsearch.ranking`.

        Args:
            queries: ``(n, dim) float32, rows L2-normalised``.
            k: at least 1.
            allowed: ids to search among; ``None`` for all. Ids that are not in the index are passed over.
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
        mask = self._live
        if allowed is not None:
            mask = np.zeros_like(self._live)
            mask[self._rows_of(allowed)] = True
            mask &= self._live
        count = self._live_count if allowed is None else int(mask.sum())
        return list(self._search(np.ascontiguousarray(queries, dtype=np.float32), min(k, count), mask, count))

    def cosines(self, query: Vectors, passage_ids: PassageIds) -> Vectors:
        """The scores of given passages, ``(n,) float32``, in their order; each must be in the index and not deleted.

        Args:
            query: ``(dim,) float32, L2-normalised``.
        """
        rows = self._rows_of(passage_ids)
        vectors: Vectors = self._flat.reconstruct_batch(rows) if len(rows) else np.empty((0, self._dim), np.float32)
        return (vectors @ query).clip(-1, 1)

    def _search(self, queries: Vectors, k: int, mask: NDArray[np.bool_], count: int) -> Iterator[Nearest]:
        if k == 0 or len(queries) == 0:
            nothing = Nearest(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))
            yield from [nothing] * len(queries)
            return
        scores, rows = self._raw_search(queries, min(k + SPARE_ROWS, count), mask)
        for place, query in enumerate(queries):
            near_scores, near_rows = scores[place], rows[place]
            while len(near_rows) < count and near_scores[-1] >= near_scores[k - 1] - ROUNDING:
                # What is fetched must reach past all that may tie with the k-th place; ids decide between equals.
                more_scores, more_rows = self._raw_search(query[None], min(4 * len(near_rows), count), mask)
                near_scores, near_rows = more_scores[0], more_rows[0]
            near_ids = self._ids_of(near_rows)
            # The last bits of FAISS's scores depend on how many queries come at once; these do not.
            exact = (self._flat.reconstruct_batch(near_rows) * query).sum(axis=1).clip(-1, 1)
            best = order(exact, near_ids)[:k]
            yield Nearest(near_ids[best], exact[best])

    def _raw_search(self, queries: Vectors, k: int, mask: NDArray[np.bool_]) -> tuple[Vectors, NDArray[np.int64]]:
        faiss = _faiss()
        if mask.all():
            scores, rows = self._flat.search(queries, k)
        else:
            bits = np.packbits(mask, bitorder="little")
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))
            scores, rows = self._flat.search(queries, k, params=parameters)
        return scores, rows

    def _rows_of(self, ids: PassageIds) -> NDArray[np.int64]:
        """Rows of the ids that are in some segment."""
        if not len(ids) or not len(self._first_ids):
            return np.empty(0, dtype=np.int64)
        segment = np.searchsorted(self._first_ids, ids, side="right") - 1
        known = segment >= 0
        segment, ids = segment[known], ids[known]
        rows = self._first_rows[segment] + ids - self._first_ids[segment]
        return rows[rows < self._first_rows[segment + 1]]

    def _ids_of(self, rows: NDArray[np.int64]) -> PassageIds:
        segment = np.searchsorted(self._first_rows, rows, side="right") - 1
        ids: PassageIds = self._first_ids[segment] + rows - self._first_rows[segment]
        return ids


def _damaged(path: Path, what: str) -> IndexDamagedError:
    return IndexDamagedError(
        f"The vector file {path} {what}",
        "It must be as it was written; vectors are never read from a damaged file",
        "Restore the file from a backup, or build the index again with: xsearch index NAME SOURCE --rebuild",
    )


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as exc:
        raise MissingExtraError("Searching vectors", "faiss", "cpu") from exc
    return faiss
